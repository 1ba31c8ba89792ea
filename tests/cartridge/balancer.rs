//! The platform's HAProxy: its sections, its check rules and its timeouts, and an eye on its socket.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::harness::program::{Program, tool};
use crate::harness::{eventually, two_free_ports};
use crate::platform::Application;

/// The web_proxy cartridge of the head gear.
pub struct Balancer {
    /// Where listeners come, on 127.0.0.1.
    pub port: u16,
    folder: TempDir,
    status: u16,
    /// The one that runs now, then those that only finish what they carry.
    programs: Vec<Program>,
    seen: Seen,
    eye: JoinHandle<()>,
}

/// Each server's states in order, each once in a row.
type Seen = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

impl Balancer {
    /// Over the gears of now, checked by the platform's rule of the first hour: `GET /`.
    pub async fn start(app: &Application) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seen = Seen::default();
        let eye = tokio::spawn(watch(folder.path().join("stats"), Arc::clone(&seen)));
        let mut balancer = Self {
            port: two_free_ports(),
            status: two_free_ports(),
            folder,
            programs: Vec::new(),
            seen,
            eye,
        };
        balancer.load(app, "/").await;
        balancer
    }

    /// `update-cluster`: the gears of now, with the override of the head gear's variables, and a reload that lets
    /// the old process finish.
    pub async fn update(&mut self, app: &Application) {
        let uri = app.head().variable("OPENSHIFT_HAPROXY_HTTPCHK_URI");
        self.load(app, &uri).await;
    }

    async fn load(&mut self, app: &Application, uri: &str) {
        let file = self.folder.path().join("haproxy.cfg");
        fs::write(&file, self.configuration(app, uri)).unwrap();
        let mut haproxy = tool("haproxy", "haproxy");
        haproxy.arg("-db").arg("-f").arg(&file);
        // The new one binds first; then it tells the old one to finish.
        if let Some(old) = self.programs.first() {
            haproxy.arg("-sf").arg(old.id().to_string());
        }
        let new = Program::start(haproxy);
        let answers = format!("Pid: {}\n", new.id());
        self.programs.insert(0, new);
        let stats = self.folder.path().join("stats");
        eventually("the new balancer answers", async || {
            let info = ask(&stats, "show info").await?;
            info.contains(&answers).then_some(())
        })
        .await;
        let wanted = app.gears.len();
        eventually("the balancer has checked every gear", async || {
            let rows = show_stat(&stats).await?;
            let gears: Vec<_> = rows.iter().filter(|row| row.server != "filler").collect();
            let all = gears.len() == wanted && gears.iter().all(|row| row.check == "L7OK");
            all.then_some(())
        })
        .await;
    }

    /// The file as the platform writes it. Added are only log lines, which change nothing.
    fn configuration(&self, app: &Application, uri: &str) -> String {
        let rule = "check fall 2 rise 3 inter 2000";
        let mut servers = String::new();
        for gear in &app.gears[1..] {
            let (name, port) = (&gear.uuid, gear.port);
            servers += &format!("    server gear-{name} 127.0.0.1:{port} {rule} cookie {name}\n");
        }
        let head = app.head();
        let ip = head.variable("OPENSHIFT_SCS_IP");
        let port = head.variable("OPENSHIFT_SCS_PORT");
        servers += &format!(
            "    server local-gear {ip}:{port} {rule} cookie local-{}\n",
            head.uuid
        );
        format!(
            "global\n    maxconn 256\n    log stdout format raw daemon\n    stats socket {stats}\n\
             defaults\n    mode http\n    log global\n    option dontlognull\n    option http-server-close\n    \
             option redispatch\n    retries 3\n    timeout http-request 10s\n    timeout queue 1m\n    \
             timeout connect 10s\n    timeout client 1m\n    timeout server 1m\n    timeout http-keep-alive 10s\n    \
             timeout check 10s\n    maxconn 128\n\
             listen stats 127.0.0.1:{status}\n    stats enable\n    stats uri /\n\
             listen express 127.0.0.1:{port}\n    option httpchk GET {uri}\n    \
             http-check expect rstatus 2..|3..|401\n    cookie GEAR insert indirect nocache\n    balance leastconn\n    \
             server filler 127.0.0.1:{status} backup\n{servers}",
            stats = self.folder.path().join("stats").display(),
            status = self.status,
            port = self.port,
        )
        .replace("listen stats 127", "listen stats\n    bind 127")
        .replace("listen express 127", "listen express\n    bind 127")
    }

    /// The states that a server went through.
    pub fn states(&self, server: &str) -> Vec<String> {
        self.seen
            .lock()
            .unwrap()
            .get(server)
            .cloned()
            .unwrap_or_default()
    }

    /// Fails if any server but these was ever down.
    #[track_caller]
    pub fn nobody_was_down_but(&self, allowed: &[String]) {
        let seen = self.seen.lock().unwrap().clone();
        assert!(seen.len() > 1, "nothing was seen: {seen:?}");
        for (server, states) in &seen {
            let down = states.iter().any(|state| state.starts_with("DOWN"));
            assert!(
                !down || allowed.contains(server),
                "{server} was down: {states:?}"
            );
        }
        // The socket is looked at ten times a second; the log misses nothing.
        for program in &self.programs {
            for line in program
                .stdout()
                .lines()
                .filter(|line| line.contains("is DOWN"))
            {
                let known = allowed.iter().any(|server| line.contains(server.as_str()));
                assert!(known, "{line}");
            }
        }
        println!("states: {seen:?}");
    }

    /// Current sessions of a server.
    pub async fn sessions(&self, server: &str) -> u32 {
        let rows = show_stat(&self.folder.path().join("stats")).await;
        let rows = rows.unwrap_or_default();
        rows.iter()
            .find(|row| row.server == server)
            .map_or(0, |row| row.sessions)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.eye.abort();
    }
}

struct Row {
    server: String,
    status: String,
    check: String,
    sessions: u32,
}

/// Keeps each change of each server's state.
async fn watch(socket: PathBuf, seen: Seen) {
    let mut turns = interval(Duration::from_millis(100));
    loop {
        turns.tick().await;
        let Some(rows) = show_stat(&socket).await else {
            continue;
        };
        let mut seen = seen.lock().unwrap();
        for row in rows {
            let states = seen.entry(row.server).or_default();
            if states.last() != Some(&row.status) {
                states.push(row.status);
            }
        }
    }
}

/// One word to the socket, and all that it answers.
async fn ask(socket: &Path, word: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).await.ok()?;
    let line = format!("{word}\n");
    stream.write_all(line.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text)
}

/// The servers that take listeners, by `show stat`.
async fn show_stat(socket: &Path) -> Option<Vec<Row>> {
    let text = ask(socket, "show stat").await?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let rows = lines.filter_map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |name: &str| {
            let at = names.iter().position(|own| *own == name)?;
            fields.get(at).map(|text| (*text).to_owned())
        };
        let server = field("svname")?;
        let ours =
            field("pxname")? == "express" && !["FRONTEND", "BACKEND"].contains(&server.as_str());
        ours.then_some(())?;
        Some(Row {
            server,
            status: field("status")?,
            check: field("check_status")?.trim_start_matches("* ").to_owned(),
            sessions: field("scur")?.parse().ok()?,
        })
    });
    Some(rows.collect())
}
