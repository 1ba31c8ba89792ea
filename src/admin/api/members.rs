//! Nodes that operators remove, bar, and let in again.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Error;
use crate::admin::access::Admin;
use crate::base::wall::rfc3339;
use crate::control::{Control, RemoveError};

/// How a node is to be removed.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct ForgetRequest {
    /// It may not join again until it is unbarred.
    #[serde(default)]
    bar: bool,
}

/// A node that was removed.
#[derive(Serialize, ToSchema)]
pub(super) struct Forgotten {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
    /// It may not join again.
    barred: bool,
}

/// Removes a node: its credential, its feed and its streams end at once, the cluster key is replaced, its row goes.
/// Without `bar` it may join anew with a valid join token.
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{name}/forget",
    params(("name" = String, Path, description = "id or name of the node; with `bar` also the id of one that never was here")),
    request_body = ForgetRequest,
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = Forgotten),
        (status = 401, body = Error),
        (status = 403, body = Error),
        (status = 404, body = Error),
        (status = 409, body = Error),
        (status = 500, body = Error)
    )
)]
pub(super) async fn forget(
    _: Admin,
    State(control): State<Arc<Control>>,
    Path(node): Path<String>,
    Json(request): Json<ForgetRequest>,
) -> Response {
    match control.remove_node(&node, request.bar).await {
        Ok((id, name)) => Json(Forgotten {
            id: id.to_string(),
            name: name.to_string(),
            barred: request.bar,
        })
        .into_response(),
        Err(error) => refused(&error),
    }
}

/// A node that may join again, or might all the time.
#[derive(Serialize, ToSchema)]
pub(super) struct Unbarred {
    /// True if it was barred.
    unbarred: bool,
}

/// Lets a barred node join again, with a valid join token.
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{name}/unbar",
    params(("name" = String, Path, description = "id or name of the node")),
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = Unbarred),
        (status = 401, body = Error),
        (status = 403, body = Error),
        (status = 404, body = Error),
        (status = 409, body = Error),
        (status = 500, body = Error)
    )
)]
pub(super) async fn unbar(
    _: Admin,
    State(control): State<Arc<Control>>,
    Path(node): Path<String>,
) -> Response {
    match control.unbar(&node).await {
        Ok(unbarred) => Json(Unbarred { unbarred }).into_response(),
        Err(error) => refused(&error),
    }
}

/// The nodes that may not join.
#[derive(Serialize, ToSchema)]
pub(super) struct BarredNodes {
    barred: Vec<BarredNode>,
}

/// A node that may not join.
#[derive(Serialize, ToSchema)]
struct BarredNode {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
    /// Time of the last removal, as RFC 3339 writes it.
    since: String,
}

/// The barred nodes, by id.
#[utoipa::path(
    get,
    path = "/api/v1/barred",
    security(("password" = []), ("token" = ["admin"])),
    responses((status = 200, body = BarredNodes), (status = 401, body = Error), (status = 403, body = Error))
)]
pub(super) async fn barred(_: Admin, State(control): State<Arc<Control>>) -> Json<BarredNodes> {
    let barred = control.barred().into_iter().map(|(id, node)| BarredNode {
        id: id.to_string(),
        name: node.name.to_string(),
        since: rfc3339(node.since),
    });
    Json(BarredNodes {
        barred: barred.collect(),
    })
}

fn refused(error: &RemoveError) -> Response {
    let (status, hint) = match error {
        RemoveError::NoPrimary => (StatusCode::CONFLICT, "ask the primary (`--addr`)"),
        RemoveError::Itself(_) => (StatusCode::CONFLICT, "name a relay"),
        RemoveError::Unknown(_) => (
            StatusCode::NOT_FOUND,
            "`relayctl get nodes` shows the nodes, `relayctl forget --list` the barred ones",
        ),
        RemoveError::Full(_) => (
            StatusCode::CONFLICT,
            "to begin anew, stop the primary and remove `cluster-key` and `members.json` from its data directory: all \
             nodes join again",
        ),
        RemoveError::Unsaved(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "see that the data directory can be written; it is tried again every second",
        ),
    };
    Error::new(status, error.to_string(), hint).into_response()
}
