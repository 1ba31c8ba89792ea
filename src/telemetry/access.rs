//! The access log: one line for a finished session, as Icecast writes it or as JSON.
//!
//! Sessions end in the fan-out's threads, which must not wait for a disk: lines pass through a bounded queue to a
//! thread of their own, and what finds it full is dropped and counted.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Class, EndReason, SessionRecord, export};
use crate::base::wall::{rfc3339, unix_millis};

/// Sessions that may wait for the writer.
pub const QUEUE: usize = 8192;

/// How long the end of the program waits for the last lines.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a line may wait in the writer's buffer while nothing comes.
const POLL: Duration = Duration::from_millis(500);

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Target {
    /// Nowhere.
    #[default]
    Off,
    /// Standard output.
    Output,
    /// A file, appended to.
    File(PathBuf),
}

impl Target {
    /// `-` is standard output, an empty text nowhere, anything else a path.
    pub fn of(text: &str) -> Self {
        match text {
            "" => Self::Off,
            "-" => Self::Output,
            path => Self::File(path.into()),
        }
    }
}

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
    /// When it ended, in milliseconds since 1970.
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
    fn of(record: &SessionRecord, reason: EndReason) -> Self {
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
        serde_json::json!({
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
        })
        .to_string()
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
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

enum Message {
    Line(Box<Entry>),
    Reopen,
    Change(Target, Format),
    Stop,
}

/// The log. [`AccessLog::close`], or dropping it, writes what waits.
pub struct AccessLog {
    sender: SyncSender<Message>,
    enabled: Arc<AtomicBool>,
    /// Ends when the writer has.
    done: Mutex<Receiver<()>>,
}

impl AccessLog {
    /// Opens the target and starts the writer.
    ///
    /// # Errors
    /// Where the file cannot be opened, or the system gives no thread.
    pub fn open(target: Target, format: Format) -> io::Result<Self> {
        let output = open(&target)?;
        let (sender, messages) = sync_channel(QUEUE);
        let (alive, done) = sync_channel::<()>(1);
        let enabled = Arc::new(AtomicBool::new(target != Target::Off));
        let mut writer = Writer {
            target,
            format,
            output,
            enabled: Arc::clone(&enabled),
            failing: false,
        };
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                let _alive = alive;
                writer.run(&messages);
            })?;
        Ok(Self {
            sender,
            enabled,
            done: Mutex::new(done),
        })
    }

    /// Writes the line of a session that has ended; for [`super::Telemetry::new`]. Never waits. Probes leave no
    /// line.
    pub fn write(&self, record: &SessionRecord, reason: EndReason) {
        if record.class == Class::Probe || !self.enabled.load(Ordering::Relaxed) {
            return;
        }
        let line = Message::Line(Box::new(Entry::of(record, reason)));
        if self.sender.try_send(line).is_err() {
            metrics::counter!(export::ACCESS_LOG_DROPPED).increment(1);
        }
    }

    /// Opens the file anew, after `logrotate` has moved it away. A file that cannot be opened is reported, and the
    /// old one kept.
    pub fn reopen(&self) {
        self.command(Message::Reopen);
    }

    /// Takes another target or format, with the same care.
    pub fn change(&self, target: Target, format: Format) {
        self.command(Message::Change(target, format));
    }

    fn command(&self, message: Message) {
        if self.sender.try_send(message).is_err() {
            tracing::warn!("the access log does not keep up: ask again");
        }
    }

    /// Writes what waits and ends the writer; waits two seconds at most. Later lines are dropped.
    pub fn close(&self) {
        self.enabled.store(false, Ordering::Relaxed);
        let mut stop = Message::Stop;
        let deadline = Instant::now() + FAREWELL;
        while let Err(TrySendError::Full(back)) = self.sender.try_send(stop) {
            if Instant::now() >= deadline {
                return;
            }
            stop = back;
            std::thread::yield_now();
        }
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = done.recv_timeout(FAREWELL);
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

type Output = Option<BufWriter<Box<dyn Write + Send>>>;

fn open(target: &Target) -> io::Result<Output> {
    let sink: Box<dyn Write + Send> = match target {
        Target::Off => return Ok(None),
        Target::Output => Box::new(io::stdout()),
        Target::File(path) => Box::new(append_to(path)?),
    };
    Ok(Some(BufWriter::new(sink)))
}

fn append_to(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot open the access log `{}`: {error}", path.display()),
        )
    })
}

struct Writer {
    target: Target,
    format: Format,
    output: Output,
    enabled: Arc<AtomicBool>,
    /// True from a failed write to the next that succeeds, so that a full disk is said once.
    failing: bool,
}

impl Writer {
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(POLL) {
                Ok(message) => {
                    if !self.take(message) || !messages.try_iter().all(|more| self.take(more)) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.flush();
        }
        self.flush();
    }

    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Line(entry) => self.write(&entry),
            Message::Reopen => self.change(self.target.clone(), self.format),
            Message::Change(target, format) => self.change(target, format),
            Message::Stop => return false,
        }
        true
    }

    fn change(&mut self, target: Target, format: Format) {
        self.flush();
        match open(&target) {
            Ok(output) => {
                let on = target != Target::Off;
                self.enabled.store(on, Ordering::Relaxed);
                (self.target, self.format, self.output) = (target, format, output);
            }
            Err(error) => tracing::warn!("{error}; the log goes on where it was"),
        }
    }

    fn write(&mut self, entry: &Entry) {
        let Some(output) = &mut self.output else {
            return;
        };
        let mut line = entry.line(self.format);
        line.push('\n');
        let result = output.write_all(line.as_bytes());
        self.judge(result);
    }

    fn flush(&mut self) {
        let Some(output) = &mut self.output else {
            return;
        };
        let result = output.flush();
        self.judge(result);
    }

    fn judge(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.failing = false,
            Err(error) => {
                metrics::counter!(export::ACCESS_LOG_DROPPED).increment(1);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("cannot write the access log: {error}");
                }
                // What a failed writer holds would fail again, and every later line after it.
                self.output = open(&self.target).ok().flatten();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::MountId;
    use crate::telemetry::{Opening, Telemetry};

    fn entry() -> Entry {
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

    fn telemetry(log: &Arc<AccessLog>) -> Arc<Telemetry> {
        let log = Arc::clone(log);
        Telemetry::new(Box::new(move |record, reason| log.write(record, reason)))
    }

    fn open(telemetry: &Arc<Telemetry>, agent: &str, class: Class) -> crate::telemetry::Session {
        telemetry.open(&Opening {
            mount: &MountId::new("/live.mp3").unwrap(),
            address: IpAddr::from([127, 0, 0, 1]),
            user_agent: agent,
            referer: "http://a/",
            target: "/live.mp3",
            protocol: crate::telemetry::Protocol::Http11,
            class,
        })
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

    #[test]
    fn sessions_are_written_at_their_end_and_the_file_is_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let target = Target::File(path.clone());
        let log = Arc::new(AccessLog::open(target.clone(), Format::Combined).unwrap());
        let telemetry = telemetry(&log);
        open(&telemetry, "one", Class::Listener).sent(5);
        drop(open(&telemetry, "two", Class::Relay));
        drop(open(&telemetry, "unseen", Class::Probe));
        let moved = folder.path().join("access.log.1");
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        drop(open(&telemetry, "three", Class::Listener));
        log.change(target, Format::Json);
        open(&telemetry, "four", Class::Listener).finish(EndReason::Kicked);
        log.close();
        drop(open(&telemetry, "late", Class::Listener));
        let old = std::fs::read_to_string(moved).unwrap();
        let lines: Vec<&str> = old.lines().collect();
        assert_eq!(lines.len(), 2, "{old}");
        assert!(
            lines[0].starts_with("127.0.0.1 - - [")
                && lines[0].ends_with("\"GET /live.mp3 HTTP/1.1\" 200 5 \"http://a/\" \"one\" 0"),
            "{old}"
        );
        assert!(lines[1].starts_with("127.0.0.1 - relay ["), "{old}");
        let new = std::fs::read_to_string(path).unwrap();
        assert!(new.contains("\"three\" 0\n{") && new.contains("\"reason\":\"kicked\""));
    }

    #[test]
    fn what_finds_the_queue_full_is_dropped_and_counted() {
        let (sender, messages) = sync_channel(1);
        let (alive, done) = sync_channel(1);
        let log = Arc::new(AccessLog {
            sender,
            enabled: Arc::new(AtomicBool::new(true)),
            done: Mutex::new(done),
        });
        let recorder = export::recorder();
        metrics::with_local_recorder(&recorder, || {
            let telemetry = telemetry(&log);
            for _ in 0..3 {
                drop(open(&telemetry, "x", Class::Listener));
            }
        });
        let text = recorder.handle().render();
        assert!(
            text.contains("relayctl_access_log_dropped_total 2\n"),
            "{text}"
        );
        // The writer is gone: closing must not wait for it.
        drop((messages, alive));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let opened = AccessLog::open(Target::of("/nowhere/at/all.log"), Format::Combined);
        let error = opened.err().unwrap().to_string();
        assert!(error.contains("`/nowhere/at/all.log`"), "{error}");
        assert_eq!(Target::of("-"), Target::Output);
        assert_eq!(Target::of(""), Target::Off);
    }
}
