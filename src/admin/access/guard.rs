//! One gate before every handler of the room: what a page of another site must not do with a browser's credentials.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ALLOW, HOST, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::browser::{Asked, Effect, Hosts, Refusal, is_browser, judge, names_a_page};
use super::{Caller, confirm, said, text_of};
use crate::admin::{Client, icecast};
use crate::control::{Control, GetActions};
use crate::telemetry::refuse;

/// Public paths below a prefix that otherwise needs a credential.
const PUBLIC: [&str; 2] = ["/api/v1/openapi.json", "/api/v1/nowplaying"];

/// Prefixes of paths that need a credential, unless a setting opens them.
const PRIVATE: [&str; 4] = ["/admin", "/api", "/metrics", "/dashboard"];

/// Lets a request through, or answers it: 403 by the rules of [`judge`], 405 where a GET may not act.
pub(in crate::admin) async fn guard(
    State(control): State<Arc<Control>>,
    request: Request,
    next: Next,
) -> Response {
    match refusal(&control, &request) {
        Some(response) => *response,
        None => next.run(request).await,
    }
}

/// The effect of a request, by its method and its raw path, as the routes compare it.
pub(super) fn effect(method: &Method, path: &str) -> Effect {
    // Nodes speak to each other by bearer credentials and are no pages.
    if path.starts_with("/cluster/") {
        return Effect::Public;
    }
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if !reads || icecast::acts_by_get(path) {
        return Effect::Changes;
    }
    let below = |prefix: &&str| path.starts_with(prefix);
    let public = PUBLIC.iter().any(below);
    if !public && PRIVATE.iter().any(below) {
        Effect::Reads
    } else {
        Effect::Public
    }
}

fn refusal(control: &Control, request: &Request) -> Option<Box<Response>> {
    let client = request.extensions().get::<Client>();
    let (method, path) = (request.method(), request.uri().path());
    // Only its own user opens the node's socket.
    if client.is_some_and(|client| client.local) {
        return None;
    }
    let effect = effect(method, path);
    if effect == Effect::Public {
        return None;
    }
    let headers = request.headers();
    let hosts = Hosts {
        direct: text_of(headers, HOST.as_str()).map(str::to_owned),
        forwarded: client
            .map(|client| client.hosts.clone())
            .unwrap_or_default(),
    };
    let config = control.config();
    // The table of a large cluster is read for pages only.
    let of_a_page = names_a_page(headers);
    let public_urls = if of_a_page {
        control.public_urls()
    } else {
        Vec::new()
    };
    let judged = judge(&Asked {
        effect,
        bearer: Caller::shows_bearer(headers),
        headers,
        hosts: &hosts,
        public_urls: &public_urls,
        names: &config.web.hosts,
    });
    let by_get = matches!(*method, Method::GET | Method::HEAD) && effect == Effect::Changes;
    match judged {
        Err(why) => Some(answer(why, by_get, request).into()),
        Ok(()) if by_get && !may_act(config.web.get_actions, path) => {
            refuse("get_action");
            Some(post_only(path).into())
        }
        Ok(()) => None,
    }
}

fn may_act(allowed: GetActions, path: &str) -> bool {
    match allowed {
        GetActions::All => true,
        GetActions::Titles => icecast::sets_title(path),
        GetActions::None => false,
    }
}

fn post_only(path: &str) -> Response {
    let error = "a GET changes nothing on this node";
    let hint = "send the same request as a POST, or set `admin.get_actions: all`";
    let mut response = said(path, StatusCode::METHOD_NOT_ALLOWED, error, hint);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

fn answer(why: Refusal, by_get: bool, request: &Request) -> Response {
    refuse(why.reason());
    let path = request.uri().path();
    let (error, hint) = match why {
        Refusal::NoOrigin if by_get && is_browser(request.headers()) => {
            return confirm::page(request.uri());
        }
        Refusal::NoOrigin => (
            "a browser sent this and does not say from which page",
            "use a page of this node, or a program with `Authorization: Bearer TOKEN`; nothing was done",
        ),
        Refusal::OtherSite | Refusal::OtherOrigin => (
            "a page of another site sent this with your browser's credentials",
            "open the address itself; nothing was done",
        ),
        Refusal::OtherHost => (
            "a page asked for this under a name that is not this node's",
            "add the name to `hosts` in the settings if it is; nothing was done",
        ),
    };
    said(path, StatusCode::FORBIDDEN, error, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effect_of_a_request() {
        let of = |method: Method, path| effect(&method, path);
        for path in [
            "/admin/killsource",
            "/admin/killclient",
            "/admin/metadata",
            "/admin.cgi",
        ] {
            for method in [Method::GET, Method::HEAD, Method::POST] {
                assert_eq!(of(method, path), Effect::Changes, "{path}");
            }
        }
        for path in ["/api/v1/drain", "/api/v1/tokens", "/admin/anything", "/"] {
            assert_eq!(of(Method::POST, path), Effect::Changes, "{path}");
            assert_eq!(of(Method::DELETE, path), Effect::Changes, "{path}");
        }
        for path in ["/admin/stats", "/admin", "/api/v1/listeners", "/metrics"] {
            assert_eq!(of(Method::GET, path), Effect::Reads, "{path}");
        }
        for path in [
            "/",
            "/status-json.xsl",
            "/7.html",
            "/live.mp3.m3u",
            "/api/v1/openapi.json",
        ] {
            assert_eq!(of(Method::GET, path), Effect::Public, "{path}");
        }
        assert_eq!(of(Method::POST, "/cluster/v1/beat"), Effect::Public);
    }
}
