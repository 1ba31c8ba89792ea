//! One question over HTTP/1.0, one answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// The longest answer.
const MAX_ANSWER: u64 = 16 << 20;

/// Status and body of `method path`; `headers` end with CR LF each.
///
/// # Errors
/// Where the server cannot be reached or answers no HTTP.
pub(super) fn ask(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
) -> anyhow::Result<(u16, String)> {
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {server}\r\nUser-Agent: relayctl-bench\r\n{headers}\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.context("no status in the answer")?, body.to_owned()))
}

/// Status of `GET path`, whose body may have no end: read no further than the head.
///
/// # Errors
/// As [`ask`].
pub(super) fn begins(server: SocketAddr, path: &str) -> anyhow::Result<u16> {
    let mut bytes = [0; 64];
    let count = get(server, path)?.read(&mut bytes)?;
    let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    status.context("no status in the answer")
}

/// Returns once the first byte behind an answer's head came.
///
/// # Errors
/// As [`ask`], and where the answer is none of success.
pub(super) fn first_byte(server: SocketAddr, path: &str) -> anyhow::Result<()> {
    let mut stream = get(server, path)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0 && bytes.len() < 64 << 10, "no audio");
        bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if head.is_some_and(|end| bytes.len() > end + 4) {
            let status = bytes.split(|byte| *byte == b' ').nth(1);
            ensure!(status == Some(b"200"), "not taken as a listener");
            return Ok(());
        }
    }
}

fn get(server: SocketAddr, path: &str) -> anyhow::Result<TcpStream> {
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let head =
        format!("GET {path} HTTP/1.0\r\nHost: {server}\r\nUser-Agent: relayctl-bench\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    Ok(stream)
}

/// The sum of a metric's series.
pub(super) fn metric(page: &str, name: &str) -> Option<f64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<f64>().ok()
    });
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::metric;

    #[test]
    fn series_of_one_name_are_added_up() {
        let page = "# HELP a_total x\na_total{mount=\"/a\"} 2\na_total{mount=\"/b c\"} 3\na_total_2 9\nb 1.5\n";
        assert_eq!(metric(page, "a_total"), Some(5.0));
        assert_eq!(metric(page, "b"), Some(1.5));
        assert_eq!(metric(page, "c"), None);
    }
}
