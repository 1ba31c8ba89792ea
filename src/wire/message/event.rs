//! What happens in a cluster, in the words of beats, the API and the log.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{MAX_TEXT, MessageError, NodeName, at_most, epoch, fits, millis};
use crate::base::ids::{Epoch, MountId};
use crate::wire::bounds::{Clock, MAX_BYTES, MAX_LISTENERS};

/// Most events in one beat; what is more waits for the next.
pub const MAX_EVENTS: usize = 64;

/// Something happened. The texts of `kind` are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Happening {
    /// A node is in the table for the first time.
    Joined {
        /// Who.
        who: NodeName,
    },
    /// A node said goodbye, or its row was forgotten.
    Left {
        /// Who.
        who: NodeName,
    },
    /// An operator removed a node: its credential ended.
    Removed {
        /// Its name.
        who: NodeName,
        /// It may not join again.
        barred: bool,
    },
    /// A node was silent for too long, or its port refused connections.
    Died {
        /// Who.
        who: NodeName,
        /// How that is known, and the next thing to do.
        #[serde(default)]
        why: Option<String>,
    },
    /// A node's beats stopped, or its URL does not answer.
    Suspected {
        /// Who.
        who: NodeName,
        /// What is wrong, where more than silence is known.
        why: Option<String>,
    },
    /// A node takes listeners, for the first time or again.
    Ready {
        /// Who.
        who: NodeName,
    },
    /// Fewer than half of the relays can be reached, or enough again.
    Panic {
        /// Which.
        on: bool,
    },
    /// A pull goes on at another parent.
    Failover {
        /// Of which mount.
        mount: MountId,
        /// The parent of before.
        from: NodeName,
        /// The parent from now on.
        to: NodeName,
        /// From the last byte of the one to the first byte of the other.
        millis: u64,
        /// Bytes that the new parent had no more.
        lost_bytes: u64,
        /// Why the old one was left.
        why: String,
    },
    /// A relay sent newcomers on, gathered over a second.
    Reflected {
        /// How many.
        count: u64,
        /// Why: `full`, `cpu`, `bandwidth`, `forced` or `draining`.
        reason: String,
    },
    /// A node is over a limit of its own, or no more.
    Overload {
        /// Which.
        on: bool,
        /// The limit: `listeners`, `bandwidth`, `cpu` or `forced`.
        reason: String,
        /// The limit in words, and the next thing to do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A node takes nobody new from now on.
    DrainBegan {
        /// Who.
        who: NodeName,
        /// `operator`, `local` or `shutdown`.
        by: String,
        /// Its listeners then.
        listeners: u64,
        /// Its listeners are closed over this time; none: they are left alone.
        spread_seconds: Option<u64>,
    },
    /// The last listener of a draining node has gone.
    DrainDone {
        /// Who.
        who: NodeName,
    },
    /// A drain was taken back.
    Resumed {
        /// Who.
        who: NodeName,
    },
    /// A mount has a source, for the first time or again.
    SourceUp {
        /// Which.
        mount: MountId,
    },
    /// A mount's source went; its listeners are held.
    SourceLost {
        /// Which.
        mount: MountId,
    },
    /// Nothing can be played of what a mount's source sends; its listeners are held.
    SourceUnplayable {
        /// Which.
        mount: MountId,
        /// Reason why nobody can play it.
        why: String,
    },
    /// A mount's source sends silence, or sound again.
    Silence {
        /// Which.
        mount: MountId,
        /// Silence.
        on: bool,
    },
    /// Listeners of a mount that is silent hear another one meanwhile.
    Bypassed {
        /// The silent one.
        mount: MountId,
        /// What they hear.
        to: MountId,
    },
    /// That is over: its source sounds again, or it or its fallback has gone.
    BypassEnded {
        /// Which.
        mount: MountId,
    },
    /// The source of a mount stays away, or is silent: its listeners on this node went on at its fallback.
    FallbackMoved {
        /// The one that they asked for.
        mount: MountId,
        /// What they hear.
        to: MountId,
        /// How many.
        listeners: u64,
    },
    /// They came back to the mount that they asked for.
    FallbackReturned {
        /// Which.
        mount: MountId,
        /// How many.
        listeners: u64,
    },
    /// A mount is no more.
    SourceEnded {
        /// Which.
        mount: MountId,
    },
    /// A mount's bytes are numbered anew.
    EpochChanged {
        /// Which.
        mount: MountId,
        /// Before.
        from: Epoch,
        /// From now on.
        to: Epoch,
    },
    /// A bug ended one connection, or one thing of many.
    Panicked {
        /// Kind of the task, its message, and the place in the program.
        why: String,
    },
    /// A client sent too many wrong passwords or tokens, and is delayed from now on.
    Guessing {
        /// Address of the client; behind an untrusted proxy the proxy's.
        address: IpAddr,
        /// The door at which it failed last: `admin`, `source`, `shoutcast`, `relay`, `api` or `join`.
        door: String,
        /// Failures of the client at that door.
        failures: u32,
    },
    /// A relay is no member, and tries on.
    WaitingToJoin {
        /// URL of the primary.
        primary: String,
        /// Why it was not taken in.
        why: String,
    },
    /// A node was not taken in; told at growing intervals for each client.
    JoinRefused {
        /// Address of the client.
        address: IpAddr,
        /// Name that it gave itself; nothing proves it.
        who: Option<NodeName>,
        /// Why, and the next thing to do.
        why: String,
        /// Refusals of the client so far.
        count: u64,
    },
    /// A source was turned away; told at growing intervals for each client.
    SourceRefused {
        /// The mount that it named.
        mount: MountId,
        /// Address of the client; behind an untrusted proxy the proxy's.
        address: IpAddr,
        /// Why, and the next thing to do.
        why: String,
        /// Refusals of the client so far.
        count: u64,
    },
    /// The primary answers a relay no more, which plays on.
    PrimarySilent {
        /// URL of the primary.
        primary: String,
        /// Outcome of its last request.
        why: String,
    },
    /// The primary answers the relay again.
    PrimaryBack {
        /// URL of the primary.
        primary: String,
    },
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

impl Happening {
    /// The counter that rises by one; none where each is counted on its own, or nothing is.
    pub fn counter(&self) -> Option<&'static str> {
        Some(match self {
            Self::Joined { .. } => "relayctl_joins_total",
            Self::Left { .. } => "relayctl_leaves_total",
            Self::Removed { .. } => "relayctl_removals_total",
            Self::Died { .. } => "relayctl_deaths_total",
            Self::Suspected { .. } => "relayctl_suspicions_total",
            Self::Failover { .. } => "relayctl_failovers_total",
            Self::Overload { on: true, .. } => "relayctl_overloads_total",
            Self::DrainBegan { .. } => "relayctl_drains_total",
            Self::SourceUp { .. } => "relayctl_sources_total",
            Self::SourceLost { .. } => "relayctl_sources_lost_total",
            Self::SourceUnplayable { .. } => "relayctl_sources_unplayable_total",
            Self::Silence { on: true, .. } => "relayctl_silences_total",
            Self::Bypassed { .. } => "relayctl_bypasses_total",
            Self::EpochChanged { .. } => "relayctl_epochs_total",
            _ => return None,
        })
    }

    /// Checks every text and number.
    ///
    /// # Errors
    /// Where a text is longer than [`MAX_TEXT`], or a number beyond its range.
    pub fn check(&self, clock: &Clock) -> Result<(), MessageError> {
        match self {
            Self::Suspected { why, .. } | Self::Died { why, .. } => {
                fits("events", why.as_deref().unwrap_or_default().len(), MAX_TEXT)
            }
            Self::Failover {
                why,
                millis: took,
                lost_bytes,
                ..
            } => {
                millis("events.millis", *took)?;
                at_most("events.lost_bytes", *lost_bytes, MAX_BYTES)?;
                fits("events", why.len(), MAX_TEXT)
            }
            Self::Panicked { why } | Self::SourceUnplayable { why, .. } => {
                fits("events", why.len(), MAX_TEXT)
            }
            Self::WaitingToJoin { primary, why } | Self::PrimarySilent { primary, why } => {
                fits("events", primary.len().max(why.len()), MAX_TEXT)
            }
            Self::PrimaryBack { primary } => fits("events", primary.len(), MAX_TEXT),
            Self::JoinRefused { why, count, .. } | Self::SourceRefused { why, count, .. } => {
                at_most("events.count", *count, MAX_BYTES)?;
                fits("events", why.len(), MAX_TEXT)
            }
            Self::Reflected { count, reason } => {
                at_most("events.count", *count, MAX_BYTES)?;
                fits("events", reason.len(), MAX_TEXT)
            }
            Self::Overload { reason, why, .. } => {
                let longest = why.as_ref().map_or(0, String::len).max(reason.len());
                fits("events", longest, MAX_TEXT)
            }
            Self::Guessing { door, .. } => fits("events", door.len(), MAX_TEXT),
            Self::DrainBegan {
                by,
                listeners,
                spread_seconds,
                ..
            } => {
                at_most("events.listeners", *listeners, MAX_LISTENERS)?;
                millis("events.spread_seconds", spread_seconds.unwrap_or(0))?;
                fits("events", by.len(), MAX_TEXT)
            }
            Self::FallbackMoved { listeners, .. } | Self::FallbackReturned { listeners, .. } => {
                at_most("events.listeners", *listeners, MAX_BYTES)
            }
            Self::EpochChanged { from, to, .. } => {
                epoch(*from, clock)?;
                epoch(*to, clock)
            }
            _ => Ok(()),
        }
    }

    /// The same with its texts cut to what [`Self::check`] permits.
    pub fn bounded(mut self) -> Self {
        match &mut self {
            Self::WaitingToJoin { primary, why } | Self::PrimarySilent { primary, why } => {
                cut(primary);
                cut(why);
            }
            Self::Overload {
                reason,
                why: Some(why),
                ..
            } => {
                cut(reason);
                cut(why);
            }
            Self::Suspected {
                why: Some(text), ..
            }
            | Self::Died {
                why: Some(text), ..
            }
            | Self::JoinRefused { why: text, .. }
            | Self::SourceRefused { why: text, .. }
            | Self::PrimaryBack { primary: text }
            | Self::Failover { why: text, .. }
            | Self::Panicked { why: text }
            | Self::SourceUnplayable { why: text, .. }
            | Self::Reflected { reason: text, .. }
            | Self::Overload { reason: text, .. }
            | Self::Guessing { door: text, .. }
            | Self::DrainBegan { by: text, .. } => cut(text),
            _ => {}
        }
        self
    }
}

fn cut(text: &mut String) {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
}

/// An event of the node that beats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventReport {
    /// Rises within the incarnation.
    pub seq: u64,
    /// By the node's clock.
    pub unix_millis: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

impl EventReport {
    pub(super) fn check(&self, clock: &Clock) -> Result<(), MessageError> {
        millis("events.unix_millis", self.unix_millis)?;
        self.what.check(clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_and_its_fields_in_one_object() {
        let report = EventReport {
            seq: 7,
            unix_millis: 1,
            what: Happening::Failover {
                mount: "/live.mp3".parse().unwrap(),
                from: "a".parse().unwrap(),
                to: "b".parse().unwrap(),
                millis: 120,
                lost_bytes: 0,
                why: "was silent".into(),
            },
        };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(
            text,
            r#"{"seq":7,"unix_millis":1,"kind":"failover","mount":"/live.mp3","from":"a","to":"b","millis":120,"lost_bytes":0,"why":"was silent"}"#
        );
        assert_eq!(serde_json::from_str::<EventReport>(&text).unwrap(), report);
        let newer = r#"{"seq":8,"unix_millis":1,"kind":"song","title":"x"}"#;
        let newer: EventReport = serde_json::from_str(newer).unwrap();
        assert_eq!(newer.what, Happening::Unknown);
    }

    #[test]
    fn texts_are_bounded() {
        let clock = Clock {
            unix_millis: 0,
            stamped: Epoch(0),
        };
        let long = Happening::Suspected {
            who: "a".parse().unwrap(),
            why: Some("é".repeat(MAX_TEXT)),
        };
        assert!(long.check(&clock).is_err());
        assert!(long.bounded().check(&clock).is_ok());
    }
}
