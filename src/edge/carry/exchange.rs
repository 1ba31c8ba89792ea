//! One carried exchange: a request's body up, its answer down, and the end of both.
//!
//! Bodies are read by their framing and written again, so that nothing behind the request reaches the primary and nothing
//! behind the answer reaches the client.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use super::head::{self, Body};
use crate::telemetry::refuse;
use crate::wire::body::{BodyDecoder, Framing};
use crate::wire::head::{MAX_HEAD, Method, Request, Version};
use crate::wire::response::{Response, parse_response};

/// Read at once from either side.
const READ: usize = 16 * 1024;

/// Bytes behind a request that are read and dropped; what comes after stays with the system.
const MAX_DROPPED: usize = 64 * 1024;

/// Interim answers (1xx) that are read before the answer.
const MAX_INTERIM: u32 = 8;

/// A source whose body is taken for this long without an answer is one.
const UNREFUSED: Duration = Duration::from_secs(5);

/// How long an exchange may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Without a byte of the message either way.
    pub idle: Duration,
    /// From its start to its end; none for what is endless by nature.
    pub total: Option<Duration>,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With the end of the answer.
    Done,
    /// The client went away.
    Gone,
    /// The primary closed before the end of its answer.
    Cut,
    /// Nothing moved for too long, or all of it took too long.
    Late,
    /// The request's body is malformed.
    BadBody,
    /// The answer is none of HTTP.
    BadAnswer,
    /// The node goes down.
    Shutdown,
}

/// What moved, and when.
struct Progress {
    began: Instant,
    /// Milliseconds after `began`.
    last: AtomicU64,
    /// True once the client has had a byte.
    answered: AtomicBool,
}

impl Progress {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            last: AtomicU64::new(0),
            answered: AtomicBool::new(false),
        }
    }

    fn moved(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// Ends when the pace is not kept.
    async fn late(&self, pace: Pace) {
        let by = pace.total.map(|total| self.began + total);
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let idle = self.began + last + pace.idle;
            let until = by.map_or(idle, |by| by.min(idle));
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// A request whose head the primary has.
pub(super) struct Exchange<'a> {
    /// The request.
    pub request: &'a Request,
    /// How its body ends.
    pub framing: Framing,
    /// How long it may take.
    pub pace: Pace,
    /// True for a source and a feed, which have no end of their own.
    pub endless: bool,
    /// Called once or more when the primary has taken what is endless.
    pub taken: &'a (dyn Fn() + Sync),
}

impl Exchange<'_> {
    /// Carries the rest of the request, whose first bytes are in `unread`, and the answer. True where the client has had
    /// a byte of an answer.
    pub async fn run<C, P>(&self, client: &mut C, unread: &mut BytesMut, primary: P) -> (End, bool)
    where
        C: AsyncRead + AsyncWrite + Unpin,
        P: AsyncRead + AsyncWrite + Unpin,
    {
        let progress = Progress::new();
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_primary, mut to_primary) = tokio::io::split(primary);
        let end = tokio::select! {
            end = self.down(&mut from_primary, &mut to_client, &progress) => end,
            end = self.up(&mut from_client, unread, &mut to_primary, &progress) => end,
            () = progress.late(self.pace) => End::Late,
        };
        (end, progress.answered.load(Ordering::Relaxed))
    }

    /// The body to the primary. Ends only where the exchange must.
    async fn up<R, W>(
        &self,
        client: &mut R,
        unread: &mut BytesMut,
        primary: &mut W,
        progress: &Progress,
    ) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut decoder = BodyDecoder::new(self.framing);
        let chunked = self.framing == Framing::Chunked;
        let mut body = Vec::new();
        while !decoder.is_done() {
            if unread.is_empty() {
                unread.reserve(READ);
                match client.read_buf(unread).await {
                    Ok(0) => {
                        // The end of a source, or of a body that stays a part.
                        let _ = primary.shutdown().await;
                        return std::future::pending().await;
                    }
                    Ok(_) => {}
                    Err(_) => return End::Gone,
                }
            }
            body.clear();
            let Ok(used) = decoder.push(unread, &mut body) else {
                return End::BadBody;
            };
            unread.advance(used.min(unread.len()));
            if !body.is_empty() {
                let sent = send(primary, &framed(&body, chunked), progress).await;
                // What the primary said before it closed is still to be read.
                if sent.is_err() {
                    return std::future::pending().await;
                }
                // A source with a framed body has its answer at its end; one that is not wanted has it at once.
                if self.endless && progress.began.elapsed() >= UNREFUSED {
                    (self.taken)();
                }
            }
        }
        if chunked && send(primary, b"0\r\n\r\n", progress).await.is_err() {
            return std::future::pending().await;
        }
        drop_rest(client, unread).await
    }

    /// The answer to the client.
    async fn down<R, W>(&self, primary: &mut R, client: &mut W, progress: &Progress) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut unread = BytesMut::new();
        let response = match self.response(primary, client, &mut unread, progress).await {
            Ok(response) => response,
            Err(end) => return end,
        };
        let Ok(body) = head::body_of(&response, self.request, self.framing) else {
            return End::BadAnswer;
        };
        if self.endless && (200..300).contains(&response.status) {
            (self.taken)();
        }
        progress.answered.store(true, Ordering::Relaxed);
        let head = head::answer(&response, self.request, body);
        if send(client, &head, progress).await.is_err() {
            return End::Gone;
        }
        pass(primary, client, unread, body, progress).await
    }

    /// The head of the answer. `100 Continue` goes on to a client that waits for it, other interim answers do not.
    async fn response<R, W>(
        &self,
        primary: &mut R,
        client: &mut W,
        unread: &mut BytesMut,
        progress: &Progress,
    ) -> Result<Response, End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut interim = 0;
        loop {
            match parse_response(unread) {
                Ok(Some((response, used))) => {
                    unread.advance(used.min(unread.len()));
                    if !response.is_interim() {
                        return Ok(response);
                    }
                    interim += 1;
                    if interim > MAX_INTERIM || response.status == 101 {
                        return Err(End::BadAnswer);
                    }
                    if response.status == 100 && self.request.expects_continue() {
                        if self.endless {
                            (self.taken)();
                        }
                        let line = b"HTTP/1.1 100 Continue\r\n\r\n";
                        let sent = send(client, line, progress).await;
                        sent.map_err(|_| End::Gone)?;
                    }
                    continue;
                }
                Ok(None) if unread.len() <= MAX_HEAD => {}
                Ok(None) | Err(_) => return Err(End::BadAnswer),
            }
            unread.reserve(READ);
            match primary.read_buf(unread).await {
                Ok(1..) => progress.moved(),
                Ok(0) | Err(_) => return Err(End::Cut),
            }
        }
    }
}

/// A Shoutcast v1 exchange, which has no heads: all of both sides until the primary closes.
pub(super) async fn raw<C, P>(
    client: &mut C,
    unread: &mut BytesMut,
    primary: P,
    pace: Pace,
    taken: &(dyn Fn() + Sync),
) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    let progress = Progress::new();
    let source = Request::new(Method::Source, "/", Version::Http10);
    let exchange = Exchange {
        request: &source,
        framing: Framing::UntilClose,
        pace,
        endless: true,
        taken,
    };
    let body = Body {
        read: Framing::UntilClose,
        chunked: false,
    };
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_primary, mut to_primary) = tokio::io::split(primary);
    tokio::select! {
        end = pass(&mut from_primary, &mut to_client, BytesMut::new(), body, &progress) => end,
        end = exchange.up(&mut from_client, unread, &mut to_primary, &progress) => end,
        () = progress.late(pace) => End::Late,
    }
}

/// The body of an answer, read by its framing and written again.
async fn pass<R, W>(
    primary: &mut R,
    client: &mut W,
    mut unread: BytesMut,
    body: Body,
    progress: &Progress,
) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut decoder = BodyDecoder::new(body.read);
    let mut out = Vec::new();
    loop {
        out.clear();
        let Ok(used) = decoder.push(&unread, &mut out) else {
            return End::BadAnswer;
        };
        unread.advance(used.min(unread.len()));
        if !out.is_empty() {
            let sent = send(client, &framed(&out, body.chunked), progress).await;
            if sent.is_err() {
                return End::Gone;
            }
        }
        if decoder.is_done() {
            break;
        }
        unread.reserve(READ);
        match primary.read_buf(&mut unread).await {
            Ok(1..) => progress.moved(),
            Ok(0) if decoder.finish().is_ok() => return End::Done,
            Ok(0) | Err(_) => return End::Cut,
        }
    }
    let last: &[u8] = if body.chunked { b"0\r\n\r\n" } else { b"" };
    match send(client, last, progress).await {
        Ok(()) => End::Done,
        Err(_) => End::Gone,
    }
}

/// Bytes that a client sends behind its request are dropped: they are no second request.
async fn drop_rest(client: &mut (impl AsyncRead + Unpin), unread: &mut BytesMut) -> End {
    let mut dropped = unread.len();
    if dropped > 0 {
        refuse("carried_rest");
    }
    while dropped < MAX_DROPPED {
        unread.clear();
        unread.reserve(READ);
        match client.read_buf(unread).await {
            Ok(0) => break,
            Ok(read) => {
                if dropped == 0 {
                    refuse("carried_rest");
                }
                dropped += read;
            }
            Err(_) => return End::Gone,
        }
    }
    std::future::pending().await
}

fn framed(body: &[u8], chunked: bool) -> Vec<u8> {
    if !chunked {
        return body.to_vec();
    }
    let size = format!("{:x}\r\n", body.len());
    [size.as_bytes(), body, b"\r\n"].concat()
}

/// Writes all; each part that is taken is progress.
async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    progress: &Progress,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let taken = to.write(bytes).await?;
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        progress.moved();
        bytes = bytes.get(taken..).unwrap_or_default();
    }
    to.flush().await
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::wire::head::parse;

    const PACE: Pace = Pace {
        idle: Duration::from_secs(10),
        total: Some(Duration::from_secs(60)),
    };

    /// Runs the exchange of `sent` (a head and what follows) with a primary that answers `answer`, once it has read the
    /// end of the request, and then closes or goes on. What the primary read, what the client got, and the end.
    async fn run(sent: &[u8], answer: &[u8], close: bool) -> (Vec<u8>, Vec<u8>, End) {
        let (request, used) = parse(sent).unwrap().unwrap();
        let framing = Framing::of_request(&request).unwrap();
        let (mut own, mut client) = duplex(1 << 20);
        let (ours, mut primary) = duplex(1 << 20);
        client.write_all(&sent[used..]).await.unwrap();
        primary.write_all(answer).await.unwrap();
        if close {
            primary.shutdown().await.unwrap();
        }
        let exchange = Exchange {
            request: &request,
            framing,
            pace: PACE,
            endless: false,
            taken: &|| {},
        };
        let (end, _) = exchange.run(&mut own, &mut BytesMut::new(), ours).await;
        drop(own);
        let (mut read, mut got) = (Vec::new(), Vec::new());
        primary.read_to_end(&mut read).await.unwrap();
        client.read_to_end(&mut got).await.unwrap();
        (read, got, end)
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_behind_an_answer_comes_through() {
        let get = b"GET /admin/metadata HTTP/1.1\r\nHost: h\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n";
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nmore";
        let (read, got, end) = run(get, answer, false).await;
        assert_eq!(read, b"");
        assert_eq!(
            got,
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
        );
        assert_eq!(end, End::Done);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_behind_a_request_goes_to_the_primary() {
        let next = b"POST /api/v1/drain HTTP/1.1\r\nHost: h\r\n\r\n";
        for (head, body, written) in [
            (
                &b"POST /cluster/v1/beat HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n"[..],
                &b"abc"[..],
                &b"abc"[..],
            ),
            (
                b"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nTrailer: x\r\n\r\n",
                b"3\r\nabc\r\n0\r\n\r\n",
            ),
        ] {
            let sent = [head, body, next].concat();
            // No answer comes: the deadline ends it, with all that could be sent sent.
            let (read, got, end) = run(&sent, b"", false).await;
            assert_eq!(end, End::Late);
            assert_eq!(read, written, "{}", read.escape_ascii());
            assert_eq!(got, b"");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_well_formed_ends_it() {
        let sent = b"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        let (read, got, end) = run(sent, b"", false).await;
        assert_eq!((end, read, got), (End::BadBody, Vec::new(), Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn interim_answers_are_for_those_who_wait_for_them() {
        let answer =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 X\r\n\r\n";
        let head = "POST /cluster/v1/beat HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n";
        let waits = format!("{head}Expect: 100-continue\r\n\r\na");
        let (_, got, end) = run(waits.as_bytes(), answer, false).await;
        assert_eq!(end, End::Done);
        assert_eq!(
            got,
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 X\r\nConnection: close\r\n\r\n"
        );
        let (_, got, _) = run(format!("{head}\r\na").as_bytes(), answer, false).await;
        assert_eq!(got, b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n");
        let switch = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let (_, got, end) = run(format!("{head}\r\na").as_bytes(), switch, false).await;
        assert_eq!((end, got), (End::BadAnswer, Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_are_chunks_again_and_a_cut_answer_looks_cut() {
        let get = b"GET /admin/metadata HTTP/1.1\r\nHost: h\r\n\r\n";
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
        let whole = format!("{answer}0\r\n\r\n");
        let (_, got, end) = run(get, whole.as_bytes(), false).await;
        assert_eq!(end, End::Done);
        assert_eq!(got, format!("{head}2\r\nab\r\n0\r\n\r\n").as_bytes());
        let (_, got, end) = run(get, answer.as_bytes(), true).await;
        assert_eq!(end, End::Cut);
        assert_eq!(got, format!("{head}2\r\nab\r\n").as_bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn a_primary_that_closes_or_says_nothing_ends_it() {
        let put = b"PUT /a HTTP/1.1\r\nHost: h\r\n\r\naudio";
        let (read, got, end) = run(put, b"", true).await;
        assert_eq!((end, got), (End::Cut, Vec::new()));
        assert!(read.is_empty() || read == b"audio");
        let began = Instant::now();
        let (_, _, end) = run(put, b"", false).await;
        assert_eq!((end, began.elapsed().as_secs()), (End::Late, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_has_the_total() {
        let head = b"POST /cluster/v1/beat HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n";
        let (request, _) = parse(head).unwrap().unwrap();
        let (mut own, mut client) = duplex(1024);
        let (ours, _primary) = duplex(1024);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(9)).await;
                if client.write_all(b"a").await.is_err() {
                    return;
                }
            }
        });
        let exchange = Exchange {
            request: &request,
            framing: Framing::Length(100),
            pace: PACE,
            endless: false,
            taken: &|| {},
        };
        let began = Instant::now();
        let (end, answered) = exchange.run(&mut own, &mut BytesMut::new(), ours).await;
        assert_eq!((end, answered), (End::Late, false));
        assert_eq!(began.elapsed().as_secs(), 60);
    }
}
