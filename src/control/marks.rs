//! Marks by which nodes of one cluster know each other's requests: `p.<key id>.<unix seconds>.<nonce>.<MAC>` on a
//! probe, so that it is never taken for a listener, and `c.…` on the request of a child.
//!
//! Every node has the key, so a mark says only that a node of this cluster made it. That is little, and so is what a
//! mark opens: a probe is bound to one path, to seconds and to one use, and plays one mount alone for at most
//! [`PROBE`]; a child is bound to its id, which has to be a member's, and gets streams from relays only. What more is
//! asked is signed by the primary, see `questions`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use super::Control;
use super::once::Once;
use crate::base::ids::{MountId, NodeId};
use crate::cluster::keys::KeyRing;

/// How far the clock of the node that signed may differ from ours, in seconds.
const VALID: u64 = 60;

/// How old the mark of a probe may be, in seconds.
const PROBE_VALID: u64 = 10;

/// Longest time that a probe may listen; until then no other one of the same mount may.
pub const PROBE: Duration = Duration::from_secs(10);

/// Most mounts of which a probe listens.
const MAX_PROBED: usize = 1_024;

/// What a mark is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Probe,
    Child,
}

impl Purpose {
    fn letter(self) -> char {
        match self {
            Self::Probe => 'p',
            Self::Child => 'c',
        }
    }

    fn valid(self) -> u64 {
        match self {
            Self::Probe => PROBE_VALID,
            Self::Child => VALID,
        }
    }
}

/// Marks of probes that were used, and mounts that a probe listens to.
#[derive(Debug, Default)]
pub(super) struct Probes(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    marks: Once,
    busy: HashMap<MountId, Instant>,
}

impl Used {
    fn take(&mut self, mount: &MountId, mark: &str, seconds: u64, now: Instant) -> bool {
        self.busy
            .retain(|_, since| now.saturating_duration_since(*since) < PROBE);
        if self.busy.contains_key(mount) || self.busy.len() >= MAX_PROBED {
            return false;
        }
        if !self.marks.take(mark, seconds, PROBE_VALID) {
            return false;
        }
        self.busy.insert(mount.clone(), now);
        true
    }
}

impl Control {
    /// Marks a probe of `path`, `/health` or a mount's; empty before the first join.
    pub fn probe_token(&self, path: &str) -> String {
        self.mark(Purpose::Probe, path)
    }

    /// True for the mark of a probe of this mount by a node of this cluster.
    pub fn is_probe(&self, mount: &MountId, token: Option<&str>) -> bool {
        token.is_some_and(|token| self.is_mark(Purpose::Probe, mount.path(), token))
    }

    /// Uses the mark of a probe up. False where it was used before, or a probe listens to the mount already.
    pub fn take_probe(&self, mount: &MountId, token: Option<&str>, now: Instant) -> bool {
        let Some(token) = token.filter(|_| self.is_probe(mount, token)) else {
            return false;
        };
        let used = self.probes.0.lock();
        let mut used = used.unwrap_or_else(PoisonError::into_inner);
        used.take(mount, token, self.cluster_millis() / 1000, now)
    }

    /// Marks this node's request for a stream: any node of the cluster can tell that a member made it.
    pub fn child_token(&self) -> String {
        self.mark(Purpose::Child, self.identity.id.as_str())
    }

    /// True for a request of the node `child` of this cluster.
    pub fn is_child(&self, child: &NodeId, token: &str) -> bool {
        self.is_mark(Purpose::Child, child.as_str(), token)
    }

    fn mark(&self, purpose: Purpose, who: &str) -> String {
        let keys = self.keys.load();
        let seconds = self.cluster_millis() / 1000;
        let id = keys.current();
        id.and_then(|id| sign(purpose, who, &keys, id, (seconds, rand::random())))
            .unwrap_or_default()
    }

    fn is_mark(&self, purpose: Purpose, who: &str, token: &str) -> bool {
        let now = self.cluster_millis() / 1000;
        verify(purpose, who, token, &self.keys.load(), now)
    }
}

fn sign(
    purpose: Purpose,
    who: &str,
    keys: &KeyRing,
    id: u8,
    (seconds, nonce): (u64, u64),
) -> Option<String> {
    let letter = purpose.letter();
    let (when, once) = (seconds.to_be_bytes(), nonce.to_be_bytes());
    let parts: [&[u8]; 5] = [b"mark\0", &[letter as u8], &when, &once, who.as_bytes()];
    let mac = keys.mac(id, &parts)?;
    let mac: String = mac
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(format!("{letter}.{id}.{seconds}.{nonce:016x}.{mac}"))
}

fn verify(purpose: Purpose, who: &str, token: &str, keys: &KeyRing, now: u64) -> bool {
    let mut parts = token.splitn(5, '.').skip(1);
    let id = parts.next().and_then(|text| text.parse().ok());
    let seconds = parts.next().and_then(|text| text.parse::<u64>().ok());
    let nonce = parts
        .next()
        .and_then(|text| u64::from_str_radix(text, 16).ok());
    let (Some(id), Some(seconds), Some(nonce)) = (id, seconds, nonce) else {
        return false;
    };
    let Some(wanted) = sign(purpose, who, keys, id, (seconds, nonce)) else {
        return false;
    };
    seconds.abs_diff(now) <= purpose.valid() && wanted.as_bytes().ct_eq(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_holds_for_seconds_for_its_path_and_for_this_cluster() {
        let (ours, theirs) = (KeyRing::new([1; 32], 0), KeyRing::new([2; 32], 0));
        let probe = |path, token: &str, keys, now| verify(Purpose::Probe, path, token, keys, now);
        let token = sign(Purpose::Probe, "/live", &ours, 1, (1000, 7)).unwrap();
        assert!(probe("/live", &token, &ours, 1010) && probe("/live", &token, &ours, 990));
        assert!(!probe("/live", &token, &ours, 1011));
        assert!(!probe("/live", &token, &theirs, 1000));
        assert!(!probe("/other", &token, &ours, 1000));
        assert!(!probe("/live", &token.replace("1000", "1001"), &ours, 1000));
        assert!(!verify(Purpose::Child, "/live", &token, &ours, 1000));
        // That of a fetch of /health, which travels in clear, opens no mount.
        let token = sign(Purpose::Probe, "/health", &ours, 1, (1000, 7)).unwrap();
        assert!(!probe("/live", &token, &ours, 1000));
        let token = sign(Purpose::Child, "r1", &ours, 1, (1000, 7)).unwrap();
        assert!(verify(Purpose::Child, "r1", &token, &ours, 1060));
        assert!(!verify(Purpose::Child, "r1", &token, &ours, 1061));
        assert!(!verify(Purpose::Child, "r2", &token, &ours, 1000));
        for junk in [
            "",
            "p",
            "p.1",
            "p.1.1000",
            "p.x.y.z",
            "p.999.1000.00",
            "p.1.1000.g.00",
        ] {
            assert!(!probe("", junk, &ours, 1000), "{junk}");
        }
    }

    #[test]
    fn one_probe_of_a_mount_at_a_time_and_each_mark_once() {
        let (mut used, now) = (Used::default(), Instant::now());
        let (live, other) = (MountId::new("/live").unwrap(), MountId::new("/b").unwrap());
        assert!(used.take(&live, "p.1", 1000, now));
        // Other marks do not help: a node with the key makes as many as it likes.
        for mark in ["p.1", "p.2", "p.3"] {
            assert!(!used.take(&live, mark, 1000, now + PROBE / 2), "{mark}");
        }
        assert!(used.take(&other, "p.2", 1000, now));
        assert!(!used.take(&live, "p.1", 1009, now + PROBE), "used before");
        assert!(used.take(&live, "p.4", 1010, now + PROBE));
    }
}
