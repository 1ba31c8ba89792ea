//! What goes to the engine on behalf of others: a source, a listener, a title, the end of a source.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::ask::{self, AGENT};
use super::{Kind, Outside, Place, State};
use crate::base::ids::{MountId, encoded_path};
use crate::base::secret::Secret;
use crate::discovery::Stream;
use crate::wire::basic::Basic;
use crate::wire::body::{BodyDecoder, Framing};
use crate::wire::head::{Method, Request, Version};
use crate::wire::icy::clean_field;
use crate::wire::response::Response;
use crate::wire::title::Title;

/// How long the engine may take to take or refuse somebody.
const ANSWER: Duration = Duration::from_secs(10);

/// What a refused client is told at most.
const WORDS: usize = 512;

/// A source that wants in. Its password was judged where the engine is a child; else the engine judges it.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The mount that it feeds.
    pub mount: MountId,
    /// What it sends.
    pub content_type: String,
    /// What it says of itself, by the carried names (`icy-name`).
    pub headers: Vec<(String, String)>,
    /// `User-Agent`.
    pub agent: String,
    /// Its own password.
    pub password: Secret,
    /// Audio bytes between the titles that it sends inside, where it does.
    pub metaint: Option<u32>,
}

/// A listener, as far as the engine is told.
#[derive(Debug, Clone)]
pub struct Guest<'a> {
    /// The path there, and the query.
    pub target: String,
    /// Its `User-Agent`.
    pub agent: &'a str,
    /// Its `Referer`.
    pub referer: &'a str,
    /// It wants titles.
    pub metadata: bool,
    /// Its `Authorization`.
    pub login: Option<&'a str>,
    /// Where it comes from.
    pub address: IpAddr,
}

/// A stream that plays: the head is read, the rest follows.
pub struct Audio {
    /// The head.
    pub response: Response,
    /// The connection.
    pub stream: Stream,
    /// Takes the body apart.
    pub decoder: BodyDecoder,
    /// What came with the head.
    pub rest: Vec<u8>,
}

/// The engine does not want somebody, or cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// A status for the client: the engine's own where it said one, else 502 or 503.
    pub status: u16,
    /// Its own words, or ours.
    pub text: String,
}

impl Refused {
    fn unreachable(place: &Place, error: &dyn std::fmt::Display) -> Self {
        Self {
            status: 503,
            text: format!("the audio engine at {place} cannot be reached ({error}): try again"),
        }
    }
}

impl Outside {
    /// Logs a source in; its audio may follow.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn log_in(&self, place: &Place, offer: &Offer) -> Result<Stream, Refused> {
        let kind = self.status().kind.unwrap_or(Kind::Icecast);
        let logging = async {
            match kind {
                Kind::Icecast => self.log_in_by_source(place, offer).await,
                Kind::Shoutcast => self.log_in_by_line(place, offer).await,
            }
        };
        let answered = tokio::time::timeout(ANSWER, logging).await;
        answered.unwrap_or_else(|_| Err(Refused::unreachable(place, &"no answer")))
    }

    /// `SOURCE`, which every Icecast takes at once and without framing.
    async fn log_in_by_source(&self, place: &Place, offer: &Offer) -> Result<Stream, Refused> {
        let own = self.source.load();
        let password = if self.is_attached() {
            &offer.password
        } else {
            &**own
        };
        let target = encoded(&self.path_of(&offer.mount));
        let mut request = Request::new(Method::Source, target, Version::Http10);
        let headers = &mut request.headers;
        let login = Basic::new("source", password_of(password, &offer.password));
        headers.push("Host", place.to_string());
        headers.push("Authorization", login.encode());
        headers.push("User-Agent", &offer.agent);
        headers.push("Content-Type", &offer.content_type);
        for (name, value) in &offer.headers {
            headers.push(name, value);
        }
        if let Some(metaint) = offer.metaint {
            headers.push("icy-metaint", metaint.to_string());
        }
        let stream = self.connect(place, place.port).await;
        let stream = stream.map_err(|error| Refused::unreachable(place, &error))?;
        let answered = ask::send(stream, &request.encode()).await;
        let answered = answered.map_err(|error| Refused::unreachable(place, &error))?;
        self.answered();
        match answered.response.status {
            200 => Ok(answered.stream),
            status => Err(refusal(status, answered).await),
        }
    }

    /// Shoutcast v1, on the next port: a line with the password, `OK2`, the fields. Stream 1 unless the statistics
    /// name another for the mount.
    async fn log_in_by_line(&self, place: &Place, offer: &Offer) -> Result<Stream, Refused> {
        let broken = |error: io::Error| Refused::unreachable(place, &error);
        let own = self.source.load();
        let password = if self.is_attached() {
            &offer.password
        } else {
            &**own
        };
        let password = password_of(password, &offer.password);
        let number = self.number_of(&offer.mount);
        let port = place.port.saturating_add(1);
        let mut stream = self.connect(place, port).await.map_err(broken)?;
        let line = format!("{}:#{number}\r\n", password.reveal());
        stream.write_all(line.as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let mut said = Vec::with_capacity(64);
        while !said.contains(&b'\n') && said.len() < WORDS {
            if stream.read_buf(&mut said).await.map_err(broken)? == 0 {
                break;
            }
        }
        if !said.starts_with(b"OK2") {
            let words = clean_field(&String::from_utf8_lossy(&said));
            let status = if words.contains("password") || words.is_empty() {
                401
            } else {
                403
            };
            return Err(Refused {
                status,
                text: format!("the engine refuses this source: {words}"),
            });
        }
        let mut fields = String::new();
        for (name, value) in &offer.headers {
            fields.push_str(&format!("{name}:{value}\r\n"));
        }
        fields.push_str(&format!("content-type:{}\r\n\r\n", offer.content_type));
        stream.write_all(fields.as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        Ok(stream)
    }

    /// Begins a listener's stream.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn listen(&self, place: &Place, guest: &Guest<'_>) -> Result<Audio, Refused> {
        let mut request = Request::new(Method::Get, &guest.target, Version::Http10);
        let headers = &mut request.headers;
        headers.push("Host", place.to_string());
        headers.push("User-Agent", guest.agent);
        headers.push("Accept", "*/*");
        // Icecast 2.4 writes it into nothing; icecast-kh and Shoutcast show it.
        headers.push("X-Forwarded-For", guest.address.to_string());
        if !guest.referer.is_empty() {
            headers.push("Referer", guest.referer);
        }
        if guest.metadata {
            headers.push("Icy-MetaData", "1");
        }
        if let Some(login) = guest.login {
            headers.push("Authorization", login);
        }
        let asked = async {
            let stream = self.connect(place, place.port).await?;
            ask::send(stream, &request.encode()).await
        };
        let answered = match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => return Err(Refused::unreachable(place, &error)),
            Err(_) => return Err(Refused::unreachable(place, &"no answer")),
        };
        self.answered();
        let framing = Framing::of_response(&answered.response);
        match (answered.response.status, framing) {
            (200, Ok(framing)) => Ok(Audio {
                decoder: BodyDecoder::new(framing),
                response: answered.response,
                stream: answered.stream,
                rest: answered.rest,
            }),
            (200, Err(error)) => Err(Refused::unreachable(place, &error)),
            (status, _) => Err(refusal(status, answered).await),
        }
    }

    /// Sets a title, as the child's administrator or, at an attached server without one, with the client's own
    /// credentials: `login` is its `Authorization`, `password` the one it gave.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn set_title(
        &self,
        mount: &MountId,
        title: &Title,
        login: Option<&str>,
        password: Option<&str>,
    ) -> Result<(), Refused> {
        let status = self.status();
        let song = utf8_percent_encode(&title.text, NON_ALPHANUMERIC);
        let url = title.url.as_deref().map_or_else(String::new, |url| {
            format!("&url={}", utf8_percent_encode(url, NON_ALPHANUMERIC))
        });
        let target = match status.kind.unwrap_or(Kind::Icecast) {
            Kind::Icecast => {
                let path = self.path_of(mount);
                let path = encoded_path(&path, NON_ALPHANUMERIC);
                format!("/admin/metadata?mount={path}&mode=updinfo&charset=UTF-8&song={song}{url}")
            }
            Kind::Shoutcast => {
                let own = self.source.load();
                let pass = password
                    .filter(|_| self.is_attached())
                    .unwrap_or(own.reveal());
                let pass = utf8_percent_encode(pass, NON_ALPHANUMERIC);
                let number = self.number_of(mount);
                format!("/admin.cgi?sid={number}&pass={pass}&mode=updinfo&song={song}{url}")
            }
        };
        let login = login.filter(|_| self.is_attached() && self.config.admin.is_none());
        self.order(status.place, &target, login).await?;
        self.look_soon();
        Ok(())
    }

    /// Ends a mount's source. False if it has none.
    pub async fn end_source(&self, mount: &MountId) -> bool {
        if self.sources.end(mount) {
            return true;
        }
        let status = self.status();
        let path = self.path_of(mount);
        let target = match status.kind.unwrap_or(Kind::Icecast) {
            Kind::Icecast => {
                let path = encoded_path(&path, NON_ALPHANUMERIC);
                format!("/admin/killsource?mount={path}")
            }
            Kind::Shoutcast => format!("/admin.cgi?sid={}&mode=kicksrc", self.number_of(mount)),
        };
        self.order(status.place, &target, None).await.is_ok()
    }

    async fn order(
        &self,
        place: Option<Place>,
        target: &str,
        login: Option<&str>,
    ) -> Result<(), Refused> {
        let down = || Refused {
            status: 503,
            text: "the audio engine is down: try again".to_owned(),
        };
        let place = place
            .filter(|_| self.status.borrow().state == State::Up)
            .ok_or_else(down)?;
        let (status, body) = match self.get(&place, target, login).await {
            Ok(answer) => answer,
            Err(error) => {
                return Err(Refused {
                    status: 503,
                    text: error,
                });
            }
        };
        if status == 200 {
            return Ok(());
        }
        Err(Refused {
            status,
            text: words(&body),
        })
    }

    /// Shoutcast's number of a mount: its place in the list of the configuration, as rendered; 1 where nobody knows.
    fn number_of(&self, mount: &MountId) -> u32 {
        let numbers = self.numbers.load();
        let known = numbers.iter().find(|(path, _)| path == mount.path());
        known.map_or(1, |(_, number)| *number)
    }
}

/// A child's mount may have a password of its own, which was judged already: then the client's own is the right one.
fn password_of(general: &Secret, own: &Secret) -> Secret {
    if own.is_empty() {
        general.clone()
    } else {
        own.clone()
    }
}

async fn refusal(status: u16, answered: ask::Answered) -> Refused {
    let text = match tokio::time::timeout(Duration::from_secs(1), ask::body(answered)).await {
        Ok(Ok(body)) => words(&body),
        _ => String::new(),
    };
    let text = match text.as_str() {
        "" => format!("the audio engine answers {status}"),
        words => format!("the audio engine answers {status}: {words}"),
    };
    Refused { status, text }
}

/// Text without markup.
fn words(body: &[u8]) -> String {
    let mut inside = false;
    let text = String::from_utf8_lossy(body.get(..WORDS * 2).unwrap_or(body));
    let plain: String = text
        .chars()
        .filter(|c| {
            match c {
                '<' => inside = true,
                '>' => inside = false,
                _ => return !inside,
            }
            false
        })
        .collect();
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    plain.chars().take(WORDS).collect()
}

/// A path as a request line has it.
fn encoded(path: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC
        .remove(b'/')
        .remove(b'.')
        .remove(b'-')
        .remove(b'_')
        .remove(b'~')
        .remove(b':')
        .remove(b'@')
        .remove(b'+')
        .remove(b',')
        .remove(b';')
        .remove(b'=');
    encoded_path(path, KEPT)
}

/// The target of a listener's request: a path there and a query.
pub(super) fn target(path: &str, query: &str) -> String {
    match query {
        "" => encoded(path),
        query => format!("{}?{query}", encoded(path)),
    }
}

impl<'a> Guest<'a> {
    /// A listener of `path` (there) with `query`, which may be empty.
    pub fn new(path: &str, query: &str, address: IpAddr) -> Self {
        Self {
            target: target(path, query),
            agent: AGENT,
            referer: "",
            metadata: false,
            login: None,
            address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_says_without_its_markup() {
        let page = b"<html><head><title>Error 404</title></head><body><b>404 - no \n such</b></body></html>\r\n";
        assert_eq!(words(page), "Error 404404 - no such");
        assert_eq!(words(b"Mountpoint in use\r\n"), "Mountpoint in use");
        assert_eq!(target("/a b/ü.mp3", ""), "/a%20b/%C3%BC.mp3");
        assert_eq!(target("/a", "x=1"), "/a?x=1");
    }
}
