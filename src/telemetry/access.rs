//! The access log: one line for a finished session, as Icecast writes it or as JSON.
//!
//! Sessions end in the fan-out's threads, which must not wait for a disk: lines pass through a bounded queue to a
//! thread of their own, and what finds it full is dropped and counted. `entry` is a line, `sink` the open file,
//! `writer` the thread.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::panics::{self, Vital};
use super::{Class, EndReason, SessionRecord, export};
pub use entry::{Entry, Format};
use sink::Sink;
use writer::Writer;

mod entry;
mod sink;
mod writer;

/// Sessions that may wait for the writer.
pub const QUEUE: usize = 8192;

/// How long the end of the program waits for the last lines.
const FAREWELL: Duration = Duration::from_secs(2);

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

    /// The sentence of an error, with the file or pipe that it is about.
    fn named(&self, error: &io::Error) -> String {
        let place = match self {
            Self::Off | Self::Output => "the access log on standard output".to_owned(),
            Self::File(path) => format!("the access log `{}`", path.display()),
        };
        match sink::is_unread(error) {
            true => format!("{place} is a pipe that nobody reads"),
            false => format!("cannot write {place}: {error}"),
        }
    }
}

/// A target that takes lines, or a named pipe whose reader is still to come.
#[derive(Debug)]
pub struct Opened {
    target: Target,
    sink: Option<Sink>,
}

impl Opened {
    /// Opens `target`, so that a mistake in it is found before anything depends on it. A file is created; a named pipe
    /// that nobody reads is no mistake: lines are lost and counted until somebody does.
    ///
    /// # Errors
    /// Where the file cannot be opened; the text names it.
    pub fn at(target: Target) -> io::Result<Self> {
        match sink::open(&target) {
            Ok(sink) => Ok(Self { target, sink }),
            Err(error) if sink::is_unread(&error) => Ok(Self { target, sink: None }),
            Err(error) => Err(io::Error::new(error.kind(), target.named(&error))),
        }
    }
}

enum Message {
    Line(Box<Entry>),
    Reopen,
    Change(Opened, Format),
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
    /// Starts the writer.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(opened: Opened, format: Format) -> io::Result<Self> {
        let (sender, messages) = sync_channel(QUEUE);
        let (alive, done) = sync_channel::<()>(1);
        let enabled = Arc::new(AtomicBool::new(opened.target != Target::Off));
        let mut writer = Writer::new(opened, format, Arc::clone(&enabled));
        panics::thread(Vital::AccessLog, "access-log", move || {
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

    /// Takes another target or format from the next line on; what waits goes to the old one.
    pub fn change(&self, opened: Opened, format: Format) {
        self.command(Message::Change(opened, format));
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::base::ids::MountId;
    use crate::telemetry::{Opening, Telemetry};

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
    fn sessions_are_written_at_their_end_and_the_file_is_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let target = Target::File(path.clone());
        let log = Arc::new(
            AccessLog::start(Opened::at(target.clone()).unwrap(), Format::Combined).unwrap(),
        );
        let telemetry = telemetry(&log);
        open(&telemetry, "one", Class::Listener).sent(5);
        drop(open(&telemetry, "two", Class::Relay));
        drop(open(&telemetry, "unseen", Class::Probe));
        let moved = folder.path().join("access.log.1");
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        drop(open(&telemetry, "three", Class::Listener));
        log.change(Opened::at(target).unwrap(), Format::Json);
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
        let opened = Opened::at(Target::of("/nowhere/at/all.log"));
        let error = opened.err().unwrap().to_string();
        assert!(error.contains("`/nowhere/at/all.log`"), "{error}");
        assert_eq!(Target::of("-"), Target::Output);
        assert_eq!(Target::of(""), Target::Off);
    }
}
