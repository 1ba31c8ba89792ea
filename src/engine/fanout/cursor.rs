//! Where a cursor may stand: over the end of a ring that was replaced, back into a window that it fell out of.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, Phase};
use crate::engine::ring::{Burst, Closed, Ring, Standing};
use crate::telemetry::EndReason;

/// A listener that falls out of the ring twice within this time is closed.
const SLOW_AGAIN_WITHIN: Duration = Duration::from_secs(600);

/// Brings the cursor to where bytes are: over the end of a ring that was replaced, back into a window that it
/// fell out of. Gives the reason where the listener must go.
pub(super) fn settle(entry: &mut Entry, millis: u32) -> Option<EndReason> {
    match entry.ring.standing(entry.offset) {
        Standing::Data => None,
        Standing::Behind => jump(entry, millis),
        Standing::Wait => match entry.ring.closed() {
            Closed::Open => None,
            Closed::Ended => Some(EndReason::Ended),
            Closed::Replaced => follow(entry),
        },
    }
}

/// The one jump of a listener that fell out of the ring: to an edge at the burst point, metadata in phase.
fn jump(entry: &mut Entry, millis: u32) -> Option<EndReason> {
    let again = u128::from(millis.saturating_sub(entry.jumped)) < SLOW_AGAIN_WITHIN.as_millis();
    // Within a metadata block there is no way back: the rest of the block is gone with its title.
    if (entry.jumped != 0 && again) || entry.meta_sent > 0 {
        return Some(EndReason::Slow);
    }
    let burst = Burst {
        bytes: u64::MAX,
        longest: Duration::from_secs(10),
        shortest: Duration::ZERO,
    };
    entry.offset = entry.ring.burst_start(burst).0;
    entry.jumped = millis;
    entry.side.session.counters().add_slow_jumps(1);
    restart_section(entry);
    None
}

/// The next epoch, where the same decoder plays on: from its first edge.
fn follow(entry: &mut Entry) -> Option<EndReason> {
    let next = entry.side.mount.ring();
    if Arc::ptr_eq(&next, &entry.ring) {
        return None;
    }
    let parameters = |ring: &Ring| ring.section().map(|section| section.params.clone());
    let Some(wanted) = parameters(&next) else {
        return (next.closed() == Closed::Ended).then_some(EndReason::Ended);
    };
    if parameters(&entry.ring).as_ref() != Some(&wanted) {
        return Some(EndReason::Changed);
    }
    let edge = next.edge_from(next.start())?;
    entry.ring = next;
    entry.offset = edge;
    entry.title_seen = 0;
    restart_section(entry);
    None
}

/// Ogg needs the section's header pages again; the head, if it is still on its way, goes first.
fn restart_section(entry: &mut Entry) {
    if entry.phase != Phase::Head {
        entry.phase = Phase::Header;
        entry.prefix_sent = 0;
    }
}
