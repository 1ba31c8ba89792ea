//! The units, checked by systemd's own tools, and the program at the other end of its protocols.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::rendered::root;

/// A child that is ended by its own id, whatever happens.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id() as i32).unwrap(), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn relayctl(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relayctl"));
    command
        .args(["primary", "--bind", "127.0.0.1:0", "--data-dir"])
        .arg(folder)
        .env_clear()
        .stdout(Stdio::piped());
    command
}

/// The units, beside a program and a manual at the places that they name.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    let mut seen = 0;
    for entry in root().join("systemd").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let program = env!("CARGO_BIN_EXE_relayctl");
        let copy = folder.path().join(path.file_name().unwrap());
        std::fs::write(&copy, text.replace("/usr/bin/relayctl", program)).unwrap();
        verify.arg(copy);
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
    let output = verify.output().expect("Debian's package `systemd`");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// `docs/systemd.md` has the figures that systemd's own tool gives.
#[test]
fn the_services_are_hardened() {
    let mut table = "| service | exposure |\n|---|---|\n".to_owned();
    for role in ["primary", "relay"] {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=20"])
            .arg(root().join(format!("systemd/relayctl-{role}.service")))
            .output()
            .expect("Debian's package `systemd`");
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.trim().lines().last().unwrap_or("").to_owned();
        println!("{last}");
        assert!(
            output.status.success(),
            "{role}: more exposed than 2.0: {last}"
        );
        // `→ Overall exposure level for relayctl-relay.service: 1.4 OK`
        let (_, figure) = last.rsplit_once(": ").unwrap();
        let figure = figure.split(' ').next().unwrap();
        assert!(figure.parse::<f64>().is_ok(), "{last}");
        table.push_str(&format!("| `relayctl-{role}.service` | {figure} |\n"));
    }
    let page = root().parent().unwrap().join("docs/systemd.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- figures -->\n").unwrap();
    let (written, after) = rest.split_once("<!-- end of figures -->").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let new = format!("{before}<!-- figures -->\n{table}<!-- end of figures -->{after}");
        std::fs::write(&page, new).unwrap();
    } else {
        assert_eq!(
            written, table,
            "docs/systemd.md: UPDATE_DOCS=1 cargo test --test deploy systemd"
        );
    }
}

#[test]
fn it_tells_systemd_when_it_is_ready_alive_reloading_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let notify = UnixDatagram::bind(&socket).unwrap();
    notify
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut command = relayctl(&folder.path().join("data"));
    command.env("NOTIFY_SOCKET", &socket);
    command.env("WATCHDOG_USEC", "300000");
    let node = Running(command.spawn().unwrap());
    let until = |wanted: &str| {
        let mut seen = Vec::new();
        loop {
            let mut message = [0_u8; 512];
            let length = notify
                .recv(&mut message)
                .unwrap_or_else(|error| panic!("no {wanted}: {error}; {seen:?}"));
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if text.lines().any(|line| line == wanted) {
                return text;
            }
            seen.push(text);
        }
    };
    assert!(until("READY=1").contains("STATUS=primary, ready"));
    until("WATCHDOG=1");
    assert!(until("WATCHDOG=1").contains("STATUS=primary, 0 mounts, 0 listeners"));
    node.signal(Signal::HUP);
    assert!(until("RELOADING=1").contains("MONOTONIC_USEC="));
    until("READY=1");
    node.signal(Signal::TERM);
    until("STOPPING=1");
}

/// Two free ports that are held until systemd's program takes them.
fn ports() -> [u16; 2] {
    let held = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

#[test]
fn it_takes_the_sockets_that_systemd_holds() {
    let folder = tempfile::tempdir().unwrap();
    let [data, shoutcast] = ports();
    let mut activate = Command::new("systemd-socket-activate");
    for port in [data, shoutcast] {
        activate.arg("-l").arg(format!("127.0.0.1:{port}"));
    }
    activate
        .arg(env!("CARGO_BIN_EXE_relayctl"))
        .args(["primary", "--data-dir"])
        .arg(folder.path())
        .env("RELAYCTL_SHOUTCAST__PORT", shoutcast.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut node = Running(activate.spawn().expect("Debian's package `systemd`"));
    let mut said = BufReader::new(node.0.stderr.take().unwrap());
    let mut line = String::new();
    // It says so once for each socket, and starts the program at the first connection.
    for _ in 0..2 {
        said.read_line(&mut line).unwrap();
    }
    assert_eq!(line.matches("Listening on").count(), 2, "{line}");
    let mut asking = TcpStream::connect((Ipv4Addr::LOCALHOST, data)).unwrap();
    asking
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    asking.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    let mut ready = String::new();
    let mut out = BufReader::new(node.0.stdout.take().unwrap());
    out.read_line(&mut ready).unwrap();
    assert!(ready.contains(&format!(":{data}")), "{ready}");
    // A Shoutcast source of a wrong password is told so on the second one.
    let mut source = TcpStream::connect((Ipv4Addr::LOCALHOST, shoutcast)).unwrap();
    source
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    source.write_all(b"wrong\r\n").unwrap();
    let mut answer = String::new();
    source.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("invalid password"), "{answer}");
}
