//! Audio that is pulled: from other nodes, and from foreign servers.
pub mod probe;
pub mod pull;
pub mod stream;
