//! A Docker engine of a scene's own, and what it is asked.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::program::{Program, tool};
use crate::harness::{eventually, within};

/// How long a container may take to be healthy: the image is asked each ten seconds.
const HEALTHY: Duration = Duration::from_secs(90);

/// See the module. Ended by its own process id, after every container in it.
pub struct Docker {
    program: Program,
    folder: TempDir,
}

impl Docker {
    /// Starts an engine and waits until it answers.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut engine = tool("dockerd", "docker.io");
        engine.args(["--data-root", &at("data"), "--exec-root", &at("exec")]);
        engine.args(["--pidfile", &at("pid"), "--log-level", "error"]);
        engine.args(["--host", &format!("unix://{}", at("sock"))]);
        let mut docker = Self {
            program: Program::start_in(engine, folder.path()),
            folder,
        };
        eventually("the Docker engine answers", async || {
            let ended = docker.program.status();
            assert!(ended.is_none(), "dockerd: {ended:?}");
            let output = docker.command(&["version"]).output().unwrap();
            output.status.success().then_some(())
        })
        .await;
        docker
    }

    /// Where it is asked.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("sock").display())
    }

    /// A folder that lives as long as the engine.
    pub fn folder(&self) -> PathBuf {
        let folder = self.folder.path().join("files");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// `docker` with these words, for this engine.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = tool("docker", "docker.io");
        command.env("DOCKER_HOST", self.host()).args(words);
        // Nothing of who runs the tests; and the builder that is in every engine.
        command.env("DOCKER_CONFIG", self.folder.path().join("config"));
        command.env("DOCKER_BUILDKIT", "0");
        command
    }

    /// What `docker` with these words printed.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        said_by(&mut self.command(words))
    }

    /// Starts a container: its id.
    #[track_caller]
    pub fn start_container(&self, words: &[&str]) -> String {
        self.run(&[&["run", "--detach"], words].concat())
    }

    /// A field of a container, by a template.
    #[track_caller]
    pub fn inspect(&self, container: &str, template: &str) -> String {
        self.run(&["inspect", "--format", template, container])
    }

    /// What a container wrote.
    pub fn logs(&self, container: &str) -> String {
        let output = self.command(&["logs", container]).output().unwrap();
        let [out, error] = [output.stdout, output.stderr].map(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            text.into_owned()
        });
        out + &error
    }

    /// A port of a container, in the network that it is on.
    #[track_caller]
    pub fn address(&self, container: &str, port: u16) -> SocketAddr {
        let all = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let text = self.inspect(container, all);
        let address = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<Ipv4Addr>().ok());
        let address =
            address.unwrap_or_else(|| panic!("no address: {text:?}\n{}", self.logs(container)));
        SocketAddr::from((address, port))
    }

    /// Waits until the container's own check calls it healthy.
    pub async fn healthy(&self, container: &str) {
        within(HEALTHY, &format!("{container} is healthy"), async || {
            let state = "{{.State.Status}} {{.State.Health.Status}}";
            let state = self.inspect(container, state);
            assert!(
                state.starts_with("running") && !state.ends_with("unhealthy"),
                "{state}: {}\n{}",
                self.inspect(container, "{{json .State.Health}}"),
                self.logs(container)
            );
            (state == "running healthy").then_some(())
        })
        .await;
    }

    /// An image out of a file of `docker save`.
    #[track_caller]
    pub fn load(&self, file: &Path) {
        self.run(&["load", "--quiet", "--input", file.to_str().unwrap()]);
    }

    /// An image out of an archive that `archive` writes.
    #[track_caller]
    pub fn import(&self, name: &str, mut archive: Command, changes: &[&str]) {
        let mut writing = archive.stdout(Stdio::piped()).spawn().unwrap();
        let mut import = self.command(&["import"]);
        for change in changes {
            import.args(["--change", change]);
        }
        import.args(["-", name]);
        import.stdin(writing.stdout.take().unwrap());
        said_by(&mut import);
        assert!(writing.wait().unwrap().success(), "{archive:?}");
    }
}

/// What a program printed, without the end of its last line; it must not fail.
#[track_caller]
pub fn said_by(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim_end().to_owned()
}

impl Drop for Docker {
    fn drop(&mut self) {
        // A container outlives its engine, so each of them goes first.
        let listed = self.command(&["ps", "--all", "--quiet"]).output();
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let mut remove = self.command(&["rm", "--force", "--volumes"]);
        remove.args(listed.split_whitespace());
        if !listed.is_empty() {
            let _ = remove.output();
        }
    }
}
