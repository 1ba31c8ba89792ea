//! What operators order nodes: drain, resume, reflect.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Error;
use crate::admin::access::Admin;
use crate::base::wall::rfc3339;
use crate::control::{Control, OrderError, Progress};
use crate::wire::message::Reflect;

/// Longest spread: a week.
const MAX_SPREAD_SECONDS: f64 = 604_800.0;

/// How a node is to be drained.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct DrainRequest {
    /// Close its listeners in random order evenly over so many seconds; without it they are left until they go.
    spread_seconds: Option<f64>,
}

impl DrainRequest {
    fn spread(&self) -> Result<Option<Duration>, Error> {
        let Some(seconds) = self.spread_seconds else {
            return Ok(None);
        };
        if !(0.0..=MAX_SPREAD_SECONDS).contains(&seconds) {
            let error = format!("`spread_seconds` {seconds} is not between 0 and a week");
            let hint = "write seconds, such as 600";
            return Err(Error::new(StatusCode::BAD_REQUEST, error, hint));
        }
        Ok(Some(Duration::from_secs_f64(seconds)))
    }
}

/// How far a drain is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Drain {
    /// When it began.
    since: String,
    /// Its listeners are closed over so many seconds; none: they are left until they go.
    spread_seconds: Option<f64>,
    /// Listeners then.
    listeners_at_start: u64,
    /// Listeners now.
    listeners_left: u64,
    /// When the last one will have gone, as far as can be said.
    estimated_seconds: Option<f64>,
}

impl From<Progress> for Drain {
    fn from(progress: Progress) -> Self {
        let seconds = |time: Duration| (time.as_secs_f64() * 10.0).round() / 10.0;
        Self {
            since: rfc3339(progress.since_unix_millis),
            spread_seconds: progress.spread.map(seconds),
            listeners_at_start: progress.at_start,
            listeners_left: progress.left,
            estimated_seconds: progress.remaining.map(seconds),
        }
    }
}

/// A node that is drained now.
#[derive(Serialize, ToSchema)]
pub(super) struct Drained {
    drain: Drain,
    /// True if it lasts over a restart of the node that was asked; false for one that ends with the process, and where
    /// the data directory is read-only.
    kept: bool,
}

/// Whether there was a drain to take back.
#[derive(Serialize, ToSchema)]
pub(super) struct Resumed {
    resumed: bool,
    /// False where a read-only data directory brings the drain back after a restart.
    kept: bool,
}

/// Whether a node sends newcomers on.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct ReflectWord {
    /// `on`, `off` or `auto`.
    reflect: String,
}

impl IntoResponse for OrderError {
    fn into_response(self) -> Response {
        let (status, hint) = match &self {
            Self::Unknown(_) => (
                StatusCode::NOT_FOUND,
                "`relayctl get nodes` lists the nodes",
            ),
            Self::NotHere(_) => (
                StatusCode::MISDIRECTED_REQUEST,
                "order it at the primary: --addr, or RELAYCTL_ADDR",
            ),
            Self::Unsaved(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "see that the data directory can be written: it is tried again every second",
            ),
        };
        Error::new(status, self.to_string(), hint).into_response()
    }
}

/// Takes no newcomers to a node from now on. It lasts over restarts, until it is resumed.
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{name}/drain",
    params(("name" = String, Path, description = "its name or id")),
    request_body(content = Option<DrainRequest>),
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = Drained),
        (status = 400, body = Error),
        (status = 401, body = Error),
        (status = 404, body = Error),
        (status = 421, body = Error),
        (status = 500, body = Error)
    )
)]
pub(super) async fn drain(
    _: Admin,
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    request: Option<Json<DrainRequest>>,
) -> Response {
    let spread = match request.unwrap_or_default().spread() {
        Ok(spread) => spread,
        Err(error) => return error.into_response(),
    };
    match control.drain(&name, spread).await {
        Ok(held) => Json(Drained {
            drain: held.outcome.into(),
            kept: held.is_kept,
        })
        .into_response(),
        Err(error) => error.into_response(),
    }
}

/// Takes newcomers to a node again, whoever drained it.
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{name}/resume",
    params(("name" = String, Path, description = "its name or id")),
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = Resumed),
        (status = 401, body = Error),
        (status = 404, body = Error),
        (status = 421, body = Error),
        (status = 500, body = Error)
    )
)]
pub(super) async fn resume(
    _: Admin,
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Response {
    resumed(&control, &name).await
}

async fn resumed(control: &Control, name: &str) -> Response {
    match control.resume(name).await {
        Ok(held) => Json(Resumed {
            resumed: held.outcome,
            kept: held.is_kept,
        })
        .into_response(),
        Err(error) => error.into_response(),
    }
}

/// Makes a node send newcomers on always (`on`), only when it has all the listeners it may have (`off`), or over any
/// limit (`auto`).
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{name}/reflect",
    params(("name" = String, Path, description = "its name or id")),
    request_body = ReflectWord,
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = ReflectWord),
        (status = 400, body = Error),
        (status = 401, body = Error),
        (status = 404, body = Error),
        (status = 421, body = Error),
        (status = 500, body = Error)
    )
)]
pub(super) async fn reflect(
    _: Admin,
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    Json(word): Json<ReflectWord>,
) -> Response {
    let words = [Reflect::On, Reflect::Off, Reflect::Auto];
    let Some(wanted) = words.into_iter().find(|one| one.as_str() == word.reflect) else {
        let error = format!("`{}` is none of `on`, `off`, `auto`", word.reflect);
        let hint = "write one of them as `reflect`";
        return Error::new(StatusCode::BAD_REQUEST, error, hint).into_response();
    };
    match control.reflect(&name, wanted).await {
        Ok(_) => Json(word).into_response(),
        Err(error) => error.into_response(),
    }
}

/// Drains this node until its process ends. The node's own socket needs no credential.
#[utoipa::path(
    post,
    path = "/api/v1/drain",
    request_body(content = Option<DrainRequest>),
    security(("password" = []), ("token" = ["admin"])),
    responses((status = 200, body = Drained), (status = 400, body = Error), (status = 401, body = Error))
)]
pub(super) async fn drain_here(
    _: Admin,
    State(control): State<Arc<Control>>,
    request: Option<Json<DrainRequest>>,
) -> Response {
    match request.unwrap_or_default().spread() {
        Ok(spread) => Json(Drained {
            drain: control.drain_here(spread).into(),
            kept: false,
        })
        .into_response(),
        Err(error) => error.into_response(),
    }
}

/// How far the drain of this node is.
#[derive(Serialize, ToSchema)]
pub(super) struct OwnDrain {
    /// None where it is not drained.
    drain: Option<Drain>,
}

/// How far the drain of this node is. The node's own socket needs no credential.
#[utoipa::path(
    get,
    path = "/api/v1/drain",
    security(("password" = []), ("token" = ["admin"])),
    responses((status = 200, body = OwnDrain), (status = 401, body = Error))
)]
pub(super) async fn own_drain(_: Admin, State(control): State<Arc<Control>>) -> Json<OwnDrain> {
    let drain = control.own_drain().map(|(_, progress)| progress.into());
    Json(OwnDrain { drain })
}

/// Takes newcomers to this node again. The node's own socket needs no credential.
#[utoipa::path(
    post,
    path = "/api/v1/resume",
    security(("password" = []), ("token" = ["admin"])),
    responses((status = 200, body = Resumed), (status = 401, body = Error), (status = 500, body = Error))
)]
pub(super) async fn resume_here(_: Admin, State(control): State<Arc<Control>>) -> Response {
    resumed(&control, control.identity.id.as_str()).await
}
