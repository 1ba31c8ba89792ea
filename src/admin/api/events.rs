//! `/api/v1/events`: what happened, as a list or as it happens (server-sent events).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::Error;
use crate::admin::access::Read;
use crate::admin::query::Query;
use crate::base::wall::rfc3339;
use crate::control::{ClusterEvent, Control};
use crate::wire::message::Happening;

/// A comment this often, so that proxies and readers know that the connection lives, and we that the reader does.
const ALIVE: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Serialize, ToSchema)]
pub(super) struct Events {
    events: Vec<Event>,
}

/// One event.
#[derive(Serialize, ToSchema)]
struct Event {
    /// Names it: the node's process and a number that rises. To be given as `after` or `Last-Event-ID`.
    id: String,
    /// When, by the clock of the node where it happened.
    time: String,
    /// The node that says so.
    node: String,
    /// `kind`, and what belongs to it.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    what: Happening,
}

fn shown(event: &ClusterEvent, control: &Control) -> Event {
    Event {
        id: format!("{}-{}", control.identity.incarnation, event.seq),
        time: rfc3339(event.unix_millis),
        node: event.node.to_string(),
        what: event.what.clone(),
    }
}

/// The number in an id of this process; 0 for none, or for one of another process.
fn number(id: Option<&str>, incarnation: u64) -> u64 {
    let known = id.and_then(|id| {
        let (process, number) = id.split_once('-')?;
        (process == incarnation.to_string()).then(|| number.parse().ok())?
    });
    known.unwrap_or(0)
}

/// What happened, the oldest first: on a primary in the whole cluster. With `Accept: text/event-stream` the answer
/// goes on with what happens, each event under its kind.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    params(
        ("after" = Option<String>, Query, description = "only what happened after the event of this id"),
        ("Last-Event-ID" = Option<String>, Header, description = "the same, as browsers send it")
    ),
    security(("password" = []), ("token" = ["read"])),
    responses((status = 200, body = Events), (status = 401, body = Error))
)]
pub(super) async fn events(
    _: Read,
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    query: Query,
) -> Response {
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let after = field("last-event-id").map(str::to_owned);
    let after = after.or_else(|| query.text("after"));
    let after = number(after.as_deref(), control.identity.incarnation);
    let streams = field("accept").is_some_and(|types| types.contains("text/event-stream"));
    if streams {
        return follow(control, after);
    }
    let events = control.events_after(after);
    let events = events.iter().map(|event| shown(event, &control)).collect();
    Json(Events { events }).into_response()
}

struct Follower {
    control: Arc<Control>,
    newest: watch::Receiver<u64>,
    told: u64,
    waiting: VecDeque<Arc<ClusterEvent>>,
}

fn follow(control: Arc<Control>, told: u64) -> Response {
    let follower = Follower {
        newest: control.watch_events(),
        told,
        waiting: VecDeque::new(),
        control,
    };
    let lines = stream::unfold(follower, |mut follower| async move {
        let stopping = follower.control.stopping();
        tokio::select! {
            () = stopping.cancelled() => None,
            lines = follower.next() => Some((Ok::<_, Infallible>(lines), follower)),
        }
    });
    let fields = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (fields, Body::from_stream(lines)).into_response()
}

impl Follower {
    async fn next(&mut self) -> Bytes {
        loop {
            if self.waiting.is_empty() {
                self.newest.borrow_and_update();
                self.waiting = self.control.events_after(self.told).into();
            }
            if let Some(event) = self.waiting.pop_front() {
                self.told = event.seq;
                return block(&shown(&event, &self.control)).into();
            }
            match tokio::time::timeout(ALIVE, self.newest.changed()).await {
                Ok(Ok(())) => {}
                // The sender lives as long as the node; at its end the stream is cancelled.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => return Bytes::from_static(b": alive\n\n"),
            }
        }
    }
}

/// An event of a stream; its data is one line of JSON.
fn block(event: &Event) -> String {
    let json = serde_json::to_value(event).unwrap_or_default();
    let kind = json.get("kind").and_then(|kind| kind.as_str());
    format!(
        "id: {}\nevent: {}\ndata: {json}\n\n",
        event.id,
        kind.unwrap_or("unknown")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_another_process_mean_the_beginning() {
        assert_eq!(number(Some("17-4"), 17), 4);
        assert_eq!(number(Some("16-4"), 17), 0);
        for junk in [None, Some(""), Some("4"), Some("17-"), Some("17-x")] {
            assert_eq!(number(junk, 17), 0, "{junk:?}");
        }
    }

    #[test]
    fn a_block_is_what_browsers_read() {
        let event = Event {
            id: "17-4".into(),
            time: rfc3339(0),
            node: "relay-1".into(),
            what: Happening::Left {
                who: "relay-1".parse().unwrap(),
            },
        };
        assert_eq!(
            block(&event),
            "id: 17-4\nevent: left\ndata: {\"id\":\"17-4\",\"time\":\"1970-01-01T00:00:00.000Z\",\"node\":\"relay-1\",\
             \"kind\":\"left\",\"who\":\"relay-1\"}\n\n"
        );
    }
}
