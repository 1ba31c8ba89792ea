//! Where listeners go when their mount's source stays away: to its fallback, and back when it returns.
//!
//! Each name that anybody listens to has a [`Signpost`], which outlives the mounts of that name. The engine turns
//! it whenever a mount begins to play or ends; the shards follow it (`fanout::detour`). Must never: touch a
//! listener, or decide for how long a source is waited for (`hold` does).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;

use super::format::{Codec, Params};
use super::silent::misfit_between;
use super::{Engine, Mount, MountState};
use crate::base::ids::MountId;

/// Mounts of a chain of fallbacks that are tried at most.
const LONGEST_CHAIN: usize = 16;

/// Signposts and ended mounts that are kept while nobody stands at them.
const KEPT: usize = 1024;

/// Where the listeners of a mount go when its source is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The mount that they hear then.
    pub mount: MountId,
    /// They come back when the source does.
    pub returns: bool,
}

/// Where those who asked for one mount are to listen now.
#[derive(Debug)]
pub(super) struct Signpost {
    id: MountId,
    goal: Mutex<Weak<Mount>>,
    returns: AtomicBool,
}

impl Signpost {
    pub(super) fn new(id: MountId) -> Self {
        Self {
            id,
            goal: Mutex::default(),
            returns: AtomicBool::new(true),
        }
    }

    /// The mount that they asked for.
    pub fn id(&self) -> &MountId {
        &self.id
    }

    /// The mount to read; `None` where there is no detour and no way on.
    pub fn goal(&self) -> Option<Arc<Mount>> {
        self.lock().upgrade()
    }

    /// True where it is to be followed while the mount that is read still plays.
    pub fn returns(&self) -> bool {
        self.returns.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Weak<Mount>> {
        self.goal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if it points elsewhere now.
    fn turn(&self, goal: Option<&Arc<Mount>>) -> bool {
        let next = goal.map_or_else(Weak::new, Arc::downgrade);
        let before = std::mem::replace(&mut *self.lock(), next.clone());
        !Weak::ptr_eq(&before, &next)
    }
}

/// What the engine keeps for the detours.
#[derive(Debug, Default)]
pub(super) struct Detours {
    posts: Mutex<HashMap<MountId, Arc<Signpost>>>,
    /// Mounts that ended and have a fallback, without their bytes.
    missed: Mutex<HashMap<MountId, Arc<Mount>>>,
    /// What the primary says of fallbacks, on a relay.
    told: ArcSwap<HashMap<MountId, Fallback>>,
    /// Mounts whose source is silent and whose fallback is to be heard meanwhile.
    pub silent: ArcSwap<HashSet<MountId>>,
}

/// Why a decoder that plays the one cannot go on with the other; `None` where it can.
pub(super) fn misfit(
    (from_type, from): (&str, Option<&Params>),
    (to_type, to): (&str, Option<&Params>),
) -> Option<&'static str> {
    let (Some(from), Some(to)) = (from, to) else {
        return Some("the format of one of them is not known");
    };
    if from.codec != to.codec {
        return Some("their codecs differ");
    }
    if from.codec == Codec::Opaque {
        return Some("streams of this type have no known frame edges");
    }
    if from.codec.is_ogg() {
        // A chained stream: the next section brings its own setup.
        return None;
    }
    if from_type != to_type {
        return Some("their content types differ");
    }
    (from != to).then_some("their codec parameters differ (sample rate, channels or profile)")
}

/// The fallbacks of `id` in the order in which they are tried: each is the fallback of the one before.
fn chain(id: &MountId, of: impl Fn(&MountId) -> Option<Fallback>) -> Vec<MountId> {
    let mut chain: Vec<MountId> = Vec::new();
    while chain.len() < LONGEST_CHAIN
        && let Some(next) = of(chain.last().unwrap_or(id))
        && next.mount != *id
        && !chain.contains(&next.mount)
    {
        chain.push(next.mount);
    }
    chain
}

impl Engine {
    /// The fallback of a mount: by this node's settings, else by the primary's word, else the general one.
    pub fn fallback_of(&self, id: &MountId) -> Option<Fallback> {
        let config = self.config.load();
        let own = config.preset(id).and_then(|own| own.fallback.clone());
        own.or_else(|| self.detours.told.load().get(id).cloned())
            .or_else(|| config.fallback.clone())
            .filter(|fallback| fallback.mount != *id)
    }

    /// All that `id` may be replaced by, the first choice first.
    pub fn fallbacks(&self, id: &MountId) -> Vec<MountId> {
        chain(id, |id| self.fallback_of(id))
    }

    /// Mounts that are known to have a fallback: by the settings, or since their source was lost.
    pub fn replaceable(&self) -> Vec<MountId> {
        let config = self.config.load();
        let named = config.presets.iter().map(|(id, _)| id.clone());
        let missed = lock(&self.detours.missed);
        let mut all: Vec<MountId> = named.chain(missed.keys().cloned()).collect();
        all.retain(|id| self.fallback_of(id).is_some());
        all.sort();
        all.dedup();
        all
    }

    /// Takes the primary's word on fallbacks.
    pub fn tell_fallbacks(&self, told: HashMap<MountId, Fallback>) {
        if **self.detours.told.load() != told {
            self.detours.told.store(Arc::new(told));
            self.direct();
        }
    }

    /// The fallback that somebody who asks for `id` hears now; `None` where `id` itself plays, or nothing does.
    /// Only names of the settings and lost sources are replaced: a name that nobody knows has no audio.
    pub fn stand_in(&self, id: &MountId) -> Option<Arc<Mount>> {
        let own = self.mount(id).filter(|own| own.is_playable());
        let plays = own.is_some() && !self.is_bypassed(id);
        if plays || !self.is_replaceable(id) {
            return None;
        }
        let chain = self.fallbacks(id);
        match own {
            Some(own) => self.better_than(&own, &chain).ok(),
            None => self.first_live(&chain),
        }
    }

    /// True where listeners of `id` may be given a fallback.
    pub fn is_replaceable(&self, id: &MountId) -> bool {
        let known = self.config.load().preset(id).is_some()
            || self.detours.told.load().contains_key(id)
            || self.is_bypassed(id)
            || lock(&self.detours.missed).contains_key(id);
        known && self.fallback_of(id).is_some()
    }

    /// Ended mounts whose fallback may play instead, by name. Their listeners are still counted on them.
    pub fn missed(&self) -> Vec<Arc<Mount>> {
        let missed = lock(&self.detours.missed);
        let mut all: Vec<Arc<Mount>> = missed.values().cloned().collect();
        drop(missed);
        all.retain(|mount| self.mount(&mount.id).is_none());
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Lets go of a mount that ended, unless somebody who asked for it listens to its fallback.
    pub fn forget(&self, id: &MountId) {
        lock(&self.detours.missed)
            .retain(|known, mount| known != id || mount.counters.listeners() > 0);
    }

    pub(super) fn live(&self, id: &MountId) -> Option<Arc<Mount>> {
        let mount = self.mount(id)?;
        (mount.state() == MountState::Live && mount.is_playable()).then_some(mount)
    }

    /// Where those who asked for `id` are to be: at its own mount where that plays and is not to be passed by, else at
    /// the first fallback that is live. Nowhere in particular where it has no fallback.
    fn goal(&self, id: &MountId, so_far: Option<Arc<Mount>>) -> Option<Arc<Mount>> {
        self.fallback_of(id)?;
        let chain = self.fallbacks(id);
        let Some(own) = self.mount(id).filter(|own| own.is_playable()) else {
            return self.first_live(&chain);
        };
        if !self.is_bypassed(id) {
            return Some(own);
        }
        let better = self.better_than(&own, &chain).ok();
        // A pause of the fallback sends nobody back into the silence.
        let waits = |to: &Arc<Mount>| chain.contains(&to.id) && to.is_playable();
        better.or_else(|| so_far.filter(waits)).or(Some(own))
    }

    /// The signpost of a name.
    pub(super) fn signpost(&self, id: &MountId) -> Arc<Signpost> {
        let mut posts = lock(&self.detours.posts);
        if let Some(post) = posts.get(id) {
            return Arc::clone(post);
        }
        if posts.len() >= KEPT {
            posts.retain(|_, post| Arc::strong_count(post) > 1);
        }
        let post = Arc::new(Signpost::new(id.clone()));
        posts.insert(id.clone(), Arc::clone(&post));
        self.turn(&post);
        post
    }

    fn turn(&self, post: &Signpost) -> bool {
        let fallback = self.fallback_of(&post.id);
        let followed = self.is_followed(&post.id, fallback.as_ref());
        post.returns.store(followed, Ordering::Relaxed);
        let goal = self.goal(&post.id, post.goal());
        let turned = post.turn(goal.as_ref());
        if turned && let Some(goal) = goal {
            tracing::debug!(mount = %post.id, at = %goal.id, "listeners of this mount are to be there");
        }
        turned
    }

    /// Turns every signpost to where it should point now, and sends the shards' listeners there.
    pub(super) fn direct(&self) {
        let posts = lock(&self.detours.posts);
        // Each one, not only up to the first that turns.
        let turned = posts.values().filter(|post| self.turn(post)).count();
        drop(posts);
        if turned > 0 {
            self.shards.follow_signposts();
        }
    }

    /// A mount that is no more in the list ends; its listeners are shown the way to its fallback first.
    pub(super) fn part(&self, mount: &Arc<Mount>) {
        if self.fallback_of(&mount.id).is_some() {
            let mut missed = lock(&self.detours.missed);
            if missed.len() >= KEPT {
                missed.retain(|_, mount| mount.counters.listeners() > 0);
            }
            missed.insert(mount.id.clone(), Arc::clone(mount));
        }
        self.direct();
        self.say_where(mount);
        mount.end();
        mount.let_bytes_go();
    }

    fn say_where(&self, mount: &Mount) {
        let listeners = mount.counters.listeners();
        let Some(goal) = self.goal(&mount.id, None).filter(|_| listeners > 0) else {
            return;
        };
        match misfit_between(mount, &goal) {
            None => {
                tracing::info!(mount = %mount.id, fallback = %goal.id, listeners, "the source is gone: its listeners go to the fallback");
            }
            Some(why) => {
                tracing::warn!(mount = %mount.id, fallback = %goal.id, listeners, why, "the source is gone and the fallback cannot follow in the same connection: its listeners end");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mp3(sample_rate: u32) -> Params {
        Params {
            codec: Codec::Mp3,
            sample_rate,
            channels: 2,
            profile: 0x13,
        }
    }

    #[test]
    fn what_one_decoder_can_play_on() {
        let fits = |from: (&str, &Params), to: (&str, &Params)| {
            misfit((from.0, Some(from.1)), (to.0, Some(to.1)))
        };
        let (high, low) = (mp3(48_000), mp3(44_100));
        let mpeg = "audio/mpeg";
        assert_eq!(fits((mpeg, &high), (mpeg, &high)), None);
        let why = fits((mpeg, &high), (mpeg, &low)).unwrap();
        assert!(why.contains("sample rate"), "{why}");
        let why = fits((mpeg, &high), ("audio/mp3", &high)).unwrap();
        assert!(why.contains("content types"), "{why}");
        let of = |codec, rate| Params { codec, ..mp3(rate) };
        let (vorbis, other) = (of(Codec::Vorbis, 48_000), of(Codec::Vorbis, 44_100));
        assert_eq!(
            fits(("audio/ogg", &vorbis), ("application/ogg", &other)),
            None
        );
        let opus = of(Codec::Opus, 48_000);
        assert!(fits(("audio/ogg", &vorbis), ("audio/ogg", &opus)).is_some());
        let opaque = of(Codec::Opaque, 0);
        assert!(fits(("video/webm", &opaque), ("video/webm", &opaque)).is_some());
        assert!(misfit((mpeg, None), (mpeg, Some(&high))).is_some());
    }

    #[test]
    fn a_chain_is_followed_and_a_circle_ends_it() {
        let id = |name: &str| name.parse::<MountId>().unwrap();
        let next = |pairs: &'static [(&str, &str)]| {
            move |of: &MountId| {
                let found = pairs.iter().find(|(from, _)| *from == of.path());
                found.map(|(_, to)| Fallback {
                    mount: to.parse().unwrap(),
                    returns: true,
                })
            }
        };
        let line = next(&[("/a", "/b"), ("/b", "/c")]);
        assert_eq!(chain(&id("/a"), line), [id("/b"), id("/c")]);
        assert_eq!(chain(&id("/c"), line), []);
        let circle = next(&[("/a", "/b"), ("/b", "/c"), ("/c", "/b")]);
        assert_eq!(chain(&id("/a"), circle), [id("/b"), id("/c")]);
        let back = next(&[("/a", "/b"), ("/b", "/a")]);
        assert_eq!(chain(&id("/a"), back), [id("/b")]);
    }
}
