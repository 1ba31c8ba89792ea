//! A node that is nothing but requests: it joins and reports whatever a test wants.

use std::time::{SystemTime, UNIX_EPOCH};

use relayctl::cluster::keys::KeyRing;
use relayctl::wire::message::ClusterKey;
use serde_json::{Value, json};

use crate::harness::node::Node;
use crate::harness::peer::ask;

/// A request and the answer to it.
pub async fn post(node: &Node, path: &str, bearer: &str, more: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {bearer}\r\n{more}\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        node.port,
        body.len()
    );
    let (head, text) = ask(node.port, request).await;
    (
        head.status,
        serde_json::from_str(&text).unwrap_or(Value::Null),
    )
}

/// What a node says when it joins. Its URL answers nothing.
pub fn request(id: &str) -> Value {
    json!({
        "v": 1, "id": id, "name": id, "incarnation": 1_700_000_000_000_u64, "version": "1",
        "public_urls": {"http": "http://127.0.0.1:9"}, "data_port": 9,
        "limits": {"max_listeners": 100},
        // As every relay with a data directory: without it a dead node's id is anybody's, and this one is dead as soon
        // as its URL is fetched, since nothing listens there.
        "keeps_credential": true,
    })
}

/// Joins with a token; status and answer.
pub async fn join(primary: &Node, token: &str, request: &Value) -> (u16, Value) {
    post(primary, "/cluster/v1/join", token, "", request).await
}

/// The credential that a node got.
pub fn credential(answer: &Value) -> String {
    let text = answer["credential"].as_str();
    text.unwrap_or_else(|| panic!("no credential: {answer}"))
        .to_owned()
}

/// A new member with the primary's own join token; its credential.
pub async fn member(primary: &Node, id: &str) -> String {
    let (status, answer) = join(primary, &primary.secret("join-token"), &request(id)).await;
    assert_eq!(status, 200, "{answer}");
    credential(&answer)
}

/// A report of a node that carries nothing.
pub fn report(id: &str, seq: u64) -> Value {
    let mut report = request(id);
    report["seq"] = json!(seq);
    report["capabilities"] = json!({"positions": true, "tokens": true, "hold": true});
    report
}

/// Reports; status and answer.
pub async fn beat(primary: &Node, credential: &str, report: &Value) -> (u16, Value) {
    post(primary, "/cluster/v1/beat", credential, "", report).await
}

/// The keys of the cluster, as whoever joined has them, and what they sign.
pub struct Keys {
    ring: KeyRing,
    seconds: u64,
}

impl Keys {
    /// Of an answer to a join, to sign as of now.
    pub fn of(answer: &Value) -> Self {
        let keys = serde_json::from_value::<Vec<ClusterKey>>(answer["cluster_keys"].clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            ring: KeyRing::from_wire(&keys.unwrap()).unwrap(),
            seconds: now.as_secs(),
        }
    }

    /// A mark of that kind, as nodes sign each other's questions.
    pub fn mark(&self, letter: char, nonce: u64, who: &str) -> String {
        let (when, once) = (self.seconds.to_be_bytes(), nonce.to_be_bytes());
        let once_in_text = format!(".{nonce:016x}");
        self.signed(letter, &[&when, &once, who.as_bytes()], &once_in_text)
    }

    /// As a version signed it that bound a mark to nobody.
    pub fn old_mark(&self, letter: char) -> String {
        self.signed(letter, &[&self.seconds.to_be_bytes(), b""], "")
    }

    fn signed(&self, letter: char, parts: &[&[u8]], more: &str) -> String {
        let key = self.ring.current().unwrap();
        let kind = [letter as u8];
        let parts = [&[b"mark\0".as_slice(), &kind], parts].concat();
        let mac = self.ring.mac(key, &parts).unwrap();
        let hex: String = mac[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{letter}.{key}.{}{more}.{hex}", self.seconds)
    }
}
