//! Audio that is pulled: from other nodes, byte for byte under the same addresses, and from foreign servers.
//!
//! `stream` is the serving side of the stream between nodes, `pull` the asking side; `foreign` relays a plain
//! Icecast or Shoutcast server; `probe` fetches the URL that a relay advertises. Must never: choose parents (they are given), serve a listener, or keep audio
//! outside the engine's ring. Neighbours: `app` and `agent` start pulls, `admin` answers with
//! [`stream::frames`].

mod ask;
mod client;
pub mod foreign;
mod gathered;
mod playing;
pub mod probe;
pub mod pull;
mod pulls;
mod report;
pub mod stream;
#[cfg(test)]
mod testing;

pub use ask::{Ask, AskError, STREAM_PATH};
pub use pulls::{Failover, NotFed, PullState, Pulls, Route};

/// What this program calls itself towards other servers.
pub(crate) const AGENT: &str = concat!("relayctl/", env!("CARGO_PKG_VERSION"));
