//! What Prometheus reads.
//!
//! Two sources make one page. What is counted as it happens (refusals, picks, histograms) lives in one recorder
//! for the process. What can be read off the node's state (all gauges, and the totals of the hot path) is put into
//! a fresh recorder at each scrape, so that a node or a mount that is gone leaves no gauge behind, and no total once it is
//! forgotten. No name is in both; no name of the first has a label that names a mount or a node.

mod help;

use std::sync::OnceLock;

use metrics::{counter, gauge};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::MountCounters;
pub use help::series;

/// The media type of [`render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) const REFUSALS: &str = "relayctl_refusals_total";
pub(super) const FIRST_BYTE: &str = "relayctl_first_byte_seconds";
pub(super) const PICK: &str = "relayctl_pick_seconds";
pub(super) const PICKS: &str = "relayctl_picks_total";
pub(super) const LOG_DROPPED: &str = "relayctl_log_dropped_total";
pub(super) const ACCESS_LOG_DROPPED: &str = "relayctl_access_log_dropped_total";

/// From 100 µs to 10 s: what a listener waits for its first byte, or for a place in the queue.
const FIRST_BYTE_BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];

/// From 1 µs to 10 ms: what a decision takes.
const PICK_BUCKETS: [f64; 13] = [
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2,
];

/// The node's state at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scrape {
    /// The program's version.
    pub version: String,
    /// `primary` or `relay`.
    pub role: String,
    /// The node's name.
    pub node: String,
    /// Asynchronous tasks that have not ended.
    pub tasks: u64,
    /// When the process began, in seconds since 1970.
    pub started_unix_seconds: f64,
    /// When the certificate of the data port ends, in seconds since 1970; `None` where it speaks no TLS.
    pub certificate_not_after: Option<u64>,
    /// Most listeners that this node takes.
    pub listeners_limit: u64,
    /// Bits a second that its listeners may take, 0 for no limit.
    pub bandwidth_limit_bits: u64,
    /// True while it takes nobody new.
    pub draining: bool,
    /// All mounts that count something and are not forgotten.
    pub mounts: Vec<MountSample>,
    /// Threads of the fan-out by how their sends reach the kernel, with a zero for a way that none takes.
    pub fanout: Vec<(&'static str, u64)>,
    /// Nodes in each state, with a zero for the states that nobody is in.
    pub node_states: Vec<(&'static str, u64)>,
    /// The nodes that are known.
    pub nodes: Vec<NodeSample>,
    /// Listeners given to a node, by its name and by how they get there.
    pub picks: Vec<(String, &'static str, u64)>,
    /// The engine, where it is not our own.
    pub engine: Option<EngineSample>,
}

/// An engine that is not our own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineSample {
    /// `icecast` or `shoutcast`; empty where it is not known yet.
    pub kind: String,
    /// True while it answers.
    pub up: bool,
    /// How often it was started again.
    pub restarts: u64,
    /// What it says of its mounts: listeners, bytes got, bytes sent, as far as it says them.
    pub mounts: Vec<(String, u64, Option<u64>, Option<u64>)>,
}

/// One mount.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MountSample {
    /// Its name.
    pub mount: String,
    /// Listeners now on this node.
    pub listeners: u64,
    /// Listeners now, on a primary at all nodes.
    pub audience: u64,
    /// Since the process began.
    pub totals: Totals,
    /// Whether who asks for it hears its fallback now; none where it has none.
    pub replaced: Option<bool>,
    /// `None` for a mount that is gone: then only its totals are shown, until they are forgotten.
    pub now: Option<MountNow>,
}

/// What is true of a mount as long as it exists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MountNow {
    /// True while bytes come, false while it is held.
    pub up: bool,
    /// Whether what its source sends is silence; none where nobody listens to that.
    pub silent: Option<bool>,
    /// Audio kept for listeners.
    pub ring_bytes: u64,
    /// Where listeners reach it.
    pub listen_url: String,
    /// The content type.
    pub server_type: String,
    /// When its feeder came, in seconds since 1970.
    pub stream_start_unix_seconds: f64,
}

/// What was counted for a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// See [`MountCounters::sessions`].
    pub sessions: u64,
    /// See [`MountCounters::sent_bytes`].
    pub sent_bytes: u64,
    /// See [`MountCounters::sends`].
    pub sends: u64,
    /// See [`MountCounters::received_bytes`].
    pub received_bytes: u64,
    /// See [`MountCounters::skipped_bytes`].
    pub skipped_bytes: u64,
    /// See [`MountCounters::gap_bytes`].
    pub gap_bytes: u64,
    /// See [`MountCounters::gap_micros`].
    pub gap_micros: u64,
    /// See [`MountCounters::slow_jumps`].
    pub slow_jumps: u64,
    /// See [`MountCounters::slow_closes`].
    pub slow_closes: u64,
    /// See [`MountCounters::stalls`].
    pub stalls: u64,
    /// See [`MountCounters::fallback_moves`].
    pub fallback_moves: u64,
    /// See [`MountCounters::fallback_returns`].
    pub fallback_returns: u64,
}

impl From<&MountCounters> for Totals {
    fn from(counters: &MountCounters) -> Self {
        Self {
            sessions: counters.sessions(),
            sent_bytes: counters.sent_bytes(),
            sends: counters.sends(),
            received_bytes: counters.received_bytes(),
            skipped_bytes: counters.skipped_bytes(),
            gap_bytes: counters.gap_bytes(),
            gap_micros: counters.gap_micros(),
            slow_jumps: counters.slow_jumps(),
            slow_closes: counters.slow_closes(),
            stalls: counters.stalls(),
            fallback_moves: counters.fallback_moves(),
            fallback_returns: counters.fallback_returns(),
        }
    }
}

/// One node of the cluster. What is not known makes no series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeSample {
    /// Its name.
    pub node: String,
    /// Its listeners.
    pub listeners: u64,
    /// Most listeners it takes.
    pub listeners_limit: Option<u64>,
    /// Seconds since its last beat.
    pub heartbeat_age_seconds: Option<f64>,
    /// Share of its processors in use, 0 to 1.
    pub cpu_ratio: Option<f64>,
    /// The share above which it takes nobody new.
    pub cpu_ratio_limit: Option<f64>,
    /// Bits a second that it sends.
    pub bandwidth_bits: Option<f64>,
    /// Most bits a second that it may send.
    pub bandwidth_bits_limit: Option<f64>,
}

/// A recorder of ours that nobody has installed: our buckets, no series.
pub fn recorder() -> PrometheusRecorder {
    // It fails for an empty list of buckets only; then the histograms would be summaries.
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(FIRST_BYTE.into()), &FIRST_BYTE_BUCKETS)
        .and_then(|b| b.set_buckets_for_metric(Matcher::Full(PICK.into()), &PICK_BUCKETS));
    builder.unwrap_or_default().build_recorder()
}

static PROCESS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder of the process, the first time that it is called. False where a foreign one is there
/// already: then what is counted as it happens is not on our page.
pub fn install() -> bool {
    let handle = PROCESS.get_or_init(|| {
        let recorder = recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        help::describe_events();
        Some(handle)
    });
    handle.is_some()
}

/// Folds the samples of histograms together. Without it they pile up while nobody scrapes; to be called every few
/// seconds.
pub fn upkeep() {
    if let Some(handle) = process() {
        handle.run_upkeep();
    }
    super::log_limit::report(std::time::Instant::now());
}

fn process() -> Option<&'static PrometheusHandle> {
    PROCESS.get().and_then(Option::as_ref)
}

/// The page.
pub fn render(scrape: &Scrape) -> String {
    let counted = process().map(PrometheusHandle::render).unwrap_or_default();
    counted + &render_state(scrape)
}

/// The part of the page that is read off the state.
fn render_state(scrape: &Scrape) -> String {
    let recorder = recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        help::describe_state();
        set_node(scrape);
        for mount in &scrape.mounts {
            set_mount(mount);
        }
        for (backend, threads) in &scrape.fanout {
            gauge!("relayctl_fanout_backend", "backend" => *backend).set(float(*threads));
        }
        if let Some(engine) = &scrape.engine {
            set_engine(engine);
        }
        for (state, count) in &scrape.node_states {
            gauge!("relayctl_nodes", "state" => *state).set(float(*count));
        }
        for node in &scrape.nodes {
            set_member(node);
        }
        for (node, mode, count) in &scrape.picks {
            counter!(PICKS, "node" => node.clone(), "mode" => *mode).absolute(*count);
        }
        let process = metrics_process::Collector::default();
        process.describe();
        process.collect();
    });
    handle.render()
}

fn set_node(scrape: &Scrape) {
    let labels = [
        ("version", scrape.version.clone()),
        ("role", scrape.role.clone()),
        ("node", scrape.node.clone()),
    ];
    gauge!("relayctl_build_info", &labels).set(1.0);
    gauge!("relayctl_listeners_limit").set(float(scrape.listeners_limit));
    gauge!("relayctl_draining").set(float(scrape.draining.into()));
    gauge!("relayctl_tasks").set(float(scrape.tasks));
    if scrape.bandwidth_limit_bits > 0 {
        // Base units are bytes; the contract fixes bits only for the nodes' own.
        let bytes = float(scrape.bandwidth_limit_bits) / 8.0;
        gauge!("relayctl_bandwidth_limit_bytes").set(bytes);
    }
    if let Some(end) = scrape.certificate_not_after {
        gauge!("relayctl_tls_certificate_not_after_seconds").set(float(end));
    }
    let mounts = scrape.mounts.iter().filter(|mount| mount.now.is_some());
    gauge!("relayctl_mounts").set(float(mounts.count() as u64));
    gauge!("icecast_up").set(1.0);
    gauge!("icecast_server_start").set(scrape.started_unix_seconds);
}

fn set_mount(sample: &MountSample) {
    set_totals(sample);
    let mount = || sample.mount.clone();
    if let Some(replaced) = sample.replaced {
        gauge!("relayctl_fallback_playing", "mount" => mount()).set(float(replaced.into()));
    }
    let Some(now) = &sample.now else { return };
    let lost = float(sample.totals.gap_micros) / 1e6;
    gauge!("relayctl_gap_seconds", "mount" => mount()).set(lost);
    gauge!("relayctl_listeners", "mount" => mount()).set(float(sample.listeners));
    gauge!("relayctl_source_up", "mount" => mount()).set(float(now.up.into()));
    gauge!("relayctl_ring_bytes", "mount" => mount()).set(float(now.ring_bytes));
    if let Some(silent) = now.silent {
        gauge!("relayctl_source_silent", "mount" => mount()).set(float(silent.into()));
    }
    let labels = [
        ("listenurl", now.listen_url.clone()),
        ("server_type", now.server_type.clone()),
    ];
    gauge!("icecast_listeners", &labels).set(float(sample.audience));
    gauge!("icecast_stream_start", &labels).set(now.stream_start_unix_seconds);
}

/// Sets the counters of one mount.
fn set_totals(sample: &MountSample) {
    let mount = || sample.mount.clone();
    let totals = &sample.totals;
    for (name, value) in [
        ("relayctl_sessions_total", totals.sessions),
        ("relayctl_sent_bytes_total", totals.sent_bytes),
        ("relayctl_sends_total", totals.sends),
        ("relayctl_received_bytes_total", totals.received_bytes),
        ("relayctl_skipped_bytes_total", totals.skipped_bytes),
        ("relayctl_gap_bytes_total", totals.gap_bytes),
    ] {
        counter!(name, "mount" => mount()).absolute(value);
    }
    let slow = "relayctl_slow_listeners_total";
    let moves = "relayctl_fallback_moves_total";
    for (name, action, value) in [
        (slow, "jump", totals.slow_jumps),
        (slow, "closed", totals.slow_closes),
        (slow, "stalled", totals.stalls),
        (moves, "away", totals.fallback_moves),
        (moves, "back", totals.fallback_returns),
    ] {
        counter!(name, "mount" => mount(), "action" => action).absolute(value);
    }
}

fn set_engine(engine: &EngineSample) {
    let kind = engine.kind.clone();
    gauge!("relayctl_engine_up", "engine" => kind).set(float(engine.up.into()));
    counter!("relayctl_engine_restarts_total").absolute(engine.restarts);
    for (mount, listeners, received, sent) in &engine.mounts {
        let mount = || mount.clone();
        gauge!("relayctl_engine_listeners", "mount" => mount()).set(float(*listeners));
        if let Some(bytes) = received {
            counter!("relayctl_engine_received_bytes_total", "mount" => mount()).absolute(*bytes);
        }
        if let Some(bytes) = sent {
            counter!("relayctl_engine_sent_bytes_total", "mount" => mount()).absolute(*bytes);
        }
    }
}

fn set_member(node: &NodeSample) {
    for (name, value) in [
        ("relayctl_node_listeners", Some(float(node.listeners))),
        (
            "relayctl_node_listeners_limit",
            node.listeners_limit.map(float),
        ),
        (
            "relayctl_node_heartbeat_age_seconds",
            node.heartbeat_age_seconds,
        ),
        ("relayctl_node_cpu_ratio", node.cpu_ratio),
        ("relayctl_node_cpu_ratio_limit", node.cpu_ratio_limit),
        ("relayctl_node_bandwidth_bits", node.bandwidth_bits),
        (
            "relayctl_node_bandwidth_bits_limit",
            node.bandwidth_bits_limit,
        ),
    ] {
        if let Some(value) = value {
            gauge!(name, "node" => node.node.clone()).set(value);
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
