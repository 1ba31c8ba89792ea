//! Whether a source that sends also sounds: a source that sends silence looks alive to everyone else.
//!
//! Once a second a fifth of a second of each mount is decoded (MP3, AAC, Vorbis, FLAC); what cannot be decoded
//! (Opus, and whatever the decoder refuses) is judged by its rate against the mount's own history, which
//! works for variable rates only. Must never: change a byte, hold a ring longer than it copies, or be asked by a
//! listener's path. Below it: `engine`. Above it: `app`, which asks each second and tells what changed.

mod level;
mod rate;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::ids::{Epoch, MountId};
use crate::engine::format::Codec;
use crate::engine::{Mount, MountState};
use rate::History;
use watch::{Heard, Watch};

/// What counts as silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A mount is silent after this long.
    pub after: Duration,
    /// Decibels below full scale under which the sound's effective value is silence.
    pub below: u32,
    /// A silent mount sounds again after this long of sound.
    pub back: Duration,
}

/// Audio that is looked at in each round.
const WINDOW: Duration = Duration::from_millis(200);

/// Most bytes of a window: FLAC of 24 bits at 96 kHz has half of that.
const MAX_WINDOW: u64 = 256 * 1024;

/// All mounts of a node.
#[derive(Debug, Default)]
pub struct Meter {
    mounts: HashMap<MountId, Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    watch: Watch,
    history: History,
    /// The live edge of the last round: where it has not moved there is nothing to judge.
    edge: (Epoch, u64),
}

impl Meter {
    /// Looks at each mount that is fed; those that became silent (true) or sound again (false). Decodes, so it
    /// is to be called where blocking is allowed.
    pub fn round(
        &mut self,
        mounts: &[Arc<Mount>],
        config: &Config,
        now: Instant,
    ) -> Vec<(MountId, bool)> {
        self.mounts
            .retain(|id, _| mounts.iter().any(|mount| &mount.id == id));
        let fed = mounts
            .iter()
            .filter(|mount| mount.state() == MountState::Live);
        fed.filter_map(|mount| {
            let kept = self.mounts.entry(mount.id.clone()).or_default();
            let heard = kept.listen(mount, config);
            let changed = kept.watch.observe(heard, now, config)?;
            Some((mount.id.clone(), changed))
        })
        .collect()
    }

    /// True if the mount is silent by now; none if it is not known.
    pub fn is_silent(&self, mount: &MountId) -> Option<bool> {
        Some(self.mounts.get(mount)?.watch.is_silent())
    }
}

impl Kept {
    fn listen(&mut self, mount: &Mount, config: &Config) -> Heard {
        let ring = mount.ring();
        let edge = (ring.epoch(), ring.end());
        if std::mem::replace(&mut self.edge, edge) == edge {
            return Heard::Nothing;
        }
        let Some(section) = ring.section() else {
            return Heard::Nothing;
        };
        let Some((start, millis)) = window(&ring) else {
            return Heard::Nothing;
        };
        let audio = level::copy(&ring.pinned(), start, edge.1);
        let rate = audio.len() as u64 * 1000 / millis.max(1);
        let by_rate = self.history.judge(rate);
        if matches!(
            section.params.codec,
            Codec::Opus | Codec::Ogg | Codec::Opaque
        ) {
            return by_rate;
        }
        // A decoder that stumbles over what somebody sent costs this round and nothing else.
        let decoded = std::panic::catch_unwind(|| {
            level::effective(section.params.codec, &section.header, audio)
        });
        match decoded {
            Ok(Some(decibels)) if decibels < -f64::from(config.below) => Heard::Silence,
            Ok(Some(_)) => Heard::Sound,
            _ => by_rate,
        }
    }
}

/// The newest edge that has a whole window after it, and the media time from there to the live edge.
fn window(ring: &crate::engine::ring::Ring) -> Option<(u64, u64)> {
    let (end, now) = (ring.end(), ring.media_micros());
    ring.with_indexes(|indexes| {
        let mut marks = indexes.times.iter().rev();
        let mark = marks
            .find(|mark| Duration::from_micros(now.saturating_sub(mark.media_micros)) >= WINDOW)?;
        let millis = now.saturating_sub(mark.media_micros) / 1000;
        (end.saturating_sub(mark.offset) <= MAX_WINDOW).then_some((mark.offset, millis))
    })
}

#[cfg(test)]
mod tests;
