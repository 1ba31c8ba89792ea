//! A listener: `curl`, as one who follows the documents has it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::eventually;
use crate::harness::peer::Peer;
use crate::harness::program::{Program, tool};
use crate::harness::tone::{self, FRAME};

/// What it hears before it counts: a second of the tone.
const ENOUGH: usize = 40 * FRAME;

/// See the module. It leaves when it is dropped.
pub struct Listener {
    folder: TempDir,
    node: String,
    _curl: Program,
}

/// Waits until a mount plays there, or listeners are sent on.
async fn on_air(at: SocketAddr, mount: &str, answer: u16) {
    let request = format!("HEAD {mount} HTTP/1.1\r\nHost: radio\r\nConnection: close\r\n\r\n");
    eventually(&format!("{mount} is on air at {at}"), async || {
        let mut peer = Peer::connect_to(at).await;
        peer.send(&request).await;
        let head = peer.head().await;
        (head.status == answer).then_some(())
    })
    .await;
}

impl Listener {
    /// One that hears the tone, without a gap, when this returns. It comes when the node would answer so: 200, or 302, which it
    /// follows.
    pub async fn start(at: SocketAddr, mount: &str, answer: u16) -> Self {
        on_air(at, mount, answer).await;
        let folder = tempfile::tempdir().unwrap();
        let mut curl = tool("curl", "curl");
        curl.args(["--silent", "--show-error", "--location", "--no-buffer"]);
        curl.arg("--dump-header").arg(folder.path().join("head"));
        curl.arg("--output").arg(folder.path().join("audio"));
        curl.arg(format!("http://{at}{mount}"));
        let curl = Program::start(curl);
        let mut listener = Self {
            folder,
            node: String::new(),
            _curl: curl,
        };
        listener.has(ENOUGH).await;
        let head = fs::read_to_string(listener.file("head")).unwrap();
        // Of the last answer, where there was a redirect.
        let mut lines = head.lines().rev().filter_map(|line| line.split_once(": "));
        let node = lines.find(|(name, _)| name.eq_ignore_ascii_case("x-relayctl-node"));
        listener.node = node
            .unwrap_or_else(|| panic!("no node: {head}"))
            .1
            .to_owned();
        listener
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Who serves it.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Waits for so many bytes in all, each of them right.
    async fn has(&self, bytes: usize) {
        let heard = eventually("the tone is heard", async || {
            let audio = fs::read(self.file("audio")).unwrap_or_default();
            (audio.len() >= bytes).then_some(audio)
        })
        .await;
        tone::run(&heard);
    }

    /// Hears a second more.
    pub async fn hears_on(&self) {
        let so_far = fs::metadata(self.file("audio")).unwrap().len();
        self.has(usize::try_from(so_far).unwrap() + ENOUGH).await;
    }
}
