//! From a URL to a stream that can be played: the request, redirects, and what is accepted.

use tokio::time::timeout;
use url::Url;

use super::Foreign;
use crate::base::secret::Secret;
use crate::engine::format;
use crate::upstream::AGENT;
use crate::upstream::client::{self, Reply, shown};
use crate::wire::basic::Basic;
use crate::wire::head::{Method, Request, Version};
use crate::wire::response::Response;

/// Most redirects in a row.
const MAX_REDIRECTS: usize = 5;

/// An upstream that sends audio.
pub(super) struct Opened {
    pub(super) reply: Reply,
    /// As declared; `audio/mpeg` where nothing is.
    pub(super) content_type: String,
    /// `icy-*` and `ice-*`, lower-case names.
    pub(super) headers: Vec<(String, String)>,
    /// Bytes between two titles, 0 for none.
    pub(super) metaint: u32,
    /// What the server calls itself.
    pub(super) server: String,
}

impl Foreign {
    /// Asks `url`, follows redirects, and looks at the answer. The error says what is wrong and what to do.
    pub(super) async fn open(&self, url: &Url) -> Result<Opened, String> {
        let mut login = self.login(url);
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let request = self.request(&url, login.as_ref());
            let answer = client::send(&self.connector, &url, &request);
            let reply = match timeout(self.pace.answer, answer).await {
                Ok(Ok(reply)) => reply,
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err(format!("no answer in {:?}", self.pace.answer)),
            };
            match reply.response.status {
                200 => return accept(reply),
                301 | 302 | 303 | 307 | 308 => {
                    let next = redirect(&url, &reply.response)?;
                    if !same_place(&url, &next) {
                        login = None;
                    }
                    url = next;
                }
                _ => return Err(refusal(&reply.response)),
            }
        }
        Err("more than 5 redirects: give the URL that they should end at".to_owned())
    }

    /// The credentials for the first request: those in the URL, else the configured ones.
    fn login(&self, url: &Url) -> Option<Basic> {
        if let Some(password) = url.password() {
            let text = |raw: &str| {
                let decoded = percent_encoding::percent_decode_str(raw);
                decoded.decode_utf8_lossy().into_owned()
            };
            return Some(Basic::new(
                text(url.username()),
                Secret::new(text(password)),
            ));
        }
        let (user, password) = self.config.login.as_ref()?;
        Some(Basic::new(user.clone(), password.clone()))
    }

    fn request(&self, url: &Url, login: Option<&Basic>) -> Request {
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        // 1.0, since some servers chunk whatever asks by 1.1, titles and all.
        let mut request = Request::new(Method::Get, target, Version::Http10);
        let headers = &mut request.headers;
        headers.push("Host", client::host_field(url));
        headers.push("User-Agent", format!("{AGENT} (Icecast relay)"));
        headers.push("Accept", "*/*");
        if self.config.metadata {
            headers.push("Icy-MetaData", "1");
        }
        if let Some(login) = login {
            headers.push("Authorization", login.encode());
        }
        request
    }
}

/// Where an answer sends us; http and https only.
fn redirect(from: &Url, response: &Response) -> Result<Url, String> {
    let location = response.headers.get("location").unwrap_or_default();
    let mut next = from
        .join(location)
        .ok()
        .filter(|_| !location.is_empty())
        .ok_or_else(|| format!("it redirects to `{location}`, which is no URL"))?;
    if !matches!(next.scheme(), "http" | "https") || next.host_str().is_none() {
        let text = shown(&next);
        return Err(format!(
            "it redirects to `{text}`: only http and https are followed"
        ));
    }
    // Credentials are ours to give, not theirs.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    Ok(next)
}

/// True where credentials may go along: the same host and port, and not from TLS into the clear.
fn same_place(from: &Url, to: &Url) -> bool {
    let upgraded = from.scheme() == "http" && to.scheme() == "https" && to.port().is_none();
    from.host_str() == to.host_str()
        && (upgraded && from.port().is_none()
            || from.scheme() == to.scheme()
                && from.port_or_known_default() == to.port_or_known_default())
}

fn refusal(response: &Response) -> String {
    let hint = match response.status {
        401 | 403 => ": check `username` and `password`",
        404 | 400 => ": check the path, and that its source is connected",
        503 | 509 => ": the server is full; ask its operator for a relay's place",
        _ => "",
    };
    let status = format!("{} {}", response.status, response.reason);
    format!("it answered {}{hint}", status.trim_end())
}

fn accept(reply: Reply) -> Result<Opened, String> {
    let headers = &reply.response.headers;
    let declared = headers.get("content-type").unwrap_or_default().trim();
    let content_type = match declared {
        "" => "audio/mpeg",
        other => other,
    };
    let normal = format::normalise_content_type(content_type);
    if is_playlist(format::without_parameters(&normal)) || !format::is_taken(&normal) {
        return Err(format!(
            "it answered with `{normal}`: give the stream's own URL (for Shoutcast `/;` or `/stream`)"
        ));
    }
    let carried = headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .filter(|(name, _)| is_carried(name))
        .collect();
    let metaint = headers.get("icy-metaint").unwrap_or_default();
    Ok(Opened {
        content_type: content_type.to_owned(),
        headers: carried,
        metaint: metaint.trim().parse().unwrap_or(0),
        server: headers.get("server").unwrap_or_default().to_owned(),
        reply,
    })
}

fn is_playlist(content_type: &str) -> bool {
    matches!(
        content_type,
        "audio/x-mpegurl" | "audio/mpegurl" | "audio/x-scpls" | "audio/scpls"
    )
}

/// Of the station, not of this one connection.
fn is_carried(name: &str) -> bool {
    (name.starts_with("icy-") || name.starts_with("ice-"))
        && !matches!(name, "icy-metaint" | "icy-metadata" | "icy-caps")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_in_their_place() {
        for (from, to, same) in [
            ("http://a/x", "http://a/y", true),
            ("http://a:80/x", "http://a/y", true),
            ("http://a/x", "https://a/x", true),
            ("https://a/x", "http://a/x", false),
            ("http://a:8000/x", "https://a/x", false),
            ("http://a/x", "http://b/x", false),
            ("http://a/x", "http://a:8000/x", false),
        ] {
            let (one, two): (Url, Url) = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(same_place(&one, &two), same, "{from} {to}");
        }
    }

    #[test]
    fn redirects_lead_to_http_only() {
        let from: Url = "http://a:8000/live".parse().unwrap();
        let to = |location: &str| {
            let head = format!("HTTP/1.0 302 Found\r\nLocation: {location}\r\n\r\n");
            let (response, _) = crate::wire::response::parse_response(head.as_bytes())
                .unwrap()
                .unwrap();
            redirect(&from, &response).map(String::from)
        };
        assert_eq!(to("/b?c=d").unwrap(), "http://a:8000/b?c=d");
        assert_eq!(to("https://u:p@b/c").unwrap(), "https://b/c");
        for location in ["", "file:///etc/passwd", "icy://b/c", "http://"] {
            assert!(to(location).is_err(), "{location}");
        }
    }
}
