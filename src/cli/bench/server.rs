//! The servers that are measured: our own, the bare loop, or one at a URL. `icecast` is another's.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use super::args::{BenchFlags, Plan};
use super::clock::until;
use super::http;
use super::process::{Cores, Process, cpu_seconds, memory, pin};
use super::source::Place;
use super::tls::Certificate;
use crate::settings::secrets::{JOIN_FILE, SOURCE_FILE};

/// The mount that the bench plays.
pub(super) const MOUNT: &str = "/bench.mp3";

/// Our own server's name in reports.
const OURS: &str = "relayctl";

/// A server that is asked for something answers within this, on a machine that is busy too.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// One server, in one process or several.
pub(super) struct Server {
    /// Its name in the report.
    pub name: &'static str,
    /// Where listeners connect, in turn.
    pub listen: Vec<SocketAddr>,
    /// What they ask for.
    pub path: String,
    /// Where the source plays; empty for a stream that is there already.
    pub places: Vec<Place>,
    /// Processes whose figures count.
    pub pids: Vec<u32>,
    /// Listeners speak TLS and trust this.
    pub certificate: Option<PathBuf>,
    /// Ended with it, the last started first.
    pub processes: Vec<Process>,
    /// Their files, removed after them.
    pub _folder: Option<TempDir>,
}

/// What a server has sent so far, as its metrics say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    /// Bytes.
    pub bytes: f64,
    /// Sends.
    pub sends: f64,
}

impl Server {
    /// A primary of our own; [`Server::grow`] adds relays.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn ours(plan: &Plan, cores: Cores) -> anyhow::Result<Self> {
        Self::head(plan, cores, "always")
    }

    /// The same with a word on when it serves listeners itself.
    ///
    /// # Errors
    /// As [`Server::ours`].
    pub fn head(plan: &Plan, cores: Cores, serve: &str) -> anyhow::Result<Self> {
        let folder = folder()?;
        let home = data_dir(folder.path(), 0);
        let words = ["primary".to_owned(), format!("--serve={serve}")];
        let certificate = plan
            .tls
            .then(|| Certificate::make(folder.path()))
            .transpose()?;
        pin(cores.server)?;
        let started = start_node(plan, &words, &home, certificate.as_ref());
        pin(cores.load)?;
        let (process, head) = started?;
        let password = one_line(&home.join(SOURCE_FILE))?;
        Ok(Self {
            name: OURS,
            listen: vec![head],
            path: MOUNT.into(),
            places: vec![Place {
                server: head,
                path: MOUNT.into(),
                password,
            }],
            pids: vec![process.pid()],
            certificate: certificate.map(|made| made.file),
            processes: vec![process],
            _folder: Some(folder),
        })
    }

    /// Lets relays join a primary of our own, until there are as many processes as `plan` wants. Gives the time
    /// from each one's start to the first byte of audio through it.
    ///
    /// # Errors
    /// Where one does not start, or carries no audio.
    pub fn grow(&mut self, plan: &Plan, cores: Cores) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::new();
        let (Some(folder), Some(head)) = (&self._folder, self.listen.first().copied()) else {
            return Ok(times);
        };
        if self.name != OURS {
            return Ok(times);
        }
        let folder = folder.path().to_owned();
        for number in self.processes.len()..plan.servers.into() {
            let words = [
                "join".to_owned(),
                format!("--primary=http://{head}"),
                format!(
                    "--token=@{}",
                    data_dir(&folder, 0).join(JOIN_FILE).display()
                ),
            ];
            let begin = Instant::now();
            pin(cores.server)?;
            let started = start_node(plan, &words, &data_dir(&folder, number), None);
            pin(cores.load)?;
            let (process, server) = started?;
            until("a relay carries no audio", PATIENCE, || {
                Ok(http::first_byte(server, &self.path).ok())
            })?;
            times.push(begin.elapsed());
            self.listen.push(server);
            self.pids.push(process.pid());
            self.processes.push(process);
        }
        Ok(times)
    }

    /// Bare loops that send every `tick` by `backend`, as many as ours has processes.
    ///
    /// # Errors
    /// Where one does not start.
    pub fn floor(plan: &Plan, cores: Cores, tick: Duration, backend: &str) -> anyhow::Result<Self> {
        pin(cores.server)?;
        let started: anyhow::Result<Vec<Process>> = (0..plan.servers)
            .map(|_| Process::this_program("the bare loop", &["bench-part", "floor"], &[]))
            .collect();
        pin(cores.load)?;
        let mut processes = started?;
        let mut listen = Vec::new();
        for process in &mut processes {
            process.tell(&format!("{} {backend}", tick.as_micros()))?;
            listen.push(process.line()?.trim().parse::<SocketAddr>()?);
        }
        let place = |server: &SocketAddr| Place {
            server: *server,
            path: MOUNT.into(),
            password: String::new(),
        };
        Ok(Self {
            name: "floor",
            places: listen.iter().map(place).collect(),
            listen,
            path: MOUNT.into(),
            pids: processes.iter().map(Process::pid).collect(),
            certificate: None,
            processes,
            _folder: None,
        })
    }

    /// A stream of somebody's.
    ///
    /// # Errors
    /// Where the URL is none, or leads to another machine without leave.
    pub fn at(url: &str, flags: &BenchFlags) -> anyhow::Result<Self> {
        let parsed = url::Url::parse(url).with_context(|| format!("`--url {url}` is no URL"))?;
        ensure!(
            parsed.scheme() == "http",
            "`--url {url}`: the bench speaks http only: name the server's plain port"
        );
        let host = parsed.host_str().context("the URL names no host")?;
        let port = parsed.port_or_known_default().unwrap_or(80);
        let found: Vec<SocketAddr> = (host.trim_matches(['[', ']']), port)
            .to_socket_addrs()
            .with_context(|| format!("`--url {url}`: `{host}` has no address"))?
            .collect();
        let server = *found.first().context("the host has no address")?;
        if !server.ip().is_loopback() && !flags.i_own_this_server {
            bail!(
                "`--url {url}` leads to {}, which is not this machine: a bench is an attack on a server that is \
                 not yours; if it is, add --i-own-this-server",
                server.ip()
            );
        }
        ensure!(
            parsed.path().len() > 1,
            "`--url {url}` names no mount: write it as http://{host}:{port}/live.mp3"
        );
        let password = flags.source_password.as_deref().map(secret).transpose()?;
        let path = parsed.path().to_owned();
        let place = password.map(|password| Place {
            server,
            path: path.clone(),
            password,
        });
        Ok(Self {
            name: "server",
            listen: vec![server],
            places: place.into_iter().collect(),
            path,
            pids: flags.pid.clone(),
            certificate: None,
            processes: Vec::new(),
            _folder: None,
        })
    }

    /// Where its files lie.
    pub fn folder(&self) -> Option<&Path> {
        self._folder.as_ref().map(TempDir::path)
    }

    /// Waits until every process has the mount.
    ///
    /// # Errors
    /// Where one has not.
    pub fn wait_for_mount(&mut self) -> anyhow::Result<()> {
        // The audio's way in speaks clear text, whatever its way out does.
        let plain = self.places.iter().map(|place| place.server);
        let mut plain: Vec<SocketAddr> = plain.collect();
        if plain.is_empty() {
            plain.clone_from(&self.listen);
        }
        for server in &plain {
            let what = format!("{} has no {} at {server}", self.name, self.path);
            until(&what, PATIENCE, || {
                let asked = http::begins(*server, &self.path);
                Ok(asked.ok().filter(|status| *status < 400))
            })?;
        }
        self.still_runs()
    }

    /// Waits until the primary has the mount, though it may not serve it.
    ///
    /// # Errors
    /// Where it has not.
    pub fn wait_for_head(&mut self) -> anyhow::Result<()> {
        until("the primary has no source", PATIENCE, || {
            Ok(self.metric("relayctl_source_up").filter(|up| *up > 0.0))
        })?;
        self.still_runs()
    }

    /// Seconds that its processes were on a processor.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let each = self.pids.iter().map(|pid| cpu_seconds(*pid));
        each.sum::<Option<f64>>().filter(|sum| *sum > 0.0)
    }

    /// Anonymous memory of its processes.
    pub fn memory(&self) -> Option<u64> {
        let each = self.pids.iter().map(|pid| memory(*pid));
        each.sum::<Option<u64>>().filter(|sum| *sum > 0)
    }

    /// A metric, summed over its processes.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metric_with(name, "")
    }

    /// The sum of those of a metric's series that have `label`, over its processes.
    pub fn metric_with(&self, name: &str, label: &str) -> Option<f64> {
        let of = |page: &str| {
            let lines = page.lines().filter(|line| line.contains(label));
            http::metric(&lines.collect::<Vec<_>>().join("\n"), name)
        };
        let pages = self.listen.iter().map(|server| {
            let (status, page) = http::ask(*server, "GET", "/metrics", "").ok()?;
            (status == 200).then(|| of(&page)).flatten()
        });
        pages.sum()
    }

    /// What it sent, where it says so.
    pub fn sent(&self) -> Option<Sent> {
        Some(Sent {
            bytes: self.metric("relayctl_sent_bytes_total")?,
            sends: self.metric("relayctl_sends_total")?,
        })
    }

    /// Fails where a process has ended.
    ///
    /// # Errors
    /// With its status.
    pub fn still_runs(&mut self) -> anyhow::Result<()> {
        self.processes.iter_mut().try_for_each(Process::still_runs)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Relays before their primary.
        while let Some(process) = self.processes.pop() {
            drop(process);
        }
    }
}

/// A folder for one server's files.
pub(super) fn folder() -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("relayctl-bench-").tempdir()
}

fn start_node(
    plan: &Plan,
    words: &[String],
    home: &Path,
    certificate: Option<&Certificate>,
) -> anyhow::Result<(Process, SocketAddr)> {
    let mut variables = vec![
        ("RELAYCTL_LOG", "warn".to_owned()),
        ("RELAYCTL_ACCESS_LOG__PATH", "off".to_owned()),
    ];
    if let Some(delay) = plan.max_delay {
        variables.push((
            "RELAYCTL_FANOUT__MAX_DELAY",
            format!("{}ms", delay.as_millis()),
        ));
        let floor = delay.min(Duration::from_millis(100));
        variables.push((
            "RELAYCTL_FANOUT__MIN_DELAY",
            format!("{}ms", floor.as_millis()),
        ));
    }
    if let Some(backend) = &plan.backend {
        variables.push(("RELAYCTL_FANOUT__BACKEND", backend.clone()));
    }
    if let Some(certificate) = certificate {
        variables.push(("RELAYCTL_TLS__CERT", certificate.file.display().to_string()));
        variables.push(("RELAYCTL_TLS__KEY", certificate.key.display().to_string()));
    }
    let name = home.file_name().unwrap_or_default().to_string_lossy();
    let (name, home) = (
        format!("--name={name}"),
        format!("--data-dir={}", home.display()),
    );
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.extend(["--bind=127.0.0.1:0", &name, &home]);
    let mut process = Process::this_program("a node", &words, &variables)?;
    let line = loop {
        let line = process.line()?;
        if line.starts_with("relayctl: ready") {
            break line;
        }
    };
    process.forget_output();
    let url = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("url=http://"));
    let url = url.context("a node's ready line names no URL")?;
    Ok((process, url.parse()?))
}

fn data_dir(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("bench-{number}"))
}

/// A secret on the command line, or in the file behind `@`.
fn secret(text: &str) -> anyhow::Result<String> {
    match text.strip_prefix('@') {
        Some(file) => one_line(Path::new(file)),
        None => Ok(text.to_owned()),
    }
}

fn one_line(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(text.trim().to_owned())
}
