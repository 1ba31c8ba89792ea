//! The primary's registry of node ids at work: who joins under which id, and which cluster key is in use.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::disk::SaveError;
use super::{Control, MemberError, Role};
use crate::base::ids::NodeId;
use crate::base::secret::Secret;
use crate::base::wall::unix_millis;
use crate::cluster::join_rate::JoinRates;
use crate::cluster::registry::{JoinError, Presence, Registry, Shown};
use crate::cluster::snapshot::State;
use crate::wire::message::{JoinRequest, NodeName, Removal};

/// File of the data directory with the registry.
pub(super) const MEMBERS_FILE: &str = "members.json";

/// File of the data directory with a relay's own credential.
pub(super) const CREDENTIAL_FILE: &str = "credential.json";

/// A primary that has begun this long ago has heard of every node that lives.
const HEARD: Duration = Duration::from_secs(10);

/// Shortest time between two rotations of the cluster key: a token in flight outlives one of them, not two.
const ROTATION_FLOOR: Duration = Duration::from_secs(10);

/// Removals by id: how often, and whether the node is barred.
pub(super) type Removals = BTreeMap<NodeId, (u32, bool)>;

/// See the module.
pub(super) struct Members {
    registry: Mutex<Registry>,
    rates: Mutex<JoinRates>,
    pub(super) removals: watch::Sender<Arc<Removals>>,
    /// Moves when the feed has to tell the keys and removals again.
    told: watch::Sender<u64>,
    unsaved: AtomicBool,
    began: Instant,
}

impl Members {
    pub fn new(registry: Registry) -> Self {
        let removals = by_id(registry.removals());
        Self {
            registry: Mutex::new(registry),
            rates: Mutex::default(),
            removals: watch::Sender::new(Arc::new(removals)),
            told: watch::Sender::new(0),
            unsaved: AtomicBool::new(false),
            began: Instant::now(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rates(&self) -> MutexGuard<'_, JoinRates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self) {
        self.told.send_modify(|turn| *turn = turn.wrapping_add(1));
    }
}

pub(super) fn by_id(removals: Vec<Removal>) -> Removals {
    let pairs = removals.into_iter();
    pairs
        .map(|removal| (removal.id, (removal.times, removal.barred)))
        .collect()
}

impl Control {
    /// The node that a credential belongs to, where it is good.
    pub(super) fn verified(&self, credential: &str) -> Result<NodeId, MemberError> {
        let registry = self.members.lock();
        let mut barred = None;
        let verified = self.secrets.verify(credential, |id| {
            barred = registry.is_barred(id).then(|| id.clone());
            registry.generation(id)
        });
        match (verified, barred) {
            (_, Some(id)) => Err(JoinError::Barred(id).into()),
            (Ok(id), None) => Ok(id),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// The credential of a node as it is good now.
    pub(crate) fn credential_of(&self, node: &NodeId) -> Secret {
        let generation = self.members.lock().generation(node);
        self.secrets.credential(node, generation)
    }

    /// Lets a node join under its id: by its own credential, or by a join token where the id is nobody else's.
    pub(super) async fn admit_member(
        &self,
        token: &str,
        credential: Option<&str>,
        request: &JoinRequest,
        seen: IpAddr,
    ) -> Result<(), MemberError> {
        let (id, now) = (&request.id, Instant::now());
        // The credential may stand in the place of the token as well.
        let verified = Some(self.verified(credential.unwrap_or(token)));
        if let Some(Err(MemberError::Join(barred @ JoinError::Barred(_)))) = verified {
            return Err(barred.into());
        }
        if let Some(Ok(own)) = &verified
            && own == id
        {
            let early = self.members.rates().by_credential(id, now);
            early.map_err(MemberError::TooFast)?;
            return self.register(request, Shown::Credential).await;
        }
        let token_id = self.tokens().may_use(token, id)?;
        let early = self.members.rates().by_token(seen, &token_id, now);
        early.map_err(MemberError::TooFast)?;
        self.register(request, Shown::Token(&token_id)).await?;
        self.use_token(token, id).await
    }

    /// Where an earlier credential of the id ends, the disk knows it before the node is answered: the next process would
    /// else refuse the new one.
    async fn register(&self, request: &JoinRequest, shown: Shown<'_>) -> Result<(), MemberError> {
        let presence = self.presence(&request.id);
        let saving = {
            let mut registry = self.members.lock();
            let before = registry.generation(&request.id);
            registry.join(
                &request.id,
                &request.name,
                shown,
                presence,
                request.keeps_credential,
                unix_millis(),
            )?;
            let is_new = registry.generation(&request.id) != before;
            is_new.then(|| self.disk.save(MEMBERS_FILE, &*registry))
        };
        self.members.unsaved.store(true, Ordering::Relaxed);
        match saving {
            None => Ok(()),
            Some(saving) => match saving.on_disk().await {
                Ok(()) | Err(SaveError::ReadOnly { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Where the table has a node. One that was a member before this process began may be alive and not heard yet.
    fn presence(&self, id: &NodeId) -> Presence {
        if let Some(row) = self.snapshot().find(id) {
            return match row.state {
                State::Dead => Presence::Dead,
                _ => Presence::Live,
            };
        }
        let since = self.members.began.elapsed();
        let was_member = self
            .members
            .lock()
            .find(id)
            .is_some_and(|node| node.proven && node.since < self.identity.incarnation);
        if was_member && since < HEARD {
            Presence::Live
        } else if was_member && since < self.table().forgets_after() {
            Presence::Dead
        } else {
            Presence::Absent
        }
    }

    /// A beat was accepted: the node has its credential.
    pub(super) fn member_reported(&self, id: &NodeId, name: &NodeName) {
        if self.members.lock().reported(id, name, unix_millis()) {
            self.members.unsaved.store(true, Ordering::Relaxed);
        }
    }

    /// To be called once a second: keeps what changed, and rotates the cluster key when its time has come.
    pub(super) fn keep_members(&self) {
        if self.identity.role != Role::Primary {
            return;
        }
        let mut registry = self.members.lock();
        let (now, every) = (unix_millis(), self.config().key_rotation);
        let every = u64::try_from(every.max(ROTATION_FLOOR).as_millis()).unwrap_or(u64::MAX);
        let age = now.saturating_sub(registry.keys.since);
        if registry.keys.since == 0 {
            registry.keys.since = now;
            self.members.unsaved.store(true, Ordering::Relaxed);
        } else if age >= every {
            registry.keys.rotate(now, false);
            self.use_keys(&registry);
            tracing::info!(key = registry.keys.number, "the cluster key is new");
            self.members.unsaved.store(true, Ordering::Relaxed);
        }
        if self.members.unsaved.swap(false, Ordering::Relaxed) {
            self.disk.save(MEMBERS_FILE, &*registry).later();
        }
    }

    /// The ring that the registry names is in use from now on, here and by the feed.
    pub(super) fn use_keys(&self, registry: &Registry) {
        let ring = self.secrets.ring_at(&registry.keys);
        self.balancer().set_keys(ring.clone());
        self.keys.store(Arc::new(ring));
        self.members.tell();
    }

    /// Rises with each rotation of the cluster key.
    pub(super) fn keys_number(&self) -> u64 {
        self.members.lock().keys.number
    }

    /// Moves when [`Self::key_line`] and [`Self::removal_line`] are to be told again.
    pub fn watch_members(&self) -> watch::Receiver<u64> {
        self.members.told.subscribe()
    }

    /// True for a node of this cluster that may have streams. Waits a moment for the table, which may be behind.
    pub async fn is_member(&self, id: &NodeId) -> bool {
        let mut table = self.watch_table();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        loop {
            if self.is_barred(id) {
                return false;
            }
            let known = {
                let copy = self.copy.lock();
                copy.unwrap_or_else(PoisonError::into_inner).is_member(id)
            };
            if known || self.snapshot().find(id).is_some() {
                return true;
            }
            let changed = tokio::time::timeout_at(deadline, table.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return false;
            }
        }
    }

    /// A relay's own credential, for its next join; empty where it has none.
    pub fn own_credential(&self) -> Secret {
        self.questions.credential()
    }

    /// True where this node keeps its credential over a restart.
    pub fn keeps_credential(&self) -> bool {
        self.disk.is_writable()
    }

    /// The credential that the primary gave this node, kept for the next start.
    pub(super) fn take_credential(&self, credential: &Secret) {
        self.questions.set(credential.clone());
        let kept = serde_json::json!({"credential": credential.reveal()});
        if self.disk.is_writable() {
            self.disk.save(CREDENTIAL_FILE, &kept).later();
        }
    }
}

/// A relay's credential as its file has it.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct KeptCredential {
    credential: KeptSecret,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(from = "String")]
struct KeptSecret(Secret);

impl From<String> for KeptSecret {
    fn from(text: String) -> Self {
        Self(Secret::new(text))
    }
}

impl KeptCredential {
    pub fn secret(self) -> Secret {
        self.credential.0
    }
}
