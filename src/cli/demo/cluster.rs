//! The nodes of the demo: child processes on free loopback ports, with temporary data directories.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::future::{join_all, select_all};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::DEADLINE;
use crate::cli::print;
use crate::settings::secrets::{JOIN_FILE, SOURCE_FILE};

/// What a child inherits: nothing that would be a setting.
const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "TMPDIR", "TERM", "RUST_BACKTRACE"];

/// Holds the number of the process that a child is not to outlive.
const PARENT: &str = "_RELAYCTL_DEMO_PARENT";

/// A node has this long to say goodbye.
const GOODBYE: Duration = Duration::from_secs(10);

/// All nodes; the first is the primary.
pub(super) struct Cluster {
    program: PathBuf,
    folder: TempDir,
    nodes: Vec<Node>,
}

/// A node that is ready.
pub(super) struct Node {
    /// Its name in tables.
    pub name: String,
    /// Where it listens, without a path.
    pub url: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its process.
    pub pid: u32,
    child: Child,
    /// Set once it has ended.
    ended: Option<ExitStatus>,
}

impl Cluster {
    /// No node yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            program: std::env::current_exe().context("cannot find this program's own file")?,
            folder: tempfile::Builder::new()
                .prefix("relayctl-demo-")
                .tempdir()?,
            nodes: Vec::new(),
        })
    }

    /// The head.
    pub async fn start_primary(&mut self) -> anyhow::Result<()> {
        self.start("primary", vec!["primary".into()]).await
    }

    /// One that joins it as any relay would.
    pub async fn start_relay(&mut self, number: u8) -> anyhow::Result<()> {
        let primary = self.primary()?;
        let token = primary.data_dir.join(JOIN_FILE);
        let words = vec![
            "join".into(),
            format!("--primary={}", primary.url),
            format!("--token=@{}", token.display()),
        ];
        self.start(&format!("relay-{number}"), words).await
    }

    async fn start(&mut self, name: &str, words: Vec<String>) -> anyhow::Result<()> {
        let data_dir = self.folder.path().join(name);
        let inherited = INHERITED
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new(&self.program)
            .args(words)
            .args(["--bind=127.0.0.1:0", "--name", name, "--data-dir"])
            .arg(&data_dir)
            .env_clear()
            .envs(inherited)
            .env("RELAYCTL_LOG", "warn")
            .env("RELAYCTL_ACCESS_LOG__PATH", "off")
            .envs(bound_to_this_process())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C on a terminal is for us; the nodes are told in their turn.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = child.stdout.take().ok_or_else(|| anyhow!("no output"))?;
        let mut lines = BufReader::new(output).lines();
        let url = tokio::time::timeout(DEADLINE, ready(&mut lines))
            .await
            .with_context(|| format!("{name} is not ready after {DEADLINE:?}"))?
            .with_context(|| format!("{name} did not start"))?;
        // Whatever else it says is of no interest here, but it must not meet a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        self.nodes.push(Node {
            name: name.to_owned(),
            url,
            data_dir,
            pid: child.id().unwrap_or_default(),
            child,
            ended: None,
        });
        Ok(())
    }

    /// The head.
    pub fn primary(&self) -> anyhow::Result<&Node> {
        self.nodes.first().context("there is no primary yet")
    }

    /// The head first.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> + Clone {
        self.nodes.iter()
    }

    /// What the primary made at its start.
    pub fn source_password(&self) -> anyhow::Result<String> {
        one_line(&self.primary()?.data_dir.join(SOURCE_FILE))
    }

    /// Tells of each node that ends by itself; fails once the primary or the last relay has.
    pub async fn watch(&mut self) -> anyhow::Result<()> {
        loop {
            let waiting = self.nodes.iter_mut().filter(|node| node.ended.is_none());
            let waiting = waiting.map(|node| {
                Box::pin(async {
                    let status = node.child.wait().await;
                    node.ended = Some(status.unwrap_or_default());
                    format!(
                        "{} (process {}) ended: {}",
                        node.name,
                        node.pid,
                        node.ended.unwrap_or_default()
                    )
                })
            });
            let (said, _, _) = select_all(waiting).await;
            print::text(&format!("{said}\n")).map_err(|failure| failure.error)?;
            let primary_ended = self.primary()?.ended.is_some();
            if primary_ended {
                bail!("the primary ended, so the demo does");
            }
        }
    }

    /// Ends all nodes and waits for them: the relays first, so that the primary hears their goodbye.
    pub async fn end(&mut self) {
        let relays = self.nodes.split_off(self.nodes.len().min(1));
        join_all(relays.into_iter().map(Node::end)).await;
        join_all(self.nodes.drain(..).map(Node::end)).await;
    }
}

impl Node {
    async fn end(mut self) {
        // A process that was waited for has no number any more; that number may be another's by now.
        let number = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = number.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let gone = tokio::time::timeout(GOODBYE, self.child.wait()).await;
        if gone.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// The URL of the ready line, which comes first.
async fn ready(lines: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<String> {
    while let Some(line) = lines.next_line().await? {
        if !line.starts_with("relayctl: ready") {
            continue;
        }
        let url = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("url="));
        return Ok(url.context("its ready line names no URL")?.to_owned());
    }
    bail!("it ended at once; its reason stands above")
}

fn one_line(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(text.trim().to_owned())
}

/// The variable that binds a child to this process: see [`end_with_parent`].
pub(in crate::cli) fn bound_to_this_process() -> [(&'static str, String); 1] {
    [(PARENT, std::process::id().to_string())]
}

/// A node that a demo started ends with it, even where that was killed. Does nothing for other nodes.
pub(in crate::cli) fn end_with_parent() {
    let Some(parent) = std::env::var(PARENT).ok().and_then(|pid| pid.parse().ok()) else {
        return;
    };
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    // It may have gone before the line above was reached.
    let now = rustix::process::getppid().map(Pid::as_raw_nonzero);
    if now.map(std::num::NonZero::get) != Some(parent) {
        std::process::exit(1);
    }
}
