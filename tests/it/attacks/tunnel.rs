//! What a stranger reaches on the primary through a relay: one request, under its own address, for as long as that takes.

use std::net::{IpAddr, Ipv4Addr};

use crate::harness::cluster::{Cluster, api};
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Peer, ask};
use crate::harness::program::{Program, tool};
use crate::harness::source::{Framing, Source, basic, on_air, source_head};
use crate::harness::under_attack::{MOUNT, UnderAttack, descriptors};
use crate::harness::{eventually, two_free_ports};

/// Descriptors that a node may need beside its listeners, whatever strangers do through it.
const QUIET: u64 = 150;

/// A relay that plays to the listeners, and its primary on the same machine and as the same user.
struct Scene {
    relay: UnderAttack,
    primary: Node,
}

async fn scene() -> Scene {
    let mut cluster = Cluster::start(1).await;
    let source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let relay = cluster.relays.remove(0);
    Scene {
        relay: UnderAttack::of(relay, Some(source)).await,
        primary: cluster.primary,
    }
}

impl Scene {
    fn port(&self) -> u16 {
        self.relay.node.port
    }

    /// The end of every scene: the primary takes listeners, its relay was never suspect, and nothing grew.
    async fn finish(self, attack: &str) {
        assert_eq!(self.primary.get("/readyz").await.0.status, 200);
        let events = api(&self.primary, "events").await;
        let bad = |kind: &str| ["suspected", "died", "drain_began"].contains(&kind);
        let bad = events
            .iter()
            .find(|event| bad(event["kind"].as_str().unwrap()));
        assert!(bad.is_none(), "{bad:?}");
        let (_, report) = self.relay.finish(attack).await;
        assert!(report.peak_mib < report.first_mib + 48, "{report:?}");
    }
}

/// Requests that a relay carries, none of which the primary grants.
fn carried(with: &str) -> Vec<String> {
    let put = source_head("PUT /x.mp3 HTTP/1.1", "wrong", with);
    let bearer = "Authorization: Bearer rcn1.x.00\r\n";
    vec![
        format!(
            "GET /admin/metadata?mount=/x&mode=updinfo&song=a HTTP/1.1\r\nHost: a\r\n{with}\r\n"
        ),
        format!(
            "GET /admin.cgi?pass=a&mode=updinfo&song=a HTTP/1.0\r\nConnection: keep-alive\r\n{with}\r\n"
        ),
        format!("HEAD /admin/metadata?mount=/x HTTP/1.1\r\nHost: a\r\n{with}\r\n"),
        format!(
            "GET /admin/metadata HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n{with}\r\n"
        ),
        put.replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\na"),
        put.replace(
            "\r\n\r\n",
            "\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        ),
        put.replace(
            "\r\n\r\n",
            "\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
        ),
        format!(
            "POST /cluster/v1/beat HTTP/1.1\r\nHost: a\r\n{bearer}Content-Type: application/json\r\nContent-Length: 2\r\n{with}\r\n{{}}"
        ),
        format!("GET /cluster/v1/feed HTTP/1.1\r\nHost: a\r\n{bearer}{with}\r\n"),
    ]
}

/// Requests in which a proxy and the primary could see two different ends.
fn ambiguous() -> Vec<String> {
    let put = source_head("PUT /x.mp3 HTTP/1.1", "wrong", "");
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 0\r\nContent-Length: 60",
        "Transfer-Encoding: chunked, identity, gzip",
        "Content-Length: 0\r\n X: obs-fold",
        "Content-Length: +0",
    ]
    .map(|fields| put.replace("\r\n\r\n", &format!("\r\n{fields}\r\n\r\n")))
    .to_vec()
}

/// Everything that the relay answers until it closes, which it must.
async fn told(port: u16, bytes: &str) -> String {
    let mut peer = Peer::connect(port).await;
    // A refusal may come before all is sent.
    let _ = peer.try_send(bytes.as_bytes()).await;
    String::from_utf8_lossy(&peer.rest().await).into_owned()
}

#[tokio::test]
async fn a_second_request_in_the_connection_of_a_first() {
    let scene = scene().await;
    let seconds = [
        "POST /api/v1/drain HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        "\nPOST /api/v1/drain HTTP/1.0\n\n",
    ];
    let mut asked = 0;
    for first in carried("").into_iter().chain(ambiguous()) {
        for second in seconds {
            let said = told(scene.port(), &format!("{first}{second}")).await;
            let lines: Vec<&str> = said
                .lines()
                .filter(|line| line.starts_with("HTTP/1."))
                .collect();
            let last = lines
                .last()
                .unwrap_or_else(|| panic!("no answer to {first}"));
            let status = last.split(' ').nth(1).unwrap();
            assert!(
                ["400", "401", "403", "422", "429", "501"].contains(&status),
                "{first}{said}"
            );
            assert!(
                lines.len() == 1 || lines[0].contains(" 100 "),
                "{first}{said}"
            );
            assert!(
                said.to_ascii_lowercase()
                    .contains("\r\nconnection: close\r\n"),
                "{said}"
            );
            assert!(
                !said.contains("relayctl_") && !said.contains("\"drain\""),
                "{said}"
            );
            asked += 1;
        }
    }
    assert!(asked > 40, "{asked}");
    scene
        .finish(&format!("{asked} pipelined requests through a relay"))
        .await;
}

#[tokio::test]
async fn a_proxy_that_reuses_connections() {
    let scene = scene().await;
    let listeners = two_free_ports();
    let file = scene.primary.folder().join("reuse.cfg");
    let text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  http-reuse always\n\
         frontend f\n  bind 127.0.0.1:{listeners}\n  default_backend b\n\
         backend b\n  server relay 127.0.0.1:{}\n",
        scene.port()
    );
    std::fs::write(&file, text).unwrap();
    let mut haproxy = tool("haproxy", "haproxy");
    haproxy.arg("-db").arg("-f").arg(&file);
    let _haproxy = Program::start(haproxy);
    let relay = node_of(scene.port()).await;
    let primary = node_of(scene.primary.port).await;
    assert_ne!(relay, primary);
    eventually("HAProxy answers", async || {
        let mut peer = Peer::try_connect(Ipv4Addr::LOCALHOST.into(), listeners)
            .await
            .ok()?;
        peer.try_send(b"GET /healthz HTTP/1.0\r\n\r\n").await.ok()?;
        peer.rest().await.starts_with(b"HTTP/1.").then_some(())
    })
    .await;
    for first in carried("") {
        let mut peer = Peer::connect(listeners).await;
        let _ = peer.try_send(first.as_bytes()).await;
        let answer = peer.head().await;
        assert!(answer.status >= 400, "{first}{answer:?}");
        // The stranger keeps his own connection; the next ones are other people's.
        for _ in 0..3 {
            assert_eq!(node_of(listeners).await, relay, "{first}");
        }
    }
    scene.finish("connections that a proxy reuses").await;
}

/// Id of the node that answers `/health` there.
async fn node_of(port: u16) -> String {
    let (head, body) = ask(port, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!([200, 503].contains(&head.status), "{body}");
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    health["node"].as_str().unwrap().to_owned()
}

/// The answer to a password line of `from` at a relay, or to the fields behind it.
async fn v1(from: [u8; 4], port: u16, password: &str) -> String {
    let mut peer = Peer::connect_from(IpAddr::from(from), port).await;
    let _ = peer.try_send(format!("{password}\r\n").as_bytes()).await;
    let begin = peer.exact(3).await;
    String::from_utf8_lossy(&begin).into_owned()
}

#[tokio::test]
async fn wrong_passwords_of_one_client_through_a_relay_are_its_own() {
    let scene = scene().await;
    for _ in 0..30 {
        let _ = v1([127, 0, 0, 2], scene.port(), "wrong").await;
    }
    let right = scene.primary.source_password();
    // An encoder beside it on the same relay, and one at the primary from the relay's address.
    assert_eq!(v1([127, 0, 0, 3], scene.port(), &right).await, "OK2");
    eventually("the mount is free again", async || {
        (v1([127, 0, 0, 1], scene.primary.port, &right).await == "OK2").then_some(())
    })
    .await;
    scene.finish("30 wrong v1 passwords through a relay").await;
}

#[tokio::test]
async fn the_primary_knows_the_client_and_believes_no_forged_mark() {
    let scene = scene().await;
    let password = scene.primary.source_password();
    let forged = "X-Relayctl-Client: join-1;1;10.9.9.9;00\r\nX-Forwarded-For: 10.9.9.9\r\nX-Relayctl-Via: x\r\n";
    for (last, via) in [(4, ""), (5, forged)] {
        let from = IpAddr::from([127, 0, 0, last]);
        let mount = format!("/own-{last}.mp3");
        let mut peer = Peer::connect_from(from, scene.port()).await;
        let line = format!("PUT {mount} HTTP/1.1");
        peer.send(source_head(&line, &password, via)).await;
        assert_eq!(peer.head().await.status, 200);
        let _source = Source::over(peer, Framing::Raw, 0);
        on_air(scene.primary.port, &mount).await;
        let own = eventually("the source is logged", async || {
            let log = scene.primary.log();
            let own = log.lines().find(|line| line.contains(&mount));
            own.map(str::to_owned)
        })
        .await;
        assert!(own.contains(&format!("peer={from}:")), "{own}");
    }
    assert!(!scene.primary.log().contains("10.9.9.9"));
    // Directly at the primary a mark is nobody's word, and a carried request is not near.
    let login = basic("wrong");
    let head = format!(
        "GET /admin/metadata?mount=/x&mode=updinfo&song=a HTTP/1.1\r\nHost: a\r\n{forged}{login}Connection: close\r\n\r\n"
    );
    assert_eq!(ask(scene.primary.port, head).await.0.status, 401);
    scene.primary.refused("client_mark", 1.0).await;
    let near = "GET /metrics HTTP/1.1\r\nHost: a\r\nX-Relayctl-Via: x\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(scene.primary.port, near).await.0.status, 401);
    scene.finish("forged marks").await;
}

#[tokio::test]
async fn refused_sources_hold_no_descriptor_of_the_relay() {
    const SOURCES: usize = 2000;
    let scene = scene().await;
    let before = descriptors(scene.relay.node.pid());
    let put = source_head(
        "PUT /x.mp3 HTTP/1.1",
        "wrong",
        "Transfer-Encoding: chunked\r\n",
    );
    let mut peers = Vec::with_capacity(SOURCES);
    let mut statuses = std::collections::BTreeMap::new();
    for n in 0..SOURCES {
        let from = IpAddr::from([127, 0, 1, u8::try_from(n % 250).unwrap()]);
        let mut peer = Peer::connect_from(from, scene.port()).await;
        peer.send(&put).await;
        *statuses.entry(peer.head().await.status).or_insert(0) += 1;
        // None of them closes.
        peers.push(peer);
    }
    println!("{statuses:?}");
    assert!(
        statuses.keys().all(|status| [401, 429].contains(status)),
        "{statuses:?}"
    );
    eventually("the relay let go of them", async || {
        let now = descriptors(scene.relay.node.pid());
        (now < before + 16).then_some(now)
    })
    .await;
    drop(peers);
    let most = before + QUIET + 256;
    let primary = descriptors(scene.primary.pid());
    assert!(primary < QUIET, "{primary} descriptors of the primary");
    let relay = scene.relay.node.pid();
    assert!(descriptors(relay) < most);
    scene.finish("2,000 refused PUTs through a relay").await;
}

#[tokio::test]
async fn unfinished_requests_end_by_themselves() {
    const REQUESTS: usize = 300;
    let scene = scene().await;
    let before = descriptors(scene.relay.node.pid());
    let mut peers = Vec::with_capacity(REQUESTS);
    for n in 0..REQUESTS {
        let from = IpAddr::from([127, 0, 2, u8::try_from(n % 250).unwrap()]);
        let mut peer = Peer::connect_from(from, scene.port()).await;
        let head = "POST /cluster/v1/beat HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n\
                    Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
        let _ = peer.try_send(head.as_bytes()).await;
        peers.push(peer);
    }
    eventually("the relay let go of them", async || {
        let now = descriptors(scene.relay.node.pid());
        (now < before + 16).then_some(now)
    })
    .await;
    for peer in &mut peers {
        peer.rest().await;
    }
    scene.finish("300 unfinished bodies through a relay").await;
}

/// A relay that knows the primary only by way of another relay: each of its beats is a carried request of its own.
#[tokio::test]
async fn a_relay_behind_a_relay_is_no_suspect() {
    let cluster = Cluster::start(1).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let token = cluster.primary.secret("join-token");
    let first = &cluster.relays[0];
    let behind = Plan::joining(first.port, &token)
        .name("behind")
        .start()
        .await;
    eventually("the one behind is ready", async || {
        let table = cluster.table().await;
        let row = table.iter().find(|row| row["name"] == "behind")?;
        (row["state"] == "ready").then_some(())
    })
    .await;
    on_air(behind.port, MOUNT).await;
    let scene = UnderAttack::of(behind, None).await;
    // Some beats later: each title goes by way of both relays, and comes back down.
    let password = cluster.primary.source_password();
    for n in 0..5 {
        let title = format!("song {n}");
        crate::harness::source::set_title(scene.node.port, MOUNT, &password, &title).await;
        eventually("the title is there", async || {
            let mounts = api(&cluster.primary, "mounts").await;
            let mount = mounts.iter().find(|mount| mount["name"] == MOUNT)?;
            (mount["title"] == title.as_str()).then_some(())
        })
        .await;
        let events = api(&cluster.primary, "events").await;
        let bad = |kind: &str| ["suspected", "died"].contains(&kind);
        let bad = events
            .iter()
            .find(|event| bad(event["kind"].as_str().unwrap()));
        assert!(bad.is_none(), "{bad:?}");
    }
    scene.finish("a relay behind a relay").await;
}
