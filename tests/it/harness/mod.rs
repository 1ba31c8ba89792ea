//! What every scene is made of: real nodes, raw peers, sources whose bytes are known, other people's programs.
//!
//! Must never: sleep, take a fixed port, reach beyond loopback, or end a process that it did not start.
//! Everything waits for a condition with a deadline ten times what is expected, and says how long it took.

pub mod cluster;
pub mod node;
pub mod peer;
pub mod program;
pub mod source;
pub mod tone;

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

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

/// A port that is free now, and so is the next one.
pub fn two_free_ports() -> u16 {
    loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let next = port.checked_add(1);
        if next.is_some_and(|next| TcpListener::bind((Ipv4Addr::LOCALHOST, next)).is_ok()) {
            return port;
        }
    }
}

/// Where `needle` stands in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    hay.windows(needle.len()).position(|part| part == needle)
}
