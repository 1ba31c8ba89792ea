//! What `haproxy.cfg.tera` may use: a listener side in `mode http`, a source side in `mode tcp`.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::{RenderError, Role, Station, check};

/// HAProxy outwaits the hold of a mount by this.
const BEYOND_HOLD: Duration = Duration::from_secs(30);

/// First segments of the paths that administer, watch and join nodes, as a regular expression of HAProxy's; a doubled slash or a
/// parameter behind `;` makes no other path of them.
const OWN: &str = "^/[/.]*(admin|admin[.]cgi|api|cluster|dashboard|metrics)([/;]|$)";

#[derive(Serialize)]
struct Context {
    user: Option<String>,
    own: &'static str,
    expose: Vec<&'static str>,
    listen: String,
    source_listen: Option<String>,
    v1_listen: Option<String>,
    stats_listen: Option<String>,
    timeout: u64,
    servers: Vec<Server>,
    primary: Primary,
}

#[derive(Serialize)]
struct Server {
    name: String,
    address: String,
    maxconn: Option<u32>,
    backup: bool,
}

#[derive(Serialize)]
struct Primary {
    address: String,
    /// Where Shoutcast v1 sources go.
    v1_address: Option<String>,
    /// Checked in place of the v1 port, which must not meet a connection that says nothing.
    port: u16,
}

/// A word of a HAProxy line: what would end or open something gets a backslash.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ' ' | '\t' | '\\' | '#' | '"' | '\'') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

pub(super) fn context(station: &Station) -> Result<Value, RenderError> {
    let balancer = &station.balancer;
    check::port("balancer.port", balancer.port)?;
    let v1 = station.shoutcast_mount.is_some();
    let (host, port) = primary(station)?;
    check::port("port", port)?;
    let mut ports = vec![("balancer.port", balancer.port)];
    let mut source_listen = None;
    let mut v1_listen = None;
    if let Some(source) = balancer.source_port {
        check::port("balancer.source_port", source)?;
        ports.push(("balancer.source_port", source));
        source_listen = Some(listen(balancer.bind, source));
        if v1 {
            let next = check::next_port("balancer.source_port", source)?;
            ports.push(("balancer.source_port", next));
            v1_listen = Some(listen(balancer.bind, next));
        }
    }
    if let Some(stats) = balancer.stats_port {
        check::port("balancer.stats_port", stats)?;
        ports.push(("balancer.stats_port", stats));
    }
    distinct(&ports)?;
    let v1_address = match v1 && source_listen.is_some() {
        true => Some(check::authority(&host, check::next_port("port", port)?)),
        false => None,
    };
    if let Some(user) = &balancer.user {
        word("balancer.user", user)?;
    }
    let context = Context {
        user: balancer.user.clone(),
        own: OWN,
        expose: balancer.expose.clone(),
        listen: listen(balancer.bind, balancer.port),
        source_listen,
        v1_listen,
        stats_listen: balancer.stats_port.map(|port| format!("127.0.0.1:{port}")),
        timeout: check::seconds(station.hold + BEYOND_HOLD),
        servers: servers(station, &host, port)?,
        primary: Primary {
            address: check::authority(&host, port),
            v1_address,
            port,
        },
    };
    serde_json::to_value(context).map_err(|error| RenderError::value("station", error.to_string()))
}

/// `bind` as HAProxy writes it: `::` takes both families.
fn listen(bind: IpAddr, port: u16) -> String {
    match bind {
        IpAddr::V4(all) if all.is_unspecified() => format!("*:{port}"),
        IpAddr::V6(all) if all.is_unspecified() => format!("[::]:{port} v4v6"),
        one => check::authority(&one.to_string(), port),
    }
}

fn distinct(ports: &[(&str, u16)]) -> Result<(), RenderError> {
    for (index, (key, port)) in ports.iter().enumerate() {
        let before = ports.iter().take(index).find(|(_, other)| other == port);
        if let Some((other, _)) = before {
            return Err(RenderError::value(
                *key,
                format!("takes port {port}, which `{other}` has already: choose another"),
            ));
        }
    }
    Ok(())
}

/// Where the sources go: the primary among the nodes, else a relay's upstream, else this very node.
fn primary(station: &Station) -> Result<(String, u16), RenderError> {
    let node = station.nodes.iter().find(|n| n.role == Role::Primary);
    let (key, host, port) = match (node, &station.upstream, station.role) {
        (Some(node), _, _) => ("nodes", node.host.clone(), node.port),
        (None, Some(upstream), Role::Relay) => {
            ("upstream.host", upstream.host.clone(), upstream.port)
        }
        (None, None, Role::Relay) => {
            return Err(RenderError::value(
                "upstream",
                "is not set, so sources have nowhere to go: set `RELAYCTL_PRIMARY` to the primary's URL",
            ));
        }
        (None, _, Role::Primary) => ("public_host", own_host(station), station.port),
    };
    check::host(key, &host)?;
    Ok((host, port))
}

/// How HAProxy reaches this node: the address that it binds, else the name it tells, else on this machine.
fn own_host(station: &Station) -> String {
    if !station.bind.is_unspecified() {
        return station.bind.to_string();
    }
    station
        .told_host()
        .unwrap_or_else(|| "127.0.0.1".to_owned())
}

fn servers(station: &Station, host: &str, port: u16) -> Result<Vec<Server>, RenderError> {
    if station.nodes.is_empty() {
        let (name, host, port) = match station.role {
            Role::Primary => ("primary", host.to_owned(), port),
            Role::Relay => ("relay", own_host(station), station.port),
        };
        check::host("public_host", &host)?;
        return Ok(vec![Server {
            name: name.to_owned(),
            address: check::authority(&host, port),
            maxconn: Some(station.limits.max_listeners).filter(|most| *most > 0),
            backup: false,
        }]);
    }
    let relays = station.nodes.iter().any(|node| node.role == Role::Relay);
    let mut servers: Vec<Server> = Vec::with_capacity(station.nodes.len());
    for (index, node) in station.nodes.iter().enumerate() {
        word(&format!("nodes[{index}].name"), &node.name)?;
        check::host(&format!("nodes[{index}].host"), &node.host)?;
        check::port(&format!("nodes[{index}].port"), node.port)?;
        if servers.iter().any(|other| other.name == node.name) {
            return Err(RenderError::value(
                format!("nodes[{index}].name"),
                format!("is `{}`, which another node has already", node.name),
            ));
        }
        servers.push(Server {
            name: node.name.clone(),
            address: check::authority(&node.host, node.port),
            maxconn: node.max_listeners.filter(|most| *most > 0),
            backup: relays && node.role == Role::Primary,
        });
    }
    Ok(servers)
}

/// A name as HAProxy takes it.
fn word(key: &str, text: &str) -> Result<(), RenderError> {
    let is_fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if !text.is_empty() && text.bytes().all(is_fine) {
        return Ok(());
    }
    Err(RenderError::value(
        key,
        format!("is `{text}`: HAProxy takes letters, digits, `-`, `_` and `.`"),
    ))
}
