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
use axum::http::header::{AUTHORIZATION, HOST, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{Client, api};
use crate::base::ids::MountId;
use crate::cluster::access::Scope;
use crate::control::{Control, Denied, MetricsOpen, Permit};
use crate::telemetry::refuse;
use crate::throttle::{Door, Remote};
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
            claimed: None,
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

    /// Origin of its guesses.
    pub fn remote(&self) -> Remote {
        self.client.remote()
    }

    /// True where it shows a credential at all.
    pub fn shows_credential(&self) -> bool {
        self.credentials != Credentials::None
    }

    /// The scope that it has.
    ///
    /// # Errors
    /// See [`Denied`]; a user that has no scope shows no credential.
    pub fn scope(&self, control: &Control) -> Result<Scope, Denied> {
        if self.client.local {
            return Ok(Scope::Admin);
        }
        let config = control.config();
        match &self.credentials {
            Credentials::Basic(basic) if basic.user == "admin" => {
                let password = basic.password.reveal();
                let permit = control.knock(Door::Admin, self.remote(), "admin", password)?;
                let right = config.admin_password.matches(&permit, password);
                permit.judge(right.then_some(Scope::Admin))
            }
            Credentials::Bearer(token) => {
                let token = token.reveal();
                let permit = control.knock(Door::Api, self.remote(), "", token)?;
                let admin = config.admin_password.matches(&permit, token);
                let scope = admin.then_some(Scope::Admin);
                let scope = scope.or_else(|| control.scope_of(&permit, token));
                permit.judge(scope)
            }
            _ => Err(Denied::Missing),
        }
    }

    /// Lets it set the titles of `mount`: its source, or an operator.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn may_title(&self, control: &Control, mount: &MountId) -> Result<(), Denied> {
        match &self.credentials {
            Credentials::Basic(basic) if basic.user == "source" || basic.user.is_empty() => {
                let password = basic.password.reveal();
                let subject = mount.to_string();
                let permit = control.knock(Door::Source, self.remote(), &subject, password)?;
                let right = control.may_feed(&permit, mount, password);
                permit.judge(right.then_some(()))
            }
            _ => self.demand_admin(control),
        }
    }

    /// The same by `pass=` in the query, which takes the password of the source or of the admin: a guess counts as one
    /// at both doors.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn may_title_by(
        &self,
        control: &Control,
        mount: &MountId,
        password: &str,
    ) -> Result<(), Denied> {
        if password.is_empty() {
            return Err(Denied::Missing);
        }
        let source = control.knock(Door::Source, self.remote(), &mount.to_string(), password)?;
        if control.may_feed(&source, mount, password) {
            source.right();
            return Ok(());
        }
        let admin = match control.knock(Door::Admin, self.remote(), "pass", password) {
            Ok(admin) => admin,
            Err(denied) => {
                source.wrong();
                return Err(denied);
            }
        };
        let right = control.config().admin_password.matches(&admin, password);
        if right {
            source.right();
        } else {
            source.wrong();
        }
        admin.judge(right.then_some(()))
    }

    /// Tells of a title that came with a wrong password: the encoder that sent it shows an old one for ever.
    pub fn tell_refused_title(&self, control: &Control, mount: &MountId, denied: Denied) {
        if denied == Denied::Wrong {
            let why = "a title came with a wrong password: `relayctl token show source` on the primary prints the right one";
            control.source_refused(mount, self.remote().address, why);
        }
    }

    /// Leave to have its credential judged by another server; none without one.
    ///
    /// # Errors
    /// [`Denied::Delayed`].
    pub fn knock_elsewhere<'a>(
        &self,
        control: &'a Control,
        mount: &MountId,
        password: Option<&str>,
    ) -> Result<Option<Permit<'a>>, Denied> {
        let shown = self.login();
        let Some(shown) = shown
            .as_deref()
            .or(password)
            .filter(|text| !text.is_empty())
        else {
            return Ok(None);
        };
        let permit = control.knock(Door::Source, self.remote(), &mount.to_string(), shown)?;
        Ok(Some(permit))
    }

    fn demand_admin(&self, control: &Control) -> Result<(), Denied> {
        let scope = self.scope(control)?;
        (scope == Scope::Admin).then_some(()).ok_or(Denied::Missing)
    }

    /// Its `Authorization`, where it has one.
    pub fn login(&self) -> Option<String> {
        self.credentials.encode()
    }

    /// Lets it list the mounts, as a foreign relay does.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn may_relay(&self, control: &Control) -> Result<(), Denied> {
        match &self.credentials {
            Credentials::Basic(basic) if basic.user == "relay" => {
                let password = basic.password.reveal();
                let permit = control.knock(Door::Relay, self.remote(), "relay", password)?;
                let right = control.is_relay_password(&permit, password);
                permit.judge(right.then_some(()))
            }
            _ => self.demand_admin(control),
        }
    }

    /// Lets it read the metrics.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn may_measure(&self, control: &Control) -> Result<(), Denied> {
        let open = match control.config().metrics_open {
            MetricsOpen::Always => true,
            MetricsOpen::Auto => {
                let near = is_near(self.client.address);
                near && !self.client.hidden && !self.client.carried
            }
            MetricsOpen::Never => false,
        };
        if open {
            return Ok(());
        }
        self.scope(control).map(|_| ())
    }

    /// URL under which this client reaches the node, without a trailing slash: the public one of its scheme, else the first.
    /// Where nobody set one, the host that it asked, and only then what the node guesses of itself.
    pub fn base_url(&self, control: &Control) -> String {
        let config = control.config();
        let urls = &config.public_urls;
        let public = urls.of_scheme(self.client.https).or_else(|| urls.first());
        let public = public.map(|url| url.trim_end_matches('/'));
        if let Some(url) = public.filter(|_| !config.urls_are_guessed) {
            return url.to_owned();
        }
        let scheme = if self.client.https { "https" } else { "http" };
        match (self.asked_host(), public) {
            (Some(host), _) => format!("{scheme}://{host}"),
            (None, Some(url)) => url.to_owned(),
            (None, None) => format!("{scheme}://localhost:{}", control.identity.data_port),
        }
    }

    /// The host and port that the client asked for: by the word of a trusted proxy, else its own. The node's own socket
    /// is asked for none.
    fn asked_host(&self) -> Option<&str> {
        let told = self.client.hosts.first();
        let told = told.map(String::as_str).filter(|host| is_authority(host));
        told.or(self.host.as_deref()).filter(|_| !self.client.local)
    }

    /// The answer to a caller without the right: 401, or 429 where it failed too often.
    pub fn denied(&self, path: &str, denied: Denied) -> Response {
        if let Denied::Delayed(seconds) = denied {
            return later(path, seconds);
        }
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
            Ok(own) if own.opens(scope) => Ok(()),
            Ok(_) => {
                refuse("admin_scope");
                let error = "this token may only read";
                let hint = "use the admin password, or a token made with `--scope admin`";
                Err(said(path, StatusCode::FORBIDDEN, error, hint).into())
            }
            Err(denied) => Err(self.denied(path, denied).into()),
        }
    }
}

/// 429 for a client that failed too often, in the tongue of the path.
pub(super) fn later(path: &str, seconds: u64) -> Response {
    let error = "too many wrong passwords or tokens came from this address";
    let hint = format!("try again in {seconds} s; nothing was compared");
    let mut response = said(path, StatusCode::TOO_MANY_REQUESTS, error, &hint);
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
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
    let parses = || {
        let url = url::Url::parse(&format!("http://{host}/"));
        url.is_ok_and(|url| url.has_host() && url.username().is_empty())
    };
    (1..=255).contains(&host.len()) && host.bytes().all(known) && parses()
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
        for bad in [
            ":80",
            "a:b",
            "a:1:2",
            "[::1",
            "a:99999",
            "",
            "a/b",
            "a\"b",
            "<x>",
            "user@host",
            "a b",
        ] {
            assert!(!is_authority(bad), "{bad}");
        }
    }
}
