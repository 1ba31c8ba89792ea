//! Counters that a node reports beside its load: Icecast's global ones, and those of each mount.

use serde::{Deserialize, Serialize};

use super::{MessageError, at_most};
use crate::wire::bounds::{MAX_COUNT, MAX_LISTENERS};

/// Counts since the sender's process began; each only rises within one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Requests whose head was understood, those of sources left out.
    pub client_connections: u64,
    /// Listeners that came.
    pub listener_connections: u64,
    /// Pages and playlists given out.
    pub file_connections: u64,
    /// Encoders that were let in.
    pub source_client_connections: u64,
    /// Streams that began to be pulled from elsewhere.
    pub source_relay_connections: u64,
}

impl Counts {
    /// Returns both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// Returns how much was counted after `before` by the same process.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        self.with(before, u64::saturating_sub)
    }

    fn with(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            connections: join(self.connections, other.connections),
            client_connections: join(self.client_connections, other.client_connections),
            listener_connections: join(self.listener_connections, other.listener_connections),
            file_connections: join(self.file_connections, other.file_connections),
            source_client_connections: join(
                self.source_client_connections,
                other.source_client_connections,
            ),
            source_relay_connections: join(
                self.source_relay_connections,
                other.source_relay_connections,
            ),
        }
    }

    pub(super) fn check(&self) -> Result<(), MessageError> {
        for (name, count) in [
            ("counts.connections", self.connections),
            ("counts.client_connections", self.client_connections),
            ("counts.listener_connections", self.listener_connections),
            ("counts.file_connections", self.file_connections),
            (
                "counts.source_client_connections",
                self.source_client_connections,
            ),
            (
                "counts.source_relay_connections",
                self.source_relay_connections,
            ),
        ] {
            at_most(name, count, MAX_COUNT)?;
        }
        Ok(())
    }
}

/// Counts of one mount on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MountCounts {
    /// Addresses that its listeners come from now.
    pub unique_listeners: u64,
    /// Seconds for which the listeners of now have listened, added up.
    pub listened_seconds: u64,
    /// Listener sessions since the process started.
    pub sessions: u64,
    /// Times that a listener fell too far behind since the process started.
    pub slow_listeners: u64,
}

impl MountCounts {
    pub(super) fn check(&self) -> Result<(), MessageError> {
        at_most(
            "mounts.counts.unique_listeners",
            self.unique_listeners,
            MAX_LISTENERS,
        )?;
        at_most(
            "mounts.counts.listened_seconds",
            self.listened_seconds,
            MAX_COUNT,
        )?;
        at_most("mounts.counts.sessions", self.sessions, MAX_COUNT)?;
        at_most(
            "mounts.counts.slow_listeners",
            self.slow_listeners,
            MAX_COUNT,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_no_honest_node_sends_are_refused_by_name() {
        let counts = Counts {
            file_connections: MAX_COUNT + 1,
            ..Counts::default()
        };
        let error = counts.check().unwrap_err().to_string();
        assert!(error.contains("`counts.file_connections`"), "{error}");
        let mount = MountCounts {
            unique_listeners: MAX_LISTENERS + 1,
            ..MountCounts::default()
        };
        let error = mount.check().unwrap_err().to_string();
        assert!(error.contains("unique_listeners"), "{error}");
        assert!(Counts::default().check().is_ok() && MountCounts::default().check().is_ok());
    }

    #[test]
    fn sums_and_differences_stop_at_the_ends() {
        let (few, many) = (
            Counts {
                connections: 2,
                ..Counts::default()
            },
            Counts {
                connections: u64::MAX,
                ..Counts::default()
            },
        );
        assert_eq!(few.plus(many).connections, u64::MAX);
        assert_eq!(few.since(many).connections, 0);
    }
}
