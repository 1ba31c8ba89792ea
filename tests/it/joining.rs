//! Becoming a member: with which token, and at which URL.

use crate::harness::cluster::{Cluster, follow, nodes_of};
use crate::harness::node::{Node, Plan};
use crate::harness::source::{Source, on_air};
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually, two_free_ports};

const MOUNT: &str = "/live.mp3";

/// Waits until a node has said all of `words` in one line of its log.
async fn says(node: &Node, words: &[&str]) -> String {
    eventually(&format!("the log says {words:?}"), async || {
        let log = node.log();
        let mut lines = log.lines();
        let line = lines.find(|line| words.iter().all(|word| line.contains(word)));
        line.map(str::to_owned)
    })
    .await
}

/// Waits until a node has joined and knows the table.
async fn joined(node: &Node) {
    eventually("it has joined", async || {
        (node.get("/readyz").await.0.status == 200).then_some(())
    })
    .await;
}

/// Nobody answers at the URL that it advertises: the primary sends nobody there, and everybody who looks is told the
/// URL, the error and the flag.
#[tokio::test]
async fn a_relay_that_advertises_a_bad_url_gets_nobody() {
    let primary = Plan::primary().name("head").start().await;
    let _source = Source::start(&primary, MOUNT).await;
    let bad = format!("http://127.0.0.1:{}", two_free_ports());
    let relay = Plan::relay(&primary)
        .name("hidden")
        .flag("--public-url", &bad)
        .start()
        .await;
    // `join` says it.
    let line = says(&relay, &["joined, but", &bad, "--public-url"]).await;
    // Not what was found there: whoever has a join token could look around in the primary's network.
    assert!(
        line.contains("does not answer there as this node"),
        "{line}"
    );
    assert!(!line.to_lowercase().contains("refused"), "{line}");
    says(&primary, &["cannot be fetched at its URL", &bad, "refused"]).await;
    // It has the mount: only the URL stands in the way.
    on_air(relay.port, MOUNT).await;
    let row = eventually("the table has it as unreachable", async || {
        let rows = nodes_of(&primary).await;
        let row = rows.into_iter().find(|row| row["name"] == "hidden")?;
        (row["state"] == "unreachable").then_some(row)
    })
    .await;
    assert_eq!(row["public_url"], bad.as_str());
    let told_by = |text: &str, words: &[&str]| {
        for word in words {
            assert!(text.to_lowercase().contains(word), "no `{word}`: {text}");
        }
    };
    let told = |text: &str| told_by(text, &[bad.as_str(), "refused", "--public-url"]);
    told(row["trouble"].as_str().expect("trouble"));
    for words in [&["status"][..], &["get", "nodes"]] {
        told(&primary.asked(words).await);
        let seen = async || {
            let said = relay.asked(words).await;
            said.contains("unreachable").then_some(said)
        };
        let said = eventually("the relay knows it of itself", seen).await;
        told_by(&said, &[bad.as_str(), "--public-url"]);
        assert!(!said.to_lowercase().contains("refused"), "{said}");
    }
    for n in 0..5 {
        let mut guest = follow(address(n), primary.port, MOUNT, "").await;
        assert_eq!(guest.port, primary.port, "sent away");
        tone::run(&guest.peer.exact(FRAME).await);
    }
    // Whoever comes to the relay itself is served: it is healthy.
    let guest = follow(address(9), relay.port, MOUNT, "").await;
    assert_eq!(guest.port, relay.port);
}

/// Another node answers at the URL: that is no better.
#[tokio::test]
async fn a_relay_that_advertises_another_nodes_url_gets_nobody() {
    let cluster = Cluster::start(1).await;
    let other = cluster.relays[0].url();
    let relay = Plan::relay(&cluster.primary)
        .name("confused")
        .flag("--public-url", &other)
        .start()
        .await;
    let line = says(&relay, &["joined, but", &other]).await;
    assert!(
        line.contains("does not answer there as this node"),
        "{line}"
    );
    let said = cluster.primary.asked(&["get", "nodes"]).await;
    assert!(said.contains("another node answers there"), "{said}");
}

#[tokio::test]
async fn a_token_that_was_made_serves_one_relay() {
    let primary = Plan::primary().start().await;
    let made = primary.asked(&["token", "create", "--scope", "join"]).await;
    let token = made.trim();
    let id = token.split('.').nth(1).expect("an id");
    let first = Plan::joining(primary.port, token)
        .name("first")
        .start()
        .await;
    joined(&first).await;
    // The operator sees who used it, and not its secret.
    let list = primary.asked(&["token", "list"]).await;
    let row = list.lines().find(|line| line.starts_with(id));
    let row = row.unwrap_or_else(|| panic!("no `{id}` in {list}"));
    let rows = nodes_of(&primary).await;
    let used_by = rows.iter().find(|row| row["name"] == "first").unwrap()["id"].clone();
    assert!(row.contains(used_by.as_str().unwrap()), "{row}");
    assert!(!list.contains(token), "{list}");
    let second = Plan::joining(primary.port, token)
        .name("second")
        .start()
        .await;
    let line = says(&second, &["not joined yet", id, "serves once and was used"]).await;
    assert!(
        line.contains("relayctl token create --scope join"),
        "{line}"
    );
    assert!(!line.contains(token), "a secret in the log: {line}");
    primary.refused("join_token", 1.0).await;
    assert!(
        nodes_of(&primary)
            .await
            .iter()
            .all(|row| row["name"] != "second")
    );
    // The one that used it may come again, whichever of the two was restarted.
    let primary = primary.again().await;
    let first = first.again().await;
    joined(&first).await;
    assert_eq!(nodes_of(&primary).await.len(), 2);
}

#[tokio::test]
async fn a_token_that_was_revoked_serves_nobody() {
    let primary = Plan::primary().start().await;
    let made = primary.asked(&["token", "create", "--scope", "join"]).await;
    let token = made.trim();
    let id = token.split('.').nth(1).expect("an id");
    let said = primary.asked(&["token", "revoke", id]).await;
    assert_eq!(said, format!("token {id} revoked\n"));
    let relay = Plan::joining(primary.port, token).start().await;
    says(&relay, &["not joined yet", id, "revoked"]).await;
    let (code, said) = primary.asked_in_vain(&["token", "revoke", id]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(id), "{said}");
    // One that only reads is no ticket either.
    let made = primary.asked(&["token", "create", "--scope", "read"]).await;
    let relay = Plan::joining(primary.port, made.trim()).start().await;
    says(
        &relay,
        &["not joined yet", "has scope read, but join is needed"],
    )
    .await;
}
