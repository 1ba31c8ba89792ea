//! From one mount's ring to another's, at frame edges: to the fallback of a mount that has ended, and back.
//!
//! Its socket and the phase of its metadata stay as they are; the burst is not repeated. Within a metadata block or
//! header pages that went out in part nobody moves.

use std::sync::Arc;
use std::time::Duration;

use super::cursor::restart_section;
use super::entry::{Entry, NEXT_EDGE, OTHERS_TITLE, Phase};
use crate::engine::detours::misfit;
use crate::engine::mount::{Mount, MountState};
use crate::engine::ring::Ring;

/// A source that has played for no longer than this is heard from its beginning.
const FRESH: Duration = Duration::from_secs(2);

/// What becomes of a listener whose mount has ended.
pub(super) enum Way {
    /// It reads its fallback now.
    Found,
    /// Something has to go out whole first.
    Later,
    /// It ends.
    None,
}

/// Its signpost may have turned: one that has left its mount is on its way back, one that reads to the end of a
/// mount which is over finds its way there.
pub(super) fn look_up(entry: &mut Entry) {
    let side = &entry.side;
    let stays = !side.home.returns()
        || side.mount.state() == MountState::Ended
        || goal(entry).is_none_or(|goal| !fits(entry, &goal));
    if stays {
        entry.leaving = false;
    } else {
        entry.leave();
    }
}

/// A listener that is to leave does so once it has come to an edge.
pub(super) fn depart(entry: &mut Entry) {
    let Some(goal) = goal(entry) else {
        entry.leaving = false;
        return;
    };
    if is_torn(entry) {
        return;
    }
    if entry.side.leave_at == NEXT_EDGE {
        let ring = &entry.ring;
        // Where nothing comes, the last byte is followed by an edge.
        let quiet = || entry.offset >= ring.end() && entry.side.mount.state() != MountState::Live;
        match ring.edge_from(entry.offset) {
            Some(edge) => entry.side.leave_at = edge,
            None if quiet() => entry.side.leave_at = entry.offset,
            None => return,
        }
    }
    if entry.offset >= entry.side.leave_at {
        // Where it cannot stand, it goes on here; the signpost calls again when it turns.
        if !fits(entry, &goal) || !enter(entry, goal) {
            entry.leaving = false;
        }
    }
}

/// The ring has ended and was read to its end: on to where the signpost points.
pub(super) fn turn_off(entry: &mut Entry) -> Way {
    let Some(goal) = goal(entry).filter(|goal| fits(entry, goal)) else {
        return Way::None;
    };
    if is_torn(entry) {
        return Way::Later;
    }
    if enter(entry, goal) {
        // What it was given ahead was used up while its source was waited for.
        entry.lead = 0;
        Way::Found
    } else {
        Way::None
    }
}

/// Where it is to be, if that is not where it is.
fn goal(entry: &Entry) -> Option<Arc<Mount>> {
    let goal = entry.side.home.goal()?;
    (!Arc::ptr_eq(&goal, &entry.side.mount)).then_some(goal)
}

fn is_torn(entry: &Entry) -> bool {
    entry.meta_sent > 0 || (entry.phase == Phase::Header && entry.prefix_sent > 0)
}

fn fits(entry: &Entry, goal: &Mount) -> bool {
    let (from, to) = (entry.side.mount.content(), goal.content());
    let (here, there) = (params(&entry.ring), params(&goal.ring()));
    let here = (from.content_type.as_str(), here.as_ref());
    misfit(here, (to.content_type.as_str(), there.as_ref())).is_none()
}

fn params(ring: &Ring) -> Option<crate::engine::format::Params> {
    ring.section().map(|section| section.params.clone())
}

fn enter(entry: &mut Entry, goal: Arc<Mount>) -> bool {
    let ring = goal.ring();
    let Some(edge) = ring.entry_edge(FRESH) else {
        return false;
    };
    entry.ring = ring;
    entry.offset = edge;
    entry.title_seen = OTHERS_TITLE;
    entry.leaving = false;
    let home = entry.side.home.id();
    if goal.id == *home {
        goal.counters.add_fallback_returns(1);
    } else if entry.side.mount.id == *home {
        entry.side.mount.counters.add_fallback_moves(1);
    }
    entry.side.mount = goal;
    restart_section(entry);
    true
}
