//! The rendered files in the programs that they are for: real `icecast2` and `haproxy` on loopback.
//!
//! A program that is missing fails its test and names the Debian package.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "it/harness/mod.rs"]
#[allow(dead_code)]
mod harness;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use relayctl::base::secret::Secret;
use relayctl::render::write::{Written, write_atomic};
use relayctl::render::{
    Balancer, Kind, Paths, RenderMount, RenderNode, Renderer, Role, RunAs, Scheme, Station,
    Upstream,
};
use tempfile::TempDir;

use harness::two_free_ports;

/// Ten times what is expected; the default of Icecast's retry, 120 s, is far beyond.
const DEADLINE: Duration = Duration::from_secs(70);

/// One that would break an unescaped file.
const PASSWORD: &str = r#"p&a<s>s"w'd"#;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A program with the folder that it writes to; ended by its own id when dropped.
struct Running {
    child: Child,
    folder: TempDir,
}

impl Running {
    fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(folder: TempDir, package: &str, program: &str, arguments: &[&str]) -> Running {
    let output = fs::File::create(folder.path().join("output")).unwrap();
    let child = command(program)
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap_or_else(|error| missing(package, program, &error));
    Running { child, folder }
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn missing<T>(package: &str, program: &str, error: &io::Error) -> T {
    panic!("`{program}` does not start ({error}): install Debian's package `{package}`")
}

/// Asks again until there is an answer; says how long it took.
fn until<T>(what: &str, running: &[&Running], mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            println!("{what}: {:.2} s", begin.elapsed().as_secs_f64());
            return answer;
        }
        if begin.elapsed() > DEADLINE {
            let outputs: Vec<String> = running.iter().map(|r| r.output()).collect();
            panic!(
                "{what}: not within {DEADLINE:?}\n{}",
                outputs.join("\n---\n")
            );
        }
        thread::park_timeout(Duration::from_millis(50));
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&SocketAddr::from((LOOPBACK, port)), Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// Sends `request` and reads at least `enough` bytes, or to the end.
fn ask(port: u16, request: &str, enough: usize) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut stream = connect(port)?;
    stream.write_all(request.as_bytes())?;
    let answer = read(&mut stream, enough)?;
    Ok((stream, answer))
}

fn read(stream: &mut TcpStream, enough: usize) -> io::Result<Vec<u8>> {
    let (mut answer, mut part) = (Vec::new(), [0_u8; 4096]);
    while answer.len() < enough {
        match stream.read(&mut part)? {
            0 => break,
            n => answer.extend_from_slice(&part[..n]),
        }
    }
    Ok(answer)
}

fn get(port: u16, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    let (_, answer) = ask(port, &request, usize::MAX).ok()?;
    (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
}

fn put(port: u16, path: &str, password: &str) -> (TcpStream, String) {
    let login = BASE64_STANDARD.encode(format!("source:{password}"));
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {login}\r\n\
         Content-Type: audio/mpeg\r\nExpect: 100-continue\r\n\r\n"
    );
    let (stream, answer) = ask(port, &request, 12).unwrap();
    (stream, String::from_utf8_lossy(&answer).into_owned())
}

/// Byte `n` of the test sound: a listener's run is checked wherever it begins.
fn sound(from: usize, length: usize) -> Vec<u8> {
    (from..from + length)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect()
}

fn station(folder: &TempDir, port: u16) -> Station {
    let root = rustix::process::getuid().is_root();
    Station {
        bind: LOOPBACK,
        port,
        paths: Paths {
            data: folder.path().to_owned(),
            logs: folder.path().to_owned(),
            ..Paths::default()
        },
        run_as: root.then(|| RunAs {
            user: "icecast2".into(),
            group: "icecast".into(),
        }),
        source_password: Secret::new(PASSWORD),
        admin_password: Secret::new("admin<&>"),
        relay_password: Secret::new("relay<&>'"),
        mounts: vec![RenderMount::at("/live.mp3")],
        ..Station::default()
    }
}

fn write_file(folder: &TempDir, kind: Kind, station: &Station) -> PathBuf {
    let text = Renderer::new(None).unwrap().render(kind, station).unwrap();
    let path = folder.path().join(kind.file_name());
    assert_eq!(write_atomic(&path, &text, 0o600).unwrap(), Written::Changed);
    path
}

/// A real `icecast2` from the rendered file of `change(station)`, once it answers.
fn icecast(port: u16, change: impl FnOnce(&mut Station)) -> Running {
    let folder = tempfile::tempdir().unwrap();
    // Icecast writes its logs after it has changed its user.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut station = station(&folder, port);
    change(&mut station);
    let file = write_file(&folder, Kind::Icecast, &station);
    let running = start(
        folder,
        "icecast2",
        "icecast2",
        &["-c", file.to_str().unwrap()],
    );
    let page = until("icecast2 answers", &[&running], || {
        get(port, "/status-json.xsl")
    });
    assert!(page.starts_with("HTTP/1.0 200 OK"), "{page}");
    assert!(page.contains(r#""icestats""#), "{page}");
    assert!(page.contains("Access-Control-Allow-Origin: *"), "{page}");
    running
}

#[test]
fn icecast_starts_and_takes_a_source_with_a_difficult_password() {
    let port = two_free_ports();
    let server = icecast(port, |station| {
        station.shoutcast_mount = Some("/stream".into());
        station.mounts.push(RenderMount {
            password: Secret::new(r#"own"&'<>"#),
            ..RenderMount::at("/own.mp3")
        });
    });
    let (_, refused) = put(port, "/live.mp3", "p&amp;a&lt;s&gt;s");
    assert!(refused.starts_with("HTTP/1.0 401 "), "{refused}");
    let (source, taken) = put(port, "/live.mp3", PASSWORD);
    assert!(
        taken.starts_with("HTTP/1.1 100 "),
        "{taken}\n{}",
        server.output()
    );
    drop(source);
    // A mount with a password of its own takes no other.
    let (_, refused) = put(port, "/own.mp3", PASSWORD);
    assert!(refused.starts_with("HTTP/1.0 401 "), "{refused}");
    let (_own, taken) = put(port, "/own.mp3", r#"own"&'<>"#);
    assert!(
        taken.starts_with("HTTP/1.1 100 "),
        "{taken}\n{}",
        server.output()
    );
    // Shoutcast v1, on the next port.
    let (_, answer) = ask(port + 1, &format!("{PASSWORD}\r\n"), 20).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&answer),
        "OK2\r\nicy-caps:11\r\n\r\n"
    );
}

#[test]
fn an_icecast_relay_finds_a_source_that_comes_after_it() {
    let (head, edge) = (two_free_ports(), two_free_ports());
    let primary = icecast(head, |_| {});
    let relay = icecast(edge, |station| {
        station.role = Role::Relay;
        station.upstream = Some(Upstream {
            scheme: Scheme::Http,
            host: "127.0.0.1".into(),
            port: head,
            on_demand: false,
        });
    });
    // Its first try has failed: only `master-update-interval` brings the next one in time.
    until("the relay meets no source", &[&primary, &relay], || {
        let log = fs::read_to_string(relay.folder.path().join("error.log")).ok()?;
        log.contains("Error from relay request").then_some(())
    });
    let (_, refused) = put(edge, "/live.mp3", PASSWORD);
    assert!(refused.starts_with("HTTP/1.0 401 "), "{refused}");
    let (mut source, answer) = put(head, "/live.mp3", PASSWORD);
    assert!(answer.starts_with("HTTP/1.1 100 "), "{answer}");
    let mut sent = 0;
    let heard = until("the relay plays", &[&primary, &relay], || {
        source.write_all(&sound(sent, 16_000)).unwrap();
        sent += 16_000;
        let (mut stream, head) = ask(edge, "GET /live.mp3 HTTP/1.0\r\n\r\n", 12).ok()?;
        if !head.starts_with(b"HTTP/1.0 200 ") {
            return None;
        }
        let mut answer = head;
        answer.extend(read(&mut stream, 4096).ok()?);
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        (answer.len() > end + 1000).then(|| answer.split_off(end))
    });
    let first = usize::from(heard[0]);
    assert_eq!(
        heard,
        sound(first, heard.len()),
        "the relayed bytes are no run"
    );
}

/// Answers health and says back what it got, until the test ends.
fn parrot(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut got = Vec::new();
                let mut part = [0_u8; 1024];
                while !got.ends_with(b"\r\n\r\n") && got.len() < 8192 {
                    match stream.read(&mut part) {
                        Ok(n) if n > 0 => got.extend_from_slice(&part[..n]),
                        _ => return,
                    }
                }
                let health = got.starts_with(b"GET /health ");
                let head = "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n";
                let body = if health { &b"ok"[..] } else { &got };
                let _ = stream.write_all(&[head.as_bytes(), body].concat());
            });
        }
    });
}

fn balanced(folder: &TempDir) -> Station {
    let node = |name: &str, role, port| RenderNode {
        name: name.into(),
        role,
        host: "127.0.0.1".into(),
        port,
        max_listeners: Some(100),
    };
    let front = two_free_ports();
    let source = two_free_ports();
    Station {
        shoutcast_mount: Some("/stream".into()),
        nodes: vec![
            node("head", Role::Primary, two_free_ports()),
            node("relay-1", Role::Relay, two_free_ports()),
            node("relay-2", Role::Relay, two_free_ports()),
        ],
        balancer: Balancer {
            bind: LOOPBACK,
            port: front,
            source_port: Some(source),
            stats_port: Some(two_free_ports()),
            // Who starts it here may be nobody who could change to another user.
            user: rustix::process::geteuid()
                .is_root()
                .then(|| "haproxy".into()),
            expose: vec!["metrics"],
        },
        ..station(folder, 8000)
    }
}

#[test]
fn haproxy_accepts_its_file_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Station::default();
    let mut both_families = balanced(&folder);
    both_families.balancer.bind = "::".parse().unwrap();
    both_families.nodes[1].host = "::1".into();
    let stations = [alone, both_families, balanced(&folder)];
    for station in &stations {
        let file = write_file(&folder, Kind::Haproxy, station);
        let checked = command("haproxy")
            .args(["-c", "-f", file.to_str().unwrap()])
            .output()
            .unwrap_or_else(|error| missing("haproxy", "haproxy", &error));
        let said = [checked.stdout, checked.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(checked.status.success(), "{said}");
        assert!(!said.contains("WARNING"), "{said}");
    }
}

#[test]
fn haproxy_carries_listeners_and_raw_sources() {
    let folder = tempfile::tempdir().unwrap();
    let mut station = balanced(&folder);
    for node in &mut station.nodes {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        node.port = listener.local_addr().unwrap().port();
        parrot(listener);
    }
    station.shoutcast_mount = None;
    let (front, source) = (station.balancer.port, station.balancer.source_port.unwrap());
    let file = write_file(&folder, Kind::Haproxy, &station);
    let running = start(
        folder,
        "haproxy",
        "haproxy",
        &["-db", "-f", file.to_str().unwrap()],
    );
    let answer = until("haproxy forwards", &[&running], || {
        get(front, "/live.mp3").filter(|answer| answer.contains(" 200 "))
    });
    let answer = answer.to_ascii_lowercase();
    assert!(answer.contains("x-forwarded-for: 127.0.0.1"), "{answer}");
    assert!(answer.contains("x-forwarded-proto: http"), "{answer}");
    let raw = "SOURCE /live.mp3 ICE/1.0\r\nAuthorization: Basic eA==\r\n\r\n";
    let echo = |port| {
        let (_, answer) = ask(port, raw, usize::MAX).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    // Verbatim on the source side; the HTTP side lets none of it through.
    assert!(echo(source).ends_with(raw), "{}", echo(source));
    assert!(!echo(front).contains("SOURCE"), "{}", echo(front));
}
