//! Free ports of loopback for a child.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

/// Free ports that the system is asked for at one start.
const ASKED: u32 = 50;

/// Places below the range of outgoing connections that are tried after them.
const BELOW: u16 = 500;

/// The range that outgoing connections take their ports from (ip(7)).
const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Its lower end where it cannot be read: Linux's default.
const USUAL_LOW: u16 = 32_768;

/// Smallest port that is tried; those below are kept for the system's own services.
const LOWEST: u16 = 1024;

/// The first of `count` ports of 127.0.0.1 in a row that are free.
///
/// The system is asked first. It gives odd ports to who binds and even ones to who connects, so that with many
/// outgoing connections no two neighbours of its range are free: after that, places below the range are tried, from
/// one that `random` picks.
///
/// # Errors
/// Where nothing was free, or the system gives no socket.
pub(super) fn free_ports(count: u16, random: u16) -> io::Result<u16> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..ASKED {
        match bind(0).and_then(|first| Ok((first.local_addr()?.port(), first))) {
            Ok((port, _first)) if are_free(port, 1, count) => return Ok(port),
            Ok(_) => {}
            Err(error) => {
                last = error;
                break;
            }
        }
    }
    let range = std::fs::read_to_string(RANGE).unwrap_or_default();
    let mut places = places_below(low_end(&range), count, random);
    places.find(|port| are_free(*port, 0, count)).ok_or(last)
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// True where the ports `base + from` to `base + count - 1` are free.
fn are_free(base: u16, from: u16, count: u16) -> bool {
    (from..count).all(|step| {
        base.checked_add(step)
            .is_some_and(|port| bind(port).is_ok())
    })
}

/// The lower end of a range as the kernel writes it: two numbers.
fn low_end(range: &str) -> u16 {
    let low = range.split_whitespace().next();
    low.and_then(|low| low.parse().ok()).unwrap_or(USUAL_LOW)
}

/// First ports of `count` in a row below `low`, downward from one of them and round.
fn places_below(low: u16, count: u16, random: u16) -> impl Iterator<Item = u16> {
    let count = count.max(1);
    let room = low.saturating_sub(LOWEST) / count;
    let places = room.min(BELOW);
    (0..places).map(move |step| {
        let place = random.wrapping_add(step) % places.max(1);
        low.saturating_sub(place.saturating_add(1).saturating_mul(count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_and_two_that_are_free() {
        let port = free_ports(1, 0).unwrap();
        assert!(bind(port).is_ok());
        let port = free_ports(2, 0).unwrap();
        assert!(bind(port).is_ok() && bind(port + 1).is_ok());
    }

    #[test]
    fn below_the_range_no_place_is_tried_twice() {
        let mut places: Vec<u16> = places_below(40_000, 2, 499).collect();
        assert_eq!((places.len(), places[0], places[1]), (500, 39_000, 39_998));
        places.sort_unstable();
        assert_eq!((places[0], places[499]), (39_000, 39_998));
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] == 2));
        let few: Vec<u16> = places_below(1028, 2, 7).collect();
        assert_eq!(few, [1024, 1026]);
        assert_eq!(places_below(1024, 1, 3).count(), 0);
        assert_eq!(places_below(0, 1, 3).count(), 0);
    }

    #[test]
    fn the_range_as_the_kernel_writes_it() {
        assert_eq!(low_end("40000\t40199\n"), 40_000);
        assert_eq!(low_end(""), USUAL_LOW);
    }
}
