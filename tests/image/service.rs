//! The units under a real systemd, in a Debian that has the package: started, watched, closed in, reloaded, handed their
//! sockets, stopped, removed. `docs/systemd.md` promises each of it.

use std::fs;

use serde_json::Value;

use crate::artefact::{IMAGE, engine, root};
use crate::booted::Booted;
use crate::debian::{Debian, binary, package};
use crate::docker::said_by;
use crate::harness::eventually;
use crate::harness::peer::{Peer, get};
use crate::harness::program::{Program, tool};
use crate::harness::source::{Framing, Source, listen, on_air, source_head};
use crate::place::alone;

const PRIMARY: &str = "relayctl-primary.service";
const SOCKET: &str = "relayctl-primary.socket";
const RELAY: &str = "relayctl-relay.service";
const MOUNT: &str = "/live.mp3";

/// A machine with the package, and its root as this machine sees it.
struct Scene<'a> {
    booted: Booted,
    debian: &'a Debian,
}

impl Scene<'_> {
    fn systemctl(&self, words: &[&str]) -> String {
        self.booted.run(&[&["systemctl"], words].concat())
    }

    /// One number of the node's, by its own socket.
    fn max_listeners(&self) -> u64 {
        let table = self.booted.run(&["relayctl", "get", "nodes", "-o", "json"]);
        let table: Value = serde_json::from_str(&table).unwrap();
        table["nodes"][0]["max_listeners"].as_u64().unwrap()
    }

    fn settings(&self, role: &str, text: &str) {
        let file = self.debian.path(&format!("/etc/relayctl/{role}.yaml"));
        fs::write(file, text).unwrap();
    }

    fn password(&self) -> String {
        let file = self.debian.path("/var/lib/relayctl/source-password");
        fs::read_to_string(file).unwrap().trim_end().to_owned()
    }

    /// `systemctl start` returns when the data port answers, and not before.
    async fn starts(&self) {
        self.systemctl(&["start", PRIMARY]);
        assert_eq!(get(8000, "/health").await.0.status, 200);
        assert_eq!(self.booted.property(PRIMARY, "Type"), "notify");
        assert_eq!(self.booted.property(PRIMARY, "ActiveState"), "active");
        let line = self.booted.property(PRIMARY, "StatusText");
        assert!(line.starts_with("primary, "), "{line}");
    }

    /// What the unit forbids is forbidden to the process that runs.
    fn is_closed_in(&self) {
        let pid = self.booted.property(PRIMARY, "MainPID");
        let status = self.booted.run(&["cat", &format!("/proc/{pid}/status")]);
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {status}"))
                .trim()
                .to_owned()
        };
        for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(name), "0000000000000000", "{name}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        // 2: calls are filtered.
        assert_eq!(field("Seccomp:"), "2");
        assert!(!field("Uid:").starts_with("0\t"), "{status}");
        let space = |pid: &str, kind: &str| {
            let link = format!("/proc/{pid}/ns/{kind}");
            self.booted.run(&["readlink", &link])
        };
        for kind in ["user", "mnt", "ipc"] {
            assert_ne!(space(&pid, kind), space("1", kind), "{kind}");
        }
        // As root, and where the node lives all the same.
        let inside = |script: &str| {
            let words = ["nsenter", "--target", &pid, "--mount", "sh", "-c", script];
            self.booted.tried(&words)
        };
        for folder in ["/etc", "/usr", "/var/lib", "/var/log", "/home", "/root"] {
            let (done, said) = inside(&format!("touch {folder}/written"));
            assert!(!done && said.contains("Read-only"), "{folder}: {said}");
        }
        let (done, said) =
            inside("touch /var/lib/relayctl/written && rm /var/lib/relayctl/written");
        assert!(done, "{said}");
        let (done, devices) = inside("ls /dev");
        let disk = |name: &str| {
            ["sd", "vd", "nvme", "loop", "mem"]
                .iter()
                .any(|d| name.starts_with(d))
        };
        assert!(done && devices.contains("null"), "{devices}");
        assert!(!devices.lines().any(disk), "{devices}");
    }

    /// The thread that accepts connections feeds the watchdog; a node that hangs is started anew.
    async fn is_watched(&self) {
        let fed = || self.booted.property(PRIMARY, "WatchdogTimestampMonotonic");
        let before = fed();
        eventually("the watchdog is fed", async || {
            (fed() != before).then_some(())
        })
        .await;
        let folder = "/run/systemd/system/relayctl-primary.service.d";
        let lines = "[Service]\\nWatchdogSec=3s\\nTimeoutAbortSec=1s\\n";
        let write = format!("mkdir -p {folder} && printf '{lines}' >{folder}/short.conf");
        self.booted.run(&["sh", "-c", &write]);
        self.systemctl(&["daemon-reload"]);
        self.systemctl(&["restart", PRIMARY]);
        let pid = self.booted.property(PRIMARY, "MainPID");
        self.booted.run(&["sh", "-c", &format!("kill -STOP {pid}")]);
        eventually("another process answers", async || {
            let now = self.booted.property(PRIMARY, "MainPID");
            let state = self.booted.property(PRIMARY, "ActiveState");
            (now != pid && now != "0" && state == "active").then_some(())
        })
        .await;
        let log = self.booted.journal(PRIMARY);
        assert!(log.contains("Watchdog timeout"), "{log}");
        self.booted.run(&["rm", "-r", folder]);
        self.systemctl(&["daemon-reload"]);
        self.systemctl(&["restart", PRIMARY]);
        assert_eq!(get(8000, "/health").await.0.status, 200);
    }

    /// Reload is SIGHUP: new settings hold, wrong ones change nothing and are named.
    async fn reloads(&self) {
        let taken = || {
            self.booted
                .journal(PRIMARY)
                .matches("settings reloaded")
                .count()
        };
        let (before, pid) = (taken(), self.booted.property(PRIMARY, "MainPID"));
        // Nothing is written, so no watch of files helps.
        self.systemctl(&["reload", PRIMARY]);
        eventually("the settings are read again", async || {
            (taken() > before).then_some(())
        })
        .await;
        self.settings("primary", "max_listeners: 77\n");
        self.systemctl(&["reload", PRIMARY]);
        eventually("the new limit holds", async || {
            (self.max_listeners() == 77).then_some(())
        })
        .await;
        self.settings("primary", "max_listenerz: 78\n");
        self.systemctl(&["reload", PRIMARY]);
        eventually("the log says why", async || {
            let log = self.booted.journal(PRIMARY);
            let refused = log.lines().find(|line| line.contains("reload refused"))?;
            assert!(refused.contains("max_listenerz"), "{refused}");
            Some(())
        })
        .await;
        assert_eq!(self.max_listeners(), 77);
        assert_eq!(self.booted.property(PRIMARY, "MainPID"), pid);
        self.settings("primary", "max_listeners: 79\n");
    }

    /// Who listens hears the end of the stream, not a broken connection; the node goes with 0.
    async fn drains_when_it_stops(&self) {
        let mut peer = Peer::connect(8000).await;
        let head = source_head(&format!("PUT {MOUNT} HTTP/1.1"), &self.password(), "");
        peer.send(head).await;
        assert_eq!(peer.head().await.status, 200);
        let source = Source::over(peer, Framing::Raw, 0);
        on_air(8000, MOUNT).await;
        let (mut listener, _) = listen(8000, MOUNT).await;
        listener.exact(4_000).await;
        let mut stopping = Program::start(self.booted.command(&["systemctl", "stop", PRIMARY]));
        listener.rest().await;
        assert!(stopping.ended().await.success(), "{}", stopping.stderr());
        drop(source);
        assert_eq!(self.booted.property(PRIMARY, "ActiveState"), "inactive");
        assert_eq!(self.booted.property(PRIMARY, "Result"), "success");
        assert_eq!(self.booted.property(PRIMARY, "ExecMainStatus"), "0");
        let log = self.booted.journal(PRIMARY);
        assert!(log.contains("by: \"shutdown\", listeners: 1"), "{log}");
    }

    /// systemd holds the ports: who connects while nothing runs waits, and starts the node.
    async fn takes_its_sockets(&self) {
        self.systemctl(&["enable", "--now", SOCKET]);
        assert_eq!(self.booted.property(PRIMARY, "ActiveState"), "inactive");
        for round in ["first", "after a stop"] {
            let (head, body) = get(8000, "/health").await;
            assert_eq!(head.status, 200, "{round}: {body}");
            eventually("the service is up", async || {
                let state = self.booted.property(PRIMARY, "ActiveState");
                (state == "active").then_some(())
            })
            .await;
            // The second port is handed over too: a Shoutcast source is told there that its password is wrong.
            let mut source = Peer::connect(8001).await;
            source.send("wrong\r\n").await;
            let said = source.rest().await;
            assert!(said.starts_with(b"invalid password"), "{round}: {said:?}");
            self.systemctl(&["stop", PRIMARY]);
            assert_eq!(self.booted.property(SOCKET, "ActiveState"), "active");
        }
    }

    /// The unit of a relay says what it lacks, takes the place of the primary's, and joins.
    async fn runs_a_relay(&self) {
        let (done, _) = self.booted.tried(&["systemctl", "start", RELAY]);
        let log = self.booted.journal(RELAY);
        assert!(!done && log.contains("whom to join is not said"), "{log}");
        assert_eq!(self.booted.property(SOCKET, "ActiveState"), "inactive");
        // The head of this one is no service: a machine has one of the two.
        let head = [
            "primary",
            "--bind",
            "127.0.0.1:9000",
            "--data-dir",
            "/root/head",
        ];
        let head = Program::start(self.booted.command(&[&["relayctl"][..], &head].concat()));
        eventually("the primary is ready", async || {
            head.stdout().contains("ready role=primary").then_some(())
        })
        .await;
        let place = ["--data-dir", "/root/head"];
        let show = [&["relayctl", "token", "show", "join"][..], &place].concat();
        let token = self.booted.run(&show);
        let text = format!("primary: http://127.0.0.1:9000\ntoken: {token}\n");
        self.settings("relay", &text);
        self.systemctl(&["restart", RELAY]);
        let list = [&["relayctl", "get", "nodes", "-o", "json"][..], &place].concat();
        eventually("the relay has joined", async || {
            let table: Value = serde_json::from_str(&self.booted.run(&list)).unwrap();
            let mut rows = table["nodes"].as_array().unwrap().iter();
            rows.any(|row| row["role"] == "relay" && row["state"] == "ready")
                .then_some(())
        })
        .await;
        let line = self.booted.property(RELAY, "StatusText");
        assert!(line.starts_with("relay, "), "{line}");
    }

    /// Removal stops what runs.
    async fn is_removed(&self) {
        self.booted.run(&["dpkg", "--purge", "relayctl"]);
        let (running, _) = self.booted.tried(&["systemctl", "is-active", RELAY]);
        assert!(!running);
        let state = self.booted.property(RELAY, "LoadState");
        assert_eq!(state, "not-found");
        let there = |path: &str| self.debian.path(path).exists();
        assert!(!there("/var/lib/relayctl") && !there("/etc/relayctl"));
        assert!(!there(
            "/etc/systemd/system/sockets.target.wants/relayctl-primary.socket"
        ));
    }
}

#[test]
fn systemd_starts_watches_reloads_and_stops_it() {
    let debian = Debian::new();
    alone(async || {
        let docker = engine().await;
        let deb = package(&docker, IMAGE);
        fs::copy(&deb, debian.path("/root/relayctl.deb")).unwrap();
        let booted = Booted::start(&debian).await;
        booted.run(&["dpkg", "--install", "/root/relayctl.deb"]);
        let debian = &debian;
        let scene = Scene { booted, debian };
        scene.starts().await;
        scene.is_closed_in();
        scene.is_watched().await;
        scene.reloads().await;
        scene.drains_when_it_stops().await;
        scene.takes_its_sockets().await;
        scene.runs_a_relay().await;
        scene.is_removed().await;
    });
}

/// The commands of the page for a machine without the package, as they stand there, in a copy of the sources.
#[test]
fn the_page_installs_the_units_by_hand() {
    let page = fs::read_to_string(root().join("docs/systemd.md")).unwrap();
    let (_, part) = page.split_once("## Without the package").unwrap();
    let (_, script) = part.split_once("```sh\n").unwrap();
    let (script, _) = script.split_once("```").unwrap();
    assert!(script.contains("systemctl enable --now"), "{script}");
    let debian = Debian::new();
    alone(async || {
        let docker = engine().await;
        let sources = debian.path("/root/sources");
        let release = sources.join("target/release");
        fs::create_dir_all(&release).unwrap();
        fs::copy(binary(&docker, IMAGE), release.join("relayctl")).unwrap();
        let mut copy = tool("cp", "coreutils");
        copy.arg("--recursive").arg(root().join("deploy"));
        said_by(copy.arg(&sources));
        let booted = Booted::start(&debian).await;
        let script = format!("cd /root/sources; set -eux; {script}");
        println!("{}", booted.run(&["bash", "-c", &script]));
        assert_eq!(get(8000, "/health").await.0.status, 200);
        assert_eq!(booted.property(PRIMARY, "ActiveState"), "active");
        assert_eq!(booted.property(PRIMARY, "UnitFileState"), "enabled");
    });
}
