//! `/api/v1/nodes`: the table, on a relay as it last heard it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Error;
use super::orders::Drain;
use crate::admin::access::{Admin, Read};
use crate::base::ids::NodeId;
use crate::cluster::snapshot::{NodeView, Snapshot};
use crate::control::{Control, TreeError};
use crate::wire::message::NodeRole;

/// The nodes that are known.
#[derive(Serialize, ToSchema)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

/// A node.
#[derive(Serialize, ToSchema)]
struct Node {
    /// Its lasting identity.
    id: String,
    /// Its name.
    name: String,
    /// `primary` or `relay`.
    role: &'static str,
    /// `ready`, `joining`, `suspect`, `unreachable`, `draining` or `dead`.
    state: &'static str,
    /// Where listeners reach it: the first of its URLs.
    public_url: String,
    /// Where they do by https, if they do.
    public_url_https: Option<String>,
    /// Its listeners; 0 when dead.
    listeners: u64,
    /// Most listeners that it takes.
    max_listeners: u64,
    /// Bits a second that its listeners may take, 0 for no limit.
    max_bandwidth: u64,
    /// Bits a second that it sends.
    bandwidth: u64,
    /// Share of its processors in use, 0 to 1.
    cpu_ratio: f64,
    /// Its share of newcomers beside other relays; 100 is usual.
    weight: u32,
    /// The name of the node that it pulls from.
    parent: Option<String>,
    /// Nodes between the origin and this one, the origin counted; 0 at the origin.
    depth: u32,
    /// Nodes that it feeds.
    children: u32,
    /// Most nodes that it feeds.
    max_children: u32,
    /// Where it stands; empty where it does not say.
    region: String,
    /// Bytes that its mount farthest behind lacks of what the primary had at its last beat. Only the primary knows.
    lag_bytes: Option<u64>,
    /// The same in milliseconds.
    lag_millis: Option<u64>,
    /// The program's version.
    version: String,
    /// True while it is over a limit of its own.
    full: bool,
    /// True while its beats are missing or its URL fails, even where `state` is `ready` because too many others
    /// fail too.
    suspected: bool,
    /// `on` or `off` where an operator forced it to send newcomers on, or not to; else `auto`.
    reflect: &'static str,
    /// True while the node has not said yet that it follows its last order.
    pending: bool,
    /// How far its drain is, where this node knows.
    drain: Option<Drain>,
    /// Why listeners do not reach it, and what to do: a node that died, or the URL that was tried and the error.
    trouble: Option<String>,
    /// Listeners that are not sent to it, since they do not reach its URL, and what to set.
    warning: Option<String>,
    /// Seconds since its process began.
    uptime_seconds: u64,
    /// Seconds since its last beat.
    heartbeat_age_seconds: f64,
    /// What it carries.
    mounts: Vec<NodeMount>,
}

/// A mount on a node.
#[derive(Serialize, ToSchema)]
struct NodeMount {
    /// `/live.mp3`.
    name: String,
    /// Listeners there.
    listeners: u64,
    /// Bits a second, 0 where unknown.
    bitrate: u64,
    /// The name of the node that it is pulled from there.
    parent: Option<String>,
    /// As for the node.
    depth: u32,
    /// As for the node.
    lag_bytes: Option<u64>,
    /// As for the node.
    lag_millis: Option<u64>,
}

impl Node {
    fn of(node: &NodeView, snapshot: &Snapshot, control: &Control, now: Instant) -> Self {
        let called = |id: &NodeId| {
            let known = snapshot.find(id);
            known.map_or_else(|| id.to_string(), |parent| parent.name.to_string())
        };
        let mounts = node.mounts.iter().map(|(mount, view)| {
            let lag = control.lag_of(node, mount, now);
            NodeMount {
                name: mount.to_string(),
                listeners: view.listeners,
                bitrate: view.bitrate,
                parent: view.parent.as_ref().map(called),
                depth: view.depth,
                lag_bytes: lag.map(|lag| lag.bytes),
                lag_millis: lag.map(|lag| lag.millis),
            }
        });
        let mounts: Vec<NodeMount> = mounts.collect();
        let age = match node.id == control.identity.id {
            true => Duration::ZERO,
            false => now.saturating_duration_since(node.reported),
        };
        Self {
            id: node.id.to_string(),
            name: node.name.to_string(),
            role: match node.role {
                NodeRole::Primary => "primary",
                NodeRole::Relay => "relay",
            },
            state: control.state_of(node, now).as_str(),
            public_url: node.public_url().to_owned(),
            public_url_https: node.public_urls.https.clone(),
            listeners: node.listeners,
            max_listeners: node.limits.max_listeners,
            max_bandwidth: node.limits.max_bandwidth,
            bandwidth: node.bandwidth_bits,
            cpu_ratio: (node.cpu_ratio * 1000.0).round() / 1000.0,
            weight: node.weight,
            parent: node.parent.as_ref().map(called),
            depth: node
                .mounts
                .values()
                .map(|view| view.depth)
                .max()
                .unwrap_or(0),
            children: node.children,
            max_children: node.limits.max_children,
            region: node.region.clone(),
            lag_bytes: mounts.iter().filter_map(|mount| mount.lag_bytes).max(),
            lag_millis: mounts.iter().filter_map(|mount| mount.lag_millis).max(),
            version: node.version.clone(),
            full: node.full,
            suspected: node.suspected,
            reflect: control.reflect_of(&node.id).as_str(),
            pending: control.is_pending(node),
            drain: control.drain_progress(node).map(Drain::from),
            trouble: control.trouble_of(node, now),
            warning: control.address_warning(node),
            uptime_seconds: node.uptime_at(now).as_secs(),
            heartbeat_age_seconds: (age.as_secs_f64() * 1000.0).round() / 1000.0,
            mounts,
        }
    }
}

/// The nodes that are known, by id: this one, and those that joined or that the primary told of.
#[utoipa::path(
    get,
    path = "/api/v1/nodes",
    security(("password" = []), ("token" = ["read"])),
    responses((status = 200, body = Nodes), (status = 401, body = Error))
)]
pub(super) async fn nodes(_: Read, State(control): State<Arc<Control>>) -> Json<Nodes> {
    let snapshot = control.snapshot();
    let now = Instant::now();
    let nodes = snapshot.nodes.iter();
    Json(Nodes {
        nodes: nodes
            .map(|node| Node::of(node, &snapshot, &control, now))
            .collect(),
    })
}

/// Whom a node is to pull from.
#[derive(Deserialize, ToSchema)]
pub(super) struct Wish {
    /// Id or name of a node, or `auto`.
    to: String,
}

/// Whom it will pull from.
#[derive(Serialize, ToSchema)]
pub(super) struct Assigned {
    /// Its name.
    node: String,
    /// The parent's name; none where the node chooses itself again.
    parent: Option<String>,
}

/// Lets a relay pull from another node until that one dies; `auto` lets it choose again. Carried out within a beat.
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{name}/parent",
    params(("name" = String, Path, description = "id or name of the relay")),
    request_body = Wish,
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = Assigned),
        (status = 401, body = Error),
        (status = 403, body = Error),
        (status = 404, body = Error),
        (status = 409, body = Error)
    )
)]
pub(super) async fn reparent(
    _: Admin,
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
    Json(wish): Json<Wish>,
) -> Response {
    let to = (wish.to != "auto").then_some(wish.to.as_str());
    match control.reparent(&id, to) {
        Ok((node, parent)) => {
            let snapshot = control.snapshot();
            let called = |id: NodeId| match snapshot.find(&id) {
                Some(row) => row.name.to_string(),
                None => id.to_string(),
            };
            let (node, parent) = (called(node), parent.map(called));
            tracing::info!(node, parent, "the operator has chosen a parent");
            Json(Assigned { node, parent }).into_response()
        }
        Err(error) => {
            let status = match error {
                TreeError::Unknown(_) => StatusCode::NOT_FOUND,
                _ => StatusCode::CONFLICT,
            };
            let hint = "`relayctl get nodes -o wide` on the primary shows the tree";
            Error::new(status, error.to_string(), hint).into_response()
        }
    }
}
