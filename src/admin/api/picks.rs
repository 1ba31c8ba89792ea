//! `/api/v1/picks`: where the last newcomers were sent, and why.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Error;
use crate::admin::access::Read;
use crate::base::wall::rfc3339;
use crate::control::Control;

/// The last decisions of this node.
#[derive(Serialize, ToSchema)]
pub(super) struct Picks {
    picks: Vec<Pick>,
}

/// A decision.
#[derive(Serialize, ToSchema)]
struct Pick {
    /// When.
    time: String,
    /// For which mount.
    mount: String,
    /// The name of the node that serves; none for a refusal.
    node: Option<String>,
    /// `serve`, `redirect` or `refuse`.
    mode: &'static str,
    /// Why.
    reason: &'static str,
}

/// The last decisions of this node, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/picks",
    security(("password" = []), ("token" = ["read"])),
    responses((status = 200, body = Picks), (status = 401, body = Error))
)]
pub(super) async fn picks(_: Read, State(control): State<Arc<Control>>) -> Json<Picks> {
    let snapshot = control.snapshot();
    let picks = control.picks().into_iter().map(|pick| Pick {
        time: rfc3339(pick.unix_millis),
        mount: pick.mount.to_string(),
        node: pick.node.map(|id| {
            let known = snapshot.find(&id);
            known.map_or_else(|| id.to_string(), |node| node.name.to_string())
        }),
        mode: pick.mode,
        reason: pick.reason.as_str(),
    });
    Json(Picks {
        picks: picks.collect(),
    })
}
