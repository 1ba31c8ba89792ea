//! The OpenShift cartridge on a simulated platform: a node with gears in directories and on addresses of their
//! own, a broker that runs the hooks, and a real HAProxy with the platform's rules. The program, `ruby`, `bash` and
//! `haproxy` are real; what is simulated is the platform's Ruby, after its developer's guide and its sources.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../it/harness/mod.rs"]
#[allow(dead_code)]
mod harness;

mod balancer;
mod gear;
mod platform;

mod files;
mod hooks;
mod old_bugs;
mod packing;
mod scale_down;
mod scaler;
mod station;
