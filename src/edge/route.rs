//! Whose a request is: one table, read from the top.

use crate::base::ids::{MountId, is_reserved};
use crate::wire::head::{Method, Request};

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
    },
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
    if is_reserved(path) || path.starts_with("/admin.cgi") {
        return Route::Api;
    }
    match request.method {
        Method::Get | Method::Head => MountId::from_request(path).map_or(
            Route::Refused {
                status: 400,
                text: "this path names no mount",
            },
            Route::Listen,
        ),
        _ => Route::Refused {
            status: 405,
            text: "a mount takes GET, HEAD, OPTIONS, PUT and SOURCE",
        },
    }
}

fn source(path: &str) -> Route {
    match MountId::from_request(path) {
        Ok(mount) if mount.is_reserved() => Route::Refused {
            status: 403,
            text: "this path is the server's own: choose a mount such as /live.mp3",
        },
        Ok(mount) => Route::Source(mount),
        Err(_) => Route::Refused {
            status: 400,
            text: "a mount is an absolute path without `..` or control characters, such as /live.mp3",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::Version;

    fn of(method: Method, target: &str) -> Route {
        let default = MountId::new("/stream").unwrap();
        route(&Request::new(method, target, Version::Http11), &default)
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
