//! `relayctl demo`: a primary, relays and a source on loopback, each node a process of this very program.
//!
//! Must never: leave a process or a file behind, or do anything that a user could not do by hand.
//! `cluster` starts and ends the nodes, `source` is the encoder.

mod cluster;
mod source;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::DemoFlags;
use super::{Exit, Outcome, client, print};
use cluster::Cluster;
pub(super) use cluster::{bound_to_this_process, end_with_parent};

/// What the source feeds.
const MOUNT: &str = "/demo.mp3";

/// A node of this machine has answered long before; a machine that is busy with other things gets time.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs until it is told to end.
pub(super) fn run(flags: &DemoFlags) -> Outcome {
    client::block_on(demo(flags.relays))??;
    Ok(Exit::Fine)
}

async fn demo(relays: u8) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut cluster = Cluster::new()?;
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let ended = tokio::select! {
        () = told => Ok(()),
        played = play(&mut cluster, relays) => played,
    };
    // On every way out, so that no node outlives this function.
    cluster.end().await;
    ended
}

/// Starts everything and tells of it; returns only if something fails.
async fn play(cluster: &mut Cluster, relays: u8) -> anyhow::Result<()> {
    cluster.start_primary().await?;
    for number in 1..=relays {
        cluster.start_relay(number).await?;
    }
    let stop = CancellationToken::new();
    let _stop_on_drop = stop.clone().drop_guard();
    let source = source::Source::new(cluster.primary()?, MOUNT, cluster.source_password()?)?;
    tokio::spawn(source.run(stop));
    for node in cluster.nodes() {
        wait_for_mount(&node.url)
            .await
            .with_context(|| format!("{} has no {MOUNT}", node.name))?;
    }
    print::text(&told(cluster)?).map_err(|failure| failure.error)?;
    cluster.watch().await
}

/// A node that carries the mount says so to a HEAD, which takes no listener's place.
async fn wait_for_mount(url: &str) -> anyhow::Result<()> {
    let http = client::plain(Duration::from_secs(5))?;
    let asked = async {
        loop {
            let answer = http.head(format!("{url}{MOUNT}")).send().await;
            match answer {
                Ok(answer) if answer.status().as_u16() < 400 => return,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, asked)
        .await
        .with_context(|| format!("{url}{MOUNT} is not there after {DEADLINE:?}"))
}

/// What a person may paste.
fn told(cluster: &Cluster) -> anyhow::Result<String> {
    let program = std::env::args().next().unwrap_or_else(|| "relayctl".into());
    let primary = cluster.primary()?;
    let password = cluster.source_password()?;
    let authority = primary.url.trim_start_matches("http://");
    let data_dir = primary.data_dir.display();
    let relays = cluster.nodes().skip(1);
    let mut text = String::new();
    let url = format!("{}{MOUNT}", primary.url);
    let _ = writeln!(text, "relayctl demo: paste one of these into a player\n");
    let _ = writeln!(text, "  {url}   the primary sends you to a relay");
    for relay in relays.clone() {
        let _ = writeln!(
            text,
            "  {}{MOUNT}   {} itself (process {})",
            relay.url, relay.name, relay.pid
        );
    }
    let _ = writeln!(
        text,
        "\nsend a stream of your own (user source, password {password})\n"
    );
    let _ = writeln!(
        text,
        "  ffmpeg -re -i FILE -c:a libmp3lame -b:a 128k -f mp3 -content_type audio/mpeg \
         icecast://source:{password}@{authority}/live.mp3"
    );
    let _ = writeln!(text, "\ntry in another terminal\n");
    let _ = writeln!(text, "  mpv {url}");
    let _ = writeln!(text, "  curl -sL {url} | head -c 100000 > demo.mp3");
    let _ = writeln!(text, "  {program} status --data-dir {data_dir}");
    let _ = writeln!(text, "  {program} get picks --data-dir {data_dir}");
    if let Some(relay) = relays.last() {
        let _ = writeln!(
            text,
            "  kill -9 {}   newcomers go to whoever is left",
            relay.pid
        );
    }
    let _ = writeln!(text, "\nCtrl-C ends everything");
    Ok(text)
}
