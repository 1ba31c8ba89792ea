//! Requests that browsers send, and the pages that made them do it. Pure: no socket, no settings, no clock.
//!
//! A browser keeps a password once it was typed and sends it along with every later request to this host, whichever
//! page asked for it. So a request that changes something is taken from a browser only where it names a page of ours
//! as its cause (cross-site request forgery, CWE-352), and one under a name that is not ours only where nothing says
//! that a page sent it (DNS rebinding). Plain-http hosts get no `Sec-Fetch-*` from browsers, so their absence says nothing.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::header::{ACCEPT_LANGUAGE, ORIGIN, REFERER, UPGRADE_INSECURE_REQUESTS, USER_AGENT};
use axum::http::{HeaderMap, HeaderName};
use url::Url;

/// Parts of agents that only browsers have. `like Gecko` has no slash, and the `(Mozilla Compatible)` of old encoders
/// has none of them.
const AGENTS: [&str; 3] = ["AppleWebKit", "Gecko/", "Trident"];

/// Effect of a request that is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Effect {
    /// Anybody may ask it, under any name.
    Public,
    /// The request needs a credential and changes nothing.
    Reads,
    /// The request changes the state of the node: a drain, a title, a token.
    Changes,
}

/// One request, reduced to what the rules read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Effect of the request, by its path and method.
    pub effect: Effect,
    /// True for `Authorization: Bearer`, which no browser sends by itself.
    pub bearer: bool,
    /// Header fields of the request.
    pub headers: &'a HeaderMap,
    /// `Host` as sent, and what trusted proxies say in `X-Forwarded-Host`.
    pub hosts: &'a Hosts,
    /// `scheme://host[:port]` at which this node or another one of its cluster is reached.
    pub public_urls: &'a [String],
    /// Further names of this node in lower case; `*.` in front stands for one or more labels.
    pub names: &'a [String],
}

/// Names under which a request was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hosts {
    /// Value of the field `Host`.
    pub direct: Option<String>,
    /// Values of `X-Forwarded-Host` that trusted proxies sent.
    pub forwarded: Vec<String>,
}

/// Reason for which a browser's request is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `Sec-Fetch-Site` says that a page of another site sent it.
    OtherSite,
    /// `Origin` or `Referer` name another host, or none.
    OtherOrigin,
    /// Neither of them is there.
    NoOrigin,
    /// `Host` is no name of this node.
    OtherHost,
}

impl Refusal {
    /// Value of the label `reason` that `relayctl_refusals_total` counts this refusal under.
    pub fn reason(self) -> &'static str {
        match self {
            Self::OtherSite => "foreign_site",
            Self::OtherOrigin => "foreign_origin",
            Self::NoOrigin => "no_origin",
            Self::OtherHost => "foreign_host",
        }
    }
}

/// Judges a request before its credential is looked at.
///
/// # Errors
/// The reason to answer 403.
pub(super) fn judge(asked: &Asked<'_>) -> Result<(), Refusal> {
    if asked.effect == Effect::Public {
        return Ok(());
    }
    if !asked.bearer && is_of_a_page(asked.headers) && !asked.is_own_name() {
        return Err(Refusal::OtherHost);
    }
    if asked.effect == Effect::Reads {
        return Ok(());
    }
    let sites = asked.headers.get_all("sec-fetch-site");
    if sites
        .iter()
        .any(|site| site != "same-origin" && site != "none")
    {
        return Err(Refusal::OtherSite);
    }
    let mut named = false;
    for header in [ORIGIN, REFERER] {
        for value in asked.headers.get_all(header) {
            named = true;
            if !value.to_str().is_ok_and(|text| asked.is_own_page(text)) {
                return Err(Refusal::OtherOrigin);
            }
        }
    }
    // A script that shows a token may well say what browsers say (Node's `fetch` does).
    if named || asked.bearer || !is_browser(asked.headers) {
        Ok(())
    } else {
        Err(Refusal::NoOrigin)
    }
}

/// True where a field or the agent is one that browsers send, and encoders and scripts do not.
pub(super) fn is_browser(headers: &HeaderMap) -> bool {
    let agents = headers.get_all(USER_AGENT).iter();
    let mut agents = agents.map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    headers.contains_key(ACCEPT_LANGUAGE)
        || headers.contains_key(UPGRADE_INSECURE_REQUESTS)
        || headers.keys().any(|name| starts_with(name, "sec-"))
        || agents.any(|agent| AGENTS.iter().any(|part| agent.contains(part)))
}

/// True where a field says that a page, not a person or a program, sent this.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.keys().any(|name| starts_with(name, "sec-fetch-"))
}

/// True where a field names the page that sent this, or says that one did.
pub(super) fn names_a_page(headers: &HeaderMap) -> bool {
    is_of_a_page(headers) || headers.contains_key(REFERER)
}

fn starts_with(name: &HeaderName, prefix: &str) -> bool {
    name.as_str().starts_with(prefix)
}

impl Asked<'_> {
    /// True for the URL of a page that this node served, by scheme, host and port.
    fn is_own_page(&self, page: &str) -> bool {
        let Some(page) = Url::parse(page).ok().as_ref().and_then(Place::of_url) else {
            // `null` comes from pages that hide their origin.
            return false;
        };
        let hosts = self.hosts.direct.iter().chain(&self.hosts.forwarded);
        let asked = hosts.filter_map(|host| Place::of_host(host, page.default_port));
        let urls = self.public_urls.iter();
        let public = urls.filter_map(|url| Place::of_url(&Url::parse(url).ok()?));
        asked
            .chain(public)
            .any(|own| own.host == page.host && own.port == page.port)
    }

    /// True where the name that the client asked for is one of this node.
    fn is_own_name(&self) -> bool {
        let direct = self.hosts.direct.as_ref();
        let forwarded = &self.hosts.forwarded;
        direct.is_some_and(|host| self.is_ours(host))
            || (!forwarded.is_empty() && forwarded.iter().all(|host| self.is_ours(host)))
    }

    fn is_ours(&self, host: &str) -> bool {
        let Some(Place { host, .. }) = Place::of_host(host, 0) else {
            return false;
        };
        is_literal(&host)
            || host == "localhost"
            || host.ends_with(".localhost")
            || self.names.iter().any(|name| is_named(name, &host))
            || self.public_urls.iter().any(|url| {
                let url = Url::parse(url).ok();
                url.as_ref()
                    .and_then(Place::of_url)
                    .is_some_and(|url| url.host == host)
            })
    }
}

fn is_literal(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    host.parse::<Ipv4Addr>().is_ok() || bare.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
}

/// True where `host` is `name`, or below it where that begins with `*.`.
fn is_named(name: &str, host: &str) -> bool {
    match name.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => name == host,
    }
}

/// Host and port of a page or a request.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Lower case, without the dot of the root.
    host: String,
    port: u16,
    /// The port that is meant where none is written.
    default_port: u16,
}

impl Place {
    fn of_url(url: &Url) -> Option<Self> {
        let default_port = match url.scheme() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some(Self {
            host: without_root(url.host_str()?),
            port: url.port().unwrap_or(default_port),
            default_port,
        })
    }

    /// `name`, `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
    fn of_host(text: &str, default_port: u16) -> Option<Self> {
        let text = text.trim();
        let port = text
            .rsplit_once(':')
            .filter(|(_, port)| !port.contains(']'));
        let (host, port) = match port {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, default_port),
        };
        (!host.is_empty()).then(|| Self {
            host: without_root(host),
            port,
            default_port,
        })
    }
}

fn without_root(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                            Chrome/156.0.0.0 Safari/537.36";
    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    const IE: &str = "Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko";

    fn header(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    /// A request to `radio.lan:8000`, a name of this node, whose public URL is `https://radio.example`.
    fn verdict(effect: Effect, fields: &[(&'static str, &str)]) -> Result<(), Refusal> {
        at("radio.lan:8000", &[], effect, false, fields)
    }

    fn at(
        host: &str,
        forwarded: &[&str],
        effect: Effect,
        bearer: bool,
        fields: &[(&'static str, &str)],
    ) -> Result<(), Refusal> {
        let headers = header(fields);
        let hosts = Hosts {
            direct: (!host.is_empty()).then(|| host.to_owned()),
            forwarded: forwarded.iter().map(|host| (*host).to_owned()).collect(),
        };
        judge(&Asked {
            effect,
            bearer,
            headers: &headers,
            hosts: &hosts,
            public_urls: &[
                "https://radio.example".into(),
                "http://198.51.100.7:8000".into(),
            ],
            names: &["radio.lan".into(), "*.studio.example".into()],
        })
    }

    #[test]
    fn browsers_and_others() {
        for browser in [
            &[("user-agent", CHROMIUM)],
            &[("user-agent", FIREFOX)],
            &[("user-agent", IE)],
            &[("accept-language", "de")],
            &[("upgrade-insecure-requests", "1")],
            &[("sec-gpc", "1")],
            &[("sec-ch-ua", "\"Chromium\"")],
            &[("sec-fetch-mode", "navigate")],
        ] {
            assert!(is_browser(&header(browser)), "{browser:?}");
            assert_eq!(verdict(Effect::Changes, browser), Err(Refusal::NoOrigin));
        }
        for other in [
            "",
            "curl/8.5.0",
            "libshout/2.4.6",
            "BUTT 0.1.40",
            "Mozilla/4.0 (Mozilla Compatible)",
            "ShoutcastDSP (Mozilla Compatible)",
            "Winamp 5.1 like Gecko",
            "NSPlayer/12.00 WMFSDK/12.00",
        ] {
            let fields = [("user-agent", other), ("accept", "*/*")];
            assert!(!is_browser(&header(&fields)), "{other}");
            assert_eq!(verdict(Effect::Changes, &fields), Ok(()), "{other}");
        }
    }

    #[test]
    fn what_changes_state_comes_from_a_page_of_ours() {
        let browser = ("user-agent", FIREFOX);
        for (fields, expected) in [
            (vec![], Err(Refusal::NoOrigin)),
            (vec![("origin", "http://radio.lan:8000")], Ok(())),
            (vec![("origin", "http://RADIO.lan:8000")], Ok(())),
            (
                vec![("referer", "http://radio.lan:8000/admin/stats?x")],
                Ok(()),
            ),
            (vec![("origin", "https://radio.example")], Ok(())),
            (vec![("origin", "http://198.51.100.7:8000")], Ok(())),
            (vec![("origin", "null")], Err(Refusal::OtherOrigin)),
            (vec![("origin", "")], Err(Refusal::OtherOrigin)),
            (vec![("referer", "about:blank")], Err(Refusal::OtherOrigin)),
            (
                vec![("origin", "http://evil.example")],
                Err(Refusal::OtherOrigin),
            ),
            (
                vec![("origin", "http://radio.lan")],
                Err(Refusal::OtherOrigin),
            ),
            (
                vec![("origin", "http://radio.lan:8001")],
                Err(Refusal::OtherOrigin),
            ),
            (
                vec![("origin", "http://radio.lan:8000.evil.example")],
                Err(Refusal::OtherOrigin),
            ),
            (
                vec![("origin", "http://evil.example/radio.lan:8000")],
                Err(Refusal::OtherOrigin),
            ),
            (
                vec![("referer", "http://radio.lan:8000@evil.example/")],
                Err(Refusal::OtherOrigin),
            ),
            (
                vec![("referer", "ftp://radio.lan:8000/")],
                Err(Refusal::OtherOrigin),
            ),
            (
                vec![
                    ("origin", "http://radio.lan:8000"),
                    ("referer", "http://evil.example/"),
                ],
                Err(Refusal::OtherOrigin),
            ),
            (
                vec![
                    ("origin", "http://radio.lan:8000"),
                    ("origin", "http://evil.example"),
                ],
                Err(Refusal::OtherOrigin),
            ),
            (
                vec![("sec-fetch-site", "cross-site")],
                Err(Refusal::OtherSite),
            ),
            (
                vec![("sec-fetch-site", "same-site")],
                Err(Refusal::OtherSite),
            ),
            (vec![("sec-fetch-site", "none")], Err(Refusal::NoOrigin)),
            (
                vec![("sec-fetch-site", "same-origin")],
                Err(Refusal::NoOrigin),
            ),
            (
                vec![
                    ("sec-fetch-site", "same-site"),
                    ("origin", "http://radio.lan:8000"),
                ],
                Err(Refusal::OtherSite),
            ),
            (
                vec![
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "http://radio.lan:8000"),
                ],
                Ok(()),
            ),
        ] {
            let with_agent: Vec<_> = fields.iter().copied().chain([browser]).collect();
            assert_eq!(
                verdict(Effect::Changes, &with_agent),
                expected,
                "{fields:?}"
            );
            assert_eq!(verdict(Effect::Public, &with_agent), Ok(()), "{fields:?}");
            assert_eq!(verdict(Effect::Reads, &with_agent), Ok(()), "{fields:?}");
            // A foreign page is refused whatever the agent calls itself.
            let script = expected.or_else(|refusal| match refusal {
                Refusal::NoOrigin if fields.is_empty() => Ok(()),
                refusal => Err(refusal),
            });
            assert_eq!(verdict(Effect::Changes, &fields), script, "{fields:?}");
        }
    }

    #[test]
    fn the_default_port_is_the_pages_own() {
        let of = |host: &str, origin: &str| {
            at(host, &[], Effect::Changes, false, &[("origin", origin)]).is_ok()
        };
        assert!(of("radio.lan", "http://radio.lan") && of("radio.lan:80", "http://radio.lan"));
        assert!(of("radio.lan", "https://radio.lan") && of("radio.lan:443", "https://radio.lan"));
        assert!(of("[::1]:8000", "http://[::1]:8000") && of("[::1]", "http://[::1]"));
        assert!(of("radio.lan.", "http://radio.lan"));
        assert!(!of("radio.lan", "http://radio.lan:8080"));
        assert!(!of("radio.lan:x", "http://radio.lan") && !of("", "http://radio.lan"));
    }

    #[test]
    fn a_trusted_proxys_host_counts() {
        let origin = [("origin", "http://www.radio.lan")];
        let by =
            |forwarded: &[&str]| at("127.0.0.1:8000", forwarded, Effect::Changes, false, &origin);
        assert_eq!(by(&[]), Err(Refusal::OtherOrigin));
        assert_eq!(by(&["www.radio.lan"]), Ok(()));
    }

    #[test]
    fn a_bearer_token_is_never_sent_by_a_page_of_another_site() {
        let node = [
            ("accept-language", "*"),
            ("sec-fetch-mode", "cors"),
            ("user-agent", "node"),
        ];
        let bearer = |host, fields: &[_]| at(host, &[], Effect::Changes, true, fields);
        assert_eq!(bearer("radio.lan:8000", &node), Ok(()));
        assert_eq!(bearer("any.name", &node), Ok(()));
        assert_eq!(
            at("radio.lan:8000", &[], Effect::Changes, false, &node),
            Err(Refusal::NoOrigin)
        );
        let foreign = [("origin", "http://evil.example")];
        assert_eq!(
            bearer("radio.lan:8000", &foreign),
            Err(Refusal::OtherOrigin)
        );
    }

    #[test]
    fn a_name_that_is_not_ours_takes_no_page() {
        let page = [("origin", "http://evil.example:8000")];
        let fetch = [("sec-fetch-site", "same-origin")];
        for effect in [Effect::Reads, Effect::Changes] {
            for fields in [&page, &fetch] {
                for host in [
                    "evil.example:8000",
                    "",
                    "radio.lan.evil.example",
                    "1.2.3.4.evil.example",
                    "studio.example",
                ] {
                    let verdict = at(host, &[], effect, false, fields);
                    assert_eq!(verdict, Err(Refusal::OtherHost), "{host}");
                }
            }
            assert_eq!(
                at("any.name", &[], effect, false, &[]),
                Ok(()),
                "an encoder"
            );
        }
        assert_eq!(
            at("evil.example", &[], Effect::Public, false, &page),
            Ok(())
        );
        for host in [
            "radio.lan:1",
            "RADIO.LAN.",
            "radio.example",
            "a.b.studio.example:8000",
            "localhost",
            "demo.localhost:1",
            "127.0.0.9:8000",
            "192.0.2.1",
            "[2001:db8::1]:8000",
            "[::1]",
        ] {
            assert_eq!(
                at(host, &[], Effect::Reads, false, &fetch),
                Ok(()),
                "{host}"
            );
        }
        let internal =
            |forwarded: &[&str]| at("backend:8000", forwarded, Effect::Reads, false, &fetch);
        assert_eq!(internal(&[]), Err(Refusal::OtherHost));
        assert_eq!(internal(&["radio.example"]), Ok(()));
        assert_eq!(
            internal(&["evil.example", "radio.example"]),
            Err(Refusal::OtherHost)
        );
    }
}
