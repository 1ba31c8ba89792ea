//! One pull for each mount that this relay carries.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Agent;
use crate::base::ids::MountId;
use crate::upstream::pull::{self, Parent};
use crate::wire::message::{MountInfo, MountState};

struct Pull {
    cancel: CancellationToken,
    task: JoinHandle<pull::Finished>,
}

/// Starts and ends pulls as the primary's list says, until the shutdown.
pub(super) async fn keep(agent: Arc<Agent>) {
    let mut carried = agent.control.carried();
    let mut here = agent.control.engine.watch();
    let mut demand = agent.control.watch_demand();
    let parents = watch::Sender::new(Vec::new());
    let mut pulls: HashMap<MountId, Pull> = HashMap::new();
    loop {
        let mounts = carried.borrow_and_update().clone();
        parents.send_replace(agent.parents());
        agent.apply(&mounts, &mut pulls, &parents);
        tokio::select! {
            () = agent.shutdown.cancelled() => break,
            changed = carried.changed() => if changed.is_err() { break },
            changed = demand.changed() => if changed.is_err() { break },
            ended = here.changed() => if ended.is_err() { break },
        }
    }
    for pull in pulls.into_values() {
        pull.cancel.cancel();
        if let Err(error) = pull.task.await {
            tracing::error!(%error, "a pull broke");
        }
    }
}

impl Agent {
    fn parents(&self) -> Vec<Parent> {
        vec![Parent {
            url: self.client.primary().to_string(),
            credential: self.client.credential(),
            node: self
                .control
                .parent()
                .map(|id| id.to_string())
                .unwrap_or_default(),
        }]
    }

    fn apply(
        self: &Arc<Self>,
        mounts: &[MountInfo],
        pulls: &mut HashMap<MountId, Pull>,
        parents: &watch::Sender<Vec<Parent>>,
    ) {
        let wanted: Vec<&MountId> = mounts
            .iter()
            .filter(|info| {
                info.state != MountState::Idle && self.config.mounts.is_match(info.mount.path())
            })
            .map(|info| &info.mount)
            .filter(|mount| !self.config.on_demand || self.control.is_demanded(mount))
            .collect();
        pulls.retain(|mount, pull| self.is_kept(mount, pull, wanted.contains(&mount)));
        for mount in wanted {
            if !pulls.contains_key(mount) {
                let cancel = self.shutdown.child_token();
                let pull = pull::Pull {
                    engine: Arc::clone(&self.control.engine),
                    connector: self.connector.clone(),
                    pulls: self.control.pulls.clone(),
                    mount: mount.clone(),
                    own: self.control.identity.id.clone(),
                    pace: pull::Pace::default(),
                };
                let pulling = pull.run(parents.subscribe(), cancel.clone());
                pulls.insert(
                    mount.clone(),
                    Pull {
                        cancel,
                        task: tokio::spawn(pulling),
                    },
                );
            }
        }
    }

    /// A mount that the list names no more may have ended, or its primary may have lost it in a restart. The
    /// pull knows: a stream says so when its mount ends, and then the mount ends here as well. Without that
    /// word the listeners are held, and the pull waits for the source to come back, until the hold is over.
    fn is_kept(&self, mount: &MountId, pull: &Pull, is_wanted: bool) -> bool {
        if pull.task.is_finished() {
            return false;
        }
        if self.config.on_demand && !self.control.is_demanded(mount) {
            pull.cancel.cancel();
            self.control.engine.end(mount);
            return false;
        }
        let lives = is_wanted || self.control.engine.mount(mount).is_some();
        if !lives {
            pull.cancel.cancel();
        }
        lives
    }
}
