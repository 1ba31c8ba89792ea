//! Where a cursor may stand: over the end of a ring that was replaced, back into a window that it fell out of.

use std::sync::Arc;
use std::time::Duration;

use super::detour;
use super::entry::{Entry, Phase};
use super::views::Views;
use crate::engine::ring::{Burst, Closed, Ring, Standing};
use crate::telemetry::EndReason;

/// A listener that falls out of the ring twice within this time is closed.
const SLOW_AGAIN_WITHIN: Duration = Duration::from_secs(600);

/// Changes of place in one visit: into a new epoch, and from an edge in it that is gone already.
const MOVES: usize = 4;

/// Brings the cursor to where bytes are: over the end of a ring that was replaced, back into a window that it
/// fell out of. Gives the place of the view to read by, or the reason why the listener must go.
pub(super) fn settle(
    entry: &mut Entry,
    views: &mut Views,
    millis: u64,
) -> Result<usize, EndReason> {
    if entry.leaving {
        detour::depart(entry);
    }
    let mut place = views.place_of(entry);
    for _ in 0..MOVES {
        let standing = match views.get(place) {
            Some(view) => view.standing(entry.offset),
            None => return Ok(place),
        };
        // A view is as old as the tick: what it does not have may have come since.
        if standing != Standing::Data && entry.ring.standing(entry.offset) != standing {
            place = views.renew(entry);
            continue;
        }
        match standing {
            Standing::Data => break,
            Standing::Behind if entry.offset < entry.ring.gap_end() => {
                if !over_gap(entry, millis)? {
                    break;
                }
            }
            Standing::Behind => jump(entry, millis)?,
            Standing::Wait => match entry.ring.closed() {
                Closed::Open => break,
                Closed::Ended => match detour::turn_off(entry) {
                    detour::Way::Found => {}
                    detour::Way::Later => break,
                    detour::Way::None => return Err(EndReason::Ended),
                },
                Closed::Replaced => {
                    if !follow(entry)? {
                        break;
                    }
                }
            },
        }
        place = views.place_of(entry);
    }
    Ok(place)
}

/// Bytes were lost between this node and its parent: the listener goes on at the next frame edge, with no fault
/// of its own. False until that edge is known: it waits.
fn over_gap(entry: &mut Entry, millis: u64) -> Result<bool, EndReason> {
    let gap = entry.ring.gap_end();
    if gap < entry.ring.start() {
        jump(entry, millis)?;
        return Ok(true);
    }
    let Some(edge) = entry.ring.edge_from(gap) else {
        return Ok(false);
    };
    if entry.meta_sent > 0 {
        // Within a metadata block there is no way back.
        return Err(EndReason::Slow);
    }
    entry.offset = edge;
    restart_section(entry);
    Ok(true)
}

/// The one jump of a listener that fell out of the ring: to an edge at the burst point, metadata in phase.
fn jump(entry: &mut Entry, millis: u64) -> Result<(), EndReason> {
    let again =
        u128::from(millis.saturating_sub(entry.side.jumped)) < SLOW_AGAIN_WITHIN.as_millis();
    // Within a metadata block there is no way back: the rest of the block is gone with its title.
    if (entry.side.jumped != 0 && again) || entry.meta_sent > 0 {
        return Err(EndReason::Slow);
    }
    let burst = Burst {
        bytes: u64::MAX,
        longest: Duration::from_secs(10),
        shortest: Duration::ZERO,
    };
    entry.offset = entry.ring.burst_start(burst).0;
    entry.side.jumped = millis;
    entry.side.session.counters().add_slow_jumps(1);
    restart_section(entry);
    Ok(())
}

/// The next epoch, where the same decoder plays on: from its first edge. False while it has none.
fn follow(entry: &mut Entry) -> Result<bool, EndReason> {
    let next = entry.side.mount.ring();
    if Arc::ptr_eq(&next, &entry.ring) {
        return Ok(false);
    }
    let parameters = |ring: &Ring| ring.section().map(|section| section.params.clone());
    let Some(wanted) = parameters(&next) else {
        return match next.closed() {
            Closed::Ended => Err(EndReason::Ended),
            Closed::Open | Closed::Replaced => Ok(false),
        };
    };
    if parameters(&entry.ring).as_ref() != Some(&wanted) {
        return Err(EndReason::Changed);
    }
    let Some(edge) = next.edge_from(next.start()) else {
        return Ok(false);
    };
    entry.ring = next;
    entry.offset = edge;
    entry.title_seen = 0;
    restart_section(entry);
    Ok(true)
}

/// Ogg needs the section's header pages again; the head, if it is still on its way, goes first.
pub(super) fn restart_section(entry: &mut Entry) {
    if entry.leaving {
        // The edge that it was to leave at lies in other bytes.
        entry.leave();
    }
    if entry.phase != Phase::Head {
        entry.phase = Phase::Header;
        entry.prefix_sent = 0;
    }
}
