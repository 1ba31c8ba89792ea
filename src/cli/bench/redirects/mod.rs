//! `relayctl bench --redirects`: what an answer costs that sends a listener to a relay.
//!
//! The work is real: relays that joined, a reservation, a token and a pick record for each answer, another agent
//! each time, and another loopback address for each connection. HAProxy's `http-request redirect`, which does none
//! of it, is asked by the same driver in the same run, and so is a bare loop that only answers. `driver` asks, `arrivals`
//! says when.

mod arrivals;
pub(super) mod driver;
pub(super) mod floor;
mod haproxy;
mod report;

use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::{BenchForm, Plan, RedirectFlags, Rival};
use super::clock::{pause, until};
use super::http;
use super::process::{Cores, Process};
use super::server::{MOUNT, PATIENCE, Server};
use super::source::Source;
use driver::{Order, Setup, Tally};

/// Before what is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// One way of asking at one server.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Redirects in the window.
    pub redirects: u64,
    /// Other answers.
    pub other_answers: u64,
    /// Connections that failed.
    pub errors: u64,
    /// Connections that were to be kept and that the server closed with its answer.
    pub not_kept: u64,
    /// Requests that were due and not sent.
    pub late: u64,
    /// Different relays that they led to.
    pub places: u64,
    /// Length of the window.
    pub seconds: f64,
    /// Processor time of the server, less what it takes while nobody asks.
    pub cpu_seconds: Option<f64>,
    /// What it takes while nobody asks, in the same time.
    pub idle_cpu_seconds: Option<f64>,
    /// Processor time of one answer, in microseconds.
    pub cpu_micros: Option<f64>,
    /// One core's answers a second by that.
    pub answers_per_core_second: Option<f64>,
    /// From asking to the answer, in milliseconds.
    pub wait_p50_ms: Option<f64>,
    /// The same.
    pub wait_p99_ms: Option<f64>,
}

/// One server's runs in both ways.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    pub name: &'static str,
    pub kept: Vec<Figures>,
    pub single: Vec<Figures>,
}

/// Measures, and gives the report's text.
///
/// # Errors
/// Where a server does not start or ends.
pub(super) fn run(
    plan: &Plan,
    flags: &RedirectFlags,
    against: &[Rival],
    form: BenchForm,
    command: &str,
) -> anyhow::Result<String> {
    let cores = Cores::of_this_machine();
    super::process::pin(cores.load)?;
    let mut servers = vec![Measured::default(); 1 + against.len()];
    for round in 1..=plan.repeat {
        let mut answer = Vec::new();
        for (place, measured) in servers.iter_mut().enumerate() {
            let rival = place.checked_sub(1).and_then(|place| against.get(place));
            let (mut server, source) = match rival {
                None => ours(plan, cores)?,
                Some(Rival::Floor) => (floor::start(&answer, MOUNT, cores)?, None),
                Some(Rival::Haproxy) => (haproxy::start(cores)?, None),
                Some(Rival::Icecast) => anyhow::bail!("icecast2 redirects nobody"),
            };
            measured.name = server.name;
            eprintln!(
                "relayctl bench: {round} of {}, redirects of {}",
                plan.repeat, server.name
            );
            measured
                .kept
                .push(window(plan, flags, &mut server, flags.connections)?);
            measured.single.push(window(plan, flags, &mut server, 0)?);
            if let (None, Some(address)) = (rival, server.listen.first())
                && against.contains(&Rival::Floor)
            {
                // The bare loop says what ours said.
                answer = floor::answer_of(*address, &server.path)?;
            }
            drop(source);
            drop(server);
        }
    }
    Ok(report::text(form, command, &servers))
}

/// A primary that serves nobody itself, and the relays that it sends everybody to.
fn ours(plan: &Plan, cores: Cores) -> anyhow::Result<(Server, Option<Source>)> {
    let mut server = Server::head(plan, cores, "never")?;
    let source = Source::start(&server.places, plan.kbit, &plan.audio, false)?;
    server.wait_for_head()?;
    let relays = Cores {
        server: cores.load,
        load: cores.load,
    };
    // Only the primary's figures count, and only it is asked.
    let (pids, listen) = (server.pids.clone(), server.listen.clone());
    server.grow(plan, relays)?;
    server.pids = pids;
    server.listen = listen;
    Ok((server, Some(source)))
}

fn window(
    plan: &Plan,
    flags: &RedirectFlags,
    server: &mut Server,
    kept: u32,
) -> anyhow::Result<Figures> {
    let address = *server
        .listen
        .first()
        .ok_or_else(|| anyhow::anyhow!("no server"))?;
    until("no redirect comes", PATIENCE, || {
        Ok(http::begins(address, &server.path)
            .ok()
            .filter(|status| *status == 302))
    })?;
    let idle = cpu_of(server, || pause(plan.time))?;
    let mut driver = Process::this_program("the driver", &["bench-part", "redirects"], &[])?;
    let setup = Setup {
        server: address,
        path: server.path.clone(),
        per_second: flags.rate,
        kept,
    };
    driver.tell(&serde_json::to_string(&setup)?)?;
    pause(WARM_UP)?;
    driver.tell(&serde_json::to_string(&Order::Reset)?)?;
    let begin = Instant::now();
    let busy = cpu_of(server, || pause(plan.time))?;
    let seconds = begin.elapsed().as_secs_f64();
    driver.tell(&serde_json::to_string(&Order::Report)?)?;
    let tally: Tally = serde_json::from_str(&driver.line()?)?;
    server.still_runs()?;
    Ok(figures(&tally, seconds, busy, idle))
}

/// Processor time of `server` while `what` happens.
fn cpu_of(
    server: &Server,
    what: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Option<f64>> {
    let before = server.cpu_seconds();
    what()?;
    Ok(server
        .cpu_seconds()
        .zip(before)
        .map(|(after, before)| after - before))
}

#[allow(clippy::cast_precision_loss)]
fn figures(tally: &Tally, seconds: f64, busy: Option<f64>, idle: Option<f64>) -> Figures {
    let all: u64 = tally.statuses.values().sum();
    let redirects = tally.statuses.get(&302).copied().unwrap_or(0);
    let cpu = busy.zip(idle).map(|(busy, idle)| busy - idle);
    let each = cpu
        .filter(|cpu| *cpu > 0.0 && all > 0)
        .map(|cpu| cpu * 1e6 / all as f64);
    let millis = |share| tally.wait.quantile(share).map(|micros| micros as f64 / 1e3);
    Figures {
        redirects,
        other_answers: all - redirects,
        errors: tally.errors,
        not_kept: tally.not_kept,
        late: tally.late,
        places: tally.places.len() as u64,
        seconds,
        cpu_seconds: cpu,
        idle_cpu_seconds: idle,
        cpu_micros: each,
        answers_per_core_second: each.map(|each| 1e6 / each),
        wait_p50_ms: millis(0.5),
        wait_p99_ms: millis(0.99),
    }
}
