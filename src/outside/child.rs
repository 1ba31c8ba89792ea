//! The engine as a child of this node: started, watched, told of a new configuration, stopped; by its own process
//! number, never by a name.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child as Process, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::lines::{self, Last};
use super::liveness::{HANGS, Loudness, Repeats};
use super::ports::free_ports;
use super::process::{file_name, opens, shim_environment, stop};
use super::program::User;
use super::{Kind, Outside, Place, State, shim};
use crate::base::retry::Backoff;
use crate::base::secret::Secret;
use crate::telemetry::panics::guarded;

/// Shortest and longest wait before it is started again.
const PACE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Who lived this long begins with the shortest wait again.
const SETTLED: Duration = Duration::from_secs(30);

/// Longest time from its start until it takes connections.
const OPENS: Duration = Duration::from_secs(60);

/// Pause between two looks at whether it hangs.
const LOOK: Duration = Duration::from_secs(1);

/// What it inherits: nothing that would be a setting or a secret.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// What there is to start it from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rendered {
    /// The whole file.
    Ready(String),
    /// Not yet, for this reason.
    NotYet(String),
}

/// Makes its configuration for a port of 127.0.0.1; the error is a sentence.
pub type Render = Box<dyn Fn(u16) -> Result<Rendered, String> + Send + Sync>;

/// Passwords that no line may show, as they are now.
pub type Hidden = Arc<dyn Fn() -> Vec<Secret> + Send + Sync>;

/// See the module.
pub struct Child {
    /// What others see of it.
    pub outside: Arc<Outside>,
    /// Which program.
    pub kind: Kind,
    /// Its file.
    pub program: PathBuf,
    /// The folder of its configuration; it belongs to it.
    pub folder: PathBuf,
    /// Whom it becomes where this node is root.
    pub user: Box<dyn Fn() -> Option<User> + Send + Sync>,
    /// Makes its configuration.
    pub render: Render,
    /// Moves when that may have changed.
    pub changed: watch::Receiver<u64>,
    /// What its lines must not show.
    pub secrets: Hidden,
}

/// Why it does not run any more.
enum Left {
    Ended(String),
    Shutdown,
}

impl Child {
    /// Runs it until the shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(PACE.0, PACE.1);
        let mut repeats = Repeats::default();
        loop {
            let begun = Instant::now();
            let why = match self.life(&shutdown).await {
                Ok(Left::Shutdown) => return,
                Ok(Left::Ended(why)) => why,
                Err(why) => why,
            };
            if begun.elapsed() >= SETTLED {
                backoff.reset();
            }
            let wait = backoff.next_wait();
            self.outside.tell(|status| {
                status.state = State::Down;
                status.place = None;
                status.why.clone_from(&why);
            });
            self.log(repeats.judge(&why, Instant::now()), &why, wait);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            self.outside.restarts.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn log(&self, loudness: Loudness, why: &str, wait: Duration) {
        let engine = self.kind.program();
        match loudness {
            Loudness::New => tracing::error!(engine, ?wait, "the engine is down: {why}"),
            Loudness::Again(times) => {
                tracing::warn!(engine, ?wait, times, "the engine is still down: {why}");
            }
            Loudness::Quiet => tracing::debug!(engine, ?wait, why, "the engine is down"),
        }
    }

    /// From its start to its end. The error is a sentence.
    async fn life(&mut self, shutdown: &CancellationToken) -> Result<Left, String> {
        let port = free_ports(self.kind.ports(), rand::random());
        let port = port.map_err(|error| format!("no free port of 127.0.0.1: {error}"))?;
        let Some(text) = self.configuration(port, shutdown).await? else {
            return Ok(Left::Shutdown);
        };
        let last = Last::default();
        let mut process = self.start(&last)?;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw);
        tracing::info!(
            engine = self.kind.program(),
            pid = pid.map(Pid::as_raw_nonzero),
            port,
            "the engine was started"
        );
        self.outside.tell(|status| {
            status.state = State::Starting;
            status.why.clear();
        });
        let opened = tokio::select! {
            () = shutdown.cancelled() => {
                stop(&mut process, pid).await;
                return Ok(Left::Shutdown);
            }
            ended = process.wait() => Err(ended),
            opened = tokio::time::timeout(OPENS, opens(port)) => match opened {
                Ok(()) => Ok(()),
                Err(_) => {
                    let why = format!("took no connection within {OPENS:?} of its start");
                    return Ok(Left::Ended(self.killed(&mut process, &why).await));
                }
            },
        };
        if let Err(ended) = opened {
            return Ok(Left::Ended(self.ended(ended, &last, true)));
        }
        self.outside.answered();
        self.outside
            .tell(|status| status.place = Some(Place::loopback(port)));
        self.outside.look_soon();
        self.attend(&mut process, pid, port, text, &last, shutdown)
            .await
    }

    /// While it runs: a new configuration is told, its end is noticed.
    async fn attend(
        &mut self,
        process: &mut Process,
        pid: Option<Pid>,
        port: u16,
        mut text: String,
        last: &Last,
        shutdown: &CancellationToken,
    ) -> Result<Left, String> {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            // What changed while it started is told at once.
            if let Some(new) = self.renewed(port, &text) {
                self.tell_configuration(&new, pid);
                text = new;
            }
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.outside.tell(|status| {
                        status.state = State::Down;
                        status.place = None;
                    });
                    stop(process, pid).await;
                    return Ok(Left::Shutdown);
                }
                ended = process.wait() => return Ok(Left::Ended(self.ended(ended, last, false))),
                changed = self.changed.changed() => if changed.is_err() {
                    shutdown.cancelled().await;
                },
                _ = looks.tick() => if self.outside.hangs_after(|_, _| ()) {
                    let why = format!("answered nothing for {HANGS:?}");
                    return Ok(Left::Ended(self.killed(process, &why).await));
                }
            }
        }
    }

    /// The first configuration that there is, written; `None` at the shutdown.
    async fn configuration(
        &mut self,
        port: u16,
        shutdown: &CancellationToken,
    ) -> Result<Option<String>, String> {
        loop {
            self.changed.mark_unchanged();
            match (self.render)(port)? {
                Rendered::Ready(text) => {
                    self.write(&text)?;
                    return Ok(Some(text));
                }
                Rendered::NotYet(why) => self.outside.tell(|status| {
                    status.state = State::Starting;
                    status.why = why;
                }),
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                changed = self.changed.changed() => if changed.is_err() { return Ok(None) },
            }
        }
    }

    fn renewed(&self, port: u16, old: &str) -> Option<String> {
        match (self.render)(port) {
            Ok(Rendered::Ready(new)) => (new != old).then_some(new),
            Ok(Rendered::NotYet(_)) => None,
            Err(why) => {
                tracing::error!("the engine keeps its configuration: {why}");
                None
            }
        }
    }

    fn tell_configuration(&self, text: &str, pid: Option<Pid>) {
        if let Err(why) = self.write(text) {
            tracing::error!("the engine keeps its configuration: {why}");
            return;
        }
        // Icecast reads its file again on HUP; Shoutcast on USR1, and only turns its logs over on HUP.
        let signal = match self.kind {
            Kind::Icecast => Signal::HUP,
            Kind::Shoutcast => Signal::USR1,
        };
        let told = pid.map(|pid| kill_process(pid, signal));
        tracing::info!(
            engine = self.kind.program(),
            ?told,
            "the engine reads its new configuration"
        );
    }

    /// Where the file is.
    fn file(&self) -> PathBuf {
        self.folder.join(file_name(self.kind))
    }

    /// Whole or not at all, readable for the engine alone.
    fn write(&self, text: &str) -> Result<(), String> {
        let file = self.file();
        let wrong = |error: io::Error| format!("cannot write `{}`: {error}", file.display());
        self.outside.set_numbers(text);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(wrong)?;
        std::fs::set_permissions(&self.folder, std::fs::Permissions::from_mode(0o700))
            .map_err(wrong)?;
        let fresh = self.folder.join("new");
        let _ = std::fs::remove_file(&fresh);
        let mut out = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(wrong)?;
        io::Write::write_all(&mut out, text.as_bytes()).map_err(wrong)?;
        if let Some(user) = (self.user)() {
            let owns =
                |path: &Path| std::os::unix::fs::chown(path, Some(user.user), Some(user.group));
            owns(&self.folder)
                .and_then(|()| owns(&fresh))
                .map_err(wrong)?;
        }
        std::fs::rename(&fresh, &file).map_err(wrong)
    }

    fn start(&self, last: &Last) -> Result<Process, String> {
        let name = file_name(self.kind);
        let arguments: &[&str] = match self.kind {
            Kind::Icecast => &["-c", name],
            Kind::Shoutcast => &[name],
        };
        let folder = File::open(&self.folder)
            .map_err(|error| format!("cannot open `{}`: {error}", self.folder.display()))?;
        let mut command = Command::from(shim::command(&self.program, arguments));
        let parent = shim_environment(command.as_std());
        command
            .env_clear()
            .envs(
                INHERITED
                    .iter()
                    .filter_map(|name| Some((*name, std::env::var_os(name)?))),
            )
            .envs(parent)
            .stdin(Stdio::from(folder))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C on a terminal is for us; the engine is told in its turn.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(user) = (self.user)() {
            command.uid(user.user).gid(user.group);
        }
        let mut process = command
            .spawn()
            .map_err(|error| format!("`{}` does not start: {error}", self.program.display()))?;
        if let Some(out) = process.stdout.take() {
            let carrying = lines::carry(out, self.kind, Arc::clone(&self.secrets), last.clone());
            tokio::spawn(guarded("engine_log", carrying));
        }
        if let Some(out) = process.stderr.take() {
            let carrying = lines::carry(out, self.kind, Arc::clone(&self.secrets), last.clone());
            tokio::spawn(guarded("engine_log", carrying));
        }
        Ok(process)
    }

    /// Kills it by its own number, at once: what hangs, or was stopped, hears no TERM. The sentence about it.
    async fn killed(&self, process: &mut Process, why: &str) -> String {
        let program = self.kind.program();
        match process.kill().await {
            Ok(()) => format!("`{program}` {why}, and was killed"),
            Err(error) => format!("`{program}` {why}, and cannot be killed: {error}"),
        }
    }

    /// A sentence about its end: its own words, and where its configuration is.
    fn ended(&self, ended: io::Result<ExitStatus>, last: &Last, at_once: bool) -> String {
        let status = match ended {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let program = self.kind.program();
        let words = last.words();
        let file = self.file();
        match (at_once, words.is_empty()) {
            (true, false) => format!(
                "`{program}` did not start with `{}` ({status}): {words}",
                file.display()
            ),
            (true, true) => format!(
                "`{program}` did not start with `{}` ({status})",
                file.display()
            ),
            (false, _) => format!("`{program}` ended ({status})"),
        }
    }
}
