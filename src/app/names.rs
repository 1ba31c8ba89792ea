//! What this machine is called, from inside and by itself.

use std::net::SocketAddr;

use crate::base::ids::NodeId;

/// Where this very machine reaches the port.
pub(super) fn local_url(address: SocketAddr) -> String {
    format!("http://{}", local_address(address))
}

/// The address that leads from here to a port of this machine.
pub(super) fn local_address(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}

/// The host's name as far as it is a node name, with the start of the id: two nodes of one machine are told
/// apart, and each keeps its name over a restart.
pub(super) fn own_name(id: &NodeId) -> NodeId {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let clean = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
            c
        } else {
            '-'
        }
    };
    let host: String = name.chars().map(clean).take(32).collect();
    let start: String = id.as_str().chars().take(4).collect();
    let name = format!("{host}-{start}");
    name.trim_start_matches('-')
        .parse()
        .unwrap_or_else(|_| id.clone())
}
