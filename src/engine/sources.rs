//! Who feeds the mounts: sources, parents, and what is asked of both.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::mount::{Content, Feeder, Mount, MountState};
use super::{Engine, Intake, Offer, OpenError, Replica, TitleError, Titles, Trouble};
use super::{claims, format, mount};
use crate::base::charset::Charset;
use crate::base::ids::MountId;
use crate::wire::title::Title;

impl Engine {
    /// Opens a source on `id`; what the operator says of the mount holds before what the source says.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_source(
        self: &Arc<Self>,
        id: &MountId,
        mut offer: Offer,
    ) -> Result<Intake, OpenError> {
        let config = self.config.load();
        if let Some(preset) = config.preset(id) {
            preset.describe(&mut offer);
        }
        if !format::is_taken(&offer.content_type) {
            return Err(OpenError::Unsupported(offer.content_type));
        }
        let now = Instant::now();
        self.is_not_fed(id, offer.stale, now)?;
        let (feeder, most) = (offer.feeder(), config.max_sources);
        let claim = self.claims.take(id, feeder, offer.stale, most, now)?;
        Intake::new(Arc::clone(self), claim, offer)
    }

    /// Refuses where a parent feeds the mount, and still sends.
    fn is_not_fed(&self, id: &MountId, stale: Duration, now: Instant) -> Result<(), OpenError> {
        let fed = self.claims.get(id).is_none();
        let fed = self
            .mount(id)
            .filter(|mount| fed && mount.state() == MountState::Live);
        match fed.map(|mount| mount.idle(now)) {
            Some(idle) if idle < stale => Err(OpenError::InUse { idle }),
            _ => Ok(()),
        }
    }

    /// How long listeners wait for a source that went.
    pub fn hold(&self) -> Duration {
        self.config.load().hold
    }

    /// True while nobody feeds `id`, or is about to.
    pub fn is_free(&self, id: &MountId) -> bool {
        let is_live = || {
            self.mount(id)
                .is_some_and(|mount| mount.state() == MountState::Live)
        };
        self.claims.get(id).is_none() && !is_live()
    }

    /// Character set of the titles of a mount that do not name one.
    pub fn charset(&self, id: &MountId) -> Charset {
        let config = self.config.load();
        let own = config.preset(id).and_then(|preset| preset.charset);
        own.unwrap_or(Charset::UTF_8)
    }

    /// Sources that are connected, whether or not they can be heard, by mount.
    pub fn sources(&self) -> Vec<(MountId, Feeder)> {
        self.claims.all()
    }

    /// Opens `id` for bytes that a parent has addressed. A replica that feeds it already is replaced.
    pub fn open_replica(self: &Arc<Self>, id: &MountId, parent: Feeder) -> Replica {
        let evicted = CancellationToken::new();
        let (mount, taken) = self.take(id, parent, evicted.clone());
        self.count_pull();
        Replica::new(Arc::clone(self), mount, taken, evicted)
    }

    /// Takes the mount for a source of which something can be played.
    pub(super) fn feed(&self, claim: &claims::Claim) -> (Arc<Mount>, mount::Taken) {
        let feeder = claim.feeder().clone();
        self.take(claim.id(), feeder, claim.evicted().clone())
    }

    /// Counts a stream that begins to be pulled from elsewhere.
    pub fn count_pull(&self) {
        self.telemetry.connections.add_pull();
    }

    fn take(
        &self,
        id: &MountId,
        feeder: Feeder,
        evicted: CancellationToken,
    ) -> (Arc<Mount>, mount::Taken) {
        let config = self.config.load();
        let mut mounts = self.mounts.write().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mount = mounts.entry(id.clone()).or_insert_with(|| {
                let counters = self.telemetry.mount(id);
                let now = Instant::now();
                let content = Content::default();
                Arc::new(Mount::new(id.clone(), counters, content, config.ring, now))
            });
            if let Some(taken) = mount.take(feeder.clone(), evicted.clone()) {
                return (Arc::clone(mount), taken);
            }
            // It has ended: the next one is new.
            mounts.remove(id);
        }
    }

    /// Most bytes of headers that a section may have.
    pub(super) fn header_limit(&self) -> usize {
        let most = usize::try_from(self.config.load().ring.max_bytes).unwrap_or(usize::MAX);
        most.min(format::LARGEST_HEADER)
    }

    /// Titles and the encoders that set them.
    pub fn titles(&self) -> &Titles {
        &self.titles
    }

    /// Troubles with sources since this was last asked.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.troubles.take()
    }

    pub(super) fn say_unplayable(&self, id: &MountId, why: format::Unplayable) {
        tracing::warn!(mount = %id, %why, "nothing can be played of what the source sends now: its listeners are held");
        let mount = id.clone();
        self.troubles.add(Trouble { mount, why });
    }

    /// Sets the title of a mount from its next byte on.
    ///
    /// # Errors
    /// [`TitleError`] where it has no source, or one whose stream takes no title.
    pub fn set_title(&self, id: &MountId, title: Title) -> Result<(), TitleError> {
        let claimed = self.claims.get(id).ok_or(TitleError::NoSource)?;
        let section = self.mount(id).and_then(|mount| mount.ring().section());
        let is_closed = |section: &Arc<format::Section>| {
            section.params.codec.is_ogg() && !format::ogg::can_retitle(&section.header)
        };
        if section.as_ref().is_some_and(is_closed) {
            return Err(TitleError::Closed);
        }
        claimed.put_title(title);
        Ok(())
    }
}
