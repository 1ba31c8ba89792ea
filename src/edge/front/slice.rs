//! The scheduler's slice of the thread that accepts.
//!
//! A fan-out shard works for milliseconds without a rest. Where it shares its core with this thread, a connection that
//! comes then is accepted when the shard's slice of the processor is over (1.4 to 4 ms) and not sooner, unless the one
//! who is woken has a shorter slice: then it goes first, as soon as the shard's system call ends. Linux 6.12 and
//! later do so ("sched/eevdf: Allow shorter slices to wakeup-preempt"); older ones hear it and change nothing.

/// The shortest that Linux takes, in nanoseconds.
const SHORTEST: u64 = 100_000;

/// Asks for the shortest slice for the calling thread. It takes no privilege; where it is not to be had everything stays as
/// it was, and so it does for a thread that somebody gave another policy than the usual one.
pub(super) fn shorten() {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::shorten() {
        tracing::debug!(%error, "the thread that accepts keeps the usual slice");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    use libc::{SCHED_OTHER, SYS_sched_getattr, SYS_sched_setattr, c_long, sched_attr, syscall};

    use super::SHORTEST;

    pub(super) fn shorten() -> io::Result<()> {
        let mut asked = read()?;
        if i32::try_from(asked.sched_policy) == Ok(SCHED_OTHER) {
            asked.sched_runtime = SHORTEST;
            // SAFETY: 0 is the calling thread, and the kernel reads as many bytes as `size` says, which `read` has from the
            // kernel and which is no more than there are.
            answer(unsafe { syscall(SYS_sched_setattr, 0, &raw const asked, 0) })?;
        }
        Ok(())
    }

    /// The calling thread's policy, niceness and slice, so that only the last is changed.
    pub(super) fn read() -> io::Result<sched_attr> {
        // SAFETY: integers alone, for which zero is a value.
        let mut found: sched_attr = unsafe { std::mem::zeroed() };
        let room = size_of::<sched_attr>();
        // SAFETY: 0 is the calling thread, and the kernel writes no more than `room` bytes.
        answer(unsafe { syscall(SYS_sched_getattr, 0, &raw mut found, room, 0) })?;
        Ok(found)
    }

    fn answer(result: c_long) -> io::Result<()> {
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_slice_is_shortened_and_nothing_else() {
        // A thread of its own: the test's is the harness's.
        let thread = std::thread::spawn(|| {
            let before = linux::read()?;
            shorten();
            Ok::<_, std::io::Error>((before, linux::read()?))
        });
        let (before, after) = match thread.join().unwrap() {
            Ok(found) => found,
            Err(error) => return println!("no slices are to be had here: {error}"),
        };
        assert_eq!(before.sched_policy, after.sched_policy);
        assert_eq!(before.sched_nice, after.sched_nice);
        assert_eq!(before.sched_flags, after.sched_flags);
        // A kernel before 6.12 has no slices and says 0 of both.
        assert!(
            after.sched_runtime == SHORTEST
                || (before.sched_runtime, after.sched_runtime) == (0, 0),
            "{} and {}",
            before.sched_runtime,
            after.sched_runtime
        );
    }
}
