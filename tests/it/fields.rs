//! Every field of `mounts` and `relay`, by its effect in this program's own engine, or by its refusal at start: nothing is
//! taken and then ignored. The lists of fields are those that the settings are read by.

use std::time::Duration;

use relayctl::settings::keys::{Field, Kind};
use relayctl::settings::table::{MOUNT, RELAY};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer, ask};
use crate::harness::program::output_of;
use crate::harness::source::{Source, basic, listen, listen_with, login, on_air, source_head};
use crate::harness::tone::{self, FRAME};
use crate::harness::{eventually, within};

const LIVE: &str = "/live.mp3";

/// Where the numbers of another source begin.
const OTHER: u64 = 1_000_000;

/// Names as they may be written: a secret may stand in a file.
fn names(fields: &[Field]) -> Vec<String> {
    let of = |field: &Field| {
        let file = matches!(field.kind, Kind::Secret).then(|| format!("{}_file", field.name));
        [Some(field.name.to_owned()), file]
    };
    fields.iter().flat_map(of).flatten().collect()
}

/// A primary with one entry of `mounts`, whose source sends.
async fn with_mount(lines: &str) -> (Node, Source) {
    let node = Plan::primary().yaml(&entry(lines)).start().await;
    let source = Source::start(&node, LIVE).await;
    (node, source)
}

fn entry(lines: &str) -> String {
    format!("hold: 1s\nmounts:\n  - {{path: {LIVE}, {lines}}}")
}

/// The head that a listener gets.
async fn head(lines: &str) -> Head {
    let (node, _source) = with_mount(lines).await;
    listen_with(node.port, LIVE, "Icy-MetaData: 1\r\n").await.1
}

#[tokio::test]
async fn every_field_of_mounts_has_an_effect() {
    for name in names(MOUNT) {
        match name.as_str() {
            "path" => the_first_mount_is_the_default_one().await,
            "content_type" => a_type_is_announced_whatever_the_source_says().await,
            "password" => a_password_is_the_mounts_own("password: mine").await,
            "password_file" => {
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("password");
                std::fs::write(&file, "mine\n").unwrap();
                let line = format!("password_file: {}", file.display());
                a_password_is_the_mounts_own(&line).await;
            }
            "max_listeners" => a_mount_is_full().await,
            "max_listener_duration" => listeners_end_in_time().await,
            "fallback" => a_fallback_is_heard().await,
            "fallback_override" => listeners_stay_or_come_back().await,
            "intro" => an_intro_is_refused_by_name().await,
            "burst" => a_burst_is_the_mounts_own().await,
            "metaint" => {
                let head = head("metaint: 4096").await;
                assert_eq!(head.get("icy-metaint"), Some("4096"));
            }
            "charset" => titles_are_read_in_the_mounts_character_set().await,
            "public" => assert_eq!(head("public: true").await.get("icy-pub"), Some("1")),
            "hidden" => {
                let (node, _source) = with_mount("hidden: true").await;
                assert!(!node.get("/").await.1.contains(LIVE));
            }
            "name" | "description" | "genre" | "url" => {
                let head = head(&format!("{name}: http://of.ours")).await;
                let own = head.get(&format!("icy-{name}"));
                assert_eq!(own, Some("http://of.ours"), "{name}");
            }
            other => panic!("no scene shows what `mounts[].{other}` does"),
        }
    }
}

async fn the_first_mount_is_the_default_one() {
    let node = Plan::primary()
        .yaml("mounts: [/b.mp3, /a.mp3]")
        .start()
        .await;
    let _one = Source::start_at(&node, "/a.mp3", 0).await;
    let _other = Source::start_at(&node, "/b.mp3", OTHER).await;
    let (mut listener, _) = listen(node.port, "/;").await;
    assert!(tone::run(&listener.exact(10 * FRAME).await).first >= OTHER);
}

async fn a_type_is_announced_whatever_the_source_says() {
    let node = Plan::primary()
        .yaml(&entry("content_type: audio/mpeg"))
        .start()
        .await;
    let mut peer = Peer::connect(node.port).await;
    let head = source_head(&format!("PUT {LIVE} HTTP/1.1"), &node.source_password(), "");
    peer.send(head.replace("audio/mpeg", "audio/x-unheard-of"))
        .await;
    assert_eq!(peer.head().await.status, 200);
    peer.send(tone::frames(0, 600)).await;
    assert_eq!(
        on_air(node.port, LIVE).await.get("content-type"),
        Some("audio/mpeg")
    );
}

async fn a_password_is_the_mounts_own(line: &str) {
    let node = Plan::primary().yaml(&entry(line)).start().await;
    for (password, status) in [(node.source_password().as_str(), 401), ("mine", 200)] {
        let mut peer = Peer::connect(node.port).await;
        peer.send(source_head(&format!("PUT {LIVE} HTTP/1.1"), password, ""))
            .await;
        assert_eq!(peer.head().await.status, status, "{line}");
    }
}

async fn titles_are_read_in_the_mounts_character_set() {
    let (node, _source) = with_mount("charset: windows-1251").await;
    let login = basic(&node.source_password());
    let path = format!("/admin/metadata?mode=updinfo&mount={LIVE}&song=%CF%F0");
    let request = format!("GET {path} HTTP/1.0\r\n{login}\r\n");
    assert_eq!(ask(node.port, request).await.0.status, 200);
    shows_title(&node, "Пр").await;
}

/// Waits until the public statistics have a title.
async fn shows_title(node: &Node, title: &str) {
    eventually("the title is shown", async || {
        node.get("/status-json.xsl")
            .await
            .1
            .contains(title)
            .then_some(())
    })
    .await;
}

async fn a_mount_is_full() {
    let (node, _source) = with_mount("max_listeners: 1").await;
    let (_first, _) = listen(node.port, LIVE).await;
    assert_eq!(node.get(LIVE).await.0.status, 503);
}

async fn listeners_end_in_time() {
    let (node, _source) = with_mount("max_listener_duration: 1s").await;
    let (mut listener, _) = listen(node.port, LIVE).await;
    tone::run(&listener.rest().await);
}

async fn a_fallback_is_heard() {
    let (node, source) = with_mount("fallback: /other.mp3").await;
    let _other = Source::start_at(&node, "/other.mp3", OTHER).await;
    source.finish().await;
    let (mut listener, _) = listen(node.port, LIVE).await;
    hears(&mut listener, &mut 0, OTHER).await;
}

async fn listeners_stay_or_come_back() {
    for (returns, first) in [(true, 2 * OTHER), (false, OTHER)] {
        let line = format!("fallback: /other.mp3, fallback_override: {returns}");
        let (node, source) = with_mount(&line).await;
        let _other = Source::start_at(&node, "/other.mp3", OTHER).await;
        let (mut listener, _) = listen(node.port, LIVE).await;
        source.finish().await;
        let mut last = 0;
        hears(&mut listener, &mut last, OTHER).await;
        let _again = Source::start_at(&node, LIVE, 2 * OTHER).await;
        let (mut newcomer, _) = listen(node.port, LIVE).await;
        hears(&mut newcomer, &mut 0, 2 * OTHER).await;
        hears(&mut listener, &mut last, first).await;
        for _ in 0..400 {
            last = tone::number_of(&listener.exact(FRAME).await);
        }
        assert_eq!(last / OTHER, first / OTHER, "fallback_override: {returns}");
    }
}

/// Reads frames until one of the source that began with `first` is there.
async fn hears(listener: &mut Peer, last: &mut u64, first: u64) {
    while *last / OTHER != first / OTHER {
        *last = tone::number_of(&listener.exact(FRAME).await);
    }
}

async fn an_intro_is_refused_by_name() {
    let plan = Plan::primary().yaml(&entry("intro: /intro.mp3"));
    let mut program = plan.spawn();
    assert_eq!(program.ended().await.code(), Some(2));
    let said = program.stderr();
    assert!(
        said.contains("`mounts[0].intro`") && said.contains("engine: icecast"),
        "{said}"
    );
    // By `check` too, and by a reload.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, entry("intro: /intro.mp3")).unwrap();
    let mut check = crate::harness::node::relayctl();
    check.arg("check").arg("--config").arg(file.path());
    let output = tokio::task::spawn_blocking(move || check.output().unwrap())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`mounts[0].intro`"));
    // A file for another server is rendered from the same settings.
    let mut render = crate::harness::node::relayctl();
    render
        .args(["render", "icecast", "--config"])
        .arg(file.path());
    for name in ["SOURCE", "ADMIN", "RELAY"] {
        render.env(format!("RELAYCTL_{name}_PASSWORD"), "secret-enough");
    }
    let xml = String::from_utf8(output_of(render).await).unwrap();
    assert!(xml.contains("/intro.mp3"), "{xml}");
}

async fn a_burst_is_the_mounts_own() {
    let (node, source) = with_mount("burst: 40KiB").await;
    eventually("more than a burst was sent", async || {
        (source.sent() > 600).then_some(())
    })
    .await;
    let (_, next) = source.finish().await;
    let (mut listener, _) = listen(node.port, LIVE).await;
    // The source has gone: the burst comes, and no more.
    let mut heard = listener.exact(FRAME).await;
    while tone::run(&heard).end() < next {
        heard.extend(listener.exact(FRAME).await);
    }
    assert!(
        (35 * 1024..=40 * 1024).contains(&heard.len()),
        "{}",
        heard.len()
    );
}

/// A server that tells the head of the request that it gets, and sends MP3.
async fn far() -> (u16, tokio::sync::mpsc::Receiver<String>) {
    let head = b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n";
    far_sending([&head[..], &tone::frames(0, 200)].concat()).await
}

/// The same that sends `answer`.
async fn far_sending(answer: Vec<u8>) -> (u16, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heads, told) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
                let Ok(byte) = stream.read_u8().await else {
                    break;
                };
                head.push(byte);
            }
            if heads.send(String::from_utf8(head).unwrap()).await.is_err() {
                return;
            }
            let _ = stream.write_all(&answer).await;
        }
    });
    (port, told)
}

/// A primary with one entry of `relay` that pulls from the server at `port`.
async fn pulling(port: u16, lines: &str) -> Node {
    let yaml = format!("relay:\n  - {{url: 'http://127.0.0.1:{port}/far.mp3', {lines}}}");
    Plan::primary().yaml(&yaml).start().await
}

/// What such a primary asks.
async fn asked(lines: &str) -> String {
    let (port, mut heads) = far().await;
    let _node = pulling(port, lines).await;
    heads.recv().await.unwrap()
}

#[tokio::test]
async fn every_field_of_relay_has_an_effect() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "pw\n").unwrap();
    for name in names(RELAY) {
        match name.as_str() {
            "url" => {
                let (port, mut heads) = far().await;
                let node = pulling(port, "").await;
                on_air(node.port, "/far.mp3").await;
                assert!(heads.recv().await.unwrap().starts_with("GET /far.mp3 "));
            }
            "backup" => {
                let (port, _heads) = far().await;
                // The first port is closed.
                let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let gone = closed.local_addr().unwrap().port();
                drop(closed);
                let line = format!("backup: ['http://127.0.0.1:{port}/other.mp3']");
                on_air(pulling(gone, &line).await.port, "/far.mp3").await;
            }
            "mount" => {
                let (port, _heads) = far().await;
                on_air(pulling(port, "mount: /near.mp3").await.port, "/near.mp3").await;
            }
            "on_demand" => {
                let (port, mut heads) = far().await;
                let node = pulling(port, "on_demand: true").await;
                // The same without it asks at once, so this one had the time.
                asked("on_demand: false").await;
                assert!(heads.try_recv().is_err(), "pulled for nobody");
                let (mut listener, _) = listen(node.port, "/far.mp3").await;
                tone::run(&listener.exact(10 * FRAME).await);
                assert!(heads.recv().await.is_some());
            }
            "username" => {
                let head = asked("username: somebody, password: pw").await;
                assert!(head.contains(login("somebody", "pw").trim()), "{head}");
            }
            "password" => {
                let head = asked("password: pw").await;
                assert!(head.contains(login("relay", "pw").trim()), "{head}");
            }
            "password_file" => {
                let head = asked(&format!("password_file: {}", file.display())).await;
                assert!(head.contains(login("relay", "pw").trim()), "{head}");
            }
            "metadata" => {
                for (line, wants) in [("metadata: true", true), ("metadata: false", false)] {
                    let head = asked(line).await.to_ascii_lowercase();
                    assert_eq!(head.contains("icy-metadata: 1"), wants, "{line}: {head}");
                }
            }
            "charset" => {
                let metaint = 20 * FRAME;
                let head = format!(
                    "HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\nicy-metaint: {metaint}\r\n\r\n"
                );
                let frames = tone::frames(0, 20);
                let mut block = b"\x02StreamTitle='\xcf\xf0';".to_vec();
                block.resize(1 + 32, 0);
                let answer = [head.as_bytes(), &frames, &block, &frames].concat();
                let (port, _heads) = far_sending(answer).await;
                shows_title(&pulling(port, "charset: windows-1251").await, "Пр").await;
            }
            other => panic!("no scene shows what `relay[].{other}` does"),
        }
    }
}

/// A relay may have the settings of its primary: what it carries out itself holds there, and what it cannot is named.
#[tokio::test]
async fn a_relay_says_what_it_leaves_to_its_primary() {
    let primary = Plan::primary().start().await;
    let _source = Source::start(&primary, LIVE).await;
    let lines = "name: Ours, genre: dub, public: true, metaint: 4096, password: mine, max_listener_duration: 1s";
    let yaml = format!("{}\nrelay: ['http://127.0.0.1:1/far.mp3']", entry(lines));
    let relay = Plan::relay(&primary).yaml(&yaml).start().await;
    on_air(relay.port, LIVE).await;
    let (mut listener, head) = listen_with(relay.port, LIVE, "Icy-MetaData: 1\r\n").await;
    for (name, value) in [("icy-name", "Ours"), ("icy-genre", "dub"), ("icy-pub", "1")] {
        assert_eq!(head.get(name), Some(value), "{name}");
    }
    assert_eq!(head.get("icy-metaint"), Some("4096"));
    within(Duration::from_secs(60), "it ends", async || {
        listener.rest().await;
        Some(())
    })
    .await;
    let log = relay.log();
    for key in [
        "`relay` has no effect on a relay",
        "`mounts[0].password` has no effect on a relay",
    ] {
        assert!(log.contains(key), "{key}: {log}");
    }
    // The primary's own word is the primary's listeners'.
    let (_, page) = ask(primary.port, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(!page.contains("Ours"), "{page}");
}
