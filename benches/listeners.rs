//! What a listener waits for and what it costs, on loopback, by the real program:
//!
//! - from the start of `relayctl join` to the first audio byte through that relay,
//! - from a listener's connect to its first audio byte (p50, p99),
//! - memory of our process for each of 5,000 listeners that have had their burst.
//!
//! `cargo bench --bench listeners`; the number of listeners may follow: `-- 1000`. Prints figures, asserts
//! nothing: absolute times are those of the machine.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A node in a process of its own, ended by its id.
struct Node {
    child: Child,
    url: String,
    /// Kept open: the node goes on saying things.
    _output: BufReader<ChildStdout>,
}

impl Node {
    fn start(args: &[&str], data_dir: &Path) -> Outcome<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_relayctl"))
            .args(args)
            .args(["--bind", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .env("RELAYCTL_ACCESS_LOG__PATH", "off")
            .env("RELAYCTL_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
        output.read_line(&mut line)?;
        let url = line
            .split("url=")
            .nth(1)
            .ok_or("no ready line")?
            .trim()
            .to_owned();
        Ok(Self {
            child,
            url,
            _output: output,
        })
    }

    fn address(&self) -> Outcome<SocketAddr> {
        Ok(self.url.trim_start_matches("http://").parse()?)
    }

    /// Resident memory in bytes.
    fn memory(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .ok_or("no VmRSS")?;
        let kilobytes: u64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// 128 kbit/s MP3 in real time, from a thread that ends with the program.
fn play(address: SocketAddr, password: String) {
    std::thread::spawn(move || -> Result<(), std::io::Error> {
        use base64::Engine;
        let mut socket = TcpStream::connect(address)?;
        let login = base64::engine::general_purpose::STANDARD.encode(format!("source:{password}"));
        let head = format!(
            "SOURCE /live.mp3 HTTP/1.0\r\nAuthorization: Basic {login}\r\nContent-Type: audio/mpeg\r\nice-bitrate: 128\r\n\r\n"
        );
        socket.write_all(head.as_bytes())?;
        let mut frame = vec![0x55_u8; 384];
        frame.splice(..4, [0xFF, 0xFB, 0x94, 0xC4]);
        // Ten seconds at once, so that there is a burst; then a frame every 24 ms.
        for _ in 0..417 {
            socket.write_all(&frame)?;
        }
        let start = Instant::now();
        for number in 0.. {
            let due = start + Duration::from_millis(24) * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            socket.write_all(&frame)?;
        }
        Ok(())
    });
}

/// Connects from its own loopback address and waits for the first audio byte.
fn listen(server: SocketAddr, number: u32) -> Outcome<(TcpStream, Duration)> {
    let started = Instant::now();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number);
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&server.into())?;
    let mut socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.write_all(b"GET /live.mp3 HTTP/1.0\r\nUser-Agent: bench\r\n\r\n")?;
    let mut got = Vec::new();
    let mut chunk = [0_u8; 16 * 1024];
    loop {
        let count = socket.read(&mut chunk)?;
        if count == 0 {
            return Err("closed before the first audio byte".into());
        }
        got.extend_from_slice(chunk.get(..count).unwrap_or(&[]));
        let head = got.windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|end| got.len() > end + 4) {
            return Ok((socket, started.elapsed()));
        }
    }
}

fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

fn main() -> Outcome<()> {
    let wanted: u32 = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .next()
        .unwrap_or(5_000);
    let folder = tempfile::tempdir()?;
    let (first, second) = (folder.path().join("primary"), folder.path().join("relay"));
    let primary = Node::start(&["primary", "--serve", "always"], &first)?;
    let password = std::fs::read_to_string(first.join("source-password"))?;
    play(primary.address()?, password.trim().to_owned());
    while listen(primary.address()?, 0).is_err() {
        std::thread::yield_now();
    }

    let token = std::fs::read_to_string(first.join("join-token"))?;
    let started = Instant::now();
    let relay = Node::start(
        &["join", "--primary", &primary.url, "--token", token.trim()],
        &second,
    )?;
    while listen(relay.address()?, 0).is_err() {
        std::thread::yield_now();
    }
    println!(
        "join to first byte through the relay: {:?}",
        started.elapsed()
    );

    let before = relay.memory()?;
    let (mut sockets, mut waits) = (Vec::new(), Vec::new());
    for number in 0..wanted {
        let (socket, wait) = listen(relay.address()?, number)?;
        sockets.push(socket);
        waits.push(wait);
    }
    let after = relay.memory()?;
    waits.sort_unstable();
    println!(
        "connect to first byte, {wanted} one after the other: p50 {:?}, p99 {:?}",
        percentile(&waits, 0.5),
        percentile(&waits, 0.99)
    );
    let each = after.saturating_sub(before) / u64::from(wanted.max(1));
    println!("memory of the relay for each of {wanted} listeners: {each} bytes");
    Ok(())
}
