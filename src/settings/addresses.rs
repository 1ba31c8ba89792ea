//! Who this node is to others: where it listens, what listeners are told, and its primary.

use url::Url;

use super::choices::GetActions;
use super::reader::Reader;
use super::types::{Bind, Primary, Public, Web};
use super::values::{self, Read};

/// Where a relayctl primary listens unless told otherwise.
pub const DATA_PORT: u16 = 8000;

pub(super) fn bind(reader: &mut Reader<'_>) -> Option<Bind> {
    let mut bind = reader.get("bind", values::bind)?;
    if let Some(port) = reader.get("bind.port", |value| values::port(&values::plain(value)?)) {
        bind.port = port;
    }
    if let Some(address) = reader.get("bind.address", |value| {
        values::address(&values::text(value)?)
    }) {
        bind.address = address;
    }
    Some(bind)
}

/// Names and methods under which the administration is reached.
pub(super) fn web(reader: &mut Reader<'_>) -> Web {
    let hosts = reader.get("hosts", |value| {
        let items = values::list(value)?;
        items.iter().map(|item| values::host_name(item)).collect()
    });
    Web {
        hosts: hosts.unwrap_or_default(),
        get_actions: reader.word("admin.get_actions", GetActions::All),
    }
}

pub(super) fn public(reader: &mut Reader<'_>) -> Public {
    let withheld = reader.get("public_url", values::list) == Some(vec!["none".into()]);
    let urls: Vec<Url> = reader
        .get("public_url", |value| {
            let items = values::list(value)?;
            let items = if withheld { &[] } else { items.as_slice() };
            items.iter().map(|item| root_url(item)).collect::<Read<_>>()
        })
        .unwrap_or_default();
    for scheme in ["http", "https"] {
        if urls.iter().filter(|url| url.scheme() == scheme).count() > 1 {
            reader.problem(
                "public_url",
                format!("has two `{scheme}` URLs"),
                "leave one out",
            );
        }
    }
    let host = reader.get("public_url.host", |value| {
        let text = values::plain(value)?;
        let bracketed = if text.contains(':') && !text.starts_with('[') {
            format!("[{text}]")
        } else {
            text.clone()
        };
        url::Host::parse(&bracketed)
            .map(|host| host.to_string())
            .map_err(|_| format!("`{text}` is no host: write a name or an address alone"))
    });
    Public {
        urls,
        host,
        withheld,
    }
}

/// A URL whose path is `/`.
fn root_url(text: &str) -> Read<Url> {
    let url = values::http_url(text)?;
    if url.path() != "/" || url.query().is_some() {
        return Err(format!(
            "`{text}` has a path or a query: write scheme, host and port alone"
        ));
    }
    Ok(url)
}

pub(super) fn primary(reader: &mut Reader<'_>) -> Option<Primary> {
    let ours = reader.text("primary");
    let host = reader.text("primary.host");
    let port = reader.get("primary.port", |value| values::port(&values::plain(value)?));
    // Then the port is one that we added.
    let bare_name = host.is_none()
        && ours
            .as_deref()
            .is_some_and(|text| !text.contains([':', '/']));
    let (path, outcome) = match (host, ours) {
        (Some(host), _) => ("primary.host", relay_server(&host, port)),
        (None, Some(text)) => {
            let outcome = if text.contains("://") {
                root_url(&text)
            } else {
                bare(&text, DATA_PORT).and_then(|text| root_url(&text))
            };
            ("primary", outcome.map(|url| (url, false)))
        }
        (None, None) => {
            if port.is_some() {
                reader.problem("primary.port", "stands without `RelayServer`", "set both");
            }
            return None;
        }
    };
    match outcome {
        Ok((url, assumed_port)) => Some(Primary {
            any_port: url.port().is_none() || bare_name,
            url,
            assumed_port,
            said_by: reader.origin(path).to_string(),
        }),
        Err(what) => {
            reader.problem(path, what, "write it like `http://primary.example:8000`");
            None
        }
    }
}

/// `RelayServer` is a host, `host:port` or a URL; a path is left out, since what it named was the stream
/// and not the node. The port that stands in it wins over `RelayPort`.
fn relay_server(text: &str, port: Option<u16>) -> Read<(Url, bool)> {
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        format!("http://{}/{path}", bracket(host))
    };
    let mut url = values::http_url(&with_scheme)?;
    let has_port = with_scheme
        .split("://")
        .nth(1)
        .and_then(|rest| rest.split(['/', '?']).next())
        .is_some_and(|host| host.rsplit(']').next().is_some_and(|end| end.contains(':')));
    if let (false, Some(port)) = (has_port, port) {
        url.set_port(Some(port))
            .map_err(|()| format!("`{text}` takes no port"))?;
    }
    url.set_path("/");
    url.set_query(None);
    Ok((url, !has_port && port.is_none()))
}

/// `host` or `host:port` as a URL.
fn bare(text: &str, port: u16) -> Read<String> {
    let host = bracket(text);
    let ends_in_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
    Ok(if ends_in_port {
        format!("http://{host}")
    } else {
        format!("http://{host}:{port}")
    })
}

/// Brackets around a bare IPv6 address.
fn bracket(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else {
        host.into()
    }
}
