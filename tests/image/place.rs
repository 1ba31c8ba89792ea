//! A network of its own for a scene: its engine's bridges, rules and published ports are nobody else's.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::harness::program::tool;

/// A network namespace, until it is dropped.
struct Space(String);

impl Space {
    fn new() -> Self {
        static SPACES: AtomicU32 = AtomicU32::new(0);
        let number = SPACES.fetch_add(1, Ordering::Relaxed);
        let space = Self(format!("rd{:x}-{number}", std::process::id()));
        ip(&["netns", "add", &space.0]);
        ip(&["-n", &space.0, "link", "set", "lo", "up"]);
        space
    }

    /// Moves this thread there, and with it whatever it starts.
    fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let mut delete = tool("ip", "iproute2");
        let _ = delete.args(["netns", "del", &self.0]).status();
    }
}

fn ip(words: &[&str]) {
    let output = tool("ip", "iproute2").args(words).output().unwrap();
    assert!(
        output.status.success(),
        "`ip {}` (it needs root): {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Plays a scene in a network where nothing is but loopback: its sockets and its children are there.
pub fn alone(scene: impl AsyncFnOnce() + Send) {
    let space = Space::new();
    let played = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            space.enter();
            // Its threads are started from here, so they are there as well.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(scene());
        });
        thread.join()
    });
    if let Err(panic) = played {
        std::panic::resume_unwind(panic);
    }
}
