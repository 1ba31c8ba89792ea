//! A gear: a home, an address of its own, public ports, and the cartridge in it, run as the node's agent runs it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as Probe};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::peer::get;
use crate::harness::program::{Program, output_of, tool};

/// The platform's name of the cartridge's directory.
const DIRECTORY: &str = "relayctl";

/// What any action may take.
const ACTION: Duration = Duration::from_secs(120);

/// See the module.
pub struct Gear {
    /// The platform's identifier.
    pub uuid: String,
    /// The address that is this gear's alone.
    pub ip: Ipv4Addr,
    /// Public port of the data port, on 127.0.0.1.
    pub port: u16,
    /// Public port of the source port.
    pub sources: u16,
    home: PathBuf,
    system: BTreeMap<String, String>,
    proxies: Vec<JoinHandle<()>>,
}

/// What a script did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Its output, where it must have worked.
    #[track_caller]
    pub fn fine(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }
}

impl Gear {
    /// A home with the platform's variables, and nothing in it yet.
    pub fn new(node: &Path, uuid: &str, app: &[(&str, &str)]) -> Self {
        let home = node.join(uuid);
        for folder in [
            "app-root/data",
            "app-root/logs",
            "app-root/runtime/repo",
            ".env/user_vars",
            ".tmp",
        ] {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        let text = |path: &str| format!("{}/{path}", home.display());
        let mut system: BTreeMap<String, String> = [
            ("HOME", text("")),
            ("OPENSHIFT_HOMEDIR", text("")),
            ("OPENSHIFT_DATA_DIR", text("app-root/data/")),
            ("OPENSHIFT_LOG_DIR", text("app-root/logs/")),
            ("OPENSHIFT_REPO_DIR", text("app-root/runtime/repo/")),
            ("OPENSHIFT_TMP_DIR", text(".tmp/")),
            ("OPENSHIFT_GEAR_UUID", uuid.to_owned()),
            ("OPENSHIFT_GEAR_NAME", uuid.to_owned()),
            // No name of this machine leads to a gear: the address of the node stands for it.
            ("OPENSHIFT_GEAR_DNS", "127.0.0.1".to_owned()),
            ("OPENSHIFT_CARTRIDGE_SDK_BASH", "/nowhere".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        system.extend(
            app.iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        );
        Self {
            uuid: uuid.to_owned(),
            ip: free_address(),
            port: 0,
            sources: 0,
            home,
            system,
            proxies: Vec::new(),
        }
    }

    /// The cartridge's directory in the gear.
    pub fn cartridge(&self) -> PathBuf {
        self.home.join(DIRECTORY)
    }

    /// The node's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.home.join("app-root/data/relayctl")
    }

    /// What the node wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("app-root/logs/relayctl.log")).unwrap_or_default()
    }

    /// The gear's repository, as a push leaves it.
    pub fn repository(&self) -> PathBuf {
        self.home.join("app-root/runtime/repo")
    }

    /// `rhc env set`.
    pub fn set(&self, name: &str, value: &str) {
        fs::write(self.home.join(".env/user_vars").join(name), value).unwrap();
    }

    /// The variables of every script: the platform's, the gear's, the cartridge's, then the person's.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let mut all = self.system.clone();
        for folder in [
            self.home.join(".env"),
            self.cartridge().join("env"),
            self.home.join(".env/user_vars"),
        ] {
            all.extend(files_of(&folder));
        }
        let element = all
            .get("OPENSHIFT_SCS_PATH_ELEMENT")
            .cloned()
            .unwrap_or_default();
        all.insert("PATH".into(), format!("/usr/bin:/bin:{element}"));
        all
    }

    /// One of them.
    #[track_caller]
    pub fn variable(&self, name: &str) -> String {
        let value = self.variables().remove(name);
        value.unwrap_or_else(|| panic!("the gear has no {name}"))
    }

    /// Overlay, endpoints, setup, templates, install: what the node does until the gear may start.
    pub async fn configure(&mut self, library: &Path, manifest: &Value) {
        copy(library, &self.cartridge());
        symlink(library.join("usr"), self.cartridge().join("usr")).unwrap();
        let env = self.cartridge().join("env");
        let put =
            |folder: &Path, name: &str, value: &str| fs::write(folder.join(name), value).unwrap();
        put(
            &env,
            "OPENSHIFT_SCS_DIR",
            &format!("{}/", self.cartridge().display()),
        );
        put(&env, "OPENSHIFT_SCS_IDENT", "relayctl:relayctl:0.1:0.1.0");
        let own = self.home.join(".env");
        for endpoint in manifest["Endpoints"].as_array().unwrap() {
            let name = |key: &str| format!("OPENSHIFT_SCS_{}", endpoint[key].as_str().unwrap());
            put(&own, &name("Private-IP-Name"), &self.ip.to_string());
            put(
                &own,
                &name("Private-Port-Name"),
                &endpoint["Private-Port"].to_string(),
            );
        }
        self.render(&env).await;
        self.script("bin/setup", &["--version", "0.1"]).await.fine();
        self.script("bin/install", &["--version", "0.1"])
            .await
            .fine();
        for endpoint in manifest["Endpoints"].as_array().unwrap() {
            let private = u16::try_from(endpoint["Private-Port"].as_u64().unwrap()).unwrap();
            let public = self.publish(private).await;
            let name = endpoint["Public-Port-Name"].as_str().unwrap();
            put(&own, &format!("OPENSHIFT_SCS_{name}"), &public.to_string());
            match name {
                "PROXY_PORT" => self.port = public,
                "SOURCE_PROXY_PORT" => self.sources = public,
                other => panic!("an endpoint that no test knows: {other}"),
            }
        }
    }

    /// Every template of a folder, by the real ERB, in the gear's variables alone.
    async fn render(&self, folder: &Path) {
        let mut seen = 0;
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "erb") {
                continue;
            }
            let mut erb = tool("erb", "ruby");
            erb.env_clear().envs(self.variables()).arg(&path);
            fs::write(path.with_extension(""), output_of(erb).await).unwrap();
            fs::remove_file(&path).unwrap();
            seen += 1;
        }
        assert!(seen > 3, "only {seen} templates");
    }

    /// The node's port proxy: raw TCP from a public port to one of the gear.
    async fn publish(&mut self, private: u16) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = SocketAddr::from((self.ip, private));
        self.proxies.push(tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(mut gear) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut gear).await;
                    }
                });
            }
        }));
        port
    }

    /// A script of the cartridge in the gear's home and variables.
    pub async fn script(&self, script: &str, arguments: &[&str]) -> Done {
        let mut command = Command::new(self.cartridge().join(script));
        command.args(arguments);
        self.run(command).await
    }

    /// `bin/control ACTION`, as the node runs it.
    pub async fn control(&self, action: &str) -> Done {
        let line = format!(
            "set -e; {} {action}",
            self.cartridge().join("bin/control").display()
        );
        self.shell(&line).await
    }

    /// A line by a shell.
    pub async fn shell(&self, line: &str) -> Done {
        let mut command = Command::new("/bin/bash");
        command.args(["-c", line]);
        self.run(command).await
    }

    async fn run(&self, mut command: Command) -> Done {
        command
            .env_clear()
            .envs(self.variables())
            .current_dir(&self.home)
            .stdin(Stdio::null());
        let running = tokio::process::Command::from(command).output();
        let output = tokio::time::timeout(ACTION, running).await;
        let output = output.expect("the script ends").unwrap();
        Done {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A program in the gear's variables and home, which runs on.
    pub fn spawn(&self, mut command: Command) -> Program {
        command
            .env_clear()
            .envs(self.variables())
            .current_dir(&self.home);
        Program::start(command)
    }

    /// The node's process by the cartridge's own file.
    pub fn pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.cartridge().join("run/relayctl.pid")).ok()?;
        text.split(' ').next()?.parse().ok()
    }

    /// Status and body of a page of the data port, from outside.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let (head, body) = get(self.port, path).await;
        (head.status, body)
    }

    /// A word of `relayctl` on this gear, as in `rhc ssh`.
    pub async fn relayctl(&self, words: &str) -> String {
        self.shell(&format!("relayctl {words}")).await.fine()
    }

    /// The nodes in this gear's table.
    pub async fn nodes(&self) -> Vec<Value> {
        let text = self.relayctl("get nodes -o json").await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["nodes"].as_array().unwrap().clone()
    }

    /// Ends what still runs, by its own number.
    pub fn end(&mut self) {
        self.proxies.drain(..).for_each(|proxy| proxy.abort());
        let Some(pid) = self.pid().and_then(Pid::from_raw) else {
            return;
        };
        let _ = kill_process(pid, Signal::KILL);
        for _ in 0..500 {
            if test_kill_process(pid).is_err() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Gear {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(25)..].join("\n");
            eprintln!("--- gear {} at {}\n{tail}", self.uuid, self.ip);
        }
        self.end();
    }
}

/// Plain files of a folder as variables; templates are none.
fn files_of(folder: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let plain = entries.flatten().filter(|entry| entry.path().is_file());
    let read = plain.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let value = fs::read_to_string(entry.path()).ok()?;
        (!name.contains('.')).then(|| (name, value.trim_end_matches('\n').to_owned()))
    });
    read.collect()
}

/// The library's copy without `usr`, which a gear only links to.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "usr" {
            continue;
        }
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// An address of this machine whose ports 8080 and 8081 are free.
fn free_address() -> Ipv4Addr {
    loop {
        let [a, b, c] = random();
        let address = Ipv4Addr::new(127, 64 + a % 64, b, 1 + c % 250);
        let free = |port| Probe::bind((address, port)).is_ok();
        if free(8080) && free(8081) {
            return address;
        }
    }
}

/// So many random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}
