//! Names that players and encoders of old give to mounts: `/`, `/;`, `/stream/N/`, a slash at the end, octets in any
//! character set.

use crate::harness::cluster::{Cluster, api};
use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer, ask, get};
use crate::harness::source::{Source, basic, listen, listen_with, off_air, on_air, set_title};
use crate::harness::tone::{self, FRAME};

const ICY: &str = "Icy-MetaData: 1\r\n";

async fn head_of(port: u16, target: &str, more: &str) -> Head {
    let mut peer = Peer::connect(port).await;
    peer.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{more}\r\n"))
        .await;
    peer.head().await
}

fn is_page(head: &Head) -> bool {
    let html = head
        .get("content-type")
        .is_some_and(|kind| kind.starts_with("text/html"));
    head.status == 200 && html && head.get("content-length").is_some()
}

#[tokio::test]
async fn a_player_hears_the_default_mount_where_a_browser_reads_the_page() {
    let mount = "mounts:\n  - path: /live.mp3\nhold: 0s\n";
    let cluster = Cluster::start_with(1, mount, mount).await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    let players = [
        ICY.to_owned(),
        "User-Agent: WinampMPEG/5.66\r\n".to_owned(),
        "User-Agent: VLC/3.0.18 LibVLC/3.0.18\r\n".to_owned(),
    ];
    for node in [primary, relay] {
        for player in &players {
            assert!(
                is_page(&head_of(node.port, "/", player).await),
                "no source yet"
            );
        }
    }
    let source = Source::start(primary, "/live.mp3").await;
    cluster.on_air("/live.mp3").await;
    for player in &players {
        let (mut peer, head) = listen_with(relay.port, "/", player).await;
        assert_eq!(head.get("content-type"), Some("audio/mpeg"));
        if player != ICY {
            tone::run(&peer.exact(10 * FRAME).await);
        }
        // Balanced as a listener of the mount itself.
        let head = head_of(primary.port, "/?x=1", player).await;
        let location = head.get("location").unwrap_or_default();
        let there = format!("http://127.0.0.1:{}/live.mp3?x=1&rt=", relay.port);
        assert!(
            head.status == 302 && location.starts_with(&there),
            "{head:?}"
        );
    }
    for node in [primary, relay] {
        for other in ["", "User-Agent: Mozilla/5.0\r\n", "Icy-MetaData: 0\r\n"] {
            assert!(is_page(&head_of(node.port, "/", other).await), "{other}");
        }
        for method in ["HEAD", "OPTIONS"] {
            let request = format!("{method} / HTTP/1.1\r\nHost: x\r\n{ICY}\r\n");
            let mut peer = Peer::connect(node.port).await;
            peer.send(request).await;
            let head = peer.head().await;
            assert!(is_page(&head), "{method}: {head:?}");
        }
    }
    source.finish().await;
    for node in [primary, relay] {
        off_air(node.port, "/live.mp3").await;
        assert!(
            is_page(&head_of(node.port, "/", ICY).await),
            "no more source"
        );
    }
}

#[tokio::test]
async fn streams_have_numbers() {
    let node = Plan::primary()
        .yaml("shoutcast:\n  mount: /b.mp3\nmounts:\n  - path: /b.mp3\n  - path: /a0.mp3\n    hidden: true")
        .start()
        .await;
    let mut sources = Vec::new();
    for mount in ["/a.mp3", "/b.mp3", "/c.mp3", "/a0.mp3"] {
        sources.push(Source::start(&node, mount).await);
    }
    // As `/stats?sid=N` has them.
    for (number, mount) in [(1, "/b.mp3"), (2, "/b.mp3"), (3, "/c.mp3")] {
        let (_, stats) = get(node.port, &format!("/stats?sid={number}&json=1")).await;
        assert!(
            stats.contains(&format!("\"streampath\":\"{mount}\"")),
            "{stats}"
        );
        let ends = ["", "/", "/;", "/;stream.nsv"];
        for end in ends {
            let before = heard(&node, mount).await;
            let (mut peer, _) = listen(node.port, &format!("/stream/{number}{end}")).await;
            tone::run(&peer.exact(10 * FRAME).await);
            eventually("it is counted on its mount", async || {
                (heard(&node, mount).await > before).then_some(())
            })
            .await;
        }
    }
    for target in ["/;", "/;stream.mp3", "/;stream.nsv", "/stream/"] {
        let (mut peer, _) = listen(node.port, target).await;
        tone::run(&peer.exact(10 * FRAME).await);
    }
    for target in ["/stream/4/", "/stream/0/", "/stream/x/", "/stream"] {
        assert_eq!(head_of(node.port, target, "").await.status, 404, "{target}");
    }
    // A mount of that very name comes first.
    let _own = Source::start(&node, "/stream/2/").await;
    let (mut peer, _) = listen(node.port, "/stream/2/").await;
    tone::run(&peer.exact(10 * FRAME).await);
    assert!(heard(&node, "/stream/2/").await > 0.0);
}

/// Listeners of a mount since the start.
async fn heard(node: &Node, mount: &str) -> f64 {
    let labels = format!("mount=\"{mount}\"");
    node.metric("relayctl_sessions_total", &labels).await
}

#[tokio::test]
async fn octets_and_slashes_go_everywhere() {
    let cluster = Cluster::start(1).await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    // As it is asked for, as it stands in URLs, and its name.
    for (asked, shown, name) in [
        ("/caf%e9.mp3", "/caf%E9.mp3", "/caf%E9.mp3"),
        ("/caf%c3%a9.mp3", "/caf%C3%A9.mp3", "/café.mp3"),
        ("/dir/", "/dir/", "/dir/"),
        ("/dir", "/dir", "/dir"),
        ("/x%25E1", "/x%25E1", "/x%25E1"),
        ("/healthradio/a", "/healthradio/a", "/healthradio/a"),
    ] {
        let source = Source::start(primary, asked).await;
        on_air(relay.port, asked).await;
        let (mut peer, _) = listen(relay.port, asked).await;
        tone::run(&peer.exact(10 * FRAME).await);
        cluster.on_air(name).await;
        let head = head_of(primary.port, asked, "").await;
        let location = head.get("location").unwrap_or_default();
        let there = format!("http://127.0.0.1:{}{shown}?rt=", relay.port);
        assert!(location.starts_with(&there), "{head:?}");
        for node in [primary, relay] {
            let (_, status) = get(node.port, "/status-json.xsl").await;
            let url = format!("http://localhost{shown}\"");
            assert!(status.contains(&url), "{url} is not in {status}");
            let (head, list) = get(node.port, &format!("{asked}.m3u")).await;
            assert!(
                head.status == 200 && list.trim_end().ends_with(shown),
                "{list}"
            );
        }
        source.finish().await;
    }
}

#[tokio::test]
async fn a_title_finds_its_octets_and_lists_name_them() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, "/caf%E9.mp3").await;
    set_title(node.port, "/caf%E9.mp3", &node.source_password(), "Noir").await;
    eventually("the list has the mount with its title", async || {
        let mounts = api(&node, "mounts").await;
        let is_it =
            |row: &serde_json::Value| row["name"] == "/caf%E9.mp3" && row["title"] == "Noir";
        mounts.iter().any(is_it).then_some(())
    })
    .await;
    let (_peer, _) = listen(node.port, "/caf%e9.mp3").await;
    assert!(heard(&node, "/caf%E9.mp3").await > 0.0);
}

#[tokio::test]
async fn what_leads_out_stays_refused() {
    let node = Plan::primary().start().await;
    for path in [
        "/a%2Fb",
        "/a/%2e%2e/b",
        "/a%00",
        "/a%0d%0ab",
        "//a",
        "/a//",
        "/a%5Cb",
    ] {
        assert_eq!(head_of(node.port, path, "").await.status, 400, "{path}");
        let login = basic(&node.source_password());
        let put =
            format!("PUT {path} HTTP/1.1\r\nHost: x\r\n{login}Content-Type: audio/mpeg\r\n\r\n");
        assert_eq!(ask(node.port, put).await.0.status, 400, "{path}");
    }
    for path in ["/;", "/;stream.mp3", "/7.html/", "/stats/", "/%3B"] {
        let login = basic(&node.source_password());
        let put =
            format!("PUT {path} HTTP/1.1\r\nHost: x\r\n{login}Content-Type: audio/mpeg\r\n\r\n");
        assert_eq!(ask(node.port, put).await.0.status, 403, "{path}");
    }
}
