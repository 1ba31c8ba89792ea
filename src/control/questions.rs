//! What only the primary may ask of a node: its listeners, and the end of one of them.
//!
//! A question is signed under a key that follows from the node's own credential, which the primary and that node alone
//! have, and covers method, path, query, time and a nonce: `q.<unix seconds>.<nonce>.<MAC>`. One that was seen opens
//! nothing at another node, for another path, a minute later, or twice.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq;

use super::Control;
use super::once::Once;
use crate::base::ids::NodeId;
use crate::base::secret::Secret;
use crate::cluster::keys::KeyBytes;

/// How far the primary's clock may differ from what the node takes for it, in seconds.
const VALID: u64 = 60;

/// A relay's own credential, and the questions that it has heard.
#[derive(Debug, Default)]
pub(super) struct Questions {
    credential: ArcSwap<Secret>,
    heard: Mutex<Once>,
}

impl Questions {
    pub fn new(credential: Secret) -> Self {
        Self {
            credential: ArcSwap::from_pointee(credential),
            heard: Mutex::default(),
        }
    }

    pub fn set(&self, credential: Secret) {
        self.credential.store(Arc::new(credential));
    }

    pub fn credential(&self) -> Secret {
        (**self.credential.load()).clone()
    }
}

impl Control {
    /// The primary signs a question to `node`; `path` has the query with it.
    pub fn question_token(&self, node: &NodeId, method: &str, path: &str) -> String {
        let credential = self.credential_of(node);
        let when = (self.cluster_millis() / 1000, rand::random());
        sign(&credential, method, path, when)
    }

    /// True, once, for a question of the primary to this node.
    pub fn is_question(&self, method: &str, path: &str, token: &str) -> bool {
        let (credential, now) = (self.questions.credential(), self.cluster_millis() / 1000);
        if credential.is_empty() || !verify(&credential, method, path, token, now) {
            return false;
        }
        let heard = self.questions.heard.lock();
        let mut heard = heard.unwrap_or_else(PoisonError::into_inner);
        heard.take(token, now, VALID)
    }
}

fn sign(credential: &Secret, method: &str, path: &str, (seconds, nonce): (u64, u64)) -> String {
    let (when, once) = (seconds.to_be_bytes(), nonce.to_be_bytes());
    // Neither a method nor a path has a NUL in it.
    let parts: [&[u8]; 5] = [&when, &once, method.as_bytes(), b"\0", path.as_bytes()];
    let mac = KeyBytes::of_credential(credential, b"relayctl questions\0").mac(&parts);
    let mac = crate::cluster::keys::hex(&mac);
    format!("q.{seconds}.{nonce:016x}.{mac}")
}

fn verify(credential: &Secret, method: &str, path: &str, token: &str, now: u64) -> bool {
    let mut parts = token.splitn(4, '.').skip(1);
    let seconds = parts.next().and_then(|text| text.parse::<u64>().ok());
    let nonce = parts
        .next()
        .and_then(|text| u64::from_str_radix(text, 16).ok());
    let (Some(seconds), Some(nonce)) = (seconds, nonce) else {
        return false;
    };
    let wanted = sign(credential, method, path, (seconds, nonce));
    seconds.abs_diff(now) <= VALID && wanted.as_bytes().ct_eq(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_for_one_node_one_path_and_a_minute() {
        let (ours, theirs) = (Secret::new("rcn1.r1.00"), Secret::new("rcn1.r2.00"));
        let path = "/cluster/v1/kick?id=7";
        let token = sign(&ours, "POST", path, (1000, 3));
        let asks = |credential, method, path, now| verify(credential, method, path, &token, now);
        assert!(asks(&ours, "POST", path, 1060) && asks(&ours, "POST", path, 940));
        assert!(!asks(&ours, "POST", path, 1061));
        assert!(!asks(&theirs, "POST", path, 1000));
        assert!(!asks(&ours, "GET", path, 1000));
        assert!(!asks(&ours, "POST", "/cluster/v1/kick?id=8", 1000));
        for junk in [
            "",
            "q",
            "q.1000",
            "q.1000.zz.00",
            "q.1000.0000000000000003.",
        ] {
            assert!(!verify(&ours, "POST", path, junk, 1000), "{junk}");
        }
    }
}
