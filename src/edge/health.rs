//! The health paths and `/`: answered from process start, outside every limit, never logged.

use std::time::Instant;

use serde_json::json;

use super::Edge;
use super::connection::plain;
use super::route::{HealthPath, Route};
use super::upgrade::{Link, offered_if};
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::engine::MountState;
use crate::telemetry::refuse;
use crate::wire::head::{Method, Request, Version};
use crate::wire::response::{Answer, GUARDS};

/// What browsers may send and read across origins.
pub(super) const CORS: &str = "Access-Control-Allow-Origin: *\r\n\
    Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
    Access-Control-Allow-Headers: Origin, Accept, Content-Type, Icy-MetaData, Range\r\n\
    Access-Control-Expose-Headers: Icy-MetaInt, Icy-Br, Icy-Description, Icy-Genre, Icy-Name, Icy-Url, \
    Ice-Audio-Info, X-Relayctl-Node\r\n";

/// A mount without a byte for this long has no source, whatever its connection says.
const FRESH: std::time::Duration = std::time::Duration::from_secs(5);

impl Edge {
    /// The answer to what needs neither audio nor anybody else; `None` for every other route. `keep`: another
    /// request may follow.
    pub(super) fn at_once(
        &self,
        request: &Request,
        route: &Route,
        link: Link,
        keep: bool,
    ) -> Option<Vec<u8>> {
        match route {
            Route::Health(path) => Some(self.health(request, *path, keep)),
            Route::Page => {
                self.control.telemetry.connections.add_page();
                let page = crate::admin::page(&self.control);
                Some(finite(request, 200, "text/html; charset=utf-8", page, keep))
            }
            Route::Options if self.takes_upgrade(request, route, link) => None,
            Route::Options => Some(self.options(request, link, keep)),
            Route::Refused {
                status,
                text,
                reason,
            } => {
                refuse(reason);
                Some(plain(request.version, *status, text))
            }
            Route::Source(_) | Route::Listen(_) | Route::Api => None,
        }
    }

    fn health(&self, request: &Request, path: HealthPath, keep: bool) -> Vec<u8> {
        let (healthy, body) = match path {
            HealthPath::Health => self.health_body(),
            HealthPath::Alive => (true, json!({"status": "ok"})),
            HealthPath::Ready => self.ready_body(),
            HealthPath::Source => self.source_body(request),
        };
        let status = if healthy { 200 } else { 503 };
        finite(request, status, "application/json", body.to_string(), keep)
    }

    fn health_body(&self) -> (bool, serde_json::Value) {
        let draining = self.control.is_draining();
        let mut body = json!({
            "status": if draining { "draining" } else { "ok" },
            "role": self.control.identity.role.as_str(),
            "node": self.control.identity.id.as_str(),
            "source": self.source_word(),
        });
        if let (Some(waiting), Some(fields)) = (self.control.waiting(), body.as_object_mut()) {
            fields.insert("membership".into(), json!("waiting to join"));
            fields.insert("primary".into(), json!(waiting.primary));
            fields.insert("reason".into(), json!(waiting.reason));
        }
        // One that is down is started again, or somebody else's: replacing this node would help nobody.
        if let (Some(outside), Some(fields)) = (&self.control.outside, body.as_object_mut()) {
            let status = outside.status();
            let kind = status.kind.map(crate::outside::Kind::as_str);
            fields.insert(
                "engine".into(),
                json!({"kind": kind, "state": status.state.as_str()}),
            );
        }
        (!draining, body)
    }

    fn ready_body(&self) -> (bool, serde_json::Value) {
        let why = self.control.not_ready();
        let body =
            json!({"status": if why.is_none() { "ready" } else { "not ready" }, "reason": why});
        (why.is_none(), body)
    }

    /// `waiting` before any source, `live`, or `lost`.
    fn source_word(&self) -> &'static str {
        let mounts = self.control.engine.mounts();
        if mounts.iter().any(|mount| mount.state() == MountState::Live) {
            return "live";
        }
        if self.control.telemetry.received_bytes() > 0 {
            "lost"
        } else {
            "waiting"
        }
    }

    fn source_body(&self, request: &Request) -> (bool, serde_json::Value) {
        let asked = request.query_value("mount");
        let wanted = asked.as_deref().map(MountId::new);
        let mounts: Vec<_> = match wanted {
            Some(Ok(id)) => self.control.engine.mount(&id).into_iter().collect(),
            Some(Err(_)) => Vec::new(),
            None => self.control.engine.mounts(),
        };
        let now = Instant::now();
        let flowing = |idle: std::time::Duration| idle < FRESH;
        let healthy = mounts
            .iter()
            .any(|m| m.state() == MountState::Live && flowing(m.idle(now)));
        // Who knows a hidden mount asks for it by name.
        let is_shown = |id: &MountId| asked.is_some() || !self.control.is_hidden(id);
        let list: Vec<_> = mounts
            .iter()
            .filter(|mount| is_shown(&mount.id))
            .map(|m| json!({"name": m.id, "state": m.state().as_str(), "idle_seconds": m.idle(now).as_secs_f64()}))
            .collect();
        (
            healthy,
            json!({"status": if healthy { "live" } else { "lost" }, "mounts": list}),
        )
    }
}

/// The answer to OPTIONS where there is no page.
pub(super) fn options(version: Version, keep: bool, offers_tls: bool) -> Vec<u8> {
    let answer = Answer::new(version, 204)
        .at(unix_millis())
        .keep_alive_if(keep)
        .lines(CORS)
        .header("Allow", "GET, HEAD, OPTIONS, PUT, SOURCE")
        .header("Access-Control-Max-Age", "86400");
    offered_if(offers_tls, answer).empty()
}

fn finite(request: &Request, status: u16, content_type: &str, body: String, keep: bool) -> Vec<u8> {
    let answer = Answer::new(request.version, status)
        .at(unix_millis())
        .keep_alive_if(keep)
        .lines(CORS)
        .lines(GUARDS)
        .lines("Cache-Control: no-store\r\n");
    match request.method {
        Method::Head => answer.head_only().body(content_type, body),
        Method::Options => answer
            .header("Allow", "GET, HEAD, OPTIONS")
            .body(content_type, ""),
        _ => answer.body(content_type, body),
    }
}
