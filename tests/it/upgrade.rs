//! Encoders that ask for TLS on a connection in clear (RFC 2817): libshout in each of its modes, and raw peers.

use std::fs::File;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::encoders::codec_of;
use crate::harness::find;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer, ask};
use crate::harness::program::{Program, tool};
use crate::harness::source::{Framing, Source, listen, on_air, source_head};
use crate::harness::tls::Certificate;
use crate::harness::tone::{self, FRAME};

const MOUNT: &str = "/live.mp3";

const ASKS: &str = "Connection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n";

/// A node that speaks TLS, and its certificate.
async fn scene() -> (Node, Certificate) {
    let certificate = Certificate::new();
    let node = Plan::primary().yaml(&certificate.yaml()).start().await;
    (node, certificate)
}

/// A port before another one, and what clients sent through it, each connection by itself.
struct Wire {
    port: u16,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Wire {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let index = {
                    let mut kept = kept.lock().unwrap();
                    kept.push(Vec::new());
                    kept.len() - 1
                };
                let (mut from_near, mut to_near) = near.into_split();
                let (mut from_far, mut to_far) = far.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_far, &mut to_near).await });
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let mut part = vec![0; 16 * 1024];
                    while let Ok(count @ 1..) = from_near.read(&mut part).await {
                        kept.lock().unwrap()[index].extend_from_slice(&part[..count]);
                        if to_far.write_all(&part[..count]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { port: own, sent }
    }

    /// What each connection said so far.
    fn sent(&self) -> Vec<Vec<u8>> {
        self.sent.lock().unwrap().clone()
    }

    /// Connections with these bytes in what was sent.
    fn with(&self, words: &[u8]) -> usize {
        let sent = self.sent();
        sent.iter()
            .filter(|bytes| find(bytes, words).is_some())
            .count()
    }
}

/// `shout` that sends Vorbis to `/live.ogg` and believes `certificate` alone.
fn shout(node: &Node, password: &str, port: u16, mode: &str, roots: &Certificate) -> Program {
    let song = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vorbis.ogg");
    let file = node.folder().join("songs.ogg");
    std::fs::write(&file, std::fs::read(song).unwrap().repeat(60)).unwrap();
    let mut shout = tool("shout", "libshout-tools");
    shout.env("SSL_CERT_FILE", roots.cert());
    shout.args(["--host", "localhost", "--port", &port.to_string()]);
    shout.args(["--user", "source", "--pass", password]);
    shout.args([
        "--mount",
        "/live.ogg",
        "--format",
        "ogg",
        "--tls-mode",
        mode,
    ]);
    Program::start_reading(shout, File::open(file).unwrap())
}

/// What a mode of `shout` plays on a node with a certificate, never with its password in clear.
async fn plays_by_tls(mode: &str, asks: bool) {
    let (node, certificate) = scene().await;
    let wire = Wire::before(node.port).await;
    let _shout = shout(
        &node,
        &node.source_password(),
        wire.port,
        mode,
        &certificate,
    );
    on_air(node.port, "/live.ogg").await;
    assert_eq!(codec_of(node.port, "/live.ogg").await, "vorbis");
    assert_eq!(wire.with(b"Authorization"), 0, "in clear");
    assert_eq!(wire.with(b"/live.ogg"), 0, "in clear");
    let sent = wire.sent();
    assert_eq!(sent.len(), 1, "connections");
    assert_eq!(sent[0].starts_with(b"OPTIONS * HTTP/1.1\r\n"), asks);
    assert_eq!(sent[0][0] == 0x16, !asks);
}

#[tokio::test]
async fn shout_by_itself_plays_in_tls() {
    plays_by_tls("auto", true).await;
}

#[tokio::test]
async fn shout_that_takes_no_clear_text_plays() {
    plays_by_tls("auto_no_plain", true).await;
}

#[tokio::test]
async fn shout_that_asks_for_the_upgrade_plays() {
    plays_by_tls("rfc2817", true).await;
}

#[tokio::test]
async fn shout_by_tls_from_the_first_byte_plays() {
    plays_by_tls("rfc2818", false).await;
}

/// Whoever stands in between and shows a certificate of its own gets no password.
#[tokio::test]
async fn shout_that_does_not_believe_the_certificate_keeps_its_password() {
    let (node, _certificate) = scene().await;
    let other = Certificate::new();
    for mode in ["auto", "auto_no_plain", "rfc2817", "rfc2818"] {
        let wire = Wire::before(node.port).await;
        let mut shout = shout(&node, &node.source_password(), wire.port, mode, &other);
        assert!(!shout.ended().await.success(), "{mode}");
        assert_eq!(wire.with(b"Authorization"), 0, "{mode}");
        assert_eq!(wire.sent().len(), 1, "{mode}: connections");
    }
}

#[tokio::test]
async fn shout_by_itself_plays_through_a_relay_in_tls() {
    let (primary, certificate) = scene().await;
    let relay = Plan::relay(&primary)
        .yaml(&certificate.yaml())
        .start()
        .await;
    relay.is_ready().await;
    let wire = Wire::before(relay.port).await;
    let password = primary.source_password();
    let _shout = shout(&relay, &password, wire.port, "auto", &certificate);
    on_air(primary.port, "/live.ogg").await;
    assert_eq!(wire.with(b"Authorization"), 0, "in clear");
    assert_eq!(wire.sent().len(), 1, "connections");
}

#[tokio::test]
async fn shout_by_itself_plays_in_clear_where_there_is_no_certificate() {
    let node = Plan::primary().start().await;
    let wire = Wire::before(node.port).await;
    let other = Certificate::new();
    let _shout = shout(&node, &node.source_password(), wire.port, "auto", &other);
    on_air(node.port, "/live.ogg").await;
    assert_eq!(codec_of(node.port, "/live.ogg").await, "vorbis");
    assert_eq!(wire.with(b"Authorization"), 1);
}

/// The modes that want TLS end with an error, soon and with their password kept.
#[tokio::test]
async fn shout_gives_up_where_there_is_no_certificate() {
    let node = Plan::primary().start().await;
    let other = Certificate::new();
    for (mode, most) in [("auto_no_plain", 3), ("rfc2817", 30), ("rfc2818", 3)] {
        let wire = Wire::before(node.port).await;
        let password = node.source_password();
        let mut shout = shout(&node, &password, wire.port, mode, &other);
        assert!(!shout.ended().await.success(), "{mode}");
        assert_eq!(wire.with(b"Authorization"), 0, "{mode}");
        let asked: usize = wire.sent().iter().map(|bytes| options_in(bytes)).sum();
        assert!(asked <= most, "{mode}: asked {asked} times");
    }
    node.refused("upgrade_in_vain", 1.0).await;
}

fn options_in(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).matches("OPTIONS * ").count()
}

fn options(target: &str, more: &str) -> String {
    format!("OPTIONS {target} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")
}

async fn head_of(port: u16, request: impl AsRef<[u8]>) -> Head {
    let mut peer = Peer::connect(port).await;
    peer.send(request).await;
    peer.head().await
}

#[tokio::test]
async fn tls_is_offered_where_it_is_spoken() {
    let (node, certificate) = scene().await;
    let clear = Plan::primary().start().await;
    let tunnel = certificate.tunnel(node.port).await;
    let put = "PUT /live.mp3 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let source = "SOURCE /live.mp3 ICE/1.0\r\n\r\n";
    for (request, status) in [
        (options("*", ""), 204),
        (options(MOUNT, ""), 204),
        (put.to_owned(), 401),
        (source.to_owned(), 401),
    ] {
        let head = head_of(node.port, &request).await;
        assert_eq!(head.status, status, "{request}");
        assert_eq!(head.get("upgrade"), Some("TLS/1.0"), "{request}");
        let connection = head.get("connection").unwrap_or_default();
        assert!(connection.ends_with(", Upgrade"), "{request}{connection}");
        assert!(head.get("allow").is_some(), "{request}");
        for port in [clear.port, tunnel] {
            let head = head_of(port, &request).await;
            assert_eq!(
                (head.status, head.get("upgrade")),
                (status, None),
                "{request}"
            );
        }
    }
    // A page is no answer to an encoder.
    assert_eq!(
        head_of(node.port, options("/", "")).await.get("upgrade"),
        None
    );
}

#[tokio::test]
async fn an_answer_in_clear_ends_the_connection_of_who_asked_for_tls() {
    let (node, certificate) = scene().await;
    let trusting = format!("{}\ntrusted_proxies: 127.0.0.1", certificate.yaml());
    let trusting = Plan::primary().yaml(&trusting).start().await;
    let clear = Plan::primary().start().await;
    let tunnel = certificate.tunnel(node.port).await;
    let behind = |field: &str| options("*", &format!("{ASKS}{field}\r\n"));
    for (port, request) in [
        (clear.port, options("*", ASKS)),
        (clear.port, options(MOUNT, ASKS)),
        (trusting.port, options("*", ASKS)),
        (
            trusting.port,
            format!(
                "PROXY TCP4 192.0.2.7 127.0.0.1 40000 8000\r\n{}",
                options("*", ASKS)
            ),
        ),
        (tunnel, options("*", ASKS)),
        (node.port, behind("X-Forwarded-For: 192.0.2.7")),
        (node.port, behind("X-Forwarded-Proto: https")),
        (node.port, behind("Forwarded: for=192.0.2.7")),
        (node.port, behind("Via: 1.1 proxy")),
        (node.port, behind("X-Real-IP: 192.0.2.7")),
    ] {
        let mut peer = Peer::connect(port).await;
        peer.send(&request).await;
        let head = peer.head().await;
        assert_eq!(head.status, 204, "{request}");
        assert_eq!(head.get("upgrade"), None, "{request}");
        assert_eq!(head.get("connection"), Some("close"), "{request}");
        assert!(peer.rest().await.is_empty(), "{request}");
    }
    // What is no upgrade goes on as it would without.
    let asked = |first: &str| format!("{first}\r\nHost: localhost\r\n{ASKS}\r\n");
    for (request, status) in [
        (options(MOUNT, ASKS), 204),
        (asked("GET /health HTTP/1.1"), 200),
        (asked("GET /live.mp3 HTTP/1.1"), 404),
        (asked("PUT /live.mp3 HTTP/1.0"), 401),
        (asked("PUT /health HTTP/1.1"), 403),
        (options("*", "Upgrade: TLS/1.0\r\n"), 204),
        (options("*", "Connection: Upgrade\r\nUpgrade: h2c\r\n"), 204),
    ] {
        assert_eq!(
            head_of(node.port, &request).await.status,
            status,
            "{request}"
        );
    }
    // A source behind a proxy is judged as always.
    let carried = source_head(
        "PUT /live.mp3 HTTP/1.1",
        "wrong",
        &format!("{ASKS}Via: 1.1 a\r\n"),
    );
    assert_eq!(head_of(node.port, carried).await.status, 401);
}

/// Nothing of what was said in clear counts in TLS: neither credentials nor mount.
#[tokio::test]
async fn a_source_begins_anew_in_tls() {
    let (node, certificate) = scene().await;
    let password = node.source_password();
    for first in ["PUT /other.mp3 HTTP/1.1", "SOURCE /other.mp3 HTTP/1.1"] {
        let tunnel = certificate
            .tunnel_upgraded(node.port, source_head(first, &password, ASKS))
            .await;
        let bare = "PUT /live.mp3 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        let mut peer = Peer::connect(tunnel).await;
        let (head, _) = peer.ask(bare).await;
        assert_eq!(head.status, 401, "{first}");
        assert_eq!(head.get("connection"), Some("keep-alive"), "{first}");
        peer.send(source_head("PUT /live.mp3 HTTP/1.1", &password, ""))
            .await;
        assert_eq!(peer.head().await.status, 200, "{first}");
        let source = Source::over(peer, Framing::Raw, 0);
        on_air(node.port, MOUNT).await;
        let (mut listener, _) = listen(node.port, MOUNT).await;
        tone::run(&listener.exact(10 * FRAME).await);
        source.finish().await;
        assert_eq!(
            ask(node.port, "GET /other.mp3 HTTP/1.0\r\n\r\n")
                .await
                .0
                .status,
            404
        );
    }
}

/// `OPTIONS *` is answered in TLS (RFC 2817, 3.3), and another request may follow, which is none that waited.
#[tokio::test]
async fn options_are_answered_in_tls_and_a_request_follows() {
    let (node, certificate) = scene().await;
    let tunnel = certificate
        .tunnel_upgraded(node.port, options("*", ASKS))
        .await;
    let mut peer = Peer::connect(tunnel).await;
    let head = peer.head().await;
    assert_eq!((head.status, head.get("upgrade")), (204, None));
    assert_eq!(head.get("connection"), Some("keep-alive"));
    assert_eq!(peer.ask(options("/health", "")).await.0.status, 200);
    // The same on a connection that was used before, and when it comes in pieces.
    let mut peer = Peer::connect(node.port).await;
    assert_eq!(
        peer.ask("GET /healthz HTTP/1.1\r\n\r\n").await.0.status,
        200
    );
    let request = options("*", ASKS);
    let (one, two) = request.split_at(30);
    peer.send(one).await;
    assert_eq!(node.get("/healthz").await.0.status, 200);
    peer.send(two).await;
    assert_eq!(peer.head().await.status, 101);
}

#[tokio::test]
async fn bytes_in_clear_behind_the_head_end_the_connection() {
    let (node, _certificate) = scene().await;
    let password = node.source_password();
    let put = source_head("PUT /live.mp3 HTTP/1.1", &password, ASKS);
    for (times, request) in [(1.0, options("*", ASKS)), (2.0, put)] {
        let smuggled = format!("{request}{}", options(MOUNT, ""));
        let mut peer = Peer::connect(node.port).await;
        peer.send(smuggled).await;
        assert_eq!(peer.head().await.status, 400);
        let rest = String::from_utf8(peer.rest().await).unwrap();
        assert!(rest.starts_with("bytes in clear came behind"), "{rest}");
        node.refused("upgrade_clear", times).await;
    }
    // Behind the 101 there is nothing but the handshake.
    let mut peer = Peer::connect(node.port).await;
    peer.send(options("*", ASKS)).await;
    assert_eq!(peer.head().await.status, 101);
    peer.send(options(MOUNT, "")).await;
    let rest = peer.rest().await;
    assert!(find(&rest, b"HTTP/").is_none(), "{rest:?}");
    node.refused("tls_garbage", 1.0).await;
}
