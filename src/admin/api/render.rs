//! `/api/v1/render/{kind}`: the configuration of another server by this node's own settings, for its own socket alone, since
//! it holds passwords.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Error;
use crate::admin::Client;
use crate::admin::access::Admin;
use crate::control::Control;

/// Kind of the file to be rendered.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct Wanted {
    /// Text of the file that is replaced, where there is one: what its server wrote there stays.
    old: Option<String>,
}

/// Content of a rendered file.
#[derive(Serialize, ToSchema)]
pub(super) struct Rendered {
    text: String,
}

/// Renders the configuration of `icecast`, `shoutcast` or `haproxy` by the settings that this node runs with. Only the
/// node's own socket is answered: the file holds passwords.
#[utoipa::path(
    post,
    path = "/api/v1/render/{kind}",
    params(("kind" = String, Path, description = "`icecast`, `shoutcast` or `haproxy`")),
    request_body(content = Option<Wanted>),
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = Rendered),
        (status = 401, body = Error),
        (status = 403, body = Error),
        (status = 404, body = Error),
        (status = 409, body = Error)
    )
)]
pub(super) async fn render(
    _: Admin,
    State(control): State<Arc<Control>>,
    Extension(client): Extension<Client>,
    Path(kind): Path<String>,
    wanted: Option<Json<Wanted>>,
) -> Response {
    if !client.local {
        let error = "rendered files hold passwords, and are given by the node's own socket alone";
        let hint = "ask on its machine: `relayctl render`";
        return Error::new(StatusCode::FORBIDDEN, error, hint).into_response();
    }
    let old = wanted.and_then(|Json(wanted)| wanted.old);
    // Templates are read from the disk, which may hang.
    let rendering = tokio::task::spawn_blocking(move || control.render(&kind, old.as_deref()));
    match rendering.await.ok().flatten() {
        Some(Ok(text)) => Json(Rendered { text }).into_response(),
        Some(Err(error)) => {
            let hint = "correct the settings that it names";
            Error::new(StatusCode::CONFLICT, error, hint).into_response()
        }
        None => {
            let error = "this node renders no files";
            let hint = "name the settings by --config";
            Error::new(StatusCode::NOT_FOUND, error, hint).into_response()
        }
    }
}
