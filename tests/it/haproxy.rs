//! A real HAProxy in front, from the file that we render: what it sees of us, and what it lets through.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use relayctl::base::secret::Secret;
use relayctl::render::{Balancer, Kind, RenderNode, Renderer, Role, Station};

use crate::encoders::{MP3, ffmpeg};
use crate::harness::node::{Node, Plan};
use crate::harness::own_paths::{CLOSED, OPEN, is_forwarded};
use crate::harness::peer::{Peer, ask};
use crate::harness::program::{Program, tool};
use crate::harness::source::{Framing, Source, listen, login, off_air, on_air, source_head};
use crate::harness::tone::{self, FRAME};
use crate::harness::{eventually, two_free_ports, within};

const MOUNT: &str = "/live.mp3";

/// A primary with a port for v1 sources, and HAProxy before it.
struct Front {
    node: Node,
    haproxy: Program,
    listeners: u16,
    sources: u16,
    stats: u16,
}

/// The rendered file for one primary, with `change` made to its text.
async fn front(yaml: &str, change: impl Fn(&str) -> String) -> Front {
    front_that_exposes(&[], yaml, change).await
}

/// The same, where HAProxy forwards these of the node's own paths, too.
async fn front_that_exposes(
    expose: &[&'static str],
    yaml: &str,
    change: impl Fn(&str) -> String,
) -> Front {
    let node = Plan::primary()
        .port(two_free_ports())
        .yaml(yaml)
        .start()
        .await;
    let (listeners, sources, stats) = (two_free_ports(), two_free_ports(), two_free_ports());
    let station = Station {
        port: node.port,
        shoutcast_mount: Some("/stream".into()),
        source_password: Secret::new(node.source_password()),
        nodes: vec![RenderNode {
            name: "head".into(),
            role: Role::Primary,
            host: "127.0.0.1".into(),
            port: node.port,
            max_listeners: None,
        }],
        balancer: Balancer {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: listeners,
            source_port: Some(sources),
            stats_port: Some(stats),
            // Who runs the tests without being root can change to nobody else.
            user: rustix::process::geteuid()
                .is_root()
                .then(|| "haproxy".into()),
            expose: expose.to_vec(),
        },
        ..Station::default()
    };
    let text = Renderer::new(None)
        .unwrap()
        .render(Kind::Haproxy, &station)
        .unwrap();
    let file = node.folder().join("haproxy.cfg");
    std::fs::write(&file, change(&text)).unwrap();
    let mut haproxy = tool("haproxy", "haproxy");
    haproxy.arg("-db").arg("-f").arg(&file);
    let haproxy = Program::start(haproxy);
    let front = Front {
        node,
        haproxy,
        listeners,
        sources,
        stats,
    };
    eventually("HAProxy has checked everything", async || {
        let Ok(_) = Peer::try_connect(Ipv4Addr::LOCALHOST.into(), stats).await else {
            return None;
        };
        let servers = front.servers().await;
        let checked =
            |row: &Row| ["L7OK", "L4OK"].contains(&row["check_status"].trim_start_matches("* "));
        (servers.len() == 3 && servers.iter().all(checked)).then_some(())
    })
    .await;
    front
}

type Row = HashMap<String, String>;

impl Front {
    /// Every server of every backend, as HAProxy's statistics have it.
    async fn servers(&self) -> Vec<Row> {
        let (head, csv) = ask(self.stats, "GET /;csv HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(head.status, 200);
        let mut lines = csv.lines();
        let names: Vec<&str> = lines
            .next()
            .unwrap()
            .trim_start_matches("# ")
            .split(',')
            .collect();
        let rows = lines.filter(|line| line.contains(',')).map(|line| -> Row {
            names
                .iter()
                .zip(line.split(','))
                .map(|(name, value)| ((*name).into(), value.into()))
                .collect()
        });
        rows.filter(|row| !["FRONTEND", "BACKEND"].contains(&row["svname"].as_str()))
            .collect()
    }

    async fn all_up(&self) {
        for server in self.servers().await {
            assert_eq!(server["status"], "UP", "{server:?}");
            assert_eq!(server["chkfail"], "0", "{server:?}");
        }
    }

    /// One hears the tone from HAProxy's listener side.
    async fn heard(&self, mount: &str) {
        on_air(self.listeners, mount).await;
        let (mut listener, _) = listen(self.listeners, mount).await;
        tone::run(&listener.exact(20 * FRAME).await);
    }
}

#[tokio::test]
async fn raw_sources_pass_the_tcp_side() {
    let front = front("hold: 1s", str::to_owned).await;
    front.all_up().await;
    for first in [
        "SOURCE /live.mp3 HTTP/1.0",
        "SOURCE /live.mp3 ICE/1.0",
        "PUT /live.mp3 HTTP/1.1",
    ] {
        let mut peer = Peer::connect(front.sources).await;
        peer.send(source_head(first, &front.node.source_password(), ""))
            .await;
        assert_eq!(peer.head().await.status, 200, "{first}");
        let source = Source::over(peer, Framing::Raw, 0);
        front.heard(MOUNT).await;
        source.finish().await;
        off_air(front.node.port, MOUNT).await;
    }
    front.all_up().await;
}

#[tokio::test]
async fn shoutcast_sources_pass_both_tcp_ports() {
    let front = front("hold: 1s", str::to_owned).await;
    for port in [front.sources, front.sources + 1] {
        let mut peer = Peer::connect(port).await;
        peer.send(format!("{}\r\n", front.node.source_password()))
            .await;
        assert_eq!(peer.exact(20).await, b"OK2\r\nicy-caps:11\r\n\r\n");
        peer.send("content-type:audio/mpeg\r\n\r\n").await;
        let source = Source::over(peer, Framing::Raw, 0);
        front.heard("/stream").await;
        source.finish().await;
        off_air(front.node.port, "/stream").await;
    }
}

#[tokio::test]
async fn ffmpeg_passes_the_tcp_side() {
    let front = front("", str::to_owned).await;
    let _ffmpeg = ffmpeg(front.sources, &front.node.source_password(), MOUNT, MP3, "");
    on_air(front.listeners, MOUNT).await;
    assert_eq!(
        crate::encoders::codec_of(front.listeners, MOUNT).await,
        "mp3"
    );
}

#[tokio::test]
async fn a_framed_put_passes_the_http_side() {
    let front = front("", str::to_owned).await;
    let mut peer = Peer::connect(front.listeners).await;
    let more = "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n";
    peer.send(source_head(
        "PUT /live.mp3 HTTP/1.1",
        &front.node.source_password(),
        more,
    ))
    .await;
    assert_eq!(peer.head().await.status, 100);
    let source = Source::over(peer, Framing::Chunked, 0);
    front.heard(MOUNT).await;
    let (answer, _) = source.finish().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// No byte of an unframed body comes through `mode http`. The source is not on air in vain: it is ended, and the
/// log says why.
#[tokio::test]
async fn an_unframed_put_on_the_http_side_is_ended() {
    let front = front("", str::to_owned).await;
    let mut peer = Peer::connect(front.listeners).await;
    peer.send(source_head(
        "PUT /live.mp3 HTTP/1.1",
        &front.node.source_password(),
        "",
    ))
    .await;
    let _ = peer.try_send(&tone::frames(0, 100)).await;
    peer.rest().await;
    eventually("the log says why", async || {
        front.node.log().contains("proxy").then_some(())
    })
    .await;
    off_air(front.node.port, MOUNT).await;
}

/// The proxy's own patience is five seconds; the listener's is longer, and nothing ends the answer.
#[tokio::test]
async fn a_listener_lives_through_thirty_seconds_without_a_source() {
    let patience = |text: &str| {
        let line = text
            .lines()
            .find(|line| line.trim().starts_with("timeout server "))
            .expect("timeout server");
        text.replace(line, "    timeout server 5s")
    };
    let front = front("", patience).await;
    front.all_up().await;
    let source = Source::start(&front.node, MOUNT).await;
    let (mut listener, _) = listen(front.listeners, MOUNT).await;
    let mut heard = listener.exact(100 * FRAME).await;
    let (_, next) = source.finish().await;
    let gap = Instant::now();
    within(
        Duration::from_secs(300),
        "thirty seconds without a source",
        async || {
            front.all_up().await;
            heard.extend(listener.pending());
            (gap.elapsed() > Duration::from_secs(30)).then_some(())
        },
    )
    .await;
    assert!(front.node.get("/health").await.1.contains("\"lost\""));
    let _source = Source::start_at(&front.node, MOUNT, next).await;
    while tone::run(&heard).end() < next + 100 {
        heard.extend(listener.exact(FRAME).await);
    }
}

#[tokio::test]
async fn a_stranger_reaches_no_administration_through_the_http_side() {
    let front = front("", str::to_owned).await;
    for first in CLOSED {
        assert!(!is_forwarded(front.listeners, first).await, "{first}");
    }
    for first in OPEN {
        assert!(is_forwarded(front.listeners, first).await, "{first}");
    }
    // A side that forwards bytes judges none of them: the node does it alone.
    let (head, body) = ask(front.sources, "GET /admin/stats HTTP/1.0\r\n\r\n").await;
    assert_eq!(head.status, 401, "{body}");
}

#[tokio::test]
async fn exposed_paths_pass_the_http_side_and_no_others() {
    let front = front_that_exposes(&["metrics", "admin"], "", str::to_owned).await;
    for first in CLOSED {
        let path = first.split([' ', '?']).nth(1).unwrap();
        let is_exposed = [
            "/metrics",
            "/admin",
            "/admin/",
            "/admin/stats",
            "/admin/killsource",
        ];
        let passes = is_exposed.contains(&path) || path == "http://station.example/admin/stats";
        assert_eq!(
            is_forwarded(front.listeners, first).await,
            passes,
            "{first}"
        );
    }
    let (head, body) = ask(
        front.listeners,
        format!(
            "GET /admin/listmounts HTTP/1.1\r\nHost: localhost\r\n{}Connection: close\r\n\r\n",
            login("admin", &front.node.secret("admin-password"))
        ),
    )
    .await;
    assert_eq!(head.status, 200, "{body}");
}

/// The names that it says the client asked for are its own word, as nodes believe it: no page on another site says them.
#[tokio::test]
async fn no_stranger_speaks_in_the_proxys_name() {
    let front =
        front_that_exposes(&["admin"], "trusted_proxies: [127.0.0.1/32]", str::to_owned).await;
    let login = login("admin", &front.node.secret("admin-password"));
    let ended = async |more: &str| {
        let request = format!(
            "GET /admin/killsource?mount=/live.mp3 HTTP/1.1\r\nHost: localhost:{}\r\n{login}{more}\
             Accept-Language: en\r\nConnection: close\r\n\r\n",
            front.listeners
        );
        let (head, body) = ask(front.listeners, request).await;
        (head.status, body)
    };
    let _source = Source::start(&front.node, MOUNT).await;
    for more in [
        "Origin: http://evil.example\r\nX-Forwarded-Host: evil.example\r\n",
        "Origin: http://evil.example\r\nForwarded: host=evil.example\r\n",
    ] {
        let (status, body) = ended(more).await;
        assert_eq!(status, 403, "{more}{body}");
    }
    front.heard(MOUNT).await;
    let (status, body) = ended(&format!("Origin: http://localhost:{}\r\n", front.listeners)).await;
    assert_eq!(status, 200, "{body}");
    off_air(front.node.port, MOUNT).await;
}

#[tokio::test]
async fn what_reads_strangers_bytes_is_not_root() {
    let front = front("", str::to_owned).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", front.haproxy.id())).unwrap();
    for ids in ["Uid:", "Gid:"] {
        let line = status.lines().find(|line| line.starts_with(ids)).unwrap();
        assert!(!line.split_whitespace().any(|id| id == "0"), "{line}");
    }
}

#[tokio::test]
async fn nobody_asks_a_node_for_tls_through_the_side_of_listeners() {
    let front = front("", str::to_owned).await;
    // A node that is asked so often says 429 at last.
    for wanted in ["TLS/1.0, HTTP/1.1", "HTTP/1.1, tls/1.2"] {
        for _ in 0..25 {
            let request = format!(
                "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: {wanted}\r\n\r\n"
            );
            let mut peer = Peer::connect(front.listeners).await;
            peer.send(request).await;
            assert_eq!(peer.head().await.status, 204, "{wanted}");
        }
    }
}
