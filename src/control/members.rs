//! The primary's side of the cluster: who joins, who beats, what everybody hears.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Control, Role, SaveError};
use crate::base::ids::{MountId, NodeId};
use crate::base::wall::unix_millis;
use crate::cluster::access::AccessError;
use crate::cluster::keys::CredentialError;
use crate::cluster::registry::JoinError;
use crate::cluster::snapshot::State;
use crate::cluster::table::{Effect, Event, Probe, Refusal, refusal};
use crate::engine::Mount;
use crate::wire::bounds::Clock;
use crate::wire::message::{
    self, Beat, BeatAnswer, FeedLine, Happening, JoinAnswer, JoinRequest, MessageError, MountInfo,
    MountState, NodeState, ProbeResult,
};

/// Milliseconds between two beats.
pub const BEAT_MILLIS: u64 = 1000;

/// Why a node is turned away.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// This node is a relay.
    #[error("this node is no primary")]
    NoPrimary,
    /// The join token.
    #[error(transparent)]
    Token(#[from] AccessError),
    /// The id that it joins under.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Too many joins from its address, by its token or of its id.
    #[error("too many joins from this address or by this token: try again in {} s", .0.as_secs().saturating_add(1))]
    TooFast(Duration),
    /// Too many wrong join tokens came from there.
    #[error("too many wrong tokens came from this address: try again in {0} s")]
    Delayed(u64),
    /// The node's credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The credential is another node's.
    #[error("this credential is of node `{0}`: a node reports for itself only")]
    Foreign(NodeId),
    /// The message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The table.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The token store could not be saved.
    #[error("the primary cannot save its tokens: {0}")]
    Store(#[from] SaveError),
}

impl MemberError {
    /// The status to answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoPrimary => 421,
            Self::Token(_) | Self::Credential(_) => 401,
            Self::Foreign(_) | Self::Join(JoinError::Barred(_)) => 403,
            Self::Message(_) => 400,
            Self::Refused(_) | Self::Join(JoinError::Known(_)) => 409,
            Self::TooFast(_) | Self::Delayed(_) => 429,
            Self::Store(_) | Self::Join(JoinError::Full) => 503,
        }
    }

    /// Value of the label `reason` that `relayctl_refusals_total` counts this refusal under.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPrimary => "no_primary",
            Self::Token(_) => "join_token",
            Self::Credential(_) => "credential",
            Self::Foreign(_) => "foreign_credential",
            Self::Message(_) => "bad_message",
            Self::Refused(_) => "member",
            Self::Join(JoinError::Barred(_)) => "barred",
            Self::Join(_) => "known_id",
            Self::TooFast(_) => "join_rate",
            Self::Delayed(_) => "join_token",
            Self::Store(_) => "store",
        }
    }
}

/// A public URL that wants to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeOrder {
    /// Whose.
    pub id: NodeId,
    /// Where.
    pub url: String,
}

impl Control {
    /// A node asks to be a member: its request with its URLs filled in, to be probed and then welcomed by
    /// [`Self::welcome`]. One that joined before shows its `credential`.
    ///
    /// # Errors
    /// See [`MemberError`]; each has its status.
    pub async fn join(
        &self,
        token: &str,
        credential: Option<&str>,
        mut request: JoinRequest,
        seen: IpAddr,
    ) -> Result<JoinRequest, MemberError> {
        self.only_primary()?;
        request.check(&self.clock())?;
        self.admit_member(token, credential, &request, seen).await?;
        if request.public_urls.is_empty() {
            let address = SocketAddr::new(seen, request.data_port);
            request.public_urls.http = Some(format!("http://{address}"));
        }
        let event = Event::Joined {
            request: request.clone(),
            seen,
        };
        self.checked_step(event)?;
        self.happened(Happening::Joined {
            who: request.name.clone(),
        });
        Ok(request)
    }

    /// The answer to a node that has joined and whose URL was fetched.
    pub fn welcome(&self, request: &JoinRequest, probe: ProbeResult) -> JoinAnswer {
        let outcome = match (&probe.error, probe.ok) {
            (_, true) => Probe::Fine,
            (Some(error), false) => Probe::Failed(error.clone()),
            (None, false) => Probe::Failed("no answer".into()),
        };
        self.probed(&request.id, probe.url.clone(), outcome);
        let snapshot = self.snapshot();
        let row = snapshot.find(&request.id);
        let warning = row.and_then(|row| self.address_warning(row));
        JoinAnswer {
            v: message::VERSION,
            id: request.id.clone(),
            credential: self.credential_of(&request.id),
            primary_id: self.identity.id.clone(),
            primary_name: self.identity.name.clone(),
            cluster_keys: self.keys.load().to_wire(),
            relay_password: self.relay_password(),
            beat_millis: BEAT_MILLIS,
            public_url: request.public_urls.first().unwrap_or_default().to_owned(),
            probe,
            warning,
            unix_millis: unix_millis(),
        }
    }

    /// A node's report; `connection` is unlike every other one of this process, or none where its end means nothing.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub fn beat(
        &self,
        credential: &str,
        mut beat: Beat,
        seen: IpAddr,
        connection: Option<u64>,
    ) -> Result<BeatAnswer, MemberError> {
        self.only_primary()?;
        let id = self.verified(credential)?;
        if id != beat.id {
            return Err(MemberError::Foreign(id));
        }
        beat.check(&self.clock())?;
        if beat.public_urls.is_empty() {
            beat.public_urls.http =
                Some(format!("http://{}", SocketAddr::new(seen, beat.data_port)));
        }
        let (seq, gone) = (beat.seq, beat.state == NodeState::Gone);
        self.member_reported(&id, &beat.name);
        self.checked_step(Event::Beat {
            beat: beat.clone(),
            seen,
            connection: connection.unwrap_or(u64::MAX),
        })?;
        for mount in &beat.mounts {
            self.engine.epochs().raise(mount.epoch);
        }
        if let Some(connection) = connection {
            self.connections().insert(connection, id.clone());
        }
        self.balancer().on_beat(&beat, Instant::now());
        self.hear_events(&beat);
        self.hear_word(&id, beat.assigned);
        if gone {
            self.step(Event::Leave(id.clone()));
        }
        let (drain, resume, reflect) = self.orders_for(&id, beat.state);
        Ok(BeatAnswer {
            v: message::VERSION,
            ack: seq,
            table_version: self.snapshot().version,
            rejoin: false,
            drain,
            resume,
            reflect,
            keys_version: self.keys_version(),
            unix_millis: unix_millis(),
            parent: self.word_on(&id),
        })
    }

    /// A connection has ended; if beats came by it, its node is suspect at once.
    pub fn connection_closed(&self, connection: u64) {
        if self.stopping.is_cancelled() {
            // It was this node that closed it.
            return;
        }
        let known = self.connections().remove(&connection);
        if let Some(id) = known {
            self.step(Event::ConnectionLost { id, connection });
        }
    }

    /// What came of fetching a public URL.
    pub fn probed(&self, id: &NodeId, url: String, outcome: Probe) {
        self.step(Event::Probed {
            id: id.clone(),
            url,
            outcome,
        });
    }

    /// Whose credential this is.
    ///
    /// # Errors
    /// Where it is nobody's.
    pub fn member(&self, credential: &str) -> Result<NodeId, MemberError> {
        self.only_primary()?;
        self.verified(credential)
    }

    /// The mounts as the feed tells them, always the whole list: those that are there, and those that have a
    /// fallback and are not.
    pub fn mount_line(&self) -> FeedLine {
        let here = self.engine.mounts();
        let mut absent = self.engine.replaceable();
        absent.retain(|id| !here.iter().any(|mount| mount.id == *id));
        let mounts = here
            .iter()
            .map(|mount| self.mount_info(mount.id.clone(), Some(mount)))
            .chain(absent.into_iter().map(|id| self.mount_info(id, None)))
            .take(message::MAX_MOUNTS)
            .collect();
        FeedLine::Mounts {
            v: message::VERSION,
            complete: true,
            mounts,
        }
    }

    fn mount_info(&self, id: MountId, mount: Option<&Arc<Mount>>) -> MountInfo {
        let fallback = self.engine.fallback_of(&id);
        let content = mount.map(|mount| mount.content()).unwrap_or_default();
        MountInfo {
            bypassed: self.engine.is_bypassed(&id),
            hidden: self.is_hidden(&id),
            mount: id,
            content_type: content.content_type.clone(),
            state: mount.map_or(MountState::Idle, |mount| super::load::state_of(mount)),
            epoch: mount.map(|mount| mount.ring().epoch()).unwrap_or_default(),
            bitrate: mount.map_or(0, |mount| mount.committed_rate()),
            headers: content.headers.clone(),
            fallback_override: fallback.as_ref().is_none_or(|fallback| fallback.returns),
            fallback: fallback.map(|fallback| fallback.mount),
        }
    }

    /// By which the times in a relay's message are judged.
    fn clock(&self) -> Clock {
        Clock {
            unix_millis: unix_millis(),
            stamped: self.engine.epochs().stamped(),
        }
    }

    /// The keys as the feed tells them.
    pub fn key_line(&self) -> FeedLine {
        FeedLine::Keys {
            version: self.keys_version(),
            keys: self.keys.load().to_wire(),
        }
    }

    /// The table's changes since `version` as lines of the feed, and the version they lead to.
    pub fn table_lines(&self, since: u64) -> (u64, Vec<FeedLine>) {
        let changes = self.table().changes_since(since, Instant::now());
        let mut lines: Vec<FeedLine> = changes
            .gone
            .into_iter()
            .map(|id| FeedLine::NodeGone { id })
            .collect();
        lines.insert(
            0,
            FeedLine::Nodes {
                version: changes.version,
                complete: changes.complete,
                panic: changes.panic,
                nodes: changes.nodes,
            },
        );
        (changes.version, lines)
    }

    pub(super) fn only_primary(&self) -> Result<(), MemberError> {
        if self.identity.role == Role::Primary {
            Ok(())
        } else {
            Err(MemberError::NoPrimary)
        }
    }

    fn keys_version(&self) -> u64 {
        self.keys_number()
    }

    fn checked_step(&self, event: Event) -> Result<(), MemberError> {
        let effects = self.step(event);
        refusal(&effects).map_or(Ok(()), |refusal| Err(MemberError::Refused(refusal.clone())))
    }

    /// One event into the table; its effects are carried out and its snapshot published.
    pub(super) fn step(&self, event: Event) -> Vec<Effect> {
        let effects = {
            let mut table = self.table();
            let effects = table.step(Instant::now(), event);
            // A relay shows its copy of the primary's table; its own is empty.
            if self.identity.role == Role::Primary {
                self.publish(table.snapshot());
            }
            effects
        };
        for effect in &effects {
            self.carry_out(effect);
        }
        effects
    }

    fn carry_out(&self, effect: &Effect) {
        self.tell_effect(effect);
        match effect {
            Effect::Probe { id, url, .. } => {
                // A full queue means that probes lag; the table asks again in five seconds.
                let _ = self.probe_orders.try_send(ProbeOrder {
                    id: id.clone(),
                    url: url.clone(),
                });
            }
            Effect::Changed {
                id,
                name,
                from,
                to,
                why,
            } => {
                if *to == State::Dead {
                    self.balancer().on_gone(id);
                    self.release_children_of(id);
                }
                let from = from.map_or("new", |state| state.as_str());
                let (to, why) = (to.as_str(), why.as_deref());
                match to {
                    "dead" => tracing::warn!(node = %name, from, to, why, "node changed"),
                    _ => tracing::info!(node = %name, from, to, why, "node changed"),
                }
            }
            Effect::Secure {
                name,
                url,
                usable: true,
                ..
            } => tracing::info!(node = %name, url, "listeners by https are sent there"),
            Effect::Secure { name, why, .. } => {
                tracing::warn!(node = %name, why = why.as_deref(), "a URL by https cannot be used");
            }
            Effect::Gone { id, name } => {
                tracing::info!(node = %name, %id, "node left the table");
                self.balancer().on_gone(id);
                self.release_children_of(id);
            }
            // Whoever ordered it keeps it.
            Effect::DrainsChanged => {}
            Effect::ClockJumped(gap) => {
                tracing::warn!(?gap, "this node was away: all deadlines begin anew");
            }
            Effect::Panic(true) => {
                tracing::error!(
                    "fewer than half of the relays can be reached: suspicions are ignored"
                );
            }
            Effect::Panic(false) => tracing::info!("enough relays can be reached again"),
            Effect::Accepted(_) | Effect::Refused(..) => {}
        }
    }
}
