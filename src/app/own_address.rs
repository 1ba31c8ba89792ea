//! The address by which other machines reach this one, as far as the system tells.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::base::reach::Reach;

/// An address of documentation (RFC 5737): no packet is sent there.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// The address that packets to the world would carry, else one of an interface that others reach, else loopback.
pub(super) fn own_address() -> IpAddr {
    let interfaces = || {
        let v4 = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
        let v6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        widest(v4_of(&v4).into_iter().chain(v6_of(&v6)))
    };
    outward()
        .or_else(interfaces)
        .unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// Connecting a UDP socket sends nothing; without a route there is none.
fn outward() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ELSEWHERE).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (Reach::of_address(address) > Reach::Machine).then_some(address)
}

/// The first of those that are reached from furthest away; link-local ones name no machine by themselves.
fn widest(addresses: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
    let named = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    let mut others: Vec<IpAddr> = addresses
        .filter(|address| Reach::of_address(*address) > Reach::Machine && named(address))
        .collect();
    others.sort_by_key(|address| {
        (
            std::cmp::Reverse(Reach::of_address(*address)),
            address.is_ipv6(),
        )
    });
    others.into_iter().next()
}

/// The machine's own addresses in `/proc/net/fib_trie`: a line `|-- ADDRESS` before one of `/32 host LOCAL`.
fn v4_of(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => last = address.parse::<Ipv4Addr>().ok(),
            None if line == "/32 host LOCAL" => found.extend(last.map(IpAddr::V4)),
            None => {}
        }
    }
    found
}

/// The addresses in `/proc/net/if_inet6`: 32 hexadecimal digits at the start of each line.
fn v6_of(text: &str) -> Vec<IpAddr> {
    let digits = text.lines().filter_map(|line| line.split(' ').next());
    let numbers = digits.filter_map(|digits| u128::from_str_radix(digits, 16).ok());
    numbers
        .map(|number| IpAddr::V6(Ipv6Addr::from(number)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.9.9.0\n        /24 link UNICAST\n\
        Local:\n     +-- 10.9.9.0/31 1 0 0\n        |-- 10.9.9.1\n           /32 host LOCAL\n        |-- 10.9.9.255\n           \
        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 169.254.3.3\n        /32 host LOCAL\n";

    #[test]
    fn an_interface_without_a_route_is_found() {
        let v4 = v4_of(TRIE);
        assert_eq!(v4.len(), 3);
        assert_eq!(
            widest(v4.clone().into_iter()).unwrap().to_string(),
            "10.9.9.1"
        );
        let lines = "00000000000000000000000000000001 01 80 10 80 lo\n\
                     20010db8000000000000000000000007 02 40 00 80 eth0\n\
                     fe800000000000000000000000000001 02 40 20 80 eth0\n";
        let all = v4.into_iter().chain(v6_of(lines));
        assert_eq!(widest(all).unwrap().to_string(), "2001:db8::7");
        assert_eq!(
            widest(v6_of("00000000000000000000000000000001 01 80 10 80 lo\n").into_iter()),
            None
        );
        assert!(v4_of("nonsense\n|-- x\n/32 host LOCAL").is_empty());
    }
}
