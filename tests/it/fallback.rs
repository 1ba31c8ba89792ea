//! A mount whose source stays away for longer than the hold: its listeners hear the fallback, in the connection
//! that they have, on the primary and on a relay.

use crate::harness::cluster::api;
use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::source::{Source, listen, listen_with, login, on_air, set_title, strip};
use crate::harness::tls::Certificate;
use crate::harness::tone::{self, FRAME};

const MOUNT: &str = "/live.mp3";
const JINGLE: &str = "/jingle.mp3";

/// The first frames of the three sources.
const THEIRS: u64 = 1_000_000;
const AGAIN: u64 = 2_000_000;

const METAINT: usize = 4096;

/// Somebody in one connection from the first byte to the last.
struct Ear {
    peer: Peer,
    raw: Vec<u8>,
    metaint: usize,
}

impl Ear {
    async fn at(port: u16, metaint: usize) -> Self {
        let more = if metaint > 0 {
            "Icy-MetaData: 1\r\n"
        } else {
            ""
        };
        let (peer, head) = listen_with(port, MOUNT, more).await;
        let said = head.get("icy-metaint").map(str::to_owned);
        assert_eq!(said, (metaint > 0).then(|| metaint.to_string()));
        Self {
            peer,
            raw: Vec::new(),
            metaint,
        }
    }

    fn heard(&self) -> (Vec<u8>, Vec<String>) {
        if self.metaint == 0 {
            return (self.raw.clone(), Vec::new());
        }
        let (audio, titles) = strip(&self.raw, self.metaint);
        (audio, titles.into_iter().map(|(_, text)| text).collect())
    }

    /// Runs of whole frames without a gap: the first and the one after the last.
    fn runs(&self) -> Vec<(u64, u64)> {
        let (audio, _) = self.heard();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for frame in audio.chunks_exact(FRAME) {
            // Fails where it is no whole frame.
            let number = tone::run(frame).first;
            match runs.last_mut() {
                Some((_, end)) if *end == number => *end += 1,
                _ => runs.push((number, number + 1)),
            }
        }
        runs
    }

    /// Listens until it has heard fifty frames of the source that began with `first`, and two of its blocks.
    async fn until(&mut self, first: u64) {
        eventually("the next source is heard", async || {
            self.raw.extend(self.peer.some().await);
            let last = self.runs().last().copied()?;
            let enough = 50.max(3 * (METAINT / FRAME) as u64);
            (last.0 >= first && last.1 > last.0 + enough).then_some(())
        })
        .await;
    }
}

/// Waits until the nodes have counted one and two listeners that were moved.
async fn moved(nodes: [&Node; 2], action: &str) {
    let labels = format!("action=\"{action}\"");
    let name = "relayctl_fallback_moves_total";
    eventually("the moves are counted", async || {
        let counts = (
            nodes[0].metric(name, &labels).await,
            nodes[1].metric(name, &labels).await,
        );
        (counts.0 >= 1.0 && counts.1 >= 2.0).then_some(())
    })
    .await;
}

/// Waits until the nodes have told of their listeners; how often they did.
async fn told(primary: &Node, event: &str) -> usize {
    eventually("the moves are told", async || {
        let events = primary.asked(&["get", "events"]).await;
        let of = |node: &str| {
            let lines = events.lines().filter(|line| line.contains(node));
            let told = lines.filter_map(|line| line.split_once(event)?.1.split_once("listeners="));
            told.map(|(_, count)| count.trim().parse::<u64>().unwrap())
                .sum::<u64>()
        };
        (of(" head ") == 1 && of(" leaf ") >= 2).then(|| events.matches(event).count())
    })
    .await
}

#[tokio::test]
async fn listeners_hear_the_fallback_and_come_back_in_the_same_connection() {
    let yaml = format!(
        "hold: 1s\nmetaint: {METAINT}\nmax_sources: 4\nmounts:\n  - {{path: {MOUNT}, fallback: {JINGLE}}}"
    );
    let primary = Plan::primary().name("head").yaml(&yaml).start().await;
    let password = primary.source_password();
    let source = Source::start(&primary, MOUNT).await;
    let _jingle = Source::start_at(&primary, JINGLE, THEIRS).await;
    set_title(primary.port, MOUNT, &password, "ours").await;
    set_title(primary.port, JINGLE, &password, "theirs").await;
    // Who is on the primary before there is a relay stays there.
    let mut ears = vec![Ear::at(primary.port, METAINT).await];
    // The relay knows of the fallback by its primary alone.
    let relay = Plan::relay(&primary)
        .name("leaf")
        .yaml(&format!("hold: 1s\nmetaint: {METAINT}"))
        .start()
        .await;
    on_air(relay.port, MOUNT).await;
    on_air(relay.port, JINGLE).await;
    ears.push(Ear::at(relay.port, METAINT).await);
    ears.push(Ear::at(relay.port, 0).await);
    for ear in &mut ears {
        ear.until(0).await;
    }
    let (_, next) = source.finish().await;
    for ear in &mut ears {
        ear.until(THEIRS).await;
        let runs = ear.runs();
        assert_eq!(runs.len(), 2, "{runs:?}");
        assert_eq!(
            runs[0].1, next,
            "the own run ends with the source's last frame"
        );
    }
    // They are counted on the mount that they asked for.
    eventually("the primary says so", async || {
        let rows = api(&primary, "mounts").await;
        let row = |name: &str| rows.iter().find(|row| row["name"] == name).cloned();
        let (own, other) = (row(MOUNT)?, row(JINGLE)?);
        assert_eq!(own["state"], "ended");
        assert_eq!(own["fallback"], JINGLE);
        (own["listeners"] == 3 && other["listeners"] == 0).then_some(())
    })
    .await;
    moved([&primary, &relay], "away").await;
    let event = format!("fallback_moved mount={MOUNT} to={JINGLE}");
    assert_eq!(told(&primary, &event).await, 2, "once by each node");
    // Icecast's own list names it too, where the mount is there.
    let login = login("admin", &primary.secret("admin-password"));
    let list = async || {
        let request = format!("GET /admin/listmounts HTTP/1.0\r\n{login}\r\n");
        let mut peer = Peer::connect(primary.port).await;
        let (head, body) = peer.ask(request).await;
        assert_eq!(head.status, 200);
        body
    };
    // Who comes to the relay now hears it from the start.
    let (mut late, head) = listen(relay.port, MOUNT).await;
    assert_eq!(head.get("content-type"), Some("audio/mpeg"));
    assert!(tone::run(&late.exact(50 * FRAME).await).first >= THEIRS);
    let _source = Source::start_at(&primary, MOUNT, AGAIN).await;
    let named = format!("<fallback>{JINGLE}</fallback>");
    eventually("the list names it", async || {
        list().await.contains(&named).then_some(())
    })
    .await;
    set_title(primary.port, MOUNT, &password, "again").await;
    for ear in &mut ears {
        ear.until(AGAIN).await;
        let runs = ear.runs();
        assert_eq!(runs.len(), 3, "{runs:?}");
        assert!(runs[1].0 >= THEIRS && runs[1].1 < AGAIN, "{runs:?}");
        let (_, titles) = ear.heard();
        if ear.metaint > 0 {
            assert_eq!(titles[..2], ["ours", "theirs"], "{titles:?}");
            assert!(
                titles.last().is_some_and(|title| title != "theirs"),
                "{titles:?}"
            );
        }
        println!("runs of frames: {runs:?}, titles: {titles:?}");
    }
    moved([&primary, &relay], "back").await;
    drop(late);
    // Those whose bytes are read late come back late.
    told(&primary, &format!("fallback_returned mount={MOUNT}")).await;
}

/// What goes on for `ear` when the source is lost and when it is back: three runs of whole frames in one connection.
async fn there_and_back(primary: &Node, source: Source, ear: &mut Ear) {
    ear.until(0).await;
    let (_, next) = source.finish().await;
    ear.until(THEIRS).await;
    let _source = Source::start_at(primary, MOUNT, AGAIN).await;
    ear.until(AGAIN).await;
    let runs = ear.runs();
    assert_eq!(runs.len(), 3, "{runs:?}");
    assert_eq!(runs[0].1, next, "the source's last frame");
    assert!(runs[1].0 >= THEIRS && runs[1].1 < AGAIN, "{runs:?}");
    assert_eq!(runs[2].0, AGAIN, "the first frame of the one that is back");
    println!("runs of frames: {runs:?}");
}

#[tokio::test]
async fn a_listener_by_tls_hears_the_fallback_and_comes_back() {
    let certificate = Certificate::new();
    let yaml = format!(
        "{}\nhold: 1s\nmetaint: {METAINT}\nmounts:\n  - {{path: {MOUNT}, fallback: {JINGLE}}}",
        certificate.yaml()
    );
    let primary = Plan::primary().yaml(&yaml).start().await;
    let source = Source::start(&primary, MOUNT).await;
    let _jingle = Source::start_at(&primary, JINGLE, THEIRS).await;
    on_air(primary.port, MOUNT).await;
    on_air(primary.port, JINGLE).await;
    let tunnel = certificate.tunnel(primary.port).await;
    let mut ear = Ear::at(tunnel, METAINT).await;
    there_and_back(&primary, source, &mut ear).await;
    let moves = async |action: &str| {
        let labels = format!("action=\"{action}\"");
        let name = "relayctl_fallback_moves_total";
        primary.metric(name, &labels).await
    };
    assert_eq!((moves("away").await, moves("back").await), (1.0, 1.0));
}

/// The relay has the fallback only while somebody has to hear it, and then in time.
#[tokio::test]
async fn a_fallback_is_fetched_on_demand() {
    let yaml = format!("hold: 5s\nmounts:\n  - {{path: {MOUNT}, fallback: {JINGLE}}}");
    let primary = Plan::primary().yaml(&yaml).start().await;
    let source = Source::start(&primary, MOUNT).await;
    let _jingle = Source::start_at(&primary, JINGLE, THEIRS).await;
    let relay = Plan::relay(&primary)
        .yaml("hold: 5s\npull:\n  on_demand: true")
        .start()
        .await;
    on_air(relay.port, MOUNT).await;
    on_air(primary.port, JINGLE).await;
    let mut ear = Ear::at(relay.port, 0).await;
    ear.until(0).await;
    let has = async |mount: &str| {
        let rows = api(&relay, "mounts").await;
        let is_live = |row: &serde_json::Value| row["name"] == mount && row["state"] == "live";
        rows.iter().any(is_live)
    };
    assert!(has(MOUNT).await && !has(JINGLE).await, "fetched for nobody");
    there_and_back(&primary, source, &mut ear).await;
    assert!(has(JINGLE).await, "it was never here");
}
