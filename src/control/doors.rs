//! The one way in which a password or token is compared: by a [`Permit`], which the limiter of guesses gives.
//!
//! [`Password`] and [`Control::scope_of`] take one, so that no door can compare without having asked.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::Control;
use crate::base::secret::Secret;
use crate::telemetry::refuse;
use crate::throttle::{Digest, Door, Remote, Report, Throttle};
use crate::wire::message::Happening;

/// Clients that get slow may be reported so many at once, and then one a second.
const DELAYED_BURST: f64 = 100.0;

/// Burst of reports of first failures, which are of less interest.
const FIRST_BURST: f64 = 20.0;

/// A password of this node, which only a [`Permit`] compares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Password(Secret);

impl Password {
    /// Wraps a secret.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// The secret itself, to be written into files of other servers and sent to nodes.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// True if the attempt that `permit` stands for is this password, in constant time.
    pub fn matches(&self, _permit: &Permit<'_>, attempt: &str) -> bool {
        self.0.matches(attempt)
    }
}

/// A failed attempt to open a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No credential of this kind was shown.
    Missing,
    /// The credential was compared, and is wrong.
    Wrong,
    /// The credential was not compared, since the client failed too often; answered 429 with this `Retry-After` in seconds.
    Delayed(u64),
}

/// State of the limiter.
pub(super) struct Doors {
    throttle: Mutex<Throttle>,
    /// Keys the digests of credentials; new in each process.
    key: Hmac<Sha256>,
    first: Mutex<Reports>,
    delayed: Mutex<Reports>,
}

/// A token bucket for reports, since many addresses can cause one each.
#[derive(Debug)]
struct Reports {
    burst: f64,
    tokens: f64,
    at: Option<Instant>,
    suppressed: u64,
}

impl Reports {
    fn new(burst: f64) -> Self {
        Self {
            burst,
            tokens: burst,
            at: None,
            suppressed: 0,
        }
    }

    /// The reports that were left out before this one; none if this one is left out as well.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let since = self
            .at
            .map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.at = Some(now);
        self.tokens = (self.tokens + since).min(self.burst);
        if self.tokens < 1.0 {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.tokens -= 1.0;
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl Doors {
    /// A limiter that knows nobody.
    pub fn new() -> Self {
        // As long as the hash's block, so that it is the key as it is.
        let mut block = [0; 64];
        if let Err(error) = getrandom::fill(&mut block) {
            // The digests never leave this process: what a key hides is hidden from a core file only.
            tracing::warn!(%error, "no randomness for the digests of passwords");
        }
        Self {
            throttle: Mutex::default(),
            key: Hmac::new(&block.into()),
            first: Mutex::new(Reports::new(FIRST_BURST)),
            delayed: Mutex::new(Reports::new(DELAYED_BURST)),
        }
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, remote: Remote, door: Door, subject: &str, attempt: &str) -> Digest {
        let mut mac = self.key.clone();
        let claimed = remote.claimed.map(|claimed| claimed.to_string());
        for part in [
            door.as_str(),
            &remote.address.to_string(),
            claimed.as_deref().unwrap_or(""),
            subject,
            attempt,
        ] {
            // Lengths keep parts apart.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let mut digest = Digest::default();
        let whole = mac.finalize().into_bytes();
        for (to, from) in digest.iter_mut().zip(whole) {
            *to = from;
        }
        digest
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doors")
    }
}

/// Leave to compare one attempt once. Dropped without a verdict it counts as neither right nor wrong.
#[must_use = "an attempt that was compared is to be judged"]
pub struct Permit<'a> {
    control: &'a Control,
    remote: Remote,
    door: Door,
    digest: Digest,
    decided: bool,
}

impl Permit<'_> {
    /// Counts the outcome of the comparison and hands it on.
    ///
    /// # Errors
    /// [`Denied::Wrong`] where there is none.
    pub fn judge<T>(self, outcome: Option<T>) -> Result<T, Denied> {
        match outcome {
            Some(outcome) => {
                self.right();
                Ok(outcome)
            }
            None => {
                self.wrong();
                Err(Denied::Wrong)
            }
        }
    }

    /// The attempt was right: it is remembered for this client.
    pub fn right(mut self) {
        self.decided = true;
        let now = Instant::now();
        let mut throttle = self.control.doors.throttle();
        throttle.right(self.remote, self.door, self.digest, now);
    }

    /// The attempt was wrong: it is counted, and said where that is due.
    pub fn wrong(mut self) {
        self.decided = true;
        let now = Instant::now();
        let mut throttle = self.control.doors.throttle();
        let report = throttle.wrong(self.remote, self.door, &self.digest, now);
        drop(throttle);
        metrics::counter!("relayctl_guesses_total", "door" => self.door.as_str()).increment(1);
        if let Some(report) = report {
            self.control
                .report_guesses(self.remote, self.door, report, now);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.decided {
            let mut throttle = self.control.doors.throttle();
            throttle.undecided(self.remote, self.door);
        }
    }
}

impl Control {
    /// Asks to compare `attempt`, a password or token of `subject` (a user or a mount), at a door.
    ///
    /// # Errors
    /// [`Denied::Delayed`] for a client that has guessed wrong too often; it is counted.
    pub fn knock(
        &self,
        door: Door,
        remote: Remote,
        subject: &str,
        attempt: &str,
    ) -> Result<Permit<'_>, Denied> {
        let digest = self.doors.digest(remote, door, subject, attempt);
        let asked = self
            .doors
            .throttle()
            .ask(remote, door, &digest, Instant::now());
        match asked {
            Ok(()) => Ok(Permit {
                control: self,
                remote,
                door,
                digest,
                decided: false,
            }),
            Err(wait) => {
                refuse("guessing");
                // A part of a second counts as a whole one.
                let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                Err(Denied::Delayed(whole))
            }
        }
    }

    fn report_guesses(&self, remote: Remote, door: Door, report: Report, now: Instant) {
        let reports = match report {
            Report::First => &self.doors.first,
            Report::Delayed { .. } => &self.doors.delayed,
        };
        let left_out = reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(now);
        let Some(left_out) = left_out else {
            return;
        };
        let (client, door) = (remote.address, door.as_str());
        let claimed = remote.claimed.map(tracing::field::display);
        match report {
            Report::First => {
                tracing::info!(%client, claimed, door, left_out, "wrong password or token");
            }
            Report::Delayed { failures } => {
                tracing::warn!(%client, claimed, door, failures, left_out, "too many wrong passwords or tokens");
                self.happened(Happening::Guessing {
                    address: client,
                    door: door.to_owned(),
                    failures,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reports_come_once_a_second_after_a_burst() {
        let mut reports = Reports::new(DELAYED_BURST);
        let start = Instant::now();
        let told = (0..5000).filter(|_| reports.take(start).is_some()).count();
        assert_eq!(told, 100);
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(reports.take(later(1)), Some(4900));
        assert_eq!(reports.take(later(1)), None);
        assert_eq!(reports.take(later(3)), Some(1));
    }

    #[test]
    fn digests_differ_in_every_part() {
        let doors = Doors::new();
        let one = Remote::direct([127, 0, 0, 1].into());
        let other = Remote::direct([127, 0, 0, 2].into());
        let claimed = Remote {
            claimed: Some(other.address),
            ..one
        };
        let all = [
            doors.digest(one, Door::Admin, "admin", "secret"),
            doors.digest(other, Door::Admin, "admin", "secret"),
            doors.digest(claimed, Door::Admin, "admin", "secret"),
            doors.digest(one, Door::Api, "admin", "secret"),
            doors.digest(one, Door::Admin, "admi", "nsecret"),
            doors.digest(one, Door::Admin, "admin", "secret2"),
            Doors::new().digest(one, Door::Admin, "admin", "secret"),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all[0], doors.digest(one, Door::Admin, "admin", "secret"));
    }
}
