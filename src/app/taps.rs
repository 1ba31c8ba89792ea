//! A tap on each mount of an engine that is not ours: one listener of our own, that brings the audio into our ring as a
//! foreign upstream does.
//!
//! By it a primary feeds its relays under its own addresses, hears silence, and knows type, rate and titles; by it every
//! table, page and metric finds the mount where those of our own engine are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::base::ids::MountId;
use crate::control::Control;
use crate::discovery::{Connector, Resolver};
use crate::outside::{MountStatistics, Outside, Place, State, Statistics};
use crate::telemetry::panics::guarded;
use crate::upstream::foreign::{Foreign, ForeignConfig, Pace};

/// A mount that the engine has no more is kept this long: its source may be on its way back.
const FORGET: Duration = Duration::from_secs(5);

/// A mount of the engine in our ring.
struct Tap {
    place: Place,
    path: String,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

/// The taps, and what was seen of mounts without one.
#[derive(Default)]
struct Taps {
    open: HashMap<MountId, Tap>,
    /// Mounts that the engine had, and since when it has them no more.
    gone: HashMap<MountId, Instant>,
}

/// Keeps a tap on each mount that the engine has.
pub(super) async fn keep(
    control: Arc<Control>,
    outside: Arc<Outside>,
    shutdown: CancellationToken,
) {
    let connector = Connector::new(Resolver::system());
    let mut looks = outside.watch_statistics();
    let mut status = outside.watch_status();
    let mut taps = Taps::default();
    loop {
        let place = {
            let status = status.borrow_and_update();
            status.place.clone().filter(|_| status.state == State::Up)
        };
        let known = looks.borrow_and_update().clone();
        taps.close_stale(&known, place.as_ref()).await;
        if let Some(place) = &place {
            for own in &known.mounts {
                taps.gone.remove(&own.mount);
                if !taps.open.contains_key(&own.mount)
                    && let Some(tap) = start(&control, &connector, place, own, &shutdown)
                {
                    taps.open.insert(own.mount.clone(), tap);
                }
            }
            taps.forget(&control);
            if outside.is_attached() {
                count_elsewhere(&control, &known);
            }
        }
        let changed = tokio::select! {
            () = shutdown.cancelled() => break,
            changed = looks.changed() => changed,
            changed = status.changed() => changed,
        };
        if changed.is_err() {
            break;
        }
    }
    for (_, tap) in taps.open {
        tap.end().await;
    }
}

impl Tap {
    async fn end(self) {
        self.cancel.cancel();
        let _ = self.task.await;
    }
}

impl Taps {
    /// Ends those of mounts that the engine has no more, or has elsewhere.
    async fn close_stale(&mut self, known: &Statistics, place: Option<&Place>) {
        let holds = |mount: &MountId, tap: &Tap| {
            let own = known.mounts.iter().find(|own| own.mount == *mount);
            let same = own.is_some_and(|own| own.path == tap.path);
            same && place == Some(&tap.place) && !tap.task.is_finished()
        };
        let stale = self.open.iter().filter(|(mount, tap)| !holds(mount, tap));
        let stale: Vec<MountId> = stale.map(|(mount, _)| mount.clone()).collect();
        for mount in stale {
            if let Some(tap) = self.open.remove(&mount) {
                tap.end().await;
                self.gone.insert(mount, Instant::now());
            }
        }
    }

    /// Ends the mounts that an engine which answers has not had for a while.
    fn forget(&mut self, control: &Control) {
        self.gone.retain(|mount, since| {
            let stays = since.elapsed() < FORGET;
            if !stays {
                control.engine.end(mount);
            }
            stays
        });
    }
}

/// Who listens at an attached server without us: all but our own sessions and our tap.
fn count_elsewhere(control: &Control, known: &Statistics) {
    let sessions = control.telemetry.sessions();
    for (id, counters) in control.telemetry.mounts() {
        let there = known.mounts.iter().find(|own| own.mount == id);
        let there = there.map_or(0, |own| own.listeners);
        let ours = sessions
            .iter()
            .filter(|session| session.mount == id)
            .count() as u64;
        let others = there.saturating_sub(ours + 1);
        counters.set_elsewhere(others);
    }
}

fn start(
    control: &Arc<Control>,
    connector: &Connector,
    place: &Place,
    own: &MountStatistics,
    shutdown: &CancellationToken,
) -> Option<Tap> {
    let cancel = shutdown.child_token();
    let pull = Foreign {
        engine: Arc::clone(&control.engine),
        connector: connector.clone(),
        config: ForeignConfig {
            urls: vec![place.url(&own.path)?],
            mount: own.mount.clone(),
            on_demand: false,
            login: None,
            metadata: true,
            charset: None,
        },
        pace: Pace {
            ceiling: Duration::from_secs(2),
            ..Pace::default()
        },
    };
    let wanted = watch::Sender::new(true);
    Some(Tap {
        place: place.clone(),
        path: own.path.clone(),
        cancel: cancel.clone(),
        task: tokio::spawn(async move {
            let _ = guarded("pull", pull.run(wanted.subscribe(), cancel)).await;
        }),
    })
}
