//! What is on the wire, read and written as pure functions over bytes: request and response heads, bodies,
//! ICY metadata, credentials, the PROXY protocol, and what nodes say to each other.
//!
//! Must never: open a socket, spawn, read the clock, or panic on any input. Neighbours: everything above.

pub mod basic;
mod block;
pub mod body;
pub mod bounds;
pub mod forwarded;
pub mod frame;
pub mod head;
pub mod headers;
pub mod icy;
pub mod message;
pub mod proxy_protocol;
pub mod response;
pub mod sniff;
pub mod title;
pub mod tls;
pub mod upgrade;
pub mod validity;
