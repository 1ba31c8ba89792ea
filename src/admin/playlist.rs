//! Playlists: one URL in the tongue of each player.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::CONTENT_DISPOSITION;
use axum::response::{IntoResponse, Response};

use super::access::Caller;
use super::stats::{listed, listen_url, said};
use super::xml::{self, Xml};
use crate::base::ids::MountId;
use crate::control::Control;
use crate::engine::{Mount, MountState};
use crate::telemetry::refuse;
use crate::wire::icy::clean_field;

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One URL a line.
    M3u,
    /// Winamp's.
    Pls,
    /// XML.
    Xspf,
}

/// The mount's part of a playlist's path, and the format; `None` for any other path.
pub(super) fn named(path: &str) -> Option<(&str, Kind)> {
    let of = |suffix: &str, kind| Some((path.strip_suffix(suffix)?, kind));
    of(".m3u", Kind::M3u)
        .or_else(|| of(".pls", Kind::Pls))
        .or_else(|| of(".xspf", Kind::Xspf))
}

/// The playlist of the mount `name` (still encoded), or of the default mount for `/listen`.
pub(super) fn answer(control: &Control, caller: &Caller, name: &str, kind: Kind) -> Response {
    let exists = |id: &MountId| {
        let mount = control.engine.mount(id)?;
        (mount.state() != MountState::Ended).then_some(mount)
    };
    let found = MountId::new(name).ok().as_ref().and_then(exists);
    let found = found.or_else(|| match name {
        "/listen" => unnamed(control),
        _ => None,
    });
    let Some(mount) = found else {
        refuse("unknown_mount");
        let text = "no such mount: the page at / lists what plays\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    control.telemetry.connections.add_page();
    let url = listen_url(&caller.base_url(control), &mount.id);
    let title = said(&mount.content(), "name").unwrap_or_else(|| mount.id.path().to_owned());
    let (content_type, text) = write(kind, &url, &clean_field(&title));
    let mut response = xml::answer(StatusCode::OK, content_type, text);
    // Browsers would show or keep some of these; players ignore it.
    let name = axum::http::HeaderValue::from_static("inline");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    response
}

/// The mount of a playlist that names none: the default one, else the first, hidden ones left out.
fn unnamed(control: &Control) -> Option<Arc<Mount>> {
    let mounts = listed(control);
    let default = &control.config().default_mount;
    let found = mounts.iter().find(|mount| mount.id == *default);
    found.or_else(|| mounts.first()).cloned()
}

fn write(kind: Kind, url: &str, title: &str) -> (&'static str, String) {
    match kind {
        Kind::M3u => ("audio/x-mpegurl", format!("{url}\r\n")),
        Kind::Pls => (
            "audio/x-scpls",
            format!(
                "[playlist]\nNumberOfEntries=1\nFile1={url}\nTitle1={title}\nLength1=-1\nVersion=2\n"
            ),
        ),
        Kind::Xspf => ("application/xspf+xml", xspf(url, title)),
    }
}

fn xspf(url: &str, title: &str) -> String {
    let space = [("version", "1"), ("xmlns", "http://xspf.org/ns/0/")];
    Xml::document_with("playlist", &space, |xml| {
        xml.text("title", title);
        xml.element("trackList", &[], |xml| {
            xml.element("track", &[], |xml| {
                xml.text("location", url);
                xml.text("title", title);
            });
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_playlists() {
        assert_eq!(named("/live.mp3.m3u"), Some(("/live.mp3", Kind::M3u)));
        assert_eq!(named("/listen.pls"), Some(("/listen", Kind::Pls)));
        assert_eq!(named("/a.xspf"), Some(("/a", Kind::Xspf)));
        assert_eq!(named("/live.mp3"), None);
    }

    #[test]
    fn each_format_byte_for_byte() {
        let of = |kind| write(kind, "http://h/a%20b", "A & <B>").1;
        assert_eq!(of(Kind::M3u), "http://h/a%20b\r\n");
        assert_eq!(
            of(Kind::Pls),
            "[playlist]\nNumberOfEntries=1\nFile1=http://h/a%20b\nTitle1=A & <B>\nLength1=-1\nVersion=2\n"
        );
        assert_eq!(
            of(Kind::Xspf),
            "<?xml version=\"1.0\"?>\n<playlist version=\"1\" xmlns=\"http://xspf.org/ns/0/\">\
             <title>A &amp; &lt;B&gt;</title><trackList><track><location>http://h/a%20b</location>\
             <title>A &amp; &lt;B&gt;</title></track></trackList></playlist>\n"
        );
    }
}
