//! A listener's request, and what it reads of the answer's head.

use std::net::SocketAddr;

use super::orders::Setup;

/// What a listener sends.
pub(super) fn request(setup: &Setup, number: u32, server: SocketAddr, path: &str) -> Vec<u8> {
    let who = number % setup.agents.max(1);
    let mut text =
        format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: relayctl-bench/{who}\r\n");
    if setup.agents > 1 {
        text.push_str(&format!(
            "Referer: http://page-{who}.example.org/player\r\n"
        ));
    }
    if setup.metadata {
        text.push_str("Icy-MetaData: 1\r\n");
    }
    text.push_str("Accept: */*\r\n\r\n");
    text.into_bytes()
}

/// A header's value.
pub(super) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Address and path of `http://ADDRESS:PORT/path`.
pub(super) fn place(url: &str) -> Option<(SocketAddr, String)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_once('/')?;
    Some((authority.parse().ok()?, format!("/{path}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = "HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:8001/a?rt=1\r\nicy-metaint:16000\r\n\r\n";
        assert_eq!(field(head, "ICY-MetaInt"), Some("16000"));
        let (server, path) = field(head, "location").and_then(place).unwrap();
        assert_eq!((server.port(), path.as_str()), (8001, "/a?rt=1"));
        assert!(place("https://x/").is_none());
    }
}
