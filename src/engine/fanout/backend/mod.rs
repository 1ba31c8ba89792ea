//! How laid-out sends reach the kernel. Every way gives the same answers; a shard has one of them.
//!
//! Must never: wait for a socket, move a cursor, or keep a byte of a ring after [`Backend::send`] has returned.
//! Above it: the shard, which lays out and draws the conclusions.

mod plain;

use slab::Slab;

use super::batch::Job;
use super::entry::Entry;
use super::views::Views;

/// See the module.
pub(super) enum Backend {
    /// A system call for each send.
    Plain,
}

/// What a backend reads while it sends. Borrowed for the whole call: sockets, segments and metadata blocks cannot
/// go before it returns.
pub(super) struct Sources<'a> {
    pub entries: &'a Slab<Entry>,
    pub views: &'a Views,
}

impl Backend {
    /// Jobs that it wants at once.
    pub fn batch(&self) -> usize {
        match self {
            Self::Plain => 1,
        }
    }

    /// Makes the sends and fills in every job's result. Returns when none is under way any more.
    pub fn send(&mut self, sources: &Sources<'_>, jobs: &mut [Job]) {
        match self {
            Self::Plain => plain::send(sources, jobs),
        }
    }
}
