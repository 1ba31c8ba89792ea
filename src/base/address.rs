//! Client addresses as limits count them.

use std::net::{IpAddr, Ipv6Addr};

/// Reduces a client's address to the block that a limit counts: an IPv4 address stays whole (/32), an IPv6 address
/// becomes its /64, since one customer usually has a whole /64 (RFC 6177). IPv4-mapped addresses count as IPv4.
pub fn block_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_is_one_block() {
        let block = |text: &str| block_of(text.parse().unwrap()).to_string();
        assert_eq!(block("192.0.2.7"), "192.0.2.7");
        assert_eq!(block("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(block("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_ne!(block("2001:db8:1:3::1"), block("2001:db8:1:2::1"));
    }
}
