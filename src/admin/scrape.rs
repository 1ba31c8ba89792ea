//! `GET /metrics`: the node's state as the exporter takes it.

use std::sync::Arc;

use axum::extract;
use axum::http::StatusCode;
use axum::response::Response;

use super::access::Caller;
use super::stats::{listen_url, present};
use super::xml::answer;
use crate::base::ids::MountId;
use crate::cluster::snapshot::{NodeView, State};
use crate::control::Control;
use crate::engine::{Mount, MountState};
use crate::outside::{self, Outside};
use crate::telemetry::export::{
    self, EngineSample, MountNow, MountSample, NodeSample, Scrape, Totals,
};

/// Prometheus asks.
pub(super) async fn metrics(
    extract::State(control): extract::State<Arc<Control>>,
    caller: Caller,
) -> Response {
    if let Err(denied) = caller.may_measure(&control) {
        return caller.denied("/metrics", denied);
    }
    let text = export::render(&scrape(&control));
    answer(StatusCode::OK, export::CONTENT_TYPE, text)
}

/// The node now.
pub(super) fn scrape(control: &Control) -> Scrape {
    let config = control.config();
    let fallback = format!("http://localhost:{}", control.identity.data_port);
    // One URL for every scraper, so that the series stay the same whoever asks.
    let base = config.public_urls.first().unwrap_or(&fallback);
    let present = present(control);
    let snapshot = control.snapshot();
    let count = |state| control.nodes_in(state) as u64;
    let counted = control.telemetry.mounts().into_iter();
    let mut mounts: Vec<MountSample> = counted
        .map(|(id, counters)| MountSample {
            mount: id.to_string(),
            listeners: counters.listeners(),
            audience: control.telemetry.audience(&counters).share.listeners,
            totals: Totals::from(&*counters),
            replaced: replaced(control, &id),
            now: present.iter().find(|m| m.id == id).map(|m| now(m, base)),
        })
        .collect();
    mounts.sort_by(|a, b| a.mount.cmp(&b.mount));
    Scrape {
        version: control.identity.version.to_owned(),
        role: control.identity.role.as_str().to_owned(),
        node: control.identity.name.to_string(),
        tasks: alive_tasks(),
        started_unix_seconds: seconds(control.telemetry.started_unix_millis),
        certificate_not_after: config.certificate.as_ref().map(|c| c.not_after),
        listeners_limit: config.max_listeners,
        bandwidth_limit_bits: config.max_bandwidth,
        draining: control.is_draining(),
        mounts,
        fanout: fanout(control),
        node_states: State::ALL
            .map(|state| (state.as_str(), count(state)))
            .to_vec(),
        nodes: snapshot.nodes.iter().map(|node| member(node)).collect(),
        picks: picks(control),
        engine: control.outside.as_deref().map(engine),
    }
}

/// Listeners given to nodes.
fn picks(control: &Control) -> Vec<(String, &'static str, u64)> {
    let counted = control.picks_counted().into_iter();
    counted
        .map(|(node, mode, count)| (node.to_string(), mode, count))
        .collect()
}

/// Tasks of the runtime that have not ended: a number that only grows is a leak.
fn alive_tasks() -> u64 {
    let handle = tokio::runtime::Handle::try_current();
    handle.map_or(0, |handle| handle.metrics().num_alive_tasks() as u64)
}

/// What an engine that is not ours says of itself; one that is down says nothing of its mounts.
fn engine(outside: &Outside) -> EngineSample {
    let status = outside.status();
    let up = status.state == outside::State::Up;
    let known = outside.statistics();
    let mounts = known.mounts.iter().filter(|_| up);
    EngineSample {
        kind: status
            .kind
            .map_or_else(String::new, |kind| kind.as_str().to_owned()),
        up,
        restarts: outside.restarts(),
        mounts: mounts
            .map(|own| {
                let name = own.mount.to_string();
                (name, own.listeners, own.received_bytes, own.sent_bytes)
            })
            .collect(),
    }
}

fn replaced(control: &Control, id: &MountId) -> Option<bool> {
    let engine = &control.engine;
    engine.fallback_of(id)?;
    Some(engine.stand_in(id).is_some())
}

/// Shards by how their sends reach the kernel.
fn fanout(control: &Control) -> Vec<(&'static str, u64)> {
    let shards = control.engine.fanout().shards.into_iter();
    shards
        .map(|(kind, count)| (kind.as_str(), count as u64))
        .collect()
}

/// A node of the table; one that is dead says nothing of its load any more.
#[allow(clippy::cast_precision_loss)]
fn member(node: &NodeView) -> NodeSample {
    let alive = node.state != State::Dead;
    let limit = |value: u64| (alive && value > 0).then_some(value);
    NodeSample {
        node: node.name.to_string(),
        listeners: node.listeners,
        listeners_limit: limit(node.limits.max_listeners),
        heartbeat_age_seconds: Some(node.reported.elapsed().as_secs_f64()),
        cpu_ratio: alive.then_some(node.cpu_ratio),
        cpu_ratio_limit: limit(u64::from(node.limits.max_cpu)).map(|limit| limit as f64 / 1000.0),
        bandwidth_bits: alive.then_some(node.bandwidth_bits as f64),
        bandwidth_bits_limit: limit(node.limits.max_bandwidth).map(|bits| bits as f64),
    }
}

fn now(mount: &Mount, base: &str) -> MountNow {
    let ring = mount.ring();
    MountNow {
        ring_bytes: ring.end().saturating_sub(ring.start()),
        up: mount.state() == MountState::Live,
        silent: (mount.state() == MountState::Live)
            .then(|| mount.is_silent())
            .flatten(),
        listen_url: listen_url(base.trim_end_matches('/'), &mount.id),
        server_type: mount.content().content_type.clone(),
        stream_start_unix_seconds: seconds(mount.feeder().map_or(0, |f| f.since_unix_millis)),
    }
}

#[allow(clippy::cast_precision_loss)]
fn seconds(unix_millis: u64) -> f64 {
    unix_millis as f64 / 1000.0
}
