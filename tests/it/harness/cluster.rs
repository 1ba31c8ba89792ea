//! A primary with relays, and listeners who follow it to them.

use std::net::IpAddr;

use serde_json::Value;

use super::eventually;
use super::node::{Node, Plan};
use super::peer::{Head, Peer};
use super::source::{login, on_air};

/// See the module.
pub struct Cluster {
    /// The relays, `relay-0` first.
    pub relays: Vec<Node>,
    /// The primary.
    pub primary: Node,
}

impl Cluster {
    /// So many relays, all of them ready for listeners.
    pub async fn start(relays: usize) -> Self {
        Self::start_with(relays, "", "").await
    }

    /// The same with settings for the primary and for each relay.
    pub async fn start_with(relays: usize, of_primary: &str, of_relays: &str) -> Self {
        let primary = Plan::primary().name("head").yaml(of_primary).start().await;
        let mut cluster = Self {
            relays: Vec::new(),
            primary,
        };
        for index in 0..relays {
            let plan = Plan::relay(&cluster.primary)
                .name(&format!("relay-{index}"))
                .yaml(of_relays);
            cluster.relays.push(plan.start().await);
        }
        cluster.ready().await;
        cluster
    }

    /// Waits until the primary's table has every relay as ready.
    pub async fn ready(&self) {
        eventually("every relay is ready", async || {
            let ready = self
                .table()
                .await
                .into_iter()
                .filter(|row| row["role"] == "relay" && row["state"] == "ready");
            (ready.count() == self.relays.len()).then_some(())
        })
        .await;
    }

    /// The rows of the primary's table.
    pub async fn table(&self) -> Vec<Value> {
        nodes_of(&self.primary).await
    }

    /// Waits until every relay plays a mount to those who come to it, and the primary's table says so.
    pub async fn on_air(&self, mount: &str) {
        for relay in &self.relays {
            on_air(relay.port, mount).await;
        }
        eventually("the table has the mount on every relay", async || {
            let plays = |row: &Value| {
                let mounts = row["mounts"].as_array();
                mounts.is_some_and(|all| {
                    all.iter()
                        .any(|own| own["name"] == mount && own["bitrate"] != 0)
                })
            };
            let rows = self
                .table()
                .await
                .into_iter()
                .filter(|row| row["role"] == "relay" && plays(row));
            (rows.count() == self.relays.len()).then_some(())
        })
        .await;
    }
}

/// The array of an API path, asked as the administrator.
pub async fn api(node: &Node, plural: &str) -> Vec<Value> {
    let login = login("admin", &node.secret("admin-password"));
    let request = format!(
        "GET /api/v1/{plural} HTTP/1.1\r\nHost: localhost\r\n{login}Connection: close\r\n\r\n"
    );
    let (head, body) = Peer::connect_to(node.address()).await.ask(request).await;
    assert_eq!(head.status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    answer[plural]
        .as_array()
        .unwrap_or_else(|| panic!("no array `{plural}` in {body}"))
        .clone()
}

/// The table of nodes as a node has it.
pub async fn nodes_of(node: &Node) -> Vec<Value> {
    api(node, "nodes").await
}

/// A listener that went where it was sent.
pub struct Guest {
    /// Its connection: audio follows.
    pub peer: Peer,
    /// The last head.
    pub head: Head,
    /// Port of the node that serves it.
    pub port: u16,
}

/// A listener from `from` who comes to the node at `port` and follows one redirect.
pub async fn follow(from: IpAddr, port: u16, target: &str, more: &str) -> Guest {
    let mut peer = Peer::connect_from(from, port).await;
    peer.send(format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n"
    ))
    .await;
    let head = peer.head().await;
    if head.status != 302 {
        assert_eq!(head.status, 200, "{head:?}");
        return Guest { peer, head, port };
    }
    let location = head.get("location").expect("a location").to_owned();
    drop(peer);
    let rest = location
        .strip_prefix("http://127.0.0.1:")
        .unwrap_or_else(|| panic!("sent to {location}"));
    let (digits, path) = rest.split_once('/').unwrap();
    let port = digits.parse().unwrap();
    let mut peer = Peer::connect_from(from, port).await;
    peer.send(format!(
        "GET /{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n"
    ))
    .await;
    let head = peer.head().await;
    assert_eq!(head.status, 200, "at {location}: {head:?}");
    Guest { peer, head, port }
}
