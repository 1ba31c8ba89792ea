//! Events as a stream, to which a browser comes back where it broke off.

use serde_json::Value;

use crate::harness::cluster::{Cluster, api};
use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::program::Program;
use crate::harness::source::{Source, login};

const MOUNT: &str = "/live.mp3";

/// A stream of events, read block by block.
struct Stream {
    peer: Peer,
    text: String,
}

impl Stream {
    async fn open(node: &Node, more: &str) -> Self {
        let login = login("admin", &node.secret("admin-password"));
        let mut peer = Peer::connect(node.port).await;
        let head = "GET /api/v1/events HTTP/1.0\r\nAccept: text/event-stream\r\n";
        peer.send(format!("{head}{login}{more}\r\n")).await;
        let head = peer.head().await;
        assert_eq!(head.status, 200);
        assert_eq!(head.get("content-type"), Some("text/event-stream"));
        Self {
            peer,
            text: String::new(),
        }
    }

    /// The next event: its id and its data.
    async fn next(&mut self) -> (String, Value) {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                let field = |name: &str| {
                    let lines = block.lines();
                    lines.filter_map(|line| line.strip_prefix(name)).next()
                };
                if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
                    let data: Value = serde_json::from_str(data).unwrap();
                    assert_eq!(field("event: "), data["kind"].as_str());
                    return (id.to_owned(), data);
                }
            }
            let more = self.peer.some().await;
            assert!(!more.is_empty(), "the stream ended: {}", self.text);
            self.text.push_str(&String::from_utf8(more).unwrap());
        }
    }

    /// The next event of a kind: its id.
    async fn until(&mut self, kind: &str) -> String {
        loop {
            let (id, data) = self.next().await;
            if data["kind"] == kind {
                return id;
            }
        }
    }
}

#[tokio::test]
async fn a_stream_tells_what_happens_and_goes_on_where_it_broke() {
    let node = Plan::primary().yaml("hold: 1s").start().await;
    let mut stream = Stream::open(&node, "").await;
    let source = Source::start(&node, MOUNT).await;
    let up = stream.until("source_up").await;
    source.finish().await;
    let lost = stream.until("source_lost").await;
    drop(stream);
    let mut again = Stream::open(&node, &format!("Last-Event-ID: {up}\r\n")).await;
    let (id, data) = again.next().await;
    assert_eq!((id, &data["kind"]), (lost, &Value::from("source_lost")));
    assert_eq!(data["mount"], MOUNT);
    again.until("source_ended").await;
}

/// The primary's list is the cluster's. A relay has its own, and says where the other one is.
#[tokio::test]
async fn a_relay_lists_its_own_events_and_its_primary_everybodys() {
    let mut cluster = Cluster::start_with(2, "max_children: 2", "").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    cluster
        .primary
        .asked(&["reparent", "relay-1", "--to", "relay-0"])
        .await;
    eventually("it pulls from there", async || {
        let rows = cluster.table().await;
        let row = rows.iter().find(|row| row["name"] == "relay-1")?;
        (row["parent"] == "relay-0").then_some(())
    })
    .await;
    cluster.relays[0].kill();
    let died = |event: &Value| event["kind"] == "failover" && event["from"] == "relay-0";
    let relay = &cluster.relays[1];
    for node in [relay, &cluster.primary] {
        eventually("the failover is told", async || {
            let events = api(node, "events").await;
            let event = events.into_iter().find(died)?;
            assert_eq!(
                (&event["node"], &event["lost_bytes"]),
                (&"relay-1".into(), &0.into())
            );
            assert!(event["millis"].is_u64(), "{event}");
            Some(())
        })
        .await;
    }
    let own = api(relay, "events").await;
    assert!(
        own.iter().all(|event| event["node"] == "relay-1"),
        "{own:?}"
    );
    let all = cluster.primary.asked(&["get", "events"]).await;
    for line in ["  head  joined who=relay-1", "  relay-1  failover "] {
        assert!(all.contains(line), "no `{line}` in {all}");
    }
    let mut listing = Program::start(relay.words(&["get", "events"]));
    assert!(listing.ended().await.success());
    println!("{}{}", listing.stderr(), listing.stdout());
    let there = format!("`relayctl get events --addr {}`", cluster.primary.url());
    assert!(listing.stderr().contains(&there), "{}", listing.stderr());
    assert!(
        listing.stdout().contains("  relay-1  failover "),
        "{}",
        listing.stdout()
    );
    // What programs read is not talked over.
    let mut json = Program::start(relay.words(&["get", "events", "-o", "json"]));
    assert!(json.ended().await.success());
    assert_eq!(json.stderr(), "");
}
