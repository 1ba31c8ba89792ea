//! What an engine says of itself, from the forms that each one says it in. Pure.
//!
//! Icecast: `/admin/stats` (XML, all of it) for who may ask, else `/status-json.xsl`, where one mount is an object,
//! several are a list, none is nothing, and a text that looks like a number is written as one. Shoutcast:
//! `/statistics?json=1`, where the bit rate is a text.

use std::net::IpAddr;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use serde_json::Value;

use crate::base::ids::MountId;

/// Mounts that are read at most.
const MAX_MOUNTS: usize = 1024;

/// Longest text that is kept of a field, in characters.
const LONGEST: usize = 4080;

/// What an engine says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Name and version of the program.
    pub server: String,
    /// The mounts that are on air, by name.
    pub mounts: Vec<MountStatistics>,
}

/// What it says of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountStatistics {
    /// Its name here.
    pub mount: MountId,
    /// Its path there.
    pub path: String,
    /// Who listens there, this node among them.
    pub listeners: u64,
    /// What plays.
    pub title: Option<String>,
    /// Bits a second.
    pub bitrate: Option<u64>,
    /// Its type.
    pub content_type: Option<String>,
    /// Bytes that it got.
    pub received_bytes: Option<u64>,
    /// Bytes that it sent.
    pub sent_bytes: Option<u64>,
    /// Who feeds it, as the engine sees it.
    pub source: Option<IpAddr>,
}

impl MountStatistics {
    fn at(path: &str) -> Option<Self> {
        let name = match path.trim_end_matches('/') {
            "" => "/",
            name => name,
        };
        let mount = MountId::new(name)
            .ok()
            .filter(|mount| !mount.is_reserved())?;
        Some(Self {
            mount,
            path: path.to_owned(),
            listeners: 0,
            title: None,
            bitrate: None,
            content_type: None,
            received_bytes: None,
            sent_bytes: None,
            source: None,
        })
    }

    fn set(&mut self, name: &str, text: &str) {
        let text: String = text.trim().chars().take(LONGEST).collect();
        match name {
            "listeners" => self.listeners = text.parse().unwrap_or(0),
            // Some say it in bits, some in thousands.
            "bitrate" | "ice-bitrate" => self.bitrate = self.bitrate.or_else(|| bits(&text)),
            "server_type" => self.content_type = Some(text).filter(|text| !text.is_empty()),
            "title" => self.title = Some(joined(self.title.take(), text, false)),
            "artist" => self.title = Some(joined(self.title.take(), text, true)),
            "total_bytes_read" => self.received_bytes = text.parse().ok(),
            "total_bytes_sent" => self.sent_bytes = text.parse().ok(),
            "source_ip" => self.source = text.parse().ok(),
            _ => {}
        }
    }
}

/// Kilobits as everybody writes them; what is beyond any kilobit was bits.
fn bits(text: &str) -> Option<u64> {
    let number: u64 = text.trim().parse().ok().filter(|number| *number > 0)?;
    Some(if number < 16_000 {
        number * 1000
    } else {
        number
    })
}

/// Artist and title in the order that people write them, in whichever order they came.
fn joined(known: Option<String>, text: String, is_artist: bool) -> String {
    match known.filter(|known| !known.is_empty()) {
        None => text,
        Some(known) if text.is_empty() => known,
        Some(title) if is_artist => format!("{text} - {title}"),
        Some(artist) => format!("{artist} - {text}"),
    }
}

fn sorted(mut statistics: Statistics) -> Statistics {
    statistics.mounts.truncate(MAX_MOUNTS);
    statistics.mounts.sort_by(|a, b| a.mount.cmp(&b.mount));
    statistics.mounts.dedup_by(|a, b| a.mount == b.mount);
    statistics
}

/// Icecast's `/admin/stats`. A mount without a type has no source yet (a relay that is not connected).
///
/// # Errors
/// A sentence, where it is none.
pub(super) fn icecast_xml(text: &str) -> Result<Statistics, String> {
    let mut reader = Reader::from_str(text);
    let mut all = Statistics::default();
    let mut mount: Option<MountStatistics> = None;
    let (mut depth, mut value, mut is_icecast) = (0_u32, String::new(), false);
    loop {
        let event = reader.read_event();
        match event.map_err(|error| format!("its statistics are no XML: {error}"))? {
            Event::Start(start) => {
                depth += 1;
                value.clear();
                is_icecast |= depth == 1 && start.name().as_ref() == "icestats";
                if depth == 2 && start.name().as_ref() == "source" {
                    mount = named(&start);
                }
            }
            Event::Text(part) => value.push_str(&part),
            Event::CData(part) => value.push_str(&part),
            Event::GeneralRef(part) => value.push_str(&format!("&{};", &*part)),
            Event::End(end) => {
                let name = end.name().as_ref().to_owned();
                let whole = quick_xml::escape::unescape(&value).unwrap_or_default();
                match (depth, &mut mount) {
                    (2, _) if name == "source" => all.mounts.extend(mount.take()),
                    (2, _) if name == "server_id" => all.server = whole.trim().to_owned(),
                    (3, Some(mount)) => mount.set(&name, &whole),
                    _ => {}
                }
                value.clear();
                depth = depth.saturating_sub(1);
            }
            Event::Eof if is_icecast => break,
            Event::Eof => return Err("its statistics are not Icecast's".to_owned()),
            _ => {}
        }
    }
    all.mounts.retain(|mount| mount.content_type.is_some());
    Ok(sorted(all))
}

fn named(start: &BytesStart<'_>) -> Option<MountStatistics> {
    let attribute = start.try_get_attribute("mount").ok()??;
    MountStatistics::at(&attribute.normalized_value(XmlVersion::Implicit1_0).ok()?)
}

/// Icecast's `/status-json.xsl`.
///
/// # Errors
/// A sentence, where it is none.
pub(super) fn icecast_json(text: &str) -> Result<Statistics, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        format!(
            "its `/status-json.xsl` is no JSON ({error}): Icecast 2.4 writes it so where a title looks like a \
             number; give the password of its administrator (`external_password`)"
        )
    })?;
    let root = value.get("icestats").ok_or("it has no `icestats`")?;
    let sources = match root.get("source") {
        Some(Value::Array(all)) => all.clone(),
        Some(one @ Value::Object(_)) => vec![one.clone()],
        _ => Vec::new(),
    };
    let mut all = Statistics {
        server: said(root.get("server_id")),
        mounts: Vec::new(),
    };
    for source in &sources {
        let url = source.get("listenurl").and_then(Value::as_str);
        let Some(url) = url.and_then(|url| url::Url::parse(url).ok()) else {
            continue;
        };
        let path = percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy();
        let (Some(mut mount), Some(fields)) = (MountStatistics::at(&path), source.as_object())
        else {
            continue;
        };
        for (name, value) in fields {
            mount.set(name, &said(Some(value)));
        }
        all.mounts.push(mount);
    }
    Ok(sorted(all))
}

/// Shoutcast's `/statistics?json=1`; a stream without a source is not on air.
///
/// # Errors
/// A sentence, where it is none.
pub(super) fn shoutcast_json(text: &str) -> Result<Statistics, String> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| format!("its `/statistics` is no JSON: {error}"))?;
    let streams = value.get("streams").and_then(Value::as_array);
    if streams.is_none() && value.get("totalstreams").is_none() {
        return Err("its `/statistics` has no `streams`".to_owned());
    }
    let mut all = Statistics {
        server: format!("Shoutcast {}", said(value.get("version"))),
        mounts: Vec::new(),
    };
    for stream in streams.into_iter().flatten() {
        let id = said(stream.get("id"));
        let path = Some(said(stream.get("streampath"))).filter(|path| path.starts_with('/'));
        let path = path.unwrap_or_else(|| format!("/stream/{id}/"));
        let on_air = said(stream.get("streamstatus")) == "1";
        let Some(mut mount) = MountStatistics::at(&path).filter(|_| on_air) else {
            continue;
        };
        for (name, ours) in [
            ("currentlisteners", "listeners"),
            ("songtitle", "title"),
            ("bitrate", "bitrate"),
            ("content", "server_type"),
            ("streamsource", "source_ip"),
        ] {
            mount.set(ours, &said(stream.get(name)));
        }
        mount.title = mount.title.filter(|title| !title.is_empty());
        all.mounts.push(mount);
    }
    Ok(sorted(all))
}

/// A text, or a number as a text.
fn said(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 2.4.4 writes it, shortened.
    const XML: &str = r#"<?xml version="1.0"?>
<icestats><admin>icemaster@localhost</admin><clients>3</clients><server_id>Icecast 2.4.4</server_id>
<source mount="/live.mp3"><artist>Tom &amp; Jerry</artist><audio_info>bitrate=128</audio_info><bitrate>128</bitrate><genre>various</genre><ice-bitrate>128</ice-bitrate><listener_peak>2</listener_peak><listeners>2</listeners><listenurl>http://localhost:8000/live.mp3</listenurl><server_type>audio/mpeg</server_type><source_ip>127.0.0.1</source_ip><title>Caf&#xE9; &lt;live&gt;</title><total_bytes_read>1234</total_bytes_read><total_bytes_sent>5678</total_bytes_sent></source>
<source mount="/waits.mp3"><listeners>0</listeners></source></icestats>"#;

    #[test]
    fn the_xml_of_icecast() {
        let all = icecast_xml(XML).unwrap();
        assert_eq!(all.server, "Icecast 2.4.4");
        assert_eq!(all.mounts.len(), 1);
        let live = &all.mounts[0];
        assert_eq!(live.mount.to_string(), "/live.mp3");
        assert_eq!(live.title.as_deref(), Some("Tom & Jerry - Café <live>"));
        assert_eq!((live.listeners, live.bitrate), (2, Some(128_000)));
        assert_eq!(
            (live.received_bytes, live.sent_bytes),
            (Some(1234), Some(5678))
        );
        assert_eq!(live.source, Some(IpAddr::from([127, 0, 0, 1])));
        assert!(icecast_xml("<html></html>").is_err());
        assert!(
            icecast_xml("<icestats><source>").is_err()
                || icecast_xml("<icestats><source>").unwrap().mounts.is_empty()
        );
    }

    #[test]
    fn the_three_shapes_of_its_json() {
        let of = |source: &str| {
            let text = format!(r#"{{"icestats":{{"server_id":"Icecast 2.4.4"{source}}}}}"#);
            icecast_json(&text).unwrap()
        };
        let one = |path: &str| {
            format!(
                r#"{{"listenurl":"http://localhost:8000{path}","listeners":3,"title":7,"bitrate":128,"server_type":"audio/mpeg","dummy":null}}"#
            )
        };
        assert_eq!(of("").mounts.len(), 0);
        let single = of(&format!(r#","source":{}"#, one("/a%20b.mp3")));
        assert_eq!(single.mounts[0].mount.to_string(), "/a b.mp3");
        assert_eq!(single.mounts[0].title.as_deref(), Some("7"));
        let two = of(&format!(r#","source":[{},{}]"#, one("/b"), one("/a")));
        let names: Vec<String> = two.mounts.iter().map(|m| m.mount.to_string()).collect();
        assert_eq!(names, ["/a", "/b"]);
        assert!(icecast_json(r#"{"icestats":{"source":{"title":-}}}"#).is_err());
    }

    #[test]
    fn the_json_of_shoutcast() {
        let text = r#"{"totalstreams":3,"activestreams":2,"version":"2.6.1.777 (posix(linux x64))","streams":[
            {"id":1,"currentlisteners":4,"songtitle":"A - B","streamstatus":1,"streampath":"\/stream\/1\/","bitrate":"128","content":"audio\/mpeg"},
            {"id":2,"currentlisteners":0,"songtitle":"","streamstatus":1,"streampath":"/talk","bitrate":"64","content":"audio/aacp"},
            {"id":3,"streamstatus":0,"streampath":"/off"}]}"#;
        let all = shoutcast_json(text).unwrap();
        assert!(all.server.starts_with("Shoutcast 2.6.1"));
        let pairs: Vec<(String, &str)> = all
            .mounts
            .iter()
            .map(|mount| (mount.mount.to_string(), mount.path.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("/stream/1".into(), "/stream/1/"),
                ("/talk".into(), "/talk")
            ]
        );
        assert_eq!(all.mounts[0].title.as_deref(), Some("A - B"));
        assert_eq!(all.mounts[1].title, None);
        assert!(shoutcast_json("{}").is_err());
    }
}
