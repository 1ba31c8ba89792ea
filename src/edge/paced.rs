//! A socket whose writes must make progress: a client that takes nothing is closed.
//!
//! The timer stands below TLS and HTTP, so that it holds for whatever writes: answers, streams, a TLS close.
//! Reads have no deadline here, since who waits for a request, a body or a source knows what it waits for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::gate::Seat;
use crate::telemetry::refuse;

/// A client that takes no byte of what is written to it for this long is closed, and so is one that sends no byte of a
/// body that it began, or of a request that is carried.
pub(super) const PROGRESS: Duration = Duration::from_secs(10);

/// An answer of known length may take this long, and the time that its bytes take at [`SLOWEST`].
const ANSWER: Duration = Duration::from_secs(60);

/// Bytes a second that a client must take of an answer of known length.
const SLOWEST: u64 = 4 * 1024;

/// The time that a client has for an answer of `length` bytes.
pub(super) fn time_for(length: usize) -> Duration {
    let seconds = u64::try_from(length).unwrap_or(u64::MAX) / SLOWEST;
    ANSWER.saturating_add(Duration::from_secs(seconds))
}

/// See the module.
pub(super) struct Paced<S> {
    stream: S,
    /// Tells when the answer must have been taken; without one the socket has no deadline.
    seat: Option<Arc<Seat>>,
    /// Made where a write has to wait.
    wait: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    /// A socket of the connection that has `seat`.
    pub fn new(stream: S, seat: Arc<Seat>) -> Self {
        Self {
            stream,
            seat: Some(seat),
            wait: None,
        }
    }

    /// The socket alone.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// From now on whoever writes has deadlines of its own.
    pub fn release(&mut self) {
        self.seat = None;
        self.wait = None;
    }

    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.wait = None;
            return polled;
        }
        let Some(seat) = &self.seat else {
            return Poll::Pending;
        };
        let wait = self.wait.get_or_insert_with(|| {
            let progress = Instant::now() + PROGRESS;
            let until = seat
                .answer_by()
                .map_or(progress, |by| progress.min(by.into()));
            Box::pin(tokio::time::sleep_until(until))
        });
        ready!(wait.as_mut().poll(cx));
        self.wait = None;
        refuse("slow_answer");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::edge::gate::{Gate, State};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_after_ten_seconds() {
        let place = Arc::new(Gate::default()).enter(State::Answer, None);
        let (own, _peer) = duplex(16);
        let mut paced = Paced::new(own, place.seat());
        let began = Instant::now();
        let error = paced.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_byte_now_and_then_has_the_total() {
        let place = Arc::new(Gate::default()).enter(State::Answer, None);
        let (own, mut peer) = duplex(1);
        let mut paced = Paced::new(own, place.seat());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(9)).await;
                if peer.read_u8().await.is_err() {
                    return;
                }
            }
        });
        // Nothing but progress counts for what has no end.
        let began = Instant::now();
        paced.write_all(&[0; 30]).await.unwrap();
        assert!(began.elapsed().as_secs() > 200);
        // The deadline is of the real clock: one that lies behind us already.
        place.answer_within(Some(Duration::ZERO));
        let error = paced.write_all(&[0; 30]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_deadlines_of_its_own_waits_here_for_ever() {
        let place = Arc::new(Gate::default()).enter(State::Answer, None);
        let (own, _peer) = duplex(1);
        let mut paced = Paced::new(own, place.seat());
        paced.release();
        let hour = Duration::from_secs(3600);
        let waited = tokio::time::timeout(hour, paced.write_all(&[0; 2])).await;
        assert!(waited.is_err());
    }

    #[test]
    fn long_answers_have_more_time() {
        assert_eq!(time_for(100).as_secs(), 60);
        assert_eq!(time_for(1 << 20).as_secs(), 60 + 256);
    }
}
