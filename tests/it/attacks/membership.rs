//! Members who take another's place, who stay after they were removed, and who use what they know beyond their rights.

use serde_json::{Value, json};

use super::member::{Keys, beat, credential, join, member, post, report, request};
use crate::harness::cluster::{Cluster, api, nodes_of};
use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Peer, ask, get};
use crate::harness::source::{Source, listen, on_air};
use crate::harness::under_attack::{MOUNT, UnderAttack};

/// Memory that thousands of joins may cost, in MiB.
const MEMORY: u64 = 64;

/// The id of a relay as everybody reads it.
async fn public_id(node: &Node) -> String {
    let (_, text) = get(node.port, "/health").await;
    let health: Value = serde_json::from_str(&text).unwrap();
    health["node"].as_str().unwrap().to_owned()
}

/// A bearer's answer to a GET.
async fn fetch(port: u16, path: &str, bearer: &str, more: &str) -> u16 {
    let mut peer = Peer::connect(port).await;
    peer.send(format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {bearer}\r\n{more}\r\n"
    ))
    .await;
    peer.head().await.status
}

/// The reproduction: a join token, the public id, a newer incarnation and another URL.
#[tokio::test]
async fn nobody_takes_the_place_of_a_live_relay() {
    let mut cluster = Cluster::start(1).await;
    let source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let relay = cluster.relays.remove(0);
    let id = public_id(&relay).await;
    let url = relay.url();
    let scene = UnderAttack::of(relay, Some(source)).await;
    let primary = cluster.primary;
    let made = primary.asked(&["token", "create", "--scope", "join"]).await;
    let evil = member(&primary, "evil").await;
    let mut takes = request(&id);
    takes["name"] = json!("relay-0");
    takes["incarnation"] = json!(
        u64::try_from(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_millis()
        )
        .unwrap()
            + 1_000
    );
    for token in [primary.secret("join-token"), made.trim().to_owned()] {
        for shown in [
            "",
            &format!("X-Relayctl-Credential: {evil}\r\n"),
            "X-Relayctl-Credential: rcn1.x.00\r\n",
        ] {
            let (status, answer) = post(&primary, "/cluster/v1/join", &token, shown, &takes).await;
            assert_eq!(status, 409, "{answer}");
            let error = answer["error"].as_str().unwrap();
            assert!(
                error.contains("is a member already") && error.contains("relayctl forget"),
                "{error}"
            );
        }
    }
    primary.refused("known_id", 6.0).await;
    // The one-time token was not used up by the tries.
    let (status, answer) = join(&primary, made.trim(), &request("honest")).await;
    assert_eq!(status, 200, "{answer}");
    let rows = nodes_of(&primary).await;
    let row = rows.iter().find(|row| row["id"] == id.as_str()).unwrap();
    assert_eq!(
        (&row["state"], &row["public_url"]),
        (&json!("ready"), &json!(url))
    );
    let (relay, _) = scene.finish("a take-over by join token").await;
    // The real one comes back by the credential that it kept, whatever becomes of its token, and so after a restart
    // of the primary, which has not heard of it yet.
    let primary = primary.again().await;
    let (status, answer) = join(&primary, &primary.secret("join-token"), &takes).await;
    assert_eq!(status, 409, "{answer}");
    let relay = relay.again().await;
    eventually("it is a member again", async || {
        (relay.get("/readyz").await.0.status == 200).then_some(())
    })
    .await;
}

/// Whoever reports, follows the feed and pulls a stream hears nothing more from the moment of the order.
#[tokio::test]
async fn a_barred_node_loses_credential_feed_and_streams_at_once() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let primary = &scene.node;
    let other = Plan::relay(primary).name("other").start().await;
    on_air(other.port, MOUNT).await;
    let leaver = Plan::relay(primary).name("leaver").start().await;
    on_air(leaver.port, MOUNT).await;
    let made = primary.asked(&["token", "create", "--scope", "join"]).await;
    let token_id = made.split('.').nth(1).unwrap().to_owned();
    let (_, answer) = join(primary, made.trim(), &request("spy")).await;
    let spy = credential(&answer);
    assert_eq!(beat(primary, &spy, &report("spy", 1)).await.0, 200);
    let mut feed = Peer::connect(primary.port).await;
    let head = format!(
        "GET /cluster/v1/feed HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {spy}\r\n\r\n"
    );
    feed.send(head).await;
    assert_eq!(feed.head().await.status, 200);
    let mut stream = Peer::connect(primary.port).await;
    let path = format!("/cluster/v1/stream{MOUNT}");
    stream
        .send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Relayctl-Node: spy\r\nAuthorization: Bearer {spy}\r\n\r\n"))
        .await;
    assert_eq!(stream.head().await.status, 200);
    // And one of a relay, by a mark under the key of the cluster, once its primary has told it of the member.
    let keys = Keys::of(&answer);
    let mut nonce = 0_u64;
    let mut of_relay = eventually("the relay feeds the spy", async || {
        nonce += 1;
        let mut stream = Peer::connect(other.port).await;
        let mark = keys.mark('c', nonce, "spy");
        stream
            .send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Relayctl-Node: spy\r\nAuthorization: Bearer {mark}\r\n\r\n"))
            .await;
        (stream.head().await.status == 200).then_some(stream)
    })
    .await;
    // Revoking its token says what is left to do.
    let said = primary.asked(&["token", "revoke", &token_id]).await;
    assert!(said.contains("relayctl forget spy --bar"), "{said}");
    let said = primary.asked(&["forget", "spy", "--bar"]).await;
    assert!(said.contains("barred"), "{said}");
    let heard = feed.rest().await;
    let heard = String::from_utf8_lossy(&heard);
    assert!(
        !heard.contains("\"version\":2,\"keys\""),
        "the spy has the new key"
    );
    stream.rest().await;
    of_relay.rest().await;
    let mark = keys.mark('c', nonce + 1, "spy");
    // The key has gone, so to the relay it is a credential that only a primary can judge.
    let again = fetch(other.port, &path, &mark, "X-Relayctl-Node: spy\r\n").await;
    assert!([403, 421].contains(&again), "{again}");
    assert_eq!(beat(primary, &spy, &report("spy", 2)).await.0, 403);
    assert_eq!(fetch(primary.port, "/cluster/v1/feed", &spy, "").await, 403);
    assert_eq!(
        fetch(primary.port, &path, &spy, "X-Relayctl-Node: spy\r\n").await,
        403
    );
    for token in [primary.secret("join-token"), made.trim().to_owned()] {
        let (status, _) = join(primary, &token, &request("spy")).await;
        assert!([401, 403].contains(&status), "{status}");
    }
    assert!(nodes_of(primary).await.iter().all(|row| row["id"] != "spy"));
    // A real relay: what it plays ends with its parents, and it says why it cannot come back.
    let id = public_id(&leaver).await;
    primary.asked(&["forget", "leaver", "--bar"]).await;
    eventually("it is told", async || {
        leaver.log().contains("is barred").then_some(())
    })
    .await;
    primary.refused("barred", 1.0).await;
    let listed = primary.asked(&["forget", "--list"]).await;
    assert!(listed.contains("spy") && listed.contains(&id), "{listed}");
    // Every other relay goes on, under the new key.
    on_air(other.port, MOUNT).await;
    let (node, report) = scene.finish("two barred nodes").await;
    assert!(report.peak_mib < report.first_mib + MEMORY, "{report:?}");
    // The bar outlives the primary, and ends when the operator says so.
    let primary = node.again().await;
    let (status, _) = join(&primary, &primary.secret("join-token"), &request("spy")).await;
    assert_eq!(status, 403);
    let said = primary.asked(&["forget", "leaver", "--unbar"]).await;
    assert!(said.contains("may join again"), "{said}");
    eventually("it is a member again", async || {
        (leaver.get("/readyz").await.0.status == 200).then_some(())
    })
    .await;
}

/// A node that lost its credential: the operator forgets it, and it joins anew.
#[tokio::test]
async fn a_forgotten_node_joins_anew_and_its_old_credential_is_worth_nothing() {
    let primary = Plan::primary().start().await;
    let old = member(&primary, "r1").await;
    assert_eq!(beat(&primary, &old, &report("r1", 1)).await.0, 200);
    let token = primary.secret("join-token");
    assert_eq!(join(&primary, &token, &request("r1")).await.0, 409);
    let (code, said) = primary.asked_in_vain(&["forget", "nobody"]).await;
    assert_eq!(code, 1, "{said}");
    primary.asked(&["forget", "r1"]).await;
    assert_eq!(beat(&primary, &old, &report("r1", 2)).await.0, 401);
    let new = member(&primary, "r1").await;
    assert_ne!(old, new);
    assert_eq!(beat(&primary, &old, &report("r1", 3)).await.0, 401);
    assert_eq!(beat(&primary, &new, &report("r1", 4)).await.0, 200);
    let primary = primary.again().await;
    assert_eq!(beat(&primary, &old, &report("r1", 5)).await.0, 401);
    assert_eq!(beat(&primary, &new, &report("r1", 6)).await.0, 200);
}

/// Every node has the cluster's key. It opens neither the listeners of another node nor its streams under a made-up id.
#[tokio::test]
async fn what_a_node_knows_opens_nothing_of_another() {
    let mut cluster = Cluster::start(1).await;
    let source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let relay = cluster.relays.remove(0);
    let scene = UnderAttack::of(relay, Some(source)).await;
    let primary = cluster.primary;
    let (_, answer) = join(&primary, &primary.secret("join-token"), &request("evil")).await;
    let keys = Keys::of(&answer);
    let old = |letter: char| keys.old_mark(letter);
    let mark = |letter: char, nonce: u64, who: &str| keys.mark(letter, nonce, who);
    let port = scene.node.port;
    let evil = credential(&answer);
    for bearer in [old('n'), mark('n', 1, ""), mark('c', 1, "evil"), evil] {
        assert_eq!(
            fetch(port, "/cluster/v1/listeners?limit=10", &bearer, "").await,
            401
        );
        let kick = format!(
            "POST /cluster/v1/kick?id=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(ask(port, kick).await.0.status, 401);
    }
    let path = format!("/cluster/v1/stream{MOUNT}");
    for ghost in ["ghost", "evil2"] {
        let more = format!("X-Relayctl-Node: {ghost}\r\n");
        assert_eq!(fetch(port, &path, &mark('c', 2, ghost), &more).await, 403);
        assert_eq!(
            fetch(primary.port, &path, &mark('c', 3, ghost), &more).await,
            401
        );
    }
    // The primary itself is answered, and its question is signed for this node.
    // (`evil` answers nobody, so the list is not called whole.)
    let listed = api(&primary, "listeners").await;
    assert_eq!(listed.len(), 50, "{listed:?}");
    // A probe's mark: for one path, once, and one listener of a mount at a time whatever else is signed.
    let play = async |token: String| {
        let mut peer = Peer::connect(port).await;
        peer.send(format!(
            "GET {MOUNT}?rt={token} HTTP/1.1\r\nHost: x\r\n\r\n"
        ))
        .await;
        (peer.head().await.status, peer)
    };
    let probe = mark('p', 1, MOUNT);
    let (status, first) = play(probe.clone()).await;
    assert_eq!(status, 200);
    for token in [probe, mark('p', 2, MOUNT), mark('p', 3, MOUNT)] {
        assert_eq!(play(token).await.0, 503);
    }
    assert_eq!(scene.node.metric("relayctl_listeners", "").await, 50.0);
    // Any other one is a listener like everybody, and counted.
    let mut counted = Vec::new();
    for token in [
        old('p'),
        mark('p', 4, "/health"),
        mark('p', 5, "/other.mp3"),
    ] {
        let (status, peer) = play(token).await;
        assert_eq!(status, 200);
        counted.push(peer);
    }
    eventually("they are counted", async || {
        (scene.node.metric("relayctl_listeners", "").await == 53.0).then_some(())
    })
    .await;
    // The uncounted one is let go after seconds.
    let mut first = first;
    first.rest().await;
    let (_, report) = scene.finish("marks of another node").await;
    assert!(report.peak_mib < report.first_mib + MEMORY, "{report:?}");
}

/// Whoever has a join token sends 5,000 nodes that never report: a real relay joins all the same.
#[tokio::test]
async fn five_thousand_ghosts_keep_no_relay_out() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let token = scene.node.secret("join-token");
    let port = scene.node.port;
    let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
    let body = |number: u32| {
        let mut ghost = request(&format!("ghost-{number}"));
        ghost["public_urls"] = json!({"withheld": true});
        ghost.to_string()
    };
    for number in 0..5_000_u32 {
        let mut peer = Peer::connect_from([127, 0, 0, 2].into(), port).await;
        let body = body(number);
        let request = format!(
            "POST /cluster/v1/join HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let (head, _) = peer.ask(request).await;
        *statuses.entry(head.status).or_default() += 1;
        if head.status == 429 {
            assert!(head.get("retry-after").is_some());
        }
    }
    println!("answers by status: {statuses:?}");
    assert!(statuses[&429] > 4_000, "{statuses:?}");
    let relay = Plan::relay(&scene.node).name("real").start().await;
    eventually("the real one is a member", async || {
        (relay.get("/readyz").await.0.status == 200).then_some(())
    })
    .await;
    on_air(relay.port, MOUNT).await;
    let (mut peer, _) = listen(relay.port, MOUNT).await;
    peer.exact(4096).await;
    scene.node.refused("join_rate", 4_000.0).await;
    let (_, report) = scene.finish("5,000 ghosts").await;
    assert!(report.peak_mib < report.first_mib + MEMORY, "{report:?}");
}
