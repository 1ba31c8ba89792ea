//! Sends that are laid out and not yet made: one for a backend that sends at once, hundreds for one that
//! submits them together.

use super::plan::Plan;

/// One send for one listener.
#[derive(Default)]
pub(super) struct Job {
    /// The listener's place in the slab.
    pub key: usize,
    /// The place of its ring's view.
    pub view: usize,
    /// What to send.
    pub plan: Plan,
    /// What came of it.
    pub result: Sent,
}

/// What a socket did with a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sent {
    /// It took this much; less than the plan means that it is full now, and will tell when it is not.
    Took(usize),
    /// It took this much and is full for all that: what was sealed last waits for it.
    TookAndFull(usize),
    /// It is full, and will tell when it is not.
    #[default]
    Full,
    /// A signal came first, or the backend could not try: try again.
    Again,
    /// It is gone.
    Gone,
}

impl Sent {
    /// What a system call's answer means.
    pub fn of(answer: std::io::Result<usize>) -> Self {
        use std::io::ErrorKind::{Interrupted, WouldBlock};
        match answer {
            Ok(0) => Self::Gone,
            Ok(taken) => Self::Took(taken),
            Err(error) if error.kind() == WouldBlock => Self::Full,
            Err(error) if error.kind() == Interrupted => Self::Again,
            Err(_) => Self::Gone,
        }
    }
}

/// Jobs that wait. Their memory is reused, so a send allocates nothing.
#[derive(Default)]
pub(super) struct Batch {
    /// For the backend.
    pub jobs: Vec<Job>,
    spare: Vec<Job>,
}

impl Batch {
    /// A job to be filled in and pushed.
    pub fn draft(&mut self) -> Job {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a job back that is done with.
    pub fn recycle(&mut self, mut job: Job) {
        job.plan.clear();
        job.result = Sent::default();
        self.spare.push(job);
    }
}
