//! A node's own paths that a proxy in front forwards, and the spellings in which a stranger may ask for the rest.

use super::peer::ask;

/// Text of a proxy of ours in a node's place.
const REFUSAL: &str = "not forwarded by this proxy";

/// First lines that reach no node.
pub const CLOSED: [&str; 27] = [
    "GET /admin HTTP/1.1",
    "GET /admin/ HTTP/1.1",
    "GET /admin/stats HTTP/1.0",
    "GET /admin/killsource?mount=/live.mp3 HTTP/1.1",
    "POST /api/v1/drain HTTP/1.1",
    "GET /api HTTP/1.1",
    "GET /api/v1/nodes HTTP/1.1",
    "GET /api/v1/now HTTP/1.1",
    "GET /metrics HTTP/1.1",
    "GET /metrics?a=/status-json.xsl HTTP/1.1",
    "GET /metrics HTTP/1.0",
    "POST /cluster/v1/join HTTP/1.1",
    "GET /cluster/v1/stream/live.mp3 HTTP/1.1",
    "GET /dashboard HTTP/1.1",
    // Other spellings of the same.
    "GET http://station.example/admin/stats HTTP/1.1",
    "GET //admin/stats HTTP/1.1",
    "GET /./admin/stats HTTP/1.1",
    "GET /live.mp3/../admin/stats HTTP/1.1",
    "GET /admin/stats/../../live.mp3 HTTP/1.1",
    "GET /admin/%2e%2e/%2E/live.mp3 HTTP/1.1",
    "GET /%61dmin/stats HTTP/1.1",
    "GET /ADMIN/stats HTTP/1.1",
    "GET /%4Detrics HTTP/1.1",
    "GET /admin%2fstats HTTP/1.1",
    "GET /admin;x=1/stats HTTP/1.1",
    "GET /admin/metadata/../stats HTTP/1.1",
    "GET /api/v1/nowplaying/../tokens HTTP/1.1",
];

/// First lines that a node answers: listeners' paths and public ones, encoders' and slaves', and names that only begin like an own
/// path.
pub const OPEN: [&str; 16] = [
    "GET / HTTP/1.1",
    "GET /health HTTP/1.0",
    "GET /status-json.xsl HTTP/1.1",
    "GET /7.html HTTP/1.1",
    "GET /stats?sid=1 HTTP/1.1",
    "GET /nothing.mp3 HTTP/1.1",
    "GET /nothing.mp3.m3u HTTP/1.1",
    "GET /admin.mp3 HTTP/1.1",
    "GET /metrics.ogg HTTP/1.1",
    "GET /apia HTTP/1.1",
    "GET /live/admin HTTP/1.1",
    "GET /admin/metadata?mount=/live.mp3&mode=updinfo&song=a HTTP/1.1",
    "GET /admin.cgi?mode=updinfo&song=a HTTP/1.1",
    "GET /admin/streamlist.txt HTTP/1.1",
    "GET /api/v1/nowplaying HTTP/1.1",
    "GET /api/v1/nowplaying/stream HTTP/1.1",
];

/// True if the proxy at `port` forwards a request with this first line.
pub async fn is_forwarded(port: u16, first: &str) -> bool {
    let request = format!(
        "{first}\r\nHost: station.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let (head, body) = ask(port, request).await;
    let is_refused = body.contains(REFUSAL);
    assert_eq!(head.status == 403, is_refused, "{first}: {head:?} {body}");
    !is_refused
}
