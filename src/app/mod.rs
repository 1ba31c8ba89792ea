//! The composition root: settings to rooms, bottom up; news between them; down again in order.
//!
//! Must never: hold a rule. Below it everything; above it only `cli`.

mod announce;
mod configs;
mod ending;
mod fixed;
mod foreign;
mod keeper;
mod kubernetes;
pub mod limits;
mod local;
mod names;
mod node;
mod outside;
mod own_address;
mod parts;
mod reload;
pub mod rendered;
mod rooms;
mod service;
mod signals;
mod silence;
pub mod surface;
mod taps;
pub mod tls;

pub use ending::Refused;
pub use keeper::RENDERED_DIR;
pub use local::{SOCKET_FILE, URL_FILE};
pub use node::{Choose, Launch, Node, run};
