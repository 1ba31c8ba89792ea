//! What a station sends in fact: covers, containers, wrong content types, titles of all kinds, and sources that take their time.

use std::io::Cursor;

use ogg::PacketReader;
use ogg::writing::{PacketWriteEndInfo, PacketWriter};
use serde_json::Value;

use crate::harness::cluster::{Cluster, api};
use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::program::{output_of, tool};
use crate::harness::source::{basic, listen, listen_with, on_air, source_head};
use crate::harness::tone::{self, FRAME};

const OPUS: &[u8] = include_bytes!("../fixtures/opus.ogg");
const VORBIS: &[u8] = include_bytes!("../fixtures/vorbis.ogg");
const AAC: &[u8] = include_bytes!("../fixtures/tone.aac");

/// A source that has sent its head, and was taken.
async fn source(node: &Node, mount: &str, content_type: &str, more: &str) -> Peer {
    let mut peer = Peer::connect(node.port).await;
    let first = format!("PUT {mount} HTTP/1.1");
    let head = source_head(&first, &node.source_password(), more);
    let head = head.replace("audio/mpeg", content_type);
    assert!(head.contains(content_type), "{head}");
    peer.send(head).await;
    assert_eq!(peer.head().await.status, 200);
    peer
}

/// Seconds of sound that a decoder finds.
async fn decoded(bytes: &[u8], name: &str) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    let mut ffmpeg = tool("ffmpeg", "ffmpeg");
    ffmpeg.args(["-v", "fatal", "-i"]).arg(&file);
    ffmpeg.args(["-map", "0:a", "-ac", "1", "-ar", "8000", "-f", "s16le", "-"]);
    output_of(ffmpeg).await.len() as f64 / 16_000.0
}

/// Ends a mount's source, so that its listeners get a clean end.
async fn end(node: &Node, mount: &str) {
    let mut peer = Peer::connect(node.port).await;
    let login = crate::harness::source::login("admin", &node.secret("admin-password"));
    let request = format!("GET /admin/killsource?mount={mount} HTTP/1.1\r\nHost: x\r\n{login}\r\n");
    let (head, body) = peer.ask(request).await;
    assert_eq!(head.status, 200, "{body}");
}

/// The mount's row in a node's own list.
async fn row(node: &Node, mount: &str) -> Option<Value> {
    let rows = api(node, "mounts").await;
    rows.into_iter().find(|row| row["name"] == mount)
}

/// The fixture with a cover of `bytes` in its comments.
fn with_cover(bytes: usize) -> Vec<u8> {
    let mut reader = PacketReader::new(Cursor::new(OPUS));
    let mut writer = PacketWriter::new(Vec::new());
    let mut number = 0;
    while let Some(packet) = reader.read_packet().unwrap() {
        let mut data = packet.data.clone();
        if number == 1 {
            data = b"OpusTags\x01\0\0\0v\x03\0\0\0".to_vec();
            let cover = format!("METADATA_BLOCK_PICTURE={}", "A".repeat(bytes));
            for comment in ["ARTIST=Somebody", cover.as_str(), "TITLE=Something"] {
                data.extend((comment.len() as u32).to_le_bytes());
                data.extend(comment.as_bytes());
            }
        }
        number += 1;
        let end = match (number, packet.last_in_stream()) {
            (_, true) => PacketWriteEndInfo::EndStream,
            (1 | 2, _) => PacketWriteEndInfo::EndPage,
            _ => PacketWriteEndInfo::NormalPacket,
        };
        let serial = packet.stream_serial();
        let granule = packet.absgp_page();
        writer.write_packet(data, serial, end, granule).unwrap();
    }
    writer.into_inner()
}

#[tokio::test]
async fn a_track_with_a_large_cover_is_heard_everywhere() {
    let cluster = Cluster::start_with(1, "serve: always", "").await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    for (number, cover) in [200_000, 1_000_000, 17 << 20].into_iter().enumerate() {
        let mount = format!("/cover{number}.opus");
        let mut source = source(primary, &mount, "application/ogg", "").await;
        let track = with_cover(cover);
        source.send(&track).await;
        on_air(primary.port, &mount).await;
        on_air(relay.port, &mount).await;
        let title = row(relay, &mount).await.unwrap()["title"].clone();
        assert_eq!(title, "Somebody - Something");
        for node in [primary, relay] {
            let (mut listener, _) = listen(node.port, &mount).await;
            // A second track follows, without a cover.
            listener.exact(1_000).await;
        }
        let (mut early, _) = listen(relay.port, &mount).await;
        let offset = async || row(relay, &mount).await?["offset"].as_u64();
        let before = offset().await.unwrap();
        source.send(OPUS).await;
        eventually("the second track is there", async || {
            (offset().await? >= before + OPUS.len() as u64).then_some(())
        })
        .await;
        let mut heard = early.exact(1_000).await;
        end(primary, &mount).await;
        heard.extend(early.ended().await);
        let seconds = decoded(&heard, "heard.opus").await;
        assert!(
            seconds > 5.5,
            "{cover}: {seconds} s of {} bytes",
            heard.len()
        );
    }
}

#[tokio::test]
async fn who_comes_late_to_a_container_decodes_it() {
    let cluster = Cluster::start_with(1, "serve: always", "").await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    let files: [(&str, &str, &[u8]); 3] = [
        (
            "/c.webm",
            "audio/webm",
            include_bytes!("../fixtures/tone.webm"),
        ),
        (
            "/c.flac",
            "audio/flac",
            include_bytes!("../fixtures/tone.flac"),
        ),
        (
            "/c.mp4",
            "audio/mp4",
            include_bytes!("../fixtures/tone.mp4"),
        ),
    ];
    for (mount, content_type, file) in files {
        let mut source = source(primary, mount, content_type, "").await;
        let (front, rest) = file.split_at(file.len() * 3 / 4);
        source.send(front).await;
        on_air(primary.port, mount).await;
        on_air(relay.port, mount).await;
        let mut late = Vec::new();
        for node in [primary, relay] {
            late.push(listen(node.port, mount).await.0);
        }
        source.send(rest).await;
        for (listener, place) in late.iter_mut().zip(["primary", "relay"]) {
            let mut heard = listener.exact(rest.len() / 2).await;
            assert!(
                heard[..8] == file[..8],
                "{mount} at the {place} begins as the file does"
            );
            if place == "relay" {
                end(primary, mount).await;
            }
            heard.extend(listener.pending());
            let seconds = decoded(&heard, &mount[1..]).await;
            assert!(
                seconds > 0.3,
                "{mount} at the {place}: {seconds} s of {} bytes",
                heard.len()
            );
        }
    }
}

#[tokio::test]
async fn a_container_that_is_not_known_is_announced_as_such() {
    let node = Plan::primary().start().await;
    let mut source = source(&node, "/x.nsv", "video/nsv", "").await;
    source.send(vec![7; 50_000]).await;
    on_air(node.port, "/x.nsv").await;
    assert_eq!(row(&node, "/x.nsv").await.unwrap()["joinable"], false);
    assert!(
        node.log().contains("nobody who comes late"),
        "{}",
        node.log()
    );
    let mut mp3 = self::source(&node, "/x.mp3", "audio/mpeg", "").await;
    mp3.send(tone::frames(0, 50)).await;
    on_air(node.port, "/x.mp3").await;
    assert_eq!(row(&node, "/x.mp3").await.unwrap()["joinable"], true);
}

#[tokio::test]
async fn a_wrong_content_type_is_found_out_by_the_frames() {
    let node = Plan::primary().start().await;
    for (mount, declared, own, bytes) in [
        ("/a", "audio/aac", "audio/mpeg", tone::frames(0, 100)),
        ("/b", "\"audio/mpeg\"", "audio/aac", AAC.to_vec()),
        ("/c", "mp3", "application/ogg", VORBIS.to_vec()),
        (
            "/d",
            "application/octet-stream",
            "audio/mpeg",
            tone::frames(0, 100),
        ),
    ] {
        let mut source = source(&node, mount, declared, "").await;
        source.send(bytes).await;
        let head = on_air(node.port, mount).await;
        assert_eq!(head.get("content-type"), Some(own), "{declared}");
    }
    assert!(
        node.log()
            .contains("another format than its Content-Type says"),
        "{}",
        node.log()
    );
    // What is nothing at all is refused with what it looks like.
    let mut page = source(&node, "/e", "audio/mpeg", "").await;
    page.send("<html>".repeat(20_000)).await;
    let said = String::from_utf8(page.rest().await).unwrap();
    assert!(
        said.contains("415 ") && said.contains("a page or XML"),
        "{said}"
    );
}

#[tokio::test]
async fn live_is_what_can_be_played() {
    let node = Plan::primary().start().await;
    let mut peer = source(&node, "/v.ogg", "application/ogg", "").await;
    let state = async || node.get("/health/source").await.0.status;
    assert_eq!(state().await, 503);
    // A relay of something that began long ago: pages without their beginning.
    peer.send(&VORBIS[4_023..]).await;
    eventually("it is told", async || {
        node.log().contains("nothing can be played").then_some(())
    })
    .await;
    assert_eq!(state().await, 503);
    assert_eq!(row(&node, "/v.ogg").await, None);
    peer.send(VORBIS[4_023..].repeat(10)).await;
    let said = String::from_utf8(peer.rest().await).unwrap();
    assert!(
        said.contains("415 ") && said.contains("header pages"),
        "{said}"
    );
    let kinds = eventually("it is an event", async || {
        let events = api(&node, "events").await;
        let kinds = events.iter().filter_map(|event| event["kind"].as_str());
        let kinds: Vec<String> = kinds.map(str::to_owned).collect();
        kinds
            .iter()
            .any(|kind| kind == "source_unplayable")
            .then_some(kinds)
    });
    let kinds = kinds.await;
    assert!(!kinds.iter().any(|kind| kind == "source_up"), "{kinds:?}");
    // With its beginning it is.
    let mut peer = source(&node, "/v.ogg", "application/ogg", "").await;
    peer.send(VORBIS).await;
    on_air(node.port, "/v.ogg").await;
    assert_eq!(state().await, 200);
}

#[tokio::test]
async fn a_first_byte_may_come_late() {
    let node = Plan::primary().start().await;
    let mut peer = source(&node, "/late.mp3", "audio/mpeg", "").await;
    // The operator is told after five seconds, and the source goes on.
    eventually("the hint", async || {
        node.log().contains("sends nothing yet").then_some(())
    })
    .await;
    peer.send(tone::frames(0, 50)).await;
    on_air(node.port, "/late.mp3").await;
    let (mut listener, _) = listen(node.port, "/late.mp3").await;
    tone::run(&listener.exact(20 * FRAME).await);
}

#[tokio::test]
async fn a_rate_that_nobody_declared_is_measured() {
    let node = Plan::primary().start().await;
    let mut peer = Peer::connect(node.port).await;
    let head = format!(
        "PUT /r.aac HTTP/1.1\r\nHost: x\r\n{}Content-Type: audio/aac\r\n\r\n",
        basic(&node.source_password())
    );
    peer.send(head).await;
    assert_eq!(peer.head().await.status, 200);
    peer.send(AAC.repeat(4)).await;
    // 131 frames of 1,024 samples at 44.1 kHz.
    let rate = AAC.len() as f64 * 8.0 / (131.0 * 1_024.0 / 44_100.0) / 1_000.0;
    eventually("the rate is known", async || {
        let status: Value = serde_json::from_str(&node.get("/status-json.xsl").await.1).unwrap();
        let shown = status["icestats"]["source"]["bitrate"].as_f64()?;
        ((shown - rate).abs() < 3.0).then_some(())
    })
    .await;
    let shown = row(&node, "/r.aac").await.unwrap()["bitrate"]
        .as_f64()
        .unwrap();
    assert!((shown / 1_000.0 - rate).abs() < 3.0, "{shown}");
    let (_, stats) = node.get("/stats?sid=1").await;
    assert!(stats.contains("<BITRATE>9"), "{stats}");
}

/// Asks for a title as encoders do; the answer.
async fn title(node: &Node, mount: &str, query: &str) -> (u16, String) {
    let login = basic(&node.source_password());
    let request = format!(
        "GET /admin/metadata?mode=updinfo&mount={mount}&{query} HTTP/1.1\r\nHost: x\r\n{login}\r\n"
    );
    let (head, body) = Peer::connect(node.port).await.ask(request).await;
    (head.status, body)
}

#[tokio::test]
async fn titles_in_every_character_set_and_with_all_their_parts() {
    let russian = "serve: always\nmounts:\n  - path: /ru.mp3\n    charset: windows-1251";
    let cluster = Cluster::start_with(1, russian, "").await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    let mut peers = Vec::new();
    for mount in ["/t.mp3", "/ru.mp3"] {
        let mut peer = source(primary, mount, "audio/mpeg", "").await;
        peer.send(tone::frames(0, 100)).await;
        on_air(relay.port, mount).await;
        peers.push(peer);
    }
    let hello = "%CF%F0%E8%E2%E5%F2";
    for (mount, query, shown) in [
        (
            "/t.mp3",
            format!("charset=windows-1251&song={hello}"),
            "Привет",
        ),
        (
            "/t.mp3",
            format!("charset=KOI8-R&song={}", "%F0%D2%C9"),
            "При",
        ),
        ("/ru.mp3", format!("song={hello}"), "Привет"),
        ("/ru.mp3", "charset=utf-8&song=%C3%A9".to_owned(), "é"),
        (
            "/t.mp3",
            "artist=A&title=B&url=https%3A%2F%2Fx%2Fa.jpg".to_owned(),
            "A - B",
        ),
    ] {
        assert_eq!(title(primary, mount, &query).await.0, 200, "{query}");
        let place = usize::from(mount == "/ru.mp3");
        peers[place].send(tone::frames(0, 10)).await;
        for node in [primary, relay] {
            eventually("the title", async || {
                (row(node, mount).await?["title"] == shown).then_some(())
            })
            .await;
        }
    }
    let (status, said) = title(primary, "/t.mp3", "charset=klingon&song=x").await;
    assert!(status == 400 && said.contains("klingon"), "{said}");
    // Artist, title and URL stay apart on every path.
    for node in [primary, relay] {
        let status: Value = serde_json::from_str(&node.get("/status-json.xsl").await.1).unwrap();
        let sources = status["icestats"]["source"].as_array().unwrap();
        let own = sources.iter().find(|own| own["artist"] == "A").unwrap();
        assert_eq!(own["title"], "B");
        let (mut listener, _) = listen_with(node.port, "/t.mp3", "Icy-MetaData: 1\r\n").await;
        // Beyond the third of the blocks, the first after the title.
        let heard = listener.exact(48_500).await;
        let block = "StreamTitle='A - B';StreamUrl='https://x/a.jpg';";
        let found = heard
            .windows(block.len())
            .any(|part| part == block.as_bytes());
        assert!(found, "no such block");
    }
}

#[tokio::test]
async fn a_title_that_is_set_on_ogg_is_heard_in_the_stream() {
    let cluster = Cluster::start_with(1, "serve: always", "").await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    let mut peer = source(primary, "/t.ogg", "application/ogg", "").await;
    let (front, rest) = VORBIS.split_at(6_714);
    peer.send(front).await;
    on_air(relay.port, "/t.ogg").await;
    let (mut listener, _) = listen(relay.port, "/t.ogg").await;
    let mut heard = listener.exact(front.len()).await;
    let (status, said) = title(primary, "/t.ogg", "artist=New&title=Song").await;
    assert_eq!(status, 200, "{said}");
    peer.send(rest).await;
    heard.extend(listener.exact(rest.len()).await);
    end(primary, "/t.ogg").await;
    heard.extend(listener.ended().await);
    let found = |text: &str| {
        heard
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(found("ARTIST=New") && found("TITLE=Song"));
    assert!(decoded(&heard, "heard.ogg").await > 2.8);
}

#[tokio::test]
async fn a_title_survives_a_restart_of_the_primary() {
    let node = Plan::primary().start().await;
    let mut peer = source(&node, "/t.mp3", "audio/mpeg", "Ice-Name: Station\r\n").await;
    peer.send(tone::frames(0, 50)).await;
    on_air(node.port, "/t.mp3").await;
    assert_eq!(title(&node, "/t.mp3", "song=Kept").await.0, 200);
    peer.send(tone::frames(50, 50)).await;
    eventually("the title is on the disk", async || {
        let text = std::fs::read_to_string(node.data_dir().join("titles.json")).ok()?;
        text.contains("Kept").then_some(())
    })
    .await;
    drop(peer);
    let node = node.again().await;
    let mut peer = source(&node, "/t.mp3", "audio/mpeg", "Ice-Name: Station\r\n").await;
    peer.send(tone::frames(0, 50)).await;
    on_air(node.port, "/t.mp3").await;
    assert_eq!(row(&node, "/t.mp3").await.unwrap()["title"], "Kept");
    drop(peer);
    eventually("it has gone", async || {
        (row(&node, "/t.mp3").await?["state"] == "held").then_some(())
    })
    .await;
    // Another programme has its own.
    let mut other = source(&node, "/t.mp3", "audio/mpeg", "Ice-Name: Other\r\n").await;
    other.send(tone::frames(0, 50)).await;
    eventually("the old one is gone", async || {
        (row(&node, "/t.mp3").await?["title"] == "").then_some(())
    })
    .await;
}
