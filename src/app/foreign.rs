//! Plain Icecast and Shoutcast servers as upstreams of a primary.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::ids::MountId;
use crate::control::Control;
use crate::discovery::{Connector, Resolver};
use crate::settings::types::ForeignRelay;
use crate::upstream::foreign::{Foreign, ForeignConfig, Pace};

/// Starts a pull for each entry of `relay:`.
pub(super) fn spawn(
    relays: &[ForeignRelay],
    control: &Arc<Control>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let connector = Connector::new(Resolver::system());
    for relay in relays {
        let config = ForeignConfig {
            urls: relay.urls.clone(),
            mount: relay.mount.clone(),
            on_demand: relay.on_demand,
            login: relay.login.clone(),
            metadata: relay.metadata,
        };
        let wanted = watch::Sender::new(!relay.on_demand);
        let pull = Foreign {
            engine: Arc::clone(&control.engine),
            connector: connector.clone(),
            config,
            // Demand lingers already, as it does for a relay's own pulls.
            pace: Pace {
                linger: Duration::ZERO,
                ..Pace::default()
            },
        };
        tasks.spawn(pull.run(wanted.subscribe(), shutdown.clone()));
        if relay.on_demand {
            control.offer(relay.mount.clone());
            let (control, mount) = (Arc::clone(control), relay.mount.clone());
            tasks.spawn(follow_demand(control, mount, wanted, shutdown.clone()));
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
