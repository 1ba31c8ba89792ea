//! `ready` is said when it is true: a relay that is no member says that it waits, for whom and why.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use serde_json::Value;

use crate::harness::cluster::api;
use crate::harness::eventually;
use crate::harness::node::{Node, Plan, relayctl};
use crate::harness::program::{Program, tool};
use crate::harness::two_free_ports;

const TOKEN: &str = "a-token-that-the-operator-gave-both-of-them";

/// Waits until a command says all of `words`.
async fn asked(node: &Node, command: &[&str], words: &[&str]) -> String {
    eventually(&format!("{command:?} says {words:?}"), async || {
        let said = node.asked(command).await;
        words.iter().all(|word| said.contains(word)).then_some(said)
    })
    .await
}

/// The body of `/health`, which is 200.
async fn health(node: &Node) -> Value {
    let (head, body) = node.get("/health").await;
    assert_eq!(head.status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn a_relay_says_that_it_waits_until_it_has_joined() {
    let port = two_free_ports();
    let relay = Plan::joining(port, TOKEN).name("early").start().await;
    let url = format!("http://127.0.0.1:{port}/");
    let waiting = format!("waiting to join {url}: cannot reach {url}");
    let printed = relay.printed();
    assert!(
        printed.starts_with(&format!("relayctl: {waiting}")),
        "{printed}"
    );
    assert!(!printed.contains("ready"), "{printed}");
    assert!(
        relay
            .log()
            .contains("not joined yet, trying on: cannot reach")
    );
    asked(
        &relay,
        &["status"],
        &["(relay) is waiting to join", &waiting],
    )
    .await;
    asked(
        &relay,
        &["get", "events"],
        &["waiting_to_join", "cannot reach"],
    )
    .await;
    let body = health(&relay).await;
    assert_eq!(body["membership"], "waiting to join");
    assert_eq!(body["primary"], url.as_str());
    let reason = body["reason"].as_str().unwrap();
    assert!(reason.contains("see that the primary runs"), "{reason}");
    // It is said again.
    eventually("the warning comes again", async || {
        (relay.log().matches("not joined yet").count() >= 2).then_some(())
    })
    .await;

    let primary = Plan::primary().port(port).flag("--token", TOKEN);
    let primary = primary.start().await;
    relay.is_ready().await;
    let body = health(&relay).await;
    assert_eq!(body.get("membership"), None);
    let said = asked(&relay, &["status"], &["(relay) is up"]).await;
    assert!(!said.contains("waiting to join"), "{said}");
    // The primary hears of it as well.
    asked(&primary, &["get", "events"], &["waiting_to_join", "early"]).await;
}

#[tokio::test]
async fn a_refused_join_is_told_on_both_sides_and_goes_on_as_a_service() {
    let primary = Plan::primary().start().await;
    let relay = Plan::joining(primary.port, "no-such-token-at-all").name("r9");
    let mut relay = relay.start().await;
    let printed = relay.printed();
    assert!(
        printed.starts_with("relayctl: waiting to join "),
        "{printed}"
    );
    assert!(printed.contains("answered 401"), "{printed}");
    let line = "`relayctl token show join` on the primary prints one";
    assert!(printed.contains(line), "{printed}");
    primary.refused("join_token", 3.0).await;
    assert!(relay.is_running(), "{}", relay.log());
    asked(
        &primary,
        &["status"],
        &[
            "the join of a node called `r9` from 127.0.0.1 was refused",
            "token show join",
        ],
    )
    .await;
    let events = api(&primary, "events").await;
    let refused: Vec<_> = events
        .iter()
        .filter(|event| event["kind"] == "join_refused")
        .collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0]["who"], "r9");
    assert_eq!(refused[0]["address"], "127.0.0.1");
    // One line for the peer, however often it tries.
    let log = primary.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("join refused"))
        .collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("r9"),
        "{lines:?}"
    );
}

/// Runs `relayctl join` on a terminal to its end; its exit code and what it said.
async fn on_a_terminal(primary: &str, token: &str, more: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("token"), folder.path().join("data"));
    std::fs::write(&file, token).unwrap();
    let built = relayctl();
    let line = format!(
        "{} join --bind 127.0.0.1:0 --primary {primary} --token @{} --data-dir {} {more}",
        built.get_program().display(),
        file.display(),
        data.display()
    );
    let mut script: Command = tool("script", "bsdutils");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut program = Program::start(script);
    let status = program.ended().await;
    (status.code().expect("an exit code"), program.stdout())
}

#[tokio::test]
async fn on_a_terminal_a_refusal_that_nothing_changes_ends_it() {
    let primary = Plan::primary().name("head").start().await;
    let token = primary.secret("join-token");
    let first = Plan::relay(&primary).name("taken").start().await;
    first.is_ready().await;
    let url = primary.url();
    let (code, said) = on_a_terminal(&url, "no-such-token-at-all", "").await;
    assert_eq!(code, 4, "{said}");
    assert!(
        said.contains("relayctl: not joined: ") && said.contains("answered 401"),
        "{said}"
    );
    let (code, said) = on_a_terminal(&url, &token, "--name taken").await;
    assert_eq!(code, 4, "{said}");
    assert!(
        said.contains("answered 409") && said.contains("--name"),
        "{said}"
    );
    // Nothing is sent: the address is one of documentation, where nobody answers.
    let (code, said) = on_a_terminal("http://203.0.113.1:8000", &token, "").await;
    assert_eq!(code, 2, "{said}");
    let why = "203.0.113.1 is no private address, so the join token would travel over the Internet in clear text";
    assert!(said.contains(why), "{said}");
    assert!(
        said.contains("https://") && said.contains("--insecure-join"),
        "{said}"
    );
    assert!(!said.contains("ready"), "{said}");
}

/// A service that is told so goes on, and is ready for systemd, since its port answers.
#[tokio::test]
async fn systemd_is_told_that_the_port_answers_and_what_it_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let relay = Plan::joining_at("http://203.0.113.1:8000", TOKEN);
    let mut relay = relay
        .variable("NOTIFY_SOCKET", path.to_str().unwrap())
        .start()
        .await;
    let mut told = String::new();
    eventually("systemd hears of it", async || {
        let mut bytes = [0; 4096];
        while let Ok(length) = socket.recv(&mut bytes) {
            told.push_str(&String::from_utf8_lossy(&bytes[..length]));
            told.push('\n');
        }
        let waits = "STATUS=relay, waiting to join http://203.0.113.1:8000/: ";
        (told.contains("READY=1") && told.contains(waits)).then_some(())
    })
    .await;
    assert!(relay.is_running(), "{}", relay.log());
}
