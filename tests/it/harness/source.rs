//! Sources of the tone, listeners, and the requests of both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::eventually;
use super::node::Node;
use super::peer::{Head, Peer, ask};
use super::tone;

/// Frames that a source sends at once, and how often: a bit below five times as fast as they play.
const AT_ONCE: u64 = 4;
const EVERY: Duration = Duration::from_millis(20);

/// `Authorization` of the user `source`.
pub fn basic(password: &str) -> String {
    login("source", password)
}

/// `Authorization` of any user.
pub fn login(user: &str, password: &str) -> String {
    let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {pair}\r\n")
}

/// A head that begins with `first` (`PUT /live.mp3 HTTP/1.1`), of an MP3 source that logs in.
pub fn source_head(first: &str, password: &str, more: &str) -> String {
    let login = basic(password);
    format!("{first}\r\nHost: localhost\r\n{login}Content-Type: audio/mpeg\r\n{more}\r\n")
}

/// How a source frames its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// As it is.
    Raw,
    /// In chunks.
    Chunked,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Play,
    Pause,
    /// End the body and read the final answer.
    Finish,
}

/// A source that sends the tone, several times as fast as it plays, until it is dropped.
pub struct Source {
    flow: watch::Sender<Flow>,
    next: Arc<AtomicU64>,
    task: JoinHandle<Vec<u8>>,
}

impl Source {
    /// A raw PUT of the tone; on air when this returns.
    pub async fn start(node: &Node, mount: &str) -> Self {
        Self::start_at(node, mount, 0).await
    }

    /// The same from a frame on.
    pub async fn start_at(node: &Node, mount: &str, first: u64) -> Self {
        Self::put(node.port, mount, &node.source_password(), first).await
    }

    /// The same at any port, with this password.
    pub async fn put(port: u16, mount: &str, password: &str, first: u64) -> Self {
        let mut peer = Peer::connect(port).await;
        let line = format!("PUT {mount} HTTP/1.1");
        peer.send(source_head(&line, password, "")).await;
        let head = peer.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        let source = Self::over(peer, Framing::Raw, first);
        on_air(port, mount).await;
        source
    }

    /// Over a connection that a source's head went out on.
    pub fn over(mut peer: Peer, framing: Framing, first: u64) -> Self {
        let (flow, mut orders) = watch::channel(Flow::Play);
        let next = Arc::new(AtomicU64::new(first));
        let counter = Arc::clone(&next);
        let task = tokio::spawn(async move {
            let mut turns = interval(EVERY);
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                turns.tick().await;
                let order = *orders.borrow_and_update();
                match order {
                    Flow::Play => {}
                    Flow::Pause => tokio::select! {
                        order = orders.changed() => match order {
                            Ok(()) => continue,
                            Err(_) => return Vec::new(),
                        },
                        said = peer.ended() => return said,
                    },
                    Flow::Finish => {
                        if framing == Framing::Chunked {
                            let _ = peer.try_send(b"0\r\n\r\n").await;
                        }
                        peer.finish().await;
                        return peer.rest().await;
                    }
                }
                let from = counter.load(Ordering::Relaxed);
                let body = framed(&tone::frames(from, AT_ONCE), framing);
                if peer.try_send(&body).await.is_err() {
                    return peer.rest().await;
                }
                counter.store(from + AT_ONCE, Ordering::Relaxed);
            }
        });
        Self { flow, next, task }
    }

    /// Frames sent so far, and so the number of the next.
    pub fn sent(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Sends nothing more, and stays connected.
    pub fn pause(&self) {
        self.flow.send_replace(Flow::Pause);
    }

    /// Goes on.
    pub fn play(&self) {
        self.flow.send_replace(Flow::Play);
    }

    /// Ends the body; what the node answered at the end, and the number of the frame that would have been next.
    pub async fn finish(self) -> (String, u64) {
        self.flow.send_replace(Flow::Finish);
        let next = Arc::clone(&self.next);
        let answer = self.answer().await;
        (answer, next.load(Ordering::Relaxed))
    }

    /// What the node said when it ended this source.
    pub async fn answer(mut self) -> String {
        let ended = tokio::time::timeout(super::PATIENCE, &mut self.task).await;
        let bytes = ended
            .expect("the source goes on")
            .expect("the source's task");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `bytes` as a part of a body.
pub fn framed(bytes: &[u8], framing: Framing) -> Vec<u8> {
    match framing {
        Framing::Raw => bytes.to_vec(),
        Framing::Chunked => [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
    }
}

/// Waits until a mount plays, here or where this node sends its listeners. HEAD is no listener.
pub async fn on_air(port: u16, mount: &str) -> Head {
    let request = format!("HEAD {mount} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    eventually(&format!("{mount} is on air"), async || {
        let mut peer = Peer::connect(port).await;
        peer.send(&request).await;
        let head = peer.head().await;
        [200, 302].contains(&head.status).then_some(head)
    })
    .await
}

/// Waits until a mount is gone.
pub async fn off_air(port: u16, mount: &str) {
    let request = format!("HEAD {mount} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    eventually(&format!("{mount} is off air"), async || {
        let mut peer = Peer::connect(port).await;
        peer.send(&request).await;
        (peer.head().await.status == 404).then_some(())
    })
    .await;
}

/// A listener with its head read: the bytes that follow are audio.
pub async fn listen(port: u16, mount: &str) -> (Peer, Head) {
    listen_with(port, mount, "").await
}

/// The same with more headers.
pub async fn listen_with(port: u16, mount: &str, more: &str) -> (Peer, Head) {
    let mut peer = Peer::connect(port).await;
    peer.send(format!(
        "GET {mount} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"
    ))
    .await;
    let head = peer.head().await;
    assert_eq!(head.status, 200, "{head:?}");
    (peer, head)
}

/// Sets a mount's title as encoders do.
pub async fn set_title(port: u16, mount: &str, password: &str, title: &str) {
    let song = percent_encoding::utf8_percent_encode(title, percent_encoding::NON_ALPHANUMERIC);
    let login = basic(password);
    let path = format!("/admin/metadata?mode=updinfo&charset=UTF-8&mount={mount}&song={song}");
    let request = format!("GET {path} HTTP/1.0\r\n{login}User-Agent: test\r\n\r\n");
    let (head, body) = ask(port, request).await;
    assert_eq!(head.status, 200, "{body}");
}

/// A listener's bytes without their metadata, and each title with the audio offset where it stood.
pub fn strip(bytes: &[u8], metaint: usize) -> (Vec<u8>, Vec<(usize, String)>) {
    let (mut audio, mut titles, mut rest) = (Vec::new(), Vec::new(), bytes);
    while let Some((run, behind)) = rest.split_at_checked(metaint) {
        audio.extend_from_slice(run);
        let Some((length, behind)) = behind.split_first() else {
            return (audio, titles);
        };
        let Some((block, behind)) = behind.split_at_checked(usize::from(*length) * 16) else {
            return (audio, titles);
        };
        if !block.is_empty() {
            let text = String::from_utf8(block.to_vec()).unwrap();
            let text = text.trim_end_matches('\0');
            let title = text
                .strip_prefix("StreamTitle='")
                .and_then(|text| text.split_once("';"));
            let (title, _) = title.unwrap_or_else(|| panic!("no title: {text:?}"));
            titles.push((audio.len(), title.to_owned()));
        }
        rest = behind;
    }
    audio.extend_from_slice(rest);
    (audio, titles)
}
