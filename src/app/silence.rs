//! A primary listens to its own sources, once a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::settings::types::Settings;
use crate::silence::{Config, Meter};
use crate::wire::message::Happening;

/// Between two rounds.
const PACE: Duration = Duration::from_secs(1);

/// Reports what became silent, and what sounds again, until the shutdown.
pub(super) async fn watch(
    control: Arc<Control>,
    settings: watch::Receiver<Settings>,
    shutdown: CancellationToken,
) {
    let mut meter = Meter::default();
    let mut rounds = tokio::time::interval(PACE);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let config = {
            let audio = &settings.borrow().audio;
            Config {
                after: audio.silence,
                below: audio.silence_level,
            }
        };
        if config.after.is_zero() {
            continue;
        }
        let asked = Arc::clone(&control);
        // Decoding takes a millisecond or two of a processor for each mount.
        let round = tokio::task::spawn_blocking(move || {
            let mounts = asked.engine.mounts();
            let changed = meter.round(&mounts, &config, Instant::now());
            for mount in &mounts {
                if let Some(silent) = meter.is_silent(&mount.id) {
                    mount.set_silent(silent);
                }
            }
            (meter, changed)
        });
        let Ok((kept, changed)) = round.await else {
            tracing::error!("listening for silence broke: it goes on from nothing");
            meter = Meter::default();
            continue;
        };
        meter = kept;
        for (mount, on) in changed {
            control.happened(Happening::Silence { mount, on });
        }
    }
}
