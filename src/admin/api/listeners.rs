//! `/api/v1/listeners`: who listens, with addresses; scope admin only. A primary asks its relays now: lists of
//! listeners never ride in beats.

mod everywhere;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Error;
use crate::admin::access::Admin;
use crate::admin::query::Query;
use crate::base::ids::MountId;
use crate::base::wall::rfc3339;
use crate::control::Control;
use crate::telemetry::SessionRecord;
pub(in crate::admin) use everywhere::{Everybody, everybody, is_at};
pub(super) use everywhere::{base_of, client, gather};

/// Listeners in a page where `limit` does not say.
const PAGE: usize = 1000;

/// Most listeners in a page.
const MAX_PAGE: u64 = 10_000;

/// A page of listeners, by number; every node counts its own.
#[derive(Serialize, Deserialize, Default, ToSchema)]
pub(in crate::admin) struct Listeners {
    listeners: Vec<Listener>,
    /// Where more follow: what `after` has to be for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
    /// Nodes that did not answer: their listeners are missing here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) silent: Vec<String>,
}

impl Listeners {
    /// The nodes of the listeners with this number that are on this page.
    pub(super) fn nodes_of(&self, number: u64) -> impl Iterator<Item = String> {
        let found = self.listeners.iter();
        let found = found.filter(move |listener| listener.id == number);
        found.map(|listener| listener.node.clone())
    }
}

/// A listener on this node.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::admin) struct Listener {
    /// Its number on its node.
    pub(in crate::admin) id: u64,
    /// What it listens to.
    mount: String,
    /// The node that has its connection.
    node: String,
    /// Its address.
    pub(in crate::admin) address: String,
    /// `User-Agent`, cut at 256 bytes.
    pub(in crate::admin) user_agent: String,
    /// `Referer`, cut at 256 bytes.
    referer: String,
    /// When it came.
    since: String,
    /// For how long it has listened.
    pub(in crate::admin) connected_seconds: u64,
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
            since: rfc3339(session.started_unix_millis()),
            connected_seconds: session.duration().as_secs(),
            sent_bytes: session.sent_bytes(),
        }
    }
}

/// The listeners of this node, on a primary those of its relays too, by number. Where more follow, `next` says how to ask for them.
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
    let page = Page {
        mount,
        limit: limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(PAGE),
        after: query.number("after").unwrap_or(0),
    };
    let pages = gather(&control, &page).await;
    Json(merge(pages, page.limit)).into_response()
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(in crate::admin) struct Page {
    /// Only those of this mount.
    pub mount: Option<MountId>,
    /// So many at most.
    pub limit: usize,
    /// Only those with a higher number.
    pub after: u64,
}

/// The listeners of this very node.
pub(in crate::admin) fn own_page(control: &Control, page: &Page) -> Listeners {
    let mut sessions = control.telemetry.sessions();
    sessions.retain(|s| {
        s.id.0 > page.after && page.mount.as_ref().is_none_or(|mount| s.mount == *mount)
    });
    sessions.sort_by_key(|session| session.id);
    let more = sessions.len() > page.limit;
    sessions.truncate(page.limit);
    let next = sessions.last().filter(|_| more).map(|session| session.id.0);
    let node = control.identity.name.as_str();
    let listeners = sessions.iter().map(|s| Listener::of(s, node)).collect();
    Listeners {
        listeners,
        next,
        silent: Vec::new(),
    }
}

/// One page of several: by number, those of one number never parted, so that `next` misses nobody.
fn merge(pages: Vec<Listeners>, limit: usize) -> Listeners {
    let mut whole = Listeners::default();
    let mut more = false;
    for page in pages {
        more |= page.next.is_some();
        whole.listeners.extend(page.listeners);
        whole.silent.extend(page.silent);
    }
    whole
        .listeners
        .sort_by(|a, b| (a.id, &a.node).cmp(&(b.id, &b.node)));
    if let Some(last) = whole
        .listeners
        .get(limit.saturating_sub(1))
        .map(|listener| listener.id)
    {
        let kept = whole
            .listeners
            .partition_point(|listener| listener.id <= last);
        more |= kept < whole.listeners.len();
        whole.listeners.truncate(kept);
        whole.next = more.then_some(last);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(node: &str, ids: &[u64], next: Option<u64>) -> Listeners {
        let listener = |id: &u64| Listener {
            id: *id,
            mount: "/live.mp3".into(),
            node: node.into(),
            address: "127.0.0.1".into(),
            user_agent: String::new(),
            referer: String::new(),
            since: String::new(),
            connected_seconds: 0,
            sent_bytes: 0,
        };
        Listeners {
            listeners: ids.iter().map(listener).collect(),
            next,
            silent: Vec::new(),
        }
    }

    #[test]
    fn pages_of_several_nodes_miss_nobody() {
        let whole = merge(
            vec![page("a", &[1, 2, 3], None), page("b", &[2, 3, 4], Some(4))],
            2,
        );
        let ids: Vec<(u64, &str)> = whole
            .listeners
            .iter()
            .map(|l| (l.id, l.node.as_str()))
            .collect();
        assert_eq!(ids, [(1, "a"), (2, "a"), (2, "b")]);
        assert_eq!(whole.next, Some(2));
        let whole = merge(vec![page("a", &[3], None), page("b", &[3, 4], None)], 10);
        assert_eq!((whole.listeners.len(), whole.next), (3, None));
    }
}
