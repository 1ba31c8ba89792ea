//! The encoder of the demo: a tone sequence of our own, over and over at real time, with a title for each
//! round.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::Node;
use crate::base::secret::Secret;
use crate::cli::client;
use crate::wire::basic::Basic;

/// Twelve notes in 4.83 s, MP3 of 96 kbit/s. It loops without a broken frame: 185 whole frames, no tag, and
/// no frame borrows from the one before (`-reservoir 0`). Made so, in a shell, with ffmpeg 5.1:
///
/// ```text
/// notes="261.63 329.63 392 523.25 440 329.63 349.23 440 523.25 587.33 493.88 392"
/// e=0; i=0; for f in $notes; do e="$e+eq(mod(floor(t/0.4),12),$i)*$f"; i=$((i+1)); done
/// ffmpeg -fflags +bitexact -f lavfi -i "aevalsrc='0.3*exp(-5*mod(t,0.4))*(1-exp(-300*mod(t,0.4)))
///     *(sin(2*PI*t*($e))+0.3*sin(4*PI*t*($e)))':s=44100:d=4.8" -ac 2 -c:a libmp3lame -b:a 96k
///     -reservoir 0 -write_xing 0 -id3v2_version 0 -flags:a +bitexact tone.mp3
/// ```
const TONE: &[u8] = include_bytes!("tone.mp3");

/// Bytes a second.
const RATE: u64 = 96_000 / 8;

/// Sent ahead of real time, as encoders with a buffer do: a first listener need not wait.
const AHEAD: Duration = Duration::from_secs(3);

/// Between two pieces.
const PIECE: Duration = Duration::from_millis(100);

/// What plays, in turn.
const TITLES: [&str; 4] = [
    "The Relays - Up the Scale",
    "The Relays - Least Connections",
    "Söhne der Quelle - Rundläufer",
    "The Relays - Byte for Byte",
];

/// The source.
pub(super) struct Source {
    url: String,
    authority: String,
    mount: &'static str,
    login: Basic,
    http: reqwest::Client,
}

impl Source {
    /// A source for the node at `node.url`.
    pub fn new(node: &Node, mount: &'static str, password: String) -> anyhow::Result<Self> {
        Ok(Self {
            url: node.url.clone(),
            authority: node.url.trim_start_matches("http://").to_owned(),
            mount,
            login: Basic {
                user: "source".into(),
                password: Secret::new(password),
            },
            http: client::plain(Duration::from_secs(5))?,
        })
    }

    /// Plays until told to stop; connects again where it is cut off.
    pub async fn run(self, stop: CancellationToken) {
        let playing = async {
            loop {
                if let Err(error) = self.play().await {
                    eprintln!("relayctl demo: the source was cut off and comes again: {error:#}");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = playing => {}
            () = stop.cancelled() => {}
        }
    }

    async fn play(&self) -> anyhow::Result<()> {
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut answers, mut body) = stream.into_split();
        body.write_all(self.head().as_bytes()).await?;
        let sent = async {
            let begin = Instant::now();
            let mut sent = 0_u64;
            loop {
                let due = bytes_of(begin.elapsed() + AHEAD);
                while sent < due {
                    sent += self.piece(&mut body, sent, due).await?;
                }
                tokio::time::sleep(PIECE).await;
            }
        };
        tokio::select! {
            sent = sent => sent,
            refused = refusal(&mut answers) => refused,
        }
    }

    /// The next bytes of the loop; the title changes where a round begins.
    async fn piece(
        &self,
        body: &mut tokio::net::tcp::OwnedWriteHalf,
        sent: u64,
        due: u64,
    ) -> anyhow::Result<u64> {
        let round = TONE.len() as u64;
        let at = usize::try_from(sent % round)?;
        let count = usize::try_from(due - sent)?.min(TONE.len() - at);
        let bytes = TONE.get(at..at + count).context("beyond the tone")?;
        body.write_all(bytes).await?;
        if at == 0 {
            self.title(sent / round).await;
        }
        Ok(count as u64)
    }

    /// A title that is refused is no reason to stop playing.
    async fn title(&self, round: u64) {
        let index = usize::try_from(round).unwrap_or(0) % TITLES.len();
        let song = TITLES.get(index).copied().unwrap_or_default();
        let url = format!("{}/admin/metadata", self.url);
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("mount", self.mount)
            .append_pair("mode", "updinfo")
            .append_pair("charset", "UTF-8")
            .append_pair("song", song)
            .finish();
        let request = self.http.get(format!("{url}?{query}"));
        let _ = request
            .header("Authorization", self.login.encode())
            .send()
            .await;
    }

    fn head(&self) -> String {
        format!(
            "PUT {} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nUser-Agent: relayctl-demo/{}\r\n\
             Content-Type: audio/mpeg\r\nIce-Name: relayctl demo\r\nIce-Description: Twelve notes, over \
             and over\r\nIce-Genre: Test\r\nIce-Bitrate: 96\r\nIce-Public: 0\r\n\r\n",
            self.mount,
            self.authority,
            self.login.encode(),
            env!("CARGO_PKG_VERSION"),
        )
    }
}

fn bytes_of(time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    micros.saturating_mul(RATE) / 1_000_000
}

/// Ends once the node says no or closes; a `200` is read over.
async fn refusal(answers: &mut tokio::net::tcp::OwnedReadHalf) -> anyhow::Result<()> {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let count = answers.read(&mut buffer).await?;
        if count == 0 {
            bail!("the node closed the connection");
        }
        text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        text.truncate(4096);
        let said = String::from_utf8_lossy(&text);
        let code = said.split(' ').nth(1).unwrap_or_default();
        if said.contains("\r\n\r\n") && !code.starts_with(['1', '2']) {
            bail!(
                "the node answers {}",
                said.lines().next().unwrap_or_default()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tone_loops_at_frame_edges_without_a_reservoir() {
        let mut at = 0;
        let mut frames = 0_u64;
        while at < TONE.len() {
            // MPEG 1 layer III, no checksum, 96 kbit/s, 44.1 kHz.
            assert_eq!(&TONE[at..at + 2], &[0xff, 0xfb], "at {at}");
            assert_eq!(TONE[at + 2] & 0xfc, 0x70, "at {at}");
            let padding = usize::from(TONE[at + 2] >> 1 & 1);
            let borrowed = u16::from(TONE[at + 4]) << 1 | u16::from(TONE[at + 5] >> 7);
            assert_eq!(borrowed, 0, "frame {frames} borrows");
            at += 144 * 96_000 / 44_100 + padding;
            frames += 1;
        }
        assert_eq!((at, frames), (TONE.len(), 185));
        // Played at its own speed.
        let seconds = frames as f64 * 1152.0 / 44_100.0;
        assert!((TONE.len() as f64 / seconds - RATE as f64).abs() < 1.0);
        assert_eq!(bytes_of(Duration::from_millis(1500)), 18_000);
    }
}
