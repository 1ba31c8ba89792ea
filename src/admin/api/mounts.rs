//! `/api/v1/mounts`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Error;
use crate::admin::access::{Caller, Read};
use crate::admin::stats::{idle_seconds, listen_url, present, said, uptime};
use crate::base::ids::MountId;
use crate::base::wall::{rfc3339, unix_millis};
use crate::cluster::snapshot::State as NodeState;
use crate::control::Control;
use crate::engine::format::is_known_type;

/// All mounts of this node.
#[derive(Serialize, ToSchema)]
pub(super) struct Mounts {
    mounts: Vec<Mount>,
}

/// A mount on this node.
#[derive(Serialize, ToSchema)]
struct Mount {
    /// `/live.mp3`, or `service:/live.mp3`.
    name: String,
    /// `live` while bytes come, `held` while its listeners wait for the source, `ended` while they hear its fallback
    /// or nobody listens.
    state: &'static str,
    /// `audio/mpeg` and the like.
    content_type: String,
    /// Listeners on all nodes that are known and not dead.
    listeners: u64,
    /// Listeners on this node.
    listeners_here: u64,
    /// Most listeners at once on this node since it began.
    listener_peak: u64,
    /// The title now, empty where there is none.
    title: String,
    /// The numbering of its bytes, stamped by the node that has the source.
    epoch: u64,
    /// Bytes since the epoch began: where its live edge is.
    offset: u64,
    /// Bits a second, 0 where unknown.
    bitrate: u64,
    /// False where its format is not known here: who comes late gets bytes from the middle of it, and may decode nothing.
    joinable: bool,
    /// Where its listeners go when its source is gone.
    fallback: Option<String>,
    /// The mount that who asks for this one hears now, where that is another: its source is gone, or silent.
    hears: Option<String>,
    /// Whether its source sends silence, on the primary; `null` where nobody listens to that.
    silent: Option<bool>,
    /// What the source calls itself.
    description: String,
    /// Where listeners reach it on this node.
    url: String,
    /// Who feeds it: the encoder, or the parent's name.
    source: String,
    /// When that began.
    since: Option<String>,
    /// Seconds for which it has been fed, 0 while it is held.
    connected_seconds: u64,
    /// Seconds since the last byte came.
    idle_seconds: f64,
    /// Bytes handed to listeners since the node began.
    sent_bytes: u64,
    /// Bytes taken from the source or the parent since the node began.
    received_bytes: u64,
    /// Bytes lost between this node and its parent.
    gap_bytes: u64,
}

/// The mounts of this node, by name.
#[utoipa::path(
    get,
    path = "/api/v1/mounts",
    security(("password" = []), ("token" = ["read"])),
    responses((status = 200, body = Mounts), (status = 401, body = Error))
)]
pub(super) async fn mounts(
    _: Read,
    State(control): State<Arc<Control>>,
    caller: Caller,
) -> Json<Mounts> {
    let base = caller.base_url(&control);
    let mut mounts = present(&control);
    mounts.extend(control.engine.missed());
    mounts.sort_by(|a, b| a.id.cmp(&b.id));
    Json(Mounts {
        mounts: mounts
            .iter()
            .map(|mount| Mount {
                fallback: fallback_of(&control, &mount.id),
                hears: control
                    .engine
                    .stand_in(&mount.id)
                    .map(|to| to.id.to_string()),
                ..row(mount, &base, elsewhere(&control, mount))
            })
            .collect(),
    })
}

/// Listeners of a mount on other nodes, as they last reported.
fn elsewhere(control: &Control, mount: &crate::engine::Mount) -> u64 {
    let snapshot = control.snapshot();
    let others = snapshot
        .nodes
        .iter()
        .filter(|node| node.id != control.identity.id && node.state != NodeState::Dead);
    others
        .filter_map(|node| node.mounts.get(&mount.id))
        .map(|view| view.listeners)
        .fold(0, u64::saturating_add)
}

fn fallback_of(control: &Control, id: &MountId) -> Option<String> {
    let fallback = control.engine.fallback_of(id)?;
    Some(fallback.mount.to_string())
}

fn row(mount: &crate::engine::Mount, base: &str, elsewhere: u64) -> Mount {
    let content = mount.content();
    let counters = &mount.counters;
    let feeder = mount.feeder();
    let ring = mount.ring();
    Mount {
        name: mount.id.to_string(),
        state: mount.state().as_str(),
        content_type: content.content_type.clone(),
        listeners: counters.listeners().saturating_add(elsewhere),
        listeners_here: counters.listeners(),
        listener_peak: counters.peak(),
        title: mount
            .title()
            .map(|title| title.text.clone())
            .unwrap_or_default(),
        epoch: ring.epoch().0,
        offset: ring.end(),
        bitrate: mount.bitrate(),
        joinable: is_known_type(&mount.content().content_type),
        fallback: None,
        hears: None,
        silent: mount.is_silent(),
        description: said(&content, "name").unwrap_or_default(),
        url: listen_url(base, &mount.id),
        since: feeder
            .as_ref()
            .map(|feeder| rfc3339(feeder.since_unix_millis)),
        source: feeder.map(|feeder| feeder.agent).unwrap_or_default(),
        connected_seconds: uptime(mount, unix_millis()),
        idle_seconds: idle_seconds(mount),
        sent_bytes: counters.sent_bytes(),
        received_bytes: counters.received_bytes(),
        gap_bytes: counters.gap_bytes(),
    }
}
