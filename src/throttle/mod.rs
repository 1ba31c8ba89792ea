//! Wrong passwords and tokens, counted by client and door, so that guessing becomes slow: pure rules over one table.
//!
//! A client may fail [`FREE`] times at a door; each further failure there delays its next attempt, from one second to
//! [`LONGEST_DELAY`]. An attempt that comes too early is not compared, with two exceptions, so that a guesser cannot keep
//! out those who share its address: a credential that was right from there within [`A_DAY`] is always compared, and any
//! other one once in [`SPACING`].
//!
//! Must never: see a password (callers give digests under a key of their own), read a clock, or log. Above it: `control`
//! holds the table and speaks of what it says.

mod recent;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::base::address::block_of;
use recent::Recent;

/// Failures of one client at one door before it is delayed.
pub const FREE: u32 = 5;

/// Longest delay after a failure.
pub const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// A delayed client has one attempt compared in this time.
pub const SPACING: Duration = Duration::from_secs(1);

/// Failures are forgotten after this time without another one.
pub const QUIET: Duration = Duration::from_secs(900);

/// Time for which a right credential is remembered since its last use.
pub const A_DAY: Duration = Duration::from_secs(86_400);

/// Clients that are counted; the one whose last failure is the oldest goes first.
pub const MAX_CLIENTS: usize = 16_384;

/// Right credentials that are remembered; the one that was used the longest ago goes first.
pub const MAX_KNOWN: usize = 16_384;

/// Attempts of one client at one door that are compared at the same moment.
pub const MAX_PENDING: u32 = 16;

/// Pause between two reports of one client.
pub const REPORT_PAUSE: Duration = Duration::from_secs(600);

/// A place where a password or token is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// User `admin`.
    Admin,
    /// User `source`, and `pass=` of Shoutcast's titles.
    Source,
    /// Password line of a Shoutcast v1 source.
    Shoutcast,
    /// User `relay`.
    Relay,
    /// Bearer token of the API.
    Api,
    /// Join token.
    Join,
}

impl Door {
    /// All doors.
    pub const ALL: [Self; 6] = [
        Self::Admin,
        Self::Source,
        Self::Shoutcast,
        Self::Relay,
        Self::Api,
        Self::Join,
    ];

    /// Word in logs, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Source => "source",
            Self::Shoutcast => "shoutcast",
            Self::Relay => "relay",
            Self::Api => "api",
            Self::Join => "join",
        }
    }
}

/// Origin of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// The client's address; behind a proxy that is not trusted, the proxy's.
    pub address: IpAddr,
    /// The client's address as such a proxy claims it.
    pub claimed: Option<IpAddr>,
}

impl Remote {
    /// A client that no untrusted proxy speaks for.
    pub fn direct(address: IpAddr) -> Self {
        Self {
            address,
            claimed: None,
        }
    }
}

/// Keyed digest of a credential, with the door and the client.
pub type Digest = [u8; 16];

/// A client as it is counted. One behind an untrusted proxy counts by itself, so that it delays no other client of that
/// proxy, and together with all that the address claims, since whoever connects directly may claim anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    Direct(IpAddr),
    Claimed(IpAddr, IpAddr),
    Claims(IpAddr),
}

impl Client {
    fn all_of(remote: Remote) -> (Self, Option<Self>) {
        let block = block_of(remote.address);
        match remote.claimed {
            None => (Self::Direct(block), None),
            Some(claimed) => (
                Self::Claimed(block, block_of(claimed)),
                Some(Self::Claims(block)),
            ),
        }
    }

    /// What all claims of an address share is ten times as many failures and four comparisons a second: one client of a
    /// proxy cannot use it up.
    fn free(self) -> u32 {
        match self {
            Self::Claims(_) => FREE * 10,
            _ => FREE,
        }
    }

    fn spacing(self) -> Duration {
        match self {
            Self::Claims(_) => SPACING / 4,
            _ => SPACING,
        }
    }
}

/// Failures of one client at one door.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    failures: u32,
    pending: u32,
    last_failure: Option<Instant>,
    last_try: Option<Instant>,
    delayed_until: Option<Instant>,
}

impl Count {
    /// Time until an attempt of this client may be compared; zero if it may be now.
    fn wait(&self, client: Client, now: Instant) -> Duration {
        if self.pending >= MAX_PENDING {
            return client.spacing();
        }
        let left = self
            .delayed_until
            .map(|until| until.saturating_duration_since(now));
        let Some(left) = left.filter(|left| !left.is_zero()) else {
            return Duration::ZERO;
        };
        let tried = self
            .last_try
            .map(|tried| now.saturating_duration_since(tried));
        if tried.is_none_or(|since| since >= client.spacing()) {
            Duration::ZERO
        } else {
            left
        }
    }

    fn fail(&mut self, client: Client, now: Instant) {
        let last = self.last_failure.replace(now);
        if last.is_some_and(|last| now.saturating_duration_since(last) >= QUIET) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        if let Some(over) = self.failures.checked_sub(client.free()) {
            let delay = Duration::from_secs(1 << over.min(6)).min(LONGEST_DELAY);
            self.delayed_until = now.checked_add(delay);
        }
    }
}

/// One client at all doors.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    doors: [Count; Door::ALL.len()],
    /// The last report that it was delayed.
    reported: Option<Instant>,
}

impl Record {
    fn at(&mut self, door: Door) -> &mut Count {
        let [admin, source, shoutcast, relay, api, join] = &mut self.doors;
        match door {
            Door::Admin => admin,
            Door::Source => source,
            Door::Shoutcast => shoutcast,
            Door::Relay => relay,
            Door::Api => api,
            Door::Join => join,
        }
    }

    fn is_blank(&self) -> bool {
        let idle = |count: &Count| count.failures == 0 && count.pending == 0;
        self.doors.iter().all(idle)
    }
}

/// Report of a failure that is worth a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The client's first failure at any door since it is counted.
    First,
    /// The client is delayed from now on; said once in [`REPORT_PAUSE`].
    Delayed {
        /// Failures of the client at this door.
        failures: u32,
    },
}

/// The table of clients and of credentials that were right.
#[derive(Debug)]
pub struct Throttle {
    clients: Recent<Client, Record>,
    known: Recent<Digest, Instant>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            clients: Recent::new(MAX_CLIENTS),
            known: Recent::new(MAX_KNOWN),
        }
    }
}

impl Throttle {
    /// Asks whether a credential may be compared now. Each attempt that may be ends in one of [`Self::right`],
    /// [`Self::wrong`] and [`Self::undecided`].
    ///
    /// # Errors
    /// The time to wait, at least [`SPACING`].
    pub fn ask(
        &mut self,
        remote: Remote,
        door: Door,
        digest: &Digest,
        now: Instant,
    ) -> Result<(), Duration> {
        let known = self.known.get(digest).copied();
        let known = known.is_some_and(|used| now.saturating_duration_since(used) < A_DAY);
        let (client, claims) = Client::all_of(remote);
        let clients = [Some(client), claims];
        let mut wait = Duration::ZERO;
        for client in clients.into_iter().flatten().filter(|_| !known) {
            if let Some(record) = self.clients.get_mut(&client) {
                wait = wait.max(record.at(door).wait(client, now));
            }
        }
        if !wait.is_zero() {
            return Err(wait.max(SPACING));
        }
        for client in clients.into_iter().flatten() {
            let count = self.clients.entry(client).at(door);
            count.pending = count.pending.saturating_add(1);
            // One that is known takes nobody's turn.
            if !known {
                count.last_try = Some(now);
            }
        }
        Ok(())
    }

    /// The credential was right, and is remembered.
    pub fn right(&mut self, remote: Remote, door: Door, digest: Digest, now: Instant) {
        self.undecided(remote, door);
        self.known.insert(digest, now);
    }

    /// The credential was wrong.
    pub fn wrong(
        &mut self,
        remote: Remote,
        door: Door,
        digest: &Digest,
        now: Instant,
    ) -> Option<Report> {
        self.known.remove(digest);
        let (client, claims) = Client::all_of(remote);
        if let Some(claims) = claims {
            self.fail(claims, door, now);
        }
        self.fail(client, door, now)
    }

    fn fail(&mut self, client: Client, door: Door, now: Instant) -> Option<Report> {
        let record = self.clients.touch(client);
        let first = record.doors.iter().all(|count| count.failures == 0);
        let count = record.at(door);
        count.pending = count.pending.saturating_sub(1);
        count.fail(client, now);
        let failures = count.failures;
        if first {
            return Some(Report::First);
        }
        let pause = record
            .reported
            .map(|last| now.saturating_duration_since(last));
        if failures < client.free() || pause.is_some_and(|pause| pause < REPORT_PAUSE) {
            return None;
        }
        record.reported = Some(now);
        Some(Report::Delayed { failures })
    }

    /// Nothing was learned of the credential: another server that judges it did not answer.
    pub fn undecided(&mut self, remote: Remote, door: Door) {
        let (client, claims) = Client::all_of(remote);
        for client in [Some(client), claims].into_iter().flatten() {
            let Some(record) = self.clients.get_mut(&client) else {
                continue;
            };
            let count = record.at(door);
            count.pending = count.pending.saturating_sub(1);
            if record.is_blank() {
                self.clients.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests;
