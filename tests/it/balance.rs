//! The main job: everybody comes to one URL, and each is sent to the relay with the fewest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;

use crate::harness::cluster::{Cluster, Guest, follow};
use crate::harness::peer::Peer;
use crate::harness::program::{Program, output_of, tool};
use crate::harness::source::{Source, on_air, set_title, strip};
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually, find};

const MOUNT: &str = "/live.mp3";

/// How many came to each node.
fn spread(ports: impl Iterator<Item = u16>) -> Vec<usize> {
    let mut counts = BTreeMap::new();
    for port in ports {
        *counts.entry(port).or_insert(0) += 1;
    }
    println!("spread: {counts:?}");
    counts.into_values().collect()
}

/// A minute of noise as MP3, and nothing around its frames.
async fn a_minute(cluster: &Cluster) -> (std::path::PathBuf, Vec<u8>) {
    let file = cluster.primary.folder().join("minute.mp3");
    let mut ffmpeg = tool("ffmpeg", "ffmpeg");
    ffmpeg.args([
        "-hide_banner",
        "-nostdin",
        "-loglevel",
        "error",
        "-f",
        "lavfi",
        "-i",
    ]);
    ffmpeg.args([
        "anoisesrc=duration=60:amplitude=0.5:seed=11:sample_rate=44100",
        "-ac",
        "2",
    ]);
    ffmpeg.args([
        "-c:a",
        "libmp3lame",
        "-b:a",
        "128k",
        "-write_xing",
        "0",
        "-id3v2_version",
        "0",
    ]);
    output_of({
        ffmpeg.arg(&file);
        ffmpeg
    })
    .await;
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.len() > 950_000, "{} bytes", bytes.len());
    (file, bytes)
}

/// `ffmpeg` sends the file as it is, four times as fast as it plays.
fn send(cluster: &Cluster, file: &std::path::Path) -> Program {
    let mut ffmpeg = tool("ffmpeg", "ffmpeg");
    ffmpeg
        .args([
            "-hide_banner",
            "-nostdin",
            "-loglevel",
            "warning",
            "-readrate",
            "4",
            "-i",
        ])
        .arg(file);
    ffmpeg.args([
        "-c",
        "copy",
        "-write_xing",
        "0",
        "-id3v2_version",
        "0",
        "-content_type",
        "audio/mpeg",
        "-f",
        "mp3",
    ]);
    let password = cluster.primary.source_password();
    ffmpeg.arg(format!(
        "icecast://source:{password}@127.0.0.1:{}{MOUNT}",
        cluster.primary.port
    ));
    Program::start(ffmpeg)
}

#[tokio::test]
async fn thirty_listeners_hear_a_real_minute_on_three_relays() {
    let cluster = Cluster::start_with(3, "hold: 2s", "hold: 2s").await;
    let (file, sent) = a_minute(&cluster).await;
    let mut ffmpeg = send(&cluster, &file);
    cluster.on_air(MOUNT).await;
    let mut guests = Vec::new();
    for n in 0..30 {
        guests.push(follow(address(n), cluster.primary.port, MOUNT, "").await);
    }
    assert_eq!(spread(guests.iter().map(|guest| guest.port)), [10, 10, 10]);
    let (mut earliest, mut heard_in_all) = (usize::MAX, 0);
    let guests: Vec<_> = guests
        .into_iter()
        .map(|guest| tokio::spawn(to_the_end(guest)))
        .collect();
    assert!(ffmpeg.ended().await.success(), "{}", ffmpeg.stderr());
    for guest in guests {
        let heard = guest.await.unwrap();
        let at = find(&sent, &heard).expect("the audio is no run of what was sent");
        assert_eq!(at + heard.len(), sent.len(), "the end is missing");
        earliest = earliest.min(at);
        heard_in_all += heard.len();
    }
    println!("{heard_in_all} bytes heard, all of them from byte {earliest} on");
}

async fn to_the_end(mut guest: Guest) -> Vec<u8> {
    guest.peer.rest().await
}

#[tokio::test]
async fn thirty_listeners_who_ask_for_titles_hear_the_same() {
    let cluster = Cluster::start_with(3, "hold: 2s", "hold: 2s").await;
    let (file, sent) = a_minute(&cluster).await;
    let mut ffmpeg = send(&cluster, &file);
    cluster.on_air(MOUNT).await;
    let mut guests = Vec::new();
    for n in 0..30 {
        let guest = follow(
            address(n),
            cluster.primary.port,
            MOUNT,
            "Icy-MetaData: 1\r\n",
        )
        .await;
        let metaint: usize = guest
            .head
            .get("icy-metaint")
            .expect("icy-metaint")
            .parse()
            .unwrap();
        guests.push((metaint, tokio::spawn(to_the_end(guest))));
    }
    let titles: Vec<String> = (1..=8)
        .map(|n| format!("Artist \u{e9} {n} - Title {n}"))
        .collect();
    let mut turns = tokio::time::interval(std::time::Duration::from_millis(1200));
    for title in &titles {
        turns.tick().await;
        set_title(
            cluster.primary.port,
            MOUNT,
            &cluster.primary.source_password(),
            title,
        )
        .await;
    }
    assert!(ffmpeg.ended().await.success(), "{}", ffmpeg.stderr());
    for (metaint, guest) in guests {
        let (audio, said) = strip(&guest.await.unwrap(), metaint);
        let at = find(&sent, &audio).expect("the audio is no run of what was sent");
        assert_eq!(at + audio.len(), sent.len(), "the end is missing");
        let said: Vec<String> = said
            .into_iter()
            .map(|(_, title)| title)
            .filter(|title| !title.is_empty())
            .collect();
        assert_eq!(said, titles);
    }
}

/// Five hundred come at once; `from` says whence. The busiest relay has at most `most` times the mean. No more than
/// thirty-two stand between connecting and having their answer: one address may have sixty-four unfinished heads.
async fn storm(cluster: &Cluster, from: impl Fn(u16) -> u16, most: f64) {
    let port = cluster.primary.port;
    let begin = Instant::now();
    let door = Arc::new(Semaphore::new(32));
    let guests = (0..500).map(|n| {
        let (from, door) = (address(from(n)), Arc::clone(&door));
        tokio::spawn(async move {
            let passing = door.acquire().await.unwrap();
            let mut guest = follow(from, port, MOUNT, "User-Agent: storm/1\r\n").await;
            drop(passing);
            tone::run(&guest.peer.exact(FRAME).await);
            guest
        })
    });
    let guests: Vec<_> = guests.collect();
    let mut seated = Vec::new();
    for guest in guests {
        seated.push(guest.await.unwrap());
    }
    println!("500 joined in {:.2} s", begin.elapsed().as_secs_f64());
    let counts = spread(seated.iter().map(|guest| guest.port));
    assert_eq!(
        counts.len(),
        cluster.relays.len(),
        "a relay got nobody, or the primary served"
    );
    let busiest = counts.into_iter().max().unwrap_or(0) as f64 / 50.0;
    assert!(busiest <= most, "the busiest has {busiest} times the mean");
    // And so it is in the table.
    eventually("the table has them all", async || {
        let rows = cluster.table().await;
        let all: u64 = rows
            .iter()
            .filter_map(|row| row["listeners"].as_u64())
            .sum();
        (all == 500).then_some(())
    })
    .await;
}

#[tokio::test]
async fn five_hundred_from_everywhere_spread_over_ten_relays() {
    let cluster = Cluster::start(10).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    storm(&cluster, |n| n, 1.05).await;
}

#[tokio::test]
async fn five_hundred_from_one_address_spread_over_ten_relays() {
    let cluster = Cluster::start(10).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    // In two seconds one of them is taken for the first one's player that comes again, and is sent to the same place
    // without being counted there.
    storm(&cluster, |_| 1, 1.1).await;
}

#[tokio::test]
async fn a_redirect_is_what_players_can_follow() {
    let cluster = Cluster::start(1).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let relay = cluster.relays[0].url();
    for method in ["GET", "HEAD"] {
        let mut peer = Peer::connect(cluster.primary.port).await;
        peer.send(format!(
            "{method} {MOUNT}?user=a%20b&x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ))
        .await;
        let head = peer.head().await;
        assert_eq!(head.status, 302, "{method}");
        let location = head.get("location").unwrap();
        // The client's own scheme, the same path, the query kept, at most one parameter of ours and that last.
        let rest = location.strip_prefix(&format!("{relay}{MOUNT}?user=a%20b&x=1"));
        let rest = rest.unwrap_or_else(|| panic!("{method}: {location}"));
        assert!(
            rest.is_empty() || (rest.starts_with("&rt=") && !rest[4..].contains('&')),
            "{location}"
        );
        assert_eq!(head.get("cache-control"), Some("no-store"));
        assert_eq!(head.get("access-control-allow-origin"), Some("*"));
        assert!(head.get("x-relayctl-reason").is_some(), "{head:?}");
    }
}

#[tokio::test]
async fn mpv_plays_through_the_redirect() {
    let cluster = Cluster::start(1).await;
    let _ffmpeg = crate::encoders::ffmpeg(
        cluster.primary.port,
        &cluster.primary.source_password(),
        MOUNT,
        crate::encoders::MP3,
        "",
    );
    cluster.on_air(MOUNT).await;
    let said = crate::players::mpv(&format!("{}{MOUNT}", cluster.primary.url())).await;
    assert!(said.contains("(mp3 2ch 48000Hz)"), "{said}");
    let sent = cluster.relays[0]
        .metric("relayctl_sent_bytes_total", "")
        .await;
    assert!(sent > 0.0, "the relay sent nothing");
}

/// Nobody else can: the primary plays itself, and says that it may not where it may not.
#[tokio::test]
async fn without_a_relay_the_primary_serves_where_it_may() {
    for (serve, status) in [("auto", 200), ("always", 200), ("never", 503)] {
        let cluster = Cluster::start_with(0, &format!("serve: {serve}"), "").await;
        let mut peer = Peer::connect(cluster.primary.port).await;
        let login = crate::harness::source::source_head(
            "PUT /live.mp3 HTTP/1.1",
            &cluster.primary.source_password(),
            "",
        );
        peer.send(login).await;
        assert_eq!(peer.head().await.status, 200);
        peer.send(tone::frames(0, 200)).await;
        eventually(&format!("serve: {serve} is {status}"), async || {
            let mut peer = Peer::connect(cluster.primary.port).await;
            peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                .await;
            let head = peer.head().await;
            assert!(head.status == 404 || head.status == status, "{head:?}");
            if status == 503 && head.status == 503 {
                assert!(head.get("retry-after").is_some(), "{head:?}");
            }
            (head.status == status).then_some(())
        })
        .await;
        if status == 200 {
            on_air(cluster.primary.port, MOUNT).await;
        }
    }
}

/// Beside a relay that is free: `always` serves here, `auto` and `never` send away; without it `auto` serves, and
/// `never` says when to come again.
#[tokio::test]
async fn who_serves_beside_a_relay_is_a_setting() {
    let asked = async |port: u16| {
        let mut peer = Peer::connect(port).await;
        peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        let head = peer.head().await;
        let reason = head.get("x-relayctl-reason").expect("a reason").to_owned();
        (head, reason)
    };
    for (serve, beside, alone) in [
        ("always", (200, "serve-always"), (200, "serve-always")),
        ("auto", (302, "least-conn"), (200, "primary-serves")),
        ("never", (302, "least-conn"), (503, "no-relay")),
    ] {
        let mut cluster = Cluster::start_with(1, &format!("serve: {serve}"), "").await;
        let port = cluster.primary.port;
        let mut peer = Peer::connect(port).await;
        let password = cluster.primary.source_password();
        let head = crate::harness::source::source_head("PUT /live.mp3 HTTP/1.1", &password, "");
        peer.send(head).await;
        assert_eq!(peer.head().await.status, 200);
        let _source = Source::over(peer, crate::harness::source::Framing::Raw, 0);
        cluster.on_air(MOUNT).await;
        let (head, reason) = asked(port).await;
        assert_eq!((head.status, reason.as_str()), beside, "serve: {serve}");
        assert!(cluster.relays[0].terminate().await.success());
        let (head, reason) = eventually("the relay is gone", async || {
            let (head, reason) = asked(port).await;
            ((head.status, reason.as_str()) == alone).then_some((head, reason))
        })
        .await;
        let retry = head
            .get("retry-after")
            .map(|text| text.parse::<u32>().unwrap());
        assert_eq!(retry.is_some(), head.status == 503, "{reason}: {head:?}");
        assert!(
            retry.is_none_or(|seconds| (5..=15).contains(&seconds)),
            "{retry:?}"
        );
        assert_eq!(head.get("x-relayctl-node"), Some("head"));
    }
}
