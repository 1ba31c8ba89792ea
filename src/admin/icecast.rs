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
use super::clients;
use super::query::Query;
use super::shoutcast::admin_cgi;
use super::stats::{Stats, listed};
use super::titles;
use super::xml::{Xml, answer};
use crate::base::charset::Charset;
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::control::Control;
use crate::wire::title::Title;

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
        ("/admin/listclients", get(clients::list)),
        (KILL_CLIENT, get(clients::kill).post(clients::kill)),
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

pub(super) fn xml(status: StatusCode, text: String) -> Response {
    answer(status, "text/xml; charset=utf-8", text)
}

/// `<iceresponse>`: a sentence, and 1 for done or 0 for not.
pub(super) fn said(status: StatusCode, message: &str, done: bool) -> Response {
    let text = Xml::document("iceresponse", |xml| {
        xml.text("message", message);
        xml.text("return", u8::from(done));
    });
    xml(status, text)
}

pub(super) fn bad(message: &str) -> Response {
    said(StatusCode::BAD_REQUEST, message, false)
}

/// The mount of `mount=`, or the answer that says why there is none.
pub(super) fn named(query: &Query) -> Result<MountId, Box<Response>> {
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
    let mut stats = Stats::of_all(&control, &caller.base_url(&control));
    if query.mount().is_some() {
        match named(&query) {
            Ok(mount) => stats = stats.only(&mount),
            Err(response) => return *response,
        }
        if stats.is_empty() {
            return bad("Source does not exist");
        }
    }
    xml(StatusCode::OK, stats.xml())
}

async fn list_mounts(_: Admin, State(control): State<Arc<Control>>, caller: Caller) -> Response {
    let stats = Stats::of_all(&control, &caller.base_url(&control));
    xml(StatusCode::OK, stats.list_xml(unix_millis()))
}

/// For foreign relays: one mount a line, as in Icecast without those that are hidden.
async fn stream_list(State(control): State<Arc<Control>>, caller: Caller) -> Response {
    if let Err(denied) = caller.may_relay(&control) {
        return caller.denied("/admin/streamlist.txt", denied);
    }
    let mounts = listed(&control);
    let lines = mounts
        .iter()
        .map(|mount| format!("{}\r\n", mount.id.path()));
    let text: String = lines.collect();
    answer(StatusCode::OK, "text/plain; charset=utf-8", text)
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
    let named = named(&query);
    // Who names no mount is judged as for the default one: what is wrong with a request is not everybody's to learn.
    let default = || control.config().default_mount.clone();
    let mount = named.as_ref().map_or_else(|_| default(), MountId::clone);
    // An attached server judges the password when the title is set.
    if !titles::is_judged_there(&control)
        && let Err(denied) = caller.may_title(&control, &mount)
    {
        caller.tell_refused_title(&control, &mount, denied);
        return caller.denied("/admin/metadata", denied);
    }
    if let Err(response) = named {
        return *response;
    }
    if query.text("mode").as_deref() != Some("updinfo") {
        return said(StatusCode::OK, "No such action", false);
    }
    let title = match title_of(&query, control.engine.charset(&mount)) {
        Ok(title) => title,
        Err(why) => return bad(&why),
    };
    let text = title.text.clone();
    match titles::set(&control, &mount, title, &caller, None).await {
        Ok(()) => {}
        Err(titles::NotSet::NoSource) => return bad("Source does not exist"),
        Err(titles::NotSet::Denied(denied)) => return caller.denied("/admin/metadata", denied),
        Err(titles::NotSet::Engine(status, text)) => return said(status, &text, false),
    }
    tracing::debug!(%mount, title = text, "title");
    said(StatusCode::OK, "Metadata update successful", true)
}

/// The title of `song`, else of `artist` and `title`, with `url`, in `charset` or else in `usual`. An empty one clears the
/// title.
///
/// # Errors
/// A sentence, where a parameter is missing or names no character set.
pub(super) fn title_of(query: &Query, usual: Charset) -> Result<Title, String> {
    let charset = match query
        .text("charset")
        .filter(|label| !label.trim().is_empty())
    {
        None => usual,
        Some(label) => Charset::of(&label).ok_or_else(|| {
            format!("Unknown charset `{label}`: give a WHATWG label such as UTF-8 or windows-1251")
        })?,
    };
    let value = |key: &str| Some(charset.decode(&query.bytes(key)?));
    let title = match (value("song"), value("artist"), value("title")) {
        (Some(song), ..) => Title::of(&song),
        (None, None, None) => {
            return Err("Missing parameter: song=TEXT, or title=TEXT with artist=TEXT".to_owned());
        }
        (None, artist, title) => {
            Title::of_parts(artist.as_deref(), title.as_deref()).unwrap_or_default()
        }
    };
    Ok(title.with_url(value("url").as_deref()))
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
