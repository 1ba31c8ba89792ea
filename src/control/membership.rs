//! A relay's side of the cluster: what it has heard.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use url::Url;

use super::{Control, Password, Permit, Standing};
use crate::base::ids::{Epoch, MountId, NodeId};
use crate::base::secret::Secret;
use crate::base::wall::unix_millis;
use crate::cluster::keys::KeyRing;
use crate::engine::Fallback;
use crate::wire::bounds::Clock;
use crate::wire::message::{FeedLine, JoinAnswer, MountInfo, PublicUrls};

/// What the primary's list says of fallbacks.
fn told(mounts: &[MountInfo]) -> HashMap<MountId, Fallback> {
    let told = mounts.iter().filter_map(|info| {
        let fallback = Fallback {
            mount: info.fallback.clone()?,
            returns: info.fallback_override,
        };
        Some((info.mount.clone(), fallback))
    });
    told.collect()
}

/// A primary that was not heard for this long is gone, as a silent relay is dead for it.
const ORPHANED: Duration = Duration::from_secs(10);

impl Control {
    /// The primary took this node in.
    pub fn joined(&self, answer: &JoinAnswer) {
        self.take_keys(&answer.cluster_keys);
        self.take_credential(&answer.credential);
        self.seen_at
            .store(Some(Arc::new(answer.public_url.clone())));
        self.set_clock(answer.unix_millis);
        self.relay_login
            .store(std::sync::Arc::new(answer.relay_password.clone()));
        *self
            .primary
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(answer.primary_id.clone());
        self.standing.send_replace(Standing::Member);
    }

    /// What foreign servers log in with to relay from here: as set, else as the primary has it. Empty where nobody
    /// can.
    pub fn relay_password(&self) -> Secret {
        let own = self.config().relay_password.secret().clone();
        if own.is_empty() {
            (**self.relay_login.load()).clone()
        } else {
            own
        }
    }

    /// True if `attempt` is what foreign servers log in with.
    pub fn is_relay_password(&self, permit: &Permit<'_>, attempt: &str) -> bool {
        Password::new(self.relay_password()).matches(permit, attempt)
    }

    /// The URLs that this node tells. One that was given none and speaks TLS learns at its join how the primary
    /// sees it in clear, and tells the URL by https beside that.
    pub(super) fn told_urls(&self) -> PublicUrls {
        let config = self.config();
        let mut urls = config.public_urls.clone();
        if let (true, Some(certificate), Some(seen)) = (
            urls.is_empty(),
            &config.certificate,
            self.seen_at.load_full(),
        ) && let Some(https) = certificate.https_beside(&seen, self.identity.data_port)
        {
            urls.http = Some(seen.to_string());
            urls.https = Some(https);
        }
        urls
    }

    /// A line of the feed. Lines about mounts are for the pulls, see [`Self::carried`].
    pub fn heard(&self, line: FeedLine) {
        *self
            .heard_at
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
        if let Err(error) = line.check() {
            crate::telemetry::refuse("bad_message");
            tracing::debug!(%error, "a line of the primary's feed is left out");
            return;
        }
        match line {
            FeedLine::Keys { keys, .. } => self.take_keys(&keys),
            FeedLine::Removals { removals } => self.hear_removals(removals),
            FeedLine::Mounts {
                complete: true,
                mounts,
                ..
            } => {
                self.engine.tell_fallbacks(told(&mounts));
                let bypassed = mounts.iter().filter(|info| info.bypassed);
                self.engine
                    .set_silent(bypassed.map(|info| info.mount.clone()).collect());
                self.tell_hidden(&mounts);
                self.carried
                    .send_if_modified(|known| std::mem::replace(known, mounts.clone()) != mounts);
            }
            line => {
                let mut copy = self
                    .copy
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                if copy.apply(line, Instant::now()) {
                    self.publish(copy.snapshot());
                }
            }
        }
    }

    /// The primary's mounts as last heard whole. A list that broke off never gets here, so none is removed
    /// by one.
    pub fn carried(&self) -> tokio::sync::watch::Receiver<Vec<MountInfo>> {
        self.carried.subscribe()
    }

    /// The primary's id, once this node has joined it.
    pub fn primary_id(&self) -> Option<NodeId> {
        self.primary
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// The primary said what time it is; tokens live by its clock.
    pub fn set_clock(&self, primary_millis: u64) {
        if primary_millis > 0 {
            let ahead = i128::from(primary_millis) - i128::from(unix_millis());
            self.clock_ahead
                .store(i64::try_from(ahead).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// The cluster's clock: the primary's, in milliseconds since 1970.
    pub fn cluster_millis(&self) -> u64 {
        unix_millis().saturating_add_signed(self.clock_ahead.load(Ordering::Relaxed))
    }

    /// The highest epoch of `mount` that a parent may claim: a day ahead of the primary's clock, or what the primary
    /// says itself.
    pub fn latest_epoch(&self, mount: &MountId) -> Epoch {
        let carried = self.carried.borrow();
        let told = carried.iter().find(|info| info.mount == *mount);
        let clock = Clock {
            unix_millis: self.cluster_millis(),
            stamped: told.map(|info| info.epoch).unwrap_or_default(),
        };
        clock.latest_epoch()
    }

    /// Where the origin is: sources and titles that land here are carried there.
    pub fn set_origin(&self, url: Url) {
        self.origin.store(std::sync::Arc::new(Some(url)));
    }

    /// Where the origin is, for a relay.
    pub fn origin(&self) -> Option<Url> {
        (**self.origin.load()).clone()
    }

    fn take_keys(&self, keys: &[crate::wire::message::ClusterKey]) {
        match KeyRing::from_wire(keys) {
            Ok(ring) => {
                self.balancer().set_keys(ring.clone());
                self.keys.store(std::sync::Arc::new(ring));
            }
            Err(error) => tracing::warn!(%error, "the primary sent no usable keys"),
        }
    }

    /// True while the primary has been silent for as long as makes a node dead.
    pub(super) fn is_orphan(&self, now: Instant) -> bool {
        let heard = *self
            .heard_at
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        heard.is_none_or(|at| now.saturating_duration_since(at) >= ORPHANED)
    }

    /// True once a whole table was heard.
    pub(super) fn has_table(&self) -> bool {
        self.copy
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .is_complete()
    }
}
