//! A request's body on its way to the router: bounded in length, in time, and with all others in the bytes that are
//! held before they are whole.
//!
//! It is read when somebody asks for it, which is after the credential was judged, and handed on in one piece: many
//! small pieces would cost more than their bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::gate::{Fault, Seat};
use super::paced::PROGRESS;
use crate::admin::MAX_BODY;
use crate::telemetry::refuse;

/// Time for a whole body.
const TOTAL: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Gathered<B = Incoming> {
    inner: B,
    seat: Arc<Seat>,
    bytes: BytesMut,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    done: bool,
}

/// The body was given up; [`Fault`] says why.
#[derive(Debug, thiserror::Error)]
#[error("the body was not read to its end")]
pub(super) struct GivenUp;

impl<B> Gathered<B> {
    /// The body of a request on the connection that has `seat`.
    pub fn new(inner: B, seat: Arc<Seat>) -> Self {
        Self {
            inner,
            seat,
            bytes: BytesMut::new(),
            timer: None,
            done: false,
        }
    }

    fn give_up(&mut self, fault: Fault, reason: Option<&'static str>) -> GivenUp {
        if let Some(reason) = reason {
            refuse(reason);
        }
        self.done = true;
        self.bytes = BytesMut::new();
        self.seat.end_body();
        self.seat.signal().fail(fault);
        GivenUp
    }

    /// Ready when the body came too slowly.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (_, sleep) = self.timer.get_or_insert_with(|| {
            let now = Instant::now();
            (
                now + TOTAL,
                Box::pin(tokio::time::sleep_until(now + PROGRESS)),
            )
        });
        sleep.as_mut().poll(cx)
    }

    fn take(&mut self, data: &[u8]) -> Result<(), GivenUp> {
        if self.bytes.len() + data.len() > MAX_BODY {
            return Err(self.give_up(Fault::Long, Some("long_body")));
        }
        let before = self.bytes.capacity();
        self.bytes.extend_from_slice(data);
        self.seat
            .add_bytes(self.bytes.capacity().saturating_sub(before));
        if let Some((end, sleep)) = &mut self.timer {
            let next = Instant::now() + PROGRESS;
            sleep.as_mut().reset(next.min(*end));
        }
        Ok(())
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Gathered<B> {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        if this.inner.size_hint().lower() > MAX_BODY as u64 {
            return Poll::Ready(Some(Err(this.give_up(Fault::Long, Some("long_body")))));
        }
        loop {
            // The gate has counted it.
            if this.seat.signal().poll_fault(cx).is_some() {
                return Poll::Ready(Some(Err(this.give_up(Fault::Budget, None))));
            }
            let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
                ready!(this.poll_timer(cx));
                return Poll::Ready(Some(Err(this.give_up(Fault::Slow, Some("slow_body")))));
            };
            let Some(frame) = frame else {
                this.done = true;
                this.seat.end_body();
                let whole = std::mem::take(&mut this.bytes).freeze();
                return Poll::Ready((!whole.is_empty()).then(|| Ok(Frame::data(whole))));
            };
            let Ok(frame) = frame else {
                this.done = true;
                this.seat.end_body();
                return Poll::Ready(Some(Err(GivenUp)));
            };
            if let Some(data) = frame.data_ref()
                && let Err(error) = this.take(data)
            {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done || (self.bytes.is_empty() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.bytes.is_empty() {
            return self.inner.size_hint();
        }
        SizeHint::default()
    }
}

impl<B> Drop for Gathered<B> {
    fn drop(&mut self) {
        if !self.done {
            self.seat.end_body();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;
    use crate::edge::gate::{Gate, Place, State};

    fn place() -> Place {
        Arc::new(Gate::default()).enter(State::Body, None)
    }

    /// One byte each time that `every` has passed.
    fn drip(every: Duration) -> impl Body<Data = Bytes> + Unpin {
        StreamBody::new(Box::pin(stream::unfold((), move |()| async move {
            tokio::time::sleep(every).await;
            let frame = Frame::data(Bytes::from_static(b"x"));
            Some((Ok::<_, std::io::Error>(frame), ()))
        })))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_ones_end_after_ten_seconds_or_a_minute() {
        for (every, expected) in [(11, 10), (9, 60)] {
            let (place, began) = (place(), Instant::now());
            let body = Gathered::new(drip(Duration::from_secs(every)), place.seat());
            assert!(body.collect().await.is_err());
            assert_eq!(began.elapsed().as_secs(), expected);
            assert_eq!(place.seat().signal().fault(), Some(Fault::Slow));
        }
    }

    #[tokio::test]
    async fn long_ones_end_whether_they_say_so_or_not() {
        let long = Bytes::from(vec![0; MAX_BODY + 1]);
        let told = place();
        let body = Gathered::new(Full::new(long.clone()), told.seat());
        assert!(body.collect().await.is_err());
        assert_eq!(told.seat().signal().fault(), Some(Fault::Long));
        let place = place();
        let frames = long
            .chunks(4096)
            .map(|part| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(part))));
        let frames: Vec<_> = frames.collect();
        let body = StreamBody::new(stream::iter(frames));
        assert!(Gathered::new(body, place.seat()).collect().await.is_err());
        assert_eq!(place.seat().signal().fault(), Some(Fault::Long));
    }

    #[tokio::test]
    async fn a_body_comes_in_one_piece() {
        let place = place();
        let frames =
            (0..100).map(|_| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"ab"))));
        let frames: Vec<_> = frames.collect();
        let mut body = Gathered::new(StreamBody::new(stream::iter(frames)), place.seat());
        let whole = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(&whole[..], &b"ab".repeat(100)[..]);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_given_up_for_the_budget_is_woken() {
        let place = place();
        let signal = Arc::clone(place.seat().signal());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            signal.fail(Fault::Budget);
        });
        let began = Instant::now();
        let body = Gathered::new(drip(Duration::from_secs(9)), place.seat());
        assert!(body.collect().await.is_err());
        assert_eq!(began.elapsed().as_secs(), 1);
    }
}
