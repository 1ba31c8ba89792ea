//! Standard error as the log writes it: no line is waited for, and no failure reaches who logs.
//!
//! A log collector that stopped reading would hold up every thread that has something to say, and a disk that is full or
//! a reader that has gone would be reported to standard error once more, which panics.

use std::io::{self, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::telemetry::export;
use crate::telemetry::unblocked::{CHUNK, has_room};

/// Longest wait for room in a pipe. After a line that was dropped there is none until one gets through.
const PATIENCE: Duration = Duration::from_millis(10);

/// One line after the other. Not the lock of `io::stderr`: a panic is printed under it and may wait there.
static TURN: Mutex<()> = Mutex::new(());

/// True after a line that was dropped.
static STALLED: AtomicBool = AtomicBool::new(false);

/// Writes whole lines, or drops and counts them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = match STALLED.load(Ordering::Relaxed) {
            true => Duration::ZERO,
            false => PATIENCE,
        };
        let written = write(io::stderr().as_fd(), line, patience);
        STALLED.store(written.is_err(), Ordering::Relaxed);
        if written.is_err() {
            metrics::counter!(export::LOG_DROPPED).increment(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(descriptor: BorrowedFd<'_>, line: &[u8], patience: Duration) -> io::Result<()> {
    for chunk in line.chunks(CHUNK) {
        if !has_room(descriptor, patience)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            let taken = rustix::io::write(descriptor, rest)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_is_full_or_closed_is_an_error_at_once() {
        let (reader, writer) = io::pipe().unwrap();
        let line = [b'x'; CHUNK];
        // A pipe holds 64 KiB (pipe(7)).
        for _ in 0..16 {
            write(writer.as_fd(), &line, Duration::ZERO).unwrap();
        }
        let full = write(writer.as_fd(), &line, Duration::ZERO).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(reader);
        let closed = write(writer.as_fd(), &line, Duration::ZERO).unwrap_err();
        assert_eq!(closed.kind(), io::ErrorKind::BrokenPipe);
    }
}
