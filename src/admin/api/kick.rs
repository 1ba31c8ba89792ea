//! Ending a listener, on whatever node its connection is. Numbers count on each node: where several nodes have one
//! of the same number, the node has to be named.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use super::Error;
use super::listeners::{Page, base_of, client, gather};
use crate::admin::access::Admin;
use crate::admin::query::Query;
use crate::base::ids::ListenerId;
use crate::cluster::snapshot::{NodeView, State as NodeState};
use crate::control::Control;
use crate::discovery::read_at_most;

/// Longest answer of a relay that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// A listener that was told to go.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(in crate::admin) struct Kicked {
    /// Its number.
    kicked: u64,
    /// The node that had its connection.
    node: String,
}

/// Closes a listener's connection; a primary finds the node that has it.
#[utoipa::path(
    delete,
    path = "/api/v1/listeners/{id}",
    params(
        ("id" = u64, Path, description = "its number on its node"),
        ("node" = Option<String>, Query, description = "the node's name or id, where several have that number")
    ),
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = Kicked),
        (status = 401, body = Error),
        (status = 403, body = Error),
        (status = 404, body = Error),
        (status = 409, body = Error),
        (status = 502, body = Error)
    )
)]
pub(super) async fn end(
    admin: Admin,
    state: State<Arc<Control>>,
    path: Path<String>,
    query: Query,
) -> Response {
    kick(admin, state, path, query).await
}

/// The same, for clients that have no DELETE.
#[utoipa::path(
    post,
    path = "/api/v1/listeners/{id}/kick",
    params(
        ("id" = u64, Path, description = "its number on its node"),
        ("node" = Option<String>, Query, description = "the node's name or id, where several have that number")
    ),
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = Kicked),
        (status = 401, body = Error),
        (status = 403, body = Error),
        (status = 404, body = Error),
        (status = 409, body = Error),
        (status = 502, body = Error)
    )
)]
pub(super) async fn kick(
    _: Admin,
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
    query: Query,
) -> Response {
    let Ok(number) = id.parse::<u64>() else {
        return nobody(&id, "this node").into_response();
    };
    let named = query.text("node").filter(|name| !name.is_empty());
    let ended = match named {
        Some(name) => at(&control, number, &name).await,
        None => anywhere(&control, number).await,
    };
    match ended {
        Ok(kicked) => Json(kicked).into_response(),
        Err(error) => error.into_response(),
    }
}

/// Ends one of this very node.
pub(in crate::admin) fn own(control: &Control, number: u64) -> Option<Kicked> {
    let session = control.telemetry.session(ListenerId(number))?;
    session.kick();
    control.engine.sweep();
    Some(Kicked {
        kicked: number,
        node: control.identity.name.to_string(),
    })
}

/// On the node of this name or id.
async fn at(control: &Control, number: u64, name: &str) -> Result<Kicked, Error> {
    let identity = &control.identity;
    if name == identity.name.as_str() || name == identity.id.as_str() {
        return own(control, number).ok_or_else(|| nobody(&number.to_string(), name));
    }
    let snapshot = control.snapshot();
    match snapshot.named(name) {
        Some(node) if node.state == NodeState::Dead => Err(dead(control, node)),
        Some(node) => ask(control, node, number).await,
        None => Err(Error::new(
            StatusCode::NOT_FOUND,
            format!("no node `{name}`"),
            "`relayctl get nodes` shows them",
        )),
    }
}

fn dead(control: &Control, node: &NodeView) -> Error {
    let trouble = control.trouble_of(node, Instant::now());
    Error::new(
        StatusCode::CONFLICT,
        format!(
            "`{}` is {}: its listeners' connections ended with it, and none can be kicked",
            node.name,
            trouble.unwrap_or_default()
        ),
        "`relayctl get listeners` shows who is here",
    )
}

/// On the one node that has a listener of this number.
async fn anywhere(control: &Control, number: u64) -> Result<Kicked, Error> {
    let page = Page {
        mount: None,
        limit: 1,
        after: number.saturating_sub(1),
    };
    let (mut holders, mut silent) = (Vec::new(), Vec::new());
    for page in gather(control, &page).await {
        holders.extend(page.nodes_of(number));
        silent.extend(page.silent);
    }
    match &holders[..] {
        [one] => at(control, number, one).await,
        [] if silent.is_empty() => Err(nobody(&number.to_string(), "any node")),
        [] => Err(Error::new(
            StatusCode::NOT_FOUND,
            format!(
                "no listener `{number}` on the nodes that answer; {} did not",
                silent.join(", ")
            ),
            "`relayctl get listeners` shows who is here",
        )),
        several => Err(Error::new(
            StatusCode::CONFLICT,
            format!(
                "listener `{number}` is on several nodes: {}",
                several.join(", ")
            ),
            format!(
                "name the node: `relayctl kick {}/{number}`",
                several.first().map_or("", String::as_str)
            ),
        )),
    }
}

/// Ends a listener of another node.
pub(in crate::admin) async fn ask(
    control: &Control,
    node: &NodeView,
    number: u64,
) -> Result<Kicked, Error> {
    let failed = |why: String| {
        Error::new(
            StatusCode::BAD_GATEWAY,
            format!("`{}` did not end its listener: {why}", node.name),
            "ask that node itself (`--addr`)",
        )
    };
    let base = base_of(node);
    let path = format!("/cluster/v1/kick?id={number}");
    let url = Url::parse(&format!("{base}{path}")).map_err(|error| failed(error.to_string()))?;
    let client = client().map_err(|error| failed(error.to_string()))?;
    let asking = client
        .post(url)
        .bearer_auth(control.question_token(&node.id, "POST", &path));
    let answer = asking.send().await;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    match answer.status() {
        StatusCode::OK => {
            let bytes = read_at_most(answer, MAX_ANSWER).await;
            let bytes = bytes.map_err(|error| failed(error.to_string()))?;
            serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))
        }
        StatusCode::NOT_FOUND => Err(nobody(&number.to_string(), node.name.as_str())),
        status => Err(failed(format!("it answered {status}"))),
    }
}

pub(in crate::admin) fn nobody(number: &str, whence: &str) -> Error {
    Error::new(
        StatusCode::NOT_FOUND,
        format!("no listener `{number}` on {whence}"),
        "`relayctl get listeners` shows who is here; numbers count on each node",
    )
}
