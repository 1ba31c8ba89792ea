//! Log lines that a stranger causes: joins, Shoutcast passwords.

use crate::harness::node::Plan;
use crate::harness::peer::Peer;
use crate::harness::under_attack::UnderAttack;

/// Attempts of each kind.
const TRIES: usize = 1000;

#[tokio::test]
async fn a_thousand_bad_joins_and_passwords() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let body = format!(
        r#"{{"v":1,"id":"{}","name":"x","incarnation":1,"version":"1","data_port":1,"limits":{{"max_listeners":1}}}}"#,
        "a".repeat(26)
    );
    let join = format!(
        "POST /cluster/v1/join HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer rctl1.no.such\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let before = scene.node.log().len();
    for _ in 0..TRIES {
        let mut peer = Peer::connect(scene.node.port).await;
        let (head, _) = peer.ask(&join).await;
        assert!([401, 403, 429].contains(&head.status), "{}", head.status);
        let mut peer = Peer::connect(scene.node.port).await;
        peer.send("wrong\r\n").await;
        peer.rest().await;
    }
    let (node, report) = scene.finish("2,000 refusals that are logged").await;
    let log = node.log();
    let lines = log[before..].lines().count();
    println!("{lines} lines, {} bytes", log.len() - before);
    // One line for each cause, and what else a node says in a while.
    assert!(lines < 20, "{lines} lines:\n{log}");
    // None of them is lost: what has no line has its count.
    node.refused("source_password", 1000.0).await;
    assert!(report.peak_mib < report.first_mib + 32, "{report:?}");
}
