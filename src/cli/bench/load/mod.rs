//! A load process: listeners in one readiness loop, ordered about by the bench through standard input.
//!
//! Must never: outlive its bench (the end of standard input ends it) or touch an address that it was not told.
//! `orders` is what is said, `client` one listener (`link` its connection, `request` its
//! head, `titles` what is not audio), `crowd` all of them.

mod client;
mod crowd;
mod link;
pub(super) mod orders;
mod request;
mod titles;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use anyhow::Context as _;
use mio::Waker;

use crate::app::limits::prepare_descriptors;
use crate::cli::{Exit, Outcome};
use crowd::Crowd;
use orders::{Order, Setup};

/// Orders that may wait.
const INBOX: usize = 64;

/// Runs until standard input ends.
pub(super) fn run() -> Outcome {
    prepare_descriptors();
    let first = std::io::stdin().lines().next();
    let first = first.context("no setup on standard input")??;
    let setup: Setup = serde_json::from_str(&first)?;
    let (mut crowd, waker) = Crowd::new(setup)?;
    let orders = listen(waker);
    let mut answers = std::io::stdout().lock();
    loop {
        crowd.turn()?;
        loop {
            match orders.try_recv() {
                Ok(Order::Report) => {
                    serde_json::to_writer(&mut answers, &crowd.report())?;
                    answers.write_all(b"\n")?;
                    answers.flush()?;
                }
                Ok(order) => crowd.obey(&order),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(Exit::Fine),
            }
        }
    }
}

/// Reads orders in a thread of its own; the channel ends with the input.
fn listen(waker: Waker) -> Receiver<Order> {
    let (sender, orders) = sync_channel(INBOX);
    let waker = Arc::new(waker);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(order) = order else { break };
            if sender.send(order).is_err() || waker.wake().is_err() {
                return;
            }
        }
        drop(sender);
        let _ = waker.wake();
    });
    orders
}
