//! What `deploy/` ships: rendered by the real kubectl and helm, held to schemas and to rules of our own, and
//! started.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod manifests;
mod monitoring;
mod policy;
mod rendered;
mod settings;
mod systemd;
