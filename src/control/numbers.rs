//! Numbers of streams, as Shoutcast counts them from 1.

use std::collections::BTreeSet;

use super::Control;
use crate::base::ids::MountId;
use crate::engine::MountState;

impl Control {
    /// Returns the mount of stream `number`: of 1 the Shoutcast source's, else the first one that is live; of every other the
    /// one at that place by name. Those that come when they are asked for count, hidden ones do not.
    pub fn stream_of(&self, number: usize) -> Option<MountId> {
        let streams = self.streams();
        if number > 1 {
            return streams.into_iter().nth(number - 1);
        }
        let own = self.config().shoutcast_mount.clone();
        if streams.contains(&own) {
            return Some(own);
        }
        let live = streams.iter().find(|id| self.is_live(id)).cloned();
        live.or_else(|| streams.into_iter().next())
    }

    /// True for a mount that plays here, or comes when it is asked for.
    pub fn is_live(&self, id: &MountId) -> bool {
        let here = self.engine.mount(id);
        let plays =
            here.is_some_and(|mount| mount.state() == MountState::Live && mount.is_playable());
        plays || self.is_carried_live(id)
    }

    fn streams(&self) -> BTreeSet<MountId> {
        let here = self.engine.mounts().into_iter();
        let here =
            here.filter(|m| m.state() != MountState::Ended && !m.content().content_type.is_empty());
        let mut streams: BTreeSet<MountId> = here.map(|mount| mount.id.clone()).collect();
        streams.extend(self.offered_mounts());
        streams.retain(|id| !self.is_hidden(id));
        streams
    }
}
