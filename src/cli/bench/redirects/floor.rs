//! The bare loop of answers: hears a handful, sends each the same bytes, and rests before the next round.
//!
//! Ours with all the work left out: it reads nothing of a request but its end, decides nothing and remembers nothing.
//! Only for the bench.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::app::limits::prepare_descriptors;
use crate::cli::bench::process::{Cores, Process, end_with_stdin, pin};
use crate::cli::bench::server::{PATIENCE, Server};
use crate::cli::{Outcome, print};
use crate::edge::send;
use crate::wire::response::parse_response;

/// As long as ours lies down in a storm (`edge::front::rest`).
const REST: Duration = Duration::from_millis(4);

/// Longest request.
const MAX_REQUEST: usize = 4 * 1024;

const KNOCK: Token = Token(usize::MAX);

/// Starts a loop that answers as `ours` does.
///
/// # Errors
/// Where ours gives no answer or the process does not start.
pub(super) fn start(ours: &[u8], path: &str, cores: Cores) -> anyhow::Result<Server> {
    pin(cores.server)?;
    let process = Process::this_program("the bare loop", &["bench-part", "answers"], &[]);
    pin(cores.load)?;
    let mut process = process?;
    process.tell(&serde_json::to_string(ours)?)?;
    Ok(Server {
        name: "floor",
        listen: vec![process.line()?.trim().parse()?],
        path: path.into(),
        places: Vec::new(),
        pids: vec![process.pid()],
        certificate: None,
        processes: vec![process],
        _folder: None,
    })
}

/// What `server` answers to a request for `path` on a connection that is kept.
///
/// # Errors
/// Where it gives no answer.
pub(super) fn answer_of(server: SocketAddr, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = StdStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: relayctl-bench\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    let mut buffer = [0; MAX_REQUEST];
    while !is_whole(&answer) {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "no whole answer to a request for {path}");
        answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    Ok(answer)
}

fn is_whole(answer: &[u8]) -> bool {
    let Ok(Some((head, used))) = parse_response(answer) else {
        return false;
    };
    let length = head.headers.get("content-length").map(str::parse);
    matches!(length, Some(Ok(length)) if answer.len() >= used.saturating_add(length))
}

/// Runs until standard input ends.
pub(in crate::cli::bench) fn run() -> Outcome {
    prepare_descriptors();
    let first = std::io::stdin().lines().next();
    let answer = serde_json::from_str(&first.context("no answer on standard input")??)?;
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    print::text(&format!("{}\n", listener.local_addr()?))?;
    end_with_stdin();
    let poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, KNOCK, Interest::READABLE)?;
    let mut answers = Answers {
        poll,
        listener,
        answer,
        open: Slab::new(),
        asked: Vec::new(),
    };
    let mut events = Events::with_capacity(1024);
    loop {
        answers.round(&mut events)?;
    }
}

struct Answers {
    poll: Poll,
    listener: TcpListener,
    answer: Vec<u8>,
    open: Slab<TcpStream>,
    /// Who asked in this round, and whether it was for the last time.
    asked: Vec<(usize, bool)>,
}

impl Answers {
    fn round(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &*events {
            match event.token() {
                KNOCK => self.accept()?,
                Token(key) => self.hear(key),
            }
        }
        let heard = !self.asked.is_empty();
        for (key, last) in std::mem::take(&mut self.asked) {
            self.send(key, last);
        }
        if heard {
            std::thread::sleep(REST);
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    let place = self.open.vacant_entry();
                    let key = place.key();
                    let token = Token(key);
                    self.poll
                        .registry()
                        .register(&mut stream, token, Interest::READABLE)?;
                    place.insert(stream);
                    self.hear(key);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn hear(&mut self, key: usize) {
        let mut request = [0; MAX_REQUEST];
        let Some(stream) = self.open.get_mut(key) else {
            return;
        };
        match stream.read(&mut request) {
            Ok(count) if count > 0 => {
                let request = request.get(..count).unwrap_or_default();
                let last = request.ends_with(b"Connection: close\r\n\r\n");
                self.asked.push((key, last));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => drop(self.open.try_remove(key)),
        }
    }

    fn send(&mut self, key: usize, last: bool) {
        let stream = self.open.get_mut(key);
        let sent = stream.map(|stream| send(stream, &self.answer, last));
        if last || !matches!(sent, Some(Ok(_))) {
            self.open.try_remove(key);
        }
    }
}
