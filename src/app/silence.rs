//! A primary listens to its own sources, once a second, and acts on silence if it is told to.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::base::ids::MountId;
use crate::control::Control;
use crate::engine::Mount;
use crate::settings::choices::SilenceAction;
use crate::settings::types::Settings;
use crate::silence::{Config, Meter};
use crate::wire::message::Happening;

/// Between two rounds.
const PACE: Duration = Duration::from_secs(1);

/// What was done about silence, as it was told.
#[derive(Debug, Default)]
struct Done {
    /// Silent mounts whose listeners hear another one, with that one.
    bypassed: BTreeMap<MountId, MountId>,
    /// Silent mounts that nothing is heard in place of, and why.
    left: BTreeMap<MountId, &'static str>,
}

/// Reports what became silent, and what sounds again, until the shutdown; sends listeners to the fallback and takes
/// them back where the settings say so.
pub(super) async fn watch(
    control: Arc<Control>,
    settings: watch::Receiver<Settings>,
    shutdown: CancellationToken,
) {
    let mut meter = Meter::default();
    let mut done = Done::default();
    let mut rounds = tokio::time::interval(PACE);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let (config, action) = config(&settings.borrow());
        let mut silent = HashSet::new();
        if !config.after.is_zero() {
            let asked = Arc::clone(&control);
            // Decoding takes a millisecond or two of a processor for each mount.
            let round = tokio::task::spawn_blocking(move || {
                let mounts = asked.engine.mounts();
                let changed = meter.round(&mounts, &config, Instant::now());
                let silent = note(&meter, &mounts);
                (meter, changed, silent)
            });
            let Ok((kept, changed, found)) = round.await else {
                tracing::error!("listening for silence broke: it goes on from nothing");
                meter = Meter::default();
                continue;
            };
            meter = kept;
            for (mount, on) in changed {
                control.happened(Happening::Silence { mount, on });
            }
            if action == SilenceAction::Fallback {
                silent = found;
            }
        }
        act(&control, silent, &mut done);
    }
}

/// When a source counts as silent, and what follows.
pub(super) fn config(settings: &Settings) -> (Config, SilenceAction) {
    let audio = &settings.audio;
    let config = Config {
        after: audio.silence,
        below: audio.silence_level,
        back: audio.silence_end,
    };
    (config, audio.silence_action)
}

/// Tells each mount what is known of it; those that are silent.
fn note(meter: &Meter, mounts: &[Arc<Mount>]) -> HashSet<MountId> {
    let mut silent = HashSet::new();
    for mount in mounts {
        let Some(known) = meter.is_silent(&mount.id) else {
            continue;
        };
        mount.set_silent(known);
        if known {
            silent.insert(mount.id.clone());
        }
    }
    silent
}

/// Has the listeners of `silent` mounts hear their fallbacks, and tells what that changed for them.
fn act(control: &Control, silent: HashSet<MountId>, done: &mut Done) {
    let engine = &control.engine;
    engine.set_silent(silent.clone());
    let there = silent.into_iter().filter(|id| engine.mount(id).is_some());
    let mut now = Done::default();
    for mount in there {
        match engine.instead_of_silence(&mount) {
            Ok(to) => {
                now.bypassed.insert(mount, to.id.clone());
            }
            Err(why) => {
                now.left.insert(mount, why);
            }
        }
    }
    for (mount, to) in &now.bypassed {
        if done.bypassed.get(mount) != Some(to) {
            tracing::warn!(%mount, fallback = %to, "the source is silent: its listeners hear the fallback");
            control.happened(Happening::Bypassed {
                mount: mount.clone(),
                to: to.clone(),
            });
        }
    }
    for (mount, why) in &now.left {
        if done.left.get(mount) != Some(why) {
            tracing::warn!(%mount, why, "the source is silent, and nobody is moved");
        }
    }
    let ended = |mount: &&MountId| !now.bypassed.contains_key(*mount);
    for mount in done.bypassed.keys().filter(ended) {
        tracing::info!(%mount, "this mount is not bypassed any more");
        control.happened(Happening::BypassEnded {
            mount: mount.clone(),
        });
    }
    *done = now;
}
