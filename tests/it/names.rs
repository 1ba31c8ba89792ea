//! A primary that is found by name: several addresses, services, and a name server that says so.

use std::path::PathBuf;

use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tempfile::TempDir;

use crate::harness::cluster::nodes_of;
use crate::harness::names::NameServer;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::source::{Framing, Source, listen, on_air, source_head};
use crate::harness::tone::{self, FRAME};
use crate::harness::{eventually, two_free_ports};

const MOUNT: &str = "/live.mp3";

/// A name server on the port that `resolv.conf` means, at an address of this machine that nobody else has, and the
/// file that names it.
struct Names {
    server: NameServer,
    resolv_conf: PathBuf,
    _folder: TempDir,
}

impl Names {
    async fn start() -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        let mut refused = None;
        for turn in 0..200 {
            let address = ([127, 53 + turn, high, low], 53).into();
            match NameServer::start(address, 0).await {
                Ok(server) => return Self::with(server),
                Err(error) => refused = Some(error),
            }
        }
        panic!("no address for a name server (is this root?): {refused:?}")
    }

    fn with(server: NameServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let resolv_conf = folder.path().join("resolv.conf");
        let text = format!("nameserver {}\n", server.address.ip());
        std::fs::write(&resolv_conf, text).unwrap();
        Self {
            server,
            resolv_conf,
            _folder: folder,
        }
    }

    fn relay(&self, primary: &str, token: &str) -> Plan {
        Plan::joining_at(primary, token).resolv_conf(&self.resolv_conf)
    }

    /// Services of `radio.test` in order; each leads to 127.0.0.1.
    fn set_services(&self, ports: &[u16]) {
        let mut records = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            let host = format!("n{index}.radio.test.");
            self.server.set_addresses(&host, &["127.0.0.1"]);
            let priority = u16::try_from(index).unwrap() + 1;
            let target = Name::from_utf8(&host).unwrap();
            records.push(RData::SRV(SRV::new(priority, 10, *port, target)));
        }
        self.server
            .set("_relayctl._tcp.radio.test.", RecordType::SRV, records);
    }
}

async fn hears(node: &Node, mount: &str) {
    on_air(node.port, mount).await;
    let (mut listener, _) = listen(node.port, mount).await;
    tone::run(&listener.exact(50 * FRAME).await);
}

async fn is_member(primary: &Node, name: &str) {
    eventually(&format!("`{name}` is in the table"), async || {
        let rows = nodes_of(primary).await;
        let ready = |row: &serde_json::Value| row["name"] == name && row["state"] == "ready";
        rows.iter().any(ready).then_some(())
    })
    .await;
}

/// Nobody listens at the others: join, pull, and what is carried through all find the one that answers.
#[tokio::test]
async fn one_address_of_several_answers() {
    let names = Names::start().await;
    let dead = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "::1"];
    let all = [&dead[..], &["127.0.0.1"]].concat();
    names.server.set_addresses("radio.test.", &all);
    let primary = Plan::primary().start().await;
    let _source = Source::start(&primary, MOUNT).await;
    let url = format!("http://radio.test:{}", primary.port);
    let relay = names.relay(&url, &primary.secret("join-token"));
    let relay = relay.name("by-name").start().await;
    is_member(&primary, "by-name").await;
    hears(&relay, MOUNT).await;
    let mut peer = Peer::connect(relay.port).await;
    let password = primary.source_password();
    peer.send(source_head("SOURCE /talk.mp3 ICE/1.0", &password, ""))
        .await;
    assert_eq!(peer.head().await.status, 200);
    let _talk = Source::over(peer, Framing::Raw, 0);
    on_air(primary.port, "/talk.mp3").await;
    assert!(names.server.asked() > 0);
    assert!(!relay.log().contains("not joined yet"), "{}", relay.log());
}

/// The first target is dead, the second one is the primary; when that moves to the first, its relay follows.
#[tokio::test]
async fn a_service_names_where_the_primary_is() {
    let names = Names::start().await;
    let (first, second) = (two_free_ports(), two_free_ports());
    names.set_services(&[first, second]);
    let plan = Plan::primary().port(second);
    let mut primary = plan.clone().start().await;
    let _source = Source::start(&primary, MOUNT).await;
    let token = primary.secret("join-token");
    // A bare name and one with a scheme: neither has a port.
    let mut relays = Vec::new();
    for (name, written) in [("bare", "radio.test"), ("scheme", "http://radio.test")] {
        let relay = names.relay(written, &token).name(name).start().await;
        is_member(&primary, name).await;
        hears(&relay, MOUNT).await;
        relays.push(relay);
    }
    primary.kill();
    let primary = plan.port(first).start().await;
    let _source = Source::start(&primary, "/moved.mp3").await;
    for (relay, name) in relays.iter().zip(["bare", "scheme"]) {
        is_member(&primary, name).await;
        hears(relay, "/moved.mp3").await;
    }
}

/// A name that leads nowhere is said once, and found as soon as it leads somewhere.
#[tokio::test]
async fn a_name_that_is_not_known_yet() {
    let names = Names::start().await;
    let primary = Plan::primary().start().await;
    let url = format!("http://radio.test:{}", primary.port);
    let relay = names.relay(&url, &primary.secret("join-token"));
    let relay = relay.name("early").start().await;
    eventually("it says so", async || {
        let log = relay.log();
        log.contains("`radio.test` has no address").then_some(())
    })
    .await;
    names.server.set_addresses("radio.test.", &["127.0.0.1"]);
    is_member(&primary, "early").await;
    relay.is_ready().await;
}
