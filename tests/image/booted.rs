//! A bare Debian whose first process is systemd, in namespaces of its own but for the network, which is the scene's.

use std::fs;
use std::process::Command;

use crate::debian::Debian;
use crate::docker::said_by;
use crate::harness::eventually;
use crate::harness::program::{Program, tool};

/// See the module; halted when it is dropped.
pub struct Booted {
    _nspawn: Program,
    /// The first process, as this machine counts.
    first: u32,
    name: String,
}

impl Booted {
    /// Starts it, and waits until everything has come up that comes up with the machine.
    pub async fn start(debian: &Debian) -> Self {
        let name = format!("relayctl-{:x}", std::process::id());
        let mut nspawn = tool("systemd-nspawn", "systemd-container");
        nspawn.args(["--quiet", "--register=no", "--keep-unit", "--console=pipe"]);
        nspawn.args(["--machine", &name, "--boot", "--directory"]);
        nspawn.arg(debian.path("/"));
        let mut nspawn = Program::start(nspawn);
        let first = eventually("systemd is the first process", async || {
            let ended = nspawn.status();
            assert!(
                ended.is_none(),
                "{ended:?}\n{}{}",
                nspawn.stdout(),
                nspawn.stderr()
            );
            let parent = nspawn.id();
            let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
            let first = children.ok()?.split_whitespace().next()?.parse().ok()?;
            let name = fs::read_to_string(format!("/proc/{first}/comm")).ok()?;
            (name.trim_end() == "systemd").then_some(first)
        })
        .await;
        let booted = Self {
            _nspawn: nspawn,
            first,
            name,
        };
        eventually("the machine is up", async || {
            let (_, state) = booted.tried(&["systemctl", "is-system-running"]);
            // Something of Debian's own may fail in a container: nothing of ours is there yet.
            ["running", "degraded"]
                .contains(&state.trim_end())
                .then_some(())
        })
        .await;
        booted
    }

    /// A command of root's in it, with nothing of this environment.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut enter = tool("nsenter", "util-linux");
        enter
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8");
        enter.args(["--target", &self.first.to_string(), "--root", "--wd"]);
        enter.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
        enter.args(words);
        enter
    }

    /// What a command printed; it must not fail.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        said_by(&mut self.command(words))
    }

    /// Whether a command succeeded, and all that it said.
    pub fn tried(&self, words: &[&str]) -> (bool, String) {
        let output = self.command(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// What systemd says of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", name, unit])
    }

    /// The log of a unit.
    #[track_caller]
    pub fn journal(&self, unit: &str) -> String {
        self.run(&["journalctl", "--no-pager", "--output=cat", "--unit", unit])
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // Where `/run` is no file system of its own, nspawn leaves this.
        let left = format!("/run/systemd/nspawn/propagate/{}", self.name);
        let _ = fs::remove_dir(left);
    }
}
