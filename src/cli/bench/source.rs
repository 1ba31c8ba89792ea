//! The encoder of the bench: position-coded frames at real time, to one server or several.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::audio::{Audio, FRAME_MICROS};
use super::clock::now_micros;
use super::http;
use crate::base::secret::Secret;
use crate::wire::basic::Basic;

/// Sent ahead of real time once, so that the first listener finds a burst: ten seconds.
const AHEAD: u64 = 10_000_000 / FRAME_MICROS;

/// A server gets this long to take a piece.
const PATIENCE: Duration = Duration::from_secs(20);

/// With `--metadata` a title changes this often.
const TITLE_EVERY: Duration = Duration::from_secs(5);

/// Ends when dropped.
pub(super) struct Source {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Where a source plays.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The server.
    pub server: SocketAddr,
    /// The mount.
    pub path: String,
    /// Its password, for the user `source`.
    pub password: String,
}

impl Place {
    fn login(&self) -> String {
        Basic::new("source", Secret::new(self.password.clone())).encode()
    }

    fn connect(&self, kbit: u32) -> anyhow::Result<TcpStream> {
        let mut socket = TcpStream::connect_timeout(&self.server, PATIENCE)
            .with_context(|| format!("the source cannot connect to {}", self.server))?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        write!(
            socket,
            "SOURCE {} HTTP/1.0\r\nAuthorization: {}\r\nUser-Agent: relayctl-bench\r\n\
             Content-Type: audio/mpeg\r\nice-bitrate: {kbit}\r\nice-name: relayctl bench\r\n\
             ice-public: 0\r\n\r\n",
            self.path,
            self.login(),
        )?;
        Ok(socket)
    }

    fn title(&self, number: u64) -> anyhow::Result<()> {
        let path = format!(
            "/admin/metadata?mount={}&mode=updinfo&charset=UTF-8&song=The%20Bench%20-%20Number%20{number}",
            self.path
        );
        let login = format!("Authorization: {}\r\n", self.login());
        http::ask(self.server, "GET", &path, &login)?;
        Ok(())
    }
}

impl Source {
    /// Plays at `places` from now on, with titles if so wished.
    ///
    /// # Errors
    /// Where one cannot be reached.
    pub fn start(places: &[Place], kbit: u32, audio: &Audio, titles: bool) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let sockets = places.iter().map(|place| place.connect(kbit));
        let sockets: Vec<TcpStream> = sockets.collect::<Result<_, _>>()?;
        let (audio, told) = (audio.clone(), Arc::clone(&stop));
        let mut threads = vec![std::thread::spawn(move || {
            if let Err(error) = play(sockets, &audio, &told) {
                eprintln!("relayctl bench: the source was cut off: {error:#}");
            }
        })];
        if titles {
            let (places, told) = (places.to_vec(), Arc::clone(&stop));
            threads.push(std::thread::spawn(move || send_titles(&places, &told)));
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has said what was wrong.
            let _ = thread.join();
        }
    }
}

fn play(mut sockets: Vec<TcpStream>, audio: &Audio, stop: &AtomicBool) -> std::io::Result<()> {
    let mut piece = Vec::new();
    let mut number = 0;
    let begin = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let elapsed = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let due = AHEAD + elapsed / FRAME_MICROS;
        piece.clear();
        let now = now_micros();
        while number <= due {
            audio.encode(number, now, &mut piece);
            number += 1;
        }
        for socket in &mut sockets {
            socket.write_all(&piece)?;
        }
        let next = Duration::from_micros((number - AHEAD) * FRAME_MICROS);
        std::thread::sleep(next.saturating_sub(begin.elapsed()));
    }
    Ok(())
}

fn send_titles(places: &[Place], stop: &AtomicBool) {
    let mut number = 0;
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            next += TITLE_EVERY;
            number += 1;
            for place in places {
                // The mount may not be there yet; the next title comes soon.
                let _ = place.title(number);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
