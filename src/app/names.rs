//! What this machine is called, from inside and by itself.

use std::net::SocketAddr;

use crate::base::ids::NodeId;

/// Where this very machine reaches the port.
pub(super) fn local_url(address: SocketAddr) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}

/// The host's name as far as it is a node name.
pub(super) fn host_name() -> NodeId {
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
    let clean: String = name.chars().map(clean).take(64).collect();
    clean.parse().unwrap_or_else(|_| NodeId::random())
}
