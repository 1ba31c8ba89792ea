//! A station on the platform: source in, listener out, gears that come, go and start again, and no gear that lives
//! is ever down in the balancer's eyes.

use std::time::Duration;

use serde_json::Value;

use crate::balancer::Balancer;
use crate::gear::Gear;
use crate::harness::peer::{Head, Peer};
use crate::harness::source::{Framing, Source, listen, on_air, source_head};
use crate::harness::tone::{self, FRAME};
use crate::harness::{eventually, within};
use crate::platform::Application;

const MOUNT: &str = "/live.mp3";

/// A source by the head's own TCP endpoint, with the password that the installation printed.
pub async fn source(head: &Gear, password: &str) -> Source {
    let mut peer = Peer::connect(head.sources).await;
    peer.send(source_head("SOURCE /live.mp3 ICE/1.0", password, ""))
        .await;
    assert_eq!(peer.head().await.status, 200);
    Source::over(peer, Framing::Raw, 0)
}

/// What the installation says after `word`.
#[track_caller]
pub fn said(text: &str, word: &str) -> String {
    let line = text.lines().find_map(|line| line.split_once(word));
    line.unwrap_or_else(|| panic!("no {word:?} in {text}"))
        .1
        .trim()
        .to_owned()
}

/// A listener through the balancer, and the node that serves it.
async fn listener(balancer: &Balancer) -> (Peer, Head) {
    let (mut peer, head) = listen(balancer.port, MOUNT).await;
    tone::run(&peer.exact(20 * FRAME).await);
    (peer, head)
}

#[tokio::test]
async fn green_before_the_source_and_never_down() {
    let mut app = Application::new();
    let printed = app.create().await;
    let mut balancer = Balancer::start(&app).await;
    balancer.update(&app).await;
    let head = app.head();
    let (status, body) = head.page("/health").await;
    let health: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &health["role"], &health["source"]),
        (200, &"primary".into(), &"waiting".into())
    );

    // The source that could never connect: no balancer stands in its way.
    let password = said(&printed, "Password of the source:");
    let source = source(head, &password).await;
    on_air(balancer.port, MOUNT).await;
    let (mut first, told) = listener(&balancer).await;
    assert_eq!(told.get("x-relayctl-node"), Some(head.uuid.as_str()));

    // Two more gears, and a listener on each.
    for count in 1..=2 {
        app.scale_up().await;
        app.members(count).await;
        balancer.update(&app).await;
    }
    for gear in &app.gears {
        on_air(gear.port, MOUNT).await;
    }
    let mut guests = Vec::new();
    for _ in 0..6 {
        guests.push(listener(&balancer).await);
    }
    for gear in &app.gears {
        let own = guests
            .iter()
            .filter(|(_, head)| head.get("x-relayctl-node") == Some(gear.uuid.as_str()));
        assert_eq!(own.count(), 2, "the balancer spreads six over three");
    }

    for server in [
        "local-gear".to_owned(),
        format!("gear-{}", app.gears[2].uuid),
    ] {
        assert!(balancer.sessions(&server).await >= 2, "{server}");
    }

    // The head goes and comes back; the members' listeners hear nothing of it.
    let head = app.head();
    let before = head.pid();
    drop(source);
    head.control("restart").await.fine();
    assert_ne!(head.pid(), before);
    app.members(2).await;
    let _source = crate::station::source(app.head(), &password).await;
    for gear in &app.gears {
        on_air(gear.port, MOUNT).await;
    }
    for (guest, told) in &mut guests {
        if told.get("x-relayctl-node") != Some(app.head().uuid.as_str()) {
            // Still the same answer: more audio comes on the same connection.
            guest.exact(100 * FRAME).await;
        }
    }
    first.rest().await;
    on_air(balancer.port, MOUNT).await;
    listener(&balancer).await;
    balancer.nobody_was_down_but(&[]);
    assert!(balancer.states("local-gear").contains(&"UP".into()));
}

#[tokio::test]
async fn a_member_answers_before_it_knows_its_head() {
    let mut app = Application::new();
    app.create().await;
    let uuid = app.next_identifier();
    let gear = app.add(&uuid).await;
    gear.control("start").await.fine();
    assert_eq!(gear.page("/").await.0, 200);
    let (status, body) = gear.page("/health").await;
    let health: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &health["role"], &health["source"]),
        (200, &"relay".into(), &"waiting".into())
    );
    assert!(
        gear.log().contains("has no join token yet"),
        "{}",
        gear.log()
    );
    assert_eq!(gear.page("/readyz").await.0, 503);
    app.connect().await;
    app.members(1).await;
    // At the next change of the cluster the hook finds nothing new, and starts nothing again.
    let before = app.gears[1].pid();
    app.connect().await;
    assert_eq!(app.gears[1].pid(), before);
}

#[tokio::test]
async fn actions_work_on_head_and_member() {
    let mut app = Application::new();
    app.create().await;
    app.scale_up().await;
    app.members(1).await;
    for gear in &app.gears {
        let status = gear.control("status").await.fine();
        assert!(status.contains("relayctl runs"), "{status}");
        gear.control("reload").await.fine();
        eventually("the reload is in the log", async || {
            gear.log().contains("settings reloaded").then_some(())
        })
        .await;
        let dump = gear.control("threaddump").await.fine();
        assert!(dump.contains("relayctl.log"), "{dump}");
        assert!(
            gear.log().contains(&app.head().uuid),
            "nodes by name: {}",
            gear.log()
        );
        gear.control("tidy").await.fine();
        for build in [
            "pre-build",
            "build",
            "deploy",
            "post-deploy",
            "pre-snapshot",
            "post-restore",
        ] {
            gear.control(build).await.fine();
        }
        assert_eq!(gear.control("dance").await.code, 1);
        let again = gear.control("start").await.fine();
        assert!(again.contains("runs already"), "{again}");
    }
    for gear in app.gears.iter().rev() {
        gear.control("stop").await.fine();
        let status = gear.control("status").await;
        assert_eq!(status.code, 1);
        assert!(status.out.contains("does not run"), "{status:?}");
        // The port proxy of the node finds nobody behind it.
        let mut peer = Peer::connect(gear.port).await;
        assert_eq!(peer.rest().await, b"");
        gear.control("stop").await.fine();
    }
}

#[tokio::test]
async fn a_log_is_shortened_where_it_lies() {
    let mut app = Application::new();
    app.create().await;
    let head = app.head();
    let log = head.variable("OPENSHIFT_SCS_LOG_DIR") + "relayctl.log";
    let long: String = (0..5000).map(|line| format!("line {line}\n")).collect();
    std::fs::write(&log, long).unwrap();
    head.control("tidy").await.fine();
    assert_eq!(head.log().lines().count(), 2000);
    head.control("reload").await.fine();
    within(
        Duration::from_secs(30),
        "the node writes on at the end",
        async || {
            let text = head.log();
            let last = text.lines().last()?;
            (!text.contains('\0') && last.contains("settings reloaded")).then_some(())
        },
    )
    .await;
}
