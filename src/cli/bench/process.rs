//! Child processes: pinned to a core, ended with the bench however that ends, and their figures in `/proc`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::clock;
use crate::cli::{Exit, Outcome};

/// What a child inherits: nothing that would be a setting.
const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "TMPDIR", "TERM", "RUST_BACKTRACE"];

/// A child has this long to end when it is told to.
const GOODBYE: Duration = Duration::from_secs(10);

/// Which core does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cores {
    /// The server's; `None` where there is only one, or where it cannot be chosen.
    pub server: Option<usize>,
    /// Source and listeners.
    pub load: Option<usize>,
}

impl Cores {
    /// The first core that this process may use for the server, the last for the rest.
    pub fn of_this_machine() -> Self {
        let may = allowed();
        match (may.first(), may.last()) {
            (Some(first), Some(last)) if first != last => Self {
                server: Some(*first),
                load: Some(*last),
            },
            _ => Self {
                server: None,
                load: None,
            },
        }
    }
}

#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    Vec::new()
}

/// Moves the calling thread, and with it the children that it starts from now on.
#[cfg(target_os = "linux")]
pub(super) fn pin(core: Option<usize>) -> anyhow::Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let Some(core) = core else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot use core {core}"))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn pin(_core: Option<usize>) -> anyhow::Result<()> {
    Ok(())
}

/// A child that ends when this is dropped, or when the bench is gone.
pub(super) struct Process {
    name: String,
    child: Child,
    /// The process that does the work: the child itself, or the one that it keeps.
    pid: u32,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this program with other words.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn this_program(
        name: &str,
        words: &[&str],
        variables: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let inherited = INHERITED
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut command = Command::new(program);
        command
            .args(words)
            .env_clear()
            .envs(inherited)
            .envs(crate::cli::demo::bound_to_this_process())
            .envs(variables.iter().map(|(name, value)| (*name, value)));
        Self::start(name, command)
    }

    /// Starts another program behind a keeper, which ends it when the bench is gone.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn other_program(name: &str, program: &Path, words: &[&str]) -> anyhow::Result<Self> {
        let program = program.display().to_string();
        let mut all = vec!["bench-part", "keep", program.as_str()];
        all.extend(words);
        let mut process = Self::this_program(name, &all, &[])?;
        process.pid = process.line()?.trim().parse().context("no process id")?;
        Ok(process)
    }

    fn start(name: &str, mut command: Command) -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C on a terminal is for the bench; its children are told in their turn.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = child.stdout.take().ok_or_else(|| anyhow!("no output"))?;
        Ok(Self {
            name: name.to_owned(),
            pid: child.id(),
            input: child.stdin.take(),
            output: Some(BufReader::new(output)),
            child,
        })
    }

    /// The process that does the work.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("its input is closed")?;
        writeln!(input, "{line}").with_context(|| format!("{} has ended", self.name))
    }

    /// The next line of its standard output.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let output = self.output.as_mut().context("its output is closed")?;
        let count = output.read_line(&mut line)?;
        if count == 0 {
            bail!("{} ended at once; its reason stands above", self.name);
        }
        Ok(line)
    }

    /// Whatever else it says is of no interest, but must not meet a full pipe.
    pub fn forget_output(&mut self) {
        if let Some(mut output) = self.output.take() {
            std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        }
    }

    /// Fails where it has ended.
    ///
    /// # Errors
    /// With its status.
    pub fn still_runs(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended: {status}", self.name),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + GOODBYE;
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `relayctl bench-part keep PROGRAM WORDS`: starts it, prints its process id, and ends it when standard
/// input ends or a signal comes.
pub(super) fn keep(words: &[String]) -> Outcome {
    crate::cli::demo::end_with_parent();
    let (program, words) = words.split_first().context("no program was named")?;
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start `{program}`"))?;
    crate::cli::print::text(&format!("{}\n", child.id()))?;
    std::thread::spawn(|| {
        for line in std::io::stdin().lines() {
            if line.is_err() {
                break;
            }
        }
        clock::tell_to_end();
    });
    super::end_on_signals()?;
    loop {
        if child.try_wait()?.is_some() {
            return Ok(Exit::Failed);
        }
        if clock::pause(Duration::from_millis(200)).is_err() {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(Exit::Fine);
        }
    }
}

/// This process, a part of a bench, ends when nobody can tell it anything any more.
pub(super) fn end_with_stdin() {
    std::thread::spawn(|| {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
}

/// Seconds that all threads of a process were on a processor, to the nanosecond; `None` where the system does
/// not say.
pub(super) fn cpu_seconds(pid: u32) -> Option<f64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut nanos = 0_u64;
    for thread in threads.flatten() {
        // A thread may end meanwhile.
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let first = text.split_whitespace().next();
        nanos += first.and_then(|text| text.parse().ok()).unwrap_or(0);
    }
    (nanos > 0).then(|| Duration::from_nanos(nanos).as_secs_f64())
}

/// Anonymous memory of a process that is really there, in bytes.
pub(super) fn memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Another person's program, found in PATH and where Debian keeps daemons.
///
/// # Errors
/// Names the package where it is missing.
pub(super) fn installed(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:/usr/local/sbin:/usr/sbin:/sbin");
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .with_context(|| {
            format!("`{program}` is not installed: install Debian's package `{package}`, or leave out `--against`")
        })
}
