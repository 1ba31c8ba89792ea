//! Starting: from which settings, in what role, and what keeps a node from it.

use crate::harness::node::{Node, Plan};
use crate::harness::program::Program;

/// A node that does not start: its exit code and what it said.
async fn refused(plan: &Plan) -> (i32, String) {
    let mut program: Program = plan.spawn();
    let status = program.ended().await;
    (status.code().expect("an exit code"), program.stderr())
}

/// What Kubernetes injects for Services called `relayctl` and `relayctl-primary` is no setting.
#[tokio::test]
async fn in_the_environment_of_a_pod() {
    let mut plan = Plan::primary();
    for service in ["RELAYCTL", "RELAYCTL_PRIMARY"] {
        plan = plan
            .variable(&format!("{service}_SERVICE_HOST"), "10.96.0.12")
            .variable(&format!("{service}_SERVICE_PORT"), "8000")
            .variable(&format!("{service}_SERVICE_PORT_HTTP"), "8000")
            .variable(&format!("{service}_PORT"), "tcp://10.96.0.12:8000")
            .variable(&format!("{service}_PORT_8000_TCP"), "tcp://10.96.0.12:8000")
            .variable(&format!("{service}_PORT_8000_TCP_ADDR"), "10.96.0.12")
            .variable(&format!("{service}_PORT_8000_TCP_PORT"), "8000")
            .variable(&format!("{service}_PORT_8000_TCP_PROTO"), "tcp");
    }
    let node = plan.start().await;
    assert_eq!(node.get("/health").await.0.status, 200);
}

#[tokio::test]
async fn an_unknown_name_is_refused_with_the_nearest_known_one() {
    let (code, said) = refused(&Plan::primary().variable("RELAYCTL_MAX_LISTENRS", "5")).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("RELAYCTL_MAX_LISTENERS"), "{said}");
    let (code, said) = refused(&Plan::primary().yaml("max_listenrs: 5")).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("max_listeners"), "{said}");
}

#[tokio::test]
async fn what_is_not_built_yet_is_refused_with_that_reason() {
    let (code, said) = refused(&Plan::primary().yaml("admin_bind: 127.0.0.1:0")).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("not built yet"), "{said}");
}

async fn role(node: &Node) -> String {
    let (_, body) = node.get("/health").await;
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    health["role"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn run_finds_its_role_in_the_environment() {
    let node = Plan::run().start().await;
    assert_eq!(role(&node).await, "primary");
    assert!(node.log().contains("primary because"), "{}", node.log());
    let relay = Plan::run()
        .variable("RelayServer", "127.0.0.1")
        .variable("RelayPort", &node.port.to_string())
        .variable("RELAYCTL_TOKEN", &node.secret("join-token"));
    let relay = relay.start().await;
    assert_eq!(role(&relay).await, "relay");
    assert!(relay.log().contains("RelayServer"), "{}", relay.log());
    crate::harness::eventually("the relay has joined", async || {
        (relay.get("/readyz").await.0.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_nodes_never_share_a_data_directory() {
    let plan = Plan::primary();
    let node = plan.clone().start().await;
    let (code, said) = refused(&plan.flag("--name", "second")).await;
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains(&node.data_dir().display().to_string()),
        "{said}"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let node = Plan::primary().start().await;
    let (code, said) = refused(&Plan::primary().port(node.port)).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&node.port.to_string()), "{said}");
}

/// Made once, kept from other users, the same after a restart, and nowhere else.
#[tokio::test]
async fn secrets_are_made_once_and_shown_nowhere() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Plan::primary().start().await;
    let names = [
        "source-password",
        "admin-password",
        "relay-password",
        "join-token",
    ];
    let secrets: Vec<String> = names.iter().map(|name| node.secret(name)).collect();
    for name in names {
        let mode = std::fs::metadata(node.data_dir().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let (_, page) = node.get("/").await;
    let (_, metrics) = node.get("/metrics").await;
    for secret in &secrets {
        assert!(secret.len() >= 16, "{secret}");
        for text in [&node.printed(), &node.log(), &page, &metrics] {
            assert!(!text.contains(secret), "a secret is shown: {text}");
        }
    }
    let node = node.again().await;
    let after: Vec<String> = names.iter().map(|name| node.secret(name)).collect();
    assert_eq!(after, secrets);
}
