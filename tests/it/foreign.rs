//! Plain Icecast and Shoutcast servers as upstreams of a primary.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::harness::eventually;
use crate::harness::node::Plan;
use crate::harness::source::{Framing, framed, listen, listen_with, on_air, strip};
use crate::harness::tone::{self, FRAME};

/// How the foreign server answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Icy,
    Chunked,
    /// Sends its clients to `/there` first.
    Elsewhere,
    /// Cuts each connection after a hundred frames.
    Short,
    /// Sends titles within the stream.
    Titles,
    /// Says that it sends AAC, and sends titles in a Russian character set, a URL beside them.
    Mislabelled,
}

/// A server of the tone that counts on over its connections.
struct Foreign {
    port: u16,
    connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Foreign {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicU64::new(0));
        let (counter, next) = (Arc::clone(&connections), Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(answer(stream, manner, port, Arc::clone(&next)));
            }
        });
        Self {
            port,
            connections,
            task,
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    mut stream: TcpStream,
    manner: Manner,
    port: u16,
    next: Arc<AtomicU64>,
) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        stream
            .read_buf(&mut request)
            .await
            .ok()
            .filter(|count| *count > 0)?;
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    if manner == Manner::Elsewhere && !request.starts_with("get /there") {
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/there\r\nContent-Length: 0\r\n\r\n"
        );
        return stream.write_all(head.as_bytes()).await.ok();
    }
    let sends_titles = matches!(manner, Manner::Titles | Manner::Mislabelled);
    let metaint = sends_titles && request.contains("icy-metadata: 1");
    let head = match manner {
        Manner::Icy => "ICY 200 OK\r\nicy-name:Far\r\ncontent-type:audio/mpeg\r\n\r\n",
        Manner::Chunked => {
            "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\nicy-name: Far\r\n\r\n"
        }
        Manner::Mislabelled => {
            "HTTP/1.0 200 OK\r\nContent-Type: audio/aac\r\nicy-name: Far\r\nicy-metaint: 3840\r\n\r\n"
        }
        _ if metaint => {
            "HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\nicy-name: Far\r\nicy-metaint: 3840\r\n\r\n"
        }
        _ => "HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\nicy-name: Far\r\n\r\n",
    };
    stream.write_all(head.as_bytes()).await.ok()?;
    let framing = if manner == Manner::Chunked {
        Framing::Chunked
    } else {
        Framing::Raw
    };
    let mut turns = interval(Duration::from_millis(40));
    for turn in 0.. {
        turns.tick().await;
        if manner == Manner::Short && turn == 10 {
            return Some(());
        }
        let from = next.fetch_add(10, Ordering::Relaxed);
        let mut bytes = framed(&tone::frames(from, 10), framing);
        if manner == Manner::Mislabelled {
            bytes.push(3);
            bytes
                .extend_from_slice(b"StreamTitle='\xcf\xf0';StreamUrl='http://far/x';\0\0\0\0\0\0");
        } else if metaint {
            // Sixteen times two: `StreamTitle='far away';` and zeros.
            bytes.push(2);
            bytes.extend_from_slice(b"StreamTitle='far away';\0\0\0\0\0\0\0\0\0");
        }
        stream.write_all(&bytes).await.ok()?;
    }
    None
}

/// The settings of a primary that pulls `url` to `/far.mp3`.
fn pulling(urls: &[String]) -> Plan {
    let (first, rest) = urls.split_first().unwrap();
    let backup = rest
        .iter()
        .map(|url| format!("\n      - {url}"))
        .collect::<String>();
    let backup = if backup.is_empty() {
        backup
    } else {
        format!("\n    backup:{backup}")
    };
    Plan::primary().yaml(&format!(
        "metaint: 4096\nrelay:\n  - url: {first}\n    mount: /far.mp3{backup}"
    ))
}

#[tokio::test]
async fn every_manner_of_answering_is_understood() {
    for manner in [
        Manner::Icy,
        Manner::Chunked,
        Manner::Elsewhere,
        Manner::Titles,
    ] {
        let server = Foreign::start(manner).await;
        let node = pulling(&[format!("http://127.0.0.1:{}/live", server.port)])
            .start()
            .await;
        on_air(node.port, "/far.mp3").await;
        let (mut listener, head) = listen_with(node.port, "/far.mp3", "Icy-MetaData: 1\r\n").await;
        assert_eq!(
            (head.get("icy-name"), head.get("content-type")),
            (Some("Far"), Some("audio/mpeg"))
        );
        let mut bytes = Vec::new();
        let wanted = if manner == Manner::Titles {
            "far away"
        } else {
            ""
        };
        eventually("it plays", async || {
            bytes.extend(listener.exact(4097).await);
            let (audio, titles) = strip(&bytes, 4096);
            let said = wanted.is_empty() || titles.iter().any(|(_, title)| title == wanted);
            (tone::run(&audio).count >= 100 && said).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let server = Foreign::start(Manner::Short).await;
    let node = pulling(&[format!("http://127.0.0.1:{}/live", server.port)])
        .start()
        .await;
    on_air(node.port, "/far.mp3").await;
    let (mut listener, _) = listen(node.port, "/far.mp3").await;
    // The server counts on where it was cut, so what is heard is one run.
    let mut heard = listener.exact(FRAME).await;
    while tone::run(&heard).end() < 350 {
        heard.extend(listener.exact(FRAME).await);
    }
    assert!(server.connections.load(Ordering::Relaxed) >= 4);
}

#[tokio::test]
async fn a_backup_is_taken_when_the_first_is_not_there() {
    let server = Foreign::start(Manner::Icy).await;
    let nowhere = format!("http://127.0.0.1:{}/live", crate::harness::two_free_ports());
    let node = pulling(&[nowhere, format!("http://127.0.0.1:{}/live", server.port)])
        .start()
        .await;
    on_air(node.port, "/far.mp3").await;
    let (mut listener, _) = listen(node.port, "/far.mp3").await;
    tone::run(&listener.exact(50 * FRAME).await);
}

/// Nobody can correct somebody else's server: it is announced as what it sends.
#[tokio::test]
async fn a_server_with_a_wrong_content_type_is_relayed_as_what_it_is() {
    let server = Foreign::start(Manner::Mislabelled).await;
    let node = Plan::primary().yaml(&format!(
        "metaint: 4096\nrelay:\n  - url: http://127.0.0.1:{}/live\n    mount: /far.mp3\n    charset: windows-1251",
        server.port
    ));
    let node = node.start().await;
    let head = on_air(node.port, "/far.mp3").await;
    assert_eq!(head.get("content-type"), Some("audio/mpeg"));
    let (mut listener, _) = listen_with(node.port, "/far.mp3", "Icy-MetaData: 1\r\n").await;
    let wanted = "StreamTitle='Пр';StreamUrl='http://far/x';";
    let mut heard = Vec::new();
    while !heard
        .windows(wanted.len())
        .any(|part| part == wanted.as_bytes())
    {
        heard.extend(listener.exact(4_096).await);
        assert!(heard.len() < 200_000, "no such title");
    }
    assert!(
        server.connections.load(Ordering::Relaxed) == 1,
        "it was left"
    );
}
