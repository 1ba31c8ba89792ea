//! A process that a test started: its output in files, and ended by its own id.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::eventually;

/// How long a process may take over SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(8);

/// Lines of a log that a failed test shows.
const TAIL: usize = 60;

/// See the module.
pub struct Program {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
    _folder: Option<TempDir>,
}

/// Another person's program, found in PATH and where Debian keeps daemons; `package` is named where it is missing.
pub fn tool(program: &str, package: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/games");
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    let Some(file) = found else {
        panic!("`{program}` is not installed: install Debian's package `{package}`")
    };
    let mut command = Command::new(file);
    command.env("PATH", path);
    command
}

/// Runs a tool to its end; its standard output. A failure shows its standard error.
pub async fn output_of(command: Command) -> Vec<u8> {
    let mut program = Program::start(command);
    let status = program.ended().await;
    assert!(
        status.success(),
        "{}: {status}\n{}",
        program.name,
        program.stderr()
    );
    fs::read(&program.stdout).unwrap()
}

impl Program {
    /// Starts `command` with its output in a folder of its own.
    pub fn start(command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Self::start_in(command, folder.path());
        program._folder = Some(folder);
        program
    }

    /// The same with a file as its standard input.
    pub fn start_reading(command: Command, input: File) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Self::start_over(command, folder.path(), input.into());
        program._folder = Some(folder);
        program
    }

    /// Starts `command` with its output in files `stdout` and `stderr` of `folder`, which outlives it.
    pub fn start_in(command: Command, folder: &Path) -> Self {
        Self::start_over(command, folder, Stdio::null())
    }

    fn start_over(mut command: Command, folder: &Path, input: Stdio) -> Self {
        let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
        let name = Path::new(command.get_program()).file_name().unwrap();
        let name = name.to_string_lossy().into_owned();
        let child = command
            .stdin(input)
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("`{name}` does not start: {error}"));
        Self {
            child,
            name,
            stdout,
            stderr,
            _folder: None,
        }
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it did.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("`{}` ends", self.name);
        eventually(&what, async || self.status()).await
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kill -9, and gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn tail(&self) -> String {
        let text = format!("{}\n--- stderr\n{}", self.stdout(), self.stderr());
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::TERM);
            let begin = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) {
                if begin.elapsed() > GRACE {
                    self.kill();
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        if std::thread::panicking() {
            let mut out = std::io::stderr().lock();
            let _ = writeln!(
                out,
                "--- {} ({})\n{}",
                self.name,
                self.child.id(),
                self.tail()
            );
        }
    }
}
