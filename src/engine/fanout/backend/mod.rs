//! How laid-out sends reach the kernel. Every way gives the same answers; a shard has one of them.
//!
//! Must never: wait for a socket, move a cursor, or keep a byte of a ring after [`Backend::send`] has returned.
//! Above it: the shard, which lays out and draws the conclusions.

mod plain;
#[cfg(target_os = "linux")]
mod uring;

use std::io;

use slab::Slab;

use super::batch::Job;
use super::entry::Entry;
use super::views::Views;

/// Which way is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// io_uring where it works, else plain sends.
    #[default]
    Auto,
    /// A system call for each send, everywhere.
    Plain,
    /// io_uring; plain sends, and a warning, where it does not work.
    IoUring,
}

/// Which way is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A system call for each send.
    Plain,
    /// A system call for a whole tick's sends.
    IoUring,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::IoUring];

    /// The word in settings, API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::IoUring => "io_uring",
        }
    }
}

/// What was chosen at start, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The way.
    pub kind: Kind,
    /// In words.
    pub reason: String,
}

impl Chosen {
    /// Chooses, after a test of what this kernel allows.
    pub fn by(choice: Choice) -> Self {
        let plain = |reason| Self {
            kind: Kind::Plain,
            reason,
        };
        if choice == Choice::Plain {
            return plain("chosen by `fanout.backend`".to_owned());
        }
        match test() {
            Ok(()) => Self {
                kind: Kind::IoUring,
                reason: "the kernel allows io_uring and its test passed".to_owned(),
            },
            Err(error) => {
                let reason = refusal(&error);
                if choice == Choice::IoUring {
                    tracing::warn!(%reason, "`fanout.backend` asks for io_uring; sends are plain");
                }
                plain(reason)
            }
        }
    }
}

/// Why io_uring is not to be had, for people.
fn refusal(error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; a container's seccomp profile or `kernel.io_uring_disabled` forbids it"
        }
        io::ErrorKind::Unsupported => "; this kernel does not have it",
        _ => "",
    };
    format!("io_uring does not work here: {error}{hint}")
}

/// See the module.
pub(super) enum Backend {
    /// A system call for each send.
    Plain,
    /// A system call for many.
    #[cfg(target_os = "linux")]
    Uring(Box<uring::Uring>),
}

/// What a backend reads while it sends. Borrowed for the whole call: sockets, segments and metadata blocks cannot
/// go before it returns.
pub(super) struct Sources<'a> {
    pub entries: &'a Slab<Entry>,
    pub views: &'a Views,
}

impl Backend {
    /// Opens what was chosen. To be called in the thread that sends; where that fails it is plain, and said.
    pub fn open(kind: Kind) -> Self {
        if kind == Kind::Plain {
            return Self::Plain;
        }
        open_uring().unwrap_or_else(|error| {
            tracing::warn!(reason = refusal(&error), "a fan-out shard sends plainly");
            Self::Plain
        })
    }

    /// Which it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Plain => Kind::Plain,
            #[cfg(target_os = "linux")]
            Self::Uring(_) => Kind::IoUring,
        }
    }

    /// Jobs that it wants at once.
    pub fn batch(&self) -> usize {
        match self {
            Self::Plain => 1,
            #[cfg(target_os = "linux")]
            Self::Uring(_) => uring::BATCH,
        }
    }

    /// Makes the sends and fills in every job's result. Returns when none is under way any more. False if from
    /// now on it is another backend.
    pub fn send(&mut self, sources: &Sources<'_>, jobs: &mut [Job]) -> bool {
        match self {
            Self::Plain => plain::send(sources, jobs),
            #[cfg(target_os = "linux")]
            Self::Uring(uring) => {
                uring.send(sources, jobs);
                if let Some(error) = uring.broken() {
                    tracing::error!(%error, "io_uring failed; this fan-out shard sends plainly");
                    *self = Self::Plain;
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(target_os = "linux")]
fn open_uring() -> io::Result<Backend> {
    Ok(Backend::Uring(Box::new(uring::Uring::new()?)))
}

#[cfg(not(target_os = "linux"))]
fn open_uring() -> io::Result<Backend> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn test() -> io::Result<()> {
    uring::test()
}

#[cfg(not(target_os = "linux"))]
fn test() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
