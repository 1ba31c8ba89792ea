//! Listeners who read all the time, each in a task of its own, until they are asked what they heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::peer::{Head, Peer};
use super::tone::{self, FRAME};

/// See the module.
#[derive(Default)]
pub struct Audience {
    ears: Vec<Ear>,
    enough: Arc<AtomicBool>,
}

struct Ear {
    metadata: bool,
    task: JoinHandle<(u64, Duration)>,
}

/// What all of them heard: each of them one run without a gap.
#[derive(Debug, Default)]
pub struct Heard {
    /// How many they are.
    pub listeners: usize,
    /// Whole frames, all in all.
    pub frames: u64,
    /// The longest pause of any without metadata.
    pub longest: Duration,
    /// And of any with it.
    pub longest_with_metadata: Duration,
}

impl Audience {
    /// One more, whose head has been read.
    pub fn seat(&mut self, peer: Peer, head: &Head) {
        let metaint = head.get("icy-metaint").map(|text| text.parse().unwrap());
        let task = tokio::spawn(hear(peer, metaint, Arc::clone(&self.enough)));
        self.ears.push(Ear {
            metadata: metaint.is_some(),
            task,
        });
    }

    /// Everybody is still there, and heard one run without a gap.
    pub async fn all_contiguous(self) -> Heard {
        self.enough.store(true, Ordering::Relaxed);
        let mut heard = Heard {
            listeners: self.ears.len(),
            ..Heard::default()
        };
        for ear in self.ears {
            let (frames, pause) = ear.task.await.expect("a listener was lost");
            let longest = match ear.metadata {
                true => &mut heard.longest_with_metadata,
                false => &mut heard.longest,
            };
            *longest = pause.max(*longest);
            heard.frames += frames;
        }
        heard
    }
}

/// Frames and the longest pause between two reads, of one who is never closed and misses nothing.
async fn hear(mut peer: Peer, metaint: Option<usize>, enough: Arc<AtomicBool>) -> (u64, Duration) {
    let (mut line, mut pause) = (Line::new(metaint), Duration::ZERO);
    while !enough.load(Ordering::Relaxed) || line.frames == 0 {
        let began = Instant::now();
        // Fails where the node closes.
        let bytes = peer.exact(4 * FRAME).await;
        pause = pause.max(began.elapsed());
        line.take(&bytes);
    }
    (line.frames, pause)
}

/// What came, frame by frame, without its metadata; nothing of it is kept.
struct Line {
    metaint: Option<usize>,
    /// Bytes to the next block.
    left: usize,
    raw: Vec<u8>,
    audio: Vec<u8>,
    next: Option<u64>,
    frames: u64,
}

impl Line {
    fn new(metaint: Option<usize>) -> Self {
        Self {
            metaint,
            left: metaint.unwrap_or(usize::MAX),
            raw: Vec::new(),
            audio: Vec::new(),
            next: None,
            frames: 0,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        while !self.raw.is_empty() {
            let count = self.left.min(self.raw.len());
            self.audio.extend(self.raw.drain(..count));
            let Some(metaint) = self.metaint else { break };
            self.left -= count;
            let Some(length) = self.raw.first().map(|length| 1 + usize::from(*length) * 16) else {
                break;
            };
            if self.raw.len() < length {
                break;
            }
            self.raw.drain(..length);
            self.left = metaint;
        }
        let whole = self.audio.len() / FRAME * FRAME;
        for frame in self.audio.drain(..whole).as_slice().chunks(FRAME) {
            let number = tone::number_of(frame);
            let next = self.next.unwrap_or(number);
            assert_eq!(number, next, "frames are missing or stand twice");
            self.next = Some(number + 1);
            self.frames += 1;
        }
    }
}

#[test]
fn metadata_is_left_out_wherever_it_is_cut() {
    let frames = tone::frames(7, 40);
    let mut raw = Vec::new();
    for (at, part) in frames.chunks(1000).enumerate() {
        raw.extend_from_slice(part);
        raw.push(u8::from(at % 3 == 1));
        raw.resize(raw.len() + if at % 3 == 1 { 16 } else { 0 }, b' ');
    }
    for size in [1, 13, 384, 1000, 1001, 5000] {
        let mut line = Line::new(Some(1000));
        for part in raw.chunks(size) {
            line.take(part);
        }
        assert_eq!((line.frames, line.next), (40, Some(47)), "{size}");
        let mut torn = Line::new(None);
        let broken = [&frames[..FRAME], &frames[2 * FRAME..]].concat();
        let result = std::panic::catch_unwind(move || torn.take(&broken));
        assert!(result.is_err());
    }
}
