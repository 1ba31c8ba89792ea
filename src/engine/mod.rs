//! The audio: mounts, their rings, what comes in and the fan-out. The only door is [`Engine`].
//!
//! Must never: parse a request, know a node or a balancer, or wait for anything but bytes.

pub mod format;
