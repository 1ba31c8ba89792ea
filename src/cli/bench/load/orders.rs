//! What the bench and a load process say to each other: one line of JSON each.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::cli::bench::audio::Flaws;
use crate::cli::bench::histogram::Histogram;

/// The first line that a load process reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli::bench) struct Setup {
    /// Where listeners connect, in turn.
    pub servers: Vec<SocketAddr>,
    /// What they ask for.
    pub path: String,
    /// Bit rate of the position-coded audio; `None` where the audio is not ours and cannot be checked.
    pub kbit: Option<u32>,
    /// Ask for titles.
    pub metadata: bool,
    /// Each listener names one of so many agents and referers.
    pub agents: u32,
    /// One listener in so many is checked byte by byte.
    pub check_one_in: u32,
    /// Number of the first loopback address (127.1.0.0 plus this) that its listeners come from; they take
    /// every `stride`-th.
    pub first_address: u32,
    /// See `first_address`.
    pub stride: u32,
    /// Speak TLS and trust the certificate in this file alone.
    pub trust: Option<String>,
    /// Listeners come from any address; for servers elsewhere.
    pub any_address: bool,
}

/// What is asked of a load process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli::bench) enum Order {
    /// Connect so many, at this rate.
    Join {
        /// Listeners.
        count: u32,
        /// A second.
        per_second: f64,
        /// They send their request and never read.
        deaf: bool,
    },
    /// Everybody goes.
    Leave,
    /// So many stop reading.
    StopReading(u32),
    /// The oldest goes and a new one comes, so many times a second; 0 ends it.
    Churn(f64),
    /// Begin to count anew.
    Reset,
    /// Answer with a [`Tally`].
    Report,
}

/// What a load process counted since the last reset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::cli::bench) struct Tally {
    /// Connected or connecting, without a byte of audio yet.
    pub waiting: u64,
    /// Hearing audio now, the deaf not among them.
    pub playing: u64,
    /// Those of them that are checked.
    pub checked: u64,
    /// Came to nothing.
    pub failed: u64,
    /// Why the first of them did.
    pub first_failure: Option<String>,
    /// Closed by the server after they had played.
    pub lost: u64,
    /// Answered by a redirect, and followed.
    pub redirected: u64,
    /// Bytes after the answers' heads.
    pub bytes: u64,
    /// Reads that brought some.
    pub reads: u64,
    /// Pauses of more than two seconds.
    pub stalls: u64,
    /// What was wrong with the bytes.
    pub gaps: u64,
    /// Frames missing in those gaps.
    pub missing: u64,
    /// Bytes that are not ours.
    pub corrupt: u64,
    /// From connect to the first byte of audio, in microseconds.
    pub first_byte: Histogram,
    /// From the source's send to the listener's read, each frame sent after the listener came.
    pub delay: Histogram,
}

impl Tally {
    /// Adds another process's.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.waiting, other.waiting),
            (&mut self.playing, other.playing),
            (&mut self.checked, other.checked),
            (&mut self.failed, other.failed),
            (&mut self.lost, other.lost),
            (&mut self.redirected, other.redirected),
            (&mut self.bytes, other.bytes),
            (&mut self.reads, other.reads),
            (&mut self.stalls, other.stalls),
            (&mut self.gaps, other.gaps),
            (&mut self.missing, other.missing),
            (&mut self.corrupt, other.corrupt),
        ] {
            *sum += more;
        }
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
        self.first_byte.merge(&other.first_byte);
        self.delay.merge(&other.delay);
    }

    /// Counts what was wrong with a listener's bytes.
    pub fn count(&mut self, flaws: Flaws) {
        self.gaps += flaws.gaps;
        self.missing += flaws.missing;
        self.corrupt += flaws.corrupt;
    }
}
