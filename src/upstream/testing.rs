//! Engines, audio and peers for the tests of this room.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ask::Ask;
use super::pull::Parent;
use super::pulls::Route;
use super::stream::frames;
use crate::base::ids::MountId;
use crate::base::secret::Secret;
use crate::base::wall::unix_millis;
use crate::discovery::{Connector, Resolver};
use crate::engine::ring::{Bounds, Burst, Ring};
use crate::engine::{Config, Engine, Intake, Offer, fanout};
use crate::telemetry::Telemetry;
use crate::wire::head::{self, Request};

/// Bytes of one frame of [`mp3`].
pub(super) const FRAME: usize = 384;

/// Silent MPEG-1 layer III frames at 128 kbit/s, 48 kHz (24 ms each), numbered.
pub(super) fn mp3(from: u32, count: u32) -> Vec<u8> {
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

pub(super) fn engine() -> Arc<Engine> {
    engine_of(4 << 20)
}

pub(super) fn engine_of(max_bytes: u64) -> Arc<Engine> {
    let config = Config {
        ring: Bounds {
            window: Duration::from_secs(60),
            max_bytes,
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

pub(super) fn live() -> MountId {
    MountId::new("/live.mp3").unwrap()
}

pub(super) fn source(engine: &Arc<Engine>) -> Intake {
    let offer = Offer {
        content_type: "audio/mpeg".into(),
        headers: vec![("icy-name".into(), "Test".into())],
        address: IpAddr::from([127, 0, 0, 1]),
        agent: "test".into(),
        stale: Duration::ZERO,
    };
    engine.open_source(&live(), offer).unwrap()
}

pub(super) fn push(intake: &mut Intake, bytes: &[u8]) {
    intake.push(bytes, Instant::now(), unix_millis()).unwrap();
}

pub(super) fn connector() -> Connector {
    Connector::new(Resolver::system())
}

/// All bytes of a ring from `offset` on.
pub(super) fn bytes_of(ring: &Ring, mut offset: u64) -> Vec<u8> {
    let chain = ring.chain();
    let mut out = Vec::new();
    loop {
        let slice = chain.slice_at(offset);
        if slice.is_empty() {
            return out;
        }
        out.extend_from_slice(slice);
        offset += slice.len() as u64;
    }
}

/// The end of the mount's ring; 0 where there is no mount.
pub(super) fn end_of(engine: &Engine) -> u64 {
    engine.mount(&live()).map_or(0, |mount| mount.ring().end())
}

/// Waits for a condition. The deadline is far beyond what any of them needs; the pause lets others work.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        looks.tick().await;
    }
}

/// A parent on loopback: any engine's mounts, over a real socket.
pub(super) struct Peer {
    pub(super) url: String,
    pub(super) node: String,
    pub(super) engine: Mutex<Arc<Engine>>,
    /// The nodes before this one.
    pub(super) route: watch::Sender<Route>,
    /// Every request's target, in order.
    pub(super) asked: Mutex<Vec<String>>,
    /// After how many bytes the next connections are cut; when there are none left, never.
    pub(super) cuts: Mutex<Vec<usize>>,
    /// Answers, and then says nothing at all.
    pub(super) mute: AtomicBool,
    /// Cancelled to cut all connections there are.
    cut: Mutex<CancellationToken>,
}

impl Peer {
    pub(super) async fn start(node: &str, engine: &Arc<Engine>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            node: node.to_owned(),
            engine: Mutex::new(Arc::clone(engine)),
            route: watch::Sender::default(),
            asked: Mutex::default(),
            cuts: Mutex::default(),
            mute: AtomicBool::new(false),
            cut: Mutex::default(),
        });
        let serving = Arc::clone(&peer);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let peer = Arc::clone(&serving);
                tokio::spawn(async move {
                    let cut = peer.cut.lock().unwrap().clone();
                    tokio::select! {
                        () = cut.cancelled() => {}
                        _ = peer.serve(socket) => {}
                    }
                });
            }
        });
        peer
    }

    pub(super) fn parent(&self) -> Parent {
        Parent {
            url: self.url.clone(),
            credential: Some(Secret::new("secret")),
            node: self.node.clone(),
        }
    }

    /// Comes by these nodes from now on.
    pub(super) fn reroute(&self, path: &[&str]) {
        let path = path.iter().map(|node| (*node).to_owned()).collect();
        self.route.send_modify(|route| route.path = path);
    }

    pub(super) fn cut_all(&self) {
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    async fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let request = read_request(&mut socket).await?;
        assert_eq!(request.headers.get("authorization"), Some("Bearer secret"));
        self.asked.lock().unwrap().push(request.target.clone());
        let ask = Ask::parse(request.path(), request.query()).unwrap();
        let engine = Arc::clone(&self.engine.lock().unwrap());
        let Some(mount) = engine.mount(&ask.mount) else {
            return socket.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").await;
        };
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        socket.write_all(head).await?;
        if self.mute.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let node = self.node.parse().unwrap();
        let route = self.route.subscribe();
        let shutdown = CancellationToken::new();
        let mut frames = Box::pin(frames(mount, node, route, ask.position, shutdown));
        let mut left = self.cuts.lock().unwrap().pop().unwrap_or(usize::MAX);
        while let Some(bytes) = frames.next().await {
            let bytes = bytes?;
            let part = &bytes[..bytes.len().min(left)];
            socket.write_all(part).await?;
            left -= part.len();
            if left == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Reads one request's head.
pub(super) async fn read_request(socket: &mut TcpStream) -> std::io::Result<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Some((request, _)) = head::parse(&bytes).unwrap() {
            return Ok(request);
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
