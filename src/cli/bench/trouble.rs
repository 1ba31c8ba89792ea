//! Listeners that give trouble: those that never read, and those that stop.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::args::Plan;
use super::clock::pause;
use super::load::orders::Order;
use super::loads::Loads;
use super::measure::Figures;
use super::server::Server;

/// Listeners that never read get this long to fill their sockets.
const FILL: Duration = Duration::from_secs(15);

/// Who stopped and is not closed by then is counted as not closed: twice what a ring holds.
const MOST: Duration = Duration::from_secs(120);

/// Lets `plan.never_read` listeners come who never read, and adds what their sockets hold at the server's end.
///
/// # Errors
/// Where `ss` is missing, or a process ends.
pub(super) fn never_read(
    plan: &Plan,
    server: &Server,
    loads: &mut Loads,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    loads.join(plan.never_read, plan.join_rate, true)?;
    let coming = Duration::from_secs_f64(f64::from(plan.never_read) / plan.join_rate);
    pause(coming + FILL)?;
    let sizes: Vec<u64> = sizes(server, plan.never_read)?.collect();
    ensure!(!sizes.is_empty(), "`ss` shows no connection of the server");
    figures.never_read = Some(sizes.len() as u64);
    figures.socket_memory_p50 = sizes.get(sizes.len() / 2).map(|size| *size as f64);
    figures.socket_memory_max = sizes.first().map(|size| *size as f64);
    Ok(())
}

/// What the `count` largest sockets of the server hold, the largest first: those who read have nothing waiting, so
/// these are those who do not.
fn sizes(server: &Server, count: u32) -> anyhow::Result<impl Iterator<Item = u64> + use<>> {
    let mut sizes = Vec::new();
    for server in &server.listen {
        sizes.extend(socket_memory(*server)?);
    }
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    Ok(sizes.into_iter().take(count as usize))
}

/// Bytes of kernel memory of each connection at `server`'s own end.
fn socket_memory(server: SocketAddr) -> anyhow::Result<Vec<u64>> {
    let port = format!(":{}", server.port());
    let output = Command::new("ss")
        .args(["-tmnHO", "state", "established", "sport", "=", &port])
        .output()
        .context("cannot run `ss`: install Debian's package `iproute2`")?;
    ensure!(output.status.success(), "`ss` failed: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(of_line).collect())
}

/// What waits to be read, what waits to be acknowledged, what is set aside, and options:
/// `skmem:(r0,rb131072,t0,tb87040,f0,w0,o0,bl0,d0)`.
fn of_line(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("skmem:(")?;
    let (inside, _) = rest.split_once(')')?;
    let mut sum = 0;
    for field in inside.split(',') {
        let digits = field.find(|c: char| c.is_ascii_digit())?;
        let (name, number) = field.split_at(digits);
        if matches!(name, "r" | "w" | "f" | "o") {
            sum += number.parse::<u64>().ok()?;
        }
    }
    Some(sum)
}

/// Lets `plan.stop_reading` listeners stop, waits until the server has closed them (for [`MOST`]), and adds how the
/// others fared.
///
/// # Errors
/// Where the server does not say whom it closed, or a process ends.
pub(super) fn stop_reading(
    plan: &Plan,
    server: &Server,
    loads: &mut Loads,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let wanted = f64::from(plan.stop_reading);
    let before = closed(server)
        .context("the server does not say whom it closed, so this cannot be measured")?;
    let memory = server.memory();
    loads.stop_reading(plan.stop_reading)?;
    loads.tell(&Order::Reset)?;
    let begin = Instant::now();
    let mut most = memory;
    let mut gone = 0.0;
    while gone < wanted && begin.elapsed() < MOST {
        most = most.max(server.memory());
        pause(Duration::from_millis(250))?;
        gone = closed(server).unwrap_or(before) - before;
    }
    let all = gone >= wanted;
    figures.stopped = Some(plan.stop_reading.into());
    figures.stopped_not_closed = Some((wanted - gone).max(0.0));
    figures.stopped_closed_after_s = all.then(|| begin.elapsed().as_secs_f64());
    if !all {
        let mut sizes = sizes(server, plan.stop_reading)?;
        figures.socket_memory_max = sizes.next().map(|size| size as f64);
    }
    let heard = loads.report()?;
    figures.stalls += heard.stalls;
    figures.gaps += heard.gaps;
    figures.lost += heard.lost;
    figures.corrupt_bytes += heard.corrupt;
    figures.delay_p99_beside_stopped_ms =
        heard.delay.quantile(0.99).map(|micros| micros as f64 / 1e3);
    let growth = |bytes: Option<u64>| Some(bytes? as f64 - memory? as f64);
    figures.memory_growth_while_stopped = growth(most);
    pause(Duration::from_secs(2))?;
    figures.memory_growth_after_stopped = growth(server.memory());
    Ok(())
}

/// Listeners that it closed because they did not keep up, whatever the reason is called.
fn closed(server: &Server) -> Option<f64> {
    let all = server.metric("relayctl_slow_listeners_total")?;
    let jumps = server.metric_with("relayctl_slow_listeners_total", "action=\"jump\"")?;
    Some(all - jumps)
}

#[cfg(test)]
mod tests {
    use super::of_line;

    #[test]
    fn memory_of_a_socket_is_read_from_its_line() {
        let line = "0 12 127.0.0.1:8000 127.1.0.1:5 \t skmem:(r1,rb131072,t9,tb87040,f3072,w20480,o2,bl0,d0)";
        assert_eq!(of_line(line), Some(1 + 3072 + 20_480 + 2));
        assert_eq!(of_line("no memory here"), None);
    }
}
