//! Songs that are sent one after the other with the tags that files have, as `cat *.mp3` does.

use crate::harness::node::Plan;
use crate::harness::peer::Peer;
use crate::harness::source::{listen, on_air, source_head};
use crate::harness::tone::{self, FRAME};

const MOUNT: &str = "/live.mp3";

/// Frames of a song.
const SONG: u64 = 200;

/// The end of a song and the start of the next one: ID3v1, and ID3v2 with a cover of 400 KB, in which sync words are
/// frequent.
fn tags() -> Vec<u8> {
    let mut bytes = b"TAGtitle".to_vec();
    bytes.resize(128, 0);
    bytes.extend(b"ID3\x03\x00\x00\x00\x18\x00\x00");
    let cover = (0..24 << 14).map(|n: u32| {
        if n.is_multiple_of(5) {
            0xFF
        } else {
            (n % 253) as u8
        }
    });
    bytes.extend(cover);
    bytes
}

#[tokio::test]
async fn songs_play_on_whatever_tags_are_between_them() {
    let node = Plan::primary().start().await;
    let mut source = Peer::connect(node.port).await;
    let head = source_head("PUT /live.mp3 HTTP/1.1", &node.source_password(), "");
    source.send(head).await;
    assert_eq!(source.head().await.status, 200);
    source.send(tone::frames(0, SONG)).await;
    on_air(node.port, MOUNT).await;
    let (mut listener, _) = listen(node.port, MOUNT).await;
    let mut heard = listener.exact(FRAME).await;
    for song in 1..5 {
        source.send(tags()).await;
        source.send(tone::frames(song * SONG, SONG)).await;
        let end = (song + 1) * SONG;
        while tone::run(&heard).end() < end - 1 {
            heard.extend(listener.exact(FRAME).await);
        }
    }
    let (_, metrics) = node.get("/metrics").await;
    assert!(!metrics.contains("reason=\"garbage\""), "{metrics}");
}
