//! Connections that are passed through to an engine that is not ours (`outside`), one to one: listeners (`listener`)
//! and sources (`source`).
//!
//! Must never: hold more of a connection than one buffer, judge a listener otherwise than for our own engine, or end
//! one side without the other. What is true of a request is asked where our own engine's requests ask it
//! (`edge::serve`, `edge::source`); here the bytes are carried.

mod listener;
mod source;
