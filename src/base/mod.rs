//! Words that every layer uses: identities, secrets, units, retry pace, the clock.
//!
//! Must never: do I/O, hold state, or know any other module of ours.

pub mod address;
pub mod charset;
pub mod ids;
pub mod reach;
pub mod reserved;
pub mod retry;
pub mod secret;
pub mod text;
pub mod units;
pub mod wall;
