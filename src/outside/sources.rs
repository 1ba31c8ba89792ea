//! Who feeds the engine by this node: one a mount, and when each sent last.
//!
//! Icecast keeps a mount for the connection it knows until that times out ("Mountpoint in use", for as long as an
//! encoder that lost its line needs to be missed). We hold that connection, so we can let go of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::base::ids::MountId;

/// How long a source that was let go may take to leave.
const LEAVING: Duration = Duration::from_secs(2);

/// Another source has the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another source feeds this mount, and sent {idle:?} ago: end it first, or set `takeover`")]
pub struct InUse {
    /// How long it has been silent.
    pub idle: Duration,
}

#[derive(Default)]
struct Table {
    fed: HashMap<MountId, Arc<Feed>>,
}

struct Feed {
    evicted: CancellationToken,
    began: Instant,
    /// Milliseconds after `began` at which it sent last.
    last: AtomicU64,
}

impl Feed {
    fn idle(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        now.saturating_duration_since(self.began + last)
    }
}

/// See the module.
#[derive(Default)]
pub struct Sources {
    table: Mutex<Table>,
    left: Notify,
}

/// A source's hold on its mount.
pub struct Hold<'a> {
    sources: &'a Sources,
    mount: MountId,
    feed: Arc<Feed>,
    /// It took the place of another one.
    pub took_over: bool,
}

impl Sources {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a mount; one that has sent nothing for `stale` is let go for it.
    ///
    /// # Errors
    /// [`InUse`] where another one feeds it.
    pub async fn take(&self, mount: &MountId, stale: Duration) -> Result<Hold<'_>, InUse> {
        let deadline = tokio::time::Instant::now() + LEAVING;
        let mut took_over = false;
        loop {
            let left = self.left.notified();
            let idle = match self.try_take(mount, stale) {
                Ok(feed) => {
                    return Ok(Hold {
                        sources: self,
                        mount: mount.clone(),
                        feed,
                        took_over,
                    });
                }
                Err(idle) => idle,
            };
            if idle < stale || tokio::time::timeout_at(deadline, left).await.is_err() {
                return Err(InUse { idle });
            }
            took_over = true;
        }
    }

    fn try_take(&self, mount: &MountId, stale: Duration) -> Result<Arc<Feed>, Duration> {
        let now = Instant::now();
        let mut table = self.table();
        if let Some(feed) = table.fed.get(mount) {
            let idle = feed.idle(now);
            if idle >= stale {
                feed.evicted.cancel();
            }
            return Err(idle);
        }
        let feed = Arc::new(Feed {
            evicted: CancellationToken::new(),
            began: now,
            last: AtomicU64::new(0),
        });
        table.fed.insert(mount.clone(), Arc::clone(&feed));
        Ok(feed)
    }

    /// Lets go of a mount's source. False if it has none by this node.
    pub fn end(&self, mount: &MountId) -> bool {
        let feed = self.table().fed.get(mount).cloned();
        feed.inspect(|feed| feed.evicted.cancel()).is_some()
    }
}

impl Hold<'_> {
    /// Cancelled when another source takes over.
    pub fn evicted(&self) -> &CancellationToken {
        &self.feed.evicted
    }

    /// It has sent just now.
    pub fn touch(&self) {
        let millis = self.feed.began.elapsed().as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.feed.last.store(millis, Ordering::Relaxed);
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.sources.table().fed.remove(&self.mount);
        self.sources.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_a_mount_and_the_silent_make_place() {
        let sources = Sources::default();
        let mount = MountId::new("/live.mp3").unwrap();
        let first = sources.take(&mount, Duration::from_secs(60)).await.unwrap();
        first.touch();
        assert!(sources.take(&mount, Duration::from_secs(60)).await.is_err());
        let other = MountId::new("/talk.mp3").unwrap();
        assert!(
            !sources
                .take(&other, Duration::ZERO)
                .await
                .unwrap()
                .took_over
        );
        let evicted = first.evicted().clone();
        let leaves = async {
            evicted.cancelled().await;
            drop(first);
        };
        let (second, ()) = tokio::join!(sources.take(&mount, Duration::ZERO), leaves);
        assert!(second.unwrap().took_over);
        assert!(!sources.end(&mount));
    }
}
