//! How a child is bound to this process, without a line of `unsafe`.
//!
//! The node starts its own program again, told by a variable; that copy asks the kernel to be ended with its parent,
//! goes to the folder of the configuration, and gives its place (and its process number) to the engine by exec. The
//! folder comes as standard input, already open: the engine may be a user who cannot walk the path to it. The order
//! matters: a change of user would clear what the kernel was asked for, so the copy is that user from its start.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal};

/// Holds the number of the process that the engine is not to outlive.
const PARENT: &str = "_RELAYCTL_ENGINE_PARENT";

/// Ends the process where it cannot become the engine; a shell's word for a command that does not start.
const NOT_STARTED: i32 = 126;

/// This program, so that it becomes `program` with `arguments`.
pub(super) fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(own_program());
    command
        .arg(program)
        .args(arguments)
        .env(PARENT, std::process::id().to_string());
    command
}

/// By the kernel's own link where there is one: it works for a user who cannot walk the path, and after an upgrade
/// has replaced the file.
fn own_program() -> std::path::PathBuf {
    let link = Path::new("/proc/self/exe");
    match link.exists() {
        true => link.to_owned(),
        false => std::env::current_exe().unwrap_or_else(|_| "relayctl".into()),
    }
}

/// Becomes the engine where this process was started for that, and never returns then. To be called before the
/// arguments are read and before any thread is started.
pub fn take_place() {
    let Ok(parent) = std::env::var(PARENT) else {
        return;
    };
    let mut words = std::env::args_os().skip(1);
    let program = words.next().unwrap_or_default();
    let failed = |what: &str, error: &dyn std::fmt::Display| -> ! {
        eprintln!("relayctl: {what} for `{}`: {error}", program.display());
        std::process::exit(NOT_STARTED)
    };
    if let Err(error) = rustix::process::fchdir(std::io::stdin()) {
        failed("no folder", &error);
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        failed("not bound to its node", &error);
    }
    // It may have gone before the line above was reached.
    let now = rustix::process::getppid().map(Pid::as_raw_nonzero);
    if now.map(|pid| pid.get().to_string()).as_deref() != Some(parent.as_str()) {
        std::process::exit(NOT_STARTED);
    }
    let mut command = Command::new(&program);
    command
        .args(words)
        .env_remove(PARENT)
        .stdin(std::process::Stdio::null());
    let error = command.exec();
    failed("no start", &error)
}
