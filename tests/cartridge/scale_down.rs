//! A gear is taken only when nobody listens there, by hand and by the autoscaler.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::balancer::Balancer;
use crate::gear::Gear;
use crate::harness::eventually;
use crate::harness::peer::Peer;
use crate::harness::program::tool;
use crate::harness::source::{listen, on_air};
use crate::harness::tone::FRAME;
use crate::platform::{Application, source};
use crate::station;

const MOUNT: &str = "/live.mp3";

/// A listener that came to this very gear.
async fn listener(gear: &Gear) -> Peer {
    on_air(gear.port, MOUNT).await;
    let (mut peer, head) = listen(gear.port, MOUNT).await;
    assert_eq!(head.get("x-relayctl-node"), Some(gear.uuid.as_str()));
    peer.exact(FRAME).await;
    peer
}

/// The head's row of a node.
async fn row(app: &Application, uuid: &str) -> Value {
    let nodes = app.head().nodes().await;
    let found = nodes.into_iter().find(|node| node["name"] == uuid);
    found.unwrap_or_default()
}

#[tokio::test]
async fn a_gear_that_plays_is_not_taken_and_one_that_is_empty_is() {
    let mut app = Application::new();
    let printed = app.create().await;
    let password = station::said(&printed, "Password of the source:");
    let _source = station::source(app.head(), &password).await;
    for _ in 0..2 {
        app.scale_up().await;
    }
    app.members(2).await;
    let mut balancer = Balancer::start(&app).await;
    balancer.update(&app).await;
    let mut guests = Vec::new();
    for gear in &app.gears {
        guests.push(listener(gear).await);
    }
    let newest = format!("gear-{}", app.gears[2].uuid);

    app.gears[2].set("OPENSHIFT_SCS_DRAIN_WAIT", "2s");
    let done = app.scale_down().await;
    assert_eq!((done.code, app.gears.len()), (1, 3), "{done:?}");
    assert!(done.out.contains("somebody still listens"), "{done:?}");
    // It plays on, takes nobody new, and the balancer leaves it out.
    guests[2].exact(500 * FRAME).await;
    assert_eq!(app.gears[2].page("/health").await.0, 503);
    assert_eq!(row(&app, &app.gears[2].uuid).await["state"], "draining");
    app.gears[2].control("status").await.fine();
    eventually("the balancer takes it out", async || {
        let states = balancer.states(&newest);
        states.last()?.starts_with("DOWN").then_some(())
    })
    .await;
    let (mut other, head) = listen(balancer.port, MOUNT).await;
    other.exact(FRAME).await;
    assert_ne!(
        head.get("x-relayctl-node"),
        Some(app.gears[2].uuid.as_str())
    );
    guests[2].exact(500 * FRAME).await;

    // The last one leaves, and the gear may go.
    drop(guests.pop());
    app.gears[2].set("OPENSHIFT_SCS_DRAIN_WAIT", "60s");
    let gone = app.gears[2].uuid.clone();
    let pid = app.gears[2].pid().unwrap();
    app.scale_down().await.fine();
    assert_eq!(app.gears.len(), 2);
    assert!(!std::path::Path::new(&format!("/proc/{pid}/root")).exists());
    balancer.update(&app).await;
    app.members(1).await;
    assert_ne!(row(&app, &gone).await["state"], "ready");
    for guest in &mut guests {
        guest.exact(500 * FRAME).await;
    }
    other.exact(FRAME).await;
    balancer.nobody_was_down_but(&[newest]);
}

/// The platform's words to its broker, as scripts that write down what the primary knows at that moment.
fn broker(folder: &std::path::Path) {
    let bin = folder.join("usr/bin");
    fs::create_dir_all(&bin).unwrap();
    for word in ["add-gear", "remove-gear"] {
        let script = format!(
            "#!/bin/sh\nrelayctl get nodes -o json >{0}/{word}.new && printf %s \"$*\" >{0}/{word}.words && mv {0}/{word}.new {0}/{word}\n",
            folder.display()
        );
        let file = bin.join(word);
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[tokio::test]
async fn the_autoscaler_adds_in_time_and_never_takes_a_gear_that_plays() {
    let mut app = Application::new();
    let printed = app.create().await;
    let password = station::said(&printed, "Password of the source:");
    let haproxy = tempfile::tempdir().unwrap();
    broker(haproxy.path());
    let head = app.head();
    for (name, value) in [
        ("RELAYCTL_MAX_LISTENERS", "4"),
        ("OPENSHIFT_HAPROXY_DIR", haproxy.path().to_str().unwrap()),
        ("OPENSHIFT_SCS_SCALER_PAUSE", "0.2"),
        ("OPENSHIFT_SCS_SCALER_CALM", "2"),
        ("OPENSHIFT_SCS_SCALER_DWELL", "0"),
    ] {
        head.set(name, value);
    }
    head.control("restart").await.fine();
    let _source = station::source(head, &password).await;
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(listener(head).await);
    }
    // As the platform starts it, from the application's repository.
    let hook = source().join("template/.openshift/action_hooks/haproxy_ctld.rb");
    let mut ruby = tool("ruby", "ruby");
    ruby.arg(hook);
    let _scaler = head.spawn(ruby);
    let record = |word: &str| -> Option<Value> {
        let text = fs::read_to_string(haproxy.path().join(word)).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    };
    eventually("a gear is asked for", async || record("add-gear")).await;
    let words = fs::read_to_string(haproxy.path().join("add-gear.words")).unwrap();
    assert_eq!(words.trim(), format!("-n  -a radio -u {}", app.head().uuid));

    app.scale_up().await;
    app.members(1).await;
    let member = &app.gears[1];
    let mut second = [listener(member).await, listener(member).await];
    eventually("the primary has heard of them", async || {
        (row(&app, &member.uuid).await["listeners"] == 2).then_some(())
    })
    .await;
    assert!(record("remove-gear").is_none());
    drop(first);
    eventually("the newest gear is drained", async || {
        (row(&app, &member.uuid).await["state"] == "draining").then_some(())
    })
    .await;
    for guest in &mut second {
        guest.exact(1000 * FRAME).await;
    }
    assert!(record("remove-gear").is_none(), "while two still listen");
    drop(second);
    let then = eventually("the empty gear is given back", async || {
        record("remove-gear")
    })
    .await;
    let nodes = then["nodes"].as_array().unwrap();
    let taken = nodes
        .iter()
        .find(|node| node["name"] == member.uuid.as_str())
        .unwrap();
    assert_eq!(
        (&taken["state"], &taken["listeners"]),
        (&"draining".into(), &0.into())
    );
}
