//! `deploy/haproxy` and `deploy/nginx`, as they lie there but for their addresses, in the real programs before a real
//! cluster.
//!
//! A listener must stay on for longer than any timeout of the proxy. With the shipped 75 s that takes a stream of
//! 90 s; here the timeouts are cut to 4 s and the stream plays 15 s, which proves the same of the same directives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../it/harness/mod.rs"]
#[allow(dead_code)]
mod harness;

mod proxy;
mod scenes;
