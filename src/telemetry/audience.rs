//! How many listen to a mount: on this node, and on a primary at all other nodes of the station too.

/// A mount's numbers that every node counts for itself and that add up to the station's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Listeners now.
    pub listeners: u64,
    /// Addresses that they come from; one that listens at two nodes counts at both.
    pub unique_listeners: u64,
    /// Seconds for which the listeners of now have listened, added up.
    pub listened_seconds: u64,
    /// Listener sessions opened.
    pub sessions: u64,
    /// Bytes handed to listeners.
    pub sent_bytes: u64,
    /// Times that a listener fell too far behind: it jumped, or was closed.
    pub slow_listeners: u64,
}

impl Share {
    /// Returns both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            listeners: self.listeners.saturating_add(other.listeners),
            unique_listeners: self.unique_listeners.saturating_add(other.unique_listeners),
            listened_seconds: self.listened_seconds.saturating_add(other.listened_seconds),
            sessions: self.sessions.saturating_add(other.sessions),
            sent_bytes: self.sent_bytes.saturating_add(other.sent_bytes),
            slow_listeners: self.slow_listeners.saturating_add(other.slow_listeners),
        }
    }
}

/// A mount's numbers as the public is told them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Audience {
    /// Numbers of this node and of the others.
    pub share: Share,
    /// Most listeners at once.
    pub peak: u64,
}

/// Numbers that a primary works out from what the other nodes report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Others {
    /// All other nodes together.
    pub share: Share,
    /// Most listeners at once of all nodes, this one among them.
    pub peak: u64,
}
