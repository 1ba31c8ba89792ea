//! Heads of carried requests and of their answers, written anew: each says how long its message is in one way, that the
//! connection ends behind it, and nothing that was meant for the next hop alone (RFC 9110, 7.6.1).

use std::io::Write as _;

use super::VIA;
use crate::control::{CLIENT, MAX_MARKS};
use crate::wire::body::{BodyError, Framing};
use crate::wire::head::{Headers, Method, Request, Version};
use crate::wire::response::Response;

/// Fields between two neighbours on the way, beside those that `Connection` names.
const HOP: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
];

/// Fields by which a proxy tells its client's address. The relay's own mark does, and a client could write these.
const TOLD: [&str; 3] = ["forwarded", "via", "x-real-ip"];

/// The request as it goes to the primary. `mark` is the relay's word on its client; `node` is the relay's id.
pub(super) fn request(
    request: &Request,
    framing: Framing,
    mark: Option<&str>,
    node: &str,
) -> Vec<u8> {
    let mut headers = Headers::new();
    // Ours come first: a client that fills all fields pushes none of them out.
    headers.push("Connection", "close");
    match framing {
        Framing::Chunked => headers.push("Transfer-Encoding", "chunked"),
        Framing::Length(0) if !request.has_body() => true,
        Framing::Length(length) => headers.push("Content-Length", length.to_string()),
        Framing::UntilClose => true,
    };
    if request.expects_continue() {
        headers.push("Expect", "100-continue");
    }
    for id in request.headers.all(VIA).chain([node]) {
        headers.push(VIA, id);
    }
    for mark in marks(request).chain(mark) {
        headers.push(CLIENT, mark);
    }
    for (name, value) in end_to_end(&request.headers) {
        let is_told = TOLD.iter().any(|told| name.eq_ignore_ascii_case(told))
            || name.eq_ignore_ascii_case(VIA)
            || name.eq_ignore_ascii_case(CLIENT)
            || starts_with(name, "x-forwarded-");
        if !is_told {
            headers.push(name, value);
        }
    }
    let mut carried = Request::new(request.method.clone(), request.relative(), request.version);
    carried.headers = headers;
    carried.encode()
}

/// Marks of the relays before this one; what a client that was carried by none sends is none.
fn marks(request: &Request) -> impl Iterator<Item = &str> {
    let carried = request.headers.get(VIA).is_some();
    let marks = request.headers.all(CLIENT).filter(move |_| carried);
    marks.take(MAX_MARKS - 1)
}

fn starts_with(name: &str, prefix: &str) -> bool {
    let start = name.get(..prefix.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The fields that are meant for the other end.
fn end_to_end(headers: &Headers) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().filter(|(name, _)| {
        !HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop))
            && !name.eq_ignore_ascii_case("upgrade")
            && !headers.has_token("connection", name)
    })
}

/// How the body of an answer is read, and how it is written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Body {
    /// As the primary sends it.
    pub read: Framing,
    /// In chunks to the client. One that the connection's end delimits stays so: its end must not look like a whole one.
    pub chunked: bool,
}

/// Kind of body behind the head of the primary's answer to `request`.
///
/// # Errors
/// Where its transfer coding is not understood.
pub(super) fn body_of(
    response: &Response,
    request: &Request,
    framing: Framing,
) -> Result<Body, BodyError> {
    let is_source = matches!(request.method, Method::Put | Method::Source);
    if is_source && framing == Framing::UntilClose && (200..300).contains(&response.status) {
        // The source was taken; the exchange ends with its connection, and a last word may come before that.
        return Ok(Body {
            read: Framing::UntilClose,
            chunked: false,
        });
    }
    let read = match request.method {
        Method::Head => Framing::Length(0),
        _ => Framing::of_response(response)?,
    };
    let chunked = read == Framing::Chunked && request.version == Version::Http11;
    Ok(Body { read, chunked })
}

/// The answer's head as it goes to the client.
pub(super) fn answer(response: &Response, request: &Request, body: Body) -> Vec<u8> {
    let version = match request.method {
        Method::Source => Version::Http10,
        _ => request.version,
    };
    let mut out = Vec::with_capacity(512);
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "{} {} {}\r\n",
        version.status_version(),
        response.status,
        response.reason
    );
    let mut headers = Headers::new();
    headers.push("Connection", "close");
    if body.chunked {
        headers.push("Transfer-Encoding", "chunked");
    } else if let Some(length) = told_length(response, request, body) {
        headers.push("Content-Length", length.to_string());
    }
    for (name, value) in end_to_end(&response.headers) {
        headers.push(name, value);
    }
    headers.write(&mut out);
    out.extend_from_slice(b"\r\n");
    out
}

/// The length that the client is told: that of the body, or what the primary says where none follows (HEAD, 304) and of
/// the 200 that a source gets at once.
fn told_length(response: &Response, request: &Request, body: Body) -> Option<u64> {
    let without = request.method == Method::Head || matches!(response.status, 204 | 304);
    match body.read {
        Framing::Length(length) if !without => Some(length),
        Framing::Chunked => None,
        Framing::Length(_) | Framing::UntilClose => {
            let text = response.headers.get("content-length")?;
            text.trim().parse().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::parse;
    use crate::wire::response::parse_response;

    fn carried(head: &str, mark: Option<&str>) -> String {
        let (read, _) = parse(head.as_bytes()).unwrap().unwrap();
        let framing = Framing::of_request(&read).unwrap();
        String::from_utf8(request(&read, framing, mark, "r1")).unwrap()
    }

    #[test]
    fn a_request_is_one_request() {
        let head = "POST http://h/admin/metadata?a=b HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
                    Upgrade: h2c\r\nTE: trailers\r\nExpect: 100-continue\r\nContent-Length: 3, 3\r\nCookie: c\r\n\r\n";
        assert_eq!(
            carried(head, Some("m")),
            "POST /admin/metadata?a=b HTTP/1.1\r\nConnection: close\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\
             X-Relayctl-Via: r1\r\nX-Relayctl-Client: m\r\nHost: h\r\nCookie: c\r\n\r\n"
        );
        let chunked = carried(
            "PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity, Chunked\r\n\r\n",
            None,
        );
        assert!(
            chunked.starts_with(
                "PUT /a HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nX-Relayctl-Via: r1\r\nHost: h\r\n"
            ),
            "{chunked}"
        );
        // Old sources have lengths that mean nothing.
        let source = carried("SOURCE /a ICE/1.0\r\nContent-Length: 5\r\n\r\n", None);
        assert_eq!(
            source,
            "SOURCE /a ICE/1.0\r\nConnection: close\r\nX-Relayctl-Via: r1\r\n\r\n"
        );
    }

    #[test]
    fn what_a_client_says_of_itself_is_not_passed_on() {
        let head = "GET /admin/metadata HTTP/1.0\r\nX-Relayctl-Client: forged\r\nX-Forwarded-For: 1.2.3.4\r\n\
                    x-forwarded-PORT: 1\r\nForwarded: for=1.2.3.4\r\nVia: 1.1 x\r\nX-Real-IP: 1.2.3.4\r\n\r\n";
        assert_eq!(
            carried(head, Some("own")),
            "GET /admin/metadata HTTP/1.0\r\nConnection: close\r\nX-Relayctl-Via: r1\r\nX-Relayctl-Client: own\r\n\r\n"
        );
        // Of a relay before this one it is: the primary verifies each.
        let head = "GET /admin/metadata HTTP/1.0\r\nX-Relayctl-Via: r0\r\nX-Relayctl-Client: first\r\n\r\n";
        assert_eq!(
            carried(head, Some("own")),
            "GET /admin/metadata HTTP/1.0\r\nConnection: close\r\nX-Relayctl-Via: r0\r\nX-Relayctl-Via: r1\r\n\
             X-Relayctl-Client: first\r\nX-Relayctl-Client: own\r\n\r\n"
        );
    }

    #[test]
    fn a_hundred_fields_push_ours_not_out() {
        let fields: String = (0..100).map(|n| format!("A{n}: b\r\n")).collect();
        let head = format!("GET /admin/metadata HTTP/1.1\r\n{fields}\r\n");
        let sent = carried(&head, Some("own"));
        let (read, _) = parse(sent.as_bytes()).unwrap().unwrap();
        assert_eq!(read.headers.get(VIA), Some("r1"));
        assert_eq!(read.headers.get(CLIENT), Some("own"));
        assert!(!read.keep_alive());
    }

    fn answered(of: &str, head: &str) -> (Body, String) {
        let (read, _) = parse(of.as_bytes()).unwrap().unwrap();
        let framing = Framing::of_request(&read).unwrap();
        let (response, _) = parse_response(head.as_bytes()).unwrap().unwrap();
        let body = body_of(&response, &read, framing).unwrap();
        let head = answer(&response, &read, body);
        (body, String::from_utf8(head).unwrap())
    }

    #[test]
    fn an_answer_has_one_end() {
        let get = "GET /admin/metadata HTTP/1.1\r\nHost: h\r\n\r\n";
        let (body, head) = answered(
            get,
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\nX: y\r\n\r\n",
        );
        assert_eq!(body.read, Framing::Length(2));
        assert_eq!(
            head,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\nX: y\r\n\r\n"
        );
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n";
        let (body, head) = answered(get, chunks);
        assert!(body.chunked, "{head}");
        assert_eq!(
            head,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let (body, head) = answered("GET /admin.cgi HTTP/1.0\r\n\r\n", chunks);
        assert!(!body.chunked && body.read == Framing::Chunked);
        assert_eq!(head, "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n");
        let (body, head) = answered(
            "HEAD /admin/metadata HTTP/1.1\r\nHost: h\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
        );
        assert_eq!(body.read, Framing::Length(0));
        assert!(head.ends_with("Content-Length: 7\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_source_that_was_taken_goes_on_and_one_that_was_not_ends() {
        let put = "PUT /a HTTP/1.1\r\nHost: h\r\n\r\n";
        let (body, head) = answered(put, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(body.read, Framing::UntilClose);
        assert!(head.ends_with("Content-Length: 0\r\n\r\n"), "{head}");
        let (body, _) = answered(put, "HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\n");
        assert_eq!(body.read, Framing::Length(4));
        let old = "SOURCE /a HTTP/1.1\r\nHost: h\r\n\r\n";
        let (_, head) = answered(old, "HTTP/1.0 200 OK\r\n\r\n");
        assert_eq!(head, "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n");
    }
}
