//! Plain Icecast and Shoutcast servers as upstreams of a primary.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::ids::MountId;
use crate::control::Control;
use crate::discovery::{Connector, Resolver};
use crate::settings::types::ForeignRelay;
use crate::telemetry::panics::{Vital, guarded, vital};
use crate::upstream::foreign::{Foreign, ForeignConfig, Pace};

/// Between the panic of a pull and its next beginning.
const AGAIN: Duration = Duration::from_secs(5);

/// The pulls that run, one for each entry of `relay:`.
pub(super) struct ForeignPulls {
    control: Arc<Control>,
    connector: Connector,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    running: Mutex<Vec<Running>>,
}

struct Running {
    relay: ForeignRelay,
    stop: CancellationToken,
}

impl ForeignPulls {
    /// None yet.
    pub fn new(control: Arc<Control>, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        Self {
            control,
            connector: Connector::new(Resolver::system()),
            tasks,
            shutdown,
            running: Mutex::default(),
        }
    }

    /// Starts and ends pulls until they are those of `relays`. An entry that stays as it was plays on; one that
    /// changed is ended and begun anew, and its listeners are held meanwhile as for a source that is lost.
    pub fn apply(&self, relays: &[ForeignRelay]) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|old| {
            let stays = relays.contains(&old.relay);
            if !stays {
                old.stop.cancel();
                self.control.withdraw(&old.relay.mount);
            }
            stays
        });
        for relay in relays {
            if running.iter().any(|old| old.relay == *relay) {
                continue;
            }
            let stop = self.shutdown.child_token();
            self.start(relay, &stop);
            let relay = relay.clone();
            running.push(Running { relay, stop });
        }
    }

    fn start(&self, relay: &ForeignRelay, stop: &CancellationToken) {
        let config = ForeignConfig {
            urls: relay.urls.clone(),
            mount: relay.mount.clone(),
            on_demand: relay.on_demand,
            login: relay.login.clone(),
            metadata: relay.metadata,
            charset: relay.charset,
        };
        let wanted = watch::Sender::new(!relay.on_demand);
        let pull = Foreign {
            engine: Arc::clone(&self.control.engine),
            connector: self.connector.clone(),
            config,
            // Demand lingers already, as it does for a relay's own pulls.
            pace: Pace {
                linger: Duration::ZERO,
                ..Pace::default()
            },
        };
        self.tasks
            .spawn(relay_on(pull, wanted.subscribe(), stop.clone()));
        if relay.on_demand {
            self.control.offer(relay.mount.clone());
            let (control, mount) = (Arc::clone(&self.control), relay.mount.clone());
            let following = follow_demand(control, mount, wanted, stop.clone());
            self.tasks.spawn(vital(Vital::Demand, following));
        }
    }
}

/// Pulls until the shutdown. What an upstream sends may end the pull of that upstream, and no other: it is begun again.
async fn relay_on(pull: Foreign, wanted: watch::Receiver<bool>, shutdown: CancellationToken) {
    loop {
        let pulling = pull.clone().run(wanted.clone(), shutdown.clone());
        if guarded("upstream", pulling).await.is_some() {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Tells a pull whether anybody wants its mount.
async fn follow_demand(
    control: Arc<Control>,
    mount: MountId,
    wanted: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let mut demand = control.watch_demand();
    loop {
        let is_wanted = control.is_demanded(&mount);
        wanted.send_if_modified(|before| std::mem::replace(before, is_wanted) != is_wanted);
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = demand.changed() => if changed.is_err() { return },
        }
    }
}
