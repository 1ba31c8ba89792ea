//! Mounts whose source sends silence, where the operator wants their fallback to be heard meanwhile.
//!
//! Their own mount stays: its source is fed in, its ring is written, and its listeners come back to it. Who finds out
//! (`silence`) and who passes it on (`control`) is none of the engine's business.

use std::collections::HashSet;
use std::sync::Arc;

use super::detours::{Fallback, misfit};
use super::{Engine, Mount};
use crate::base::ids::MountId;

impl Engine {
    /// The listeners of these mounts are to hear their fallback although a source feeds them; those of mounts that
    /// are not named any more are to come back. Relays hear of it by their primary.
    pub fn set_silent(&self, silent: HashSet<MountId>) {
        if **self.detours.silent.load() != silent {
            self.detours.silent.store(Arc::new(silent));
            self.announce();
        }
    }

    /// True while the listeners of `id` are to hear its fallback since its source is silent.
    pub fn is_bypassed(&self, id: &MountId) -> bool {
        self.detours.silent.load().contains(id)
    }

    /// The first of a mount's fallbacks that is live, those that are silent themselves last.
    pub(super) fn first_live(&self, chain: &[MountId]) -> Option<Arc<Mount>> {
        let sounds = |id: &&MountId| !self.is_bypassed(id);
        let sounding = chain.iter().filter(sounds).find_map(|id| self.live(id));
        sounding.or_else(|| chain.iter().find_map(|id| self.live(id)))
    }

    /// What is better than the silence of `own`: a fallback that is live, sounds, and plays on in the same decoder,
    /// so that whoever hears it can come back.
    ///
    /// # Errors
    /// Why nothing is, in words.
    pub(super) fn better_than(
        &self,
        own: &Mount,
        chain: &[MountId],
    ) -> Result<Arc<Mount>, &'static str> {
        let there = self.first_live(chain);
        let there = there.ok_or("no fallback of it is live")?;
        if self.is_bypassed(&there.id) {
            return Err("its fallback is silent too");
        }
        misfit_between(own, &there).map_or(Ok(there), Err)
    }

    /// What is heard in place of the silence of `id`.
    ///
    /// # Errors
    /// Why nothing is, in words.
    pub fn instead_of_silence(&self, id: &MountId) -> Result<Arc<Mount>, &'static str> {
        if let Some(there) = self.stand_in(id) {
            return Ok(there);
        }
        self.fallback_of(id).ok_or("it has no fallback")?;
        let own = self.mount(id).ok_or("it is not there")?;
        self.better_than(&own, &self.fallbacks(id))
    }

    /// Whether listeners that hear `fallback` come back while it plays. From the fallback of a silent mount they are
    /// moved to and fro in any case until the sound is back.
    pub(super) fn is_followed(&self, id: &MountId, fallback: Option<&Fallback>) -> bool {
        self.is_bypassed(id) || fallback.is_none_or(|fallback| fallback.returns)
    }
}

/// Why listeners of the one cannot go on with the other in the same connection; `None` where they can.
pub(super) fn misfit_between(from: &Mount, to: &Mount) -> Option<&'static str> {
    let format = |mount: &Mount| {
        let params = mount.ring().section().map(|section| section.params.clone());
        (mount.content().content_type.clone(), params)
    };
    let (from, to) = (format(from), format(to));
    misfit((&from.0, from.1.as_ref()), (&to.0, to.1.as_ref()))
}
