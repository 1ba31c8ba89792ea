//! A source that sends silence looks alive to everyone but the primary.

use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::program::{Program, tool};

/// ffmpeg sends `input` as `codec`, in time, until it is dropped.
fn source(node: &Node, mount: &str, input: &str, codec: &[&str]) -> Program {
    let mut ffmpeg = tool("ffmpeg", "ffmpeg");
    ffmpeg.args([
        "-hide_banner",
        "-loglevel",
        "error",
        "-re",
        "-f",
        "lavfi",
        "-i",
        input,
    ]);
    ffmpeg.args(codec);
    let password = node.source_password();
    ffmpeg.arg(format!(
        "icecast://source:{password}@127.0.0.1:{}{mount}",
        node.port
    ));
    Program::start(ffmpeg)
}

async fn gauge(node: &Node, mount: &str) -> Option<bool> {
    let (_, page) = node.get("/metrics").await;
    let line = format!("relayctl_source_silent{{mount=\"{mount}\"}} ");
    let value = page.lines().find_map(|found| found.strip_prefix(&line))?;
    Some(value == "1")
}

#[tokio::test]
async fn silence_is_told_and_so_is_its_end() {
    let node = Plan::primary().yaml("source.silence: 2s").start().await;
    let mp3 = [
        "-c:a",
        "libmp3lame",
        "-b:a",
        "128k",
        "-f",
        "mp3",
        "-content_type",
        "audio/mpeg",
    ];
    let aac = [
        "-c:a",
        "aac",
        "-b:a",
        "96k",
        "-f",
        "adts",
        "-content_type",
        "audio/aac",
    ];
    let ogg = [
        "-c:a",
        "libvorbis",
        "-f",
        "ogg",
        "-content_type",
        "application/ogg",
    ];
    // Four seconds of tone, then silence.
    let fades = "sine=frequency=440:sample_rate=44100,volume=enable='gt(t,4)':volume=0";
    let silence = "anullsrc=sample_rate=44100:channel_layout=stereo";
    let tone = "sine=frequency=440:sample_rate=44100";
    let sources = [
        ("/fades.mp3", fades, &mp3[..], true),
        ("/quiet.mp3", silence, &mp3, true),
        ("/quiet.aac", silence, &aac, true),
        ("/quiet.ogg", silence, &ogg, true),
        ("/loud.mp3", tone, &mp3, false),
        ("/loud.aac", tone, &aac, false),
        ("/loud.ogg", tone, &ogg, false),
    ];
    let _sources = sources.map(|(mount, input, codec, _)| source(&node, mount, input, codec));
    for (mount, _, _, silent) in sources {
        eventually(&format!("{mount} is known"), async || {
            (gauge(&node, mount).await == Some(silent)).then_some(())
        })
        .await;
    }
    // All had the time by which the silent ones were found.
    for (mount, _, _, silent) in sources {
        assert_eq!(gauge(&node, mount).await, Some(silent), "{mount}");
    }
    let told = node.asked(&["get", "events", "-o", "json"]).await;
    assert_eq!(told.matches("\"silence\"").count(), 4, "{told}");
    let (_, page) = node.get("/metrics").await;
    assert!(page.contains("relayctl_silences_total 4"), "{page}");
}
