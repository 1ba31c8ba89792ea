//! Operating: what a node writes down, what it takes without a restart, and what the commands show.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::cluster::{Cluster, api};
use crate::harness::eventually;
use crate::harness::node::{Node, Plan, relayctl};
use crate::harness::peer::Peer;
use crate::harness::program::{Program, tool};
use crate::harness::source::{Source, listen, listen_with, on_air};
use crate::harness::tone::{self, FRAME};

const MOUNT: &str = "/live.mp3";

fn access_lines(node: &Node) -> Vec<String> {
    let printed = node.printed();
    printed
        .lines()
        .filter(|line| line.contains("\"GET /live.mp3"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn each_session_leaves_one_line_and_probes_none() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    let (mut listener, _) =
        listen_with(node.port, &format!("{MOUNT}?x=1"), "User-Agent: one/1\r\n").await;
    tone::run(&listener.exact(50 * FRAME).await);
    assert_eq!(access_lines(&node).len(), 0, "before its end");
    drop(listener);
    on_air(node.port, MOUNT).await;
    let lines = eventually("the line is written", async || {
        let lines = access_lines(&node);
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(
        line.contains("\"GET /live.mp3?x=1 HTTP/1.1\" 200 "),
        "{line}"
    );
    assert!(line.contains("\"one/1\""), "{line}");
    let sent = line
        .split("\" 200 ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap();
    assert!(sent.parse::<usize>().unwrap() >= 50 * FRAME, "{line}");
}

/// A bad file changes nothing and is named; a good one holds at once.
#[tokio::test]
async fn a_changed_file_is_taken_or_left_whole() {
    let node = Plan::primary().yaml("metaint: 4096").start().await;
    let _source = Source::start(&node, MOUNT).await;
    let file = node.folder().join("relayctl.yaml");
    let metaint = async || {
        let (_, head) = listen_with(node.port, MOUNT, "Icy-MetaData: 1\r\n").await;
        head.get("icy-metaint").unwrap().to_owned()
    };
    std::fs::write(&file, "metaint: 8192\nhold: soon\n").unwrap();
    node.signal(Signal::HUP);
    eventually("the log names the key", async || {
        node.log().contains("hold").then_some(())
    })
    .await;
    assert_eq!(metaint().await, "4096");
    std::fs::write(&file, "metaint: 8192\n").unwrap();
    node.signal(Signal::HUP);
    eventually("the new interval holds", async || {
        (metaint().await == "8192").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_commands_show_what_is_there() {
    let cluster = Cluster::start(1).await;
    let node = &cluster.primary;
    let _source = Source::start(node, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let status = node.asked(&["status"]).await;
    assert!(
        status.contains("relay-0") && status.contains(MOUNT),
        "{status}"
    );
    for (plural, fields) in [
        (
            "nodes",
            &[
                "id",
                "name",
                "role",
                "state",
                "public_url",
                "listeners",
                "max_listeners",
                "weight",
                "version",
            ][..],
        ),
        (
            "mounts",
            &[
                "name",
                "state",
                "content_type",
                "listeners",
                "title",
                "epoch",
                "offset",
            ],
        ),
        ("picks", &[]),
    ] {
        let printed: Value =
            serde_json::from_str(&node.asked(&["get", plural, "-o", "json"]).await).unwrap();
        let rows = printed[plural]
            .as_array()
            .unwrap_or_else(|| panic!("no `{plural}` in {printed}"));
        let served = api(node, plural).await;
        assert_eq!(rows.len(), served.len(), "{plural}");
        for (row, field) in rows
            .iter()
            .flat_map(|row| fields.iter().map(move |field| (row, field)))
        {
            assert!(!row[field].is_null(), "{plural}: no `{field}` in {row}");
        }
    }
}

#[tokio::test]
async fn a_listener_is_seen_by_its_own_address() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    let from = crate::harness::address(77);
    let mut peer = Peer::connect_from(from, node.port).await;
    peer.send(format!(
        "GET {MOUNT} HTTP/1.1\r\nHost: x\r\nUser-Agent: seen/1\r\n\r\n"
    ))
    .await;
    assert_eq!(peer.head().await.status, 200);
    tone::run(&peer.exact(FRAME).await);
    let rows = api(&node, "listeners").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["address"], from.to_string());
    assert_eq!(rows[0]["user_agent"], "seen/1");
    assert_eq!(rows[0]["mount"], MOUNT);
}

/// `trusted_proxies` decides whose word counts.
#[tokio::test]
async fn who_connects_by_a_trusted_proxy() {
    for (yaml, forwarded, expected) in [
        ("trusted_proxies: 127.0.0.0/8", true, "192.0.2.7"),
        ("trusted_proxies: 127.0.0.0/8", false, "192.0.2.7"),
        ("", true, "127.0.0.1"),
    ] {
        let node = Plan::primary().yaml(yaml).start().await;
        let _source = Source::start(&node, MOUNT).await;
        let mut peer = Peer::connect(node.port).await;
        if !forwarded {
            peer.send("PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n")
                .await;
        }
        let more = if forwarded {
            "X-Forwarded-For: 192.0.2.7\r\n"
        } else {
            ""
        };
        peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: x\r\n{more}\r\n"))
            .await;
        assert_eq!(peer.head().await.status, 200);
        tone::run(&peer.exact(FRAME).await);
        let rows = api(&node, "listeners").await;
        assert_eq!(rows[0]["address"], expected, "{yaml} {forwarded}");
    }
}

#[tokio::test]
async fn promtool_has_nothing_to_say_about_the_metrics() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    let (mut listener, _) = listen(node.port, MOUNT).await;
    tone::run(&listener.exact(FRAME).await);
    node.get("/none").await;
    let (head, text) = node.get("/metrics").await;
    assert_eq!(head.status, 200);
    let file = node.folder().join("metrics");
    std::fs::write(&file, text).unwrap();
    let mut promtool: Command = tool("promtool", "prometheus");
    promtool.args(["check", "metrics"]);
    let mut promtool = Program::start_reading(promtool, std::fs::File::open(&file).unwrap());
    let status = promtool.ended().await;
    // Names that are given from outside and not ours to better: those of `icecast_exporter`, which dashboards know,
    // and the bandwidth in the unit that networks are sold in.
    let said = promtool.stderr() + &promtool.stdout();
    let given = ["icecast_", "relayctl_node_bandwidth_bits "];
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| !given.iter().any(|name| line.starts_with(name)))
        .collect();
    assert!(ours.is_empty(), "{status}: {said}");
    assert!(std::fs::metadata(&file).unwrap().len() > 1000);
}

/// One command, and there is sound: through a relay, with a title, until Ctrl-C.
#[tokio::test]
async fn the_demo_plays() {
    let mut command = relayctl();
    command.arg("demo");
    let mut demo = Program::start(command);
    let urls = eventually("the demo says where it plays", async || {
        assert!(demo.status().is_none(), "it ended: {}", demo.stderr());
        let said = demo.stdout();
        let words = said
            .split_whitespace()
            .filter(|word| word.starts_with("http://127.0.0.1:"));
        let urls: Vec<String> = words.map(str::to_owned).collect();
        (!urls.is_empty()).then_some(urls)
    })
    .await;
    let stream = urls.iter().find(|url| {
        url.rsplit('/')
            .next()
            .is_some_and(|name| name.contains(".mp3"))
    });
    let stream = stream.unwrap_or_else(|| panic!("no stream in {urls:?}"));
    let said = eventually("the demo plays", async || {
        let mut curl = tool("curl", "curl");
        curl.args([
            "-sS",
            "-L",
            "--max-time",
            "3",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{size_download} %{num_redirects}",
        ]);
        let mut curl = Program::start({
            curl.arg(stream);
            curl
        });
        curl.ended().await;
        curl.stdout().starts_with("200 ").then(|| curl.stdout())
    })
    .await;
    let heard: u64 = said.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(heard > 20_000, "{said}");
    demo.signal(Signal::INT);
    assert!(demo.ended().await.success(), "{}", demo.stderr());
}

/// The primary ends a listener wherever it is; of two with one number the node is named.
#[tokio::test]
async fn a_listener_is_kicked_on_any_node() {
    let cluster = Cluster::start(2).await;
    let primary = &cluster.primary;
    let _source = Source::start(primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let mut guests = Vec::new();
    for relay in &cluster.relays {
        let (mut guest, _) = listen(relay.port, MOUNT).await;
        tone::run(&guest.exact(FRAME).await);
        guests.push(guest);
    }
    let (mut third, _) = listen(cluster.relays[1].port, MOUNT).await;
    tone::run(&third.exact(FRAME).await);
    let rows = api(primary, "listeners").await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    let id_on = |node: &str, at: usize| {
        let own = rows.iter().filter(|row| row["node"] == node);
        own.map(|row| row["id"].as_u64().unwrap()).nth(at).unwrap()
    };
    let (first, second) = (id_on("relay-0", 0), id_on("relay-1", 0));
    assert_eq!(first, second, "each node counts its own");
    let number = first.to_string();
    let (_, said) = primary.asked_in_vain(&["kick", &number]).await;
    assert!(
        said.contains("several nodes") && said.contains("/"),
        "{said}"
    );
    let named = format!("relay-0/{number}");
    primary.asked(&["kick", &named]).await;
    guests[0].rest().await;
    // Now there is one of that number, and one of the other.
    let other = id_on("relay-1", 1).to_string();
    for (id, guest) in [(&other, &mut third), (&number, &mut guests[1])] {
        let said = primary.asked(&["kick", id]).await;
        assert_eq!(said, format!("listener {id} ended\n"));
        guest.rest().await;
    }
    for gone in [number.as_str(), "nowhere/1", "relay-0/77", "x"] {
        let (code, said) = primary.asked_in_vain(&["kick", gone]).await;
        assert_eq!(code, 1, "{gone}: {said}");
    }
    eventually("nobody is left", async || {
        api(primary, "listeners").await.is_empty().then_some(())
    })
    .await;
    // Who is no node of this cluster kicks nobody.
    let relay = cluster.relays[0].port;
    let request = "POST /cluster/v1/kick?id=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(
        crate::harness::peer::ask(relay, request).await.0.status,
        401
    );
}

/// `render` beside a running node prints what that node runs with, whatever flags it was started with.
#[tokio::test]
async fn render_beside_a_node_uses_the_settings_of_that_node() {
    let node = Plan::primary()
        .flag("--public-url", "http://radio.example.org:8000")
        .flag("--max-listeners", "77")
        .yaml("station:\n  location: Atlantis")
        .start()
        .await;
    let icecast = node.asked(&["render", "icecast"]).await;
    for line in [
        "<hostname>radio.example.org</hostname>",
        "<location>Atlantis</location>",
    ] {
        assert!(icecast.contains(line), "no {line}: {icecast}");
    }
    assert!(icecast.contains(&node.source_password()));
    for (kind, file) in [
        ("icecast", "icecast.xml"),
        ("shoutcast", "sc_serv.conf"),
        ("haproxy", "haproxy.cfg"),
    ] {
        let text = node.asked(&["render", kind]).await;
        let kept = node.data_dir().join("rendered").join(file);
        eventually("it is the file that the node keeps", async || {
            (std::fs::read_to_string(&kept).ok()? == text).then_some(())
        })
        .await;
        assert_eq!(
            node.asked(&["render", kind, "--diff", kept.to_str().unwrap()])
                .await,
            ""
        );
    }
    // A role that is named is what is asked about.
    let (code, said) = node
        .asked_in_vain(&["render", "icecast", "--role", "relay"])
        .await;
    assert_eq!(code, 1, "{said}");
    // Passwords leave by the node's own socket alone.
    let login = crate::harness::source::login("admin", &node.secret("admin-password"));
    let request = format!(
        "POST /api/v1/render/icecast HTTP/1.1\r\nHost: localhost\r\n{login}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let (head, body) = Peer::connect(node.port).await.ask(request).await;
    assert_eq!(head.status, 403, "{body}");
    assert!(!body.contains(&node.source_password()), "{body}");
}
