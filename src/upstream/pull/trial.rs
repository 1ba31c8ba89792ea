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

/// Bytes that they keep, at most: a section of the longest kind is one of 4 MiB.
pub(in crate::upstream) const MAX_OPENING_BYTES: usize = 8 << 20;

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
pub(in crate::upstream) fn is_worth(doubt: Doubt, ours: &Ours, theirs: Position) -> bool {
    if theirs.epoch != ours.at.epoch {
        return theirs.epoch > ours.at.epoch;
    }
    let bytes = |time: Duration| ours.rate.saturating_mul(time.as_millis() as u64) / 1000;
    match doubt {
        // While the source itself stalls, nobody is ahead.
        Doubt::Starved => theirs.offset > ours.at.offset,
        Doubt::Late => theirs.offset > ours.at.offset + bytes(ours.behind),
        // Well before a parent that would be left again.
        Doubt::Better | Doubt::Ordered => theirs.offset + bytes(ours.behind) / 2 >= ours.at.offset,
    }
}

impl Doubt {
    /// The parent cannot be kept; else another one is only wished for.
    fn is_urgent(self) -> bool {
        matches!(self, Self::Starved | Self::Late)
    }
}

/// When the next trial is due.
#[derive(Debug, Default)]
struct Turns {
    next_at: Option<Instant>,
    wait: Duration,
    round: usize,
}

impl Turns {
    /// The number of the trial that is due now. The wait for the next one begins with `first` and grows.
    fn next(&mut self, first: Duration, now: Instant) -> Option<usize> {
        if self.next_at.is_some_and(|at| now < at) {
            return None;
        }
        let wait = self.wait.max(first);
        self.next_at = Some(now + wait);
        self.wait = (wait * 2).min(first * LONGEST);
        self.round = self.round.wrapping_add(1);
        Some(self.round.wrapping_sub(1))
    }
}

/// The trials of one wish, over all connections: who left the wanted parent does not ask it at once again.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Wish {
    of: Option<(Doubt, Option<String>)>,
    turns: Turns,
}

impl Wish {
    fn turns(&mut self, doubt: Doubt, parents: &Parents) -> &mut Turns {
        let node = match doubt {
            Doubt::Ordered => &parents.ordered,
            _ => &parents.better,
        };
        let of = Some((doubt, node.clone()));
        if self.of != of {
            let turns = Turns::default();
            *self = Self { of, turns };
        }
        &mut self.turns
    }
}

type Trial<'a> = Pin<Box<dyn Future<Output = Option<Opened>> + Send + 'a>>;

/// The trials of one connection, one at a time.
pub(super) struct Trials<'a> {
    pull: &'a Pull,
    running: Option<(Doubt, Trial<'a>)>,
    urgent: Turns,
}

impl<'a> Trials<'a> {
    pub fn new(pull: &'a Pull) -> Self {
        Self {
            pull,
            running: None,
            urgent: Turns::default(),
        }
    }

    /// Begins one, if there is a doubt and it is time. One that is urgent takes the place of one that is not.
    pub fn consider(
        &mut self,
        doubt: Option<Doubt>,
        current: &Parent,
        parents: &Parents,
        wish: &mut Wish,
        now: Instant,
    ) {
        if !doubt.is_some_and(Doubt::is_urgent) {
            self.urgent.wait = Duration::ZERO;
        }
        let Some(doubt) = doubt else { return };
        let waits = |running: Doubt| running.is_urgent() || !doubt.is_urgent();
        if self.running.as_ref().is_some_and(|one| waits(one.0)) {
            return;
        }
        let turns = match doubt.is_urgent() {
            true => &mut self.urgent,
            false => wish.turns(doubt, parents),
        };
        let Some(round) = turns.next(self.pull.pace.silence, now) else {
            return;
        };
        let is_other = |one: &&Parent| one.node != current.node;
        let wanted = |one: &&Parent| parents.wants(doubt, &one.node);
        let others = parents.list.iter().filter(is_other).filter(wanted);
        let count = others.clone().count().max(1);
        let Some(parent) = others.clone().nth(round % count).cloned() else {
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
        let mut weight = 0_usize;
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
                weight = weight.saturating_add(frame.weight());
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
                if frames.len() > MAX_OPENING || weight > MAX_OPENING_BYTES {
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
    fn waits_grow_and_a_new_wish_begins_anew() {
        let start = Instant::now();
        let first = Duration::from_secs(3);
        let parents = |node: &str| Parents {
            ordered: Some(node.to_owned()),
            ..Parents::default()
        };
        let mut wish = Wish::default();
        let mut tried = Vec::new();
        for second in 0..100 {
            let turns = wish.turns(Doubt::Ordered, &parents("a"));
            let now = start + Duration::from_secs(second);
            tried.extend(turns.next(first, now).map(|round| (second, round)));
        }
        assert_eq!(
            tried,
            [(0, 0), (3, 1), (9, 2), (21, 3), (45, 4), (69, 5), (93, 6)]
        );
        let now = start + Duration::from_secs(94);
        let turns = wish.turns(Doubt::Ordered, &parents("b"));
        assert_eq!(turns.next(first, now), Some(0));
    }

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
            (Doubt::Ordered, at(5, 76_000), true),
            (Doubt::Ordered, at(5, 75_999), false),
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
