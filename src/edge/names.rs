//! Names by which Shoutcast's players ask for a mount: `/`, `/stream/`, `/stream/N/`.

use super::Edge;
use super::route::{Route, route};
use crate::balancer::players::is_player;
use crate::base::ids::MountId;
use crate::wire::head::{Method, Request};

/// Folder in which Shoutcast 2 has its streams, by their numbers.
pub(super) const STREAMS: &str = "/stream/";

impl Edge {
    /// Whose a request is, as [`route`] says, once the names of Shoutcast's players are replaced by the mount that they
    /// mean now.
    pub(super) fn route(&self, request: &Request) -> Route {
        let default = &self.control.config().default_mount;
        let route = route(request, default);
        match &route {
            Route::Page if self.plays_at_once(request, default) => Route::Listen(default.clone()),
            Route::Listen(mount) => match self.stream_named(mount) {
                Some(stream) => Route::Listen(stream),
                None => route,
            },
            _ => route,
        }
    }

    /// True where `/` is asked for by a player, who can do nothing with a page.
    fn plays_at_once(&self, request: &Request, default: &MountId) -> bool {
        let field = |name| request.headers.get(name).unwrap_or_default();
        let is_player = field("icy-metadata").trim() == "1" || is_player(field("user-agent"));
        request.method == Method::Get && is_player && self.control.is_live(default)
    }

    /// The mount that a stream's number means, unless a mount has that very name.
    fn stream_named(&self, mount: &MountId) -> Option<MountId> {
        let number = number_of(mount.path())?;
        if self.control.engine.mount(mount).is_some() || self.control.is_offered(mount) {
            return None;
        }
        self.control.stream_of(number)
    }
}

/// The number in `/stream/N`, `/stream/N/` and `/stream/N/;…`; 1 for `/stream/`, which names none.
fn number_of(path: &str) -> Option<usize> {
    let rest = path.strip_prefix(STREAMS)?;
    let (number, tail) = rest.split_once('/').unwrap_or((rest, ""));
    if !tail.is_empty() && !tail.starts_with(';') {
        return None;
    }
    if number.is_empty() || number.starts_with(';') {
        return Some(1);
    }
    let digits = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
    digits.then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_streams() {
        for (path, number) in [
            ("/stream/1", 1),
            ("/stream/2/", 2),
            ("/stream/12/;", 12),
            ("/stream/3/;stream.nsv", 3),
            ("/stream/", 1),
            ("/stream/;stream.mp3", 1),
        ] {
            assert_eq!(number_of(path), Some(number), "{path}");
        }
        for path in [
            "/stream",
            "/stream/0",
            "/stream/01/",
            "/stream/+1",
            "/stream/1a",
            "/stream/1/x",
            "/stream/99999999999999999999999",
            "/streams/1/",
            "/a/stream/1/",
        ] {
            assert_eq!(number_of(path), None, "{path}");
        }
    }
}
