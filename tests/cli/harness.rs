//! Running the binary in an environment of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Ten times what is expected on a machine that does other things too.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a command ended with.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The binary with nothing of this process' environment, at home in `home`.
pub fn command(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relayctl"));
    command
        .args(words)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("RELAYCTL_DATA_DIR", home.join("data"))
        .stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(home: &Path, variables: &[(&str, &str)], words: &[&str]) -> Ended {
    let mut command = command(home, words);
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A process that is ended by its own number at the latest when dropped.
pub struct Running {
    pub child: Child,
    pub lines: BufReader<ChildStdout>,
    pub home: TempDir,
}

impl Running {
    /// Starts `words` in a home of its own.
    pub fn start(home: TempDir, variables: &[(&str, &str)], words: &[&str]) -> Self {
        let mut child = command(home.path(), words)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines, home }
    }

    /// A primary on a free port; gives its URL too.
    pub fn primary(home: TempDir, variables: &[(&str, &str)]) -> (Self, String) {
        let words = ["primary", "--bind=127.0.0.1:0", "--name=head"];
        let mut node = Self::start(home, variables, &words);
        let line = node.line_with("relayctl: ready");
        let url = line.rsplit_once("url=").unwrap().1.trim().to_owned();
        (node, url)
    }

    /// Reads on to the line that holds `text`.
    pub fn line_with(&mut self, text: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let count = self.lines.read_line(&mut line).unwrap();
            assert!(count > 0, "the output ended before `{text}`");
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; gives the exit code.
    pub fn code(&mut self) -> i32 {
        let status = until("the end of a process", || self.child.try_wait().unwrap());
        status.code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again until there is an answer; says how long it took.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            println!("{what}: {:.2} s", begin.elapsed().as_secs_f64());
            return answer;
        }
        assert!(
            begin.elapsed() < DEADLINE,
            "{what}: not within {DEADLINE:?}"
        );
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Head and at least `enough` bytes of the body behind `url`; redirects are followed.
pub fn get(url: &str, enough: usize) -> (String, Vec<u8>) {
    let mut url = url.to_owned();
    for _ in 0..3 {
        let (authority, path) = url
            .strip_prefix("http://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let mut stream = TcpStream::connect(authority).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(
            stream,
            "GET /{path} HTTP/1.0\r\nHost: {authority}\r\nUser-Agent: test\r\n\r\n"
        )
        .unwrap();
        let (head, body) = read(&mut stream, enough);
        let location = head
            .lines()
            .find_map(|line| line.strip_prefix("Location: "));
        match location {
            Some(location) => url = location.trim().to_owned(),
            None => return (head, body),
        }
    }
    panic!("{url}: too many redirects")
}

fn read(stream: &mut TcpStream, enough: usize) -> (String, Vec<u8>) {
    let mut all = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let end = all.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end
            && all.len() >= end + 4 + enough
        {
            let body = all.split_off(end + 4);
            return (String::from_utf8(all).unwrap(), body);
        }
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            let end = end.unwrap_or_else(|| panic!("no head in {} bytes", all.len()));
            let body = all.split_off(end + 4);
            return (String::from_utf8(all).unwrap(), body);
        }
        all.extend_from_slice(&buffer[..count]);
    }
}
