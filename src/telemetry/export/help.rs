//! What each series says of itself: its help text, for the whole page.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

use super::super::panics::PANICS;
use super::{ACCESS_LOG_DROPPED, FIRST_BYTE, LOG_DROPPED, PICK, PICKS, REFUSALS};

/// What is counted as it happens; the histograms are there from the start, so that rates have a zero.
pub(super) fn describe_events() {
    for &(name, help) in EVENTS {
        describe_counter!(name, Unit::Count, help);
    }
    for (name, help) in HISTOGRAMS {
        describe_histogram!(name, Unit::Seconds, help);
        let _ = histogram!(name);
    }
    for (name, unit, help) in LEVELS {
        describe_gauge!(name, unit, help);
    }
    counter!(ACCESS_LOG_DROPPED).absolute(0);
    counter!(LOG_DROPPED).absolute(0);
    for &name in HAPPENINGS {
        let _ = counter!(name);
    }
}

/// Counters of what happens, that stand at zero until it does.
pub(super) const HAPPENINGS: &[&str] = &[
    "relayctl_joins_total",
    "relayctl_leaves_total",
    "relayctl_removals_total",
    "relayctl_deaths_total",
    "relayctl_suspicions_total",
    "relayctl_failovers_total",
    "relayctl_overloads_total",
    "relayctl_drains_total",
    "relayctl_sources_total",
    "relayctl_sources_lost_total",
    "relayctl_silences_total",
    "relayctl_bypasses_total",
    "relayctl_epochs_total",
];

pub(super) const EVENTS: &[(&str, &str)] = &[
    (REFUSALS, "Requests answered without audio, by reason."),
    (
        LOG_DROPPED,
        "Lines of the node's own log that standard error did not take: its reader stopped, or has gone, or the disk is full.",
    ),
    (
        ACCESS_LOG_DROPPED,
        "Access lines that were not written: the log did not keep up, or could not be written.",
    ),
    (
        "relayctl_state_write_failures_total",
        "Writes of tokens, orders or epochs to the data directory that failed; each is tried again.",
    ),
    (
        PANICS,
        "Tasks that a bug ended, by what they were for: connection, pull, probe, upstream, engine_log.",
    ),
    (
        "relayctl_guesses_total",
        "Wrong passwords and tokens, by the door at which they were shown.",
    ),
    (
        "relayctl_source_ends_total",
        "Sources that ended, by reason.",
    ),
    (
        "relayctl_engine_log_dropped_total",
        "Lines of an external engine's log that did not reach ours: more than 50 in a second.",
    ),
    (
        "relayctl_log_lines_suppressed_total",
        "Log lines that a peer without a credential caused and that the rate limiter left out, by cause.",
    ),
    (
        "relayctl_tls_handshakes_total",
        "TLS handshakes that succeeded, by version and by whether a session was resumed.",
    ),
    (
        "relayctl_reloads_total",
        "Reloads of the settings, by outcome.",
    ),
    ("relayctl_joins_total", "Nodes that joined, on a primary."),
    ("relayctl_leaves_total", "Nodes that left, on a primary."),
    (
        "relayctl_removals_total",
        "Nodes that an operator removed, on a primary.",
    ),
    ("relayctl_deaths_total", "Nodes that died, on a primary."),
    (
        "relayctl_suspicions_total",
        "Nodes that fell silent or could not be reached, on a primary.",
    ),
    (
        "relayctl_failovers_total",
        "Pulls of this node that went on at another parent.",
    ),
    (
        "relayctl_reflections_total",
        "Newcomers that this relay sent on, by reason.",
    ),
    (
        "relayctl_overloads_total",
        "Times that this node came over a limit of its own.",
    ),
    ("relayctl_drains_total", "Drains that were begun here."),
    (
        "relayctl_sources_total",
        "Times that a mount got a source, on a primary.",
    ),
    (
        "relayctl_sources_lost_total",
        "Times that a mount lost its source, on a primary.",
    ),
    (
        "relayctl_silences_total",
        "Times that a mount's source was found to send silence, on a primary.",
    ),
    (
        "relayctl_bypasses_total",
        "Times that listeners were sent from a silent mount to its fallback, on a primary.",
    ),
    (
        "relayctl_epochs_total",
        "Times that a mount's bytes were numbered anew, on a primary.",
    ),
];

pub(super) const HISTOGRAMS: [(&str, &str); 2] = [
    (
        FIRST_BYTE,
        "Time from a listener's request to the first byte of its answer.",
    ),
    (
        PICK,
        "Time that the choice of a node takes, without waiting.",
    ),
];

/// Gauges that are set as things change, in the recorder of the process.
pub(super) const LEVELS: [(&str, Unit, &str); 2] = [
    (
        "relayctl_connections",
        Unit::Count,
        "Connections that are neither listeners nor sources, by what they are at.",
    ),
    (
        "relayctl_pending_bytes",
        Unit::Bytes,
        "Bytes of requests' bodies that are held and not whole yet.",
    ),
];

/// Every series of ours: its name, its kind (`counter`, `gauge`, `histogram`) and its help, for the documents.
pub fn series() -> Vec<(&'static str, &'static str, &'static str)> {
    let events = EVENTS.iter().map(|(name, help)| (*name, "counter", *help));
    let histograms = HISTOGRAMS
        .iter()
        .map(|(name, help)| (*name, "histogram", *help));
    let counters = COUNTERS
        .iter()
        .map(|(name, _, help)| (*name, "counter", *help));
    let gauges = GAUGES.iter().chain(&LEVELS);
    let gauges = gauges.map(|(name, _, help)| (*name, "gauge", *help));
    let mut all: Vec<_> = events
        .chain(histograms)
        .chain(counters)
        .chain(gauges)
        .collect();
    all.sort_unstable();
    all
}

pub(super) fn describe_state() {
    for (name, unit, help) in COUNTERS {
        describe_counter!(name, unit, help);
    }
    for (name, unit, help) in GAUGES {
        describe_gauge!(name, unit, help);
    }
}

pub(super) const COUNTERS: [(&str, Unit, &str); 12] = [
    (
        PICKS,
        Unit::Count,
        "Listeners given to a node, by node and by how they get there.",
    ),
    (
        "relayctl_engine_restarts_total",
        Unit::Count,
        "Times that the icecast2 or sc_serv behind this node was started again.",
    ),
    (
        "relayctl_engine_received_bytes_total",
        Unit::Bytes,
        "Bytes that an external engine says it got for the mount, since it began.",
    ),
    (
        "relayctl_engine_sent_bytes_total",
        Unit::Bytes,
        "Bytes that an external engine says it sent of the mount, since it began.",
    ),
    (
        "relayctl_sessions_total",
        Unit::Count,
        "Listener sessions opened.",
    ),
    (
        "relayctl_sent_bytes_total",
        Unit::Bytes,
        "Bytes that listeners' sockets took.",
    ),
    (
        "relayctl_sends_total",
        Unit::Count,
        "Sends to listeners' sockets: bytes sent by this is the mean size of one.",
    ),
    (
        "relayctl_received_bytes_total",
        Unit::Bytes,
        "Bytes taken from the source or the parent.",
    ),
    (
        "relayctl_skipped_bytes_total",
        Unit::Bytes,
        "Bytes of the source that were no whole frame.",
    ),
    (
        "relayctl_gap_bytes_total",
        Unit::Bytes,
        "Bytes lost between this node and its parent.",
    ),
    (
        "relayctl_slow_listeners_total",
        Unit::Count,
        "Listeners that did not keep up: jump to the live edge, closed as slow, or stalled.",
    ),
    (
        "relayctl_fallback_moves_total",
        Unit::Count,
        "Listeners of a mount that went away to its fallback, or came back.",
    ),
];

pub(super) const GAUGES: [(&str, Unit, &str); 28] = [
    (
        "relayctl_engine_up",
        Unit::Count,
        "1 while the icecast2 or sc_serv behind this node answers; no series where the engine is our own.",
    ),
    (
        "relayctl_engine_listeners",
        Unit::Count,
        "Listeners that an external engine says the mount has, this node's own tap among them.",
    ),
    (
        "relayctl_tls_certificate_not_after_seconds",
        Unit::Seconds,
        "When the certificate of the data port ends, in seconds since 1970.",
    ),
    (
        "relayctl_build_info",
        Unit::Count,
        "Always 1; version, role and name of this node.",
    ),
    ("relayctl_listeners", Unit::Count, "Listeners on this node."),
    (
        "relayctl_fanout_backend",
        Unit::Count,
        "Threads that send to listeners, by how their sends reach the kernel.",
    ),
    (
        "relayctl_listeners_limit",
        Unit::Count,
        "Most listeners that this node takes.",
    ),
    (
        "relayctl_bandwidth_limit_bytes",
        Unit::Bytes,
        "Most bytes a second that listeners of this node may take.",
    ),
    (
        "relayctl_draining",
        Unit::Count,
        "1 while this node takes no new listeners.",
    ),
    (
        "relayctl_tasks",
        Unit::Count,
        "Asynchronous tasks that have not ended; a number that only grows is a leak.",
    ),
    (
        "relayctl_source_up",
        Unit::Count,
        "1 while a source or a parent feeds the mount, 0 while its listeners are held.",
    ),
    (
        "relayctl_source_silent",
        Unit::Count,
        "1 while the mount's source sends silence, on a primary that listens to it.",
    ),
    (
        "relayctl_ring_bytes",
        Unit::Bytes,
        "Audio of the mount that is kept for its listeners, all together.",
    ),
    (
        "relayctl_fallback_playing",
        Unit::Count,
        "1 while who asks this node for the mount hears its fallback; only of mounts that have one.",
    ),
    (
        "relayctl_gap_seconds",
        Unit::Seconds,
        "Playing time lost between this node and its parent since the node began.",
    ),
    ("relayctl_nodes", Unit::Count, "Nodes, by state."),
    (
        "relayctl_node_listeners",
        Unit::Count,
        "Listeners on each node, as it reported.",
    ),
    (
        "relayctl_node_listeners_limit",
        Unit::Count,
        "Most listeners that each node takes.",
    ),
    (
        "relayctl_node_heartbeat_age_seconds",
        Unit::Seconds,
        "Time since each node's last beat.",
    ),
    (
        "relayctl_node_cpu_ratio",
        Unit::Count,
        "Share of each node's processors in use, 0 to 1.",
    ),
    (
        "relayctl_node_cpu_ratio_limit",
        Unit::Count,
        "Share above which a node takes no new listeners.",
    ),
    (
        "relayctl_node_bandwidth_bits",
        Unit::Count,
        "Bits a second that each node sends.",
    ),
    (
        "relayctl_node_bandwidth_bits_limit",
        Unit::Count,
        "Most bits a second that each node may send.",
    ),
    (
        "icecast_up",
        Unit::Count,
        "Always 1, as icecast_exporter says.",
    ),
    (
        "icecast_server_start",
        Unit::Seconds,
        "When the node began, in seconds since 1970, as icecast_exporter says.",
    ),
    (
        "icecast_listeners",
        Unit::Count,
        "Listeners of the mount as the public is told: on a primary those of all nodes, so never to be summed over nodes.",
    ),
    (
        "icecast_stream_start",
        Unit::Seconds,
        "When the stream began, in seconds since 1970, as icecast_exporter says.",
    ),
    (
        "relayctl_mounts",
        Unit::Count,
        "Mounts on this node, live or held.",
    ),
];
