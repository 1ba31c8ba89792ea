//! The encoders that people run, into a real node, and what `ffprobe` hears there.

use std::fs::File;

use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::program::{Program, output_of, tool};
use crate::harness::source::{listen, on_air};
use crate::harness::tone::{self, FRAME};

/// What `ffprobe` names the codec of a stream.
pub async fn codec_of(port: u16, mount: &str) -> String {
    let mut ffprobe = tool("ffprobe", "ffmpeg");
    ffprobe.args([
        "-v",
        "error",
        "-probesize",
        "65536",
        "-analyzeduration",
        "1000000",
    ]);
    ffprobe.args(["-show_entries", "stream=codec_name", "-of", "csv=p=0"]);
    ffprobe.arg(format!("http://127.0.0.1:{port}{mount}"));
    let output = String::from_utf8(output_of(ffprobe).await).unwrap();
    output.lines().next().unwrap_or_default().to_owned()
}

/// `ffmpeg` that encodes a minute of a test sound as the arguments say, four times as fast as it plays.
pub fn ffmpeg(port: u16, password: &str, mount: &str, encode: &str, icecast: &str) -> Program {
    let mut ffmpeg = tool("ffmpeg", "ffmpeg");
    ffmpeg.args([
        "-hide_banner",
        "-nostdin",
        "-loglevel",
        "warning",
        "-readrate",
        "4",
    ]);
    ffmpeg.args([
        "-f",
        "lavfi",
        "-i",
        "anoisesrc=duration=120:amplitude=0.3:seed=7:sample_rate=48000",
    ]);
    ffmpeg
        .args(encode.split(' '))
        .args(icecast.split_whitespace());
    ffmpeg.arg(format!(
        "icecast://source:{password}@127.0.0.1:{port}{mount}"
    ));
    Program::start(ffmpeg)
}

/// Arguments of an MP3 stream.
pub const MP3: &str = "-c:a libmp3lame -b:a 128k -ac 2 -content_type audio/mpeg -f mp3";
/// Arguments of an Opus stream.
pub const OPUS: &str = "-c:a libopus -b:a 64k -ac 2 -content_type audio/ogg -f ogg";

const FORMATS: [(&str, &str, &str); 5] = [
    ("/live.mp3", MP3, "mp3"),
    (
        "/live.aac",
        "-c:a aac -b:a 96k -ac 2 -content_type audio/aac -f adts",
        "aac",
    ),
    (
        "/live.ogg",
        "-c:a libvorbis -q:a 3 -ac 2 -content_type application/ogg -f ogg",
        "vorbis",
    ),
    ("/live.opus", OPUS, "opus"),
    (
        "/live.flac",
        "-c:a flac -ac 2 -content_type application/ogg -f ogg",
        "flac",
    ),
];

async fn one_format(index: usize) {
    let node = Plan::primary().start().await;
    let (mount, encode, codec) = FORMATS[index];
    let _ffmpeg = ffmpeg(
        node.port,
        &node.source_password(),
        mount,
        encode,
        "-ice_name Test -ice_genre noise",
    );
    let head = on_air(node.port, mount).await;
    assert_eq!(head.get("icy-name"), Some("Test"));
    assert_eq!(codec_of(node.port, mount).await, codec);
    // Late: the first pages of the stream have left the burst.
    let (mut early, _) = listen(node.port, mount).await;
    early.exact(200_000).await;
    assert_eq!(
        codec_of(node.port, mount).await,
        codec,
        "for one who comes late"
    );
    if encode.ends_with("ogg") {
        late_joiner(&node, mount).await;
    }
}

/// A late listener gets the header pages first: a page that begins a stream, with the codec's mark.
async fn late_joiner(node: &Node, mount: &str) {
    let (mut late, head) = listen(node.port, mount).await;
    assert_eq!(head.get("icy-metaint"), None);
    let page = late.exact(27 + 1 + 16).await;
    assert_eq!(&page[..4], b"OggS");
    assert_eq!(page[5] & 2, 2, "no page that begins a stream");
    let marks: [&[u8]; 3] = [b"\x01vorbis", b"OpusHead", b"\x7fFLAC"];
    assert!(
        marks.iter().any(|mark| page[28..].starts_with(mark)),
        "{page:02x?}"
    );
}

#[tokio::test]
async fn ffmpeg_sends_mp3() {
    one_format(0).await;
}

#[tokio::test]
async fn ffmpeg_sends_aac() {
    one_format(1).await;
}

#[tokio::test]
async fn ffmpeg_sends_vorbis() {
    one_format(2).await;
}

#[tokio::test]
async fn ffmpeg_sends_opus() {
    one_format(3).await;
}

#[tokio::test]
async fn ffmpeg_sends_flac() {
    one_format(4).await;
}

#[tokio::test]
async fn ffmpeg_sends_as_to_an_old_icecast() {
    let node = Plan::primary().start().await;
    let _ffmpeg = ffmpeg(
        node.port,
        &node.source_password(),
        "/live.mp3",
        MP3,
        "-legacy_icecast 1",
    );
    on_air(node.port, "/live.mp3").await;
    assert_eq!(codec_of(node.port, "/live.mp3").await, "mp3");
}

#[tokio::test]
async fn ffmpeg_is_told_that_its_password_is_wrong() {
    let node = Plan::primary().start().await;
    let mut ffmpeg = ffmpeg(node.port, "wrong", "/live.mp3", MP3, "");
    assert!(!ffmpeg.ended().await.success());
    assert!(ffmpeg.stderr().contains("401"), "{}", ffmpeg.stderr());
}

/// `curl -T -` sends chunks, asks for 100 and waits for its answer at the end.
#[tokio::test]
async fn curl_sends_a_file_from_its_standard_input() {
    let node = Plan::primary().start().await;
    let file = node.folder().join("tone.mp3");
    std::fs::write(&file, tone::frames(0, 3000)).unwrap();
    let mut curl = tool("curl", "curl");
    curl.args([
        "-sS",
        "-v",
        "--limit-rate",
        "300k",
        "-T",
        "-",
        "-H",
        "Content-Type: audio/mpeg",
        "-u",
    ]);
    curl.arg(format!("source:{}", node.source_password()))
        .arg(format!("{}/live.mp3", node.url()));
    let mut curl = Program::start_reading(curl, File::open(&file).unwrap());
    on_air(node.port, "/live.mp3").await;
    let (mut listener, _) = listen(node.port, "/live.mp3").await;
    let mut heard = listener.exact(FRAME).await;
    assert_eq!(codec_of(node.port, "/live.mp3").await, "mp3");
    let status = curl.ended().await;
    assert!(status.success(), "{status}: {}", curl.stderr());
    assert!(
        curl.stderr().contains("Transfer-Encoding: chunked"),
        "{}",
        curl.stderr()
    );
    let rest = 3000 - tone::run(&heard).end();
    heard.extend(listener.exact(rest as usize * FRAME).await);
    assert_eq!(tone::run(&heard).end(), 3000);
}

#[tokio::test]
async fn liquidsoap_sends_mp3() {
    let node = Plan::primary().start().await;
    let script = format!(
        "set(\"init.allow_root\", true)\n\
         output.icecast(%mp3(bitrate=128), host=\"127.0.0.1\", port={}, password=\"{}\", mount=\"/live.mp3\", \
         name=\"Liquid\", mksafe(noise()))",
        node.port,
        node.source_password()
    );
    let file = node.folder().join("radio.liq");
    std::fs::write(&file, script).unwrap();
    let mut liquidsoap = tool("liquidsoap", "liquidsoap");
    liquidsoap.arg(&file).current_dir(node.folder());
    let liquidsoap = Program::start(liquidsoap);
    let head = eventually("liquidsoap is on air", async || {
        let (mut peer, _) = (crate::harness::peer::Peer::connect(node.port).await, ());
        peer.send("HEAD /live.mp3 HTTP/1.0\r\n\r\n").await;
        let head = peer.head().await;
        (head.status == 200).then_some(head)
    })
    .await;
    assert_eq!(
        head.get("icy-name"),
        Some("Liquid"),
        "{}",
        liquidsoap.stdout()
    );
    assert_eq!(codec_of(node.port, "/live.mp3").await, "mp3");
}

#[tokio::test]
async fn ices2_sends_vorbis() {
    let node = Plan::primary().start().await;
    let song = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vorbis.ogg");
    let list = node.folder().join("songs.txt");
    std::fs::write(&list, format!("{song}\n{song}\n")).unwrap();
    let config = format!(
        "<?xml version=\"1.0\"?>\n<ices><background>0</background><logpath>{folder}</logpath>\
         <logfile>ices.log</logfile><loglevel>4</loglevel><consolelog>1</consolelog><stream>\
         <metadata><name>Ices</name><genre>tones</genre><description>d</description></metadata>\
         <input><module>playlist</module><param name=\"type\">basic</param>\
         <param name=\"file\">{list}</param><param name=\"random\">0</param>\
         <param name=\"once\">0</param></input>\
         <instance><hostname>127.0.0.1</hostname><port>{port}</port><password>{password}</password>\
         <mount>/live.ogg</mount></instance></stream></ices>",
        folder = node.folder().display(),
        list = list.display(),
        port = node.port,
        password = node.source_password()
    );
    let file = node.folder().join("ices.xml");
    std::fs::write(&file, config).unwrap();
    let mut ices = tool("ices2", "ices2");
    ices.arg(&file).current_dir(node.folder());
    let _ices = Program::start(ices);
    on_air(node.port, "/live.ogg").await;
    assert_eq!(codec_of(node.port, "/live.ogg").await, "vorbis");
    late_joiner(&node, "/live.ogg").await;
}
