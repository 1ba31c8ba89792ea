//! A real `icecast2` as upstream: what an encoder sends to it arrives in our ring, titles and all, and again
//! after the encoder was away.
//!
//! A program that is missing fails its test and names the Debian package.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use relayctl::base::ids::MountId;
use relayctl::base::secret::Secret;
use relayctl::discovery::{Connector, Resolver};
use relayctl::engine::ring::{Bounds, Burst, Ring};
use relayctl::engine::{Config, Engine, Mount, fanout};
use relayctl::render::write::write_atomic;
use relayctl::render::{Kind, Paths, RenderMount, Renderer, RunAs, Station};
use relayctl::telemetry::Telemetry;
use relayctl::upstream::foreign::{Foreign, ForeignConfig, Pace};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Ten times what is expected.
const DEADLINE: Duration = Duration::from_secs(60);

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const FRAME: usize = 384;

/// Numbered frames of MPEG-1 layer III, 128 kbit/s, 48 kHz.
fn mp3(from: u32, count: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for number in from..from + count {
        let mut frame = vec![0xFF, 0xFB, 0x94, 0xC4];
        // Seven bits a byte, so that no number looks like a frame's beginning.
        frame.extend([14, 7, 0].map(|bits| u8::try_from((number >> bits) & 0x7F).unwrap()));
        frame.resize(FRAME, 0x55);
        out.extend(frame);
    }
    out
}

/// A program with the folder that it writes to; ended by its own id when dropped.
struct Running {
    child: Child,
    folder: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn until<T>(what: &str, server: &Running, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    loop {
        if let Some(answer) = ask().await {
            println!("{what}: {:.2} s", begin.elapsed().as_secs_f64());
            return answer;
        }
        if begin.elapsed() > DEADLINE {
            let output = fs::read_to_string(server.folder.path().join("output"));
            panic!(
                "{what}: not within {DEADLINE:?}\n{}",
                output.unwrap_or_default()
            );
        }
        looks.tick().await;
    }
}

async fn icecast(port: u16) -> Running {
    let folder = tempfile::tempdir().unwrap();
    // Icecast writes its logs after it has changed its user.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let root = rustix::process::getuid().is_root();
    let station = Station {
        bind: LOOPBACK,
        port,
        paths: Paths {
            data: folder.path().to_owned(),
            logs: folder.path().to_owned(),
            ..Paths::default()
        },
        run_as: root.then(|| RunAs {
            user: "icecast2".into(),
            group: "icecast".into(),
        }),
        source_password: Secret::new("source"),
        admin_password: Secret::new("admin"),
        relay_password: Secret::new("relay"),
        mounts: vec![RenderMount::at("/live.mp3")],
        ..Station::default()
    };
    let text = Renderer::new(None).unwrap();
    let text = text.render(Kind::Icecast, &station).unwrap();
    let file = folder.path().join("icecast.xml");
    write_atomic(&file, &text, 0o600).unwrap();
    let output = fs::File::create(folder.path().join("output")).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let child = Command::new("icecast2")
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .args(["-c", file.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap_or_else(|error| {
            panic!("`icecast2` does not start ({error}): install Debian's package `icecast2`")
        });
    let running = Running { child, folder };
    until("icecast2 answers", &running, async || {
        get(port, "/status-json.xsl", None).await
    })
    .await;
    running
}

async fn get(port: u16, path: &str, login: Option<&str>) -> Option<String> {
    let mut stream = TcpStream::connect((LOOPBACK, port)).await.ok()?;
    let login = login.map_or(String::new(), |login| {
        let login = BASE64_STANDARD.encode(login);
        format!("Authorization: Basic {login}\r\n")
    });
    let request = format!("GET {path} HTTP/1.0\r\n{login}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.contains("200 OK").then_some(answer)
}

/// An encoder of Icecast's old kind, connected.
async fn encoder(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect((LOOPBACK, port)).await.unwrap();
    let login = BASE64_STANDARD.encode("source:source");
    let head = format!(
        "SOURCE /live.mp3 ICE/1.0\r\nAuthorization: Basic {login}\r\nContent-Type: audio/mpeg\r\n\
         ice-name: Foreign\r\nice-bitrate: 128\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.0 200 OK");
    stream
}

fn engine() -> Arc<Engine> {
    let config = Config {
        ring: Bounds {
            window: Duration::from_secs(60),
            max_bytes: 4 << 20,
        },
        burst: Burst {
            bytes: 64 * 1024,
            longest: Duration::from_secs(10),
            shortest: Duration::from_secs(2),
        },
        hold: Duration::from_secs(45),
        max_sources: 4,
        fallback: None,
        presets: Vec::new(),
        fanout: fanout::Config {
            threads: 1,
            min_delay: Duration::from_millis(20),
            max_delay: Duration::from_millis(50),
            stall: Duration::from_secs(30),
            backend: fanout::Choice::Plain,
        },
    };
    Engine::start(config, Telemetry::new(Box::new(|_, _| ()))).unwrap()
}

fn bytes_of(ring: &Ring) -> Vec<u8> {
    let chain = ring.chain();
    let mut out = Vec::new();
    loop {
        let slice = chain.slice_at(out.len() as u64);
        if slice.is_empty() {
            return out;
        }
        out.extend_from_slice(slice);
    }
}

#[tokio::test]
async fn icecast2_is_relayed_byte_for_byte() {
    let port = TcpListener::bind((LOOPBACK, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = icecast(port).await;
    let engine = engine();
    let id = MountId::new("/foreign.mp3").unwrap();
    let (_wanted, wanted) = watch::channel(false);
    let cancel = CancellationToken::new();
    let foreign = Foreign {
        engine: Arc::clone(&engine),
        connector: Connector::new(Resolver::system()),
        config: ForeignConfig {
            urls: vec![format!("http://127.0.0.1:{port}/live.mp3").parse().unwrap()],
            mount: id.clone(),
            on_demand: false,
            login: None,
            metadata: true,
            charset: None,
        },
        pace: Pace::default(),
    };
    // It begins before there is a source.
    let task = tokio::spawn(foreign.run(wanted, cancel.clone()));
    let first = mp3(0, 400);
    let mut source = encoder(port).await;
    source.write_all(&first[..100 * FRAME]).await.unwrap();
    let found = || engine.mount(&id).filter(|mount| mount.is_playable());
    let mount: Arc<Mount> = until("audio", &server, async || found()).await;
    let set = "/admin/metadata?mount=/live.mp3&mode=updinfo&song=Artist%20-%20Title";
    get(port, set, Some("source:source")).await.unwrap();
    source.write_all(&first[100 * FRAME..]).await.unwrap();
    until("the title", &server, async || {
        mount
            .title()
            .filter(|title| title.text == "Artist - Title")
            .map(drop)
    })
    .await;
    // Icecast passes on whole blocks of 1400 bytes, and the framer holds one frame back until it sees the next.
    let ends_like = |audio: &[u8]| {
        let got = bytes_of(&mount.ring());
        let last = got.len().checked_sub(FRAME).map(|at| &got[at..])?;
        let frames = audio.len() / FRAME;
        let place = audio.chunks(FRAME).position(|frame| frame == last)?;
        (place + 8 >= frames).then_some(got)
    };
    let got = until("the rest", &server, async || ends_like(&first)).await;
    let begin = first
        .windows(64)
        .position(|part| part == &got[..64])
        .unwrap();
    assert_eq!(got, first[begin..begin + got.len()]);
    assert_eq!(begin % FRAME, 0);
    let content = mount.content();
    assert_eq!(content.content_type, "audio/mpeg");
    assert_eq!(content.header("icy-name"), Some("Foreign"));
    assert_eq!(mount.bitrate(), 128_000);
    // The encoder goes and comes back: the relay finds it, in the same epoch and whole.
    let epoch = mount.ring().epoch();
    drop(source);
    until("held", &server, async || {
        (mount.state() == relayctl::engine::MountState::Held).then_some(())
    })
    .await;
    let second = mp3(1000, 200);
    let mut source = encoder(port).await;
    source.write_all(&second).await.unwrap();
    let again = until("audio again", &server, async || ends_like(&second)).await;
    assert!(again.starts_with(&got));
    assert_eq!(again.len() % FRAME, 0);
    assert_eq!(mount.ring().epoch(), epoch);
    cancel.cancel();
    task.await.unwrap();
}
