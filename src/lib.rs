//! relayctl: one static binary that turns any number of machines into one radio station.
//!
//! # The layers
//!
//! A module imports only from layers below its own; two modules of one layer never see each other.
//! `tests/layers.rs` reads the groups below and the imports of every file, and fails on an upward or a
//! circular one.
//!
//! # The path of a byte
//!
//! Down to a listener: `edge::front` → `wire::sniff` → `wire::head` → `edge::route` →
//! `balancer` (pure, no I/O) → `edge::serve` → `engine::fanout` (a socket and a cursor) → `engine::ring`.
//!
//! Up from a source: `edge::source` → `engine::intake` → `engine::format` (whole frames) → `engine::ring`.
//!
//! Between nodes: `admin::cluster` (the serving side) ⇄ `upstream::pull` (the pulling side), every byte
//! under the same (mount, epoch, offset).
//!
//! Control, where no audio passes: `agent` (a relay's beats) → `admin::cluster` → `control` → `cluster::table`
//! → snapshot → `balancer`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

// L9: `src/main.rs`

// L8
pub mod cli;

// L7
pub mod app;

// L6
pub mod edge;

// L5
pub mod admin;
pub mod agent;

// L4
pub mod control;

// L3
pub mod balancer;
pub mod kubernetes;
pub mod outside;
pub mod silence;
pub mod upstream;

// L2
pub mod cluster;
pub mod discovery;
pub mod engine;

// L1
pub mod render;
pub mod settings;
pub mod telemetry;
pub mod throttle;
pub mod wire;

// L0
pub mod base;
