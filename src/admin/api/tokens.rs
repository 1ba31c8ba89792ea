//! `/api/v1/tokens`: what opens this node, besides the passwords.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Error;
use crate::admin::access::Admin;
use crate::base::wall::rfc3339;
use crate::cluster::access::{Scope, TokenRecord};
use crate::control::{Control, Role};

/// Longest body that asks for a token, in bytes.
pub const MAX_BODY: usize = 1024;

/// What to do where tokens cannot be saved.
const UNSAVED: &str = "tokens are kept in the data directory: see that it can be written";

/// The tokens that were made here.
#[derive(Serialize, ToSchema)]
pub(super) struct Tokens {
    tokens: Vec<Token>,
}

/// A token, without its secret.
#[derive(Serialize, ToSchema)]
struct Token {
    /// Its public part.
    id: String,
    /// `join`, `read` or `admin`.
    scope: &'static str,
    /// When it was made.
    created: String,
    /// True if it serves one node only.
    once: bool,
    /// The node that used it up.
    used_by: Option<String>,
}

impl Token {
    fn of(record: &TokenRecord) -> Self {
        Self {
            id: record.id.clone(),
            scope: record.scope.as_str(),
            created: rfc3339(record.created),
            once: record.once,
            used_by: record.used.as_ref().map(ToString::to_string),
        }
    }
}

/// The tokens that were made here, without their secrets.
#[utoipa::path(
    get,
    path = "/api/v1/tokens",
    security(("password" = []), ("token" = ["admin"])),
    responses((status = 200, body = Tokens), (status = 401, body = Error), (status = 403, body = Error))
)]
pub(super) async fn list(_: Admin, State(control): State<Arc<Control>>) -> Json<Tokens> {
    let tokens = control.list_tokens();
    Json(Tokens {
        tokens: tokens.iter().map(Token::of).collect(),
    })
}

/// What a new token is for.
#[derive(Deserialize, ToSchema)]
pub(super) struct Wish {
    /// `join`, `read` or `admin`.
    scope: String,
}

/// A new token; its text is shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct Made {
    /// The token, secret and all.
    token: String,
    #[serde(flatten)]
    record: Token,
}

/// Makes a token. One of scope `join` serves one node, and is made on the primary.
#[utoipa::path(
    post,
    path = "/api/v1/tokens",
    request_body = Wish,
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 201, body = Made),
        (status = 400, body = Error),
        (status = 401, body = Error),
        (status = 403, body = Error),
        (status = 409, body = Error),
        (status = 500, body = Error)
    )
)]
pub(super) async fn create(_: Admin, State(control): State<Arc<Control>>, body: Body) -> Response {
    let scope = match wished(body).await {
        Ok(scope) => scope,
        Err(why) => {
            let hint = "send `{\"scope\": \"join\"}`, or read or admin";
            return Error::new(StatusCode::BAD_REQUEST, why, hint).into_response();
        }
    };
    if scope == Scope::Join && control.identity.role == Role::Relay {
        let hint = "make it on the primary: that is what nodes join";
        let error = "this node is a relay, and knows no join tokens";
        return Error::new(StatusCode::CONFLICT, error, hint).into_response();
    }
    match control.create_token(scope).await {
        Ok((record, secret)) => {
            tracing::info!(id = record.id, %scope, "token made");
            let made = Made {
                token: secret.reveal().to_owned(),
                record: Token::of(&record),
            };
            (StatusCode::CREATED, Json(made)).into_response()
        }
        Err(error) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Error::new(status, format!("{error:#}"), UNSAVED).into_response()
        }
    }
}

async fn wished(body: Body) -> Result<Scope, String> {
    let bytes = to_bytes(body, MAX_BODY)
        .await
        .map_err(|error| error.to_string())?;
    let wish: Wish = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    wish.scope
        .parse()
        .map_err(|error: crate::cluster::access::AccessError| error.to_string())
}

/// A token that opens nothing any more.
#[derive(Serialize, ToSchema)]
pub(super) struct Revoked {
    /// Its public part.
    revoked: String,
    /// The nodes that came by it. They stay members: `relayctl forget NODE --bar` removes them.
    nodes: Vec<Member>,
}

/// A node that came by a token.
#[derive(Serialize, ToSchema)]
struct Member {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
}

/// Takes a token back. The nodes that came by it stay members, and are named in the answer.
#[utoipa::path(
    delete,
    path = "/api/v1/tokens/{id}",
    params(("id" = String, Path, description = "its public part")),
    security(("password" = []), ("token" = ["admin"])),
    responses(
        (status = 200, body = Revoked),
        (status = 401, body = Error),
        (status = 403, body = Error),
        (status = 404, body = Error),
        (status = 500, body = Error)
    )
)]
pub(super) async fn revoke(
    _: Admin,
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Response {
    match control.revoke_token(&id).await {
        Ok(true) => {
            tracing::info!(id, "token revoked");
            let nodes = control.came_by(&id).into_iter().map(|(id, name)| Member {
                id: id.to_string(),
                name: name.to_string(),
            });
            Json(Revoked {
                nodes: nodes.collect(),
                revoked: id,
            })
            .into_response()
        }
        Ok(false) => {
            let hint = "`relayctl token list` shows what there is";
            let error = format!("no token `{id}` was made here");
            Error::new(StatusCode::NOT_FOUND, error, hint).into_response()
        }
        Err(error) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            let error = format!(
                "token `{id}` opens nothing until this node restarts, and would then: {error}"
            );
            let hint = "see that the data directory can be written (it is tried again every second), and revoke once more";
            Error::new(status, error, hint).into_response()
        }
    }
}
