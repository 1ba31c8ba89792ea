//! In which order addresses and targets are tried. Pure: randomness comes in.

use std::net::IpAddr;

use rand::Rng;
use rand::seq::SliceRandom;

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Service {
    /// Lower ones are tried first.
    pub priority: u16,
    /// The share among equal priorities.
    pub weight: u16,
    /// Where to.
    pub target: Target,
}

/// A host and a port, not yet resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// A name without the last dot, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Each family shuffled, then one of each in turn, IPv6 first: one broken family costs one attempt, and a
/// name with many addresses spreads its clients. Double ones are left out.
pub(super) fn interleave(mut addresses: Vec<IpAddr>, random: &mut impl Rng) -> Vec<IpAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.shuffle(random);
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut out = Vec::new();
    loop {
        let before = out.len();
        out.extend(six.next());
        out.extend(four.next());
        if out.len() == before {
            return out;
        }
    }
}

/// By priority, and within one by chance in proportion to the weights (RFC 2782). A target `.` says that
/// there is no such service, and is left out.
pub(super) fn by_weight(mut services: Vec<Service>, random: &mut impl Rng) -> Vec<Target> {
    services.retain(|s| !s.target.host.is_empty());
    services.sort_by_key(|s| (s.priority, s.weight));
    let mut out = Vec::with_capacity(services.len());
    while let Some(priority) = services.first().map(|s| s.priority) {
        let same = services.iter().take_while(|s| s.priority == priority);
        let total: u64 = same.clone().map(|s| u64::from(s.weight)).sum();
        let drawn = random.random_range(0..=total);
        let mut sum = 0;
        let chosen = same.map(|s| u64::from(s.weight)).position(|weight| {
            sum += weight;
            sum >= drawn
        });
        out.push(services.remove(chosen.unwrap_or(0)).target);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn service(priority: u16, weight: u16, host: &str) -> Service {
        let host = host.to_owned();
        Service {
            priority,
            weight,
            target: Target { host, port: 8000 },
        }
    }

    #[test]
    fn families_take_turns() {
        let mut random = StdRng::seed_from_u64(1);
        let all: Vec<IpAddr> = ["1.0.0.1", "1.0.0.2", "1.0.0.3", "::1", "::2", "::1"]
            .iter()
            .map(|a| a.parse().unwrap())
            .collect();
        let mut firsts = std::collections::HashSet::new();
        for _ in 0..50 {
            let order = interleave(all.clone(), &mut random);
            let families: Vec<bool> = order.iter().map(IpAddr::is_ipv6).collect();
            assert_eq!(families, [true, false, true, false, false]);
            firsts.insert(order[0]);
        }
        assert_eq!(firsts.len(), 2);
    }

    #[test]
    fn weights_hold_within_a_priority() {
        let mut random = StdRng::seed_from_u64(2);
        let all = vec![
            service(20, 9, "last"),
            service(10, 0, "seldom"),
            service(10, 30, "often"),
            service(10, 10, "less"),
            service(10, 5, ""),
        ];
        let mut first = std::collections::HashMap::<String, u32>::new();
        for _ in 0..4000 {
            let order = by_weight(all.clone(), &mut random);
            assert_eq!((order.len(), order[3].host.as_str()), (4, "last"));
            *first.entry(order[0].host.clone()).or_default() += 1;
        }
        assert!((2700..3200).contains(&first["often"]), "{first:?}");
        assert!((800..1150).contains(&first["less"]), "{first:?}");
        assert!((20..250).contains(&first["seldom"]), "{first:?}");
    }
}
