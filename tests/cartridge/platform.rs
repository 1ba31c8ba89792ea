//! The broker: it makes gears, runs the connection hooks, tells the balancer, and takes gears away.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::gear::{Done, Gear, random};
use crate::harness::eventually;

/// An application that scales; its first gear is the head.
pub struct Application {
    pub gears: Vec<Gear>,
    pub manifest: Value,
    node: TempDir,
    uuid: String,
}

/// The repository's own cartridge.
pub fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cartridge")
}

/// A YAML file.
pub fn yaml(file: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

impl Application {
    /// No gear yet: the node's library has the cartridge with the program of this build.
    pub fn new() -> Self {
        let node = tempfile::tempdir().unwrap();
        let library = node.path().join("library");
        copy_all(&source(), &library);
        let program = library.join("usr/bin/relayctl");
        symlink(env!("CARGO_BIN_EXE_relayctl"), program).unwrap();
        Self {
            gears: Vec::new(),
            manifest: yaml(&source().join("metadata/manifest.yml")),
            uuid: identifier(0),
            node,
        }
    }

    /// `rhc app-create`: the head gear, started; what the platform printed.
    pub async fn create(&mut self) -> String {
        let uuid = self.uuid.clone();
        self.add(&uuid).await;
        let head = self.head();
        head.control("start").await.fine();
        let said = head.script("bin/post_install", &["--version", "0.1"]).await;
        let said = said.fine();
        self.connect().await;
        said
    }

    /// A gear that is configured and not started.
    pub async fn add(&mut self, uuid: &str) -> &Gear {
        let app = [
            ("OPENSHIFT_APP_UUID", self.uuid.as_str()),
            ("OPENSHIFT_APP_NAME", "radio"),
            ("OPENSHIFT_APP_DNS", "radio-test.example"),
        ];
        let mut gear = Gear::new(self.node.path(), uuid, &app);
        let library = self.node.path().join("library");
        gear.configure(&library, &self.manifest).await;
        self.gears.push(gear);
        self.gears.last().unwrap()
    }

    /// Scale up by one: configured, connected, then activated from the head.
    pub async fn scale_up(&mut self) -> &Gear {
        let uuid = self.next_identifier();
        self.add(&uuid).await;
        self.connect().await;
        let gear = self.gears.last().unwrap();
        gear.control("start").await.fine();
        gear
    }

    /// What the next gear will be called.
    pub fn next_identifier(&self) -> String {
        identifier(self.gears.len())
    }

    /// Scale down by one: the newest gear's teardown; it is gone where that worked.
    pub async fn scale_down(&mut self) -> Done {
        let done = self.gears.last().unwrap().script("bin/teardown", &[]).await;
        if done.code == 0 {
            self.gears.pop();
            self.connect().await;
        }
        done
    }

    /// The first gear.
    pub fn head(&self) -> &Gear {
        &self.gears[0]
    }

    /// Runs the publishing hook on every gear, and hands all of what they said to every gear's subscriber.
    pub async fn connect(&self) {
        let mut said = Vec::new();
        for gear in &self.gears {
            let hook = gear.cartridge().join("hooks/publish-relayctl-cluster");
            let line = format!("{} {} test {}", hook.display(), gear.uuid, gear.uuid);
            let out = gear.shell(&line).await.fine();
            said.push(format!("'{}'='{}'", gear.uuid, out.trim_end()));
        }
        let all = shell_escape(&said.join(" "));
        for gear in &self.gears {
            let hook = gear.cartridge().join("hooks/set-relayctl-cluster");
            let line = format!("{} {} test {} {all}", hook.display(), gear.uuid, gear.uuid);
            gear.shell(&line).await.fine();
        }
    }

    /// Waits until the head counts so many members as ready.
    pub async fn members(&self, wanted: usize) {
        eventually(&format!("{wanted} members are ready"), async || {
            let nodes = self.head().nodes().await;
            let ready = nodes
                .iter()
                .filter(|node| node["role"] == "relay" && node["state"] == "ready");
            (ready.count() == wanted).then_some(())
        })
        .await;
    }
}

/// As the platform makes them: the time first, so that a later one is greater.
fn identifier(number: usize) -> String {
    let tail: String = random::<8>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{:08x}{tail}", 0x5430_0000 + number)
}

/// As Ruby's Shellwords does it.
fn shell_escape(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:+/@".contains(c);
    let escaped = text.chars().map(|c| match plain(c) {
        true => c.to_string(),
        false => format!("\\{c}"),
    });
    escaped.collect()
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_all(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
