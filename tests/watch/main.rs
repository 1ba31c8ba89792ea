//! `deploy/prometheus` and `deploy/grafana`: rules by `promtool`, and every query of the rules and of the dashboard asked of a
//! real Prometheus that scrapes a real cluster. Grafana itself is in no Debian package: the dashboard's form is checked here,
//! and no Grafana draws it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../it/harness/mod.rs"]
#[allow(dead_code)]
mod harness;

mod dashboard;
mod prometheus;
mod rules;
