//! `/api/v1/listeners`: who listens on this node, with addresses; scope admin only.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Error;
use crate::admin::access::Admin;
use crate::admin::query::Query;
use crate::base::ids::ListenerId;
use crate::base::wall::rfc3339;
use crate::control::Control;
use crate::telemetry::SessionRecord;

/// Listeners in a page where `limit` does not say.
const PAGE: usize = 1000;

/// Most listeners in a page.
const MAX_PAGE: u64 = 10_000;

/// A page of the listeners of this node.
#[derive(Serialize, ToSchema)]
pub(super) struct Listeners {
    listeners: Vec<Listener>,
    /// Where more follow: what `after` has to be for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// A listener on this node.
#[derive(Serialize, ToSchema)]
struct Listener {
    /// Its number on its node.
    id: u64,
    /// What it listens to.
    mount: String,
    /// The node that has its connection.
    node: String,
    /// Its address.
    address: String,
    /// `User-Agent`, cut at 256 bytes.
    user_agent: String,
    /// `Referer`, cut at 256 bytes.
    referer: String,
    /// When it came.
    since: String,
    /// For how long it has listened.
    connected_seconds: u64,
    /// Bytes handed to its socket.
    sent_bytes: u64,
}

impl Listener {
    fn of(session: &SessionRecord, node: &str) -> Self {
        Self {
            id: session.id.0,
            mount: session.mount.to_string(),
            node: node.to_owned(),
            address: session.address.to_string(),
            user_agent: session.user_agent.to_string(),
            referer: session.referer.to_string(),
            since: rfc3339(session.started_unix_millis),
            connected_seconds: session.duration().as_secs(),
            sent_bytes: session.sent_bytes(),
        }
    }
}

/// The listeners of this node, by number. Where more follow, `next` says how to ask for them.
#[utoipa::path(
    get,
    path = "/api/v1/listeners",
    params(
        ("mount" = Option<String>, Query, description = "only those of this mount"),
        ("limit" = Option<u64>, Query, description = "most listeners in the answer, 1,000 if not given, at most 10,000"),
        ("after" = Option<u64>, Query, description = "only those with a higher number")
    ),
    security(("password" = []), ("token" = ["admin"])),
    responses((status = 200, body = Listeners), (status = 401, body = Error), (status = 403, body = Error))
)]
pub(super) async fn listeners(
    _: Admin,
    State(control): State<Arc<Control>>,
    query: Query,
) -> Response {
    let mount = match query.mount() {
        Some(Err(why)) => {
            let hint = "a mount is written `/live.mp3`";
            return Error::new(StatusCode::BAD_REQUEST, why, hint).into_response();
        }
        Some(Ok(mount)) => Some(mount),
        None => None,
    };
    let limit = query.number("limit").map(|limit| limit.clamp(1, MAX_PAGE));
    let limit = limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(PAGE);
    let after = ListenerId(query.number("after").unwrap_or(0));
    let mut sessions = control.telemetry.sessions();
    sessions.retain(|s| s.id > after && mount.as_ref().is_none_or(|mount| s.mount == *mount));
    sessions.sort_by_key(|session| session.id);
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let next = sessions.last().filter(|_| more).map(|session| session.id);
    let node = control.identity.name.as_str();
    Json(Listeners {
        listeners: sessions.iter().map(|s| Listener::of(s, node)).collect(),
        next: next.map(|id| id.0),
    })
    .into_response()
}

/// A listener that was told to go.
#[derive(Serialize, ToSchema)]
pub(super) struct Kicked {
    /// Its number.
    kicked: u64,
}

/// Closes a listener's connection.
#[utoipa::path(
    delete,
    path = "/api/v1/listeners/{id}",
    params(("id" = u64, Path, description = "its number on this node")),
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = Kicked),
        (status = 401, body = Error),
        (status = 403, body = Error),
        (status = 404, body = Error)
    )
)]
pub(super) async fn end(admin: Admin, state: State<Arc<Control>>, path: Path<String>) -> Response {
    kick(admin, state, path).await
}

/// The same, for clients that have no DELETE.
#[utoipa::path(
    post,
    path = "/api/v1/listeners/{id}/kick",
    params(("id" = u64, Path, description = "its number on this node")),
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = Kicked),
        (status = 401, body = Error),
        (status = 403, body = Error),
        (status = 404, body = Error)
    )
)]
pub(super) async fn kick(
    _: Admin,
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Response {
    let session = id
        .parse()
        .ok()
        .and_then(|id| control.telemetry.session(ListenerId(id)));
    let Some(session) = session else {
        let hint = "`relayctl get listeners` shows who is here; numbers count on each node";
        let error = format!("no listener `{id}` on this node");
        return Error::new(StatusCode::NOT_FOUND, error, hint).into_response();
    };
    session.kick();
    control.engine.sweep();
    Json(Kicked {
        kicked: session.id.0,
    })
    .into_response()
}
