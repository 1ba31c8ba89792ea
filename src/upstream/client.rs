//! One GET whose answer may last for ever: head, and then the body as it comes.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

use crate::discovery::{Connector, Stream};
use crate::wire::body::{BodyDecoder, BodyError, Framing};
use crate::wire::head::Request;
use crate::wire::response::{Response, parse_response};

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// Interim answers (`100 Continue`) before the one that counts.
const MAX_INTERIM: usize = 8;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("`{0}` has no host: write `http://host:port/mount`")]
    Host(String),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the connection broke before the answer: {0}")]
    Broken(#[from] io::Error),
    #[error("the answer is no HTTP: {0}")]
    Head(#[from] crate::wire::head::HeadError),
    #[error("the answer cannot be read: {0}")]
    Body(#[from] BodyError),
}

/// An answer whose body is read.
pub(super) struct Reply {
    pub(super) response: Response,
    /// The other end.
    pub(super) peer: Option<SocketAddr>,
    stream: Stream,
    decoder: BodyDecoder,
    /// What came with the head.
    rest: Vec<u8>,
    buffer: Box<[u8]>,
}

/// Sends `request` to the host of `url`, over TLS for `https`, and reads the head of the answer.
pub(super) async fn send(
    connector: &Connector,
    url: &Url,
    request: &Request,
) -> Result<Reply, ClientError> {
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| ClientError::Host(shown(url)))?;
    let tls = url.scheme() == "https";
    let port = url.port_or_known_default().unwrap_or(80);
    let mut stream = connector
        .connect(host, port, tls)
        .await
        .map_err(ClientError::Connect)?;
    let peer = stream.peer_addr().ok();
    stream.write_all(&request.encode()).await?;
    stream.flush().await?;
    let mut buffer = vec![0; READ].into_boxed_slice();
    let mut rest = Vec::new();
    let mut interim = 0;
    let response = loop {
        // A head has its bound in `parse_response`, so `rest` has too.
        match parse_response(&rest)? {
            Some((response, taken)) => {
                rest.drain(..taken);
                interim += 1;
                if !response.is_interim() || interim > MAX_INTERIM {
                    break response;
                }
            }
            None => {
                let count = stream.read(&mut buffer).await?;
                if count == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                rest.extend_from_slice(buffer.get(..count).unwrap_or_default());
            }
        }
    };
    let decoder = BodyDecoder::new(Framing::of_response(&response)?);
    Ok(Reply {
        response,
        peer,
        stream,
        decoder,
        rest,
        buffer,
    })
}

impl Reply {
    /// Appends the next bytes of the body to `out`, at most 64 KiB (and once what came with the head). False
    /// at the end; one that comes before the framing says so is an error. Nothing is lost if it is dropped while it waits.
    pub(super) async fn read(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let before = out.len();
        loop {
            let rest = std::mem::take(&mut self.rest);
            let pushed = self.decoder.push(&rest, out);
            pushed.map_err(io::Error::other)?;
            if out.len() > before {
                return Ok(true);
            }
            if self.decoder.is_done() {
                return Ok(false);
            }
            let count = self.stream.read(&mut self.buffer).await?;
            if count == 0 {
                // Within a chunk, or before the length that was told, this is no end.
                let whole = self.decoder.finish();
                return whole.map(|()| false).map_err(io::Error::other);
            }
            let input = self.buffer.get(..count).unwrap_or_default();
            self.decoder.push(input, out).map_err(io::Error::other)?;
        }
    }
}

/// A URL without what nobody should read in a log.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// The value of `Host`: with the port where it is not the scheme's own.
pub(super) fn host_field(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
