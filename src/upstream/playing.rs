//! One connection's frames, put into the engine in their order, from the moment on when its node is known to be ahead
//! of this one: until then it could be below, and nothing of it is taken (see [`Standing`]).
//!
//! [`Standing`]: crate::cluster::parents::Standing

use std::future::pending;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::gathered::News;
use super::pull::{
    Doubt, Left, MAX_OPENING_BYTES, Memory, Opened, Ours, Parent, Parents, Pull, is_worth,
};
use super::pulls::{PullGuard, PullState};
use super::stream::codec_of;
use crate::base::ids::{Epoch, Position};
use crate::base::wall::unix_millis;
use crate::engine::format::{Params, Section, normalise_content_type};
use crate::engine::ring::TimeMark;
use crate::engine::{Content, Feeder, Replica};
use crate::wire::frame::{EndReason, Frame, FrameDecoder, Head, SectionFrame};
use crate::wire::icy::clean_field;

/// Most nodes that the bytes may have come through.
const MAX_PATH: usize = 64;

/// Frames that are kept until their parent is ahead: a head, and what is in effect at its first byte.
const MAX_HELD: usize = 64;

/// See the module.
pub(super) struct Playing<'a> {
    pull: &'a Pull,
    parent: &'a Parent,
    address: Option<IpAddr>,
    /// The frames from the last head on, while the parent is not ahead.
    held: Vec<Frame>,
    /// The epoch of the last head.
    epoch: Epoch,
    /// Steps from the origin, if this parent feeds.
    depth: usize,
    /// Since the parent is ahead; without a replica while it has no audio itself.
    guard: Option<PullGuard>,
    replica: Option<Replica>,
    /// Since when the parent's edge has been before our own.
    behind_since: Option<Instant>,
    began: Instant,
    /// When a nearer parent may be tried: spread, since others want its place too.
    improve_at: Instant,
}

impl<'a> Playing<'a> {
    pub(super) fn new(pull: &'a Pull, parent: &'a Parent, address: Option<IpAddr>) -> Self {
        let began = Instant::now();
        Self {
            pull,
            parent,
            address,
            held: Vec::new(),
            epoch: Epoch(0),
            depth: 0,
            guard: None,
            replica: None,
            behind_since: None,
            began,
            improve_at: began + pull.pace.improve.mul_f64(0.5 + rand::random::<f64>()),
        }
    }

    /// Why another parent should be tried, if there is a reason. The operator may have named one, or the rule know a
    /// better one, or that this one is on its way out.
    pub(super) fn doubt(&self, parents: &Parents, memory: &Memory, now: Instant) -> Option<Doubt> {
        let silence = self.pull.pace.silence;
        // Who just came is given the time to catch up.
        let settled = now.saturating_duration_since(self.began) >= silence;
        let Some(state) = self.pull.pulls.state(&self.pull.mount) else {
            return settled.then_some(Doubt::Starved);
        };
        if settled && state.starved >= silence {
            return Some(Doubt::Starved);
        }
        if settled && memory.freshness.lag(now) >= silence {
            return Some(Doubt::Late);
        }
        let is_other =
            |node: &Option<String>| node.as_ref().is_some_and(|node| *node != self.parent.node);
        if settled && is_other(&parents.ordered) {
            return Some(Doubt::Ordered);
        }
        let in_time = parents.leaving || now >= self.improve_at;
        (in_time && is_other(&parents.better)).then_some(Doubt::Better)
    }

    /// True if `other`, which was tried, is wanted still and worth the move.
    pub(super) fn is_left_for(&self, other: &Opened, doubt: Doubt, parents: &Parents) -> bool {
        let node = &other.parent.node;
        let is_worth = |ours: Ours| {
            // Where the source stalls for everybody the operator's word is left.
            let by_order = parents.wants(Doubt::Ordered, node) && other.edge == ours.at;
            by_order || is_worth(doubt, &ours, other.edge)
        };
        parents.list.contains(&other.parent)
            && parents.wants(doubt, node)
            && self.ours().is_none_or(is_worth)
    }

    /// What another parent is judged by; `None` before the first byte, when any is better.
    pub(super) fn ours(&self) -> Option<Ours> {
        let mount = self.pull.engine.mount(&self.pull.mount)?;
        Some(Ours {
            at: self.pull.position()?,
            rate: mount.bitrate() / 8,
            behind: self.pull.pace.silence,
        })
    }

    /// Completes when the mount was taken away.
    pub(super) async fn evicted(&self) {
        match &self.replica {
            Some(replica) => replica.evicted().cancelled().await,
            None => pending().await,
        }
    }

    /// True if the parent has been behind this node for longer than a parent may be silent.
    pub(super) fn is_outrun(&self, now: Instant) -> bool {
        let silence = self.pull.pace.silence;
        self.behind_since
            .is_some_and(|since| now.saturating_duration_since(since) >= silence)
    }

    /// Takes the frames that have come; true if there was one.
    pub(super) fn take_all(
        &mut self,
        decoder: &mut FrameDecoder,
        memory: &mut Memory,
    ) -> Result<bool, Left> {
        let mut any = false;
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => self.take(frame, memory)?,
                Ok(None) => return Ok(any),
                Err(error) => {
                    let why = format!("sent what cannot be read: {error}");
                    return Err(self.parent.failed(why));
                }
            }
            any = true;
        }
    }

    /// Takes one frame.
    pub(super) fn take(&mut self, frame: Frame, memory: &mut Memory) -> Result<(), Left> {
        if self.guard.is_some() {
            return self.follow(frame, memory);
        }
        let edge = match &frame {
            Frame::Head(head) => {
                self.check(head)?;
                self.held.clear();
                None
            }
            Frame::End { reason } => return Err(self.ended(*reason)),
            _ if self.held.is_empty() => return Err(self.failed("sent audio before its head")),
            Frame::Position {
                epoch, live_edge, ..
            } => Some((self.believed(*epoch)?, *live_edge)),
            Frame::Data { offset, bytes } => {
                Some((self.epoch, offset.saturating_add(bytes.len() as u64)))
            }
            _ => None,
        };
        if let Some((epoch, offset)) = edge {
            let edge = Position { epoch, offset };
            if memory
                .standing
                .may_follow(edge, self.depth.saturating_sub(1))
            {
                let held = std::mem::take(&mut self.held);
                let all = held.into_iter().chain([frame]);
                return all
                    .into_iter()
                    .try_for_each(|frame| self.follow(frame, memory));
            }
            self.note_behind(edge);
            return Ok(());
        }
        let weight = self.held.iter().map(Frame::weight).sum::<usize>();
        if self.held.len() >= MAX_HELD || weight + frame.weight() > MAX_OPENING_BYTES {
            return Err(self.failed("does not say where it is"));
        }
        self.held.push(frame);
        Ok(())
    }

    /// Takes a frame of a parent that is ahead.
    fn follow(&mut self, frame: Frame, memory: &mut Memory) -> Result<(), Left> {
        let now = std::time::Instant::now();
        if self.replica.is_some() {
            memory.heard(&self.parent.node, Instant::now());
        }
        match frame {
            Frame::Head(head) => self.head(head, memory)?,
            Frame::Data { offset, bytes } => {
                if let Some(replica) = &mut self.replica {
                    replica.data(offset, &bytes, now);
                    let at = self.pull.position().unwrap_or_default();
                    memory.standing.reached(at, self.depth);
                }
            }
            Frame::Title { offset, title } => {
                if let Some(replica) = self.at(offset) {
                    replica.title(offset, title);
                }
            }
            Frame::Section { offset, section } => {
                if let Some(replica) = self.at(offset) {
                    replica.section(offset, section_of(section));
                }
            }
            Frame::Time {
                offset,
                media_micros,
                wall_millis,
            } => {
                memory.freshness.stamp(wall_millis, Instant::now());
                self.time(TimeMark {
                    offset,
                    media_micros,
                    wall_millis,
                });
            }
            Frame::Position {
                epoch,
                live_edge,
                starved_millis,
            } => {
                let lag = memory.freshness.lag(Instant::now());
                let epoch = self.believed(epoch)?;
                self.position(epoch, live_edge, starved_millis, lag);
            }
            Frame::End { reason } => return Err(self.ended(reason)),
        }
        Ok(())
    }

    /// Says what is wrong with a head, if anything is.
    fn check(&mut self, head: &Head) -> Result<(), Left> {
        if head.mount != self.pull.mount.to_string() {
            return Err(self.failed("answered with another mount"));
        }
        if head.path.len() > MAX_PATH {
            return Err(self.failed("has the mount through too many nodes"));
        }
        if head.path.iter().any(|node| node == self.pull.own.as_str()) {
            return Err(self.failed("has the mount through this very node"));
        }
        let epoch = self.believed(head.epoch)?;
        let ours = self.pull.position();
        if epoch != Epoch(0) && ours.is_some_and(|ours| epoch < ours.epoch) {
            return Err(self.failed("is still at an earlier epoch"));
        }
        (self.epoch, self.depth) = (epoch, head.path.len());
        Ok(())
    }

    /// An epoch that the parent claims. One far ahead of the clock would outlive every honest one: believed, it would
    /// make this node take all later audio for old.
    fn believed(&self, epoch: u64) -> Result<Epoch, Left> {
        if Epoch(epoch) > (self.pull.latest)() {
            return Err(self.failed("claims an epoch more than a day ahead of the clock"));
        }
        Ok(Epoch(epoch))
    }

    fn head(&mut self, head: Head, memory: &mut Memory) -> Result<(), Left> {
        self.check(&head)?;
        let epoch = self.epoch;
        let ours = self.pull.position();
        memory
            .standing
            .reached(ours.unwrap_or_default(), self.depth);
        let lost = match ours {
            Some(ours) if ours.epoch == epoch => head.start.saturating_sub(ours.offset),
            _ => 0,
        };
        let state = PullState {
            parent: self.parent.node.clone(),
            path: head.path.clone(),
            epoch,
            live_edge: head.start,
            lag: memory.freshness.lag(Instant::now()),
            ..PullState::default()
        };
        let is_first = self.replica.is_none();
        match &self.guard {
            Some(guard) => guard.update(|entry| *entry = state),
            None => self.guard = Some(self.pull.pulls.enter(&self.pull.mount, state)),
        }
        // A parent that waits for its own first byte: what we have is kept until it has more.
        if epoch == Epoch(0) {
            return Ok(());
        }
        self.begin(epoch, head)?;
        let text = format!("pulling from `{}`", self.parent.node);
        if memory.report.is_over() {
            let pull = self.pull;
            pull.pulls
                .say(News::Fine, &self.parent.node, &pull.mount, &text);
        }
        if is_first {
            self.arrived(lost, memory);
        }
        Ok(())
    }

    /// The parent feeds: if it was another before, that is a failover.
    fn arrived(&self, lost: u64, memory: &mut Memory) {
        let mount = &self.pull.mount;
        let Some(failover) = memory.arrived(mount, &self.parent.node, lost, Instant::now()) else {
            return;
        };
        self.pull.pulls.note(failover);
    }

    fn begin(&mut self, epoch: Epoch, head: Head) -> Result<(), Left> {
        let replica = match &mut self.replica {
            Some(replica) => replica,
            None => {
                let feeder = Feeder {
                    address: self.address,
                    agent: self.parent.node.clone(),
                    since_unix_millis: unix_millis(),
                };
                let opened = self.pull.engine.open_replica(&self.pull.mount, feeder);
                self.replica.insert(opened)
            }
        };
        let carried = |name: &str| name.starts_with("icy-") || name.starts_with("ice-");
        let headers = head.headers.into_iter();
        let content = Content {
            content_type: clean_field(&normalise_content_type(&head.content_type)),
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .filter(|(name, _)| carried(name))
                .collect(),
        };
        replica.begin(epoch, head.start, content);
        Ok(())
    }

    /// The replica, gone on to `offset` if that lies beyond its end: a parent says what is at an offset after
    /// the bytes before it, so those are lost.
    fn at(&mut self, offset: u64) -> Option<&mut Replica> {
        let replica = self.replica.as_mut()?;
        if replica.position().is_some_and(|at| at.offset < offset) {
            replica.data(offset, &[], std::time::Instant::now());
        }
        Some(replica)
    }

    fn time(&mut self, mark: TimeMark) {
        if let Some(replica) = self.at(mark.offset) {
            // An older one is known, and must not set our clock back.
            if replica
                .position()
                .is_some_and(|at| at.offset == mark.offset)
            {
                replica.time(mark);
            }
        }
    }

    fn position(&mut self, epoch: Epoch, live_edge: u64, starved_millis: u64, lag: Duration) {
        if let Some(guard) = &self.guard {
            guard.update(|entry| {
                entry.epoch = epoch;
                entry.live_edge = live_edge;
                entry.starved = Duration::from_millis(starved_millis);
                entry.lag = lag;
            });
        }
        if let Some(replica) = self.replica.as_mut().filter(|_| epoch == self.epoch) {
            replica.parent_at(live_edge);
        }
        self.note_behind(Position {
            epoch,
            offset: live_edge,
        });
    }

    fn note_behind(&mut self, edge: Position) {
        let ours = self.pull.position();
        let behind = ours.is_some_and(|at| at.epoch == edge.epoch && edge.offset < at.offset);
        self.behind_since = match self.behind_since {
            Some(since) if behind => Some(since),
            _ => behind.then(Instant::now),
        };
    }

    fn ended(&self, reason: EndReason) -> Left {
        match reason {
            // A relay says so too when it has only lost its own parents; others may still have the mount.
            EndReason::Ended if self.depth == 1 => Left::Ended,
            EndReason::Over => Left::Ended,
            EndReason::Ended => self.failed("has lost the mount"),
            EndReason::EpochChanged => Left::EpochChanged,
            EndReason::Gone => Left::Gone,
            EndReason::Shutdown => self.failed("shuts down"),
        }
    }

    fn failed(&self, why: &str) -> Left {
        self.parent.failed(why.to_owned())
    }
}

fn section_of(frame: SectionFrame) -> Section {
    Section {
        params: Params {
            codec: codec_of(&frame.codec),
            sample_rate: frame.sample_rate,
            channels: frame.channels,
            profile: frame.profile,
        },
        bitrate: frame.bitrate,
        header: frame.header,
    }
}
