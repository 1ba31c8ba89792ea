//! Talking to the primary: one reqwest client, the node's credential, errors in words.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::Config;
use crate::base::secret::Secret;
use crate::discovery::{AnswerError, Connector, read_at_most, root_cause};
use crate::wire::message::{CREDENTIAL_HEADER as CREDENTIAL, NODE_NAME_HEADER, NodeName};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);

/// How long an answer to an ordinary request may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// See the module.
pub(super) struct Client {
    http: ArcSwap<Http>,
    primary: ArcSwap<Url>,
    credential: ArcSwap<Secret>,
}

/// The client, and the TLS configuration that it was made with.
struct Http {
    client: reqwest::Client,
    tls: Arc<rustls::ClientConfig>,
}

impl Http {
    /// The connector's trust, whatever the scheme: the next primary's may be another.
    fn trusting(connector: &Connector) -> anyhow::Result<Self> {
        let tls = connector.tls_config();
        let tls = tls.context("cannot check the primary's certificate")?;
        let http = crate::discovery::http_client()
            .tls_backend_preconfigured((*tls).clone())
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!(
                "relayctl/",
                env!("CARGO_PKG_VERSION"),
                " (Icecast relay)"
            ))
            .dns_resolver(Arc::new(connector.resolver().clone()));
        let client = http.build().context("cannot build the HTTP client")?;
        Ok(Self { client, tls })
    }
}

/// What a request came to.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// No answer.
    #[error("cannot reach {url}: {why}")]
    Unreachable { url: String, why: String },
    /// An answer that is none of ours.
    #[error("{url} answered {status}: {text}")]
    Refused {
        url: String,
        status: u16,
        text: String,
    },
    /// 200 with something else in it.
    #[error("{url} is no relayctl primary: {why}")]
    Foreign { url: String, why: String },
}

impl AskError {
    /// The status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl Client {
    pub fn new(config: &Config, connector: &Connector) -> anyhow::Result<Self> {
        Ok(Self {
            http: ArcSwap::from_pointee(Http::trusting(connector)?),
            primary: ArcSwap::from_pointee(config.primary.clone()),
            credential: ArcSwap::default(),
        })
    }

    /// Judges the primary's certificate as `connector` does now. Where that is as before, the connections stay: the
    /// end of the one that beats come by would be taken for the end of this node.
    pub fn renew(&self, connector: &Connector) -> anyhow::Result<()> {
        if !Arc::ptr_eq(&self.http.load().tls, &connector.tls_config()?) {
            self.http.store(Arc::new(Http::trusting(connector)?));
        }
        Ok(())
    }

    pub fn set_credential(&self, credential: Secret) {
        self.credential.store(Arc::new(credential));
    }

    pub fn credential(&self) -> Secret {
        (**self.credential.load()).clone()
    }

    /// Asks there from now on.
    pub fn turn_to(&self, primary: Url) {
        self.primary.store(Arc::new(primary));
    }

    /// The primary's base URL.
    pub fn primary(&self) -> Url {
        (**self.primary.load()).clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!(
            "{}{path}",
            self.primary.load().as_str().trim_end_matches('/')
        )
    }

    /// Posts `body` under `bearer` and reads the answer.
    pub async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        bearer: &Secret,
        body: &impl Serialize,
    ) -> Result<A, AskError> {
        self.send(path, bearer, None, body).await
    }

    /// Posts a request to join, with the name of this node and the credential that it has from an earlier join, if any.
    pub async fn join<A: DeserializeOwned>(
        &self,
        bearer: &Secret,
        credential: &Secret,
        name: &NodeName,
        body: &impl Serialize,
    ) -> Result<A, AskError> {
        let joining = Some((credential, name));
        self.send("/cluster/v1/join", bearer, joining, body).await
    }

    async fn send<A: DeserializeOwned>(
        &self,
        path: &str,
        bearer: &Secret,
        joining: Option<(&Secret, &NodeName)>,
        body: &impl Serialize,
    ) -> Result<A, AskError> {
        let url = self.url(path);
        let http = self.http.load_full();
        let mut request = http
            .client
            .post(&url)
            .bearer_auth(bearer.reveal())
            .json(body)
            .timeout(ANSWER);
        if let Some((credential, name)) = joining {
            request = request.header(NODE_NAME_HEADER, name.as_str());
            if !credential.is_empty() {
                request = request.header(CREDENTIAL, credential.reveal());
            }
        }
        let answer = request
            .send()
            .await
            .map_err(|error| unreachable(&url, &error))?;
        let status = answer.status().as_u16();
        let bytes = match read_at_most(answer, MAX_ANSWER).await {
            Ok(bytes) => bytes,
            Err(AnswerError::Broken(error)) => return Err(unreachable(&url, &error)),
            Err(error @ AnswerError::TooLong(_)) => {
                let why = error.to_string();
                return Err(AskError::Foreign { url, why });
            }
        };
        if status != 200 {
            return Err(AskError::Refused {
                url,
                status,
                text: words(&bytes),
            });
        }
        serde_json::from_slice(&bytes).map_err(|error| AskError::Foreign {
            url,
            why: error.to_string(),
        })
    }

    /// An answer of the primary that breaks a bound.
    pub fn strange(&self, why: &str) -> AskError {
        AskError::Foreign {
            url: self.url("/cluster/v1/beat"),
            why: why.to_owned(),
        }
    }

    /// Opens the feed.
    pub async fn feed(&self) -> Result<reqwest::Response, AskError> {
        let url = self.url("/cluster/v1/feed");
        let http = self.http.load_full();
        let asking = http
            .client
            .get(&url)
            .bearer_auth(self.credential().reveal())
            .send();
        let answer = tokio::time::timeout(ANSWER, asking).await;
        let no_answer = || AskError::Unreachable {
            url: url.clone(),
            why: "no answer in 10 s".into(),
        };
        let answer = answer
            .map_err(|_| no_answer())?
            .map_err(|error| unreachable(&url, &error))?;
        match answer.status().as_u16() {
            200 => Ok(answer),
            status => {
                // A refusal that drips is one without words.
                let reading = tokio::time::timeout(ANSWER, read_at_most(answer, MAX_ANSWER));
                let read = reading.await.ok().and_then(Result::ok);
                let text = read.map(|bytes| words(&bytes)).unwrap_or_default();
                Err(AskError::Refused { url, status, text })
            }
        }
    }
}

fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let error = json.as_ref().and_then(|json| json.get("error")?.as_str());
    error.unwrap_or(text.trim()).chars().take(300).collect()
}

fn unreachable(url: &str, error: &reqwest::Error) -> AskError {
    AskError::Unreachable {
        url: url.to_owned(),
        why: root_cause(error).to_string(),
    }
}

/// True for addresses on which a token may travel in clear: loopback, private, link-local.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_text_only_among_friends() {
        for friend in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(friend.parse().unwrap()), "{friend}");
        }
        for stranger in ["8.8.8.8", "2001:db8::1", "172.32.0.1"] {
            assert!(!is_private(stranger.parse().unwrap()), "{stranger}");
        }
    }
}
