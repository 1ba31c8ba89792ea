//! What is to be written next, and what became of it. Pure: time comes in as an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two tries after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// A failure that lasts is said again after this long.
const SAID_FOR: Duration = Duration::from_secs(60);

/// A state that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    state: u64,
    /// Writes of the file that had begun before: their failure says nothing.
    begun: u64,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub file: &'static str,
    pub content: Arc<[u8]>,
    state: u64,
    attempt: u64,
}

/// The next thing that the thread which writes has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Write(Job),
    /// Until it is woken, or for so long at most.
    Wait(Option<Duration>),
    End,
}

/// Outcome of a write, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Unremarkable,
    Fails(String),
    Recovered,
}

#[derive(Debug, Default)]
struct File {
    content: Arc<[u8]>,
    /// The newest state, counted from 1.
    newest: u64,
    /// The newest state on the disk.
    kept: u64,
    begun: u64,
    /// Number of the last write of this file, counted over all files.
    turn: u64,
    failure: Option<Failure>,
    /// Time of the last failure, until the next request for this file.
    failed_at: Option<Instant>,
    said_at: Option<Instant>,
}

#[derive(Debug)]
struct Failure {
    state: u64,
    attempt: u64,
    why: String,
}

/// See the module. The number of files is that of the names in the program.
#[derive(Debug, Default)]
pub(super) struct Queue {
    files: BTreeMap<&'static str, File>,
    /// Writes begun, of all files.
    turns: u64,
    has_writer: bool,
    is_closed: bool,
}

impl Queue {
    /// The newest state of a file.
    pub fn put(&mut self, name: &'static str, content: Vec<u8>) -> Ticket {
        let file = self.files.entry(name).or_default();
        file.content = content.into();
        file.newest += 1;
        file.ticket()
    }

    /// A ticket for what was put last. Where that failed, it is tried at once.
    pub fn newest(&mut self, name: &'static str) -> Ticket {
        self.files.entry(name).or_default().ticket()
    }

    /// True until [`Self::has_writer`].
    pub fn wants_writer(&self) -> bool {
        !self.has_writer
    }

    /// There is a thread that asks for [`Self::next`].
    pub fn has_writer(&mut self) {
        self.has_writer = true;
    }

    /// Nothing is put any more: each state that is not on the disk is tried once.
    pub fn close(&mut self) {
        self.is_closed = true;
        for file in self.files.values_mut() {
            file.failed_at = None;
        }
    }

    /// Files whose newest state is not on the disk.
    pub fn unsaved(&self) -> Vec<&'static str> {
        let unsaved = self.files.iter().filter(|(_, file)| file.is_unsaved());
        unsaved.map(|(name, _)| *name).collect()
    }

    /// The file that waited longest goes first: one that changes all the time keeps no other from the disk.
    pub fn next(&mut self, now: Instant) -> Next {
        let wait = |file: &File| {
            file.failed_at.map_or(Duration::ZERO, |failed| {
                AGAIN.saturating_sub(now.saturating_duration_since(failed))
            })
        };
        let unsaved = self.files.iter_mut().filter(|(_, file)| file.is_unsaved());
        let Some((name, file)) = unsaved.min_by_key(|(_, file)| (wait(file), file.turn)) else {
            return match self.is_closed {
                true => Next::End,
                false => Next::Wait(None),
            };
        };
        let wait = wait(file);
        if !wait.is_zero() {
            return match self.is_closed {
                true => Next::End,
                false => Next::Wait(Some(wait)),
            };
        }
        self.turns += 1;
        file.turn = self.turns;
        file.begun += 1;
        Next::Write(Job {
            file: name,
            content: Arc::clone(&file.content),
            state: file.newest,
            attempt: file.begun,
        })
    }

    pub fn written(&mut self, job: &Job, outcome: Result<(), String>, now: Instant) -> Verdict {
        let Some(file) = self.files.get_mut(job.file) else {
            return Verdict::Unremarkable;
        };
        match outcome {
            Ok(()) => {
                file.kept = file.kept.max(job.state);
                file.failed_at = None;
                file.failure = None;
                match file.said_at.take() {
                    Some(_) => Verdict::Recovered,
                    None => Verdict::Unremarkable,
                }
            }
            Err(why) => {
                file.failed_at = Some(now);
                file.failure = Some(Failure {
                    state: job.state,
                    attempt: job.attempt,
                    why: why.clone(),
                });
                let is_said = file
                    .said_at
                    .is_some_and(|said| now.saturating_duration_since(said) < SAID_FOR);
                if is_said {
                    return Verdict::Unremarkable;
                }
                file.said_at = Some(now);
                Verdict::Fails(why)
            }
        }
    }

    /// Outcome of the write that holds a ticket's state; none while it is under way.
    pub fn outcome(&self, name: &'static str, ticket: Ticket) -> Option<Result<(), String>> {
        let file = self.files.get(name)?;
        if file.kept >= ticket.state {
            return Some(Ok(()));
        }
        let failure = file.failure.as_ref()?;
        let is_ours = failure.state >= ticket.state && failure.attempt > ticket.begun;
        is_ours.then(|| Err(failure.why.clone()))
    }
}

impl File {
    fn is_unsaved(&self) -> bool {
        self.kept < self.newest
    }

    fn ticket(&mut self) -> Ticket {
        // Somebody waits: not for the next second.
        self.failed_at = None;
        Ticket {
            state: self.newest,
            begun: self.begun,
        }
    }
}
