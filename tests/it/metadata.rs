//! Titles: in by the encoder's request or within the stream, out at `icy-metaint`, exact to the byte.

use crate::harness::eventually;
use crate::harness::node::Plan;
use crate::harness::peer::{Peer, ask};
use crate::harness::source::{
    Framing, Source, basic, listen_with, on_air, set_title, source_head, strip,
};
use crate::harness::tone::{self, FRAME};

const MOUNT: &str = "/live.mp3";
const ASK: &str = "Icy-MetaData: 1\r\n";

/// Reads until the stripped stream has `count` titles that say something, and some audio behind.
async fn read_titles(peer: &mut Peer, metaint: usize, count: usize) -> (Vec<u8>, Vec<String>) {
    let mut bytes = Vec::new();
    loop {
        bytes.extend(peer.exact(metaint).await);
        let (audio, titles) = strip(&bytes, metaint);
        let said: Vec<_> = titles
            .into_iter()
            .map(|(_, title)| title)
            .filter(|title| !title.is_empty())
            .collect();
        if said.len() >= count {
            return (audio, said);
        }
        assert!(bytes.len() < 64 * 1024 * 1024, "only {said:?}");
    }
}

#[tokio::test]
async fn titles_come_in_order_and_the_audio_is_untouched() {
    let node = Plan::primary().yaml("metaint: 4096").start().await;
    let source = Source::start(&node, MOUNT).await;
    let (mut listener, head) = listen_with(node.port, MOUNT, ASK).await;
    assert_eq!(head.get("icy-metaint"), Some("4096"));
    let titles = [
        "Can - Vitamin C",
        "Sigur R\u{f3}s - S\u{e6}glopur",
        "\u{5742}\u{672c}\u{9f8d}\u{4e00}",
        "Guns N' Roses; live",
    ];
    for title in titles {
        set_title(node.port, MOUNT, &node.source_password(), title).await;
        let from = source.sent();
        eventually("the source goes on", async || {
            (source.sent() > from + 40).then_some(())
        })
        .await;
    }
    let (audio, said) = read_titles(&mut listener, 4096, titles.len()).await;
    tone::run(&audio);
    assert_eq!(said[..3], titles[..3]);
    // A quote and a semicolon would end the field for a player.
    assert!(
        said[3].starts_with("Guns N") && said[3].contains("Roses") && !said[3].contains("';"),
        "{said:?}"
    );
}

#[tokio::test]
async fn who_does_not_ask_gets_none() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    set_title(node.port, MOUNT, &node.source_password(), "a title").await;
    for more in ["", "Icy-MetaData: 0\r\n"] {
        let (mut peer, head) = listen_with(node.port, MOUNT, more).await;
        assert_eq!(head.get("icy-metaint"), None);
        tone::run(&peer.exact(200 * FRAME).await);
    }
    let (mut peer, head) = listen_with(node.port, MOUNT, ASK).await;
    assert_eq!(head.get("icy-metaint"), Some("16000"));
    let (_, said) = read_titles(&mut peer, 16_000, 1).await;
    assert_eq!(said, ["a title"]);
}

/// A source may send its titles within the stream, as relays of old do.
#[tokio::test]
async fn titles_within_the_source_are_taken_out_and_carried() {
    let node = Plan::primary().yaml("metaint: 2048").start().await;
    let mut peer = Peer::connect(node.port).await;
    let metaint = 1000;
    peer.send(source_head(
        "SOURCE /live.mp3 ICE/1.0",
        &node.source_password(),
        "icy-metaint: 1000\r\n",
    ))
    .await;
    assert_eq!(peer.head().await.status, 200);
    let audio = tone::frames(0, 600);
    let mut bytes = Vec::new();
    for (index, part) in audio.chunks(metaint).enumerate() {
        bytes.extend_from_slice(part);
        if part.len() == metaint {
            let block = if index % 50 == 10 {
                format!("StreamTitle='song {index}';")
            } else {
                String::new()
            };
            let sixteens = block.len().div_ceil(16);
            bytes.push(sixteens as u8);
            bytes.extend(
                block
                    .bytes()
                    .chain(std::iter::repeat(0))
                    .take(sixteens * 16),
            );
        }
    }
    // Half before a listener is there, half after: the burst has the first titles.
    peer.send(&bytes[..5_000]).await;
    on_air(node.port, MOUNT).await;
    let (mut listener, _) = listen_with(node.port, MOUNT, ASK).await;
    peer.send(&bytes[5_000..]).await;
    let (heard, said) = read_titles(&mut listener, 2048, 5).await;
    assert_eq!(tone::run(&heard).first, 0);
    assert_eq!(
        said,
        ["song 10", "song 60", "song 110", "song 160", "song 210"]
    );
}

#[tokio::test]
async fn latin_1_is_understood_where_it_is_no_utf_8() {
    let node = Plan::primary().yaml("metaint: 2048").start().await;
    let _source = Source::start(&node, MOUNT).await;
    let login = basic(&node.source_password());
    let request = format!(
        "GET /admin/metadata?mode=updinfo&mount={MOUNT}&song=Caf%E9 HTTP/1.0\r\n{login}\r\n"
    );
    let (head, body) = ask(node.port, request).await;
    assert_eq!(head.status, 200, "{body}");
    let (mut listener, _) = listen_with(node.port, MOUNT, ASK).await;
    let (_, said) = read_titles(&mut listener, 2048, 1).await;
    assert_eq!(said, ["Caf\u{e9}"]);
}

#[tokio::test]
async fn who_may_set_a_title() {
    let yaml = "mounts:\n  - path: /own.mp3\n    password: just-mine";
    let node = Plan::primary().yaml(yaml).start().await;
    let _source = Source::start(&node, MOUNT).await;
    let status = async |login: String, mount: &str| {
        let path = format!("/admin/metadata?mode=updinfo&mount={mount}&song=x");
        ask(node.port, format!("GET {path} HTTP/1.0\r\n{login}\r\n"))
            .await
            .0
            .status
    };
    assert_eq!(status(String::new(), MOUNT).await, 401);
    assert_eq!(status(basic("wrong"), MOUNT).await, 401);
    // A source's credential reaches its own mount only.
    assert_eq!(status(basic("just-mine"), MOUNT).await, 401);
    assert_eq!(status(basic(&node.source_password()), MOUNT).await, 200);
    let admin = crate::harness::source::login("admin", &node.secret("admin-password"));
    assert_eq!(status(admin, MOUNT).await, 200);
}

#[tokio::test]
async fn a_shoutcast_v1_encoder_sets_titles_by_admin_cgi() {
    let node = Plan::primary().yaml("metaint: 2048").start().await;
    let password = node.source_password();
    let mut peer = Peer::connect(node.port).await;
    peer.send(format!("{password}\r\n")).await;
    peer.exact(20).await;
    peer.send("content-type:audio/mpeg\r\n\r\n").await;
    let _source = Source::over(peer, Framing::Raw, 0);
    on_air(node.port, "/stream").await;
    let path = format!("/admin.cgi?mode=updinfo&pass={password}&song=Old%20Wave");
    let (head, body) = ask(
        node.port,
        format!("GET {path} HTTP/1.0\r\nUser-Agent: Mozilla/4.0\r\n\r\n"),
    )
    .await;
    assert_eq!(head.status, 200, "{body}");
    let (mut listener, _) = listen_with(node.port, "/stream", ASK).await;
    let (_, said) = read_titles(&mut listener, 2048, 1).await;
    assert_eq!(said, ["Old Wave"]);
}
