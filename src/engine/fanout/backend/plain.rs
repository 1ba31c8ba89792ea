//! A system call for each send.

use std::io::{IoSlice, Write};

use super::super::batch::{Job, Sent};
use super::super::plan::MAX_SLICES;
use super::Sources;

/// Sends each job; a socket that takes nothing now says so at once.
pub(super) fn send(sources: &Sources<'_>, jobs: &mut [Job]) {
    for job in jobs {
        let entry = sources.entries.get(job.key);
        let view = sources.views.get(job.view);
        let (Some(entry), Some(view)) = (entry, view) else {
            continue;
        };
        let mut slices = [IoSlice::new(&[]); MAX_SLICES + 2];
        let count = job.plan.slices(view.chain(), &mut slices);
        let mut socket = &entry.socket;
        job.result = Sent::of(match slices.get(..count).unwrap_or(&[]) {
            [only] => socket.write(only),
            several => socket.write_vectored(several),
        });
    }
}
