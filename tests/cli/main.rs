//! The real binary from outside: words in, text and exit codes out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod demo;
mod harness;
mod node;
mod words;
