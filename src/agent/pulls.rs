//! One pull for each mount that this relay carries, each with its own list of parents.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Agent;
use crate::base::ids::MountId;
use crate::cluster::snapshot::NodeView;
use crate::telemetry::panics::guarded;
use crate::upstream::pull::{self, Parent, Parents};
use crate::wire::message::{Happening, MountInfo, MountState, NodeName, NodeRole};

/// The table changes several times a second; the lists need not.
const GATHER: Duration = Duration::from_millis(200);

struct Pull {
    cancel: CancellationToken,
    parents: watch::Sender<Parents>,
    /// None where it panicked; then it is begun again.
    task: JoinHandle<Option<pull::Finished>>,
}

/// Starts and ends pulls as the primary's list says, and keeps their parents by the table, until the shutdown.
pub(super) async fn keep(agent: Arc<Agent>) {
    // An engine that is not ours pulls by itself, as its rendered configuration says.
    if agent.control.outside.is_some() {
        agent.shutdown.cancelled().await;
        return;
    }
    let mut carried = agent.control.carried();
    let mut here = agent.control.engine.watch();
    let mut demand = agent.control.watch_demand();
    let mut table = agent.control.watch_table();
    let mut connected = agent.control.pulls.watch();
    let mut assigned = agent.control.watch_assigned();
    let mut reconfigured = agent.reconfigured.subscribe();
    let mut pulls: HashMap<MountId, Pull> = HashMap::new();
    loop {
        let mounts = carried.borrow_and_update().clone();
        agent.apply(&mounts, &mut pulls);
        agent.tell_failovers();
        let changed = tokio::select! {
            () = agent.shutdown.cancelled() => break,
            changed = carried.changed() => changed,
            changed = demand.changed() => changed,
            changed = here.changed() => changed,
            changed = gathered(&mut table) => changed,
            changed = connected.changed() => changed,
            changed = assigned.changed() => changed,
            changed = reconfigured.changed() => changed,
        };
        if changed.is_err() {
            break;
        }
    }
    for pull in pulls.into_values() {
        pull.cancel.cancel();
        let _ = pull.task.await;
    }
}

async fn gathered(table: &mut watch::Receiver<u64>) -> Result<(), watch::error::RecvError> {
    table.changed().await?;
    tokio::time::sleep(GATHER).await;
    table.mark_unchanged();
    Ok(())
}

impl Agent {
    /// The parents of `mount` by the rule and the operator's word.
    fn parents(&self, mount: &MountId) -> Parents {
        let (chosen, ordered) = self.control.parents_of(mount);
        let snapshot = self.control.snapshot();
        let rows = chosen.order.iter().filter_map(|id| snapshot.find(id));
        let mut list: Vec<Parent> = rows
            .clone()
            .filter_map(|row| self.by_peer_url(row))
            .collect();
        // Before the first table, and where it is lost, the primary is known all the same.
        let head = self.primary();
        if !list.iter().any(|parent| parent.node == head.node) {
            list.push(head);
        }
        // Where nodes cannot reach each other directly, the way that listeners take may do.
        for row in rows {
            let url = row.public_url();
            if row.role == NodeRole::Relay && !list.iter().any(|parent| parent.url == url) {
                list.push(sibling(row, url.to_owned()));
            }
        }
        Parents {
            ordered: ordered.map(|id| id.to_string()),
            better: chosen.better.map(|id| id.to_string()),
            leaving: chosen.leaving,
            list,
        }
    }

    /// What the pulls went through, by the names of the nodes.
    fn tell_failovers(&self) {
        let snapshot = self.control.snapshot();
        let called = |id: &str| -> Option<NodeName> {
            let known = snapshot.nodes.iter().find(|node| node.id.as_str() == id);
            known.map_or_else(|| id.parse().ok(), |node| Some(node.name.clone()))
        };
        for failover in self.control.pulls.take_failovers() {
            let (Some(from), Some(to)) = (called(&failover.from), called(&failover.to)) else {
                continue;
            };
            // The pulls have said it, many mounts in one line.
            self.control.remember(Happening::Failover {
                mount: failover.mount,
                from,
                to,
                millis: u64::try_from(failover.took.as_millis()).unwrap_or(u64::MAX),
                lost_bytes: failover.lost_bytes,
                why: failover.why,
            });
        }
    }

    fn by_peer_url(&self, row: &NodeView) -> Option<Parent> {
        match row.role {
            NodeRole::Primary => Some(self.primary()),
            NodeRole::Relay => Some(sibling(row, row.peer_url.clone()?)),
        }
    }

    fn primary(&self) -> Parent {
        let id = self.control.primary_id();
        Parent {
            url: self.client.primary().to_string(),
            credential: Some(self.client.credential()),
            node: id.map(|id| id.to_string()).unwrap_or_default(),
        }
    }

    fn apply(self: &Arc<Self>, mounts: &[MountInfo], pulls: &mut HashMap<MountId, Pull>) {
        let config = self.config.load_full();
        let wanted: Vec<&MountId> = mounts
            .iter()
            .filter(|info| {
                info.state != MountState::Idle && config.mounts.is_match(info.mount.path())
            })
            .map(|info| &info.mount)
            .filter(|mount| !config.on_demand || self.control.is_demanded(mount))
            .collect();
        pulls.retain(|mount, pull| self.is_kept(mount, pull, wanted.contains(&mount)));
        for (mount, pull) in pulls.iter() {
            let parents = self.parents(mount);
            pull.parents
                .send_if_modified(|known| std::mem::replace(known, parents.clone()) != parents);
        }
        for mount in wanted {
            if !pulls.contains_key(mount) {
                pulls.insert(mount.clone(), self.start(mount));
            }
        }
    }

    fn start(self: &Arc<Self>, mount: &MountId) -> Pull {
        let cancel = self.shutdown.child_token();
        let parents = watch::Sender::new(self.parents(mount));
        let control = Arc::clone(&self.control);
        let (judge, judged) = (Arc::clone(&self.control), mount.clone());
        let pull = pull::Pull {
            engine: Arc::clone(&self.control.engine),
            connector: self.connector.clone(),
            pulls: self.control.pulls.clone(),
            mount: mount.clone(),
            own: self.control.identity.id.clone(),
            pace: pull::Pace::default(),
            mark: Arc::new(move || control.child_token()),
            latest: Arc::new(move || judge.latest_epoch(&judged)),
        };
        let pulling = pull.run(parents.subscribe(), cancel.clone());
        Pull {
            cancel,
            parents,
            task: tokio::spawn(guarded("pull", pulling)),
        }
    }

    /// A mount that the list names no more may have ended, or its primary may have lost it in a restart. The
    /// pull knows: a stream says so when its mount ends, and then the mount ends here as well. Without that
    /// word the listeners are held, and the pull waits for the source to come back, until the hold is over.
    fn is_kept(&self, mount: &MountId, pull: &Pull, is_wanted: bool) -> bool {
        if pull.task.is_finished() {
            return false;
        }
        let config = self.config.load();
        let is_left_out = !config.mounts.is_match(mount.path());
        if is_left_out || config.on_demand && !self.control.is_demanded(mount) {
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

/// A sibling verifies a mark of the cluster's key: it has not the root that signs credentials.
fn sibling(row: &NodeView, url: String) -> Parent {
    Parent {
        url,
        credential: None,
        node: row.id.to_string(),
    }
}
