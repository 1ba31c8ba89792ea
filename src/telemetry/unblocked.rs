//! Writes to pipes and terminals that somebody else reads, and that must not hold a thread up.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bytes of one write(2): `PIPE_BUF` on Linux. A pipe that poll(2) calls writable takes as many without blocking
/// (pipe(7)), also where the descriptor is shared and must not be made non-blocking, as standard output is.
pub(super) const CHUNK: usize = 4096;

/// Waits at most `patience` until the descriptor takes [`CHUNK`] bytes. True also where the reader has gone: then
/// write(2) says so. A regular file always has room.
///
/// # Errors
/// As poll(2) has them.
pub(super) fn has_room(descriptor: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
    Ok(poll(&mut polled, Some(&patience))? > 0)
}
