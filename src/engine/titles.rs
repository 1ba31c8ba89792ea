//! Last title of each mount and the encoder that set it, so that one that comes back finds its title again.
//!
//! Encoders say a title once, when it begins: after a short break, or a restart of this node, nobody would say it again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::mount::{Content, Feeder};
use crate::base::ids::MountId;
use crate::wire::title::Title;

/// Mounts whose title is remembered at most.
const KEPT: usize = 1024;

/// Marks that an encoder is known by again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoder {
    address: Option<IpAddr>,
    agent: String,
    /// Name of the station that it sends.
    name: String,
}

impl Encoder {
    /// The encoder of a source.
    pub fn new(feeder: &Feeder, content: &Content) -> Self {
        Self {
            address: feeder.address,
            agent: feeder.agent.clone(),
            name: content.header("icy-name").unwrap_or_default().to_owned(),
        }
    }
}

/// A title and its encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedTitle {
    encoder: Encoder,
    title: Title,
}

/// Titles by mount.
#[derive(Debug, Default)]
pub struct Titles {
    of: Mutex<HashMap<MountId, RememberedTitle>>,
    changes: AtomicU64,
}

impl Titles {
    /// Title that `encoder` set last on `id`, if no other one came in between.
    pub(super) fn of(&self, id: &MountId, encoder: &Encoder) -> Option<Title> {
        let of = self.lock();
        let found = of.get(id).filter(|known| known.encoder == *encoder);
        found.map(|known| known.title.clone())
    }

    pub(super) fn remember(&self, id: &MountId, encoder: &Encoder, title: &Title) {
        let mut of = self.lock();
        if of.len() < KEPT || of.contains_key(id) {
            let remembered = RememberedTitle {
                encoder: encoder.clone(),
                title: title.clone(),
            };
            of.insert(id.clone(), remembered);
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn forget(&self, id: &MountId) {
        if self.lock().remove(id).is_some() {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Count of changes so far.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// All that is remembered, to be kept over a restart.
    pub fn all(&self) -> HashMap<MountId, RememberedTitle> {
        self.lock().clone()
    }

    /// Takes what was kept over a restart; titles that were set since stay.
    pub fn restore(&self, kept: HashMap<MountId, RememberedTitle>) {
        let mut of = self.lock();
        for (id, mut remembered) in kept.into_iter().take(KEPT) {
            remembered.title = remembered.title.cleaned();
            of.entry(id).or_insert(remembered);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MountId, RememberedTitle>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
