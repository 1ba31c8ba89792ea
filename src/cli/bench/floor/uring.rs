//! The bare loop's sends through io_uring: a whole batch in one call. The only `unsafe` of the bench.
//!
//! # Why this is sound
//!
//! The kernel reads the pieces and the sockets' numbers while [`Uring::send`] runs, and never after it: pieces and
//! sockets are borrowed for as long as it runs, and it returns only once as many completions came as sends were
//! submitted. Where the kernel does not say what became of them, the process ends.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};

use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use mio::net::TcpStream;

/// Sends in one call at most.
const BATCH: usize = 512;

/// One send.
pub(super) struct Job<'a> {
    pub socket: &'a TcpStream,
    pub bytes: &'a [u8],
    /// Bytes that the socket took, or the system's reason.
    pub result: io::Result<usize>,
}

/// See the module.
pub(super) struct Uring {
    ring: IoUring,
}

impl Uring {
    /// A ring for this thread alone, made as the engine's is.
    ///
    /// # Errors
    /// Where the kernel forbids it.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .build(BATCH as u32)
            .or_else(|_| IoUring::new(BATCH as u32))?;
        Ok(Self { ring })
    }

    /// Makes all sends, and fills in what became of each.
    pub fn send(&mut self, jobs: &mut [Job<'_>]) {
        for batch in jobs.chunks_mut(BATCH) {
            self.send_batch(batch);
        }
    }

    fn send_batch(&mut self, jobs: &mut [Job<'_>]) {
        let mut under_way = 0;
        for (number, job) in jobs.iter().enumerate() {
            let socket: RawFd = job.socket.as_raw_fd();
            let length = u32::try_from(job.bytes.len()).unwrap_or(u32::MAX);
            let entry = opcode::Send::new(Fd(socket), job.bytes.as_ptr(), length)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(number as u64);
            // SAFETY: the job borrows the bytes and the socket until this function returns, and it does not
            // return before the completion has come; see the module.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                break;
            }
            under_way += 1;
        }
        while under_way > 0 {
            let entered = self.ring.submit_and_wait(under_way);
            for completion in self.ring.completion() {
                under_way -= 1;
                let number = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
                if let Some(job) = jobs.get_mut(number) {
                    let result = completion.result();
                    job.result = usize::try_from(result)
                        .map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()));
                }
            }
            if let Err(error) = entered
                && error.kind() != io::ErrorKind::Interrupted
            {
                eprintln!("relayctl bench: the bare loop's io_uring failed: {error}");
                std::process::abort();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_batch_arrives_whole() {
        // Where io_uring is forbidden the bench measures plain sends.
        let Ok(mut uring) = Uring::new() else {
            println!("io_uring is not to be had here");
            return;
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut pairs: Vec<_> = (0..600)
            .map(|_| {
                let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (ours, _) = listener.accept().unwrap();
                ours.set_nonblocking(true).unwrap();
                (TcpStream::from_std(ours), theirs)
            })
            .collect();
        let bytes = [7_u8; 1000];
        let mut jobs: Vec<Job<'_>> = pairs
            .iter()
            .map(|(ours, _)| Job {
                socket: ours,
                bytes: &bytes,
                result: Ok(0),
            })
            .collect();
        uring.send(&mut jobs);
        assert!(jobs.iter().all(|job| matches!(job.result, Ok(1000))));
        for (_, theirs) in &mut pairs {
            let mut got = [0; 1000];
            theirs.read_exact(&mut got).unwrap();
            assert_eq!(got, bytes);
        }
    }
}
