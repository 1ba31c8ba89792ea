//! One run: a server, its source, its listeners, and the figures of the time in between.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::Plan;
use super::clock::{pause, until};
use super::load::orders::{Order, Tally};
use super::loads::Loads;
use super::process::Cores;
use super::server::{PATIENCE, Sent, Server};
use super::source::Source;
use super::trouble;

/// Between the last one's arrival and the window, so that the load of the joins is over.
const SETTLE: Duration = Duration::from_secs(3);

/// How fast those come who are there before the others.
const ONTO_RATE: f64 = 500.0;

/// What a run found. `None` is what this server does not say, or nobody could measure.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Listeners that heard audio to the end of the window.
    pub listeners: u64,
    /// Those of them whose every byte was checked.
    pub checked: u64,
    /// Had no byte of audio by the end of the window, though they had asked.
    pub waiting: u64,
    /// Wanted to listen and could not.
    pub failed: u64,
    /// Closed by the server.
    pub lost: u64,
    /// Length of the window.
    pub seconds: f64,
    /// Bytes that reached listeners in it.
    pub bytes: u64,
    /// Of what the source sent, how much reached them: 1 is all. `None` for a source that is not the bench's.
    pub share: Option<f64>,
    /// Processor time of the server.
    pub cpu_seconds: Option<f64>,
    /// Of one core.
    pub cpu_percent: Option<f64>,
    /// Processor time for a listener's second, in microseconds.
    pub cpu_micros_per_listener_second: Option<f64>,
    /// Processor time for 10^9 bytes.
    pub cpu_seconds_per_gigabyte: Option<f64>,
    /// Threads of the server that send by io_uring.
    pub io_uring: Option<f64>,
    /// Mean size of a send.
    pub bytes_per_send: Option<f64>,
    /// Anonymous memory of the server for each listener, beside its rings.
    pub memory_per_listener: Option<f64>,
    /// Connect to first byte, in milliseconds.
    pub first_byte_p50_ms: Option<f64>,
    /// The same.
    pub first_byte_p99_ms: Option<f64>,
    /// Source's send to listener's read, in milliseconds.
    pub delay_p50_ms: Option<f64>,
    /// The same.
    pub delay_p99_ms: Option<f64>,
    /// From the start of a relay to the first byte of audio through it, the slowest.
    pub join_to_first_byte_ms: Option<f64>,
    /// Listeners that never read.
    pub never_read: Option<u64>,
    /// Kernel memory of one of their sockets at the server's end, in bytes.
    pub socket_memory_p50: Option<f64>,
    /// The largest.
    pub socket_memory_max: Option<f64>,
    /// Listeners that stopped reading.
    pub stopped: Option<u64>,
    /// Of these, how many the server still held after two minutes.
    pub stopped_not_closed: Option<f64>,
    /// Until the server had closed the last of them.
    pub stopped_closed_after_s: Option<f64>,
    /// The others' delay in that time.
    pub delay_p99_beside_stopped_ms: Option<f64>,
    /// The server's memory at its highest in that time, less that before, in bytes.
    pub memory_growth_while_stopped: Option<f64>,
    /// The same two seconds after the last was closed.
    pub memory_growth_after_stopped: Option<f64>,
    /// Times that a listener had nothing for more than two seconds.
    pub stalls: u64,
    /// Times that a listener's bytes did not follow on.
    pub gaps: u64,
    /// Bytes that were not the source's.
    pub corrupt_bytes: u64,
}

/// What stands at a window's edges.
struct Edge {
    at: Instant,
    cpu: Option<f64>,
    sent: Option<Sent>,
}

/// Its memory less the audio that it keeps: a ring fills up while listeners come, and is the same for one of them
/// as for all. A server that does not say what it keeps is not given anything.
fn beside_rings(server: &Server) -> Option<f64> {
    let memory = server.memory()? as f64;
    Some(memory - server.metric("relayctl_ring_bytes").unwrap_or(0.0))
}

/// Measures `server`.
///
/// # Errors
/// Where it cannot be reached, or one of the processes ends.
pub(super) fn run(
    plan: &Plan,
    server: &mut Server,
    cores: Cores,
    descriptors: u64,
) -> anyhow::Result<Figures> {
    let source = match server.places.as_slice() {
        [] => None,
        places => Some(Source::start(
            places,
            plan.kbit,
            &plan.audio,
            plan.metadata,
        )?),
    };
    server.wait_for_mount()?;
    let joined = server.grow(plan, cores)?;
    let mut loads = Loads::start(plan, server, descriptors)?;
    warm_up(plan, server, &mut loads)?;
    let empty = beside_rings(server);
    let mut arrived = arrive(plan, &mut loads)?;
    pause(SETTLE)?;
    let full = beside_rings(server);

    loads.churn(plan.churn)?;
    loads.tell(&Order::Reset)?;
    let begin = edge(server);
    pause(plan.time)?;
    let end = edge(server);
    let heard = loads.report()?;
    server.still_runs()?;
    arrived.first_byte.merge(&heard.first_byte);
    let mut figures = figures(plan, &begin, &end, &arrived, &heard);
    figures.io_uring = server.metric_with("relayctl_fanout_backend", "io_uring");
    figures.join_to_first_byte_ms = joined.iter().max().map(|time| time.as_secs_f64() * 1e3);
    if let (Some(empty), Some(full)) = (empty, full) {
        figures.memory_per_listener = ratio(full - empty, heard.playing as f64);
    }
    if plan.never_read > 0 {
        trouble::never_read(plan, server, &mut loads, &mut figures)?;
    }
    if plan.stop_reading > 0 {
        trouble::stop_reading(plan, server, &mut loads, &mut figures)?;
    }
    drop(loads);
    drop(source);
    Ok(figures)
}

/// Everybody comes; gives what those did who came last.
fn arrive(plan: &Plan, loads: &mut Loads) -> anyhow::Result<Tally> {
    let time = |count: u32, rate: f64| Duration::from_secs_f64(f64::from(count) / rate) * 2;
    if plan.onto > 0 {
        loads.join(plan.onto, ONTO_RATE, false)?;
        loads.wait_for(plan.onto, time(plan.onto, ONTO_RATE))?;
        pause(SETTLE)?;
    }
    loads.tell(&Order::Reset)?;
    loads.join(plan.listeners, plan.join_rate, false)?;
    let all = plan.onto + plan.listeners;
    loads.wait_for(all, time(plan.listeners, plan.join_rate))
}

/// A tenth of the listeners comes and goes, so that what the server keeps for its first ones is no listener's.
fn warm_up(plan: &Plan, server: &Server, loads: &mut Loads) -> anyhow::Result<()> {
    let count = plan.listeners / 10;
    if count == 0 {
        return Ok(());
    }
    loads.join(count, plan.join_rate, false)?;
    loads.wait_for(
        count,
        Duration::from_secs_f64(f64::from(count) / plan.join_rate),
    )?;
    loads.tell(&Order::Leave)?;
    // At a server that is not the bench's own there may be others.
    if server.processes.is_empty() || server.metric("relayctl_listeners").is_none() {
        return pause(Duration::from_secs(1));
    }
    until(
        "the first listeners went, and the server keeps them",
        PATIENCE,
        || {
            Ok(server
                .metric("relayctl_listeners")
                .filter(|count| *count == 0.0))
        },
    )?;
    Ok(())
}

fn edge(server: &Server) -> Edge {
    let sent = server.sent();
    Edge {
        at: Instant::now(),
        cpu: server.cpu_seconds(),
        sent,
    }
}

fn figures(plan: &Plan, begin: &Edge, end: &Edge, arrived: &Tally, heard: &Tally) -> Figures {
    let seconds = end.at.duration_since(begin.at).as_secs_f64();
    let cpu = end.cpu.zip(begin.cpu).map(|(end, begin)| end - begin);
    let each_second = |cpu: f64| ratio(cpu * 1e6, heard.playing as f64 * seconds);
    let sent = begin
        .sent
        .zip(end.sent)
        .and_then(|(begin, end)| ratio(end.bytes - begin.bytes, end.sends - begin.sends));
    let expected = heard.playing as f64 * seconds * plan.audio.bytes_a_second();
    let millis = |micros: Option<u64>| micros.map(|micros| micros as f64 / 1e3);
    Figures {
        listeners: heard.playing,
        checked: heard.checked,
        waiting: heard.waiting,
        failed: arrived.failed + heard.failed,
        lost: arrived.lost + heard.lost,
        seconds,
        bytes: heard.bytes,
        share: ratio(heard.bytes as f64, expected).filter(|_| heard.checked > 0),
        cpu_seconds: cpu,
        cpu_percent: cpu.and_then(|cpu| ratio(cpu * 100.0, seconds)),
        cpu_micros_per_listener_second: cpu.and_then(each_second),
        cpu_seconds_per_gigabyte: cpu.and_then(|cpu| ratio(cpu * 1e9, heard.bytes as f64)),
        bytes_per_send: sent,
        first_byte_p50_ms: millis(arrived.first_byte.quantile(0.5)),
        first_byte_p99_ms: millis(arrived.first_byte.quantile(0.99)),
        delay_p50_ms: millis(heard.delay.quantile(0.5)),
        delay_p99_ms: millis(heard.delay.quantile(0.99)),
        stalls: arrived.stalls + heard.stalls,
        gaps: arrived.gaps + heard.gaps,
        corrupt_bytes: arrived.corrupt + heard.corrupt,
        ..Figures::default()
    }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}
