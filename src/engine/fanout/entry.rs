//! A listener: a socket, a cursor, and what cannot be derived from the ring.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mio::net::TcpStream;
use serde::{Deserialize, Serialize};

use super::tls::Place;
use crate::base::ids::{ListenerId, MountId, Position};
use crate::engine::detours::Signpost;
use crate::engine::mount::Mount;
use crate::engine::ring::Ring;
use crate::telemetry::{Session, SessionRecord};

/// What comes next for a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// The answer's head.
    Head,
    /// The section's header pages.
    Header,
    /// Audio, with metadata where asked for.
    Audio,
}

/// [`Side::leave_at`] of one that leaves at the next edge, which is still to be found.
pub(super) const NEXT_EDGE: u64 = u64::MAX;

/// [`Entry::title_seen`] of one whose last title was another mount's.
pub(super) const OTHERS_TITLE: u64 = u64::MAX;

/// The hot entry: all that a visit touches. Stays below 96 bytes.
pub(super) struct Entry {
    /// The client.
    pub socket: TcpStream,
    /// Tells a reused place in the slab from the one that a wheel slot or an event meant.
    pub generation: u32,
    /// What it reads.
    pub ring: Arc<Ring>,
    /// Its session among the shard's, where it speaks TLS.
    pub tls: Option<Place>,
    /// What is seldom touched.
    pub side: Box<Side>,
    /// The session's record: counts its bytes.
    pub record: Arc<SessionRecord>,
    /// The next byte to send.
    pub offset: u64,
    /// Offset of the last title sent plus one, 0 for none; or [`OTHERS_TITLE`].
    pub title_seen: u64,
    /// Audio bytes between two metadata blocks, 0 for none.
    pub metaint: u32,
    /// Audio bytes until the next block.
    pub until_meta: u32,
    /// Bytes of the head or the header pages already sent.
    pub prefix_sent: u32,
    /// Bytes of the block at `offset` already sent.
    pub meta_sent: u16,
    /// What comes next.
    pub phase: Phase,
    /// The socket took less than was offered; wait until it is writable. Not blocked is: it has exactly one
    /// ticket, in the wheel or among those of its shard who are due.
    pub blocked: bool,
    /// A deadline for its stall is set.
    pub watched: bool,
    /// It goes where its signpost points, see [`Side::leave_at`].
    pub leaving: bool,
    /// Milliseconds of audio that it was given ahead: bounds its turns.
    pub lead: u32,
    /// Milliseconds of the shard's clock at which the socket last took a byte or had nothing to take.
    pub progress: u64,
}

/// The record beside the entry.
pub(super) struct Side {
    /// The answer's head.
    pub head: Bytes,
    /// What it reads: for the next ring.
    pub mount: Arc<Mount>,
    /// Where those who asked for the same are to be.
    pub home: Arc<Signpost>,
    /// The edge at which one that is leaving goes; or [`NEXT_EDGE`].
    pub leave_at: u64,
    /// The guard.
    pub session: Session,
    /// The mount's longest duration.
    pub ends_at: Option<Instant>,
    /// What it counts in its shard's load.
    pub weight: u64,
    /// Milliseconds of the shard's clock at its last jump, 0 for none.
    pub jumped: u64,
    /// Set once the client has closed its writing side.
    pub half_closed: Option<HalfClosed>,
}

/// How one that has closed its writing side is told from one that is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct HalfClosed {
    /// The next look, in milliseconds of the shard's clock.
    pub look_at: u64,
    /// Bytes that it had at the last look.
    pub sent: u64,
}

/// All that another process would need to go on with a listener's socket; what is unsent follows from it,
/// the ring and the titles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Version of this encoding.
    pub v: u16,
    /// What it reads.
    pub mount: MountId,
    /// The next byte to send.
    pub position: Position,
    /// Audio bytes between two metadata blocks.
    pub metaint: u32,
    /// Audio bytes until the next block.
    pub until_meta: u32,
    /// Bytes of that block already sent.
    pub meta_sent: u16,
    /// Offset of the last title sent plus one, 0 for none; the largest number where it was another mount's.
    pub title_seen: u64,
    /// The session.
    pub session: ListenerId,
    /// What comes next.
    phase: Phase,
    /// Bytes of the head or the header pages already sent.
    pub prefix_sent: u32,
}

/// Version of [`State`].
pub const STATE_VERSION: u16 = 1;

impl Entry {
    /// It leaves for where its signpost points, at an edge that is still to be found.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.side.leave_at = NEXT_EDGE;
    }

    /// Where the bytes end that it gets of what it reads.
    pub fn limit(&self) -> u64 {
        if self.leaving {
            self.side.leave_at
        } else {
            u64::MAX
        }
    }

    /// Its state as plain data.
    pub fn state(&self) -> State {
        State {
            v: STATE_VERSION,
            mount: self.side.mount.id.clone(),
            position: Position {
                epoch: self.ring.epoch(),
                offset: self.offset,
            },
            metaint: self.metaint,
            until_meta: self.until_meta,
            meta_sent: self.meta_sent,
            title_seen: self.title_seen,
            session: self.record.id,
            phase: self.phase,
            prefix_sent: self.prefix_sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hot_entry_is_small() {
        assert!(size_of::<Entry>() <= 96, "{}", size_of::<Entry>());
    }
}
