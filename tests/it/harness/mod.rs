//! What every scene is made of: real nodes, raw peers, sources whose bytes are known, other people's programs.
//!
//! Must never: sleep, take a fixed port, reach beyond loopback and the
//! namespaces that it made, or end a process that it did not start.
//! Everything waits for a condition with a deadline ten times what is expected, and says how long it took.

pub mod audience;
pub mod cluster;
pub mod group;
pub mod hanging_disk;
pub mod icecast;
#[path = "../../../src/discovery/testing.rs"]
pub mod names;
pub mod net;
pub mod node;
pub mod own_paths;
pub mod peer;
pub mod program;
pub mod source;
pub mod station;
pub mod tls;
pub mod tone;
pub mod under_attack;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{MissedTickBehavior, interval};

/// How long anything may take before its test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until there is an answer; prints how long it took.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, async || ask().await).await
}

/// The same with a deadline of its own.
pub async fn within<T>(
    deadline: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begin = Instant::now();
    let mut turns = interval(Duration::from_millis(20));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Some(answer) = ask().await {
            println!("{what}: {:.2} s", begin.elapsed().as_secs_f64());
            return answer;
        }
        assert!(
            begin.elapsed() < deadline,
            "{what}: not within {deadline:?}"
        );
    }
}

/// Another address of this machine for each `n`, up to 60,000.
pub fn address(n: u16) -> IpAddr {
    let [high, low] = (n + 256).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 1, high, low))
}

/// A port that is free, and so is the next one. Both stay taken until the test's process ends, by sockets that
/// never listen: nobody else is given them, a connection there is refused, and a server that sets `SO_REUSEADDR`
/// (all of them do) may still listen.
pub fn two_free_ports() -> u16 {
    loop {
        let first = hold(0).unwrap();
        let port = first.local_addr().unwrap().as_socket().unwrap().port();
        let next = port.checked_add(1).and_then(|next| hold(next).ok());
        if let Some(next) = next {
            std::mem::forget((first, next));
            return port;
        }
    }
}

/// A socket on a port of 127.0.0.1 that was free. It may be shared from then on, but not with another `hold`.
fn hold(port: u16) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Where `needle` stands in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    hay.windows(needle.len()).position(|part| part == needle)
}
