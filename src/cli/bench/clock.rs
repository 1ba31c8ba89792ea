//! The machine's own clock, the same for every process, and waits that a Ctrl-C ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;

/// Set once the bench was told to end.
static TOLD_TO_END: AtomicBool = AtomicBool::new(false);

/// How often a wait looks up.
const STEP: Duration = Duration::from_millis(20);

/// Microseconds since the machine started.
pub(super) fn now_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

/// Ends every wait of this process.
pub(super) fn tell_to_end() {
    TOLD_TO_END.store(true, Ordering::Relaxed);
}

/// True once [`tell_to_end`] was called.
pub(super) fn is_told_to_end() -> bool {
    TOLD_TO_END.load(Ordering::Relaxed)
}

/// Waits.
///
/// # Errors
/// At once where the bench was told to end.
pub(super) fn pause(time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    loop {
        if is_told_to_end() {
            bail!("interrupted");
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(STEP));
    }
}

/// Asks until there is an answer.
///
/// # Errors
/// Where there is none within `patience`, or asking fails for good.
pub(super) fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if begin.elapsed() > patience {
            bail!("{what}: not within {patience:?}");
        }
        pause(STEP)?;
    }
}
