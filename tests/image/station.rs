//! Three containers on a private network: a source, a listener who follows the redirect, and one that is killed.

use std::net::SocketAddr;

use serde_json::Value;

use crate::artefact::{IMAGE, engine};
use crate::docker::Docker;
use crate::harness::peer::{Head, Peer};
use crate::harness::source::{Framing, Source, source_head};
use crate::harness::{eventually, tone};
use crate::place::alone;

const MOUNT: &str = "/live.mp3";
const TOKEN: &str = "rctl1.00c0ffee.0123456789abcdef0123456789abcdef";
const PASSWORD: &str = "of-a-test-9876543210";

/// A container on the network `radio` under its name, as the compose file has them.
fn node(docker: &Docker, name: &str, words: &[&str]) {
    let (token, password) = (
        format!("RELAYCTL_TOKEN={TOKEN}"),
        format!("RELAYCTL_SOURCE_PASSWORD={PASSWORD}"),
    );
    let own = format!("RELAYCTL_NAME={name}");
    let mut all = vec!["--name", name, "--network", "radio", "--read-only"];
    all.extend(["--cap-drop=ALL", "--env", &token, "--env", &own]);
    if name == "primary" {
        all.extend(["--env", &password]);
    }
    all.push(IMAGE);
    all.extend(words);
    docker.start_container(&all);
}

/// A source from this side of the network, on air when this returns.
pub async fn source(to: SocketAddr, password: &str) -> Source {
    source_at(to, MOUNT, password).await
}

/// The same for any mount.
pub async fn source_at(to: SocketAddr, mount: &str, password: &str) -> Source {
    let mut peer = Peer::connect_to(to).await;
    let line = format!("PUT {mount} HTTP/1.1");
    peer.send(source_head(&line, password, "")).await;
    let head = peer.head().await;
    assert_eq!(head.status, 200, "{head:?}");
    Source::over(peer, Framing::Raw, 0)
}

/// Asks for the mount.
pub async fn knock(to: SocketAddr) -> (Peer, Head) {
    let mut peer = Peer::connect_to(to).await;
    peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: radio\r\n\r\n"))
        .await;
    let head = peer.head().await;
    (peer, head)
}

/// Hears the tone: whole frames of it, without a gap.
pub async fn hears(peer: &mut Peer) {
    let heard = peer.exact(tone::FRAME * 40).await;
    assert_eq!(tone::run(&heard).count, 40);
}

/// A listener who comes to the primary and goes where he is sent: to whom.
async fn listens(primary: SocketAddr) -> (Peer, SocketAddr) {
    let (target, location) = eventually("the primary sends a listener to a relay", async || {
        let (_, head) = knock(primary).await;
        let location = head.get("location")?.to_owned();
        let rest = location.strip_prefix("http://")?;
        let (authority, _) = rest.split_once('/')?;
        Some((authority.parse::<SocketAddr>().unwrap(), location))
    })
    .await;
    assert_ne!(target.ip(), primary.ip());
    let path = location.split_once(&target.to_string()).unwrap().1;
    let mut peer = Peer::connect_to(target).await;
    peer.send(format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n"))
        .await;
    let head = peer.head().await;
    assert_eq!(head.status, 200, "{head:?}");
    assert_eq!(head.get("content-type"), Some("audio/mpeg"));
    hears(&mut peer).await;
    (peer, target)
}

/// Waits until the primary calls so many relays ready, and they carry the mount.
async fn ready(docker: &Docker, relays: usize) {
    eventually(&format!("{relays} relays carry the mount"), async || {
        let words = ["exec", "primary", "/relayctl", "get", "nodes", "-o", "json"];
        let output = docker.command(&words).output().unwrap();
        let table: Value = serde_json::from_slice(&output.stdout).ok()?;
        let carries = |row: &&Value| {
            let mounts = row["mounts"].as_array();
            row["role"] == "relay"
                && row["state"] == "ready"
                && mounts.is_some_and(|all| all.iter().any(|own| own["name"] == MOUNT))
        };
        (table["nodes"].as_array()?.iter().filter(carries).count() == relays).then_some(())
    })
    .await;
}

#[test]
fn three_containers_play_and_one_that_is_killed_comes_back() {
    alone(async || {
        let docker = engine().await;
        docker.run(&["network", "create", "radio"]);
        node(&docker, "primary", &["primary"]);
        let join = ["join", "--primary", "http://primary:8000"];
        node(&docker, "relay-1", &join);
        node(&docker, "relay-2", &join);
        docker.healthy("primary").await;
        let primary = docker.address("primary", 8000);
        let _source = source(primary, PASSWORD).await;
        ready(&docker, 2).await;

        let (mut listener, at) = listens(primary).await;
        let relays = ["relay-1", "relay-2"];
        let [one, two] = relays.map(|name| docker.address(name, 8000));
        let (killed, left) = if at == one {
            ("relay-1", two)
        } else {
            assert_eq!(at, two);
            ("relay-2", one)
        };
        // No last word: the process is gone, and its listener with it.
        docker.run(&["kill", killed]);
        listener.rest().await;
        ready(&docker, 1).await;
        let (_again, at) = listens(primary).await;
        assert_eq!(at, left, "sent to a relay that is dead");

        docker.run(&["start", killed]);
        docker.healthy(killed).await;
        ready(&docker, 2).await;
        let (mut peer, head) = knock(docker.address(killed, 8000)).await;
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.get("x-relayctl-node"), Some(killed));
        hears(&mut peer).await;
        drop(peer);
        eventually("listeners are sent there again", async || {
            let (_listener, at) = listens(primary).await;
            (at == docker.address(killed, 8000)).then_some(())
        })
        .await;
    });
}
