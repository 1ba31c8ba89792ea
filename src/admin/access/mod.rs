//! Credentials and origins of requests, judged before anything is done.

mod browser;
mod confirm;
mod guard;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{Client, api};
use crate::base::ids::MountId;
use crate::cluster::access::Scope;
use crate::control::{Control, MetricsOpen};
use crate::telemetry::refuse;
use crate::wire::basic::Credentials;
use crate::wire::headers::Headers;
pub(super) use guard::guard;

/// Who asks, by what it shows.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    client: Client,
    credentials: Credentials,
    host: Option<String>,
}

impl Caller {
    fn of(parts: &Parts) -> Self {
        let nobody = Client {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            https: false,
            local: false,
            hosts: Vec::new(),
            hidden: false,
            carried: false,
            connection: 0,
        };
        let client = parts.extensions.get::<Client>().cloned();
        Self {
            client: client.unwrap_or(nobody),
            credentials: credentials_of(&parts.headers),
            host: text_of(&parts.headers, HOST.as_str())
                .filter(|host| is_authority(host))
                .map(str::to_owned),
        }
    }

    /// True where the header has `Authorization: Bearer`.
    fn shows_bearer(headers: &HeaderMap) -> bool {
        matches!(credentials_of(headers), Credentials::Bearer(_))
    }

    /// What it may, if anything.
    pub fn scope(&self, control: &Control) -> Option<Scope> {
        if self.client.local {
            return Some(Scope::Admin);
        }
        let config = control.config();
        let is_admin = |text: &str| config.admin_password.matches(text).then_some(Scope::Admin);
        match &self.credentials {
            Credentials::Basic(basic) if basic.user == "admin" => is_admin(basic.password.reveal()),
            Credentials::Bearer(token) => {
                is_admin(token.reveal()).or_else(|| control.scope_of(token.reveal()))
            }
            _ => None,
        }
    }

    /// True if it may set the titles of `mount`: its source, or an operator.
    pub fn may_title(&self, control: &Control, mount: &MountId) -> bool {
        let source = match &self.credentials {
            Credentials::Basic(basic) => {
                (basic.user == "source" || basic.user.is_empty())
                    && control.may_feed(mount, basic.password.reveal())
            }
            _ => false,
        };
        source || self.scope(control) == Some(Scope::Admin)
    }

    /// Its `Authorization`, where it has one.
    pub fn login(&self) -> Option<String> {
        self.credentials.encode()
    }

    /// True if it may list the mounts as a foreign relay does.
    pub fn may_relay(&self, control: &Control) -> bool {
        let relay = match &self.credentials {
            Credentials::Basic(basic) => {
                let password = &control.config().relay_password;
                basic.user == "relay" && password.matches(basic.password.reveal())
            }
            _ => false,
        };
        relay || self.scope(control) == Some(Scope::Admin)
    }

    /// True if it may read the metrics.
    pub fn may_measure(&self, control: &Control) -> bool {
        let open = match control.config().metrics_open {
            MetricsOpen::Always => true,
            MetricsOpen::Auto => {
                let near = is_near(self.client.address);
                near && !self.client.hidden && !self.client.carried
            }
            MetricsOpen::Never => false,
        };
        open || self.scope(control).is_some()
    }

    /// Where this client reaches the node, without a trailing slash: the public URL of its scheme, else the first,
    /// else the host that it asked.
    pub fn base_url(&self, control: &Control) -> String {
        let config = control.config();
        let urls = &config.public_urls;
        let public = urls.of_scheme(self.client.https).or_else(|| urls.first());
        if let Some(url) = public {
            return url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.client.https { "https" } else { "http" };
        let fallback = format!("localhost:{}", control.identity.data_port);
        let host = self.host.as_deref().unwrap_or(&fallback);
        format!("{scheme}://{host}")
    }

    /// The answer to one who may not.
    pub fn denied(&self, path: &str) -> Response {
        refuse("admin_credentials");
        let (error, hint) = match self.credentials {
            Credentials::None => (
                "this needs a credential",
                "send user `admin` with its password, or `Authorization: Bearer TOKEN`; `relayctl token show admin` on the node shows it",
            ),
            _ => (
                "this credential is not known here",
                "`relayctl token show admin` on the node shows the right one; source passwords open titles only",
            ),
        };
        let mut response = said(path, StatusCode::UNAUTHORIZED, error, hint);
        let challenge = axum::http::HeaderValue::from_static("Basic realm=\"relayctl\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        response
    }

    fn demand(&self, control: &Control, path: &str, scope: Scope) -> Result<(), Box<Response>> {
        match self.scope(control) {
            Some(own) if own.opens(scope) => Ok(()),
            Some(_) => {
                refuse("admin_scope");
                let error = "this token may only read";
                let hint = "use the admin password, or a token made with `--scope admin`";
                Err(said(path, StatusCode::FORBIDDEN, error, hint).into())
            }
            None => Err(self.denied(path).into()),
        }
    }
}

/// An error in the tongue of the path: JSON for our API, else a line of text.
fn said(path: &str, status: StatusCode, error: &str, hint: &str) -> Response {
    if path.starts_with("/api/") {
        return api::Error::new(status, error, hint).into_response();
    }
    (status, format!("{error}: {hint}\n")).into_response()
}

fn credentials_of(headers: &HeaderMap) -> Credentials {
    let mut fields = Headers::new();
    if let Some(value) = text_of(headers, AUTHORIZATION.as_str()) {
        fields.push("Authorization", value);
    }
    Credentials::of(&fields)
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// True for what can stand between `://` and `/` without ending either.
fn is_authority(host: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    (1..=255).contains(&host.len()) && host.bytes().all(known)
}

/// Loopback, private and link-local addresses.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// Proof that the caller has scope read. A handler that takes it runs for nobody else.
pub(super) struct Read;

/// Proof that the caller has scope admin. A handler that takes it runs for nobody else.
pub(super) struct Admin;

impl FromRequestParts<Arc<Control>> for Read {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Control>) -> Result<Self, Response> {
        let caller = Caller::of(parts);
        let demanded = caller.demand(state, parts.uri.path(), Scope::Read);
        demanded.map_err(|response| *response)?;
        Ok(Self)
    }
}

impl FromRequestParts<Arc<Control>> for Admin {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Control>) -> Result<Self, Response> {
        let caller = Caller::of(parts);
        let demanded = caller.demand(state, parts.uri.path(), Scope::Admin);
        demanded.map_err(|response| *response)?;
        Ok(Self)
    }
}

#[cfg(test)]
mod own_tests {
    use super::*;

    #[test]
    fn near_and_far() {
        for near in [
            "127.0.0.9",
            "10.1.2.3",
            "192.168.0.1",
            "172.31.0.1",
            "169.254.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_near(near.parse().unwrap()), "{near}");
        }
        for far in [
            "0.0.0.0",
            "8.8.8.8",
            "172.32.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_near(far.parse().unwrap()), "{far}");
        }
    }

    #[test]
    fn only_a_plain_authority_is_told_back() {
        assert!(is_authority("radio.example:8000") && is_authority("[::1]:8000"));
        for bad in ["", "a/b", "a\"b", "<x>", "user@host", "a b"] {
            assert!(!is_authority(bad), "{bad}");
        }
    }
}
