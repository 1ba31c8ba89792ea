//! Sources that are connected, by mount: whether another one may take the place, and whom an operator ends.
//!
//! A source has its claim from the first answer to its last byte. The mount itself is there, and is fed, only while what
//! comes can be played (`engine::intake`). Must never: hold bytes, or know a listener.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::intake::OpenError;
use super::mount::Feeder;
use crate::base::ids::MountId;
use crate::wire::title::Title;

/// Claims by mount.
#[derive(Debug, Default)]
pub(super) struct Claims {
    of: Mutex<HashMap<MountId, Arc<Claimed>>>,
}

/// A source's place on a mount.
#[derive(Debug)]
pub(super) struct Claimed {
    feeder: Feeder,
    evicted: CancellationToken,
    since: Instant,
    /// Milliseconds after `since` of the last byte that belongs to the format.
    progress: AtomicU64,
    /// A title that was set and stands nowhere in the stream yet.
    title: Mutex<Option<Title>>,
}

/// A source's hold on its claim, which ends with it.
#[derive(Debug)]
pub(super) struct Claim {
    id: MountId,
    claims: Arc<Claims>,
    claimed: Arc<Claimed>,
}

impl Claims {
    /// Takes the place on `id`. A source that has it is evicted if it made no progress for `stale`.
    ///
    /// # Errors
    /// [`OpenError::InUse`] where it did; [`OpenError::TooMany`] where `most` mounts have a source.
    pub fn take(
        self: &Arc<Self>,
        id: &MountId,
        feeder: Feeder,
        stale: Duration,
        most: usize,
        now: Instant,
    ) -> Result<Claim, OpenError> {
        let mut of = self.lock();
        if let Some(other) = of.get(id) {
            let idle = other.idle(now);
            if idle < stale {
                return Err(OpenError::InUse { idle });
            }
            other.evicted.cancel();
        } else if of.len() >= most {
            return Err(OpenError::TooMany(most));
        }
        let claimed = Arc::new(Claimed {
            feeder,
            evicted: CancellationToken::new(),
            since: now,
            progress: AtomicU64::new(0),
            title: Mutex::default(),
        });
        of.insert(id.clone(), Arc::clone(&claimed));
        Ok(Claim {
            id: id.clone(),
            claims: Arc::clone(self),
            claimed,
        })
    }

    /// Ends the source of `id`. False if there is none.
    pub fn evict(&self, id: &MountId) -> bool {
        let gone = self.lock().remove(id);
        gone.is_some_and(|claimed| {
            claimed.evicted.cancel();
            true
        })
    }

    /// The source of `id`.
    pub fn get(&self, id: &MountId) -> Option<Arc<Claimed>> {
        self.lock().get(id).cloned()
    }

    /// All sources, by mount.
    pub fn all(&self) -> Vec<(MountId, Feeder)> {
        let of = self.lock();
        let mut all: Vec<_> = of
            .iter()
            .map(|(id, claimed)| (id.clone(), claimed.feeder.clone()))
            .collect();
        drop(of);
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MountId, Arc<Claimed>>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claimed {
    /// Time without a byte that belongs to the format.
    pub fn idle(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.progress.load(Ordering::Relaxed));
        now.saturating_duration_since(self.since + last)
    }

    /// Leaves a title for the source to take.
    pub fn put_title(&self, title: Title) {
        *self.title.lock().unwrap_or_else(PoisonError::into_inner) = Some(title);
    }

    /// The title that was left last.
    pub fn take_title(&self) -> Option<Title> {
        self.title
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The source.
    pub fn feeder(&self) -> &Feeder {
        &self.feeder
    }

    /// Cancelled when the source has lost its place.
    pub fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }

    /// Notes a byte that belongs to the format.
    pub fn progress(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.since).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.progress.store(millis, Ordering::Relaxed);
    }
}

impl std::ops::Deref for Claim {
    type Target = Claimed;

    fn deref(&self) -> &Claimed {
        &self.claimed
    }
}

impl Claim {
    /// The mount.
    pub fn id(&self) -> &MountId {
        &self.id
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut of = self.claims.lock();
        // Another source may have it by now.
        if of
            .get(&self.id)
            .is_some_and(|now| Arc::ptr_eq(now, &self.claimed))
        {
            of.remove(&self.id);
        }
    }
}
