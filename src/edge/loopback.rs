//! Whose a connection over loopback is: the kernel's own table of connections says (proc(5), `/proc/net/tcp`).

use std::net::{IpAddr, SocketAddr};

/// True if the other end of a connection over loopback belongs to this process's user or to root. False where the
/// system has no such table.
pub(super) fn is_own_user(peer: SocketAddr, own: SocketAddr) -> bool {
    let (peer, own) = (canonical(peer), canonical(own));
    if !peer.ip().is_loopback() {
        return false;
    }
    let file = if peer.is_ipv4() {
        "/proc/net/tcp"
    } else {
        "/proc/net/tcp6"
    };
    let table = std::fs::read_to_string(file).unwrap_or_default();
    let uid = rustix::process::geteuid().as_raw();
    owner(&table, peer, own).is_some_and(|owner| owner == uid || owner == 0)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The user of the socket at `local` that is connected to `remote`.
fn owner(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let (local, remote) = (shown(local), shown(remote));
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let same = fields.next() == Some(local.as_str()) && fields.next() == Some(remote.as_str());
        same.then(|| fields.nth(4)?.parse().ok()).flatten()
    })
}

/// An address as the table has it: words of four bytes in the machine's order, and the port.
fn shown(address: SocketAddr) -> String {
    let bytes = match address.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut text = String::new();
    for word in bytes.chunks_exact(4) {
        let word = word.try_into().map_or(0, u32::from_ne_bytes);
        text.push_str(&format!("{word:08X}"));
    }
    format!("{text}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:C350 0100007F:1F40 01 00000000:00000000 00:00000000 00000000  1001        0 2 1 0 20 4 30 10 -1
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_line_of_the_other_end_is_read() {
        let at = |text: &str| text.parse().unwrap();
        let (peer, own) = (at("127.0.0.1:50000"), at("127.0.0.1:8000"));
        assert_eq!(owner(TABLE, peer, own), Some(1001));
        assert_eq!(owner(TABLE, own, peer), None);
        assert_eq!(owner("", peer, own), None);
        let v6 = shown(at("[::1]:8000"));
        assert_eq!(v6, "00000000000000000000000001000000:1F40");
    }

    #[test]
    fn a_connection_of_this_process_is_its_users() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let own = accepted.local_addr().unwrap();
        assert!(is_own_user(peer, own));
        let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), peer.port());
        assert!(
            is_own_user(mapped, own),
            "as a socket of both families sees it"
        );
        assert!(!is_own_user("192.0.2.1:1".parse().unwrap(), own));
        drop(client);
    }
}
