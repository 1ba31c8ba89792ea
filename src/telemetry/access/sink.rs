//! The open end of the access log: a file, a pipe or standard output, none of which may hold the writer up for
//! longer than [`PATIENCE`].

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Target;
use crate::telemetry::unblocked::{CHUNK, has_room};

/// Longest wait for room in a pipe or terminal, for one [`Sink::write`].
const PATIENCE: Duration = Duration::from_secs(1);

/// Something open that takes lines.
#[derive(Debug)]
pub(super) enum Sink {
    /// Standard output, which stays open whatever happens to it.
    Output,
    /// A regular file or a named pipe.
    File(File),
}

/// A write that did not get through.
#[derive(Debug)]
pub(super) struct Broken {
    /// Bytes that were taken before it.
    pub written: usize,
    /// The reason.
    pub error: io::Error,
}

impl Broken {
    /// True where the other end only takes nothing for the moment, so that opening it again would not help.
    pub fn is_stalled(&self) -> bool {
        self.error.kind() == io::ErrorKind::TimedOut
    }
}

/// Opens `target` for appending; `None` where it is off.
///
/// # Errors
/// As open(2) has them; `ENXIO` for a named pipe that nobody reads (see [`is_unread`]).
pub(super) fn open(target: &Target) -> io::Result<Option<Sink>> {
    match target {
        Target::Off => Ok(None),
        Target::Output => Ok(Some(Sink::Output)),
        Target::File(path) => Ok(Some(Sink::File(append_to(path)?))),
    }
}

/// True for the error of a named pipe without a reader, which is no mistake of the settings: one may come.
pub(super) fn is_unread(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NXIO)
}

fn append_to(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK a named pipe that nobody reads would hold open(2) for ever.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    OpenOptions::new()
        .create(true)
        .append(true)
        .custom_flags(flags)
        .open(path)
}

impl Sink {
    /// True for a regular file whose last name was removed: what is written there is gone with it.
    pub fn is_deleted(&self) -> bool {
        match self {
            Self::Output => false,
            Self::File(file) => file.metadata().is_ok_and(|meta| meta.nlink() == 0),
        }
    }

    /// True for a regular file without a byte.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Output => false,
            Self::File(file) => file
                .metadata()
                .is_ok_and(|meta| meta.is_file() && meta.len() == 0),
        }
    }

    /// Writes all of `bytes`. A regular file is waited for as long as its disk takes; anything else [`PATIENCE`] in
    /// all.
    ///
    /// # Errors
    /// As write(2) has them, and `TimedOut`; with the bytes that were taken before.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let deadline = Instant::now() + PATIENCE;
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let chunk = rest.get(..CHUNK).unwrap_or(rest);
            match self.write_once(chunk, deadline) {
                Ok(0) => {
                    let error = io::ErrorKind::WriteZero.into();
                    return Err(Broken { written, error });
                }
                Ok(taken) => written = written.saturating_add(taken),
                Err(error) if is_momentary(&error) => {}
                Err(error) => return Err(Broken { written, error }),
            }
        }
        Ok(())
    }

    fn write_once(&mut self, chunk: &[u8], deadline: Instant) -> io::Result<usize> {
        match self {
            Self::Output => {
                let output = io::stdout();
                wait_for_room(output.as_fd(), deadline)?;
                // Past the buffer of `io::stdout`, which would report a failure only at the next line.
                Ok(rustix::io::write(output, chunk)?)
            }
            Self::File(file) => {
                wait_for_room(file.as_fd(), deadline)?;
                file.write(chunk)
            }
        }
    }
}

/// True where the same write may be tried again at once: a signal came, or another writer filled the pipe first.
fn is_momentary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

fn wait_for_room(descriptor: BorrowedFd<'_>, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if has_room(descriptor, left)? {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("whoever reads it took nothing for {PATIENCE:?}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_is_an_error_and_a_full_one_stalls() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let target = Target::File(path.clone());
        let error = open(&target).unwrap_err();
        assert!(is_unread(&error), "{error}");
        let reader = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&path)
            .unwrap();
        let mut sink = open(&target).unwrap().unwrap();
        // A pipe holds 64 KiB (pipe(7)).
        let broken = sink.write(&vec![b'x'; 80 * 1024]).unwrap_err();
        assert!(broken.is_stalled(), "{broken:?}");
        assert_eq!(broken.written, 64 * 1024);
        drop(reader);
        let broken = sink.write(b"x").unwrap_err();
        assert_eq!(broken.error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(broken.written, 0);
    }

    #[test]
    fn a_file_is_appended_to_and_its_removal_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut sink = open(&Target::File(path.clone())).unwrap().unwrap();
        assert!(sink.is_empty() && !sink.is_deleted());
        sink.write(&vec![b'x'; 10_000]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 10_000);
        assert!(!sink.is_empty());
        std::fs::remove_file(&path).unwrap();
        assert!(sink.is_deleted());
        assert!(open(&Target::Off).unwrap().is_none());
    }
}
