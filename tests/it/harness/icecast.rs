//! A real `icecast2`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use relayctl::base::secret::Secret;
use relayctl::render::{Kind, Paths, RenderMount, Renderer, RunAs, Station};
use serde_json::Value;
use tempfile::TempDir;

use super::peer::{Peer, get};
use super::program::{Program, tool};
use super::source::{Framing, Source, source_head};
use super::{eventually, two_free_ports};

/// Password of its sources.
const PASSWORD: &str = "hackme";

/// See the module.
pub struct Icecast {
    program: Program,
    _folder: Option<TempDir>,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

/// Whom an Icecast that was started by root becomes.
pub fn run_as() -> Option<RunAs> {
    rustix::process::getuid().is_root().then(|| RunAs {
        user: "icecast2".into(),
        group: "icecast".into(),
    })
}

/// A folder that Icecast can write its logs to, whoever it has become.
pub fn log_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

impl Icecast {
    /// One of its own, that takes any source.
    pub async fn start() -> Self {
        let folder = log_folder();
        let port = two_free_ports();
        let station = Station {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port,
            paths: Paths {
                data: folder.path().to_owned(),
                logs: folder.path().to_owned(),
                ..Paths::default()
            },
            run_as: run_as(),
            source_password: Secret::new(PASSWORD),
            admin_password: Secret::new("admin"),
            mounts: vec![RenderMount::at("/live.mp3")],
            ..Station::default()
        };
        let text = Renderer::new(None).unwrap();
        let text = text.render(Kind::Icecast, &station).unwrap();
        let file = folder.path().join("icecast.xml");
        fs::write(&file, text).unwrap();
        let mut icecast = Self::from_file(&file, port).await;
        icecast._folder = Some(folder);
        icecast
    }

    /// From a file that says `port`.
    pub async fn from_file(file: &Path, port: u16) -> Self {
        let mut command = tool("icecast2", "icecast2");
        command.arg("-c").arg(file);
        let mut program = Program::start(command);
        eventually("icecast2 answers", async || {
            let status = program.status();
            assert!(status.is_none(), "it ended: {status:?}");
            let peer = Peer::try_connect(Ipv4Addr::LOCALHOST.into(), port).await;
            peer.is_ok().then_some(())
        })
        .await;
        Self {
            program,
            _folder: None,
            port,
        }
    }

    /// A source of the tone from a frame on.
    pub async fn source(&self, mount: &str, password: Option<&str>, first: u64) -> Source {
        let mut peer = Peer::connect(self.port).await;
        let line = format!("SOURCE {mount} HTTP/1.0");
        peer.send(source_head(&line, password.unwrap_or(PASSWORD), ""))
            .await;
        let head = peer.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        let source = Source::over(peer, Framing::Raw, first);
        self.has(mount).await;
        source
    }

    /// Waits until a mount is on air there.
    pub async fn has(&self, mount: &str) {
        let what = format!("icecast2 has {mount}");
        eventually(&what, async || self.listeners(mount).await).await;
    }

    /// Listeners of a mount, where there is one.
    pub async fn listeners(&self, mount: &str) -> Option<u64> {
        let (head, body) = get(self.port, "/status-json.xsl").await;
        assert_eq!(head.status, 200, "{body}");
        // In its first moments 2.4.4 says what is no JSON.
        let status: Value = serde_json::from_str(&body).ok()?;
        let sources = match &status["icestats"]["source"] {
            Value::Array(all) => all.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        let own = |source: &&Value| {
            let url = source["listenurl"].as_str();
            url.is_some_and(|url| url.ends_with(mount))
        };
        let found = sources.iter().find(own)?;
        found["listeners"].as_u64()
    }

    /// Waits until a mount has so many listeners; Icecast counts now and then.
    pub async fn listened(&self, mount: &str, by: u64) {
        eventually(&format!("{by} listen there"), async || {
            (self.listeners(mount).await == Some(by)).then_some(())
        })
        .await;
    }

    /// Kill -9.
    pub fn kill(&mut self) {
        self.program.kill();
    }
}
