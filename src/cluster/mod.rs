//! The rules between nodes: who is a member, who is alive, who may speak, and what the others are told.
//!
//! `table` takes events (joins, beats, probes, the clock) and gives effects; `liveness` is one node's life;
//! `snapshot` is what everybody else reads; `copy` is the table as a relay has it from the feed; `parents` says whom a relay pulls from; `keys` signs
//! tokens and credentials; `access` keeps the tokens of the operator, `registry` the ids that joined by them, and
//! `join_rate` says how fast they may.
//!
//! Must never: open a socket, read a clock, draw randomness, or write a file. Time, random bytes and
//! messages come in, effects and plain data go out. Neighbours: `wire::message` (the shapes), `balancer`
//! (reads the snapshot), `admin` (serves the protocol), `app` (runs the effects, keeps the data).

// Numbers of other nodes are added here: a sum that could wrap does not compile. (Overflow checks in release builds
// would end the node instead, and they hold for a whole crate, the fan-out included.)
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod access;
pub mod copy;
pub mod join_rate;
pub mod keys;
pub mod liveness;
pub mod parents;
pub mod registry;
pub mod snapshot;
pub mod table;
