//! One request to the engine, and its whole answer.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Outside, Place};
use crate::discovery::Stream;
use crate::wire::basic::Basic;
use crate::wire::body::{BodyDecoder, Framing};
use crate::wire::head::{Method, Request, Version};
use crate::wire::response::{Response, parse_response};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest answer in bytes: the statistics of some thousand mounts.
const LARGEST: usize = 4 << 20;

/// What this node calls itself. Shoutcast answers its v1 pages only to what looks like a browser.
pub(super) const AGENT: &str = concat!(
    "relayctl/",
    env!("CARGO_PKG_VERSION"),
    " (Mozilla-compatible)"
);

/// A head, and what came behind it.
pub(super) struct Answered {
    pub response: Response,
    pub stream: Stream,
    pub rest: Vec<u8>,
}

impl Outside {
    /// `GET target` as its administrator (where `login` says nobody else): status and body.
    pub(super) async fn get(
        &self,
        place: &Place,
        target: &str,
        login: Option<&str>,
    ) -> Result<(u16, Vec<u8>), String> {
        let mut request = Request::new(Method::Get, target, Version::Http10);
        request.headers.push("Host", place.to_string());
        request.headers.push("User-Agent", AGENT);
        let admin = || {
            let (user, password) = self.config.admin.as_ref()?;
            Some(Basic::new(user.clone(), password.clone()).encode())
        };
        if let Some(value) = login.map(str::to_owned).or_else(admin) {
            request.headers.push("Authorization", value);
        }
        let asked = async {
            let stream = self.connect(place, place.port).await?;
            let answered = send(stream, &request.encode()).await?;
            let status = answered.response.status;
            io::Result::Ok((status, body(answered).await?))
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => {
                self.answered();
                Ok(answer)
            }
            Ok(Err(error)) => Err(format!("{place}: {error}")),
            Err(_) => Err(format!("{place}: no answer within {PATIENCE:?}")),
        }
    }
}

/// Sends a head and reads the head of the answer.
pub(super) async fn send(mut stream: Stream, request: &[u8]) -> io::Result<Answered> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut rest = Vec::with_capacity(4096);
    loop {
        // A head has its bound in `parse_response`, so `rest` has too.
        if let Some((response, taken)) = parse_response(&rest).map_err(io::Error::other)? {
            rest.drain(..taken);
            if !response.is_interim() {
                return Ok(Answered {
                    response,
                    stream,
                    rest,
                });
            }
        } else if stream.read_buf(&mut rest).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The body, to its end.
pub(super) async fn body(answered: Answered) -> io::Result<Vec<u8>> {
    let framing = Framing::of_response(&answered.response).map_err(io::Error::other)?;
    let mut decoder = BodyDecoder::new(framing);
    let (mut stream, mut input, mut out) = (answered.stream, answered.rest, Vec::new());
    loop {
        decoder.push(&input, &mut out).map_err(io::Error::other)?;
        if out.len() > LARGEST {
            return Err(io::Error::other("the answer is larger than 4 MiB"));
        }
        input.clear();
        if decoder.is_done() {
            return Ok(out);
        }
        if stream.read_buf(&mut input).await? == 0 {
            // Within a chunk, or before the length that was told, this is no end.
            return decoder.finish().map(|()| out).map_err(io::Error::other);
        }
    }
}
