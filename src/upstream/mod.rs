//! Audio that is pulled: from other nodes, and from foreign servers.
