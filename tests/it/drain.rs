//! Nodes that are emptied: by an operator, by their own machine, by a signal.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::harness::audience::Audience;
use crate::harness::cluster::{Cluster, Guest, api, follow};
use crate::harness::node::{Node, relayctl};
use crate::harness::peer::{Peer, ask};
use crate::harness::source::Source;
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually};

const MOUNT: &str = "/live.mp3";

/// `relayctl WORDS` at a node's own socket.
fn told(node: &Node, words: &[&str]) -> Command {
    let mut command = relayctl();
    command.args(words).arg("--data-dir").arg(node.data_dir());
    command
}

/// What it printed; it must end well.
async fn tell(node: &Node, words: &[&str]) -> String {
    let mut command = told(node, words);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

async fn row(cluster: &Cluster, name: &str) -> Option<Value> {
    let table = cluster.table().await;
    table.into_iter().find(|row| row["name"] == name)
}

async fn is_in_state(cluster: &Cluster, name: &str, state: &str) {
    eventually(&format!("{name} is {state}"), async || {
        let row = row(cluster, name).await?;
        (row["state"] == state).then_some(())
    })
    .await;
}

async fn ready_says(node: &Node, status: u16) {
    eventually(&format!("readyz says {status}"), async || {
        (node.get("/readyz").await.0.status == status).then_some(())
    })
    .await;
}

async fn kinds(node: &Node) -> Vec<String> {
    let events = api(node, "events").await;
    let kind = |event: &Value| event["kind"].as_str().unwrap().to_owned();
    events.iter().map(kind).collect()
}

async fn plays_on(guest: &mut Guest) {
    guest.peer.pending();
    guest.peer.exact(4 * FRAME).await;
}

#[tokio::test]
async fn an_operator_drains_a_relay_and_takes_it_back() {
    let mut cluster = Cluster::start(2).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let mut guests = Vec::new();
    for n in 0..6 {
        guests.push(follow(address(n), cluster.primary.port, MOUNT, "").await);
    }
    let port = cluster.relays[0].port;
    eventually("the table has them all", async || {
        let rows = cluster.table().await;
        let all = rows.iter().filter_map(|row| row["listeners"].as_u64());
        (all.sum::<u64>() == 6).then_some(())
    })
    .await;
    let said = tell(&cluster.primary, &["drain", "relay-0", "--detach"]).await;
    assert_eq!(said, "relay-0 takes nobody new: 3 of 3 listeners left\n");
    // At once: nobody new is sent there, whatever it has heard itself.
    for n in 10..14 {
        let guest = follow(address(n), cluster.primary.port, MOUNT, "").await;
        assert_ne!(guest.port, port);
    }
    ready_says(&cluster.relays[0], 503).await;
    assert_eq!(cluster.relays[0].get("/healthz").await.0.status, 200);
    assert_eq!(cluster.relays[0].get("/health").await.0.status, 503);
    is_in_state(&cluster, "relay-0", "draining").await;
    let drain = &row(&cluster, "relay-0").await.unwrap()["drain"];
    assert_eq!(
        (&drain["listeners_at_start"], &drain["listeners_left"]),
        (&3.into(), &3.into())
    );
    // A direct hit is sent on, by the relay's own table.
    let sent_on = follow(address(20), port, MOUNT, "").await;
    assert_ne!(sent_on.port, port);
    // Who was there stays.
    for guest in &mut guests {
        plays_on(guest).await;
    }
    // It lasts over restarts of the primary and of the relay.
    cluster.primary = cluster.primary.again().await;
    is_in_state(&cluster, "relay-0", "draining").await;
    let relay = cluster.relays.remove(0).again().await;
    cluster.relays.insert(0, relay);
    ready_says(&cluster.relays[0], 503).await;
    is_in_state(&cluster, "relay-0", "draining").await;
    let said = tell(&cluster.primary, &["resume", "relay-0"]).await;
    assert_eq!(said, "relay-0 takes newcomers again\n");
    ready_says(&cluster.relays[0], 200).await;
    is_in_state(&cluster, "relay-0", "ready").await;
    eventually("the primary tells of it", async || {
        let kinds = kinds(&cluster.primary).await;
        kinds.iter().any(|kind| kind == "resumed").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_spread_closes_everybody_and_the_command_follows_it() {
    let cluster = Cluster::start(1).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let mut guests = Vec::new();
    for n in 0..20 {
        guests.push(follow(address(n), cluster.primary.port, MOUNT, "").await);
    }
    eventually("the table has them all", async || {
        let row = row(&cluster, "relay-0").await?;
        (row["listeners"] == 20).then_some(())
    })
    .await;
    let (closed, mut order) = mpsc::unbounded_channel();
    for (n, mut guest) in guests.into_iter().enumerate() {
        let closed = closed.clone();
        tokio::spawn(async move {
            tone::run(&guest.peer.ended().await);
            closed.send(n).unwrap();
        });
    }
    let said = tell(&cluster.primary, &["drain", "relay-0", "--spread", "3s"]).await;
    println!("{said}");
    let first = "relay-0 takes nobody new: 20 of 20 listeners left, empty in about 3s\n";
    assert!(said.starts_with(first), "{said}");
    assert!(said.ends_with("relay-0 is empty\n"), "{said}");
    let mut closed = Vec::new();
    while closed.len() < 20 {
        closed.push(order.recv().await.unwrap());
    }
    // Neither in the order of their coming nor the other way round: of 190 pairs about half are turned.
    let pairs = (0..20).flat_map(|at| (at + 1..20).map(move |behind| (at, behind)));
    let turned = pairs
        .filter(|(at, behind)| closed[*behind] < closed[*at])
        .count();
    println!("closed in the order {closed:?}: {turned} pairs of 190 turned");
    assert!((25..=165).contains(&turned), "{turned}: {closed:?}");
    eventually("the primary's events say so", async || {
        let kinds = kinds(&cluster.primary).await;
        let has = |kind: &str| kinds.iter().any(|known| known == kind);
        (has("joined") && has("source_up") && has("drain_began") && has("drain_done")).then_some(())
    })
    .await;
    let listed = tell(&cluster.primary, &["get", "events"]).await;
    assert!(
        listed.contains("relay-0  drain_done who=relay-0\n"),
        "{listed}"
    );
}

#[tokio::test]
async fn a_hook_on_the_machine_needs_no_token() {
    let cluster = Cluster::start(1).await;
    let relay = &cluster.relays[0];
    let post = |more: &str| {
        format!(
            "POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n{more}\r\n"
        )
    };
    for more in ["", "X-Forwarded-For: 192.0.2.1\r\n"] {
        let (head, _) = ask(relay.port, post(more)).await;
        assert_eq!(head.status, 401, "loopback is no credential");
    }
    ready_says(relay, 200).await;
    let said = tell(relay, &["drain", "--local", "--wait", "20s"]).await;
    assert!(said.ends_with("this node is empty\n"), "{said}");
    assert_eq!(relay.get("/readyz").await.0.status, 503);
    is_in_state(&cluster, "relay-0", "draining").await;
    // Whoever drained it, the operator takes it back.
    tell(&cluster.primary, &["resume", "relay-0"]).await;
    ready_says(relay, 200).await;
    is_in_state(&cluster, "relay-0", "ready").await;
    tell(relay, &["drain", "--local"]).await;
    assert_eq!(relay.get("/readyz").await.0.status, 503);
    tell(relay, &["resume", "--local"]).await;
    assert_eq!(relay.get("/readyz").await.0.status, 200);
}

#[tokio::test]
async fn sigterm_lets_go_over_the_grace_and_says_goodbye() {
    let mut cluster = Cluster::start_with(1, "", "grace: 2s").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let mut guests = Vec::new();
    for n in 0..8 {
        guests.push(follow(address(n), cluster.primary.port, MOUNT, "").await);
    }
    let mut relay = cluster.relays.remove(0);
    let begin = std::time::Instant::now();
    assert!(relay.terminate().await.success());
    println!("ended after {:.2} s", begin.elapsed().as_secs_f64());
    for guest in &mut guests {
        tone::run(&guest.peer.rest().await);
    }
    let closed = relay.printed().matches("HTTP/1.1").count();
    assert_eq!(closed, 8, "{}", relay.printed());
    assert!(
        row(&cluster, "relay-0").await.is_none(),
        "its last word was not heard"
    );
    let kinds = kinds(&cluster.primary).await;
    assert!(kinds.iter().any(|kind| kind == "left"), "{kinds:?}");
    assert!(!kinds.iter().any(|kind| kind == "died"), "{kinds:?}");
}

/// Two hundred listeners, and ten more with each turn: none is sent to the one that drains, and none is closed.
#[tokio::test]
async fn ten_drains_and_resumes_lose_nobody() {
    let cluster = Cluster::start(3).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let (port, mut audience) = (cluster.primary.port, Audience::default());
    for n in 0..200 {
        let more = if n % 2 == 0 {
            ""
        } else {
            "Icy-MetaData: 1\r\n"
        };
        let guest = follow(address(n), port, MOUNT, more).await;
        audience.seat(guest.peer, &guest.head);
    }
    for turn in 0..10 {
        let name = format!("relay-{}", turn % 3);
        tell(&cluster.primary, &["drain", &name, "--detach"]).await;
        is_in_state(&cluster, &name, "draining").await;
        for n in 0..10 {
            let one = follow(address(1_000 + 10 * turn + n), port, MOUNT, "").await;
            assert_ne!(one.port, cluster.relays[usize::from(turn % 3)].port);
            audience.seat(one.peer, &one.head);
        }
        tell(&cluster.primary, &["resume", &name]).await;
        is_in_state(&cluster, &name, "ready").await;
    }
    let heard = audience.all_contiguous().await;
    assert_eq!(heard.listeners, 300);
    println!(
        "ten drains and resumes, {} listeners, none lost, {} frames without a gap; longest pause {:.3} s, with metadata \
         {:.3} s",
        heard.listeners,
        heard.frames,
        heard.longest.as_secs_f64(),
        heard.longest_with_metadata.as_secs_f64()
    );
}

#[tokio::test]
async fn a_relay_that_is_told_to_reflects_newcomers_and_keeps_its_listeners() {
    let cluster = Cluster::start(2).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let port = cluster.relays[0].port;
    let mut there = follow(address(1), port, MOUNT, "").await;
    assert_eq!(there.port, port);
    tell(&cluster.primary, &["reflect", "relay-0", "on"]).await;
    eventually("it sends direct hits on", async || {
        let guest = follow(address(2), port, MOUNT, "").await;
        (guest.port == cluster.relays[1].port).then_some(())
    })
    .await;
    plays_on(&mut there).await;
    let reflections = "relayctl_reflections_total";
    let counted = cluster.relays[0]
        .metric(reflections, "reason=\"forced\"")
        .await;
    assert!(counted >= 1.0, "{counted}");
    eventually("the primary tells of it", async || {
        let kinds = kinds(&cluster.primary).await;
        kinds.iter().any(|kind| kind == "reflected").then_some(())
    })
    .await;
    // Everybody is told to: then nobody has a place, and no client goes in circles.
    tell(&cluster.primary, &["reflect", "relay-1", "on"]).await;
    tell(&cluster.primary, &["reflect", "head", "on"]).await;
    eventually("all are full", async || {
        let request = format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (head, _) = ask(cluster.primary.port, request).await;
        (head.status == 503 && head.get("retry-after").is_some()).then_some(())
    })
    .await;
    tell(&cluster.primary, &["reflect", "relay-0", "auto"]).await;
    eventually("it takes newcomers again", async || {
        let request =
            format!("HEAD {MOUNT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut peer = Peer::connect(cluster.primary.port).await;
        peer.send(request).await;
        let head = peer.head().await;
        head.get("location")?
            .contains(&format!(":{port}/"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let mut cluster = Cluster::start_with(1, "", "grace: 1h").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let mut guest = follow(address(1), cluster.primary.port, MOUNT, "").await;
    let mut relay = cluster.relays.remove(0);
    relay.signal(Signal::TERM);
    ready_says(&relay, 503).await;
    plays_on(&mut guest).await;
    // Nobody waits for the hour.
    relay.terminate().await;
    // It may have heard all that there was.
    guest.peer.rest().await;
}
