//! What a listener is told: the audio's head, another node, or that there is no place.

use super::Edge;
use super::health::CORS;
use crate::base::ids::MountId;
use crate::base::text::replaced;
use crate::base::wall::unix_millis;
use crate::engine::Mount;
use crate::telemetry::refuse;
use crate::wire::head::{Method, Request};
use crate::wire::response::{Answer, GUARDS};

/// Smallest and largest metadata interval: a block every few bytes would be a load, a huge one never comes.
const METAINT: std::ops::RangeInclusive<u32> = 1024..=1_048_576;

/// The few clients that need `ICY 200 OK`.
const ICY_CLIENTS: [&str; 4] = [
    "shoutcastsource",
    "Windows-Media-Player",
    "RealMedia",
    "BlackBerry",
];

impl Edge {
    pub(super) fn busy(
        &self,
        request: &Request,
        retry_after: u32,
        reason: &'static str,
    ) -> Vec<u8> {
        let text = format!("no place now ({reason}): try again in {retry_after} s\n");
        self.later(request, 503, retry_after, reason, text)
    }

    /// The answer to an address that has as many listeners, or new ones, as one address may have.
    pub(super) fn too_many(
        &self,
        request: &Request,
        retry_after: u32,
        reason: &'static str,
    ) -> Vec<u8> {
        let text = format!(
            "too many listeners of this address ({reason}): try again in {retry_after} s\n"
        );
        self.later(request, 429, retry_after, reason, text)
    }

    fn later(
        &self,
        request: &Request,
        status: u16,
        retry_after: u32,
        reason: &'static str,
        text: String,
    ) -> Vec<u8> {
        Answer::new(request.version, status)
            .at(unix_millis())
            .lines(CORS)
            .header("Cache-Control", "no-store")
            .header("Retry-After", retry_after.to_string())
            .header("X-Relayctl-Node", self.control.identity.name.as_str())
            .header("X-Relayctl-Reason", reason)
            .lines(GUARDS)
            .body("text/plain; charset=utf-8", text)
    }

    /// The interval for a client that asked for metadata; 0 where it did not, and for Ogg.
    pub(super) fn metaint(&self, request: &Request, mount: &Mount) -> u32 {
        let asked = request
            .headers
            .get("icy-metadata")
            .is_some_and(|value| value.trim() == "1");
        let in_pages = mount
            .ring()
            .section()
            .is_some_and(|section| section.params.codec.is_ogg());
        let webm = mount.content().content_type.ends_with("webm")
            || mount.content().content_type.contains("matroska");
        if !asked || in_pages || webm {
            return 0;
        }
        let own = self.mount_config(&mount.id).metaint;
        own.unwrap_or(self.config.load().metaint)
            .clamp(*METAINT.start(), *METAINT.end())
    }

    pub(super) fn audio_head(
        &self,
        request: &Request,
        mount: &Mount,
        metaint: u32,
        reason: &'static str,
    ) -> Vec<u8> {
        let content = mount.content();
        let agent = request.headers.get("user-agent").unwrap_or("");
        let mut answer = Answer::new(request.version, 200)
            .at(unix_millis())
            .header("Server", concat!("relayctl/", env!("CARGO_PKG_VERSION")))
            .header("Content-Type", &content.content_type)
            .header("Cache-Control", "no-cache, no-store")
            .header("Expires", "Mon, 26 Jul 1997 05:00:00 GMT")
            .header("Pragma", "no-cache")
            .lines(CORS)
            .header("X-Relayctl-Node", self.control.identity.name.as_str())
            .header("X-Relayctl-Reason", reason)
            .headers(
                content
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str())),
            );
        if metaint > 0 {
            answer = answer.header("icy-metaint", metaint.to_string());
        }
        if ICY_CLIENTS.iter().any(|client| agent.contains(client)) {
            answer = answer.icy();
        }
        answer
            .head_only_if(request.method == Method::Head)
            .stream_head()
    }

    pub(super) fn no_mount(&self, request: &Request, id: &MountId) -> Vec<u8> {
        refuse("unknown_mount");
        let id = id.to_string();
        let id = replaced(&id);
        let text = format!("no source on {id}: see / for what is on air\n");
        Answer::new(request.version, 404)
            .at(unix_millis())
            .head_only_if(request.method == Method::Head)
            .lines(CORS)
            .header("Cache-Control", "no-store")
            .header("X-Relayctl-Node", self.control.identity.name.as_str())
            .lines(GUARDS)
            .body("text/plain; charset=utf-8", text)
    }
}

/// 302, one hop, never to be kept by a cache; made in `buffer`. `keep`: another request may follow.
pub(super) fn redirect(
    buffer: Vec<u8>,
    request: &Request,
    location: &str,
    node: &str,
    reason: &str,
    keep: bool,
) -> Vec<u8> {
    Answer::within(buffer, request.version, 302)
        .at(unix_millis())
        .keep_alive_if(keep)
        .head_only_if(request.method == Method::Head)
        .lines(CORS)
        .header("Location", location)
        .lines("Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n")
        .header("X-Relayctl-Node", node)
        .header("X-Relayctl-Reason", reason)
        .body_of("text/plain; charset=utf-8", &[location.as_bytes(), b"\n"])
}
