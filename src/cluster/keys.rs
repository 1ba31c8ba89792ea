//! Keys of the cluster, and the credential of each node.
//!
//! Two kinds: *cluster keys* sign redirect tokens and the marks between nodes, are handed to every node and rotate;
//! the *root* never leaves the primary and signs credentials, so that no node can make the credential of another, and
//! a primary that restarts with its data directory knows every node again without having kept a list. All cluster keys
//! follow from the root by their number, so that only the number is kept. What only the primary may ask of a node is
//! signed under a key that follows from that node's credential: the two of them alone have it.

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::base::ids::NodeId;
use crate::base::secret::Secret;
use crate::wire::message::ClusterKey;

/// Length of a key in bytes.
pub const KEY_LENGTH: usize = 32;

/// What a credential begins with.
const CREDENTIAL: &str = "rcn1";

/// Key material. `Debug` hides it; as data it is 64 hexadecimal digits.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyBytes {
    bytes: [u8; KEY_LENGTH],
    /// The key already taken in: every MAC begins with a copy of it.
    keyed: Hmac<Sha256>,
}

impl PartialEq for KeyBytes {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for KeyBytes {}

impl KeyBytes {
    /// From random bytes.
    pub fn new(bytes: [u8; KEY_LENGTH]) -> Self {
        // HMAC fills a key up to its block with zeros, so this is the same key.
        let mut block = [0; 64];
        for (to, from) in block.iter_mut().zip(bytes) {
            *to = from;
        }
        let keyed = Hmac::new(&block.into());
        Self { bytes, keyed }
    }

    /// Derives a key that the primary and the node with this credential alone can make. Each `purpose` has a key of its
    /// own, so that a MAC made for one opens nothing of another; it ends in NUL.
    pub fn of_credential(credential: &Secret, purpose: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(purpose);
        hash.update(credential.reveal());
        Self::new(hash.finalize().into())
    }

    /// HMAC-SHA256 of `parts` in a row.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cluster key is 64 hexadecimal digits")]
pub struct KeyError;

impl TryFrom<String> for KeyBytes {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        let bytes = from_hex(&text).ok_or(KeyError)?;
        bytes.try_into().map(Self::new).map_err(|_| KeyError)
    }
}

impl From<KeyBytes> for String {
    fn from(key: KeyBytes) -> String {
        hex(&key.bytes)
    }
}

/// One cluster key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Named in tokens; counts up and wraps.
    pub id: u8,
    /// The material.
    pub secret: KeyBytes,
    /// Unix milliseconds.
    pub created: u64,
}

/// The cluster keys: the current one first, then the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyRing {
    keys: Vec<Key>,
}

impl KeyRing {
    /// A ring of one key, from 32 random bytes.
    pub fn new(random: [u8; KEY_LENGTH], unix_millis: u64) -> Self {
        let key = Key {
            id: 1,
            secret: KeyBytes::new(random),
            created: unix_millis,
        };
        Self { keys: vec![key] }
    }

    /// A new current key; the old current one still verifies, the one before it no more.
    pub fn rotate(&mut self, random: [u8; KEY_LENGTH], unix_millis: u64) {
        let id = self.keys.first().map_or(1, |key| key.id.wrapping_add(1));
        let key = Key {
            id,
            secret: KeyBytes::new(random),
            created: unix_millis,
        };
        self.keys.insert(0, key);
        self.keys.truncate(2);
    }

    /// The id of the key that signs; `None` on a node that has not joined yet.
    pub fn current(&self) -> Option<u8> {
        self.keys.first().map(|key| key.id)
    }

    /// When the current key was made, unix milliseconds.
    pub fn created(&self) -> Option<u64> {
        self.keys.first().map(|key| key.created)
    }

    /// HMAC-SHA256 of `parts` in a row under the key `id`.
    pub fn mac(&self, id: u8, parts: &[&[u8]]) -> Option<[u8; 32]> {
        let key = self.keys.iter().find(|key| key.id == id)?;
        Some(key.secret.mac(parts))
    }

    /// For the join answer and the feed.
    pub fn to_wire(&self) -> Vec<ClusterKey> {
        let wire = |key: &Key| ClusterKey {
            id: key.id,
            secret: Secret::new(hex(&key.secret.bytes)),
            expires: 0,
        };
        self.keys.iter().map(wire).collect()
    }

    /// From the join answer or the feed.
    ///
    /// # Errors
    /// Where one is no key.
    pub fn from_wire(keys: &[ClusterKey]) -> Result<Self, KeyError> {
        let read = |key: &ClusterKey| {
            Ok(Key {
                id: key.id,
                secret: KeyBytes::try_from(key.secret.reveal().to_owned())?,
                created: 0,
            })
        };
        let keys = keys.iter().take(2).map(read).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }
}

/// Number and age of the cluster keys in use, as the data directory keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyState {
    /// Number of the key that signs, from 1.
    pub number: u64,
    /// Begin of its use, in unix milliseconds; 0 where that was not noted.
    pub since: u64,
    /// Keys of lower numbers verify nothing any more.
    pub floor: u64,
}

impl Default for KeyState {
    fn default() -> Self {
        Self {
            number: 1,
            since: 0,
            floor: 1,
        }
    }
}

impl KeyState {
    /// The next key signs from now on. The one before it still verifies, unless it is to end at once.
    pub fn rotate(&mut self, unix_millis: u64, ends_old: bool) {
        self.number = self.number.saturating_add(1);
        self.since = unix_millis;
        self.floor = match ends_old {
            true => self.number,
            false => self.floor.max(self.number.saturating_sub(1)),
        };
    }
}

/// What the primary keeps in its data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSecrets {
    root: KeyBytes,
    /// Signs redirect tokens.
    pub ring: KeyRing,
}

impl ClusterSecrets {
    /// From two draws of 32 random bytes.
    pub fn new(root: [u8; KEY_LENGTH], key: [u8; KEY_LENGTH], unix_millis: u64) -> Self {
        Self {
            root: KeyBytes::new(root),
            ring: KeyRing::new(key, unix_millis),
        }
    }

    /// The cluster keys that `state` says are in use.
    pub fn ring_at(&self, state: &KeyState) -> KeyRing {
        let numbers = [state.number, state.number.saturating_sub(1)];
        let numbers = numbers
            .into_iter()
            .filter(|number| *number >= state.floor.max(1));
        KeyRing {
            keys: numbers
                .map(|number| self.key(number, state.since))
                .collect(),
        }
    }

    fn key(&self, number: u64, created: u64) -> Key {
        let first = self.ring.keys.first().filter(|_| number == 1);
        let secret = first.map_or_else(
            || KeyBytes::new(self.root.mac(&[b"cluster key\0", &number.to_be_bytes()])),
            |first| first.secret.clone(),
        );
        let [.., id] = number.to_be_bytes();
        Key {
            id,
            secret,
            created,
        }
    }

    /// `rcn1.<node id>.<hmac>`: the same for the same node and generation as long as the root lives.
    pub fn credential(&self, node: &NodeId, generation: u32) -> Secret {
        let mac = self.credential_mac(node, generation);
        Secret::new(format!("{CREDENTIAL}.{node}.{}", hex(&mac)))
    }

    fn credential_mac(&self, node: &NodeId, generation: u32) -> [u8; 32] {
        let id = node.as_str().as_bytes();
        match generation {
            0 => self.root.mac(&[b"node\0", id]),
            // An id has no NUL in it.
            _ => self
                .root
                .mac(&[b"node\0", id, b"\0", &generation.to_be_bytes()]),
        }
    }

    /// The node that a credential belongs to; constant time in the part that is secret. `generation` says which one of
    /// its credentials is good now.
    ///
    /// # Errors
    /// Says whether it is no credential at all or one that is not good here.
    pub fn verify(
        &self,
        text: &str,
        generation: impl FnOnce(&NodeId) -> u32,
    ) -> Result<NodeId, CredentialError> {
        let (id, mac) = split_credential(text).ok_or(CredentialError::Malformed)?;
        let wanted = self.credential_mac(&id, generation(&id));
        if bool::from(wanted.as_slice().ct_eq(&mac)) {
            Ok(id)
        } else {
            Err(CredentialError::Foreign(id))
        }
    }
}

/// Why a bearer is not a node of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Not `rcn1.<node>.<hmac>`.
    #[error("no node credential: join first, with a join token")]
    Malformed,
    /// Signed by another root, or for an earlier generation.
    #[error(
        "the credential of node `{0}` is not good here: an operator removed the node, it is of another cluster, or the \
         primary lost its data directory; join again"
    )]
    Foreign(NodeId),
}

fn split_credential(text: &str) -> Option<(NodeId, Vec<u8>)> {
    // A node id may have dots in it, the two ends may not.
    let rest = text.strip_prefix(CREDENTIAL)?.strip_prefix('.')?;
    let (id, mac) = rest.rsplit_once('.')?;
    Some((id.parse().ok()?, from_hex(mac)?))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || text.len() > 128 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(
                digit(*high)?
                    .saturating_mul(16)
                    .saturating_add(digit(*low)?),
            )
            .ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> ClusterSecrets {
        ClusterSecrets::new([1; 32], [2; 32], 1_000)
    }

    #[test]
    fn a_restarted_primary_knows_its_nodes_again() {
        let before = secrets();
        let node: NodeId = "relay.one-1".parse().unwrap();
        let credential = before.credential(&node, 0);
        assert!(credential.reveal().starts_with("rcn1.relay.one-1."));
        let kept = serde_json::to_string(&before).unwrap();
        let after: ClusterSecrets = serde_json::from_str(&kept).unwrap();
        assert_eq!(after.verify(credential.reveal(), |_| 0), Ok(node));
    }

    #[test]
    fn the_credential_of_one_node_is_not_that_of_another() {
        let ours = secrets();
        let credential = ours.credential(&"r1".parse().unwrap(), 0);
        let stolen = credential.reveal().replace("rcn1.r1.", "rcn1.r2.");
        let r2: NodeId = "r2".parse().unwrap();
        assert_eq!(
            ours.verify(&stolen, |_| 0),
            Err(CredentialError::Foreign(r2))
        );
        // Who has only the cluster key, as every relay does, cannot make one.
        let forger = ClusterSecrets::new([2; 32], [2; 32], 1_000);
        let forged = forger.credential(&"r1".parse().unwrap(), 0);
        assert!(ours.verify(forged.reveal(), |_| 0).is_err());
        for bad in ["", "rcn1", "rcn1..", "rcn1.r1.zz", "rcn1.r1.", "rctl1.a.b"] {
            assert!(ours.verify(bad, |_| 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_credential_is_good_for_its_generation_only() {
        let ours = secrets();
        let node: NodeId = "r1".parse().unwrap();
        let texts = [0, 1, 2].map(|generation| ours.credential(&node, generation));
        for (held, text) in texts.iter().enumerate() {
            for asked in 0..3_u32 {
                let verified = ours.verify(text.reveal(), |_| asked).is_ok();
                assert_eq!(verified, held == asked as usize, "{held} {asked}");
            }
        }
    }

    #[test]
    fn keys_follow_from_the_root_and_the_old_one_ends_when_told() {
        let ours = secrets();
        let mut state = KeyState::default();
        let first = ours.ring_at(&state);
        assert_eq!(first.mac(1, &[b"x"]), ours.ring.mac(1, &[b"x"]));
        state.rotate(5, false);
        let second = ours.ring_at(&state);
        assert_eq!((second.current(), second.keys.len()), (Some(2), 2));
        assert_eq!(second.mac(1, &[b"x"]), first.mac(1, &[b"x"]));
        state.rotate(6, true);
        let third = ours.ring_at(&state);
        assert_eq!((third.current(), third.keys.len()), (Some(3), 1));
        assert_eq!(third.mac(2, &[b"x"]), None);
        // A primary that restarts with what it kept has the same ring, and a relay cannot make the next key.
        let kept = serde_json::to_string(&state).unwrap();
        assert_eq!(ours.ring_at(&serde_json::from_str(&kept).unwrap()), third);
        state.rotate(7, false);
        assert_eq!(ours.ring_at(&state).keys.len(), 2);
    }

    #[test]
    fn the_key_taken_in_before_is_the_same_key() {
        let mut plain = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
        plain.update(b"text");
        let wanted: [u8; 32] = plain.finalize().into_bytes().into();
        let key = KeyBytes::new([7; 32]);
        assert_eq!(
            (key.mac(&[b"te", b"xt"]), key.mac(&[b"text"])),
            (wanted, wanted)
        );
    }

    #[test]
    fn rotation_keeps_the_key_before() {
        let mut ring = KeyRing::new([1; 32], 1_000);
        let old = ring.mac(1, &[b"x"]).unwrap();
        ring.rotate([2; 32], 2_000);
        assert_eq!((ring.current(), ring.mac(1, &[b"x"])), (Some(2), Some(old)));
        ring.rotate([3; 32], 3_000);
        assert_eq!((ring.current(), ring.mac(1, &[b"x"])), (Some(3), None));
        let there = KeyRing::from_wire(&ring.to_wire()).unwrap();
        assert_eq!(there.mac(3, &[b"x"]), ring.mac(3, &[b"x"]));
        assert_eq!(there.mac(2, &[b"x"]), ring.mac(2, &[b"x"]));
        assert!(!format!("{ring:?}").contains("0303"));
    }
}
