//! What people, scripts and Icecast or Shoutcast tools ask a node: statistics, titles, playlists, metrics, our
//! own API, the page at `/`, and the serving side of the wire between nodes.
//!
//! Must never: serve audio, decide where a listener goes, or show a secret or (below scope admin) a listener's
//! address. Below it: `control` and what that holds. Above it: `edge` hands over every request that is no
//! listener, no source and no health check; `app` serves the same router on the node's own socket.

mod access;
mod api;
mod clients;
mod cluster;
mod feed;
mod icecast;
mod playlist;
mod query;
mod scrape;
mod shoutcast;
mod stats;
mod status;
mod titles;
mod xml;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use crate::control::Control;
use crate::throttle::Remote;
use crate::wire::response::GUARDS;
use access::Caller;
pub use api::TOKEN_BODY;
pub use api::description as api_description;
pub use shoutcast::SHOUTCAST_AGENT;
pub use status::page;

/// Who asks, as an extension of the request. Without it a request is taken as from nobody: no right, no address.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client's address (behind trusted proxies: the one they name).
    pub address: IpAddr,
    /// True where the client speaks https, to us or to a trusted proxy.
    pub https: bool,
    /// True where it came by the node's own socket, whose file only its user can open: it may everything.
    pub local: bool,
    /// Names that a trusted proxy was asked for (`X-Forwarded-Host`).
    pub hosts: Vec<String>,
    /// True where fields tell of a proxy in between that is not trusted, or does not say for whom it asks: `address` is
    /// then the proxy's.
    pub hidden: bool,
    /// True where a relay carried it here. It is not near, whatever its address.
    pub carried: bool,
    /// The client's address as an untrusted proxy claims it.
    pub claimed: Option<IpAddr>,
    /// The connection it came by, never the same twice in a process.
    pub connection: u64,
}

impl Client {
    /// Origin of its guesses at passwords.
    pub fn remote(&self) -> Remote {
        Remote {
            address: self.address,
            claimed: self.claimed,
        }
    }
}

/// Longest body of a request to these paths, in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// Paths and the handlers of their methods.
type Routes = Vec<(&'static str, MethodRouter<Arc<Control>>)>;

/// The router of everything over HTTP that is no audio.
pub fn router(control: Arc<Control>) -> Router {
    router_of(own_table())
        .merge(router_of(icecast::table()))
        .merge(router_of(api::table()))
        .merge(cluster::router())
        .fallback(rest)
        .method_not_allowed_fallback(other_method)
        .layer(from_fn_with_state(Arc::clone(&control), access::guard))
        .layer(from_fn(headers))
        .with_state(control)
}

/// Every path that [`router`] answers, as it is written in the table of routes; playlists (`/NAME.m3u`) apart.
pub fn paths() -> Vec<&'static str> {
    let tables = [
        own_table(),
        icecast::table(),
        api::table(),
        cluster::table(),
    ];
    tables.into_iter().flatten().map(|(path, _)| path).collect()
}

fn own_table() -> Routes {
    vec![
        ("/", get(status::root)),
        ("/metrics", get(scrape::metrics)),
        ("/status-json.xsl", get(stats::status_json)),
        ("/7.html", get(shoutcast::seven)),
        ("/stats", get(shoutcast::stats)),
    ]
}

fn router_of(table: Routes) -> Router<Arc<Control>> {
    table
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        })
}

/// A path that is there, and not for this method; axum adds `Allow`.
async fn other_method(request: Request) -> Response {
    let text = format!("{} is not taken here: see `Allow`\n", request.method());
    (StatusCode::METHOD_NOT_ALLOWED, text).into_response()
}

/// Playlists, whose names end in the mount's, and what is not there.
async fn rest(caller: Caller, State(control): State<Arc<Control>>, request: Request) -> Response {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if let Some((name, kind)) = playlist::named(path).filter(|_| reads) {
        return playlist::answer(&control, &caller, name, kind);
    }
    if path == "/api" || path.starts_with("/api/") {
        let hint = "`/api/v1/openapi.json` lists what there is";
        return api::Error::new(StatusCode::NOT_FOUND, "no such path", hint).into_response();
    }
    let text = "no such path: a mount plays at /NAME, the page at / lists them\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

/// What every answer carries: nothing is kept by a cache, and browsers may read what is public.
async fn headers(request: Request, next: Next) -> Response {
    let public = is_public(request.uri().path());
    let mut response = next.run(request).await;
    let fields = response.headers_mut();
    fields
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    // A form of ours must say where it comes from, and no other site needs to know the address of an operator's page.
    for (name, value) in GUARDS.lines().filter_map(|line| line.split_once(": ")) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            fields.entry(name).or_insert(value);
        }
    }
    if public {
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response
}

/// True for what any page on the web may read: it holds nothing that the page at `/` does not say.
fn is_public(path: &str) -> bool {
    matches!(path, "/" | "/status-json.xsl" | "/7.html" | "/stats")
        || playlist::named(path).is_some()
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
