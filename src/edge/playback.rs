//! Players that open a stream twice: the second connection of a playback session ends the first.
//!
//! Apple's players probe with one request and play with another, both under one `X-Playback-Session-Id`;
//! answered alike, both would stay and count twice. The identifier is no secret, so only a connection of the same address
//! block ends the first one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::base::address::block_of;
use crate::base::ids::MountId;
use crate::telemetry::{EndReason, SessionRecord};

/// Sessions remembered at most.
const MAX_SESSIONS: usize = 16 * 1024;

/// Key of a playback session: its identifier, its mount, and the block of the client's address.
type Key = (String, MountId, IpAddr);

/// See the module.
#[derive(Default)]
pub(super) struct Playbacks(Mutex<HashMap<Key, Weak<SessionRecord>>>);

impl Playbacks {
    /// Notes the newest connection of a playback session and kicks the one before it; true if there was one.
    pub fn supersede(&self, session: &str, record: &Arc<SessionRecord>) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_SESSIONS {
            known.retain(|_, record| record.strong_count() > 0);
        }
        if known.len() >= MAX_SESSIONS {
            return false;
        }
        let identifier = session.chars().take(64).collect();
        let key = (identifier, record.mount.clone(), block_of(record.address));
        let before = known
            .insert(key, Arc::downgrade(record))
            .and_then(|weak| weak.upgrade());
        before
            .inspect(|record| record.end(EndReason::Superseded))
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Class, Opening, Protocol, Telemetry};

    #[test]
    fn only_the_same_address_ends_the_first_connection() {
        let (playbacks, telemetry) = (Playbacks::default(), Telemetry::new(Box::new(|_, _| ())));
        let mount = MountId::new("/live.mp3").unwrap();
        let open = |address: &str| {
            telemetry.open(&Opening {
                mount: &mount,
                address: address.parse().unwrap(),
                user_agent: "AppleCoreMedia",
                referer: "",
                target: "/live.mp3",
                protocol: Protocol::Http11,
                class: Class::Listener,
            })
        };
        let came = |address: &str| {
            let session = open(address);
            (playbacks.supersede("id", session.record()), session)
        };
        let (superseded, first) = came("192.0.2.1");
        assert!(!superseded);
        // A stranger who knows the identifier ends nobody, and takes nobody's place.
        let (superseded, _stranger) = came("192.0.2.2");
        assert!(!superseded);
        let (superseded, _second) = came("192.0.2.1");
        assert!(superseded);
        assert_eq!(first.record().ending(), Some(EndReason::Superseded));
        // The addresses of one customer by IPv6 change while it plays.
        let (_, _third) = came("2001:db8::1");
        let (superseded, _fourth) = came("2001:db8::2");
        assert!(superseded);
    }
}
