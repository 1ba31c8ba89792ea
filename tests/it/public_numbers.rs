//! A primary's public numbers are those of the whole station, and hidden mounts are in no public list.

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::cluster::{Cluster, Guest, api, follow};
use crate::harness::node::Node;
use crate::harness::peer::ask;
use crate::harness::source::{Source, login};
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually};

const MOUNT: &str = "/live.mp3";

/// An answer to the operator.
async fn admin(node: &Node, path: &str) -> (u16, String) {
    let login = login("admin", &node.secret("admin-password"));
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{login}Connection: close\r\n\r\n");
    let (head, body) = ask(node.port, request).await;
    (head.status, body)
}

/// The mount in `/status-json.xsl`.
async fn public(node: &Node, mount: &str) -> Option<Value> {
    let (_, body) = node.get("/status-json.xsl?array=1").await;
    let all: Value = serde_json::from_str(&body).unwrap();
    let sources = all["icestats"]["source"].as_array().unwrap().clone();
    let is_it = |source: &Value| {
        let url = source["listenurl"].as_str().unwrap();
        url.ends_with(mount)
    };
    sources.into_iter().find(is_it)
}

/// Waits until the public is told of so many listeners.
async fn listeners(node: &Node, count: u64) -> Value {
    eventually(&format!("the public is told of {count}"), async || {
        public(node, MOUNT)
            .await
            .filter(|source| source["listeners"] == count)
    })
    .await
}

/// Listeners from one address each, some addresses twice.
async fn crowd(cluster: &Cluster, addresses: &[u16]) -> Vec<Guest> {
    let mut guests = Vec::new();
    for from in addresses {
        let guest = follow(address(*from), cluster.primary.port, MOUNT, "").await;
        assert_ne!(guest.port, cluster.primary.port, "served by the primary");
        guests.push(guest);
    }
    guests
}

/// All texts of an element in a document.
fn texts(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = xml.split(&open).skip(1);
    parts
        .map(|part| part.split(&close).next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_primary_tells_of_listeners_everywhere() {
    let of_primary = format!("mounts:\n  - path: {MOUNT}\n    max_listeners: 50\n  - path: /a.mp3");
    let cluster = Cluster::start_with(2, &of_primary, "").await;
    let primary = &cluster.primary;
    let held = Source::start(primary, "/a.mp3").await;
    let _source = Source::start(primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    held.finish().await;
    let mut guests = crowd(&cluster, &[1, 2, 3, 4, 4]).await;
    let source = listeners(primary, 5).await;
    assert_eq!(source["listener_peak"], 5);
    let relays = [&cluster.relays[0], &cluster.relays[1]];
    let mut own = 0.0;
    for relay in relays {
        own += relay
            .metric("relayctl_listeners", "{mount=\"/live.mp3\"}")
            .await;
    }
    assert_eq!(own, 5.0);

    let (status, stats) = admin(primary, "/admin/stats").await;
    assert_eq!(status, 200);
    for (name, value) in [
        ("listeners", "5"),
        ("listener_connections", "5"),
        ("clients", "6"),
    ] {
        assert_eq!(texts(&stats, name)[0], value, "{name} in {stats}");
    }
    assert_eq!(
        texts(&stats, "max_listeners"),
        ["unlimited", "50"],
        "{stats}"
    );
    for name in [
        "client_connections",
        "connections",
        "source_client_connections",
        "source_relay_connections",
        "source_total_connections",
    ] {
        let number: u64 = texts(&stats, name)[0].parse().unwrap();
        assert!(number >= 2, "{name} is {number}");
    }
    for name in [
        "file_connections",
        "stats",
        "stats_connections",
        "build",
        "sources",
    ] {
        assert_eq!(texts(&stats, name).len(), 1, "{name}");
    }
    let (status, answer) = admin(primary, "/admin/stats?mount=/nosuch").await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("Source does not exist"), "{answer}");
    let (_, one) = admin(primary, &format!("/admin/stats?mount={MOUNT}")).await;
    assert_eq!(one.matches("<source ").count(), 1);

    let (_, mounts) = admin(primary, "/admin/listmounts").await;
    assert_eq!(texts(&mounts, "listeners"), ["0", "5"], "{mounts}");
    // The first mount that is live, and not the first one.
    let (_, seven) = primary.get("/7.html").await;
    assert!(seven.starts_with("<html><body>5,1,5,50,"), "{seven}");
    let unique = eventually("the addresses are counted", async || {
        let (_, stats) = primary.get("/stats?sid=2&json=1").await;
        let stats: Value = serde_json::from_str(&stats).unwrap();
        (stats["uniquelisteners"] != 0).then_some(stats)
    })
    .await;
    // Two of one address are one where they are at one node, and two where they are at two.
    let one_node = guests[3].port == guests[4].port;
    assert_eq!(unique["uniquelisteners"], if one_node { 4 } else { 5 });
    assert_eq!(unique["streamhits"], 5);
    assert_eq!(unique["maxlisteners"], 50);
    let (_, page) = primary.get("/").await;
    assert!(page.contains("primary, 5 listening</small>"), "{page}");
    assert!(page.contains("live, 5 listening"), "{page}");
    let exported = primary.get("/metrics").await.1;
    let told = exported
        .lines()
        .find(|line| line.starts_with("icecast_listeners{") && line.contains("/live.mp3\""));
    assert!(told.unwrap().ends_with(" 5"), "{told:?}");
    assert_eq!(
        primary
            .metric("relayctl_listeners", "{mount=\"/live.mp3\"}")
            .await,
        0.0
    );

    // Each of them by an id that ends it, wherever it is.
    let (_, clients) = admin(primary, &format!("/admin/listclients?mount={MOUNT}")).await;
    assert_eq!(texts(&clients, "Listeners"), ["5"], "{clients}");
    let mut ips = texts(&clients, "IP");
    ips.sort();
    let mut wanted: Vec<String> = [1, 2, 3, 4, 4].map(|n| address(n).to_string()).into();
    wanted.sort();
    assert_eq!(ips, wanted);
    let ids = texts(&clients, "ID");
    let at = texts(&clients, "IP")
        .iter()
        .position(|ip| *ip == address(1).to_string());
    let id = &ids[at.unwrap()];
    let (_, wrong) = admin(primary, &format!("/admin/killclient?mount=/a.mp3&id={id}")).await;
    assert!(wrong.contains("not found</message><return>0"), "{wrong}");
    let (_, none) = admin(primary, &format!("/admin/killclient?mount={MOUNT}&id=1")).await;
    assert!(none.contains("Client 1 not found"), "{none}");
    let (_, killed) = admin(primary, &format!("/admin/killclient?mount={MOUNT}&id={id}")).await;
    assert!(
        killed.contains(&format!("Client {id} removed</message><return>1")),
        "{killed}"
    );
    guests[0].peer.ended().await;
    listeners(primary, 4).await;

    // As `relayctl kick` names it, too.
    let rows = api(primary, "listeners").await;
    let (at, number) = (rows[0]["node"].as_str().unwrap(), &rows[0]["id"]);
    let path = format!("/admin/killclient?mount={MOUNT}&id={at}/{number}");
    let (_, killed) = admin(primary, &path).await;
    assert!(killed.contains("<return>1</return>"), "{killed}");
    listeners(primary, 3).await;

    // The peak of the sum stays, and the totals do.
    drop(guests);
    let source = listeners(primary, 0).await;
    assert_eq!(source["listener_peak"], 5);
    let (_, stats) = admin(primary, "/admin/stats").await;
    assert_eq!(texts(&stats, "listener_connections"), ["5"]);
    let sent = texts(&stats, "total_bytes_sent");
    assert!(
        sent.iter().any(|bytes| bytes.parse::<u64>().unwrap() > 0),
        "{sent:?}"
    );
}

#[tokio::test]
async fn a_relay_that_dies_makes_no_peak() {
    let mut cluster = Cluster::start(2).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let guests = crowd(&cluster, &[1, 2, 3, 4, 5, 6]).await;
    listeners(&cluster.primary, 6).await;
    let lost = guests
        .iter()
        .filter(|guest| guest.port == cluster.relays[0].port);
    assert!(lost.count() > 0, "all went to one relay");
    cluster.relays[0].kill();
    let mut back = Vec::new();
    for (guest, from) in guests.into_iter().zip(1..) {
        if guest.port != cluster.relays[0].port {
            back.push(guest);
            continue;
        }
        let port = cluster.relays[1].port;
        back.push(follow(address(from), port, MOUNT, "").await);
    }
    eventually("the other relay has them all", async || {
        let count = cluster.relays[1].metric("relayctl_listeners", "{mount=\"/live.mp3\"}");
        (count.await == 6.0).then_some(())
    })
    .await;
    let source = eventually("the numbers settle", async || {
        let table = cluster.table().await;
        let dead = table
            .iter()
            .any(|row| row["name"] == "relay-0" && row["state"] == "dead");
        let source = public(&cluster.primary, MOUNT).await?;
        (dead && source["listeners"] == 6 && source["listener_peak"] == 6).then_some(source)
    })
    .await;
    assert_eq!(source["listener_peak"], 6);
    for guest in &mut back {
        tone::run(&guest.peer.exact(50 * FRAME).await);
    }
}

#[tokio::test]
async fn a_list_says_whose_listeners_are_missing() {
    let cluster = Cluster::start(1).await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    let _source = Source::start(primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let _guests = crowd(&cluster, &[1, 2]).await;
    listeners(primary, 2).await;
    relay.signal(Signal::STOP);
    let (status, clients) = admin(primary, &format!("/admin/listclients?mount={MOUNT}")).await;
    relay.signal(Signal::CONT);
    assert_eq!(status, 200);
    assert!(
        clients.contains("<!-- relay-0 did not answer: its listeners are missing here -->"),
        "{clients}"
    );
    assert_eq!(texts(&clients, "Listeners"), ["2"], "{clients}");
    assert!(
        primary
            .log()
            .contains("/admin/listclients is not whole: relay-0 did not answer")
    );
}

#[tokio::test]
async fn hidden_mounts_are_in_no_public_list() {
    let of_primary = "hold: 1s\nmounts:\n  - path: /a.mp3\n    hidden: true\n  - path: /b.mp3";
    let cluster = Cluster::start_with(1, of_primary, "").await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    let hidden = Source::start(primary, "/a.mp3").await;
    let _shown = Source::start(primary, "/b.mp3").await;
    cluster.on_air("/a.mp3").await;
    cluster.on_air("/b.mp3").await;
    let paths = [
        "/",
        "/status-json.xsl",
        "/status-json.xsl?mount=/a.mp3",
        "/listen.m3u",
        "/listen.pls",
        "/listen.xspf",
        "/7.html",
        "/stats",
        "/stats?sid=1&json=1",
        "/health/source",
    ];
    for node in [primary, relay] {
        for path in paths {
            let (head, body) = node.get(path).await;
            assert_eq!(head.status, 200, "{path}");
            assert!(!body.contains("/a.mp3"), "{path}: {body}");
        }
        let (_, body) = node.get("/stats?json=1").await;
        assert!(body.contains("\"streampath\":\"/b.mp3\""), "{body}");
        // Operators, metrics and who knows the path see it.
        for path in ["/admin/stats", "/admin/listmounts", "/api/v1/mounts"] {
            let (_, body) = admin(node, path).await;
            assert!(body.contains("/a.mp3"), "{path}: {body}");
        }
        assert!(node.get("/metrics").await.1.contains("mount=\"/a.mp3\""));
        let (head, list) = node.get("/a.mp3.m3u").await;
        assert!(head.status == 200 && list.contains("/a.mp3"), "{list}");
        let mut guest = follow(address(1), node.port, "/a.mp3", "").await;
        tone::run(&guest.peer.exact(50 * FRAME).await);
    }
    // Icecast slaves find it by its path alone, as they would at an Icecast.
    let login = login("relay", &primary.secret("relay-password"));
    let request = format!(
        "GET /admin/streamlist.txt HTTP/1.1\r\nHost: localhost\r\n{login}Connection: close\r\n\r\n"
    );
    let (_, list) = ask(primary.port, request).await;
    assert_eq!(list, "/b.mp3\r\n");
    // It stays so where it is held after the primary has let it go.
    hidden.finish().await;
    eventually("the relay hears no more of it", async || {
        let (_, here) = admin(primary, "/api/v1/mounts").await;
        let rows = api(relay, "mounts").await;
        let own = rows.iter().find(|row| row["name"] == "/a.mp3");
        let live = own.is_some_and(|row| row["state"] == "live");
        (!here.contains("/a.mp3") && !live).then_some(())
    })
    .await;
    assert!(!relay.get("/").await.1.contains("/a.mp3"));
}

#[tokio::test]
async fn a_relay_with_a_word_of_its_own_says_it() {
    let of_primary = "mounts:\n  - path: /a.mp3\n    hidden: true\n  - path: /b.mp3";
    let of_relay =
        "mounts:\n  - path: /a.mp3\n    hidden: false\n  - path: /b.mp3\n    hidden: true";
    let cluster = Cluster::start_with(1, of_primary, of_relay).await;
    for mount in ["/a.mp3", "/b.mp3"] {
        let source = Source::start(&cluster.primary, mount).await;
        cluster.on_air(mount).await;
        drop(source);
    }
    let (_, page) = cluster.relays[0].get("/").await;
    assert!(
        page.contains("/a.mp3") && !page.contains("/b.mp3"),
        "{page}"
    );
    let (_, page) = cluster.primary.get("/").await;
    assert!(
        !page.contains("/a.mp3") && page.contains("/b.mp3"),
        "{page}"
    );
}

/// The settings file is read again, and relays hear of it.
#[tokio::test]
async fn a_reload_hides_and_shows() {
    let cluster = Cluster::start_with(1, "mounts: [/a.mp3]", "").await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    let _source = Source::start(primary, "/a.mp3").await;
    cluster.on_air("/a.mp3").await;
    for (hidden, named) in [(true, false), (false, true)] {
        let yaml = format!("mounts:\n  - path: /a.mp3\n    hidden: {hidden}\n");
        std::fs::write(primary.folder().join("relayctl.yaml"), yaml).unwrap();
        primary.signal(Signal::HUP);
        for node in [primary, relay] {
            eventually(&format!("hidden is {hidden}"), async || {
                (node.get("/").await.1.contains("/a.mp3") == named).then_some(())
            })
            .await;
        }
    }
}

/// A primary that serves, too: its own listeners and those of its relays are one audience.
#[tokio::test]
async fn own_listeners_and_those_elsewhere_are_one_audience() {
    let cluster = Cluster::start_with(1, "serve: always", "").await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    let _source = Source::start(primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let mut guests = Vec::new();
    for (from, node) in (1..).zip([primary, primary, primary, relay, relay, relay]) {
        guests.push(follow(address(from), node.port, MOUNT, "").await);
    }
    let own = guests.iter().filter(|guest| guest.port == primary.port);
    let own = own.count();
    assert!((1..6).contains(&own), "{own} of 6 are at the primary");
    assert_eq!(listeners(primary, 6).await["listener_peak"], 6);
    // A relay tells its own.
    let there = guests.iter().filter(|guest| guest.port == relay.port);
    let source = public(relay, MOUNT).await.unwrap();
    assert_eq!(source["listeners"], there.count());
    let (_, clients) = admin(primary, &format!("/admin/listclients?mount={MOUNT}")).await;
    assert_eq!(texts(&clients, "ID").len(), 6, "{clients}");
    for id in texts(&clients, "ID") {
        let path = format!("/admin/killclient?mount={MOUNT}&id={id}");
        let (_, killed) = admin(primary, &path).await;
        assert!(killed.contains("<return>1</return>"), "{killed}");
    }
    for guest in &mut guests {
        guest.peer.ended().await;
    }
    assert_eq!(listeners(primary, 0).await["listener_peak"], 6);
}

/// Who leaves a node that is emptied, or one that is stopped, is at another one before the numbers say so.
#[tokio::test]
async fn a_relay_that_is_emptied_makes_no_peak() {
    let mut cluster = Cluster::start(2).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let mut guests = Vec::new();
    for from in 1..=4 {
        guests.push(follow(address(from), cluster.relays[0].port, MOUNT, "").await);
    }
    listeners(&cluster.primary, 4).await;
    let words = ["drain", "relay-0", "--spread", "1s"];
    let draining = cluster.primary.asked(&words);
    let leaving = move_on(guests, cluster.relays[1].port);
    let (_, guests) = tokio::join!(draining, leaving);
    eventually("all are at the other one", async || {
        let there = public(&cluster.relays[1], MOUNT).await?;
        (there["listeners"] == 4).then_some(())
    })
    .await;
    settles_at(&cluster, 4).await;
    cluster.primary.asked(&["resume", "relay-0"]).await;
    cluster.ready().await;
    cluster.relays.swap(0, 1);
    let port = cluster.relays[1].port;
    let stopping = cluster.relays[0].terminate();
    // The listeners end within the time that the relay gives them.
    let (status, _guests) = tokio::join!(stopping, move_on(guests, port));
    assert!(status.success(), "{status}");
    settles_at(&cluster, 4).await;
}

/// Waits until each listener's connection ends; then it comes back at `port`.
async fn move_on(guests: Vec<Guest>, port: u16) -> Vec<Guest> {
    let mut moved = Vec::new();
    for (mut guest, from) in guests.into_iter().zip(1..) {
        guest.peer.ended().await;
        moved.push(follow(address(from), port, MOUNT, "").await);
    }
    moved
}

/// Waits until listeners and peak are both `count`.
async fn settles_at(cluster: &Cluster, count: u64) {
    eventually("the numbers settle", async || {
        let source = public(&cluster.primary, MOUNT).await?;
        (source["listeners"] == count && source["listener_peak"] == count).then_some(())
    })
    .await;
}
