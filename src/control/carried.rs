//! The client's address on a request that a relay carries to the primary.
//!
//! The relay signs what it saw with its own credential, which the primary can work out again and nobody else knows, so no
//! client can speak for another address and no relay for another relay. The signature covers the request's method and
//! target and holds for a minute of the cluster's clock. Each relay on the way adds its own mark behind the others; the
//! primary reads them from the last to the first and stops at one that does not verify.

use std::net::IpAddr;

use subtle::ConstantTimeEq as _;

use super::{Control, Role};
use crate::base::ids::NodeId;
use crate::base::secret::Secret;
use crate::cluster::keys::{KeyBytes, hex};

/// Field that holds a mark.
pub const CLIENT: &str = "X-Relayctl-Client";

/// Marks that are read of one request: the relays that it may have passed.
pub const MAX_MARKS: usize = 4;

/// How far the clock of the relay that signed may differ from ours, in seconds.
const VALID: u64 = 60;

/// Longest mark that is read, in bytes.
const MAX_MARK: usize = 512;

impl Control {
    /// The mark for a request of `client`; `None` before the first join.
    pub fn client_mark(&self, client: IpAddr, method: &str, target: &str) -> Option<String> {
        let credential = self.own_credential();
        if credential.is_empty() {
            return None;
        }
        let stated = Stated {
            node: self.identity.id.clone(),
            seconds: self.cluster_millis() / 1000,
            client: client.to_canonical(),
        };
        Some(stated.sign(&credential, method, target))
    }

    /// The client of a carried request by its marks, in the order in which they came; `None` where the last one is not a
    /// member's, and on a relay, which can verify none.
    pub fn carried_client<'a>(
        &self,
        marks: impl DoubleEndedIterator<Item = &'a str>,
        method: &str,
        target: &str,
    ) -> Option<IpAddr> {
        if self.identity.role != Role::Primary {
            return None;
        }
        let now = self.cluster_millis() / 1000;
        let read = |mark: &str| {
            let (stated, mac) = Stated::read(mark)?;
            if self.is_barred(&stated.node) {
                return None;
            }
            let credential = self.credential_of(&stated.node);
            let is_fresh = stated.seconds.abs_diff(now) <= VALID;
            let wanted = stated.mac(&credential, method, target);
            let same = bool::from(wanted.as_bytes().ct_eq(mac.as_bytes()));
            (is_fresh && same).then_some(stated.client)
        };
        marks.rev().take(MAX_MARKS).map_while(read).last()
    }
}

/// Fields of a mark, all of them signed: the relay that carries, the time, and the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stated {
    node: NodeId,
    seconds: u64,
    client: IpAddr,
}

impl Stated {
    /// `NODE;SECONDS;ADDRESS;MAC`.
    fn sign(&self, credential: &Secret, method: &str, target: &str) -> String {
        let mac = self.mac(credential, method, target);
        format!("{};{};{};{mac}", self.node, self.seconds, self.client)
    }

    fn mac(&self, credential: &Secret, method: &str, target: &str) -> String {
        let text = format!(
            "{}\n{}\n{}\n{method}\n{target}",
            self.node, self.seconds, self.client
        );
        let key = KeyBytes::of_credential(credential, b"relayctl carried client\0");
        hex(&key.mac(&[text.as_bytes()]))
    }

    fn read(mark: &str) -> Option<(Self, &str)> {
        if mark.len() > MAX_MARK {
            return None;
        }
        let mut parts = mark.split(';');
        let stated = Self {
            node: parts.next()?.parse().ok()?,
            seconds: parts.next()?.parse().ok()?,
            client: parts.next()?.parse::<IpAddr>().ok()?.to_canonical(),
        };
        let mac = parts.next()?;
        parts.next().is_none().then_some((stated, mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated() -> Stated {
        Stated {
            node: "relay.one-1".parse().unwrap(),
            seconds: 1_000,
            client: "2001:db8::7".parse().unwrap(),
        }
    }

    #[test]
    fn a_mark_is_read_back_and_holds_for_one_request() {
        let credential = Secret::new("rcn1.relay.one-1.aa");
        let mark = stated().sign(&credential, "PUT", "/live.mp3");
        let (read, mac) = Stated::read(&mark).unwrap();
        assert_eq!(read, stated());
        assert_eq!(mac, read.mac(&credential, "PUT", "/live.mp3"));
        assert_ne!(mac, read.mac(&credential, "PUT", "/other.mp3"));
        assert_ne!(mac, read.mac(&credential, "GET", "/live.mp3"));
        let other = Secret::new("rcn1.relay.one-1.ab");
        assert_ne!(mac, read.mac(&other, "PUT", "/live.mp3"));
        let moved = Stated {
            client: "2001:db8::8".parse().unwrap(),
            ..read
        };
        assert_ne!(mac, moved.mac(&credential, "PUT", "/live.mp3"));
    }

    #[test]
    fn what_is_no_mark_is_refused() {
        let long = format!("r1;1;10.0.0.1;{}", "a".repeat(MAX_MARK));
        for bad in [
            "",
            "r1",
            "r1;1;10.0.0.1",
            "r1;1;nowhere;aa",
            "r1;-1;10.0.0.1;aa",
            "r1;1;10.0.0.1;aa;",
            long.as_str(),
        ] {
            assert!(Stated::read(bad).is_none(), "{bad}");
        }
    }
}
