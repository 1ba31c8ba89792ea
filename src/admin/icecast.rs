//! Icecast's `/admin/<command>` and Shoutcast's `/admin.cgi`, as far as encoders and panels use them.
//!
//! On a relay titles never arrive here: `edge` carries them to the origin first.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Routes;
use super::access::{Admin, Caller};
use super::query::Query;
use super::shoutcast::admin_cgi;
use super::stats::{Stats, present};
use super::titles;
use super::xml::{Xml, answer};
use crate::base::ids::{ListenerId, MountId};
use crate::base::wall::unix_millis;
use crate::control::Control;
use crate::wire::icy;

/// Commands of Icecast and icecast-kh that this server does not have.
const NOT_HERE: [&str; 20] = [
    "buildm3u",
    "dashboard",
    "dumpfilecontrol",
    "eventfeed",
    "fallbacks",
    "function",
    "listensocketlist",
    "manageauth",
    "managerelays",
    "marklog",
    "moveclients",
    "publicstats",
    "reloadconfig",
    "resetstats",
    "showlog",
    "showlog.txt",
    "ui",
    "updatemetadata",
    "updatemetadata.xsl",
    "version",
];

/// Icecast's and Shoutcast's administration paths.
pub(super) fn table() -> Routes {
    vec![
        ("/admin", get(stats)),
        ("/admin/", get(stats)),
        ("/admin/stats", get(stats)),
        ("/admin/stats.xml", get(stats)),
        ("/admin/listmounts", get(list_mounts)),
        ("/admin/streamlist", get(list_mounts)),
        ("/admin/streamlist.txt", get(stream_list)),
        ("/admin/streams", get(stream_list)),
        ("/admin/listclients", get(list_clients)),
        (KILL_CLIENT, get(kill_client).post(kill_client)),
        (KILL_SOURCE, get(kill_source).post(kill_source)),
        (METADATA, get(metadata).post(metadata)),
        ("/admin/{*command}", get(other)),
        (ADMIN_CGI, get(admin_cgi).post(admin_cgi)),
    ]
}

/// Paths at which a GET changes something, as Icecast and Shoutcast have it.
const KILL_CLIENT: &str = "/admin/killclient";
const KILL_SOURCE: &str = "/admin/killsource";
const METADATA: &str = "/admin/metadata";
const ADMIN_CGI: &str = "/admin.cgi";

/// True for a path at which a GET changes something.
pub(super) fn acts_by_get(path: &str) -> bool {
    [KILL_CLIENT, KILL_SOURCE].contains(&path) || sets_title(path)
}

/// True for a path at which a GET sets a title.
pub(super) fn sets_title(path: &str) -> bool {
    [METADATA, ADMIN_CGI].contains(&path)
}

fn xml(status: StatusCode, text: String) -> Response {
    answer(status, "text/xml; charset=utf-8", text)
}

/// `<iceresponse>`: a sentence, and 1 for done or 0 for not.
fn said(status: StatusCode, message: &str, done: bool) -> Response {
    let text = Xml::document("iceresponse", |xml| {
        xml.text("message", message);
        xml.text("return", u8::from(done));
    });
    xml(status, text)
}

fn bad(message: &str) -> Response {
    said(StatusCode::BAD_REQUEST, message, false)
}

/// The mount of `mount=`, or the answer that says why there is none.
fn named(query: &Query) -> Result<MountId, Box<Response>> {
    match query.mount() {
        Some(Ok(mount)) => Ok(mount),
        Some(Err(why)) => Err(bad(&format!("Source does not exist: {why}")).into()),
        None => Err(bad("Missing parameter: mount=/NAME").into()),
    }
}

async fn stats(
    _: Admin,
    State(control): State<Arc<Control>>,
    caller: Caller,
    query: Query,
) -> Response {
    let mut stats = Stats::collect(&control, &caller.base_url(&control));
    if query.mount().is_some() {
        match named(&query) {
            Ok(mount) => stats = stats.only(&mount),
            Err(response) => return *response,
        }
    }
    xml(StatusCode::OK, stats.xml())
}

async fn list_mounts(_: Admin, State(control): State<Arc<Control>>, caller: Caller) -> Response {
    let stats = Stats::collect(&control, &caller.base_url(&control));
    xml(StatusCode::OK, stats.list_xml(unix_millis()))
}

/// For foreign relays: one mount a line.
async fn stream_list(State(control): State<Arc<Control>>, caller: Caller) -> Response {
    if let Err(denied) = caller.may_relay(&control) {
        return caller.denied("/admin/streamlist.txt", denied);
    }
    let mounts = present(&control);
    let lines = mounts
        .iter()
        .map(|mount| format!("{}\r\n", mount.id.path()));
    let text: String = lines.collect();
    answer(StatusCode::OK, "text/plain; charset=utf-8", text)
}

async fn list_clients(_: Admin, State(control): State<Arc<Control>>, query: Query) -> Response {
    let mount = match named(&query) {
        Ok(mount) => mount,
        Err(response) => return *response,
    };
    if control.engine.mount(&mount).is_none() {
        return bad("Source does not exist");
    }
    let mut sessions = control.telemetry.sessions();
    sessions.retain(|session| session.mount == mount);
    sessions.sort_by_key(|session| session.id);
    let text = Xml::document("icestats", |xml| {
        xml.element("source", &[("mount", &mount.to_string())], |xml| {
            xml.text("Listeners", sessions.len());
            for session in &sessions {
                xml.element("listener", &[], |xml| {
                    xml.text("IP", session.address);
                    xml.text("UserAgent", &session.user_agent);
                    xml.text("Connected", session.duration().as_secs());
                    xml.text("ID", session.id);
                });
            }
        });
    });
    xml(StatusCode::OK, text)
}

async fn kill_client(_: Admin, State(control): State<Arc<Control>>, query: Query) -> Response {
    let mount = match named(&query) {
        Ok(mount) => mount,
        Err(response) => return *response,
    };
    let Some(id) = query.number("id") else {
        return bad("Missing parameter: id=NUMBER");
    };
    let session = control.telemetry.session(ListenerId(id));
    let Some(session) = session.filter(|session| session.mount == mount) else {
        return said(StatusCode::OK, &format!("Client {id} not found"), false);
    };
    session.kick();
    control.engine.sweep();
    said(StatusCode::OK, &format!("Client {id} removed"), true)
}

async fn kill_source(_: Admin, State(control): State<Arc<Control>>, query: Query) -> Response {
    match named(&query) {
        Ok(mount) if titles::end_source(&control, &mount).await => {
            said(StatusCode::OK, "Source Removed", true)
        }
        Ok(_) => bad("Source does not exist"),
        Err(response) => *response,
    }
}

async fn metadata(State(control): State<Arc<Control>>, caller: Caller, query: Query) -> Response {
    let mount = match named(&query) {
        Ok(mount) => mount,
        Err(response) => return *response,
    };
    // An attached server judges the password when the title is set.
    if !titles::is_judged_there(&control)
        && let Err(denied) = caller.may_title(&control, &mount)
    {
        caller.tell_refused_title(&control, &mount, denied);
        return caller.denied("/admin/metadata", denied);
    }
    if query.text("mode").as_deref() != Some("updinfo") {
        return said(StatusCode::OK, "No such action", false);
    }
    let Some(title) = title_of(&query) else {
        return bad("Missing parameter: song=TEXT, or title=TEXT with artist=TEXT");
    };
    match titles::set(&control, &mount, &title, &caller, None).await {
        Ok(()) => {}
        Err(titles::NotSet::NoSource) => return bad("Source does not exist"),
        Err(titles::NotSet::Denied(denied)) => return caller.denied("/admin/metadata", denied),
        Err(titles::NotSet::Engine(status, text)) => return said(status, &text, false),
    }
    tracing::debug!(%mount, title, "title");
    said(StatusCode::OK, "Metadata update successful", true)
}

/// `song`, else `artist` and `title`, in `charset`; cleaned. An empty one clears the title.
pub(super) fn title_of(query: &Query) -> Option<String> {
    let charset = query.text("charset");
    let value = |key: &str| {
        let raw = query.bytes(key)?;
        Some(icy::decode_title_bytes(&raw, charset.as_deref()))
    };
    let text = match (value("song"), value("artist"), value("title")) {
        (Some(song), ..) => song,
        (None, Some(artist), Some(title)) if artist.is_empty() => title,
        (None, Some(artist), Some(title)) => format!("{artist} - {title}"),
        (None, artist, title) => title.or(artist)?,
    };
    Some(icy::clean_title(&text))
}

async fn other(_: Admin, Path(command): Path<String>) -> Response {
    let plain = command.split('/').next().unwrap_or_default();
    let known = NOT_HERE.contains(&plain)
        || NOT_HERE.contains(&plain.trim_end_matches(".xsl").trim_end_matches(".json"))
        || plain.ends_with(".xsl");
    if known {
        let text = format!(
            "relayctl has no `/admin/{command}`: see `/api/v1/openapi.json` for what it has, and `relayctl --help`\n"
        );
        return (StatusCode::NOT_IMPLEMENTED, text).into_response();
    }
    (StatusCode::NOT_FOUND, "Unrecognised command\n").into_response()
}
