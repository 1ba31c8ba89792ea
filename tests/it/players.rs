//! Real players, headless.

use crate::harness::node::{Node, Plan};
use crate::harness::program::{Program, tool};
use crate::harness::source::on_air;

/// `mpv` plays three seconds; what it said.
pub async fn mpv(url: &str) -> String {
    let mut mpv = tool("mpv", "mpv");
    mpv.args([
        "--no-config",
        "--no-video",
        "--ao=null",
        "--length=3",
        "--msg-level=all=v",
        url,
    ]);
    let mut mpv = Program::start(mpv);
    let status = mpv.ended().await;
    assert!(status.success(), "{status}\n{}", mpv.stdout());
    mpv.stdout()
}

async fn on_the_air(mount: &str, encode: &str) -> (Node, Program) {
    let node = Plan::primary().start().await;
    let ffmpeg = crate::encoders::ffmpeg(
        node.port,
        &node.source_password(),
        mount,
        encode,
        "-ice_name Noise",
    );
    on_air(node.port, mount).await;
    (node, ffmpeg)
}

#[tokio::test]
async fn mpv_plays_mp3() {
    let (node, _ffmpeg) = on_the_air("/live.mp3", crate::encoders::MP3).await;
    let said = mpv(&format!("{}/live.mp3", node.url())).await;
    assert!(
        said.contains("(mp3 2ch 48000Hz)") && said.contains("AO: [null]"),
        "{said}"
    );
}

#[tokio::test]
async fn mpv_plays_opus() {
    let (node, _ffmpeg) = on_the_air("/live.opus", crate::encoders::OPUS).await;
    let said = mpv(&format!("{}/live.opus", node.url())).await;
    assert!(
        said.contains("(opus 2ch 48000Hz)") && said.contains("AO: [null]"),
        "{said}"
    );
}
