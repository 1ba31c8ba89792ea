//! `relayctl bench`: what this machine carries, measured on real sockets by the real program.
//!
//! Must never: touch a server that is not this machine's without leave, leave a process or a file behind, or
//! take part in what it measures: server, source and listeners are processes of their own, the server on a core
//! of its own where there are two.
//!
//! `args` reads the words, `server`, `icecast` and `floor` are what is measured, `source` plays position-coded
//! `audio`, `loads` orders the processes of `load` about, `measure` is one run, `report` prints. `redirects` is the
//! other half: what it costs to send a listener to a relay.

pub(super) mod args;
mod audio;
mod clock;
mod floor;
mod histogram;
mod http;
mod icecast;
mod load;
mod loads;
mod measure;
mod process;
mod redirects;
mod report;
mod server;
mod source;
mod tls;
mod trouble;

use std::time::Duration;

use anyhow::{anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Failure, Outcome, print};
use crate::app::limits;
use args::{BenchFlags, BenchPart, Plan, Rival};
use process::Cores;
use report::Measured;
use server::Server;

/// `relayctl bench`.
pub(super) fn run(flags: &BenchFlags) -> Outcome {
    let descriptors = limits::prepare_descriptors();
    let usage = |error| Failure::new(Exit::Usage, anyhow!("{error:#}"));
    let plan = Plan::new(flags, descriptors).map_err(usage)?;
    if let Some(url) = &flags.url {
        // Refused before anything is started.
        Server::at(url, flags).map_err(usage)?;
    }
    end_on_signals()?;
    let flags = flags.clone();
    // In a thread of its own: it moves between cores, and its children end with it.
    let measured = std::thread::spawn(move || match flags.redirect.redirects {
        true => redirects::run(
            &plan,
            &flags.redirect,
            &flags.against,
            flags.output,
            &command(),
        ),
        false => measure(&plan, &flags, descriptors)
            .map(|servers| report::text(flags.output, &command(), &servers)),
    });
    let text = measured
        .join()
        .map_err(|_| anyhow!("the bench panicked"))??;
    print::text(&text)
}

/// `relayctl bench-part`: what the bench starts of itself.
pub(super) fn part(part: &BenchPart) -> Outcome {
    super::demo::end_with_parent();
    match part {
        BenchPart::Load => load::run(),
        BenchPart::Floor => floor::run(),
        BenchPart::Redirects => redirects::driver::run(),
        BenchPart::Answers => redirects::floor::run(),
        BenchPart::Keep { words } => process::keep(words),
    }
}

fn measure(plan: &Plan, flags: &BenchFlags, descriptors: u64) -> anyhow::Result<Vec<Measured>> {
    let cores = Cores::of_this_machine();
    process::pin(cores.load)?;
    let mut servers = vec![Measured::default(); 1 + flags.against.len()];
    for round in 1..=plan.repeat {
        let (mut tick, mut backend) = (Duration::from_secs(1), "plain");
        for (place, measured) in servers.iter_mut().enumerate() {
            let rival = place
                .checked_sub(1)
                .and_then(|place| flags.against.get(place));
            let mut server = match (rival, &flags.url) {
                (Some(Rival::Icecast), _) if plan.tls => tls::haproxy_before_icecast(plan, cores)?,
                (Some(Rival::Icecast), _) => icecast::start(plan, cores)?,
                (Some(Rival::Haproxy), _) => bail!("haproxy serves no audio"),
                (Some(Rival::Floor), _) => Server::floor(plan, cores, tick, backend)?,
                (None, Some(url)) => Server::at(url, flags)?,
                (None, None) => Server::ours(plan, cores)?,
            };
            measured.name = server.name;
            eprintln!(
                "relayctl bench: {} of {}, {} listeners at {}",
                round, plan.repeat, plan.listeners, server.name
            );
            let figures = measure::run(plan, &mut server, cores, descriptors)?;
            if let (None, Some(bytes)) = (rival, figures.bytes_per_send) {
                // The bare loop sends in the sizes and by the calls that ours had.
                if figures.io_uring.is_some_and(|threads| threads > 0.0) {
                    backend = "io_uring";
                }
                tick = Duration::from_secs_f64(bytes / plan.audio.bytes_a_second());
            }
            measured.runs.push(figures);
        }
    }
    Ok(servers)
}

/// The words as they were typed.
fn command() -> String {
    let words = std::env::args().skip(1);
    std::iter::once("relayctl".to_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Ctrl-C and SIGTERM end every wait of this process.
fn end_on_signals() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let kinds = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            );
            let (Ok(mut interrupt), Ok(mut terminate)) = kinds else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            clock::tell_to_end();
        });
    });
    Ok(())
}
