//! Reading another server's answer: never more than was thought of.

use std::error::Error;

use reqwest::Response;

/// Why an answer was not read.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It goes on beyond its bound.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The connection.
    #[error(transparent)]
    Broken(#[from] reqwest::Error),
}

/// The whole body, where it has at most `most` bytes. The rest of a longer one is not read, and its connection not used
/// again. How long it may take is the client's or the request's own timeout, which counts the body in.
///
/// # Errors
/// Where it is longer, or the connection breaks or is too slow.
pub async fn read_at_most(mut answer: Response, most: usize) -> Result<Vec<u8>, AnswerError> {
    let declared = answer.content_length().unwrap_or(0);
    if usize::try_from(declared).map_or(true, |declared| declared > most) {
        return Err(AnswerError::TooLong(most));
    }
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await? {
        if bytes.len().saturating_add(part.len()) > most {
            return Err(AnswerError::TooLong(most));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// The innermost cause: reqwest's own text ends before it, and the outer ones repeat the URL.
pub fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answer of a server, read within `most` bytes.
    async fn read(
        head: &'static str,
        body: &'static [u8],
        times: usize,
        most: usize,
    ) -> Result<Vec<u8>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let asked = peer.read(&mut [0; 4096]).await.unwrap();
            assert!(asked > 0);
            peer.write_all(head.as_bytes()).await.unwrap();
            let mut sent = 0;
            // Until the reader has had enough.
            while sent < times && peer.write_all(body).await.is_ok() {
                sent += 1;
            }
            sent
        });
        let client = crate::discovery::http_client().timeout(Duration::from_secs(20));
        let answer = client.build().unwrap().get(url).send().await.unwrap();
        let outcome = read_at_most(answer, most)
            .await
            .map_err(|error| error.to_string());
        assert!(server.await.unwrap() <= times);
        outcome
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_up_to_its_bound() {
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        assert_eq!(read(head, b"abc", 2, 6).await.unwrap(), b"abcabc");
        let error = read(head, b"abc", 3, 6).await.unwrap_err();
        assert_eq!(error, "the answer is longer than 6 bytes");
    }

    #[tokio::test]
    async fn one_without_an_end_costs_no_more_than_its_bound() {
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        let error = read(head, &[b'x'; 65536], usize::MAX, 1 << 20).await;
        assert_eq!(error, Err("the answer is longer than 1048576 bytes".into()));
    }

    #[tokio::test]
    async fn a_length_beyond_the_bound_is_refused_before_a_byte() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
        let error = read(head, b"", 0, 6).await.unwrap_err();
        assert_eq!(error, "the answer is longer than 6 bytes");
    }

    #[tokio::test]
    async fn one_that_is_cut_is_an_error() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n",
        ] {
            assert!(read(head, b"abc", 1, 60).await.is_err(), "{head}");
        }
    }
}
