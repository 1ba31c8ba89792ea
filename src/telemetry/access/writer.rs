//! The thread that writes the access log, and what it does while nothing can be written.
//!
//! A failed write loses the lines that it held, each of them counted; the target is opened again at most once a
//! second until a line gets through. The failure and its end are logged once each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::sink::{self, Broken, Sink};
use super::{Entry, Format, Message, Opened, Target};
use crate::telemetry::export;

/// Longest time that a line waits in the writer's buffer while no other comes.
const POLL: Duration = Duration::from_millis(500);

/// Shortest time between two tries at a target that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Bytes of whole lines after which the buffer is written without waiting for more of them.
const ENOUGH: usize = 64 * 1024;

/// The state of the writer's thread.
pub(super) struct Writer {
    target: Target,
    format: Format,
    /// `None` while the target is off or could not be opened.
    sink: Option<Sink>,
    enabled: Arc<AtomicBool>,
    buffer: Buffer,
    outage: Option<Outage>,
}

/// Lines that were not written yet.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    lines: u64,
    /// The last write ended within a line: the next one begins with a line feed, so that two lines do not become one.
    is_torn: bool,
}

/// The time from a failed write to the next that succeeds.
struct Outage {
    since: Instant,
    next_try: Instant,
    lost: u64,
}

impl Writer {
    pub fn new(opened: Opened, format: Format, enabled: Arc<AtomicBool>) -> Self {
        Self {
            target: opened.target,
            format,
            sink: opened.sink,
            enabled,
            buffer: Buffer::default(),
            outage: None,
        }
    }

    /// Writes what comes until [`Message::Stop`] or the end of the channel.
    pub fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            let goes_on = match messages.recv_timeout(POLL) {
                Ok(message) => {
                    self.take(message) && messages.try_iter().all(|more| self.take(more))
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            self.flush(Instant::now());
            if !goes_on {
                return;
            }
        }
    }

    fn take(&mut self, message: Message) -> bool {
        let now = Instant::now();
        match message {
            Message::Line(entry) => self.write(&entry, now),
            Message::Reopen => self.reopen(now),
            Message::Change(opened, format) => self.change(opened, format, now),
            Message::Stop => return false,
        }
        true
    }

    fn write(&mut self, entry: &Entry, now: Instant) {
        if self.target == Target::Off {
            return;
        }
        if !self.is_ready(now) {
            return self.lose(1);
        }
        self.buffer.push(&entry.line(self.format));
        if self.buffer.bytes.len() >= ENOUGH {
            self.flush(now);
        }
    }

    /// True where a line may be tried: nothing is broken, or the next try is due and the target opens.
    fn is_ready(&mut self, now: Instant) -> bool {
        if self.outage.as_ref().is_some_and(|gap| now < gap.next_try) {
            return false;
        }
        if self.sink.is_some() {
            return true;
        }
        match sink::open(&self.target) {
            Ok(sink) => self.sink = sink,
            Err(error) => self.broke(&self.target.named(&error), now),
        }
        self.sink.is_some()
    }

    fn flush(&mut self, now: Instant) {
        if self.buffer.lines == 0 {
            return;
        }
        if self.sink.as_ref().is_some_and(Sink::is_deleted) {
            self.sink = None;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let is_ready = self.is_ready(now);
        let Some(sink) = self.sink.as_mut().filter(|_| is_ready) else {
            self.buffer.is_torn = buffer.is_torn;
            return self.lose(buffer.lines);
        };
        let outcome = sink.write(buffer.finished(sink));
        self.buffer.is_torn = buffer.tears(&outcome);
        match outcome {
            Ok(()) => self.recovered(now),
            Err(broken) => {
                let lost = buffer.lines_beyond(broken.written);
                self.broke(&self.target.named(&broken.error), now);
                self.lose(lost);
                // What takes nothing for the moment is no better when it is opened again, and a reader of a pipe
                // would see its end.
                if !broken.is_stalled() {
                    self.sink = None;
                }
            }
        }
    }

    /// After a rotation: the name may lead to another file. One that cannot be opened leaves things as they are.
    fn reopen(&mut self, now: Instant) {
        self.flush(now);
        match sink::open(&self.target) {
            Ok(sink) => self.sink = sink,
            Err(error) => tracing::warn!(
                "{}; the log goes on where it was",
                self.target.named(&error)
            ),
        }
        if let Some(outage) = &mut self.outage {
            outage.next_try = now;
        }
    }

    fn change(&mut self, opened: Opened, format: Format, now: Instant) {
        self.flush(now);
        self.format = format;
        self.sink = opened.sink;
        if self.target != opened.target {
            self.enabled
                .store(opened.target != Target::Off, Ordering::Relaxed);
            self.target = opened.target;
            (self.buffer, self.outage) = (Buffer::default(), None);
        } else if let Some(outage) = &mut self.outage {
            outage.next_try = now;
        }
    }

    fn broke(&mut self, why: &str, now: Instant) {
        let next_try = now + RETRY;
        if let Some(outage) = &mut self.outage {
            outage.next_try = next_try;
            return;
        }
        tracing::warn!(
            "{why}; trying again every second, and lines are lost and counted until then"
        );
        self.outage = Some(Outage {
            since: now,
            next_try,
            lost: 0,
        });
    }

    fn recovered(&mut self, now: Instant) {
        if let Some(outage) = self.outage.take() {
            let after = now.saturating_duration_since(outage.since);
            tracing::info!(
                lost = outage.lost,
                after_seconds = after.as_secs(),
                "the access log is written again"
            );
        }
    }

    fn lose(&mut self, lines: u64) {
        metrics::counter!(export::ACCESS_LOG_DROPPED).increment(lines);
        if let Some(outage) = &mut self.outage {
            outage.lost = outage.lost.saturating_add(lines);
        }
    }
}

impl Buffer {
    fn push(&mut self, line: &str) {
        if self.is_torn && self.bytes.is_empty() {
            self.bytes.push(b'\n');
        }
        self.bytes.extend_from_slice(line.as_bytes());
        self.bytes.push(b'\n');
        self.lines = self.lines.saturating_add(1);
    }

    /// The bytes to write; an empty file has no torn line that would have to be ended.
    fn finished(&mut self, sink: &Sink) -> &[u8] {
        if self.is_torn && sink.is_empty() {
            self.bytes.remove(0);
            self.is_torn = false;
        }
        &self.bytes
    }

    fn tears(&self, outcome: &Result<(), Broken>) -> bool {
        let written = match outcome {
            Ok(()) => return false,
            Err(broken) => broken.written,
        };
        match written.checked_sub(1) {
            None => self.is_torn,
            Some(last) => self.bytes.get(last) != Some(&b'\n'),
        }
    }

    /// Lines that are not wholly within the first `written` bytes.
    fn lines_beyond(&self, written: usize) -> u64 {
        let whole = self.bytes.iter().take(written);
        let feeds = whole.filter(|byte| **byte == b'\n').count() as u64;
        let own = feeds.saturating_sub(u64::from(self.is_torn && written > 0));
        self.lines.saturating_sub(own)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::super::entry::tests::entry;
    use super::*;

    const DROPPED: &str = "relayctl_access_log_dropped_total";

    fn writer(path: &Path) -> Writer {
        let opened = Opened::at(Target::File(path.into())).unwrap();
        Writer::new(opened, Format::Combined, Arc::new(AtomicBool::new(true)))
    }

    fn line(writer: &mut Writer, session: u64, now: Instant) {
        let entry = Entry {
            session,
            request: session.to_string(),
            ..entry()
        };
        writer.write(&entry, now);
        writer.flush(now);
    }

    /// The sessions in the file, in its order.
    fn sessions(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines();
        let numbers = lines.map(|line| line.split('"').nth(1).unwrap().parse().unwrap());
        numbers.collect()
    }

    fn counted(scene: impl FnOnce()) -> String {
        let recorder = export::recorder();
        metrics::with_local_recorder(&recorder, scene);
        let text = recorder.handle().render();
        let line = text.lines().find(|line| line.starts_with(DROPPED));
        line.unwrap_or_default().to_owned()
    }

    #[test]
    fn a_full_disk_loses_lines_and_one_with_room_takes_them_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, real) = (folder.path().join("log"), folder.path().join("real"));
        symlink("/dev/full", &path).unwrap();
        let begin = Instant::now();
        let dropped = counted(|| {
            let mut writer = writer(&path);
            line(&mut writer, 1, begin);
            // Within the second nothing is tried; the folder may come back meanwhile.
            fs::remove_file(&path).unwrap();
            symlink(&real, &path).unwrap();
            line(&mut writer, 2, begin + Duration::from_millis(999));
            line(&mut writer, 3, begin + RETRY);
            line(&mut writer, 4, begin + RETRY);
            assert!(writer.outage.is_none());
        });
        assert_eq!(dropped, format!("{DROPPED} 2"));
        assert_eq!(sessions(&real), [3, 4]);
    }

    #[test]
    fn what_cannot_be_opened_is_tried_each_second_and_every_line_counted() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let path = inner.join("log");
        let begin = Instant::now();
        let dropped = counted(|| {
            let mut writer = writer(&path);
            line(&mut writer, 1, begin);
            // Removed with its folder: the open file has no name any more.
            fs::remove_dir_all(&inner).unwrap();
            for session in 2..5 {
                line(&mut writer, session, begin + RETRY * session as u32);
            }
            fs::create_dir(&inner).unwrap();
            fs::create_dir(&path).unwrap();
            line(&mut writer, 5, begin + RETRY * 5);
            fs::remove_dir(&path).unwrap();
            line(&mut writer, 6, begin + RETRY * 6);
        });
        assert_eq!(dropped, format!("{DROPPED} 4"));
        assert_eq!(sessions(&path), [6]);
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next_and_counts_as_lost() {
        let mut buffer = Buffer::default();
        buffer.push("one");
        buffer.push("two");
        assert_eq!((buffer.lines_beyond(0), buffer.lines_beyond(8)), (2, 0));
        assert_eq!((buffer.lines_beyond(4), buffer.lines_beyond(7)), (1, 1));
        let broken = |written| {
            Err(Broken {
                written,
                error: std::io::ErrorKind::StorageFull.into(),
            })
        };
        assert!(buffer.tears(&broken(2)) && !buffer.tears(&broken(4)));
        let mut next = Buffer {
            is_torn: true,
            ..Buffer::default()
        };
        next.push("three");
        assert_eq!(next.bytes, b"\nthree\n");
        // The line feed that ends the torn line is no line of its own.
        assert_eq!((next.lines_beyond(1), next.lines_beyond(7)), (1, 0));
        assert!(next.tears(&broken(0)) && !next.tears(&broken(1)));
    }

    #[test]
    fn another_target_ends_the_outage_of_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        let now = Instant::now();
        let mut writer = writer(Path::new("/dev/full"));
        line(&mut writer, 1, now);
        assert!(writer.outage.is_some());
        let opened = Opened::at(Target::File(other.clone())).unwrap();
        writer.change(opened, Format::Combined, now);
        line(&mut writer, 2, now);
        assert_eq!(sessions(&other), [2]);
        let off = Opened::at(Target::Off).unwrap();
        writer.change(off, Format::Combined, now);
        line(&mut writer, 3, now);
        assert!(writer.outage.is_none() && !writer.enabled.load(Ordering::Relaxed));
    }
}
