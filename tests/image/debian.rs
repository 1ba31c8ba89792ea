//! A bare Debian of its own for a scene: made once by `debootstrap`, copied for each.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::artefact::root;
use crate::docker::{Docker, said_by};
use crate::harness::program::tool;

/// What the documents tell people to install beside the program, what the package depends on, and what starts its units.
const PACKAGES: &str = "adduser,ca-certificates,curl,ffmpeg,systemd";

/// A root file system, until it is dropped.
pub struct Debian(TempDir);

impl Debian {
    /// A copy. It comes over the network the first time: call it before a scene is `alone`.
    pub fn new() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let lock = File::create(folder.join("debian.lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let made = folder.join(format!("debian-{PACKAGES}"));
        if !made.is_dir() {
            let part = folder.join("debian-part");
            let _ = fs::remove_dir_all(&part);
            let begin = Instant::now();
            let mut make = tool("debootstrap", "debootstrap");
            make.args(["--variant=minbase", "--include", PACKAGES, "bookworm"]);
            said_by(make.arg(&part));
            fs::rename(&part, &made).unwrap();
            println!("debootstrap: {:.0} s", begin.elapsed().as_secs_f64());
        }
        let copy = tempfile::tempdir().unwrap();
        let mut copying = tool("cp", "coreutils");
        copying.args(["--archive", "--no-target-directory"]);
        said_by(copying.arg(made).arg(copy.path()));
        Self(copy)
    }

    /// A path in it, as this machine sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside.trim_start_matches('/'))
    }

    /// A command in it, as `user`, with nothing of this environment.
    pub fn command(&self, user: &str, words: &[&str]) -> Command {
        // Its `/proc` is there for this command alone, so that none is left when the folder goes.
        let mut command = tool("unshare", "util-linux");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8");
        let steps =
            "mount -t proc proc \"$0/proc\" && exec chroot --userspec=\"$1\" \"$0\" \"${@:2}\"";
        command.args(["--mount", "bash", "-c", steps]);
        command.arg(self.0.path()).arg(format!("{user}:{user}"));
        command.args(words);
        command
    }

    /// What a command of root's printed.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        said_by(&mut self.command("root", words))
    }
}

/// The binary that is in the image, as a file.
pub fn binary(docker: &Docker, image: &str) -> PathBuf {
    let binary = docker.folder().join("relayctl");
    let container = docker.run(&["create", image]);
    let from = format!("{container}:/relayctl");
    docker.run(&["cp", &from, binary.to_str().unwrap()]);
    binary
}

/// The package, made by `deploy/debian/build` of the binary that is in the image.
pub fn package(docker: &Docker, image: &str) -> PathBuf {
    let binary = binary(docker, image);
    let target = docker.folder().join("target");
    let mut build = Command::new(root().join("deploy/debian/build"));
    build.arg(&binary).env("CARGO_TARGET_DIR", &target);
    build.env("CARGO_NET_OFFLINE", "true");
    let said = said_by(&mut build);
    let mut made = fs::read_dir(target.join("debian"))
        .unwrap_or_else(|error| panic!("no package: {error}\n{said}"))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "deb"));
    made.next().expect("a package")
}
