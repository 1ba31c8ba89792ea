//! `GET /metrics`: the node's state as the exporter takes it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::access::Caller;
use super::stats::{listen_url, present};
use super::xml::answer;
use crate::control::Control;
use crate::engine::{Mount, MountState};
use crate::telemetry::export::{self, MountNow, MountSample, Scrape, Totals};

/// Prometheus asks.
pub(super) async fn metrics(State(control): State<Arc<Control>>, caller: Caller) -> Response {
    if !caller.may_measure(&control) {
        return caller.denied("/metrics");
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
    let counted = control.telemetry.mounts().into_iter();
    let mut mounts: Vec<MountSample> = counted
        .map(|(id, counters)| MountSample {
            mount: id.to_string(),
            listeners: counters.listeners(),
            totals: Totals::from(&*counters),
            now: present.iter().find(|m| m.id == id).map(|m| now(m, base)),
        })
        .collect();
    mounts.sort_by(|a, b| a.mount.cmp(&b.mount));
    Scrape {
        version: control.identity.version.to_owned(),
        role: control.identity.role.as_str().to_owned(),
        node: control.identity.name.clone(),
        started_unix_seconds: seconds(control.telemetry.started_unix_millis),
        listeners_limit: config.max_listeners,
        bandwidth_limit_bits: config.max_bandwidth,
        draining: control.is_draining(),
        mounts,
        node_states: Vec::new(),
        nodes: Vec::new(),
    }
}

fn now(mount: &Mount, base: &str) -> MountNow {
    MountNow {
        up: mount.state() == MountState::Live,
        listen_url: listen_url(base.trim_end_matches('/'), &mount.id),
        server_type: mount.content().content_type.clone(),
        stream_start_unix_seconds: seconds(mount.feeder().map_or(0, |f| f.since_unix_millis)),
    }
}

#[allow(clippy::cast_precision_loss)]
fn seconds(unix_millis: u64) -> f64 {
    unix_millis as f64 / 1000.0
}
