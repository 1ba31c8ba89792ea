//! Requests that a proxy before the node could read as others than the node does.

use crate::harness::node::Plan;
use crate::harness::peer::Peer;
use crate::harness::under_attack::UnderAttack;

/// Heads of which each hides a `GET /hidden` where it is read in another way than by RFC 9112.
const HEADS: [&str; 14] = [
    "GET /live.mp3 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET /live.mp3 HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET /health HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET /api/v1/openapi.json HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "GET /api/v1/openapi.json HTTP/1.1\r\n\r\n",
    "POST /cluster/v1/join HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /cluster/v1/join HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST /api/v1/drain HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /api/v1/drain HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET /live.mp3 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: a\r\nX: b\r\n Content-Length: 5\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: a\r\nX: b\rContent-Length: 5\r\n\r\n",
];

#[tokio::test]
async fn each_is_refused_and_ends_its_connection() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let mut asked = 0;
    for _ in 0..10 {
        for head in HEADS {
            let mut peer = Peer::connect(scene.node.port).await;
            peer.send(format!("{head}GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"))
                .await;
            let answer = String::from_utf8_lossy(&peer.rest().await).into_owned();
            assert!(answer.starts_with("HTTP/1."), "{head:?}: {answer}");
            assert_eq!(answer.get(9..12), Some("400"), "{head:?}: {answer}");
            assert_eq!(
                answer.matches("\r\nDate: ").count(),
                1,
                "{head:?}: {answer}"
            );
            asked += 1;
        }
    }
    assert_eq!(asked, 140);
    scene.node.refused("bad_host", 50.0).await;
    scene.node.refused("bad_framing", 60.0).await;
    let (_, report) = scene.finish("140 ambiguous requests").await;
    assert!(report.peak_mib < report.first_mib + 32, "{report:?}");
}

#[tokio::test]
async fn old_players_and_checks_go_on_without_a_host() {
    let node = Plan::primary().start().await;
    let source = crate::harness::source::Source::start(&node, "/live.mp3").await;
    for head in [
        "HEAD /live.mp3 HTTP/1.1\r\n\r\n",
        "OPTIONS / HTTP/1.0\r\n\r\n",
        "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /live.mp3.m3u HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /status-json.xsl HTTP/1.0\r\n\r\n",
    ] {
        let (answer, body) = crate::harness::peer::ask(node.port, head).await;
        assert!(answer.status < 300, "{head:?}: {} {body}", answer.status);
    }
    drop(source);
}
