//! Another parent, tried while the one that is there still feeds: nobody is left before the next one is known
//! to be worth it.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::super::client::Reply;
use super::{Left, Parent, Parents, Pull};
use crate::base::ids::{Epoch, Position};
use crate::wire::frame::{Frame, FrameDecoder};

/// Frames before a stream's first POSITION, at most: what was in effect before its first byte.
const MAX_OPENING: usize = 64;

/// Longest wait between two trials, as a multiple of the first.
const LONGEST: u32 = 8;

/// A parent that answers: its first frames, up to its first POSITION, are not taken yet.
pub(in crate::upstream) struct Opened {
    pub parent: Parent,
    pub reply: Reply,
    pub decoder: FrameDecoder,
    pub frames: Vec<Frame>,
    /// Where it is, by its own word.
    pub edge: Position,
}

/// Why another parent may be better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Doubt {
    /// The parent says that it has got nothing for as long as it may.
    Starved,
    /// What comes is as late as it may be.
    Late,
    /// The rule knows one that is nearer to the origin.
    Better,
    /// The operator has named another.
    Ordered,
}

/// What a trial is judged by.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct Ours {
    pub at: Position,
    /// Bytes a second, 0 where unknown.
    pub rate: u64,
    /// What counts as behind.
    pub behind: Duration,
}

/// True if a parent whose edge is `theirs` is worth the move.
pub(super) fn is_worth(doubt: Doubt, ours: &Ours, theirs: Position) -> bool {
    if theirs.epoch != ours.at.epoch {
        return theirs.epoch > ours.at.epoch;
    }
    let bytes = |time: Duration| ours.rate.saturating_mul(time.as_millis() as u64) / 1000;
    match doubt {
        // While the source itself stalls, nobody is ahead.
        Doubt::Starved => theirs.offset > ours.at.offset,
        Doubt::Late => theirs.offset > ours.at.offset + bytes(ours.behind),
        Doubt::Better => theirs.offset + bytes(ours.behind) / 2 >= ours.at.offset,
        // No farther behind than a parent that would be left at once.
        Doubt::Ordered => theirs.offset + bytes(ours.behind) >= ours.at.offset,
    }
}

type Trial<'a> = Pin<Box<dyn Future<Output = Option<Opened>> + Send + 'a>>;

/// The trials of one connection, one at a time.
pub(super) struct Trials<'a> {
    pull: &'a Pull,
    running: Option<(Doubt, Trial<'a>)>,
    next_at: Instant,
    wait: Duration,
    round: usize,
}

impl<'a> Trials<'a> {
    pub fn new(pull: &'a Pull, now: Instant) -> Self {
        Self {
            pull,
            running: None,
            next_at: now,
            wait: pull.pace.silence,
            round: 0,
        }
    }

    /// Begins one, if there is a doubt and it is time.
    pub fn consider(
        &mut self,
        doubt: Option<Doubt>,
        current: &Parent,
        parents: &Parents,
        now: Instant,
    ) {
        let Some(doubt) = doubt else {
            self.wait = self.pull.pace.silence;
            return;
        };
        if self.running.is_some() || now < self.next_at {
            return;
        }
        let others = parents.list.iter().filter(|one| one.node != current.node);
        let chosen = match doubt {
            Doubt::Better => others
                .clone()
                .find(|one| parents.better.as_ref() == Some(&one.node)),
            Doubt::Ordered => others.clone().next(),
            Doubt::Starved | Doubt::Late => {
                let count = others.clone().count().max(1);
                others.clone().nth(self.round % count)
            }
        };
        self.round = self.round.wrapping_add(1);
        self.next_at = now + self.wait;
        self.wait = (self.wait * 2).min(self.pull.pace.silence * LONGEST);
        let Some(parent) = chosen.cloned() else {
            return;
        };
        let pull = self.pull;
        let trial = async move {
            let opening = pull.open(&parent, pull.position());
            match timeout(pull.pace.silence, opening).await {
                Ok(Ok(opened)) => Some(opened),
                Ok(Err(why)) => {
                    tracing::debug!(mount = %pull.mount, parent = %parent.node, %why, "tried");
                    None
                }
                Err(_) => None,
            }
        };
        self.running = Some((doubt, Box::pin(trial)));
    }

    /// The trial's outcome: a parent that answered, and why it was tried.
    pub async fn outcome(&mut self) -> Option<(Doubt, Opened)> {
        let Some((doubt, trial)) = &mut self.running else {
            return pending().await;
        };
        let doubt = *doubt;
        let opened = trial.await;
        self.running = None;
        opened.map(|opened| (doubt, opened))
    }
}

impl Pull {
    /// Asks `parent`, and reads up to its first POSITION.
    pub(super) async fn open(
        &self,
        parent: &Parent,
        ask: Option<Position>,
    ) -> Result<Opened, Left> {
        let mut reply = self.ask(parent, ask).await?;
        let mut decoder = FrameDecoder::new();
        let mut frames = Vec::new();
        let mut bytes = Vec::new();
        loop {
            while let Some(frame) = decoder
                .next_frame()
                .map_err(|error| parent.failed(format!("sent what cannot be read: {error}")))?
            {
                self.look_at(parent, &frame)?;
                let edge = match &frame {
                    Frame::Position {
                        epoch, live_edge, ..
                    } => Some(Position {
                        epoch: Epoch(*epoch),
                        offset: *live_edge,
                    }),
                    // It has ended already; whoever plays it finds out how.
                    Frame::End { .. } => Some(Position {
                        epoch: Epoch(0),
                        offset: 0,
                    }),
                    _ => None,
                };
                frames.push(frame);
                if let Some(edge) = edge {
                    return Ok(Opened {
                        parent: parent.clone(),
                        reply,
                        decoder,
                        frames,
                        edge,
                    });
                }
                if frames.len() > MAX_OPENING {
                    return Err(parent.failed("does not say where it is".to_owned()));
                }
            }
            bytes.clear();
            match reply.read(&mut bytes).await {
                Ok(true) => decoder.push(&bytes),
                Ok(false) => return Err(parent.failed("closed the connection".to_owned())),
                Err(error) => return Err(parent.failed(format!("broke the connection: {error}"))),
            }
        }
    }

    /// A head that leads through this node is none to follow.
    fn look_at(&self, parent: &Parent, frame: &Frame) -> Result<(), Left> {
        match frame {
            Frame::Head(head) if head.path.iter().any(|node| node == self.own.as_str()) => {
                Err(parent.failed("has the mount through this very node".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_stalls_moves_nobody() {
        let at = |epoch, offset| Position {
            epoch: Epoch(epoch),
            offset,
        };
        let ours = Ours {
            at: at(5, 100_000),
            rate: 16_000,
            behind: Duration::from_secs(3),
        };
        for (doubt, theirs, worth) in [
            (Doubt::Starved, at(5, 100_000), false),
            (Doubt::Starved, at(5, 100_001), true),
            (Doubt::Late, at(5, 148_000), false),
            (Doubt::Late, at(5, 148_001), true),
            (Doubt::Better, at(5, 76_000), true),
            (Doubt::Better, at(5, 75_999), false),
            (Doubt::Ordered, at(5, 52_000), true),
            (Doubt::Ordered, at(5, 51_999), false),
            (Doubt::Late, at(6, 0), true),
            (Doubt::Starved, at(4, 900_000), false),
            (Doubt::Starved, at(0, 0), false),
        ] {
            assert_eq!(
                is_worth(doubt, &ours, theirs),
                worth,
                "{doubt:?} {theirs:?}"
            );
        }
    }
}
