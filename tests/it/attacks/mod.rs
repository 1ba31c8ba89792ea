//! Attacks on a node that plays: each costs the attacker's own connection and nothing else.
//!
//! Every scene runs the real binary with fifty listeners who check each byte, sends only to loopback, is bounded, and
//! ends by itself. [`UnderAttack::finish`](crate::harness::under_attack::UnderAttack::finish) fails where a listener
//! lost a byte or `/healthz` went unanswered, and prints the longest gap and the peaks of memory and descriptors. Figures are
//! those of a debug build unless `RELAYCTL_TEST_PROGRAM` names another one:
//!
//! `RELAYCTL_TEST_PROGRAM=$PWD/target/release/relayctl cargo nextest run --test it --no-capture -E 'test(/attacks::/)'`

mod access_log;
mod answers;
mod bodies;
mod browser;
mod bursts;
mod descriptors;
mod disk;
mod guessing;
mod heads;
mod local;
mod log_flood;
mod member;
mod membership;
mod messages;
mod never_reading;
mod pages;
mod panics;
mod rebinding;
mod reload;
mod smuggling;
mod tls;
mod tunnel;
