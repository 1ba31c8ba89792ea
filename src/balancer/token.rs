//! The token of a redirect, the one query parameter (`rt`) that we add: who sent whom where, and how often
//! already.
//!
//! 47 bytes in 63 characters of base64url: format, key id, hops, issuer, relay, sequence, expiry, and the
//! first 16 bytes of an HMAC-SHA256 under the cluster key. Nodes stand in it as hashes of their ids.

use std::collections::{HashSet, VecDeque};
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use xxhash_rust::xxh3::xxh3_64;

use crate::base::ids::NodeId;
use crate::cluster::keys::KeyRing;

/// Redirects that one listener may go through.
pub const MAX_HOPS: u8 = 3;

/// Tokens remembered as used.
pub const MAX_USED: usize = 65_536;

const FORMAT: u8 = 1;
const BODY: usize = 31;
const MAC: usize = 16;

/// Characters of a token.
const TEXT: usize = (BODY + MAC).div_ceil(3) * 4 - 1;

/// What separates this use of the cluster key from others.
const PURPOSE: &[u8] = b"rt\0";

/// A node as it stands in a token.
pub fn node_hash(id: &NodeId) -> u64 {
    xxh3_64(id.as_str().as_bytes())
}

/// The token, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// [`node_hash`] of the node that redirected.
    pub issuer: u64,
    /// [`node_hash`] of the node that it redirected to.
    pub relay: u64,
    /// The reservation at the issuer; 0 reserves nothing and only counts hops.
    pub sequence: u64,
    /// Redirects so far, this one among them.
    pub hops: u8,
    /// Unix seconds; valid to the end of this one.
    pub expires: u32,
}

/// Why a text counts as no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFault {
    /// Not of our form.
    Malformed,
    /// Signed with a key that is not here, or not signed right.
    Forged,
    /// Was good once.
    Expired(Token),
}

impl Token {
    /// Signs with the current key; `None` on a node without keys.
    pub fn sign(&self, ring: &KeyRing) -> Option<Signed> {
        let key = ring.current()?;
        let mut bytes = [0; BODY + MAC];
        let (body, end) = bytes.split_at_mut(BODY);
        let mut rest = &mut body[..];
        rest.write_all(&[FORMAT, key, self.hops]).ok()?;
        rest.write_all(&self.issuer.to_be_bytes()).ok()?;
        rest.write_all(&self.relay.to_be_bytes()).ok()?;
        rest.write_all(&self.sequence.to_be_bytes()).ok()?;
        rest.write_all(&self.expires.to_be_bytes()).ok()?;
        let mac = ring.mac(key, &[PURPOSE, body])?;
        end.copy_from_slice(mac.get(..MAC)?);
        let mut text = [0; TEXT];
        URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).ok()?;
        Some(Signed(text))
    }

    /// Reads and verifies at `unix_millis` of the cluster's clock.
    ///
    /// # Errors
    /// See [`TokenFault`].
    pub fn verify(text: &str, ring: &KeyRing, unix_millis: u64) -> Result<Self, TokenFault> {
        // The length is checked first: nothing is decoded that cannot be one of ours.
        if text.len() != TEXT {
            return Err(TokenFault::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text);
        let bytes = bytes.map_err(|_| TokenFault::Malformed)?;
        let Some((body, mac)) = bytes.split_at_checked(BODY) else {
            return Err(TokenFault::Malformed);
        };
        let mut reader = Reader(body);
        let [format, key, hops] = reader.take().ok_or(TokenFault::Malformed)?;
        let token = read(&mut reader, hops).ok_or(TokenFault::Malformed)?;
        if format != FORMAT {
            return Err(TokenFault::Malformed);
        }
        let wanted = ring.mac(key, &[PURPOSE, body]).ok_or(TokenFault::Forged)?;
        let wanted = wanted.get(..MAC).unwrap_or_default();
        if !bool::from(wanted.ct_eq(mac)) {
            return Err(TokenFault::Forged);
        }
        if unix_millis / 1_000 > u64::from(token.expires) {
            return Err(TokenFault::Expired(token));
        }
        Ok(token)
    }
}

/// A token as it stands in a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed([u8; TEXT]);

impl std::ops::Deref for Signed {
    type Target = str;

    fn deref(&self) -> &str {
        // Base64 is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn read(reader: &mut Reader<'_>, hops: u8) -> Option<Token> {
    Some(Token {
        issuer: u64::from_be_bytes(reader.take()?),
        relay: u64::from_be_bytes(reader.take()?),
        sequence: u64::from_be_bytes(reader.take()?),
        hops,
        expires: u32::from_be_bytes(reader.take()?),
    })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

/// The tokens that were used up and have not expired yet. Bounded; the oldest is forgotten first.
#[derive(Debug, Default)]
pub struct Used {
    set: HashSet<(u64, u64)>,
    order: VecDeque<(u32, u64, u64)>,
}

impl Used {
    /// True if it was used before.
    pub fn contains(&self, token: &Token) -> bool {
        self.set.contains(&(token.issuer, token.sequence))
    }

    /// Uses it up; false if it was already.
    pub fn insert(&mut self, token: &Token) -> bool {
        let key = (token.issuer, token.sequence);
        if !self.set.insert(key) {
            return false;
        }
        self.order.push_back((token.expires, key.0, key.1));
        if self.order.len() > MAX_USED {
            self.drop_oldest();
        }
        true
    }

    /// Forgets what has expired.
    pub fn expire(&mut self, unix_millis: u64) {
        let seconds = unix_millis / 1_000;
        while self
            .order
            .front()
            .is_some_and(|(expires, ..)| u64::from(*expires) < seconds)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, issuer, sequence)) = self.order.pop_front() {
            self.set.remove(&(issuer, sequence));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring() -> KeyRing {
        KeyRing::new([7; 32], 0)
    }

    fn token() -> Token {
        Token {
            issuer: node_hash(&"head".parse().unwrap()),
            relay: node_hash(&"r1".parse().unwrap()),
            sequence: 1 << 60,
            hops: 1,
            expires: 1_000,
        }
    }

    #[test]
    fn a_round_trip_in_63_characters_of_a_url() {
        let text = token().sign(&ring()).unwrap();
        assert_eq!(text.len(), 63);
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        assert_eq!(Token::verify(&text, &ring(), 999_000), Ok(token()));
    }

    #[test]
    fn it_expires_with_its_second() {
        let text = token().sign(&ring()).unwrap();
        assert!(Token::verify(&text, &ring(), 1_000_999).is_ok());
        assert_eq!(
            Token::verify(&text, &ring(), 1_001_000),
            Err(TokenFault::Expired(token()))
        );
    }

    #[test]
    fn another_cluster_or_an_old_key_cannot_sign() {
        let text = token().sign(&KeyRing::new([8; 32], 0)).unwrap();
        assert_eq!(Token::verify(&text, &ring(), 0), Err(TokenFault::Forged));
        let text = token().sign(&ring()).unwrap();
        let mut rotated = ring();
        rotated.rotate([9; 32], 1);
        assert!(Token::verify(&text, &rotated, 0).is_ok());
        rotated.rotate([10; 32], 2);
        assert_eq!(Token::verify(&text, &rotated, 0), Err(TokenFault::Forged));
        assert_eq!(token().sign(&KeyRing::default()), None);
    }

    #[test]
    fn used_once_and_bounded() {
        let mut used = Used::default();
        assert!(used.insert(&token()));
        assert!(!used.insert(&token()));
        used.expire(1_000_000);
        assert!(used.contains(&token()));
        used.expire(1_001_000);
        assert!(!used.contains(&token()));
        for sequence in 0..MAX_USED as u64 + 10 {
            used.insert(&Token {
                sequence,
                ..token()
            });
        }
        assert_eq!((used.set.len(), used.order.len()), (MAX_USED, MAX_USED));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in 0_usize..47 * 8) {
            let text = token().sign(&ring()).unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(&*text).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let text = URL_SAFE_NO_PAD.encode(bytes);
            prop_assert!(Token::verify(&text, &ring(), 0).is_err());
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            prop_assert!(Token::verify(&text, &ring(), 0).is_err());
        }
    }
}
