//! The mark on a probe of ours, so that it is never taken for a listener: `p.<key id>.<unix seconds>.<MAC>`
//! under the cluster key.

use subtle::ConstantTimeEq;

use super::Control;
use crate::cluster::keys::KeyRing;

/// How far the clock of whoever signed may differ from ours, in seconds.
const VALID: u64 = 60;

impl Control {
    /// Marks a request as a probe of ours; empty before the first join.
    pub fn probe_token(&self) -> String {
        let keys = self.keys.load();
        keys.current()
            .and_then(|id| sign(&keys, id, self.cluster_millis() / 1000))
            .unwrap_or_default()
    }

    /// True for the mark of a node of this cluster.
    pub fn is_probe(&self, token: Option<&str>) -> bool {
        token.is_some_and(|token| verify(token, &self.keys.load(), self.cluster_millis() / 1000))
    }
}

fn sign(keys: &KeyRing, id: u8, seconds: u64) -> Option<String> {
    let mac = keys.mac(id, &[b"probe\0", &seconds.to_be_bytes()])?;
    let mac: String = mac
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(format!("p.{id}.{seconds}.{mac}"))
}

fn verify(token: &str, keys: &KeyRing, now: u64) -> bool {
    let mut parts = token.strip_prefix("p.").unwrap_or("").splitn(3, '.');
    let id = parts.next().and_then(|text| text.parse().ok());
    let seconds = parts.next().and_then(|text| text.parse::<u64>().ok());
    let (Some(id), Some(seconds)) = (id, seconds) else {
        return false;
    };
    let Some(wanted) = sign(keys, id, seconds) else {
        return false;
    };
    seconds.abs_diff(now) <= VALID && wanted.as_bytes().ct_eq(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_holds_for_a_minute_and_for_this_cluster() {
        let (ours, theirs) = (KeyRing::new([1; 32], 0), KeyRing::new([2; 32], 0));
        let token = sign(&ours, 1, 1000).unwrap();
        assert!(verify(&token, &ours, 1060));
        assert!(!verify(&token, &ours, 1061));
        assert!(!verify(&token, &theirs, 1000));
        assert!(!verify(&token.replace("1000", "1001"), &ours, 1000));
        for junk in ["", "p", "p.1", "p.1.1000", "p.x.y.z", "p.999.1000.00"] {
            assert!(!verify(junk, &ours, 1000), "{junk}");
        }
    }
}
