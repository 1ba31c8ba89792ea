//! Fetching the URL that a relay advertises, as a listener would.

use std::time::Duration;

use crate::base::ids::NodeId;
use crate::discovery::{AnswerError, read_at_most, root_cause};

/// A probe takes no longer.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Longest answer that is read, in bytes; a node's own has some hundred.
const MAX_ANSWER: usize = 16 * 1024;

/// Why a URL is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Nothing listens there.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// An HTTP client for probes: no redirects, short patience, a connection for each probe.
#[derive(Debug, Clone)]
pub struct Prober {
    http: reqwest::Client,
}

impl Prober {
    /// A client.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new() -> reqwest::Result<Self> {
        let http = crate::discovery::http_client()
            .timeout(PATIENCE)
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("relayctl/", env!("CARGO_PKG_VERSION"), " (probe)"))
            .build()?;
        Ok(Self { http })
    }

    /// Fetches `/health` below `url` and checks that `node` itself answers: behind a wrong name or address
    /// there may be another one. `token` marks the request as a probe.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub async fn fetch(&self, url: &str, node: &NodeId, token: &str) -> Result<(), ProbeError> {
        let address = format!("{}/health?rt={token}", url.trim_end_matches('/'));
        let answer = self
            .http
            .get(address)
            .send()
            .await
            .map_err(|error| explain(&error))?;
        let bytes = read_at_most(answer, MAX_ANSWER)
            .await
            .map_err(|error| match error {
                AnswerError::Broken(error) => explain(&error),
                AnswerError::TooLong(_) => ProbeError::Failed(error.to_string()),
            })?;
        let body: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|_| ProbeError::Failed("something else than relayctl answers there".into()))?;
        match body.get("node").and_then(|id| id.as_str()) {
            Some(id) if id == node.as_str() => Ok(()),
            Some(id) => Err(ProbeError::Failed(format!(
                "another node answers there: `{id}`"
            ))),
            None => Err(ProbeError::Failed(
                "something else than relayctl answers there".into(),
            )),
        }
    }
}

fn explain(error: &reqwest::Error) -> ProbeError {
    let cause = root_cause(error);
    let refused = cause
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    if error.is_timeout() {
        return ProbeError::Failed("no answer within 3 s".into());
    }
    if refused {
        ProbeError::Refused(cause.to_string())
    } else {
        ProbeError::Failed(cause.to_string())
    }
}
