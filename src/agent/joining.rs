//! Becoming a member, however long it takes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use url::Url;

use super::client::{AskError, is_private};
use super::{Agent, PACE};
use crate::base::retry::Backoff;
use crate::base::secret::Secret;
use crate::control::Refusal;
use crate::discovery::PrimaryAddress;
use crate::wire::message::{self, JoinAnswer, JoinRequest};

impl Agent {
    /// Asks until the primary takes this node in; `None` at the shutdown. What keeps it out is said at growing intervals,
    /// not at every try.
    pub(super) async fn join(&self) -> Option<Secret> {
        let mut pace = Backoff::new(PACE.0, PACE.1);
        let mut said = Said::default();
        loop {
            let asked = tokio::select! {
                () = self.shutdown.cancelled() => return None,
                asked = self.ask_everywhere() => asked,
            };
            let failed = match asked {
                Ok(answer) => return Some(self.take_answer(&answer)),
                Err(failed) => failed,
            };
            let primary = self.client.primary();
            self.control
                .waits_to_join(primary.as_str(), &failed.why, failed.refusal);
            if said.is_due(&failed.why, Instant::now()) {
                self.control.tell_waiting();
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                () = tokio::time::sleep(pace.next_wait()) => {}
            }
        }
    }

    fn take_answer(&self, answer: &JoinAnswer) -> Secret {
        self.control.joined(answer);
        let probe = &answer.probe;
        if probe.ok {
            tracing::info!(primary = %answer.primary_name, url = answer.public_url, "joined");
        } else {
            tracing::warn!(
                primary = %answer.primary_name,
                url = probe.url,
                error = probe.error.as_deref(),
                "joined, but the primary cannot reach this relay at the URL that listeners would be told, so it \
                 gets nobody: {}",
                probe.hint.as_deref().unwrap_or(message::URL_HINT)
            );
        }
        if let Some(warning) = &answer.warning {
            tracing::warn!(url = answer.public_url, "joined, but {warning}");
        }
        answer.credential.clone()
    }

    /// Asks at every place that the primary's name leads to, until one takes this node in.
    async fn ask_everywhere(&self) -> Result<JoinAnswer, NotTaken> {
        let mut why = NotTaken::now("no address of the primary is known".to_owned());
        for place in self.places().await {
            self.turn_to(place);
            match self.ask_to_join().await {
                Ok(answer) => return Ok(answer),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// The targets of the name's SRV records where the URL has no port, else the URL itself (all of whose
    /// addresses are tried when connecting).
    async fn places(&self) -> Vec<Url> {
        let config = self.config.load();
        let primary = &config.primary;
        // A name alone stands for its SRV records; the port that is tried without them was added by us.
        let written = match (config.any_port, primary.port()) {
            (true, Some(_)) => primary.host_str().unwrap_or_default(),
            _ => primary.as_str().trim_end_matches('/'),
        };
        let Ok(address) = written.parse::<PrimaryAddress>() else {
            return vec![primary.clone()];
        };
        let urls = self.resolver.base_urls(&address).await;
        urls.iter().filter_map(|url| Url::parse(url).ok()).collect()
    }

    /// The primary does not answer: asks at the next place that its name leads to, where it leads to several.
    pub(super) async fn try_elsewhere(&self) {
        let places = self.places().await;
        let now = self.client.primary();
        let known = places.iter().position(|place| *place == now);
        let next = known.map_or(0, |at| (at + 1) % places.len().max(1));
        if let Some(next) = places.get(next).filter(|next| **next != now) {
            self.turn_to(next.clone());
        }
    }

    async fn ask_to_join(&self) -> Result<JoinAnswer, NotTaken> {
        self.may_send_token().await?;
        let config = self.control.config();
        let identity = &self.control.identity;
        let uptime = Instant::now().saturating_duration_since(self.control.telemetry.started);
        let request = JoinRequest {
            v: message::VERSION,
            id: identity.id.clone(),
            name: identity.name.clone(),
            incarnation: identity.incarnation,
            version: identity.version.to_owned(),
            public_urls: config.public_urls.clone(),
            data_port: identity.data_port,
            capabilities: self.control.capabilities(),
            limits: self.control.limits(),
            weight: config.weight,
            uptime_millis: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            keeps_credential: self.control.keeps_credential(),
        };
        let credential = self.control.own_credential();
        let token = self.config.load().token.clone();
        let asked = self
            .client
            .join(&token, &credential, &identity.name, &request)
            .await;
        let answer: JoinAnswer = asked.map_err(|error| self.explain(&error))?;
        answer
            .check()
            .map_err(|error| NotTaken::now(error.to_string()))?;
        Ok(answer)
    }

    /// In clear the token travels only among friends, unless the operator says so.
    async fn may_send_token(&self) -> Result<(), NotTaken> {
        let config = self.config.load_full();
        if config.primary.scheme() == "https" || config.insecure_join {
            return Ok(());
        }
        let place = self.client.primary();
        let host = place.host_str().unwrap_or_default();
        let port = place.port_or_known_default().unwrap_or(80);
        let addresses = self.resolver.addresses(host, port).await;
        let addresses = addresses.map_err(|error| NotTaken::now(error.to_string()))?;
        match addresses.iter().find(|address| !is_private(address.ip())) {
            None => Ok(()),
            Some(address) => Err(NotTaken {
                why: clear_text(&place, address.ip()),
                refusal: Some(Refusal::ClearText),
            }),
        }
    }

    fn explain(&self, error: &AskError) -> NotTaken {
        let text = error.to_string();
        let refusal = match error.status() {
            Some(401 | 403 | 409) => Some(Refusal::Denied),
            _ => None,
        };
        let why = if text.contains("certificate") && !text.contains("join token") {
            format!(
                "{text}; name the file of its authority by --primary-ca (or RELAYCTL_PRIMARY_CA)"
            )
        } else if self.config.load().assumed_port && matches!(error, AskError::Unreachable { .. }) {
            format!(
                "{error}; a relayctl primary listens on 8000: name the port (`RelayPort`, or RELAYCTL_PRIMARY)"
            )
        } else if matches!(error, AskError::Unreachable { .. }) {
            format!("{text}; see that the primary runs, and that --primary names it")
        } else {
            text
        };
        NotTaken { why, refusal }
    }
}

/// A join that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NotTaken {
    why: String,
    /// Set where asking again changes nothing.
    refusal: Option<Refusal>,
}

impl NotTaken {
    /// A failure that the next request may not meet.
    fn now(why: String) -> Self {
        Self { why, refusal: None }
    }
}

/// Why nothing is sent to a primary on the Internet, and what to do.
fn clear_text(primary: &Url, address: IpAddr) -> String {
    let host = primary.host_str().unwrap_or_default();
    let is_address = host.trim_matches(['[', ']']).parse() == Ok(address);
    let host = match is_address {
        true => format!("{address} is no private address"),
        false => format!("{host} has the address {address}, which is not a private one"),
    };
    format!(
        "{host}, so the join token would travel over the Internet in clear text: name the primary by an https:// URL, \
         or allow it with --insecure-join"
    )
}

/// Pause between two warnings of the same cause. Each further one doubles, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Causes that are warned of at once when they are new; beyond, all are new again.
const MOST_CAUSES: usize = 8;

/// Warnings so far: a new cause at once, the others at growing intervals.
#[derive(Debug, Default)]
struct Said {
    causes: Vec<String>,
    /// Time of the last one, and the pause after it.
    last: Option<(Instant, Duration)>,
}

impl Said {
    fn is_due(&mut self, why: &str, now: Instant) -> bool {
        let is_new = !self.causes.iter().any(|cause| cause == why);
        if is_new {
            if self.causes.len() >= MOST_CAUSES {
                self.causes.clear();
            }
            self.causes.push(why.to_owned());
        }
        let pause = match self.last {
            Some((at, pause)) if now.saturating_duration_since(at) >= pause => {
                pause.saturating_mul(2).min(LONGEST_PAUSE)
            }
            Some((_, pause)) if is_new => pause,
            Some(_) => return false,
            None => FIRST_PAUSE,
        };
        self.last = Some((now, pause));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_repeated_after_5_s_then_10_s_up_to_5_min() {
        let (start, mut said) = (Instant::now(), Said::default());
        let mut at = Vec::new();
        for second in 0..3_600_u64 {
            if said.is_due("refused", start + Duration::from_secs(second)) {
                at.push(second);
            }
        }
        assert_eq!(at[..7], [0, 5, 15, 35, 75, 155, 315]);
        let last = at.len() - 1;
        assert_eq!(at[last] - at[last - 1], LONGEST_PAUSE.as_secs());
    }

    #[test]
    fn a_new_cause_is_said_at_once_and_two_in_turn_do_not_flood() {
        let (start, mut said) = (Instant::now(), Said::default());
        assert!(said.is_due("a", start));
        assert!(said.is_due("b", start));
        let lines = (0..60).filter(|n| {
            let why = if n % 2 == 0 { "a" } else { "b" };
            said.is_due(why, start + Duration::from_secs(*n))
        });
        assert_eq!(lines.count(), 3, "after 5, 15 and 35 s");
    }

    #[test]
    fn clear_text_is_explained_by_name_and_by_address() {
        let says =
            |url: &str, address: &str| clear_text(&url.parse().unwrap(), address.parse().unwrap());
        let text = says("http://203.0.113.1:8000", "203.0.113.1");
        assert!(
            text.starts_with("203.0.113.1 is no private address, so"),
            "{text}"
        );
        assert!(text.contains("https://") && text.contains("--insecure-join"));
        let text = says("http://[2001:db8::1]:8000", "2001:db8::1");
        assert!(text.starts_with("2001:db8::1 is no private"), "{text}");
        let text = says("http://radio.example:8000", "203.0.113.1");
        assert!(
            text.starts_with("radio.example has the address 203.0.113.1,"),
            "{text}"
        );
    }
}
