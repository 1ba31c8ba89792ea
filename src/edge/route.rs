//! Whose a request is: one table, read from the top.

use crate::base::ids::MountId;
use crate::base::reserved::{is_playlist, is_reserved};
use crate::wire::head::{Method, Request};
use crate::wire::validity::{self, Invalid};

/// Who takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// One of the health paths.
    Health(HealthPath),
    /// `/`.
    Page,
    /// A source for a mount.
    Source(MountId),
    /// A listener (or its HEAD).
    Listen(MountId),
    /// A preflight or a check by OPTIONS.
    Options,
    /// The API, the admin paths, playlists, metrics.
    Api,
    /// Nobody.
    Refused {
        /// The answer's status.
        status: u16,
        /// The answer's words.
        text: &'static str,
        /// The label of the count.
        reason: &'static str,
    },
}

impl Route {
    /// The route of a listener's request whose path is known to be `mount`'s.
    pub fn listen(request: &Request, mount: &MountId) -> Self {
        match validity::check(request, true) {
            Ok(()) => Self::Listen(mount.clone()),
            Err(invalid) => Self::invalid(invalid, invalid.reason()),
        }
    }

    fn invalid(invalid: Invalid, reason: &'static str) -> Self {
        Self::Refused {
            status: 400,
            text: invalid.text(),
            reason,
        }
    }

    fn refused(status: u16, text: &'static str) -> Self {
        let reason = "route";
        Self::Refused {
            status,
            text,
            reason,
        }
    }
}

/// The four questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthPath {
    /// `/health`.
    Health,
    /// `/healthz`.
    Alive,
    /// `/readyz`.
    Ready,
    /// `/health/source`.
    Source,
}

/// See the module. `default_mount` is what `/;` plays.
pub(super) fn route(request: &Request, default_mount: &MountId) -> Route {
    let route = by_path(request, default_mount);
    match validity::check(request, may_lack_host(&route, request.path())) {
        Ok(()) => route,
        Err(invalid) => {
            let reason = match route {
                // Encoders' operators look for what becomes of sources.
                Route::Source(_) if invalid.is_framing() => "source_framing",
                _ => invalid.reason(),
            };
            Route::invalid(invalid, reason)
        }
    }
}

/// Old players, encoders and health checks of proxies say HTTP/1.1 and send no `Host`.
fn may_lack_host(route: &Route, path: &str) -> bool {
    match route {
        Route::Api => is_playlist(path) || matches!(path, "/admin/metadata" | "/admin.cgi"),
        _ => true,
    }
}

fn by_path(request: &Request, default_mount: &MountId) -> Route {
    let path = request.path();
    let health = match path {
        "/health" | "/health/" => Some(HealthPath::Health),
        "/healthz" => Some(HealthPath::Alive),
        "/readyz" => Some(HealthPath::Ready),
        "/health/source" => Some(HealthPath::Source),
        _ => None,
    };
    match (&request.method, health) {
        (Method::Get | Method::Head | Method::Options, Some(path)) => return Route::Health(path),
        (Method::Get | Method::Head | Method::Options, None) if path == "/" => return Route::Page,
        (Method::Options, None) => return Route::Options,
        (Method::Put | Method::Source, _) if !path.starts_with("/api/") => return source(path),
        _ => {}
    }
    if path.starts_with("/;") && request.method == Method::Get {
        return Route::Listen(default_mount.clone());
    }
    if is_reserved(path) {
        return Route::Api;
    }
    match request.method {
        Method::Get | Method::Head => MountId::new(path).map_or(
            Route::refused(400, "this path names no mount"),
            Route::Listen,
        ),
        _ => Route::refused(405, "a mount takes GET, HEAD, OPTIONS, PUT and SOURCE"),
    }
}

fn source(path: &str) -> Route {
    match MountId::new(path) {
        Ok(mount) if mount.is_reserved() => Route::refused(
            403,
            "this path is the server's own: choose a mount such as /live.mp3",
        ),
        Ok(mount) => Route::Source(mount),
        Err(_) => Route::refused(
            400,
            "a mount is an absolute path without `..` or control characters, such as /live.mp3",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::Version;

    fn of(method: Method, target: &str) -> Route {
        let default = MountId::new("/stream").unwrap();
        let mut request = Request::new(method, target, Version::Http11);
        request.headers.push("Host", "a");
        route(&request, &default)
    }

    #[test]
    fn who_may_lack_a_host() {
        let default = MountId::new("/stream").unwrap();
        let status = |method: Method, target: &str, version, hosts: &[&str]| {
            let mut request = Request::new(method, target, version);
            for host in hosts {
                request.headers.push("Host", host);
            }
            match route(&request, &default) {
                Route::Refused { status, .. } => Some(status),
                _ => None,
            }
        };
        let new = Version::Http11;
        for (method, target) in [
            (Method::Get, "/live.mp3"),
            (Method::Head, "/live.mp3"),
            (Method::Get, "/;"),
            (Method::Put, "/live.mp3"),
            (Method::Source, "/live.mp3"),
            (Method::Get, "/admin/metadata?mode=updinfo&mount=/a&song=b"),
            (Method::Get, "/admin.cgi?mode=updinfo&song=b"),
            (Method::Get, "/live.mp3.m3u"),
            (Method::Get, "/live.mp3.pls"),
            (Method::Get, "/live.mp3.xspf"),
            (Method::Get, "/health"),
            (Method::Get, "/healthz"),
            (Method::Get, "/readyz"),
            (Method::Options, "/"),
        ] {
            assert_eq!(status(method.clone(), target, new, &[]), None, "{target}");
            let two = status(method.clone(), target, new, &["a", "a"]);
            assert_eq!(two, Some(400), "{target}");
            let bad = status(method, target, Version::Http10, &["a b"]);
            assert_eq!(bad, Some(400), "{target}");
        }
        for (method, target) in [
            (Method::Get, "/api/v1/nodes"),
            (Method::Post, "/api/v1/drain"),
            (Method::Get, "/metrics"),
            (Method::Get, "/admin/stats"),
            (Method::Get, "/status-json.xsl"),
            (Method::Get, "/dashboard"),
            (Method::Post, "/cluster/v1/join"),
        ] {
            let none = status(method.clone(), target, new, &[]);
            assert_eq!(none, Some(400), "{target}");
            assert_eq!(status(method, target, new, &["a"]), None, "{target}");
        }
    }

    #[test]
    fn the_table() {
        let live = MountId::new("/live.mp3").unwrap();
        assert_eq!(
            of(Method::Get, "/live.mp3?x=1"),
            Route::Listen(live.clone())
        );
        assert_eq!(of(Method::Head, "/live.mp3"), Route::Listen(live.clone()));
        assert_eq!(of(Method::Source, "/live.mp3"), Route::Source(live.clone()));
        assert_eq!(of(Method::Put, "/live.mp3"), Route::Source(live));
        assert_eq!(of(Method::Options, "/live.mp3"), Route::Options);
        assert_eq!(of(Method::Options, "/"), Route::Page);
        assert_eq!(of(Method::Get, "/"), Route::Page);
        assert_eq!(
            of(Method::Get, "/health"),
            Route::Health(HealthPath::Health)
        );
        assert_eq!(
            of(Method::Options, "/readyz"),
            Route::Health(HealthPath::Ready)
        );
        assert_eq!(of(Method::Get, "/live.mp3.m3u"), Route::Api);
        assert_eq!(of(Method::Post, "/cluster/v1/beat"), Route::Api);
        assert_eq!(
            of(Method::Get, "/;stream.mp3"),
            Route::Listen(MountId::new("/stream").unwrap())
        );
        for target in ["/a/../b", "/a%00b", "/..", "/%2e%2e/x"] {
            assert!(
                matches!(of(Method::Get, target), Route::Refused { status: 400, .. }),
                "{target}"
            );
        }
        assert!(matches!(
            of(Method::Put, "/health"),
            Route::Refused { status: 403, .. }
        ));
        assert!(matches!(
            of(Method::Put, "/admin/x"),
            Route::Refused { status: 403, .. }
        ));
        assert!(matches!(
            of(Method::Post, "/live.mp3"),
            Route::Refused { status: 405, .. }
        ));
    }
}
