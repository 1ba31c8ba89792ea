//! The real program beside real peers: YAML in, bytes out.
//!
//! Each file is a room of scenes; each scene starts its own nodes on free ports with folders of their own.
//! A program that is missing fails its scene and names the Debian package.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

mod admission;
mod attacks;
mod bad_input;
mod balance;
mod client_address;
mod data_port_tls;
mod drain;
mod encoders;
mod engine;
mod engine_children;
mod events;
mod failover;
mod fallback;
mod fields;
mod foreign;
mod fronts;
mod half_closed;
mod haproxy;
mod health;
mod joining;
mod known_bugs;
mod lasting;
mod listeners;
mod long_link;
mod metadata;
mod mounts;
mod names;
mod on_demand;
mod operating;
mod overload;
mod pacing;
mod parents;
mod player_names;
mod players;
mod public_numbers;
mod reach;
mod ready;
mod refusals;
mod relays;
mod replacing;
mod series;
mod shoutcast;
mod silence;
mod silence_acts;
mod slow;
mod sound;
mod sources;
mod starting;
mod storm;
mod tags;
mod tls;
mod tokens;
mod tree;
mod troubles;
mod upgrade;
