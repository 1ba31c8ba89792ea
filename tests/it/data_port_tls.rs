//! TLS on the data port beside clear text: the whole edge, byte-exact listeners, certificates that change, and
//! clients that fail.

use std::process::Command;

use rustix::process::Signal;

use crate::encoders::{MP3, codec_of, ffmpeg};
use crate::harness::cluster::{follow, nodes_of};
use crate::harness::node::{Node, Plan, relayctl};
use crate::harness::peer::{Peer, get};
use crate::harness::program::{Program, output_of, tool};
use crate::harness::source::{
    Framing, Source, listen, listen_with, login, on_air, set_title, source_head, strip,
};
use crate::harness::tls::Certificate;
use crate::harness::tone::{self, FRAME};
use crate::harness::{PATIENCE, eventually};

const MOUNT: &str = "/live.mp3";

/// A node that speaks TLS, its certificate, and a port in front of it behind which it does.
async fn scene() -> (Node, Certificate, u16) {
    let certificate = Certificate::new();
    let node = Plan::primary().yaml(&certificate.yaml()).start().await;
    let tunnel = certificate.tunnel(node.port).await;
    (node, certificate, tunnel)
}

async fn said(command: Command) -> String {
    String::from_utf8(output_of(command).await).unwrap()
}

#[tokio::test]
async fn the_whole_edge_speaks_tls_beside_clear_text() {
    let (node, certificate, tunnel) = scene().await;
    let fetch = async |path: &str, more: &[&str]| {
        let mut curl = certificate.curl();
        curl.args(more);
        curl.arg(format!("https://localhost:{}{path}", node.port));
        said(curl).await
    };
    for version in [
        ["--tlsv1.2", "--tls-max", "1.2"],
        ["--tlsv1.3", "--tls-max", "1.3"],
    ] {
        let health = fetch("/health", &version).await;
        assert!(health.contains("\"status\":\"ok\""), "{health}");
    }
    assert!(fetch("/", &["-i"]).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let admin = format!("admin:{}", node.secret("admin-password"));
    let status = fetch("/api/v1/status", &["-u", &admin]).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let names = &status["certificate"]["names"];
    assert_eq!(*names, serde_json::json!(["localhost", "127.0.0.1"]));
    // A playlist names the scheme by which it was asked for.
    let source = Source::start(&node, MOUNT).await;
    let playlist = fetch("/live.mp3.m3u", &[]).await;
    assert!(playlist.starts_with("https://"), "{playlist}");
    let (_, clear) = get(node.port, "/live.mp3.m3u").await;
    assert!(clear.starts_with("http://"), "{clear}");
    let metrics = fetch("/metrics", &[]).await;
    for expected in [
        "relayctl_tls_certificate_not_after_seconds 67090118400",
        "relayctl_tls_handshakes_total{protocol=\"tls1.2\",mode=\"full\"} 1",
    ] {
        assert!(metrics.contains(expected), "{expected}: {metrics}");
    }
    // The same port in clear, and the same through the raw peers' tunnel.
    assert_eq!(node.get("/health").await.0.status, 200);
    assert_eq!(get(tunnel, "/health").await.0.status, 200);
    let shown = node.asked(&["status"]).await;
    assert!(
        shown.contains("TLS certificate of localhost until 4096-01-01, "),
        "{shown}"
    );
    drop(source);
}

#[tokio::test]
async fn listeners_hear_every_byte_with_and_without_titles() {
    let (node, certificate, tunnel) = scene().await;
    let _source = Source::start(&node, MOUNT).await;
    let (mut listener, head) = listen(tunnel, MOUNT).await;
    assert_eq!(head.get("content-type"), Some("audio/mpeg"));
    tone::run(&listener.exact(2000 * FRAME).await);
    let (mut titled, head) = listen_with(tunnel, MOUNT, "Icy-MetaData: 1\r\n").await;
    let metaint: usize = head.get("icy-metaint").unwrap().parse().unwrap();
    let mut bytes = titled.exact(300 * FRAME).await;
    set_title(tunnel, MOUNT, &node.source_password(), "Sealed").await;
    bytes.extend(titled.exact(1000 * FRAME).await);
    let (audio, titles) = strip(&bytes, metaint);
    tone::run(&audio);
    assert_eq!(
        titles.last().map(|(_, title)| title.as_str()),
        Some("Sealed")
    );
    // A real client, to its own file.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("heard");
    let mut curl = certificate.curl();
    curl.arg("-o").arg(&file).arg("--no-buffer");
    curl.arg(format!("https://localhost:{}{MOUNT}", node.port));
    let _curl = Program::start(curl);
    let heard = eventually("curl has heard a minute", async || {
        let heard = std::fs::read(&file).unwrap_or_default();
        (heard.len() > 2500 * FRAME).then_some(heard)
    })
    .await;
    tone::run(&heard);
    // What is counted is audio and heads, not what TLS adds.
    drop((listener, titled));
    let sent = node.metric("relayctl_sent_bytes_total", MOUNT).await;
    assert!(sent > 0.0);
}

#[tokio::test]
async fn the_bytes_counted_are_those_of_the_stream() {
    let (node, _certificate, tunnel) = scene().await;
    let source = Source::start(&node, MOUNT).await;
    eventually("there is a burst", async || {
        (source.sent() > 300).then_some(())
    })
    .await;
    source.pause();
    on_air(node.port, MOUNT).await;
    let mut peer = Peer::connect(tunnel).await;
    peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    let head = peer.head().await;
    let length = head.line.len()
        + 4
        + head
            .fields
            .iter()
            .map(|(name, value)| name.len() + 2 + value.len() + 2)
            .sum::<usize>();
    let mut heard = peer.exact(100 * FRAME).await;
    let counted = eventually("the count stands still", async || {
        let before = node.metric("relayctl_sent_bytes_total", MOUNT).await;
        heard.extend(peer.pending());
        let after = node.metric("relayctl_sent_bytes_total", MOUNT).await;
        (before == after && length + heard.len() == after as usize).then_some(after)
    })
    .await;
    tone::run(&heard);
    println!("{counted} bytes counted, {} of them the head", length);
}

#[tokio::test]
async fn sources_come_by_tls() {
    let (node, _certificate, tunnel) = scene().await;
    for (mount, first, more, framing) in [
        (
            "/put.mp3",
            "PUT /put.mp3 HTTP/1.1",
            "Transfer-Encoding: chunked\r\n",
            Framing::Chunked,
        ),
        (
            "/source.mp3",
            "SOURCE /source.mp3 HTTP/1.0",
            "",
            Framing::Raw,
        ),
    ] {
        let mut peer = Peer::connect(tunnel).await;
        peer.send(source_head(first, &node.source_password(), more))
            .await;
        if framing == Framing::Raw {
            assert_eq!(peer.head().await.status, 200);
        }
        let _source = Source::over(peer, framing, 0);
        on_air(node.port, mount).await;
        let (mut listener, _) = listen(node.port, mount).await;
        tone::run(&listener.exact(300 * FRAME).await);
    }
    let wrong = source_head("PUT /x.mp3 HTTP/1.1", "wrong", "");
    let (head, _) = Peer::connect(tunnel).await.ask(wrong).await;
    assert_eq!(head.status, 401);
}

#[tokio::test]
async fn ffmpeg_sends_by_tls() {
    let (node, _certificate, tunnel) = scene().await;
    let password = node.source_password();
    let _ffmpeg = ffmpeg(node.port, &password, MOUNT, MP3, "-tls 1");
    on_air(node.port, MOUNT).await;
    assert_eq!(codec_of(tunnel, MOUNT).await, "mp3");
    let seen = node.metric("relayctl_tls_handshakes_total", "").await;
    assert!(seen >= 2.0, "{seen}");
}

#[tokio::test]
async fn fifty_listeners_at_once() {
    let (node, _certificate, tunnel) = scene().await;
    let _source = Source::start(&node, MOUNT).await;
    let mut listeners = Vec::new();
    for _ in 0..50 {
        listeners.push(listen(tunnel, MOUNT).await.0);
    }
    assert_eq!(node.metric("relayctl_listeners", MOUNT).await, 50.0);
    for listener in &mut listeners {
        tone::run(&listener.exact(1000 * FRAME).await);
    }
    drop(listeners);
    eventually("all have left", async || {
        (node.metric("relayctl_listeners", MOUNT).await == 0.0).then_some(())
    })
    .await;
    assert_eq!(node.metric("relayctl_gap_bytes_total", MOUNT).await, 0.0);
}

#[tokio::test]
async fn a_stream_ends_with_a_word_and_not_with_a_cut() {
    let certificate = Certificate::new();
    let yaml = format!(
        "{}\nmounts:\n  - path: {MOUNT}\n    max_listener_duration: 1s",
        certificate.yaml()
    );
    let node = Plan::primary().yaml(&yaml).start().await;
    let _source = Source::start(&node, MOUNT).await;
    let mut openssl = tool("openssl", "openssl");
    openssl.args(["s_client", "-quiet", "-servername", "localhost", "-connect"]);
    openssl.arg(format!("127.0.0.1:{}", node.port));
    openssl.arg("-CAfile").arg(certificate.cert());
    let folder = tempfile::tempdir().unwrap();
    let request = folder.path().join("request");
    std::fs::write(&request, format!("GET {MOUNT} HTTP/1.0\r\n\r\n")).unwrap();
    let mut client = Program::start_reading(openssl, std::fs::File::open(&request).unwrap());
    let status = client.ended().await;
    // OpenSSL 3 calls an end without close_notify an error ("unexpected eof").
    let said = client.stderr();
    assert!(
        status.success() && !said.contains("unexpected eof"),
        "{status}: {said}"
    );
    let line = eventually("its access line", async || {
        let printed = node.printed();
        printed
            .lines()
            .find(|line| line.contains("GET /live.mp3"))
            .map(str::to_owned)
    })
    .await;
    println!("{line}");
}

#[tokio::test]
async fn sessions_are_resumed_over_a_reload() {
    let (node, certificate, _tunnel) = scene().await;
    let shake = async |more: &[&str]| {
        let mut openssl = tool("openssl", "openssl");
        openssl.args(["s_client", "-servername", "localhost", "-connect"]);
        openssl.arg(format!("127.0.0.1:{}", node.port)).args(more);
        let empty = std::fs::File::open("/dev/null").unwrap();
        let mut client = Program::start_reading(openssl, empty);
        client.ended().await;
        client.stdout()
    };
    let said = shake(&["-tls1_2", "-reconnect"]).await;
    assert_eq!(said.matches("Reused, TLSv1.2").count(), 5, "{said}");
    let resumed = "mode=\"resumed\"";
    let count = node.metric("relayctl_tls_handshakes_total", resumed).await;
    assert_eq!(count, 5.0);
    // The keys of the tickets outlive the certificate.
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("session");
    let kept = kept.to_str().unwrap();
    shake(&["-tls1_2", "-sess_out", kept]).await;
    certificate.replace();
    node.signal(Signal::HUP);
    eventually("the new pair is read", async || {
        (node.metric("relayctl_reloads_total", "taken").await >= 1.0).then_some(())
    })
    .await;
    let said = shake(&["-tls1_2", "-sess_in", kept]).await;
    assert!(said.contains("Reused, TLSv1.2"), "{said}");
}

#[tokio::test]
async fn new_files_are_taken_and_open_connections_go_on() {
    let (node, certificate, tunnel) = scene().await;
    let _source = Source::start(&node, MOUNT).await;
    let old_root = certificate.copy("old.pem");
    let (mut listener, _) = listen(tunnel, MOUNT).await;
    let mut heard = listener.exact(100 * FRAME).await;
    // Nobody says anything: the files are watched.
    certificate.replace();
    let fresh = certificate.tunnel(node.port).await;
    eventually("the new certificate is shown", async || {
        let mut peer = Peer::connect(fresh).await;
        peer.send("GET /health HTTP/1.0\r\n\r\n").await;
        (!peer.rest().await.is_empty()).then_some(())
    })
    .await;
    let mut curl = tool("curl", "curl");
    curl.args(["-s", "--max-time", "20", "--cacert"])
        .arg(&old_root);
    curl.arg(format!("https://localhost:{}/health", node.port));
    let mut curl = Program::start(curl);
    // 60: the certificate is not believed.
    assert_eq!(curl.ended().await.code(), Some(60));
    heard.extend(listener.exact(1000 * FRAME).await);
    tone::run(&heard);
}

#[tokio::test]
async fn a_bad_pair_is_left_and_named() {
    let (node, certificate, tunnel) = scene().await;
    let other = Certificate::new();
    std::fs::copy(other.key(), certificate.key()).unwrap();
    node.signal(Signal::HUP);
    let key = certificate.key();
    let expected = format!(
        "`tls.key`: `{}` is not the key of the certificate",
        key.display()
    );
    eventually("the log names key and file", async || {
        node.log().contains(&expected).then_some(())
    })
    .await;
    assert!(node.metric("relayctl_reloads_total", "refused").await >= 1.0);
    assert_eq!(
        get(tunnel, "/health").await.0.status,
        200,
        "the old pair serves on"
    );
    // `check` and a start refuse it alike.
    let file = node.folder().join("relayctl.yaml");
    for words in [
        &["check", "--config"][..],
        &["primary", "--bind", "127.0.0.1:0", "--config"],
    ] {
        let mut command = relayctl();
        command.args(words).arg(&file);
        command.env(
            "RELAYCTL_DATA_DIR",
            certificate.key().with_file_name("data"),
        );
        let mut program = Program::start(command);
        let status = program.ended().await;
        assert!(!status.success(), "{words:?}");
        assert!(
            program.stderr().contains(&expected),
            "{words:?}: {}",
            program.stderr()
        );
    }
}

/// The start of a hello that promises more.
const HALF_HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3];

#[tokio::test]
async fn failures_cost_only_their_connection_and_are_counted() {
    let (node, _certificate, tunnel) = scene().await;
    let _source = Source::start(&node, MOUNT).await;
    let (mut listener, _) = listen(tunnel, MOUNT).await;
    let mut heard = listener.exact(FRAME).await;
    let slow = tokio::spawn({
        let port = node.port;
        async move {
            let mut peer = Peer::connect(port).await;
            peer.send(HALF_HELLO).await;
            peer.rest().await
        }
    });
    let mut garbage = Peer::connect(node.port).await;
    garbage.send([&[0x16][..], &[0xAB; 600]].concat()).await;
    garbage.rest().await;
    node.refused("tls_garbage", 1.0).await;
    let mut gone = Peer::connect(node.port).await;
    gone.send(HALF_HELLO).await;
    gone.finish().await;
    gone.rest().await;
    node.refused("tls_left", 1.0).await;
    // A hello within TLS is no request either.
    let mut twice = Peer::connect(tunnel).await;
    twice.send(HALF_HELLO).await;
    let answer = String::from_utf8_lossy(&twice.rest().await).into_owned();
    assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
    let mut old = tool("openssl", "openssl");
    old.args([
        "s_client",
        "-tls1",
        "-cipher",
        "ALL:@SECLEVEL=0",
        "-connect",
    ]);
    old.arg(format!("127.0.0.1:{}", node.port));
    let empty = std::fs::File::open("/dev/null").unwrap();
    let mut old = Program::start_reading(old, empty);
    assert!(!old.ended().await.success());
    node.refused("tls_version", 1.0).await;
    let mut doubter = tool("curl", "curl");
    doubter.args(["-s", "--max-time", "20"]);
    doubter.arg(format!("https://localhost:{}/health", node.port));
    let mut doubter = Program::start(doubter);
    assert_eq!(doubter.ended().await.code(), Some(60));
    node.refused("tls_alert", 1.0).await;
    let ended = tokio::time::timeout(PATIENCE, slow).await;
    ended.expect("it is cut off").unwrap();
    node.refused("tls_slow", 1.0).await;
    heard.extend(listener.exact(500 * FRAME).await);
    tone::run(&heard);
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client_before_the_hello() {
    let certificate = Certificate::new();
    let yaml = format!("{}\ntrusted_proxies: 127.0.0.1", certificate.yaml());
    let node = Plan::primary().yaml(&yaml).start().await;
    let _source = Source::start(&node, MOUNT).await;
    let tunnel = certificate
        .tunnel_after(node.port, "PROXY TCP4 192.0.2.7 127.0.0.1 40000 8000\r\n")
        .await;
    let (mut listener, _) = listen(tunnel, MOUNT).await;
    tone::run(&listener.exact(10 * FRAME).await);
    let login = login("admin", &node.secret("admin-password"));
    let request =
        format!("GET /api/v1/listeners HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{login}\r\n");
    eventually("the listener has the client's address", async || {
        let (_, text) = Peer::connect(node.port).await.ask(&request).await;
        text.contains("\"192.0.2.7\"").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_redirect_keeps_the_scheme() {
    let certificate = Certificate::new();
    let primary = Plan::primary()
        .name("head")
        .yaml(&certificate.yaml())
        // The system's roots, as a listener's machine has them.
        .variable("SSL_CERT_FILE", certificate.cert().to_str().unwrap())
        .start()
        .await;
    let _source = Source::start(&primary, MOUNT).await;
    let tunnel = certificate.tunnel(primary.port).await;
    let plain = Plan::relay(&primary).name("plain").start().await;
    on_air(plain.port, MOUNT).await;
    let here = std::net::IpAddr::from([127, 0, 0, 1]);
    eventually("in clear they are sent to the relay", async || {
        let head = on_air(primary.port, MOUNT).await;
        let base = format!("http://127.0.0.1:{}{MOUNT}", plain.port);
        head.get("location")?.starts_with(&base).then_some(())
    })
    .await;
    // No relay of the scheme: served here.
    let (mut listener, head) = listen(tunnel, MOUNT).await;
    assert_eq!(head.get("x-relayctl-node"), Some("head"));
    tone::run(&listener.exact(100 * FRAME).await);
    let sealed = Plan::relay(&primary)
        .name("sealed")
        .yaml(&certificate.yaml())
        .start()
        .await;
    let location = eventually(
        "by TLS they are sent to the relay that speaks it",
        async || {
            let head = on_air(tunnel, MOUNT).await;
            head.get("location").map(str::to_owned)
        },
    )
    .await;
    let base = format!("https://127.0.0.1:{}{MOUNT}", sealed.port);
    assert!(location.starts_with(&base), "{location}");
    let through = certificate.tunnel(sealed.port).await;
    let (mut moved, head) = listen(through, MOUNT).await;
    assert_eq!(head.get("x-relayctl-node"), Some("sealed"));
    tone::run(&moved.exact(100 * FRAME).await);
    // In clear both are there.
    let guest = follow(here, primary.port, MOUNT, "").await;
    drop(guest);
}

#[tokio::test]
async fn a_relay_whose_certificate_nobody_believes_is_named_and_gets_nobody_by_https() {
    let believed = Certificate::new();
    let primary = Plan::primary()
        .name("head")
        .yaml(&believed.yaml())
        .variable("SSL_CERT_FILE", believed.cert().to_str().unwrap())
        .start()
        .await;
    let _source = Source::start(&primary, MOUNT).await;
    let stranger = Certificate::new();
    let relay = Plan::relay(&primary)
        .name("doubtful")
        .yaml(&stranger.yaml())
        .start()
        .await;
    let row = eventually("the table says why", async || {
        let rows = nodes_of(&primary).await;
        let row = rows.into_iter().find(|row| row["name"] == "doubtful")?;
        // One beat says the one, the next the other.
        (row["trouble"].is_string() && row["state"] == "ready").then_some(row)
    })
    .await;
    let url = format!("https://127.0.0.1:{}: ", relay.port);
    let trouble = row["trouble"].as_str().unwrap();
    assert!(
        trouble.starts_with(&url) && trouble.contains("invalid peer certificate"),
        "{trouble}"
    );
    assert!(row["public_url_https"].is_null(), "{row}");
    assert!(primary.asked(&["status"]).await.contains(trouble));
    assert!(primary.log().contains("a URL by https cannot be used"));
    let tunnel = believed.tunnel(primary.port).await;
    let (mut listener, head) = listen(tunnel, MOUNT).await;
    assert_eq!(head.get("x-relayctl-node"), Some("head"));
    tone::run(&listener.exact(100 * FRAME).await);
    // In clear it is as good as any.
    eventually("in clear they are sent there", async || {
        let head = on_air(primary.port, MOUNT).await;
        let base = format!("http://127.0.0.1:{}{MOUNT}", relay.port);
        head.get("location")?.starts_with(&base).then_some(())
    })
    .await;
}
