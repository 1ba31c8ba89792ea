//! Everything that somebody else can send to this process: paths of the router, kinds of connections, messages between
//! nodes. Each has the credential that it needs, the most bytes of a body, its deadline, and the bound of its number.
//!
//! `docs/reference/surface.md` is made from this list, and tests hold it against the router and the types of the
//! messages, so that nothing new is reachable without an entry.

use crate::admin::{MAX_BODY as BODY, TOKEN_BODY};
use crate::agent::MAX_FEED_LINE;
use crate::wire::frame;

/// Kind of thing that an [`Entry`] describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A path of the router.
    Route,
    /// A connection that its first bytes or its path make, and that is no path of the router.
    Connection,
    /// A message between nodes, inside one of the routes.
    Message,
}

/// One thing that can be sent to this process.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// A route, connection or message.
    pub kind: Kind,
    /// The route as the router has it, the connection in words, or the name of the message's type.
    pub name: &'static str,
    /// The credential that is judged first.
    pub credential: &'static str,
    /// Most bytes that are read after the head; 0 for no body, `None` for what has no end by nature.
    pub body: Option<usize>,
    /// The longest that it may take.
    pub deadline: &'static str,
    /// The bound of how many, or how often.
    pub limit: &'static str,
}

/// Deadline of requests without an end of their own.
const ENDLESS: &str = "10 s without progress";
/// Deadline of an ordinary request.
const ORDINARY: &str = "head 10 s; body 10 s without progress, 60 s in all; answer 10 s without progress, 60 s and 1 s each 4 KiB in all";
/// Deadline of a request without a body.
const NO_BODY: &str = "head 10 s; answer 10 s without progress, 60 s and 1 s each 4 KiB in all";

/// Bound of connections without a credential.
const STRANGERS: &str = "4,096 strangers, 64 an address (/64) after 0.5 s";
/// Bound of connections that show a password or token.
const GUESSED: &str = "the same; failures per address slow the door";
/// Bound of connections with an accepted credential.
const BY_CREDENTIAL: &str = "1,024 connections a credential";

const NOTHING: &str = "none";
const METRICS: &str = "none from near addresses (`metrics.open`), else read";
const READ: &str = "read";
const ADMIN: &str = "admin";
const TITLE: &str = "the mount's source password, or admin";
const RELAY: &str = "relay password, or admin";
const JOIN: &str = "a join token, and of a known node its own credential";
const NODE: &str = "the node's own credential";
const PRIMARY: &str = "a mark by the primary's own key";
const MEMBER: &str = "a member's mark, or its credential";

const fn route(
    name: &'static str,
    credential: &'static str,
    body: Option<usize>,
    deadline: &'static str,
    limit: &'static str,
) -> Entry {
    Entry {
        kind: Kind::Route,
        name,
        credential,
        body,
        deadline,
        limit,
    }
}

/// A path that is read by everybody.
const fn public(name: &'static str) -> Entry {
    route(name, NOTHING, Some(0), NO_BODY, STRANGERS)
}

/// A path that is asked with a credential and no body.
const fn asked(name: &'static str, credential: &'static str) -> Entry {
    route(name, credential, Some(0), NO_BODY, GUESSED)
}

/// A path that takes a body.
const fn posted(name: &'static str, credential: &'static str) -> Entry {
    route(name, credential, Some(BODY), ORDINARY, GUESSED)
}

const fn connection(
    name: &'static str,
    credential: &'static str,
    body: Option<usize>,
    deadline: &'static str,
    limit: &'static str,
) -> Entry {
    Entry {
        kind: Kind::Connection,
        name,
        credential,
        body,
        deadline,
        limit,
    }
}

const fn message(
    name: &'static str,
    credential: &'static str,
    body: usize,
    limit: &'static str,
) -> Entry {
    Entry {
        kind: Kind::Message,
        name,
        credential,
        body: Some(body),
        deadline: "that of its route",
        limit,
    }
}

/// Every entry: routes in the order of the router, then connections, then messages.
pub const ENTRIES: &[Entry] = &[
    public("/"),
    asked("/metrics", METRICS),
    public("/status-json.xsl"),
    public("/7.html"),
    public("/stats"),
    asked("/admin", ADMIN),
    asked("/admin/", ADMIN),
    asked("/admin/stats", ADMIN),
    asked("/admin/stats.xml", ADMIN),
    asked("/admin/listmounts", ADMIN),
    asked("/admin/streamlist", ADMIN),
    asked("/admin/streamlist.txt", RELAY),
    asked("/admin/streams", RELAY),
    asked("/admin/listclients", ADMIN),
    posted("/admin/killclient", ADMIN),
    posted("/admin/killsource", ADMIN),
    posted("/admin/metadata", TITLE),
    asked("/admin/{*command}", ADMIN),
    posted("/admin.cgi", TITLE),
    public("/api/v1/openapi.json"),
    asked("/api/v1/status", READ),
    asked("/api/v1/mounts", READ),
    asked("/api/v1/nodes", READ),
    posted("/api/v1/nodes/{name}/drain", ADMIN),
    posted("/api/v1/nodes/{name}/resume", ADMIN),
    posted("/api/v1/nodes/{name}/reflect", ADMIN),
    posted("/api/v1/nodes/{name}/forget", ADMIN),
    posted("/api/v1/nodes/{name}/unbar", ADMIN),
    asked("/api/v1/barred", ADMIN),
    posted("/api/v1/drain", ADMIN),
    posted("/api/v1/resume", ADMIN),
    posted("/api/v1/nodes/{name}/parent", ADMIN),
    asked("/api/v1/picks", READ),
    posted("/api/v1/render/{kind}", "the node's own socket"),
    route("/api/v1/events", READ, Some(0), ENDLESS, BY_CREDENTIAL),
    asked("/api/v1/listeners", ADMIN),
    asked("/api/v1/listeners/{id}", ADMIN),
    posted("/api/v1/listeners/{id}/kick", ADMIN),
    route("/api/v1/tokens", ADMIN, Some(TOKEN_BODY), ORDINARY, GUESSED),
    asked("/api/v1/tokens/{id}", ADMIN),
    posted("/cluster/v1/join", JOIN),
    route(
        "/cluster/v1/beat",
        NODE,
        Some(BODY),
        ORDINARY,
        BY_CREDENTIAL,
    ),
    route("/cluster/v1/feed", NODE, Some(0), ENDLESS, BY_CREDENTIAL),
    route(
        "/cluster/v1/listeners",
        PRIMARY,
        Some(0),
        NO_BODY,
        BY_CREDENTIAL,
    ),
    route("/cluster/v1/kick", PRIMARY, Some(0), NO_BODY, BY_CREDENTIAL),
    route(
        "/cluster/v1/stream/{*mount}",
        MEMBER,
        Some(0),
        ENDLESS,
        BY_CREDENTIAL,
    ),
    connection(
        "a head that is not whole, a PROXY header",
        NOTHING,
        Some(0),
        "10 s",
        STRANGERS,
    ),
    connection("a TLS handshake", NOTHING, Some(0), "10 s", STRANGERS),
    connection(
        "/health, /healthz, /readyz, /health/source, OPTIONS",
        NOTHING,
        Some(0),
        NO_BODY,
        "outside every limit; answered with no descriptor left, too",
    ),
    connection(
        "GET of a mount: a listener",
        NOTHING,
        Some(0),
        "30 s without a byte taken (`listener.stall`)",
        "`limits.max_listeners`, `limits.max_bandwidth`, a mount's own, per address",
    ),
    connection(
        "PUT, SOURCE: a source",
        "the mount's source password",
        None,
        "`source.timeout` without a byte",
        "`limits.max_sources`; wrong passwords slow the door",
    ),
    connection(
        "a Shoutcast v1 password line: a source",
        "the mount's source password",
        None,
        "line and fields 10 s; then `source.timeout` without a byte",
        "256 bytes of line; wrong passwords slow the door",
    ),
    connection(
        "what a relay carries to its primary",
        "judged by the primary",
        None,
        "10 s without progress; a source: `source.timeout`",
        "one request a connection; counted like any stranger",
    ),
    connection(
        "/cluster/v1/line: a v1 password line that a relay carries",
        "the mount's source password",
        None,
        "connect 5 s, 10 s without progress, 60 s in all; a source: `source.timeout`",
        "256 bytes of line; counts to the client that the relay's mark names",
    ),
    connection(
        "the node's own socket",
        "the file's mode (0600) and the peer's user",
        Some(BODY),
        ORDINARY,
        "the node's own user",
    ),
    message(
        "JoinRequest",
        JOIN,
        BODY,
        "a token bucket per address and per token",
    ),
    message(
        "JoinAnswer",
        "the primary's certificate, or its pin in the token",
        BODY,
        "one for each join",
    ),
    message(
        "Beat",
        NODE,
        BODY,
        "1,000 mounts, 10,000 confirmed reservations, 1 a second",
    ),
    message(
        "BeatAnswer",
        "the primary's certificate",
        BODY,
        "one for each beat",
    ),
    message(
        "FeedLine",
        "the primary's certificate",
        MAX_FEED_LINE,
        "one line at a time",
    ),
    message(
        "Frame",
        MEMBER,
        frame::MAX_MESSAGE,
        "256 KiB a frame, 4 MiB a message",
    ),
];
