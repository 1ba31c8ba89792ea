//! What is asked and what is answered, with its reason.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::base::ids::{MountId, NodeId};
use crate::base::reach::Reach;
use crate::wire::message::{NodeName, NodeRole};

/// A listener asks for a mount.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// What it wants.
    pub mount: &'a MountId,
    /// Bits a second of that mount, the larger of declared and mean; 0 is unknown.
    pub bitrate: u64,
    /// It came by https, by its own connection or by the word of a trusted proxy.
    pub https: bool,
    /// Its address, by its own connection or by the word of a trusted proxy.
    pub address: IpAddr,
    /// The circle that it is in: the wider one of its address and of what an untrusted proxy claims.
    pub from: Reach,
    /// `User-Agent`.
    pub agent: &'a str,
    /// `X-Playback-Session-Id`.
    pub session: Option<&'a str>,
    /// False for HEAD and OPTIONS: nothing is reserved, used up or counted.
    pub reserves: bool,
    /// Path and query as sent; the token is found in it.
    pub target: &'a str,
    /// How long it has waited already because of [`Decision::Wait`].
    pub waited: Duration,
    /// Others wait in line before it: the next place is theirs.
    pub behind: bool,
    /// Nodes that did not answer when this ask was decided before.
    pub avoid: &'a [NodeId],
    /// Now.
    pub now: Instant,
    /// Now, by the cluster's clock: on a relay corrected by what the primary says.
    pub unix_millis: u64,
    /// Drawn for this ask.
    pub random: u64,
}

/// May a primary serve listeners itself?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serve {
    /// Where no relay can.
    #[default]
    Auto,
    /// Whoever comes, until it is full.
    Always,
    /// Nobody.
    Never,
}

/// How a listener reaches its audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It is told where to go.
    #[default]
    Redirect,
    /// Its connection is held here, over this node's own ring.
    Proxy,
    /// Held where it is known, or seen, not to follow a redirect.
    Auto,
}

/// Where those go for whom there is no place at all, by scheme.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overflow {
    /// For who came by http.
    pub http: Option<String>,
    /// For who came by https.
    pub https: Option<String>,
}

impl Overflow {
    /// For a client of this scheme.
    pub fn of_scheme(&self, https: bool) -> Option<&str> {
        if https {
            self.https.as_deref()
        } else {
            self.http.as_deref()
        }
    }
}

/// The node that decides.
#[derive(Debug, Clone)]
pub struct OwnState {
    /// Who.
    pub id: NodeId,
    /// Primary or relay.
    pub role: NodeRole,
    /// On a primary: may it serve?
    pub serve: Serve,
    /// It has the mount, or can pull it.
    pub can_serve: bool,
    /// Over a limit of its own: nobody new.
    pub full: bool,
    /// At the hard cap: not even those who were promised a place.
    pub hard_full: bool,
    /// On its way out.
    pub draining: bool,
    /// On a relay: the primary has not been heard for as long as makes it dead.
    pub primary_gone: bool,
    /// Since the process started.
    pub uptime: Duration,
}

/// Why it was decided so. The texts are stable: they stand in `X-Relayctl-Reason`, picks and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Fewest listeners for its weight.
    LeastConn,
    /// Fewest bits for its weight.
    LeastBandwidth,
    /// Its turn.
    RoundRobin,
    /// Drawn.
    Random,
    /// The better of two drawn.
    P2c,
    /// By the listener's address.
    IpHash,
    /// The fullest that has room.
    Pack,
    /// The reservation of a moment ago.
    Again,
    /// The token keeps the place.
    Token,
    /// The primary serves, since no relay can.
    PrimaryServes,
    /// The primary serves whoever comes.
    ServeAlways,
    /// A healthy relay serves what comes to it.
    RelayServes,
    /// Every other place has been tried.
    HopLimit,
    /// No relay takes this mount's listeners.
    NoRelay,
    /// No relay can be reached by the listener's scheme.
    NoScheme,
    /// No relay's URL is reached from where the listener is.
    NoReach,
    /// All that could are full.
    Full,
    /// This node is on its way out, and no other can.
    Draining,
    /// Relays are filled as fast as they may be.
    Pacing,
    /// Most relays cannot be reached; the one that was heard last.
    Panic,
    /// Held here, as all are.
    Proxy,
    /// Held here: this player is known not to follow redirects.
    ProxyPlayer,
    /// Held here: it was redirected twice and never arrived.
    ProxyLost,
    /// A relay that keeps its last places for such a time.
    SoftCap,
}

impl Reason {
    /// All, for metrics.
    pub const ALL: [Self; 24] = [
        Self::LeastConn,
        Self::LeastBandwidth,
        Self::RoundRobin,
        Self::Random,
        Self::P2c,
        Self::IpHash,
        Self::Pack,
        Self::Again,
        Self::Token,
        Self::PrimaryServes,
        Self::ServeAlways,
        Self::RelayServes,
        Self::HopLimit,
        Self::NoRelay,
        Self::NoScheme,
        Self::NoReach,
        Self::Full,
        Self::Draining,
        Self::Pacing,
        Self::Panic,
        Self::Proxy,
        Self::ProxyPlayer,
        Self::ProxyLost,
        Self::SoftCap,
    ];

    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastConn => "least-conn",
            Self::LeastBandwidth => "least-bandwidth",
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::P2c => "p2c",
            Self::IpHash => "ip-hash",
            Self::Pack => "pack",
            Self::Again => "again",
            Self::Token => "token",
            Self::PrimaryServes => "primary-serves",
            Self::ServeAlways => "serve-always",
            Self::RelayServes => "relay-serves",
            Self::HopLimit => "hop-limit",
            Self::NoRelay => "no-relay",
            Self::NoScheme => "no-scheme",
            Self::NoReach => "no-reach",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Pacing => "pacing",
            Self::Panic => "panic",
            Self::Proxy => "proxy",
            Self::ProxyPlayer => "proxy-player",
            Self::ProxyLost => "proxy-lost",
            Self::SoftCap => "soft-cap",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to do with a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Serve it here.
    Serve {
        /// Why.
        reason: Reason,
    },
    /// Answer 302.
    Redirect {
        /// To whom.
        node: NodeId,
        /// What people call it.
        name: NodeName,
        /// `Location`, with the token last.
        location: String,
        /// Why.
        reason: Reason,
        /// Sequence of the reservation; 0 is none.
        reservation: u64,
        /// Connect to it within 300 ms first; if it does not answer ask again and avoid it.
        check_first: bool,
    },
    /// Keep it in line and ask again then, with `waited` risen.
    Wait {
        /// When a place opens at the earliest.
        until: Instant,
        /// Why.
        reason: Reason,
    },
    /// Answer 302 to a place that is none of ours.
    Overflow {
        /// The operator's URL.
        location: String,
        /// Why.
        reason: Reason,
    },
    /// Answer with this status and `Retry-After`.
    Refuse {
        /// 503.
        status: u16,
        /// Seconds, drawn between 5 and 15.
        retry_after: u32,
        /// Why.
        reason: Reason,
    },
}

impl Decision {
    /// Why.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Serve { reason }
            | Self::Redirect { reason, .. }
            | Self::Wait { reason, .. }
            | Self::Overflow { reason, .. }
            | Self::Refuse { reason, .. } => *reason,
        }
    }

    /// The word in picks and metrics.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::Serve {
                reason: Reason::Proxy | Reason::ProxyPlayer | Reason::ProxyLost,
            } => "proxy",
            Self::Serve { .. } => "serve",
            Self::Redirect { .. } => "redirect",
            Self::Wait { .. } => "wait",
            Self::Overflow { .. } => "overflow",
            Self::Refuse { .. } => "refuse",
        }
    }
}

/// A decision that was made, for `get picks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// When, unix milliseconds.
    pub unix_millis: u64,
    /// For which mount.
    pub mount: MountId,
    /// Who serves; `None` for a refusal.
    pub node: Option<NodeId>,
    /// serve, proxy, redirect, overflow or refuse.
    pub mode: &'static str,
    /// Why.
    pub reason: Reason,
}
