//! Faults that other servers of this field had in production, each as a scene here.
//!
//! Not repeated, since they have tests of their own: a silent encoder that pins its mount
//! (`sources::a_silent_source_is_taken_over`), a proxy that was limited in place of its clients (`client_address`), framers at the edges of their windows (the targets `mpeg`, `adts` and `ogg`
//! of `tests/fuzz`), and text from the environment inside rendered files (`render::tests`).

use std::time::{Duration, Instant};

use bytes::Bytes;
use ogg::writing::{PacketWriteEndInfo, PacketWriter};
use tokio::time::interval;

use crate::harness::hanging_disk::HangingDisk;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Peer, ask};
use crate::harness::source::{Source, listen, off_air, on_air, set_title, source_head};
use crate::harness::tone;
use crate::harness::under_attack::{MOUNT, UnderAttack, descriptors, resident_mib};
use crate::harness::{eventually, within};

/// After a flap of the source listeners were given old audio again. Each frame comes once here, however often the
/// source goes and returns within the hold, with a clean end or a reset.
#[tokio::test]
async fn a_flapping_source_repeats_nothing() {
    let node = Plan::primary().start().await;
    let mut source = Source::start(&node, MOUNT).await;
    let scene = UnderAttack::of(node, None).await;
    for _ in 0..10 {
        let (_, next) = source.finish().await;
        source = Source::start_at(&scene.node, MOUNT, next).await;
    }
    let (_, report) = scene.finish("ten flaps of the source").await;
    assert!(report.heard.frames > 0);
}

/// A title held a server's lock over its database's writes, and its listeners waited for the disk. A thousand titles at a hundred
/// a second leave none late while nothing can be written down.
#[tokio::test]
async fn titles_wait_for_no_disk() {
    let disk = HangingDisk::new().await;
    let scene = UnderAttack::primary(disk.under(Plan::primary())).await;
    let (port, password) = (scene.node.port, scene.node.source_password());
    disk.hang();
    let began = Instant::now();
    let mut pace = interval(Duration::from_millis(10));
    for n in 0..1000 {
        pace.tick().await;
        set_title(port, MOUNT, &password, &format!("title {n}")).await;
    }
    println!("1,000 titles in {:.1} s", began.elapsed().as_secs_f64());
    eventually("the last title is told", async || {
        let (_, json) = scene.node.get("/status-json.xsl").await;
        json.contains("title 999").then_some(())
    })
    .await;
    let (_, report) = scene.finish("1,000 titles with the disk hanging").await;
    assert!(report.peak_mib < report.first_mib + 32, "{report:?}");
    disk.work();
}

/// A server leaked a routine and memory for each reconnect of its source. Ten thousand leave memory, tasks, series and
/// descriptors as they were.
#[tokio::test]
async fn ten_thousand_reconnects_of_a_source_leave_nothing() {
    let scene = UnderAttack::primary(Plan::primary().yaml("hold: 1s")).await;
    let flap = async |times: usize| {
        for at in 0..times {
            let mut peer = Peer::connect(scene.node.port).await;
            let head = source_head(
                "PUT /flap.mp3 HTTP/1.1",
                &scene.node.source_password(),
                "Content-Length: 1536\r\n",
            );
            peer.send([head.as_bytes(), &tone::frames(4 * at as u64, 4)].concat())
                .await;
            let said = peer.rest().await;
            assert!(
                said.starts_with(b"HTTP/1.1 200 "),
                "{}",
                String::from_utf8_lossy(&said)
            );
        }
        off_air(scene.node.port, "/flap.mp3").await;
    };
    flap(500).await;
    let before = Standing::of(&scene.node).await;
    flap(9_500).await;
    let after = eventually("what was used is back", async || {
        let after = Standing::of(&scene.node).await;
        (after.tasks <= before.tasks + 5.0).then_some(after)
    })
    .await;
    println!("{before:?}\n{after:?}");
    assert_eq!(after.series, before.series);
    assert!(after.mib <= before.mib + 16, "{before:?} {after:?}");
    assert!(
        after.descriptors <= before.descriptors + 5,
        "{before:?} {after:?}"
    );
    scene.finish("10,000 reconnects of a source").await;
}

/// What a node uses.
#[derive(Debug)]
struct Standing {
    mib: u64,
    descriptors: u64,
    tasks: f64,
    series: usize,
}

impl Standing {
    async fn of(node: &Node) -> Self {
        let (_, metrics) = node.get("/metrics").await;
        Self {
            mib: resident_mib(node.pid()),
            descriptors: descriptors(node.pid()),
            tasks: node.metric("relayctl_tasks", "").await,
            series: metrics
                .lines()
                .filter(|line| !line.starts_with('#'))
                .count(),
        }
    }
}

/// Icons that phones and browsers fetch by themselves were counted as listeners of a mount of that name.
#[tokio::test]
async fn what_browsers_fetch_by_themselves_is_no_mount() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    let unknown = async || {
        let labels = "reason=\"unknown_mount\"";
        node.metric("relayctl_refusals_total", labels).await
    };
    // Whoever waited for the source may have asked too early.
    let before = unknown().await;
    for path in [
        "/favicon.ico",
        "/apple-touch-icon.png",
        "/apple-touch-icon-precomposed.png",
        "/apple-touch-icon-120x120.png",
        "/robots.txt",
        "/sitemap.xml",
        "/browserconfig.xml",
        "/crossdomain.xml",
        "/.well-known/change-password",
    ] {
        let (head, body) = node.get(path).await;
        assert_eq!(head.status, 404, "{path}: {body}");
        let put = source_head(
            &format!("PUT {path} HTTP/1.1"),
            &node.source_password(),
            "Content-Length: 0\r\n",
        );
        let (head, body) = ask(node.port, put).await;
        assert_eq!(head.status, 403, "{path}: {body}");
    }
    assert_eq!(node.metric("relayctl_listeners", "").await, 0.0);
    let after = unknown().await;
    assert_eq!(after, before, "they were looked for among the mounts");
}

/// Mails and playlists of other systems carried a host that an attacker had sent.
#[tokio::test]
async fn a_hostile_host_reaches_no_playlist() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    for host in ["evil\"/><x", "a/b", "user@evil", "a\u{2028}b", "<evil>"] {
        for path in [
            "/live.mp3.m3u",
            "/live.mp3.pls",
            "/live.mp3.xspf",
            "/",
            "/status-json.xsl",
        ] {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let (_, body) = ask(node.port, request).await;
            assert!(!body.contains(host), "{path}: {body}");
        }
    }
}

/// A server's decoder died with every track of a chained Ogg Opus stream. Two thousand tracks, with the source gone
/// within the hold in between, are one readable chain for a listener at a relay, and cost the node nothing.
#[tokio::test]
async fn two_thousand_chained_opus_tracks() {
    let primary = Plan::primary().start().await;
    let relay = Plan::relay(&primary).start().await;
    let mut source = opus_source(&primary).await;
    source.send(track(0)).await;
    on_air(relay.port, "/talk.opus").await;
    let (mut listener, _) = listen(relay.port, "/talk.opus").await;
    let before = Standing::of(&relay).await;
    let mut heard = Chain::default();
    for number in 1..2_000 {
        if number % 500 == 0 {
            source.finish().await;
            source = opus_source(&primary).await;
        }
        source.send(track(number)).await;
        if number % 20 == 19 {
            heard.until(&mut listener, number).await;
        }
    }
    let after = Standing::of(&relay).await;
    println!("{} pages; {before:?} {after:?}", heard.pages);
    assert!(
        after.mib <= before.mib + 40,
        "the ring's 32 MiB and a little: {before:?} {after:?}"
    );
}

async fn opus_source(primary: &Node) -> Peer {
    let head = source_head("PUT /talk.opus HTTP/1.1", &primary.source_password(), "")
        .replace("audio/mpeg", "audio/ogg");
    within(Duration::from_secs(60), "the source is taken", async || {
        let mut peer = Peer::connect(primary.port).await;
        peer.send(&head).await;
        (peer.head().await.status == 200).then_some(peer)
    })
    .await
}

/// One track: headers, then a second of packets; the first says its number.
fn track(number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = PacketWriter::new(&mut bytes);
    let mut put = |packet: Vec<u8>, end, position| {
        writer
            .write_packet(packet, number + 1, end, position)
            .unwrap();
    };
    let mut head = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0".to_vec();
    head.truncate(19);
    put(head, PacketWriteEndInfo::EndPage, 0);
    put(
        b"OpusTags\x04\0\0\0test\0\0\0\0".to_vec(),
        PacketWriteEndInfo::EndPage,
        0,
    );
    for at in 1..=50_u64 {
        let mut packet = vec![0xFC];
        packet.extend_from_slice(&number.to_le_bytes());
        packet.resize(60, 7);
        let end = match at {
            50 => PacketWriteEndInfo::EndStream,
            _ if at % 10 == 0 => PacketWriteEndInfo::EndPage,
            _ => PacketWriteEndInfo::NormalPacket,
        };
        put(packet, end, at * 960);
    }
    bytes
}

/// Pages that were heard: each serial begins with a page marked as first, and none comes twice.
#[derive(Default)]
struct Chain {
    unread: Vec<u8>,
    serial: Option<u32>,
    sequence: u32,
    pages: u64,
}

impl Chain {
    /// Reads until a page of track `number` has come.
    async fn until(&mut self, listener: &mut Peer, number: u32) {
        while self.serial != Some(number + 1) {
            let more = listener.some().await;
            assert!(!more.is_empty(), "closed within track {number}");
            self.unread.extend(more);
            self.take_pages();
        }
    }

    fn take_pages(&mut self) {
        while let Some(length) = page_length(&self.unread) {
            let page = Bytes::from(self.unread.drain(..length).collect::<Vec<u8>>());
            let number = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
            let (first, serial, sequence) = (page[5] & 2 != 0, number(14), number(18));
            if self.serial == Some(serial) {
                assert!(
                    !first && sequence == self.sequence + 1,
                    "serial {serial}, page {sequence}"
                );
            } else {
                assert!(first, "serial {serial} begins within");
                assert!(
                    self.serial.is_none_or(|before| before < serial),
                    "serial {serial} again"
                );
            }
            (self.serial, self.sequence) = (Some(serial), sequence);
            self.pages += 1;
        }
    }
}

/// Length of the whole page at the front (RFC 3533 section 6).
fn page_length(bytes: &[u8]) -> Option<usize> {
    let segments = usize::from(*bytes.get(26)?);
    let table = bytes.get(27..27 + segments)?;
    assert_eq!(&bytes[..4], b"OggS", "no page where one must begin");
    let length = 27 + segments + table.iter().map(|size| usize::from(*size)).sum::<usize>();
    (bytes.len() >= length).then_some(length)
}
