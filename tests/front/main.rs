//! `deploy/haproxy` and `deploy/nginx`, as they lie there but for their addresses, in the real programs before a real
//! cluster.
//!
//! A listener must stay on for longer than any timeout of the proxy: a stream of 90 s plays through the files as they are,
//! whose timeouts are 75 s. The other scenes cut them to 4 s.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../it/harness/mod.rs"]
#[allow(dead_code)]
mod harness;

mod proxy;
mod scenes;
