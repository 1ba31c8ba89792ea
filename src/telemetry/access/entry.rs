//! One line of the access log, as text.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::text::{escaped, is_deceptive};
use crate::base::wall::{rfc3339, unix_millis};
use crate::telemetry::{Class, EndReason, SessionRecord};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Icecast's: Apache's combined format and the duration in seconds.
    #[default]
    Combined,
    /// One JSON object.
    Json,
}

/// A session that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number on this node.
    pub session: u64,
    /// What it listened to.
    pub mount: String,
    /// The client's address.
    pub address: IpAddr,
    /// `relay` for a foreign server that logged in as that, else `-`.
    pub user: &'static str,
    /// End of the session, in unix milliseconds.
    pub ended_unix_millis: u64,
    /// `GET /live.mp3 HTTP/1.1`.
    pub request: String,
    /// Bytes that its socket took.
    pub sent_bytes: u64,
    /// `Referer`, empty where there was none.
    pub referer: Arc<str>,
    /// `User-Agent`, empty where there was none.
    pub user_agent: Arc<str>,
    /// How long it lasted.
    pub duration: Duration,
    /// Why it ended.
    pub reason: EndReason,
}

impl Entry {
    pub(super) fn of(record: &SessionRecord, reason: EndReason) -> Self {
        Self {
            session: record.id.0,
            mount: record.mount.to_string(),
            address: record.address,
            user: if record.class == Class::Relay {
                "relay"
            } else {
                "-"
            },
            ended_unix_millis: unix_millis(),
            request: record.request(),
            sent_bytes: record.sent_bytes(),
            referer: Arc::clone(&record.referer),
            user_agent: Arc::clone(&record.user_agent),
            duration: record.duration(),
            reason,
        }
    }

    /// The line, without its end.
    pub fn line(&self, format: Format) -> String {
        match format {
            Format::Combined => self.combined(),
            Format::Json => self.json(),
        }
    }

    fn combined(&self) -> String {
        format!(
            "{} - {} [{}] \"{}\" 200 {} \"{}\" \"{}\" {}",
            self.address,
            self.user,
            log_time(self.ended_unix_millis),
            quoted(&self.request),
            self.sent_bytes,
            quoted(&self.referer),
            quoted(&self.user_agent),
            self.duration.as_secs(),
        )
    }

    fn json(&self) -> String {
        let millis = u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX);
        let line = serde_json::json!({
            "time": rfc3339(self.ended_unix_millis),
            "session": self.session,
            "mount": self.mount,
            "address": self.address,
            "user": self.user,
            "request": self.request,
            "status": 200,
            "sent_bytes": self.sent_bytes,
            "referer": &*self.referer,
            "user_agent": &*self.user_agent,
            "duration_ms": millis,
            "reason": self.reason.as_str(),
        });
        // The escapes are those of JSON: it reads back as it was.
        escaped(&line.to_string(), &[]).into_owned()
    }
}

/// `21/Nov/2026:04:38:00 +0000`.
fn log_time(unix_millis: u64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = rfc3339(unix_millis);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    let month = part(5..7).parse::<usize>().unwrap_or(1);
    let month = MONTHS
        .get(month.wrapping_sub(1))
        .copied()
        .unwrap_or_default();
    format!(
        "{}/{month}/{}:{} +0000",
        part(8..10),
        part(0..4),
        part(11..19)
    )
}

/// A client's text between quotes: `-` for none, and nothing in it ends the quotes or the line.
fn quoted(text: &str) -> String {
    if text.is_empty() {
        return "-".into();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if is_deceptive(c) => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::telemetry::access) fn entry() -> Entry {
        Entry {
            session: 7,
            mount: "/live.mp3".into(),
            address: IpAddr::from([203, 0, 113, 9]),
            user: "-",
            ended_unix_millis: 1_795_235_880_000,
            request: "GET /live.mp3 HTTP/1.1".into(),
            sent_bytes: 123_456,
            referer: "".into(),
            user_agent: "VLC/3 \"x\"\\\n\u{1b}[31m é".into(),
            duration: Duration::from_millis(12_999),
            reason: EndReason::Left,
        }
    }

    #[test]
    fn a_line_as_icecast_writes_it() {
        assert_eq!(
            entry().line(Format::Combined),
            "203.0.113.9 - - [21/Nov/2026:04:38:00 +0000] \"GET /live.mp3 HTTP/1.1\" 200 123456 \"-\" \
             \"VLC/3 \\\"x\\\"\\\\\\x0a\\x1b[31m é\" 12"
        );
    }

    #[test]
    fn a_json_line_is_one_line_and_reads_back() {
        let line = entry().line(Format::Json);
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["user_agent"], "VLC/3 \"x\"\\\n\u{1b}[31m é");
        assert_eq!(
            (&value["session"], &value["duration_ms"], &value["reason"]),
            (&7.into(), &12_999.into(), &"left".into())
        );
        assert_eq!(value["time"], "2026-11-21T04:38:00.000Z");
    }
}
