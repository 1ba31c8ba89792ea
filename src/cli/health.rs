//! `relayctl health`: one question, exit 0 or 1, for the health checks of containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::args::HealthFlags;
use super::client;
use super::place::{self, Found, Places};
use super::{Exit, Failure, Outcome, node, print};
use crate::app::URL_FILE;
use crate::discovery::read_at_most;
use crate::settings::{DATA_PORT, Settings};

/// A container's check has some seconds itself.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Asks and prints the answer.
pub(super) fn run(flags: &HealthFlags) -> Outcome {
    let url = url(flags);
    let asked = client::block_on(async {
        let answer = client::plain(TIMEOUT)?.get(&url).send().await?;
        let status = answer.status();
        let body = read_at_most(answer, MAX_ANSWER).await?;
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok::<_, anyhow::Error>((status, body))
    })?;
    match asked {
        Ok((status, body)) if status.is_success() => print::text(&format!("{}\n", body.trim())),
        Ok((status, body)) => Err(Failure::said(
            Exit::Failed,
            format!("{url} answers {status}: {}", body.trim()),
        )),
        Err(error) => Err(Failure::said(
            Exit::Failed,
            format!("{url} does not answer: {:#}", client::short(error)),
        )),
    }
}

fn url(flags: &HealthFlags) -> String {
    if let Some(url) = &flags.url {
        return of(url);
    }
    if flags.data_dir.is_none()
        && let Some(url) = place::variable(&node::environment(), "RELAYCTL_ADDR")
    {
        return of(url);
    }
    of(&here(flags.data_dir.as_deref()))
}

/// Where the node of this machine listens, without a path.
fn here(data_dir: Option<&str>) -> String {
    let (places, settings) = place::places(data_dir);
    let url = kept(&places).unwrap_or_else(|| bound(settings.as_ref()));
    url.trim().trim_end_matches('/').to_owned()
}

/// File that a running node wrote beside its socket.
fn kept(places: &Places) -> Option<String> {
    match places.find(place::lives) {
        Found::One(place) => std::fs::read_to_string(place.join(URL_FILE)).ok(),
        _ => None,
    }
}

/// Where a node with these settings listens.
fn bound(settings: Option<&Settings>) -> String {
    let Some(bind) = settings.map(|settings| settings.bind) else {
        return format!("http://127.0.0.1:{DATA_PORT}");
    };
    let mut address = bind.socket_address();
    match address.ip() {
        IpAddr::V4(all) if all.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{address}")
}

/// A URL without a path means `/health`; a bare `host:port` is `http`.
fn of(text: &str) -> String {
    let text = client::with_scheme(text.trim());
    match url::Url::parse(&text) {
        Ok(mut url) if url.path() == "/" => {
            url.set_path("/health");
            url.into()
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_means_health() {
        for (given, meant) in [
            ("http://a:1", "http://a:1/health"),
            ("http://a:1/", "http://a:1/health"),
            ("a:8000", "http://a:8000/health"),
            ("127.0.0.1:8000\n", "http://127.0.0.1:8000/health"),
            ("http://a/readyz", "http://a/readyz"),
            (
                "https://a/health/source?mount=/x",
                "https://a/health/source?mount=/x",
            ),
        ] {
            assert_eq!(of(given), meant);
        }
        assert_eq!(bound(None), "http://127.0.0.1:8000");
    }
}
