//! Becoming a member, however long it takes.

use std::time::Instant;

use url::Url;

use super::client::{AskError, is_private};
use super::{Agent, PACE};
use crate::base::retry::Backoff;
use crate::base::secret::Secret;
use crate::discovery::PrimaryAddress;
use crate::wire::message::{self, JoinAnswer, JoinRequest};

impl Agent {
    /// Asks until the primary takes this node in; `None` at the shutdown. What keeps it out is said once
    /// for each cause, not at every try.
    pub(super) async fn join(&self) -> Option<Secret> {
        let mut pace = Backoff::new(PACE.0, PACE.1);
        let mut said = String::new();
        loop {
            let asked = tokio::select! {
                () = self.shutdown.cancelled() => return None,
                asked = self.ask_everywhere() => asked,
            };
            let why = match asked {
                Ok(answer) => return Some(self.take_answer(&answer)),
                Err(why) => why,
            };
            if why != said {
                tracing::warn!("not joined yet, trying on: {why}");
                said = why;
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
        answer.credential.clone()
    }

    /// Asks at every place that the primary's name leads to, until one takes this node in.
    async fn ask_everywhere(&self) -> Result<JoinAnswer, String> {
        let mut why = String::new();
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

    async fn ask_to_join(&self) -> Result<JoinAnswer, String> {
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
        let credential = (!credential.is_empty()).then_some(&credential);
        let token = self.config.load().token.clone();
        let asked = self
            .client
            .post_with("/cluster/v1/join", &token, credential, &request)
            .await;
        let answer: JoinAnswer = asked.map_err(|error| self.explain(&error))?;
        answer.check().map_err(|error| error.to_string())?;
        Ok(answer)
    }

    /// In clear the token travels only among friends, unless the operator says so.
    async fn may_send_token(&self) -> Result<(), String> {
        let config = self.config.load_full();
        if config.primary.scheme() == "https" || config.insecure_join {
            return Ok(());
        }
        let place = self.client.primary();
        let host = place.host_str().unwrap_or_default();
        let port = place.port_or_known_default().unwrap_or(80);
        let addresses = self.resolver.addresses(host, port).await;
        let addresses = addresses.map_err(|error| error.to_string())?;
        match addresses.iter().find(|address| !is_private(address.ip())) {
            None => Ok(()),
            Some(address) => Err(format!(
                "{host} is {}, which is no private address, and the token would travel in clear: use an https:// \
                 URL, or allow it with --insecure-join",
                address.ip()
            )),
        }
    }

    fn explain(&self, error: &AskError) -> String {
        let text = error.to_string();
        if text.contains("certificate") && !text.contains("join token") {
            return format!(
                "{text}; name the file of its authority by --primary-ca (or RELAYCTL_PRIMARY_CA)"
            );
        }
        if self.config.load().assumed_port && matches!(error, AskError::Unreachable { .. }) {
            return format!(
                "{error}; a relayctl primary listens on 8000: name the port (`RelayPort`, or RELAYCTL_PRIMARY)"
            );
        }
        text
    }
}
