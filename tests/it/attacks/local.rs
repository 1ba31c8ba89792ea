//! Requests from the machine itself, which are no credential: over loopback, of a browser, through a proxy that runs as
//! the node's user. The node's own socket is one, and works where the data directory is read-only too.

use std::net::{IpAddr, Ipv4Addr};

use relayctl::render::{Balancer, Kind, RenderNode, Renderer, Role, Station};

use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Peer, ask};
use crate::harness::program::{Program, tool};
use crate::harness::source::Source;
use crate::harness::two_free_ports;
use crate::harness::under_attack::{MOUNT, UnderAttack};

fn post(path: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n{more}\r\n"
    )
}

/// What a page of any site can make a browser send (`fetch`, `no-cors`), and what curl sends.
const CLIENTS: [&str; 3] = [
    "",
    "User-Agent: Mozilla/5.0 AppleWebKit/537.36\r\nAccept-Language: en\r\nOrigin: http://evil.example\r\n\
     Referer: http://evil.example/\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
    "Origin: http://evil.example\r\nContent-Type: text/plain\r\n",
];

async fn still_ready(node: &Node) {
    assert_eq!(node.get("/readyz").await.0.status, 200);
}

#[tokio::test]
async fn a_process_of_the_same_user_over_loopback() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    for client in CLIENTS {
        for path in ["/api/v1/drain", "/api/v1/resume"] {
            let (head, body) = ask(scene.node.port, post(path, client)).await;
            assert!([401, 403].contains(&head.status), "{path}: {head:?} {body}");
        }
    }
    let (head, _) = scene.node.get("/api/v1/drain").await;
    assert_eq!(head.status, 401);
    still_ready(&scene.node).await;
    let attack = "drain over loopback without a credential";
    let (_, report) = scene.finish(attack).await;
    assert!(report.peak_mib < report.first_mib + 32, "{report:?}");
    assert!(report.peak_descriptors < 256, "{report:?}");
}

/// HAProxy from the rendered file before `node`, whose source side is TCP as it comes; the port of that side.
async fn proxy(node: &Node) -> (Program, u16) {
    let (listeners, sources) = (two_free_ports(), two_free_ports());
    let station = Station {
        port: node.port,
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
            stats_port: None,
            ..Balancer::default()
        },
        ..Station::default()
    };
    let renderer = Renderer::new(None).unwrap();
    let text = renderer.render(Kind::Haproxy, &station).unwrap();
    let file = node.folder().join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let mut haproxy = tool("haproxy", "haproxy");
    haproxy.arg("-db").arg("-f").arg(&file);
    let haproxy = Program::start(haproxy);
    eventually("the source side leads to the node", async || {
        let from = Ipv4Addr::LOCALHOST.into();
        let mut peer = Peer::try_connect(from, sources).await.ok()?;
        peer.try_send(b"GET /healthz HTTP/1.0\r\n\r\n").await.ok()?;
        let answer = peer.rest().await;
        answer.starts_with(b"HTTP/1.0 200").then_some(())
    })
    .await;
    (haproxy, sources)
}

#[tokio::test]
async fn a_stranger_at_the_source_port_of_a_proxy_on_this_machine() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let (_haproxy, sources) = proxy(&scene.node).await;
    for path in ["/api/v1/drain", "/api/v1/resume"] {
        let (head, body) = ask(sources, post(path, "")).await;
        assert_eq!(head.status, 401, "{path}: {body}");
    }
    still_ready(&scene.node).await;
    scene.finish("drain through HAProxy's source port").await;
}

#[tokio::test]
async fn a_node_that_can_write_nothing_is_drained_by_its_socket_and_by_nothing_else() {
    let mut first = Plan::primary().start().await;
    assert!(first.terminate().await.success());
    let runtime = first.folder().join("runtime");
    std::fs::create_dir(&runtime).unwrap();
    let runtime = runtime.to_str().unwrap();
    let plan = first.plan().read_only().variable("TMPDIR", runtime);
    // The system's own place may be there or not: what the operator named comes first.
    let plan = plan.variable("RUNTIME_DIRECTORY", runtime);
    let node = plan.start().await;
    assert!(!node.data_dir().join("relayctl.sock").exists());
    let source = Source::start(&node, MOUNT).await;
    let scene = UnderAttack::of(node, Some(source)).await;
    let node = &scene.node;
    let (head, _) = ask(node.port, post("/api/v1/drain", "")).await;
    assert_eq!(head.status, 401);
    still_ready(node).await;
    let asked = async |words: &[&str]| {
        let mut command = node.words(words);
        command.env("RUNTIME_DIRECTORY", runtime);
        crate::harness::program::output_of(command).await
    };
    let status = String::from_utf8(asked(&["status"]).await).unwrap();
    assert!(status.contains("source live"), "{status}");
    asked(&["drain", "--local"]).await;
    assert_eq!(node.get("/readyz").await.0.status, 503);
    asked(&["resume", "--local"]).await;
    still_ready(node).await;
    // Without that variable nothing is found, and what is said names the places.
    let (code, said) = node.asked_in_vain(&["drain", "--local"]).await;
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("no node runs here") && said.contains("/run/relayctl"),
        "{said}"
    );
    scene.finish("a node on a read-only disk").await;
}
