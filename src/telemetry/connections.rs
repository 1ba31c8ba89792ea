//! Icecast's global counters: connections, requests and sources since the process began.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one kind each, which only rise.
#[derive(Debug, Default)]
pub struct Connections {
    accepted: AtomicU64,
    requests: AtomicU64,
    pages: AtomicU64,
    sources: AtomicU64,
    pulls: AtomicU64,
}

macro_rules! count {
    ($($(#[$doc:meta])* $field:ident, $add:ident;)*) => {
        $(
            $(#[$doc])*
            pub fn $field(&self) -> u64 {
                self.$field.load(Ordering::Relaxed)
            }

            #[doc = concat!("Adds one to [`Self::", stringify!($field), "`].")]
            pub fn $add(&self) {
                self.$field.fetch_add(1, Ordering::Relaxed);
            }
        )*
    };
}

impl Connections {
    count! {
        /// Connections accepted on all ports.
        accepted, add_accepted;
        /// Requests whose head was understood, those of sources left out.
        requests, add_request;
        /// Pages and playlists given out.
        pages, add_page;
        /// Encoders that were let in.
        sources, add_source;
        /// Streams that began to be pulled from another server or node.
        pulls, add_pull;
    }
}
