//! A node with a real engine, asked through the router as `edge` asks it.

use std::io::Read;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use tower::ServiceExt;

use super::{Client, router};
use crate::base::ids::{MountId, NodeId};
use crate::base::secret::Secret;
use crate::base::wall::unix_millis;
use crate::cluster::keys::ClusterSecrets;
use crate::control::{Config, Control, Identity, MetricsOpen, Parts, Password, Remembered, Role};
use crate::engine::ring::{Bounds, Burst};
use crate::engine::{self, Engine, Intake, Offer, fanout};
use crate::telemetry::{Class, EndReason, Opening, Protocol, SessionRecord, Telemetry};
use crate::wire::basic::Basic;
use crate::wire::message::PublicUrls;

pub const SOURCE: &str = "source-secret";
pub const ADMIN: &str = "admin-secret";
pub const RELAY: &str = "relay-secret";

/// A silent MPEG-1 layer III frame at 128 kbit/s, 48 kHz.
pub fn frames(count: usize) -> Vec<u8> {
    let mut frame = vec![0xFF, 0xFB, 0x94, 0xC4];
    frame.resize(384, 0x55);
    frame.repeat(count)
}

pub struct Scene {
    pub control: Arc<Control>,
    ends: Arc<Mutex<Vec<EndReason>>>,
    pub router: Router,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// A question in the making.
pub struct Ask<'a> {
    scene: &'a Scene,
    request: Request<Body>,
}

impl Ask<'_> {
    pub fn field(mut self, name: &'static str, value: &str) -> Self {
        self.request
            .headers_mut()
            .insert(name, value.parse().unwrap());
        self
    }

    pub fn user(self, user: &str, password: &str) -> Self {
        let value = Basic::new(user, Secret::new(password)).encode();
        self.field("authorization", &value)
    }

    pub fn admin(self) -> Self {
        self.user("admin", ADMIN)
    }

    pub fn method(mut self, method: Method) -> Self {
        *self.request.method_mut() = method;
        self
    }

    pub fn body(mut self, text: String) -> Self {
        *self.request.body_mut() = Body::from(text);
        self
    }

    pub fn from(mut self, address: &str, https: bool, local: bool) -> Self {
        self.request.extensions_mut().insert(Client {
            address: address.parse().unwrap(),
            https,
            local,
            hosts: Vec::new(),
            hidden: false,
            carried: false,
            claimed: None,
            connection: 0,
        });
        self
    }

    pub async fn send(self) -> Answer {
        let router = self.scene.router.clone();
        let response = router.oneshot(self.request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 24).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }
}

pub fn config() -> Config {
    Config {
        source_password: Password::new(Secret::new(SOURCE)),
        mount_passwords: vec![(mount("/own.mp3"), Password::new(Secret::new("own-secret")))],
        admin_password: Password::new(Secret::new(ADMIN)),
        relay_password: Password::new(Secret::new(RELAY)),
        public_urls: PublicUrls {
            http: Some("http://radio.example:8000".into()),
            https: Some("https://radio.example".into()),
            ..PublicUrls::default()
        },
        urls_are_guessed: false,
        certificate: None,
        default_mount: mount("/live.mp3"),
        shoutcast_mount: mount("/stream"),
        listed: Default::default(),
        forget: Duration::from_secs(600),
        max_listeners: 100,
        max_bandwidth: 0,
        max_cpu: 0,
        weight: 100,
        max_children: 16,
        key_rotation: Duration::from_secs(86_400),
        region: String::new(),
        on_demand: false,
        serve: Default::default(),
        strategy: Default::default(),
        mode: Default::default(),
        overflow: Default::default(),
        location: "Earth".into(),
        admin_contact: "ops@radio.example".into(),
        metrics_open: MetricsOpen::Auto,
        web: Default::default(),
    }
}

fn engine_config() -> engine::Config {
    engine::Config {
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
    }
}

pub fn mount(path: &str) -> MountId {
    MountId::new(path).unwrap()
}

impl Scene {
    pub fn new() -> Self {
        let ends: Arc<Mutex<Vec<EndReason>>> = Arc::default();
        let log = Arc::clone(&ends);
        let sink = move |_: &SessionRecord, reason| log.lock().unwrap().push(reason);
        let telemetry = Telemetry::new(Box::new(sink));
        let engine = Engine::start(engine_config(), Arc::clone(&telemetry)).unwrap();
        let identity = Identity {
            id: NodeId::random(),
            name: "head".parse().unwrap(),
            role: Role::Primary,
            incarnation: 1,
            version: "9.9.9",
            data_port: 8000,
        };
        let (control, _) = Control::new(Parts {
            outside: None,
            identity,
            config: config(),
            engine,
            telemetry,
            table: Default::default(),
            remembered: Remembered::default(),
            secrets: ClusterSecrets::new([1; 32], [2; 32], 0),
            join_tokens: Vec::new(),
            store: Some(Box::new(|_, _| Ok(()))),
            stopping: Default::default(),
        });
        let control = Arc::new(control);
        let router = router(Arc::clone(&control));
        Self {
            control,
            ends,
            router,
        }
    }

    /// A source with its first frames and a title.
    pub fn source(&self, path: &str, title: &str) -> Intake {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let offer = Offer {
            content_type: "audio/mpeg".into(),
            headers: vec![
                header("icy-name", "Radio <&\" 🎵"),
                header("icy-br", "128"),
                header("icy-genre", "007"),
                header("ice-audio-info", "ice-samplerate=48000;ice-bitrate=128"),
            ],
            address: IpAddr::from([198, 51, 100, 7]),
            agent: "encoder/1".into(),
            stale: Duration::from_secs(5),
        };
        let mut intake = self
            .control
            .engine
            .open_source(&mount(path), offer)
            .unwrap();
        self.push(&mut intake);
        intake.title(crate::wire::title::Title::of(title));
        intake
    }

    pub fn push(&self, intake: &mut Intake) {
        intake
            .push(&frames(10), Instant::now(), unix_millis())
            .unwrap();
    }

    /// A listener that is connected, and has its head and burst.
    pub fn listener(&self, path: &str, agent: &str) -> TcpStream {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let socket = server.accept().unwrap().0;
        let session = self.control.telemetry.open(&Opening {
            mount: &mount(path),
            address: IpAddr::from([203, 0, 113, 9]),
            user_agent: agent,
            referer: "",
            target: path,
            protocol: Protocol::Http11,
            class: Class::Listener,
        });
        let listener = fanout::Listener {
            tls: None,
            socket,
            asked: mount(path),
            mount: self.control.engine.mount(&mount(path)).unwrap(),
            head: Bytes::from_static(b"HEAD"),
            metaint: 0,
            session,
            accepted: Instant::now(),
            ends_at: None,
        };
        self.control.engine.listen(listener).unwrap();
        let mut first = [0; 4];
        client.read_exact(&mut first).unwrap();
        client
    }

    /// Why the first session ended; waits until one has.
    pub fn first_end(&self) -> EndReason {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(reason) = self.ends.lock().unwrap().first() {
                return *reason;
            }
            assert!(Instant::now() < deadline, "no session has ended");
            std::thread::yield_now();
        }
    }

    /// A question from a client far away, with the method GET.
    pub fn ask(&self, target: &str) -> Ask<'_> {
        let ask = Ask {
            scene: self,
            request: Request::get(target).body(Body::empty()).unwrap(),
        };
        ask.field("host", "asked.example:8000")
            .from("198.51.100.1", false, false)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.control.engine.stop();
    }
}

/// True once the other end has closed.
pub fn ends(client: &mut TcpStream) -> bool {
    client.read_to_end(&mut Vec::new()).is_ok()
}
