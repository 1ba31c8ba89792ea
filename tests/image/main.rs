//! What is shipped, started: the image built by a real `dockerd`, containers of it on private networks, the compose file, every
//! container of the manifests.
//!
//! No registry is reached, so every other image is made here, under the name that our files ask for, out of Debian's
//! packages as they are installed on this machine. Two differences from the world follow, and the scenes say so where they
//! matter: the builder is Debian's C library and this machine's Rust in the place of Alpine's (the binary is as static, by
//! glibc instead of musl), and a program of ours takes Grafana's place, which is in no Debian package.
//!
//! Must never: use the machine's own Docker engine, its networks or its ports. Every scene has an engine and a network of
//! its own, and ends both.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../it/harness/mod.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../deploy/rendered.rs"]
#[allow(dead_code)]
mod rendered;

mod artefact;
mod booted;
mod debian;
mod docker;
mod files;
mod place;

mod bare;
mod compose;
mod package;
mod pods;
mod scratch;
mod service;
mod station;
