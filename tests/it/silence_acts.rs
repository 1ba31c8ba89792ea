//! `source.silence_action: fallback`: listeners of a silent source hear another mount in the same connection, on the
//! primary and on a relay, until the sound is back; the source is never dropped.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::cluster::api;
use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::program::{Program, tool};
use crate::harness::source::{listen, on_air};

const MOUNT: &str = "/live.mp3";
const OTHER: &str = "/other.mp3";

/// Bytes of a frame at 128 kbit/s and 48 kHz.
const FRAME: usize = 384;

/// Frames at the beginning of an encoder's stream that do not sound yet.
const WARM_UP: usize = 20;

/// A studio: ffmpeg sends what this test plays, a tone or nothing, in time.
struct Studio {
    _encoder: Program,
    sounds: Arc<AtomicBool>,
}

impl Studio {
    fn start(node: &Node, mount: &str, frequency: f32) -> Self {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut ffmpeg = tool("ffmpeg", "ffmpeg");
        ffmpeg.args(["-hide_banner", "-loglevel", "error", "-re"]);
        ffmpeg.args(["-f", "s16le", "-ar", "48000", "-ac", "2", "-i", "pipe:0"]);
        ffmpeg.args(["-c:a", "libmp3lame", "-b:a", "128k", "-reservoir", "0"]);
        ffmpeg.args(["-f", "mp3", "-write_xing", "0", "-id3v2_version", "0"]);
        ffmpeg.args(["-content_type", "audio/mpeg", "-flush_packets", "1"]);
        let password = node.source_password();
        ffmpeg.arg(format!(
            "icecast://source:{password}@127.0.0.1:{}{mount}",
            node.port
        ));
        let encoder = Program::start_reading(ffmpeg, File::from(OwnedFd::from(reader)));
        let sounds = Arc::new(AtomicBool::new(true));
        let switch = Arc::clone(&sounds);
        // Ends when the encoder does, which closes the pipe.
        std::thread::spawn(move || {
            let mut at = 0_u32;
            loop {
                let loud = f32::from(switch.load(Ordering::Relaxed)) * 8000.0;
                let mut piece = Vec::new();
                for _ in 0..4800 {
                    let phase = std::f32::consts::TAU * frequency * (at % 48_000) as f32 / 48_000.0;
                    let sample = (loud * phase.sin()) as i16;
                    piece.extend([sample.to_le_bytes(), sample.to_le_bytes()].concat());
                    at += 1;
                }
                if writer.write_all(&piece).is_err() {
                    return;
                }
            }
        });
        Self {
            _encoder: encoder,
            sounds,
        }
    }

    fn plays(&self, sound: bool) {
        self.sounds.store(sound, Ordering::Relaxed);
    }
}

/// One connection from its first byte to its last.
struct Ear {
    peer: Peer,
    audio: Vec<u8>,
}

impl Ear {
    async fn at(node: &Node, mount: &str) -> Self {
        let (peer, _) = listen(node.port, mount).await;
        Self {
            peer,
            audio: Vec::new(),
        }
    }

    async fn hears_more(&mut self) {
        let bytes = self.peer.some().await;
        assert!(!bytes.is_empty(), "the connection was closed");
        self.audio.extend(bytes);
    }

    fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.audio.chunks_exact(FRAME)
    }
}

/// Whose frames they are, in runs: `o` of the other mount, `l` of the own one, and how many.
fn runs(ear: &Ear, other: &Ear) -> Vec<String> {
    let others: std::collections::HashSet<&[u8]> = other.frames().skip(WARM_UP).collect();
    // Those with which every encoder begins say nothing; a burst of a young mount has them.
    let vague: std::collections::HashSet<&[u8]> = other.frames().take(WARM_UP).collect();
    let mut runs: Vec<(char, usize)> = Vec::new();
    for frame in ear.frames().filter(|frame| !vague.contains(frame)) {
        assert!(
            frame.starts_with(&[0xFF, 0xFB]),
            "a torn frame after {runs:?}"
        );
        let letter = if others.contains(frame) { 'o' } else { 'l' };
        match runs.last_mut() {
            Some((last, count)) if *last == letter => *count += 1,
            _ => runs.push((letter, 1)),
        }
    }
    runs.iter()
        .map(|(letter, count)| format!("{letter}{count}"))
        .collect()
}

/// Listens on all until `done` for `primary` and `relay`.
async fn until(what: &str, ears: &mut [Ear], mut done: impl AsyncFnMut() -> bool) {
    eventually(what, async || {
        for ear in ears.iter_mut() {
            ear.hears_more().await;
        }
        done().await.then_some(())
    })
    .await;
}

async fn plays_fallback(node: &Node) -> bool {
    let labels = format!("mount=\"{MOUNT}\"");
    node.metric("relayctl_fallback_playing", &labels).await == 1.0
}

/// Waits until the mount is heard where it is asked for. To be called once the fallback plays: it stands in until then.
async fn plays_itself(node: &Node) {
    let labels = format!("mount=\"{MOUNT}\"");
    eventually("the mount plays itself", async || {
        let is_up = node.metric("relayctl_source_up", &labels).await == 1.0;
        (is_up && !plays_fallback(node).await).then_some(())
    })
    .await;
    on_air(node.port, MOUNT).await;
}

#[tokio::test]
async fn listeners_of_a_silent_source_hear_the_fallback_until_the_sound_is_back() {
    let yaml = format!(
        "mounts: [{{path: {MOUNT}, fallback: {OTHER}}}]\nmax_sources: 4\n\
         source: {{silence: 2s, silence_end: 1s, silence_action: fallback}}"
    );
    let primary = Plan::primary().yaml(&yaml).start().await;
    let _other = Studio::start(&primary, OTHER, 1_100.0);
    on_air(primary.port, OTHER).await;
    // Who comes before the source does hears the fallback, so an answer alone does not say that the source is there.
    on_air(primary.port, MOUNT).await;
    let mut ears = vec![
        Ear::at(&primary, OTHER).await,
        Ear::at(&primary, MOUNT).await,
    ];
    while ears[1].audio.len() < 3 * WARM_UP * FRAME {
        until("the fallback is heard", &mut ears, async || true).await;
    }
    let live = Studio::start(&primary, MOUNT, 440.0);
    plays_itself(&primary).await;
    // These sit on the primary since there is no relay yet.
    ears.push(Ear::at(&primary, MOUNT).await);
    // The relay has no setting of any of it.
    let relay = Plan::relay(&primary).start().await;
    on_air(relay.port, OTHER).await;
    plays_itself(&relay).await;
    ears.push(Ear::at(&relay, MOUNT).await);
    until("all hear something", &mut ears, async || true).await;
    assert!(!plays_fallback(&primary).await && !plays_fallback(&relay).await);

    live.plays(false);
    until("the fallback plays on both", &mut ears, async || {
        plays_fallback(&primary).await && plays_fallback(&relay).await
    })
    .await;
    // Who comes now hears it from the beginning.
    let mut late = Ear::at(&relay, MOUNT).await;
    while late.audio.len() < 50 * FRAME {
        late.hears_more().await;
    }
    until("the move is over", &mut ears, async || {
        let states = api(&primary, "mounts").await;
        let row = states.iter().find(|row| row["name"] == MOUNT).unwrap();
        assert_eq!(row["state"], "live", "the source is never dropped");
        assert_eq!(row["silent"], true);
        row["hears"] == OTHER && row["listeners"] == 4
    })
    .await;
    for _ in 0..10 {
        until("more of it is heard", &mut ears, async || true).await;
    }

    live.plays(true);
    until("both are back", &mut ears, async || {
        !plays_fallback(&primary).await && !plays_fallback(&relay).await
    })
    .await;
    let enough: Vec<usize> = ears
        .iter()
        .map(|ear| ear.audio.len() + 200 * FRAME)
        .collect();
    while ears
        .iter()
        .zip(&enough)
        .any(|(ear, most)| ear.audio.len() < *most)
    {
        until("the own sound", &mut ears, async || true).await;
    }
    let (other, own) = ears.split_first().unwrap();
    for (ear, path) in own.iter().zip(["olol", "lol", "lol"]) {
        let lengths: Vec<String> = runs(ear, other);
        let kinds: String = lengths
            .iter()
            .filter_map(|run| run.chars().next())
            .collect();
        assert_eq!(kinds, path, "{lengths:?}");
    }
    let of_late = runs(&late, other);
    assert!(
        of_late.len() == 1 && of_late[0].starts_with('o'),
        "{of_late:?}"
    );
    assert_eq!(primary.metric("relayctl_bypasses_total", "").await, 1.0);
    assert_eq!(primary.metric("relayctl_sources_lost_total", "").await, 0.0);
    let events = primary.asked(&["get", "events"]).await;
    for line in [
        format!("silence mount={MOUNT} on=true"),
        format!("bypassed mount={MOUNT} to={OTHER}"),
        format!("silence mount={MOUNT} on=false"),
        format!("bypass_ended mount={MOUNT}"),
    ] {
        assert_eq!(events.matches(&line).count(), 1, "{line}: {events}");
    }
    println!("{events}");
}
