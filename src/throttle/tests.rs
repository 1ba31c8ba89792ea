use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const RIGHT: Digest = [1; 16];
const OTHER_RIGHT: Digest = [2; 16];

fn address(n: u32) -> Remote {
    Remote::direct(IpAddr::V4(Ipv4Addr::from(0x7f00_0000 + n)))
}

/// A digest that no other guess has.
fn guess(n: u64) -> Digest {
    let mut digest = [9; 16];
    digest[..8].copy_from_slice(&n.to_be_bytes());
    digest
}

fn wrong(throttle: &mut Throttle, remote: Remote, door: Door, n: u64, now: Instant) -> bool {
    let asked = throttle.ask(remote, door, &guess(n), now);
    if asked.is_ok() {
        throttle.wrong(remote, door, &guess(n), now);
    }
    asked.is_ok()
}

fn right(throttle: &mut Throttle, remote: Remote, digest: Digest, now: Instant) -> bool {
    let asked = throttle.ask(remote, Door::Admin, &digest, now);
    if asked.is_ok() {
        throttle.right(remote, Door::Admin, digest, now);
    }
    asked.is_ok()
}

/// Guesses of which each was compared, at `each` a second for so many seconds.
fn flood(throttle: &mut Throttle, each: u64, seconds: u64, remote: impl Fn(u64) -> Remote) -> u64 {
    let start = Instant::now();
    let pause = Duration::from_secs(1) / u32::try_from(each).unwrap();
    let compared = (0..each * seconds).filter(|n| {
        let now = start + pause * u32::try_from(*n).unwrap();
        wrong(throttle, remote(*n), Door::Admin, *n, now)
    });
    compared.count() as u64
}

#[test]
fn a_flood_is_compared_once_a_second() {
    let compared = flood(&mut Throttle::default(), 1000, 60, |_| address(1));
    assert_eq!(compared, u64::from(FREE) + 59);
}

#[test]
fn delays_grow_to_a_minute() {
    let (mut throttle, mut now) = (Throttle::default(), Instant::now());
    let remote = address(1);
    let mut delays = Vec::new();
    for n in 0..14 {
        assert!(wrong(&mut throttle, remote, Door::Admin, n, now));
        match throttle.ask(remote, Door::Admin, &guess(99), now) {
            Ok(()) => throttle.undecided(remote, Door::Admin),
            Err(wait) => delays.push(wait.as_secs()),
        }
        now += LONGEST_DELAY;
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    now += QUIET;
    for n in 0..u64::from(FREE) {
        assert!(
            wrong(&mut throttle, remote, Door::Admin, n, now),
            "{n} after a quiet time"
        );
    }
    assert!(!wrong(&mut throttle, remote, Door::Admin, 7, now));
}

#[test]
fn one_who_was_right_is_never_delayed() {
    let (mut throttle, start) = (Throttle::default(), Instant::now());
    let remote = address(1);
    assert!(right(&mut throttle, remote, RIGHT, start));
    let mut compared = 0;
    for n in 0..10_000 {
        let now = start + Duration::from_millis(n);
        compared += u64::from(wrong(&mut throttle, remote, Door::Admin, n, now));
        assert!(right(&mut throttle, remote, RIGHT, now), "at {n}");
    }
    // The known one took none of the guesser's turns either.
    assert_eq!(compared, u64::from(FREE) + 9);
    let later = start + Duration::from_secs(10) + A_DAY;
    for n in 0..u64::from(FREE) {
        wrong(&mut throttle, remote, Door::Admin, n, later);
    }
    assert!(
        !right(&mut throttle, remote, RIGHT, later),
        "forgotten after a day"
    );
}

#[test]
fn a_new_right_one_has_a_turn_each_second() {
    let (mut throttle, mut now) = (Throttle::default(), Instant::now());
    let remote = address(1);
    for n in 0..10 {
        assert!(wrong(&mut throttle, remote, Door::Admin, n, now));
        now += SPACING;
    }
    // Its delay is half a minute by now.
    assert!(right(&mut throttle, remote, RIGHT, now));
    assert!(!right(&mut throttle, remote, OTHER_RIGHT, now));
    assert!(right(&mut throttle, remote, OTHER_RIGHT, now + SPACING));
}

#[test]
fn a_credential_that_was_changed_counts_as_wrong() {
    let (mut throttle, now) = (Throttle::default(), Instant::now());
    let remote = address(1);
    assert!(right(&mut throttle, remote, RIGHT, now));
    for _ in 0..FREE {
        assert_eq!(throttle.ask(remote, Door::Admin, &RIGHT, now), Ok(()));
        throttle.wrong(remote, Door::Admin, &RIGHT, now);
    }
    assert!(throttle.ask(remote, Door::Admin, &RIGHT, now).is_err());
}

#[test]
fn doors_and_addresses_are_apart() {
    let (mut throttle, now) = (Throttle::default(), Instant::now());
    for n in 0..100 {
        wrong(&mut throttle, address(1), Door::Admin, n, now);
    }
    for door in Door::ALL {
        let asked = throttle.ask(address(1), door, &RIGHT, now);
        assert_eq!(asked.is_ok(), door != Door::Admin, "{}", door.as_str());
    }
    assert!(right(&mut throttle, address(2), RIGHT, now));
    let v6 = |last| {
        Remote::direct(IpAddr::V6(Ipv6Addr::new(
            0x2001, 0xdb8, 0, 1, 0, 0, 0, last,
        )))
    };
    for n in 0..100 {
        wrong(&mut throttle, v6(n), Door::Admin, n.into(), now);
    }
    assert!(
        throttle
            .ask(v6(200), Door::Admin, &OTHER_RIGHT, now)
            .is_err(),
        "the same /64"
    );
}

#[test]
fn many_addresses_free_nobody_and_the_table_is_bounded() {
    let (mut throttle, now) = (Throttle::default(), Instant::now());
    for n in 0..10 {
        wrong(&mut throttle, address(1), Door::Shoutcast, n, now);
    }
    for n in 0..5000 {
        assert!(wrong(
            &mut throttle,
            address(10 + n),
            Door::Shoutcast,
            n.into(),
            now
        ));
    }
    assert!(!wrong(&mut throttle, address(1), Door::Shoutcast, 11, now));
    for n in 0..40_000 {
        wrong(
            &mut throttle,
            address(10 + n),
            Door::Shoutcast,
            n.into(),
            now,
        );
        throttle.right(address(1), Door::Source, guess(n.into()), now);
    }
    assert_eq!(
        (throttle.clients.len(), throttle.known.len()),
        (MAX_CLIENTS, MAX_KNOWN)
    );
    // A full table still counts whoever comes next.
    let fresh = address(90_000);
    let compared = (0..40).filter(|n| wrong(&mut throttle, fresh, Door::Shoutcast, *n, now));
    assert_eq!(compared.count(), FREE as usize);
}

#[test]
fn what_is_right_leaves_no_entry() {
    let (mut throttle, now) = (Throttle::default(), Instant::now());
    for n in 0..1000 {
        assert!(right(&mut throttle, address(n), RIGHT, now));
        assert_eq!(throttle.ask(address(n), Door::Join, &RIGHT, now), Ok(()));
        throttle.undecided(address(n), Door::Join);
    }
    assert_eq!(throttle.clients.len(), 0);
}

#[test]
fn undecided_attempts_are_bounded() {
    let (mut throttle, now) = (Throttle::default(), Instant::now());
    let asked = (0..100).filter(|n| {
        throttle
            .ask(address(1), Door::Source, &guess(*n), now)
            .is_ok()
    });
    assert_eq!(asked.count(), MAX_PENDING as usize);
    throttle.undecided(address(1), Door::Source);
    assert!(throttle.ask(address(1), Door::Source, &RIGHT, now).is_ok());
}

#[test]
fn a_proxy_that_is_not_trusted_locks_nobody_out() {
    let proxy = |claimed: u32| Remote {
        address: address(1).address,
        claimed: Some(address(claimed).address),
    };
    let (mut throttle, start) = (Throttle::default(), Instant::now());
    let compared = flood(&mut throttle, 100, 60, |_| proxy(7));
    assert_eq!(compared, u64::from(FREE) + 59);
    // Another client of the proxy, for the first time.
    let now = start + Duration::from_secs(61);
    let mut tries = 0;
    let entered = (0..20).any(|n| {
        tries += 1;
        let now = now + SPACING / 4 * n;
        wrong(
            &mut throttle,
            proxy(7),
            Door::Admin,
            u64::from(n) + 10_000,
            now,
        );
        right(&mut throttle, proxy(8), RIGHT, now)
    });
    assert!(entered && tries <= 3, "{tries}");
    // Whoever claims another address each time gains a factor, and no more.
    let mut throttle = Throttle::default();
    let compared = flood(&mut throttle, 100, 60, |n| proxy(u32::try_from(n).unwrap()));
    assert_eq!(compared, u64::from(FREE) * 10 + 60 * 4 - 2);
    assert!(
        right(&mut throttle, address(1), RIGHT, start),
        "no proxy in between"
    );
}

#[test]
fn one_report_for_each_address() {
    let (mut throttle, start) = (Throttle::default(), Instant::now());
    let mut reports = Vec::new();
    for n in 0..2000 {
        let now = start + Duration::from_millis(n * 10);
        let door = if n % 2 == 0 {
            Door::Admin
        } else {
            Door::Source
        };
        if throttle.ask(address(1), door, &guess(n), now).is_ok() {
            reports.extend(throttle.wrong(address(1), door, &guess(n), now));
        }
    }
    assert_eq!(reports, [Report::First, Report::Delayed { failures: FREE }]);
    let later = start + REPORT_PAUSE + Duration::from_secs(1);
    throttle
        .ask(address(1), Door::Admin, &RIGHT, later)
        .unwrap();
    let again = throttle.wrong(address(1), Door::Admin, &RIGHT, later);
    assert!(
        matches!(again, Some(Report::Delayed { failures: 20.. })),
        "{again:?}"
    );
}
