//! Answers and streams of other nodes that never end: what is read of them has a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use relayctl::base::wall::unix_millis;
use relayctl::wire::frame::{Frame, Head, PROTOCOL, SectionFrame, encode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::cluster::nodes_of;
use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Peer, get};
use crate::harness::source::{Source, login, on_air};
use crate::harness::under_attack::{MOUNT, UnderAttack};

/// What an attacker sends at most in one connection, in bytes: as much as an unbounded reader would have kept.
const ENOUGH: u64 = 512 << 20;

/// Id of the node that lies.
const LIAR: &str = "liar000000000000";

/// Takes a request's head; false where the connection ends before.
async fn take_head(peer: &mut TcpStream) -> Option<String> {
    let (mut head, mut part) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = peer.read(&mut part).await.ok()?;
        if count == 0 {
            return None;
        }
        head.extend_from_slice(&part[..count]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// A node that answers health as it should where `honest`, and else whatever is asked without an end. Its URL, how often
/// it was asked for something else than health, and the bytes that were taken from it.
async fn liar(honest: bool) -> (String, Arc<AtomicU64>, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, taken) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let (questions, bytes) = (Arc::clone(&asked), Arc::clone(&taken));
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let (questions, bytes) = (Arc::clone(&questions), Arc::clone(&bytes));
            tokio::spawn(async move {
                let Some(head) = take_head(&mut peer).await else {
                    return;
                };
                let is_health = head.starts_with("GET /health");
                if is_health && honest {
                    let body = json!({"node": LIAR}).to_string();
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                    let _ = peer.write_all(answer.as_bytes()).await;
                    return;
                }
                let begin = match is_health {
                    true => "{\"node\": \"",
                    false => "{\"listeners\": [{\"id\": 1, \"mount\": \"",
                };
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{begin}");
                if peer.write_all(head.as_bytes()).await.is_err() {
                    return;
                }
                questions.fetch_add(1, Ordering::Relaxed);
                let (part, mut sent) = ([b'x'; 65536], 0);
                while sent < ENOUGH && peer.write_all(&part).await.is_ok() {
                    sent += part.len() as u64;
                    bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    (url, asked, taken)
}

/// Joins as a node at `url`; the status.
async fn join(primary: &Node, url: &str) -> u16 {
    let body = json!({
        "v": 1, "id": LIAR, "name": "liar", "incarnation": unix_millis(), "version": "9.9.9",
        "public_urls": {"http": url}, "data_port": 8000,
        "limits": {"max_listeners": 100, "max_bandwidth": 0, "max_children": 8},
    })
    .to_string();
    let (token, length) = (primary.secret("join-token"), body.len());
    let request = format!(
        "POST /cluster/v1/join HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let (head, text) = Peer::connect(primary.port).await.ask(request).await;
    assert!(head.status == 200 || head.status == 409, "{text}");
    head.status
}

#[tokio::test]
async fn a_joiner_whose_health_never_ends() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let (url, asked, taken) = liar(false).await;
    let status = join(&scene.node, &url).await;
    // At the join, and again by the probes.
    eventually("it is asked three times", async || {
        (asked.load(Ordering::Relaxed) >= 3).then_some(())
    })
    .await;
    let row = nodes_of(&scene.node).await;
    let row = row.iter().find(|row| row["name"] == "liar").cloned();
    let (_, report) = scene.finish("a joiner whose /health never ends").await;
    let taken = taken.load(Ordering::Relaxed) >> 20;
    println!("the join was answered {status}; {taken} MiB were taken; {row:?}");
    assert!(report.peak_mib < report.first_mib + 32, "{report:?}");
}

#[tokio::test]
async fn a_relay_whose_list_of_listeners_never_ends() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let (url, asked, _) = liar(true).await;
    assert_eq!(join(&scene.node, &url).await, 200);
    let login = login("admin", &scene.node.secret("admin-password"));
    let asking = [
        "GET /api/v1/listeners",
        "GET /api/v1/listeners?limit=10000",
        "DELETE /api/v1/listeners/999999",
    ];
    for line in asking.iter().cycle().take(9) {
        let request =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\n{login}Connection: close\r\n\r\n");
        let (head, text) = Peer::connect(scene.node.port).await.ask(request).await;
        match line.starts_with("GET") {
            true => assert_eq!(head.status, 200, "{text}"),
            false => assert_eq!(head.status, 404, "{text}"),
        }
        assert!(
            text.contains("liar"),
            "it did not answer, and that is said: {text}"
        );
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked >= 9, "{asked}");
    let (_, report) = scene.finish("a relay whose list never ends").await;
    assert!(report.peak_mib < report.first_mib + 64, "{report:?}");
}

/// How a parent lies about `/evil.mp3`.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// Sections of 1 MiB, all at one offset, one unlike the other.
    Sections,
    /// The same with a byte of audio behind each.
    SectionsAndAudio,
    /// Sections of 4 MiB before it says where it is.
    Opening,
}

/// What was heard of a lie.
#[derive(Default)]
struct Heard {
    /// Connections that asked.
    asked: AtomicU64,
    /// Bytes that were taken.
    taken: AtomicU64,
}

/// Everything goes to the primary, but for the stream of `/evil.mp3`. The port, and what was heard of the lie.
async fn hostile_parent(primary: u16, lie: Lie) -> (u16, Arc<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::<Heard>::default();
    let told = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let mut first = [0; 64];
                let asked = b"GET /cluster/v1/stream/evil.mp3";
                let Ok(count) = peer.peek(&mut first).await else {
                    return;
                };
                if first[..count].starts_with(asked) {
                    told.asked.fetch_add(1, Ordering::Relaxed);
                    let _ = tell(&mut peer, lie, &told.taken).await;
                    return;
                }
                let mut to = TcpStream::connect(("127.0.0.1", primary)).await.unwrap();
                let _ = copy_bidirectional(&mut peer, &mut to).await;
            });
        }
    });
    (port, heard)
}

async fn tell(peer: &mut TcpStream, lie: Lie, taken: &AtomicU64) -> std::io::Result<()> {
    take_head(peer).await;
    peer.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        .await?;
    let epoch = unix_millis();
    let begin = 1_000_000;
    let head = Frame::Head(Head {
        version: PROTOCOL,
        mount: "/evil.mp3".into(),
        epoch,
        start: begin,
        content_type: "audio/mpeg".into(),
        path: vec![LIAR.into()],
        ..Head::default()
    });
    let position = Frame::Position {
        epoch,
        live_edge: begin + 1_000_000,
        starved_millis: 0,
    };
    let mut out = BytesMut::new();
    encode(&head, &mut out).unwrap();
    if !matches!(lie, Lie::Opening) {
        encode(&position, &mut out).unwrap();
    }
    let length = match lie {
        Lie::Opening => (4 << 20) - 64,
        _ => 1 << 20,
    };
    for number in 0_u64.. {
        let mut header = vec![b'h'; length];
        header[..8].copy_from_slice(&number.to_be_bytes());
        let offset = match lie {
            Lie::SectionsAndAudio => begin + number,
            _ => begin,
        };
        let section = SectionFrame {
            codec: "opaque".into(),
            header: header.into(),
            ..SectionFrame::default()
        };
        encode(&Frame::Section { offset, section }, &mut out).unwrap();
        if matches!(lie, Lie::SectionsAndAudio) {
            let bytes = Bytes::from_static(b"a");
            encode(&Frame::Data { offset, bytes }, &mut out).unwrap();
        }
        if taken.load(Ordering::Relaxed) > ENOUGH {
            // It holds what it has for as long as the scene lasts.
            tokio::time::timeout(Duration::from_secs(20), peer.read_u8()).await??;
            return Ok(());
        }
        peer.write_all(&out).await?;
        taken.fetch_add(out.len() as u64, Ordering::Relaxed);
        out.clear();
    }
    Ok(())
}

async fn a_relay_of(lie: Lie, name: &str) {
    let primary = Plan::primary().start().await;
    let source = Source::start(&primary, MOUNT).await;
    let (port, heard) = hostile_parent(primary.port, lie).await;
    let relay = Plan::joining(port, &primary.secret("join-token"))
        .start()
        .await;
    on_air(relay.port, MOUNT).await;
    let scene = UnderAttack::of(relay, Some(source)).await;
    let _evil = Source::start(&primary, "/evil.mp3").await;
    // One that does not say where it is is left, and asked again after a while.
    eventually("it has told enough", async || {
        let is_enough = match lie {
            Lie::Opening => heard.asked.load(Ordering::Relaxed) >= 4,
            _ => heard.taken.load(Ordering::Relaxed) > ENOUGH,
        };
        is_enough.then_some(())
    })
    .await;
    let (head, _) = get(scene.node.port, "/health").await;
    assert_eq!(head.status, 200);
    let (_, report) = scene.finish(name).await;
    let taken = heard.taken.load(Ordering::Relaxed) >> 20;
    println!("{taken} MiB were taken");
    assert!(report.peak_mib < report.first_mib + 96, "{report:?}");
}

#[tokio::test]
async fn a_parent_that_sends_sections_without_end() {
    a_relay_of(Lie::Sections, "sections without end").await;
}

#[tokio::test]
async fn a_parent_that_sends_a_section_with_every_byte() {
    a_relay_of(Lie::SectionsAndAudio, "a section with every byte").await;
}

#[tokio::test]
async fn a_parent_that_never_says_where_it_is() {
    a_relay_of(Lie::Opening, "a parent that never says where it is").await;
}
