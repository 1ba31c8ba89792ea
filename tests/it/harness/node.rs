//! A real node: the binary, a folder of its own, a free port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::process::Signal;
use tempfile::TempDir;

use super::eventually;
use super::group::Group;
use super::net::Place;
use super::peer::{Head, Peer};
use super::program::{Program, output_of, tool};

/// What a node is started from; it can be started again.
#[derive(Clone)]
pub struct Plan {
    command: &'static str,
    bind: String,
    flags: Vec<String>,
    yaml: String,
    variables: Vec<(String, String)>,
    resolv_conf: Option<PathBuf>,
    read_only: bool,
    folder: Arc<TempDir>,
    place: Option<Place>,
    group: Option<Arc<Group>>,
}

/// A node that runs until the end of its test.
pub struct Node {
    program: Program,
    plan: Plan,
    /// Its address: 127.0.0.1 unless it has a place of its own.
    pub host: IpAddr,
    /// Its data port there.
    pub port: u16,
}

impl Plan {
    fn new(command: &'static str) -> Self {
        Self {
            command,
            bind: "127.0.0.1:0".into(),
            flags: Vec::new(),
            yaml: String::new(),
            variables: Vec::new(),
            resolv_conf: None,
            read_only: false,
            folder: Arc::new(tempfile::tempdir().unwrap()),
            place: None,
            group: None,
        }
    }

    /// `relayctl primary`.
    pub fn primary() -> Self {
        Self::new("primary")
    }

    /// `relayctl run`: the role is found from the settings.
    pub fn run() -> Self {
        Self::new("run")
    }

    /// `relayctl join` of that primary, with its join token.
    pub fn relay(primary: &Node) -> Self {
        Self::joining(primary.port, &primary.secret("join-token"))
    }

    /// `relayctl join` of a primary on a port of this machine.
    pub fn joining(port: u16, token: &str) -> Self {
        Self::joining_at(&format!("http://127.0.0.1:{port}"), token)
    }

    /// `relayctl join` of the primary at a URL or name.
    pub fn joining_at(primary: &str, token: &str) -> Self {
        Self::new("join")
            .flag("--primary", primary)
            .flag("--token", token)
    }

    /// With this file as `/etc/resolv.conf`: in a mount namespace of its own, as root.
    pub fn resolv_conf(mut self, file: &Path) -> Self {
        self.resolv_conf = Some(file.to_owned());
        self
    }

    /// With a data directory that cannot be written: in a mount namespace of its own, as root.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// More lines of the settings file.
    pub fn yaml(mut self, lines: &str) -> Self {
        self.yaml.push_str(lines);
        self.yaml.push('\n');
        self
    }

    /// A flag with its value.
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// The node's name.
    pub fn name(self, name: &str) -> Self {
        self.flag("--name", name)
    }

    /// An environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// This port instead of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.bind = SocketAddr::new(self.host(), port).to_string();
        self
    }

    /// In a control group of its own.
    pub fn within(mut self, group: &Arc<Group>) -> Self {
        self.group = Some(Arc::clone(group));
        self
    }

    /// In a place of its own.
    pub fn at(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
        self.port(0)
    }

    /// On every address of its place.
    pub fn everywhere(mut self) -> Self {
        self.bind = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0).to_string();
        self
    }

    /// `relayctl join` of that primary, from a place of its own.
    pub fn relay_at(primary: &Node, place: &Place) -> Self {
        Self::new("join")
            .flag("--primary", &primary.url())
            .flag("--token", &primary.secret("join-token"))
            .at(place)
    }

    fn host(&self) -> IpAddr {
        let place = self.place.as_ref().map(|place| place.address);
        place.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The node's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The command as it will be run; the environment is empty but for PATH and what the plan has.
    fn command(&self) -> Command {
        let file = self.folder.path().join("relayctl.yaml");
        std::fs::write(&file, &self.yaml).unwrap();
        let mut command = relayctl();
        command.arg(self.command).arg("--bind").arg(&self.bind);
        command.arg("--data-dir").arg(self.data_dir());
        command.arg("--config").arg(&file).args(&self.flags);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let command = match &self.place {
            Some(place) => place.inside(&command),
            None => command,
        };
        let command = match &self.resolv_conf {
            Some(file) => with_resolv_conf(&command, file),
            None => command,
        };
        let command = match self.read_only {
            true => with_read_only(&command, &self.data_dir()),
            false => command,
        };
        match &self.group {
            Some(group) => group.inside(&command),
            None => command,
        }
    }

    /// The node's URL once it has said that it is ready, or that it waits to join.
    fn url_of(&self, stdout: &str) -> Option<String> {
        let (first, _) = stdout.split_once('\n')?;
        if first.starts_with("relayctl: waiting to join ") {
            let url = std::fs::read_to_string(self.data_dir().join("url"));
            return Some(url.expect("the node's own URL").trim_end().to_owned());
        }
        let words = first.strip_prefix("relayctl: ready role=");
        let words = words.unwrap_or_else(|| panic!("the first line is no ready line: {first}"));
        let (_, url) = words.split_once(" url=").expect("a url");
        Some(url.trim_end().to_owned())
    }

    /// Starts the process and does not wait for it.
    pub fn spawn(&self) -> Program {
        std::fs::create_dir_all(self.data_dir()).unwrap();
        Program::start_in(self.command(), self.folder.path())
    }

    /// Starts the node and waits until it says that it is ready, or that it waits to join.
    pub async fn start(self) -> Node {
        let mut program = self.spawn();
        let url = eventually("the node is ready", async || {
            let status = program.status();
            assert!(
                status.is_none(),
                "the node ended: {}\n{}",
                status.unwrap(),
                program.stderr()
            );
            self.url_of(&program.stdout())
        })
        .await;
        let port = url.rsplit(':').next().and_then(|text| text.parse().ok());
        Node {
            program,
            host: self.host(),
            port: port.unwrap_or_else(|| panic!("no port in {url}")),
            plan: self,
        }
    }
}

/// The same command where `/etc/resolv.conf` is `file`. It takes the place of the programs that lead to it.
fn with_resolv_conf(command: &Command, file: &Path) -> Command {
    let steps = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    with_mounts(command, steps, file)
}

/// The same command where `folder` cannot be written. Its socket of before is taken away first.
fn with_read_only(command: &Command, folder: &Path) -> Command {
    let steps = "rm -f \"$0/relayctl.sock\" && mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && \
                 exec \"$@\"";
    with_mounts(command, steps, folder)
}

/// `command` at the end of `steps`, a shell script whose `$0` is `path`.
fn with_mounts(command: &Command, steps: &str, path: &Path) -> Command {
    let mut unshare = tool("unshare", "util-linux");
    unshare.env_clear().envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    unshare.args(["--mount", "sh", "-c", steps]).arg(path);
    unshare.arg(command.get_program()).args(command.get_args());
    unshare
}

/// The setting that says how sends reach the kernel.
const BACKEND: &str = "RELAYCTL_FANOUT__BACKEND";

/// Names another build of the same sources to hold to the scenes: a release build, for figures.
const PROGRAM: &str = "RELAYCTL_TEST_PROGRAM";

/// The binary under test with an empty environment.
pub fn relayctl() -> Command {
    let built = || env!("CARGO_BIN_EXE_relayctl").into();
    let mut command = Command::new(std::env::var_os(PROGRAM).unwrap_or_else(built));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    // The same scenes by another backend: `tests/run` asks for both.
    if let Some(backend) = std::env::var_os(BACKEND) {
        command.env(BACKEND, backend);
    }
    command
}

impl Node {
    /// `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its data port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// A secret of the data directory, by its file name.
    pub fn secret(&self, name: &str) -> String {
        let file = self.data_dir().join(name);
        let text = std::fs::read_to_string(&file);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.trim_end().to_owned()
    }

    /// The password of sources.
    pub fn source_password(&self) -> String {
        self.secret("source-password")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.plan.data_dir()
    }

    /// What it was started from, with the port that it took.
    pub fn plan(&self) -> Plan {
        self.plan.clone().port(self.port)
    }

    /// The folder of the test's own files for this node.
    pub fn folder(&self) -> &Path {
        self.plan.folder.path()
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.program.id().cast_signed()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.program.stderr()
    }

    /// Its access lines so far: what it printed after the ready line.
    pub fn printed(&self) -> String {
        self.program.stdout()
    }

    /// Waits until it has printed that it is ready.
    pub async fn is_ready(&self) {
        eventually("it says that it is ready", async || {
            let printed = self.printed();
            let mut lines = printed.lines();
            lines
                .any(|line| line.starts_with("relayctl: ready role="))
                .then_some(())
        })
        .await;
    }

    /// True unless its process has ended.
    pub fn is_running(&mut self) -> bool {
        self.program.status().is_none()
    }

    /// Asks it to end, and waits.
    pub async fn terminate(&mut self) -> std::process::ExitStatus {
        self.program.signal(Signal::TERM);
        self.program.ended().await
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        self.program.ended().await
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Kill -9.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// The same node again: same port, same data directory, same settings.
    pub async fn again(mut self) -> Self {
        self.program.kill();
        let plan = self.plan.clone().port(self.port);
        drop(self);
        plan.start().await
    }

    /// What `relayctl` prints when it asks this node over its own socket.
    pub async fn asked(&self, words: &[&str]) -> String {
        String::from_utf8(output_of(self.words(words)).await).unwrap()
    }

    /// The same where it fails: its exit code and what it said.
    pub async fn asked_in_vain(&self, words: &[&str]) -> (i32, String) {
        let mut program = Program::start(self.words(words));
        let status = program.ended().await;
        let code = status.code().expect("an exit code");
        assert_ne!(code, 0, "{}", program.stdout());
        (code, program.stderr())
    }

    /// `relayctl` with these words, to ask this node over its own socket.
    pub fn words(&self, words: &[&str]) -> Command {
        let mut command = relayctl();
        command
            .args(words)
            .env("RELAYCTL_DATA_DIR", self.data_dir());
        command
    }

    /// A GET for an answer that ends.
    pub async fn get(&self, path: &str) -> (Head, String) {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        Peer::connect_to(self.address()).await.ask(request).await
    }

    /// A number of `/metrics`: the sum of the series of `name` whose labels hold `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let (head, text) = self.get("/metrics").await;
        assert_eq!(head.status, 200, "/metrics: {text}");
        let series = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let ours = rest.starts_with('{') || rest.starts_with(' ');
            let (own, value) = rest.rsplit_once(' ')?;
            (ours && own.contains(labels)).then(|| value.parse::<f64>().unwrap())
        });
        series.sum()
    }

    /// Waits until so many requests were refused for `reason`.
    pub async fn refused(&self, reason: &str, times: f64) {
        let labels = format!("reason=\"{reason}\"");
        eventually(&format!("{times} refused as {reason}"), async || {
            let count = self.metric("relayctl_refusals_total", &labels).await;
            (count >= times).then_some(())
        })
        .await;
    }
}
