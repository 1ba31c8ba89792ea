//! Asking a node: over its own socket, or by URL with a token.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::args::Target;
use super::place::{self, Found};
use super::{Exit, Failure, node, token};
use crate::app::SOCKET_FILE;
use crate::discovery::read_at_most;

/// A list of listeners asks every node, which takes its time.
const TIMEOUT: Duration = Duration::from_secs(20);

/// For what has no end of its own.
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The API's answers are lists of what a cluster has; more than this is none of ours.
const MAX_ANSWER: usize = 64 << 20;

/// A node to ask.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    /// For people.
    named: String,
}

/// What is done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// Read it.
    Get,
    /// Make something there.
    Post,
    /// Take it away.
    Delete,
}

impl Client {
    /// The node that `target`, the environment or this machine names.
    ///
    /// # Errors
    /// Where there is none, or more than one.
    pub fn new(target: &Target) -> Result<Self, Failure> {
        let environment = node::environment();
        let named = || place::variable(&environment, "RELAYCTL_ADDR").map(str::to_owned);
        let address = match (&target.addr, &target.data_dir) {
            (Some(address), _) => Some(address.clone()),
            (None, Some(_)) => None,
            (None, None) => named(),
        };
        if let Some(address) = address {
            let base = with_scheme(address.trim()).trim_end_matches('/').to_owned();
            return Ok(Self {
                http: plain(TIMEOUT)?,
                named: format!("`{base}`"),
                base,
                token: place::variable(&environment, "RELAYCTL_API_TOKEN").map(str::to_owned),
            });
        }
        Self::over(socket(target.data_dir.as_deref())?)
    }

    /// The node of this machine, over its own socket: no address of this machine is a credential.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn here(target: &Target) -> Result<Self, Failure> {
        Self::over(socket(target.data_dir.as_deref())?)
    }

    fn over(socket: PathBuf) -> Result<Self, Failure> {
        Ok(Self {
            http: crate::discovery::http_client()
                .unix_socket(socket.clone())
                .timeout(TIMEOUT)
                .no_proxy()
                .build()?,
            base: "http://relayctl".into(),
            token: None,
            named: format!("the node's socket `{}`", socket.display()),
        })
    }

    /// One question, one answer. A path begins with `/`.
    ///
    /// # Errors
    /// [`Exit::Unreachable`], [`Exit::Denied`], or what the node says.
    pub fn ask(&self, verb: Verb, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (answer, _) = block_on(self.exchange(verb, path, body))??;
        Ok(answer)
    }

    /// One page of a list, and the path of the next one.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn page(&self, path: &str) -> Result<(Value, Option<String>), Failure> {
        block_on(self.exchange(Verb::Get, path, None))?
    }

    async fn exchange(
        &self,
        verb: Verb,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(Value, Option<String>), Failure> {
        let url = format!("{}{path}", self.base);
        let mut request = match verb {
            Verb::Get => self.http.get(url),
            Verb::Post => self.http.post(url),
            Verb::Delete => self.http.delete(url),
        };
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| self.broken(error))?;
        let status = answer.status();
        let link = answer.headers().get("link");
        let next = link.and_then(|link| next_page(link.to_str().ok()?));
        let bytes = read_at_most(answer, MAX_ANSWER)
            .await
            .map_err(|error| self.broken(error))?;
        let value: Option<Value> = serde_json::from_slice(&bytes).ok();
        if status.is_success() {
            return match value {
                Some(value) => Ok((value, next)),
                None if bytes.is_empty() => Ok((Value::Null, None)),
                None => Err(Failure::said(
                    Exit::Failed,
                    format!(
                        "{} answers `{path}` with no JSON: is it relayctl?",
                        self.named
                    ),
                )),
            };
        }
        Err(self.refused(status, path, &bytes))
    }

    /// A stream of events after the one of the id `last`, for as long as it lives.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn stream(
        &self,
        path: &str,
        last: Option<&str>,
    ) -> Result<reqwest::Response, Failure> {
        let request = self.http.get(format!("{}{path}", self.base));
        let mut request = request
            .timeout(A_YEAR)
            .header("Accept", "text/event-stream");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let answer = request.send().await.map_err(|error| self.broken(error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let bytes = read_at_most(answer, MAX_ANSWER)
            .await
            .map_err(|error| self.broken(error))?;
        Err(self.refused(status, path, &bytes))
    }

    fn refused(&self, status: reqwest::StatusCode, path: &str, bytes: &[u8]) -> Failure {
        let value: Option<Value> = serde_json::from_slice(bytes).ok();
        let said = sentence(value.as_ref(), bytes);
        match status.as_u16() {
            401 | 403 => Failure::said(Exit::Denied, self.denied(&said)),
            code => Failure::said(
                Exit::Failed,
                format!("{} answers {code} to `{path}`{}", self.named, colon(&said)),
            ),
        }
    }

    fn denied(&self, said: &str) -> String {
        let hint = match &self.token {
            None => {
                "set RELAYCTL_API_TOKEN to a token of the right scope, which \
                 `relayctl token create --scope read|admin` makes on the node's machine"
            }
            Some(_) => "is RELAYCTL_API_TOKEN of the right scope, and not revoked?",
        };
        format!("{} does not allow it{}; {hint}", self.named, colon(said))
    }

    fn broken(&self, error: impl Into<anyhow::Error>) -> Failure {
        Failure::said(
            Exit::Unreachable,
            format!("cannot reach {}: {:#}", self.named, short(error.into())),
        )
    }
}

/// The path in `</path?after=9>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let (target, rest) = link.split_once('>')?;
    let path = target.trim().strip_prefix('<')?;
    (rest.contains("rel=\"next\"") && path.starts_with('/')).then(|| path.to_owned())
}

/// What an error answer says: the API's fields, else its text.
fn sentence(value: Option<&Value>, bytes: &[u8]) -> String {
    let field = |name| value?.get(name)?.as_str();
    let text = match (field("error"), field("hint")) {
        (Some(error), Some(hint)) if !hint.is_empty() => format!("{error}; {hint}"),
        (Some(error), _) => error.to_owned(),
        _ => String::from_utf8_lossy(bytes).trim().to_owned(),
    };
    super::table::clean(&text).chars().take(400).collect()
}

fn colon(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    }
}

/// The socket of the one node that runs here.
fn socket(data_dir: Option<&str>) -> Result<PathBuf, Failure> {
    let (places, _) = place::places(data_dir);
    match places.find(place::lives) {
        Found::One(place) => return Ok(place.join(SOCKET_FILE)),
        Found::Several(several) => return Err(token::ambiguous(&several)),
        Found::Nowhere => {}
    }
    if let Some(place) = places.forbidden() {
        return Err(place::not_permitted(place));
    }
    Err(Failure::said(
        Exit::Unreachable,
        format!(
            "no node runs here, looked for its socket in {}: start one (`relayctl primary`), or name one \
             by --data-dir or --addr",
            places.listed()
        ),
    ))
}

/// A client for any URL.
pub(super) fn plain(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    crate::discovery::http_client()
        .timeout(timeout)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// Runs one question to its end.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}

/// The last reason of a chain: `connection refused` rather than how we came there.
pub(super) fn short(error: anyhow::Error) -> anyhow::Error {
    match error.chain().last() {
        Some(last) => anyhow::anyhow!("{last}"),
        None => error,
    }
}

/// `http` where no scheme is written.
pub(super) fn with_scheme(text: &str) -> String {
    if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    }
}

/// A word as a part of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
