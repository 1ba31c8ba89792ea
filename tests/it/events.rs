//! Events as a stream, to which a browser comes back where it broke off.

use serde_json::Value;

use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
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
