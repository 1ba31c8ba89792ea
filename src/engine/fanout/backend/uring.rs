//! A whole batch of sends in one system call, by io_uring. The only `unsafe` of the fan-out.
//!
//! # Why this is sound
//!
//! The kernel reads the sockets' numbers, the bytes and (where a send has several pieces) the message headers
//! while [`Uring::send`] runs, and never after it. Three things make that so:
//!
//! 1. Every pointer given to the kernel points into what `send` borrows or owns for its whole duration: the
//!    segments that the tick's views hold by `Arc`, the blocks and heads that the jobs' plans hold, the statics
//!    of empty blocks, and `self.slices` and `self.headers`, which are filled before the first pointer is taken and
//!    are not touched again.
//! 2. `send` returns only when as many completions came as sends were submitted. What the kernel did not take
//!    is not under way: it lies in the submission queue, which is dropped with the ring.
//! 3. Should the kernel refuse to say what became of sends that it took, the process ends (`abort`): there is no
//!    way on that would be sound.
//!
//! `MSG_DONTWAIT` makes the kernel answer at once instead of parking a send at a full socket, so the wait for
//! completions is no wait for a socket; readiness comes from epoll as it does for plain sends.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::Fd;
use io_uring::{IoUring, Probe, opcode, squeue};

use super::super::batch::{Job, Sent};
use super::super::plan::MAX_SLICES;
use super::Sources;

/// Sends in one submission at most.
pub(super) const BATCH: usize = 512;

/// Answer at once, and raise no signal for a socket that is closed.
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// See the module.
pub(in super::super) struct Uring {
    ring: IoUring,
    /// The pieces of all sends of a batch, one after the other.
    slices: Vec<libc::iovec>,
    /// One for each send of several pieces.
    headers: Vec<libc::msghdr>,
    /// Of each job: its first piece, how many there are, and its socket.
    spans: Vec<Span>,
    /// The kernel refused to go on; the caller shall take plain sends.
    broken: Option<io::Error>,
}

// SAFETY: the raw pointers in `slices` and `headers` are used only within one call of `send`; between two calls
// they are dead values.
unsafe impl Send for Uring {}

#[derive(Debug, Clone, Copy)]
struct Span {
    job: usize,
    socket: RawFd,
    first: usize,
    count: usize,
}

impl Uring {
    /// A ring for this thread alone.
    ///
    /// # Errors
    /// The kernel's, where it has no io_uring, forbids it, or lacks what is used here.
    pub fn new() -> io::Result<Self> {
        // The fewest interruptions first; older kernels know less and refuse what they do not know.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .build(BATCH as u32)
            .or_else(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => IoUring::new(BATCH as u32),
                _ => Err(error),
            })?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let known = [opcode::Send::CODE, opcode::SendMsg::CODE];
        if !known.iter().all(|code| probe.is_supported(*code)) {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "this kernel's io_uring cannot send",
            ));
        }
        Ok(Self {
            ring,
            slices: Vec::new(),
            headers: Vec::new(),
            spans: Vec::new(),
            broken: None,
        })
    }

    /// Why it can be used no more, where that is so.
    pub fn broken(&mut self) -> Option<io::Error> {
        self.broken.take()
    }

    /// Makes the sends, at most [`BATCH`], and fills in every job's result.
    pub fn send(&mut self, sources: &Sources<'_>, jobs: &mut [Job]) {
        self.slices.clear();
        self.headers.clear();
        self.spans.clear();
        for (number, job) in jobs.iter_mut().enumerate() {
            // What the kernel does not get to is tried again.
            job.result = Sent::Again;
            self.gather(number, job, sources);
        }
        if let Err(error) = self.submit(jobs) {
            self.broken = Some(error);
        }
    }

    /// Notes the pieces of one job.
    fn gather(&mut self, number: usize, job: &mut Job, sources: &Sources<'_>) {
        let entry = sources.entries.get(job.key);
        let view = sources.views.get(job.view);
        let (Some(entry), Some(view)) = (entry, view) else {
            job.result = Sent::Gone;
            return;
        };
        let mut slices = [IoSlice::new(&[]); MAX_SLICES + 2];
        let count = job.plan.slices(view.chain(), &mut slices);
        self.spans.push(Span {
            job: number,
            socket: entry.socket.as_raw_fd(),
            first: self.slices.len(),
            count,
        });
        let pieces = slices.iter().take(count);
        self.slices.extend(pieces.map(|slice| libc::iovec {
            iov_base: slice.as_ptr().cast_mut().cast(),
            iov_len: slice.len(),
        }));
    }

    /// The submission of one job. All pieces and all headers before it stand already.
    fn entry_of(&mut self, span: Span) -> Option<squeue::Entry> {
        let pieces = self.slices.get_mut(span.first..span.first + span.count)?;
        let socket = Fd(span.socket);
        let entry = if let [only] = pieces {
            let length = u32::try_from(only.iov_len).ok()?;
            opcode::Send::new(socket, only.iov_base.cast_const().cast(), length)
                .flags(FLAGS)
                .build()
        } else {
            // SAFETY: all zeroes is a message header without address, pieces and control data.
            let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
            header.msg_iov = pieces.as_mut_ptr();
            header.msg_iovlen = pieces.len() as _;
            // Within the room that `submit` reserved: a header never moves once its address is taken.
            debug_assert!(self.headers.len() < self.headers.capacity());
            self.headers.push(header);
            let header = self.headers.last()?;
            opcode::SendMsg::new(socket, header)
                .flags(FLAGS as u32)
                .build()
        };
        Some(entry.user_data(span.job as u64))
    }

    /// Submits all and waits until each is complete.
    fn submit(&mut self, jobs: &mut [Job]) -> io::Result<()> {
        let spans = std::mem::take(&mut self.spans);
        self.headers.reserve(spans.len());
        let mut pushed = 0;
        for span in &spans {
            let Some(entry) = self.entry_of(*span) else {
                continue;
            };
            // SAFETY: what the entry points to lives and stays where it is until its completion has come, see
            // the module.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                // Full: the rest is tried again.
                break;
            }
            pushed += 1;
        }
        self.spans = spans;
        self.complete(jobs, pushed)
    }

    /// Returns when none of `pushed` sends is under way.
    fn complete(&mut self, jobs: &mut [Job], pushed: usize) -> io::Result<()> {
        let mut queue = Submitted {
            ring: &mut self.ring,
            jobs,
        };
        wait_for(&mut queue, pushed, std::thread::sleep)
    }
}

/// Sends that the kernel has or is to have: what [`wait_for`] needs of the ring.
trait Queue {
    /// Hands over what is left and waits until `count` sends are complete.
    fn enter(&mut self, count: usize) -> io::Result<()>;
    /// Takes the completions that are there; how many.
    fn reap(&mut self) -> usize;
    /// Sends that the kernel has not taken.
    fn untaken(&mut self) -> usize;
}

struct Submitted<'a> {
    ring: &'a mut IoUring,
    jobs: &'a mut [Job],
}

impl Queue for Submitted<'_> {
    fn enter(&mut self, count: usize) -> io::Result<()> {
        self.ring.submit_and_wait(count).map(drop)
    }

    fn reap(&mut self) -> usize {
        let mut count = 0;
        for completion in self.ring.completion() {
            count += 1;
            let number = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
            if let Some(job) = self.jobs.get_mut(number) {
                job.result = Sent::of(answer(completion.result()));
            }
        }
        count
    }

    fn untaken(&mut self) -> usize {
        self.ring.submission().len()
    }
}

/// Returns when none of `pushed` sends is under way. A kernel that has no memory or no room for completions right now
/// (`EAGAIN`, `EBUSY` of io_uring_enter(2)) is asked again after a pause that grows to [`LONGEST_PAUSE`]; where it took
/// nothing for [`MOST_PAUSES`] of them and nothing is under way, its error is the answer.
fn wait_for(
    queue: &mut impl Queue,
    pushed: usize,
    mut pause: impl FnMut(Duration),
) -> io::Result<()> {
    let (mut done, mut pauses) = (0, 0);
    while done < pushed {
        let entered = queue.enter(pushed - done);
        let completed = queue.reap();
        done += completed;
        let Err(error) = entered else {
            pauses = 0;
            continue;
        };
        let busy = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY));
        let passing = busy || error.raw_os_error() == Some(libc::EINTR);
        if completed > 0 {
            pauses = 0;
        }
        let idle = done + queue.untaken() == pushed;
        if idle && done < pushed && (!passing || pauses >= MOST_PAUSES) {
            return Err(error);
        }
        if !passing && done < pushed {
            // Sends are under way, and there is no way to wait for them.
            tracing::error!(%error, "io_uring does not say what became of sends");
            std::process::abort();
        }
        if busy && completed == 0 {
            pause((SHORTEST_PAUSE * 2_u32.saturating_pow(pauses)).min(LONGEST_PAUSE));
            pauses += 1;
        }
    }
    Ok(())
}

/// First pause after an `EAGAIN` or `EBUSY`; each further one in a row is twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_micros(100);

/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Pauses in a row, about 75 ms together, after which a ring that takes nothing is given up for plain sends.
const MOST_PAUSES: u32 = 13;

/// A completion's number as the answer of a system call.
fn answer(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()))
}

/// Sends through a ring of its own: whether bytes arrive, and whether a full socket says so at once. What is
/// forbidden by a sandbox or broken in a kernel shows here and not at a listener.
pub(super) fn test() -> io::Result<()> {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    let (ours, mut theirs) = UnixStream::pair()?;
    let mut ring = IoUring::new(8)?;
    drop(Uring::new()?);
    // Static, so that it outlives a send whatever becomes of it.
    static BYTES: [u8; 4096] = [0x5A; 4096];
    let mut sent = 0;
    // A socket pair holds far less than this many times 4 KiB.
    for _ in 0..100_000 {
        let entry = opcode::Send::new(Fd(ours.as_raw_fd()), BYTES.as_ptr(), BYTES.len() as u32)
            .flags(FLAGS)
            .build();
        // SAFETY: the bytes are static, and the kernel holds the socket itself while it sends.
        if unsafe { ring.submission().push(&entry) }.is_err() {
            return Err(io::Error::other("the submission queue is full"));
        }
        ring.submit_and_wait(1)?;
        let completion = ring.completion().next();
        let completion = completion.ok_or_else(|| io::Error::other("no completion came"))?;
        match answer(completion.result()) {
            Ok(taken) => sent += taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut got = vec![0; sent];
                theirs.read_exact(&mut got)?;
                return if got.iter().all(|byte| *byte == 0x5A) {
                    Ok(())
                } else {
                    Err(io::Error::other("other bytes arrived than were sent"))
                };
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("a full socket was never reported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that answers each entry with the next of `answers`, and with the last one for ever.
    struct Scripted {
        answers: Vec<Result<usize, i32>>,
        entered: usize,
        ready: usize,
        untaken: usize,
    }

    impl Queue for Scripted {
        fn enter(&mut self, _: usize) -> io::Result<()> {
            let at = self.entered.min(self.answers.len() - 1);
            self.entered += 1;
            match self.answers[at] {
                Ok(count) => {
                    self.untaken = self.untaken.saturating_sub(count);
                    self.ready = count;
                    Ok(())
                }
                Err(errno) => Err(io::Error::from_raw_os_error(errno)),
            }
        }

        fn reap(&mut self) -> usize {
            std::mem::take(&mut self.ready)
        }

        fn untaken(&mut self) -> usize {
            self.untaken
        }
    }

    /// The outcome of a batch of four, the entries and the pauses in microseconds.
    fn waited(answers: &[Result<usize, i32>], untaken: usize) -> (Option<i32>, usize, Vec<u128>) {
        let mut kernel = Scripted {
            answers: answers.to_vec(),
            entered: 0,
            ready: 0,
            untaken,
        };
        let mut pauses = Vec::new();
        let outcome = wait_for(&mut kernel, 4, |pause| pauses.push(pause.as_micros()));
        let errno = outcome.err().and_then(|error| error.raw_os_error());
        (errno, kernel.entered, pauses)
    }

    #[test]
    fn a_busy_kernel_is_asked_again_after_a_pause() {
        for busy in [libc::EAGAIN, libc::EBUSY] {
            let answers = [Err(busy), Err(busy), Err(busy), Ok(4)];
            assert_eq!(waited(&answers, 0), (None, 4, vec![100, 200, 400]));
        }
        // A signal is no reason to wait.
        let interrupted = [Err(libc::EINTR), Err(libc::EINTR), Ok(4)];
        assert_eq!(waited(&interrupted, 0), (None, 3, vec![]));
        // Progress begins the pauses anew.
        let slowly = [Err(libc::EAGAIN), Ok(1), Err(libc::EAGAIN), Ok(3)];
        assert_eq!(waited(&slowly, 0), (None, 4, vec![100, 100]));
    }

    #[test]
    fn a_kernel_that_takes_nothing_is_given_up() {
        let (errno, entered, pauses) = waited(&[Err(libc::EAGAIN)], 4);
        assert_eq!((errno, entered), (Some(libc::EAGAIN), 14));
        assert_eq!(pauses.len(), MOST_PAUSES as usize);
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE.as_micros()));
        let together: u128 = pauses.iter().sum();
        assert_eq!(together, 72_700);
        // Another error is given up at once where nothing is under way.
        assert_eq!(
            waited(&[Err(libc::EINVAL)], 4),
            (Some(libc::EINVAL), 1, vec![])
        );
    }

    #[test]
    fn a_kernel_that_allows_it_passes_the_test() {
        // Where io_uring is forbidden both say so; a ring that can be made but does not work is a failure.
        match Uring::new() {
            Ok(_) => test().unwrap(),
            Err(error) => println!("io_uring is not to be had here: {error}"),
        }
    }
}
