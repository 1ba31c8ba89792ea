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
    let parents = watch::Sender::new(Vec::new());
    let mut pulls: HashMap<MountId, Pull> = HashMap::new();
    loop {
        let mounts = carried.borrow_and_update().clone();
        parents.send_replace(agent.parents());
        agent.apply(&mounts, &mut pulls, &parents);
        tokio::select! {
            () = agent.shutdown.cancelled() => break,
            changed = carried.changed() => if changed.is_err() { break },
            () = agent.control.demand_changed() => {}
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
        pulls.retain(|mount, pull| {
            let stays = wanted.contains(&mount) && !pull.task.is_finished();
            if !stays {
                pull.cancel.cancel();
            }
            if !wanted.contains(&mount) {
                // The primary says that it is gone (or nobody listens): what its ring still holds plays out.
                self.control.engine.end(mount);
            }
            stays
        });
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
}
