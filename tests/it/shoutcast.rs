//! Shoutcast v1 sources: on the data port, where the first line is no HTTP, and on the port after it.

use crate::harness::node::Plan;
use crate::harness::peer::Peer;
use crate::harness::source::{Framing, Source, listen, on_air};
use crate::harness::tone::{self, FRAME};
use crate::harness::two_free_ports;

const FIELDS: &str =
    "icy-name:Old Wave\r\nicy-genre:surf\r\nicy-br:128\r\ncontent-type:audio/mpeg\r\n\r\n";

async fn welcomed(port: u16, line: &str) -> Peer {
    let mut peer = Peer::connect(port).await;
    peer.send(line).await;
    assert_eq!(peer.exact(20).await, b"OK2\r\nicy-caps:11\r\n\r\n");
    peer.send(FIELDS).await;
    peer
}

async fn plays(port: u16, mount: &str) {
    on_air(port, mount).await;
    let (mut listener, head) = listen(port, mount).await;
    assert_eq!(head.get("icy-name"), Some("Old Wave"));
    assert_eq!(head.get("icy-br"), Some("128"));
    tone::run(&listener.exact(10 * FRAME).await);
}

#[tokio::test]
async fn on_the_data_port() {
    let node = Plan::primary().start().await;
    for end in ["\r\n", "\n"] {
        let peer = welcomed(node.port, &format!("{}{end}", node.source_password())).await;
        let source = Source::over(peer, Framing::Raw, 0);
        plays(node.port, "/stream").await;
        drop(source);
    }
}

#[tokio::test]
async fn on_the_port_after_it() {
    let port = two_free_ports();
    let node = Plan::primary().port(port).start().await;
    let peer = welcomed(port + 1, &format!("{}\r\n", node.source_password())).await;
    let _source = Source::over(peer, Framing::Raw, 0);
    plays(node.port, "/stream").await;
}

#[tokio::test]
async fn at_a_mount_of_the_settings_or_of_the_line() {
    let node = Plan::primary()
        .yaml("shoutcast:\n  mount: /old.mp3")
        .start()
        .await;
    let password = node.source_password();
    let peer = welcomed(node.port, &format!("{password}:#1\r\n")).await;
    let _by_setting = Source::over(peer, Framing::Raw, 0);
    plays(node.port, "/old.mp3").await;
    let peer = welcomed(node.port, &format!("/other.mp3:{password}\r\n")).await;
    let _by_line = Source::over(peer, Framing::Raw, 0);
    plays(node.port, "/other.mp3").await;
}

#[tokio::test]
async fn a_wrong_password_is_said_and_soon_few_more_are_compared() {
    let node = Plan::primary().start().await;
    let began = std::time::Instant::now();
    for _ in 0..50 {
        let mut peer = Peer::connect(node.port).await;
        peer.send("letmein\r\n").await;
        assert_eq!(peer.rest().await, b"invalid password\r\n");
    }
    // Five for nothing, then one a second.
    let compared = node
        .metric("relayctl_guesses_total", "door=\"shoutcast\"")
        .await;
    let most = 6.0 + began.elapsed().as_secs_f64();
    assert!(
        (5.0..=most).contains(&compared),
        "{compared} of 50 were compared"
    );
    // The right one has such a turn as well, so that nobody is kept out by the address that he shares.
    let right = format!("{}\r\n", node.source_password());
    crate::harness::eventually("the right password is heard", async || {
        let mut peer = Peer::connect(node.port).await;
        peer.send(&right).await;
        (peer.exact(3).await == b"OK2").then_some(())
    })
    .await;
    // Another address is another person.
    let mut other = Peer::connect_from(crate::harness::address(7), node.port).await;
    other.send(&right).await;
    assert_eq!(other.exact(5).await, b"OK2\r\n");
}

#[tokio::test]
async fn the_poke_of_libshout_is_dropped() {
    let node = Plan::primary().start().await;
    let mut peer = Peer::connect(node.port).await;
    peer.send("!POKE\nicy-name:libshout server poke request\n\n")
        .await;
    assert_eq!(peer.rest().await, b"");
}

#[tokio::test]
async fn a_mount_in_use_is_said() {
    let node = Plan::primary().start().await;
    let password = node.source_password();
    let _source = Source::start(&node, "/stream").await;
    let mut peer = welcomed(node.port, &format!("{password}\r\n")).await;
    let said = String::from_utf8(peer.rest().await).unwrap();
    assert!(said.contains("in use"), "{said}");
}
