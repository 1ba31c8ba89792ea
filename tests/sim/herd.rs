//! Five thousand listeners lose their relay at once and come back to the primary.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rand::Rng as _;
use relayctl::balancer::{self, Ask, Balancer, Decision, OwnState, Serve};
use relayctl::base::ids::NodeId;
use relayctl::cluster::keys::KeyRing;
use relayctl::cluster::snapshot::State;
use relayctl::wire::message::{Beat, NodeRole};

use super::check::{Held, Law, Violation};
use super::faults::Fault;
use super::seeds;
use super::world::{Broken, World, live};

/// Of a relay of 2,000 listeners: a twentieth of that a second.
const BUCKET: usize = 100;

/// One who asks: since when, and when again.
struct Guest {
    came: u64,
    asked: Option<u64>,
    next: u64,
    number: u32,
}

struct Herd {
    world: World,
    balancer: Balancer,
    guests: Vec<Guest>,
    /// Arrivals by relay and second.
    arrivals: BTreeMap<(usize, u64), usize>,
    pending: Vec<(u64, usize, u64)>,
    confirmed: BTreeMap<usize, Vec<u64>>,
    refused: usize,
    longest_answer: u64,
}

impl Herd {
    fn new(seed: u64, relays: usize) -> Self {
        let mut balancer = Balancer::new(balancer::Config::default(), 1);
        balancer.set_keys(KeyRing::new([7; 32], 0));
        Self {
            world: World::new(seed, relays),
            balancer,
            guests: Vec::new(),
            arrivals: BTreeMap::new(),
            pending: Vec::new(),
            confirmed: BTreeMap::new(),
            refused: 0,
            longest_answer: 0,
        }
    }

    fn step(&mut self) {
        self.world.step().unwrap();
        let (now, millis) = (self.world.now(), self.world.millis());
        self.balancer.tick(now, 1_800_000_000_000 + millis);
        let due = std::mem::take(&mut self.pending);
        for (at, relay, sequence) in due {
            if at > millis {
                self.pending.push((at, relay, sequence));
            } else if self.world.nodes[relay].alive {
                self.world.nodes[relay].listeners += 1;
                *self.arrivals.entry((relay, millis / 1_000)).or_default() += 1;
                self.confirmed.entry(relay).or_default().push(sequence);
            }
        }
        if millis.is_multiple_of(1_000) {
            for relay in 1..self.world.nodes.len() {
                let confirmed = self.confirmed.remove(&relay).unwrap_or_default();
                if self.world.nodes[relay].alive {
                    let beat = Beat {
                        confirmed,
                        ..self.world.report(relay)
                    };
                    self.balancer.on_beat(&beat, now);
                } else {
                    self.balancer.on_gone(&self.world.nodes[relay].id);
                }
            }
        }
        self.ask_all();
    }

    fn ask_all(&mut self) {
        let millis = self.world.millis();
        let mut guests = std::mem::take(&mut self.guests);
        guests.retain_mut(|guest| guest.next > millis || !self.ask(guest));
        self.guests = guests;
    }

    /// True once the guest has a place.
    fn ask(&mut self, guest: &mut Guest) -> bool {
        let (now, millis) = (self.world.now(), self.world.millis());
        let asked = *guest.asked.get_or_insert(millis);
        let snapshot = self.world.table.snapshot();
        let mount = live();
        let ask = Ask {
            mount: &mount,
            bitrate: 128_000,
            https: false,
            address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + guest.number)),
            from: relayctl::base::reach::Reach::Network,
            agent: "player/1",
            session: None,
            reserves: true,
            target: "/live.mp3",
            waited: match self.world.broken {
                Broken::Waiting => Duration::ZERO,
                _ => Duration::from_millis(millis - asked),
            },
            behind: false,
            avoid: &[],
            now,
            unix_millis: 1_800_000_000_000 + millis,
            random: self.world.chance.random(),
        };
        let own = OwnState {
            id: self.world.nodes[0].id.clone(),
            role: NodeRole::Primary,
            serve: Serve::Never,
            can_serve: true,
            full: false,
            hard_full: false,
            draining: false,
            primary_gone: false,
            uptime: Duration::from_secs(600),
        };
        let decision = self.balancer.decide(&ask, &snapshot, &own);
        self.longest_answer = self.longest_answer.max(millis - asked);
        if !matches!(decision, Decision::Wait { .. }) {
            guest.asked = None;
        }
        match decision {
            Decision::Redirect {
                node, reservation, ..
            } => {
                self.sent(&node, reservation, &snapshot);
                true
            }
            Decision::Wait { until, .. } => {
                let wait = until.saturating_duration_since(now).as_millis() as u64;
                guest.next = millis + wait.clamp(1, 1_000);
                false
            }
            Decision::Refuse { retry_after, .. } => {
                self.refused += 1;
                guest.next = millis + u64::from(retry_after) * 1_000;
                false
            }
            other => panic!("{other:?}"),
        }
    }

    fn sent(
        &mut self,
        node: &NodeId,
        sequence: u64,
        snapshot: &relayctl::cluster::snapshot::Snapshot,
    ) {
        let row = snapshot.find(node).unwrap();
        assert!(
            matches!(row.state, State::Ready),
            "sent to {node}, which is {}",
            row.state
        );
        let relay: usize = node.as_str()[1..].parse().unwrap();
        let way = self.world.chance.random_range(50..400);
        self.pending
            .push((self.world.millis() + way, relay, sequence));
    }
}

/// So many listeners of relays that died, until all have a place again.
fn all_back(seed: u64, guests: u32, broken: Broken) -> Result<(), Violation> {
    let mut herd = Herd::new(seed, 10);
    herd.world.broken = broken;
    while herd.world.millis() < 70_000 {
        herd.step();
    }
    herd.world.nodes[1].listeners = 1_000;
    for _ in 0..20 {
        herd.step();
    }
    herd.world.apply(&Fault::Kill(1));
    let died = herd.world.millis();
    for number in 0..guests {
        let next = died + herd.world.chance.random_range(0..2_000);
        herd.guests.push(Guest {
            came: next,
            asked: None,
            next,
            number,
        });
    }
    while !herd.guests.is_empty() || !herd.pending.is_empty() {
        if broken == Broken::Bucket {
            herd.refill();
        }
        herd.step();
        herd.check(died)?;
        let first = herd.guests.iter().map(|guest| guest.came).min();
        assert!(
            herd.world.millis() < died + 120_000,
            "seed {seed}: still waiting since {first:?}"
        );
    }
    let took = herd.world.millis() - died;
    let (at, busiest) = herd
        .arrivals
        .iter()
        .max_by_key(|(_, count)| **count)
        .unwrap();
    println!(
        "seed {seed}: {guests} back after {took} ms, busiest relay n{:03} took {busiest} in a second, {} refusals, \
         longest answer {} ms",
        at.0, herd.refused, herd.longest_answer
    );
    let back: u64 = herd.world.nodes.iter().map(|node| node.listeners).sum();
    assert_eq!(back, u64::from(guests));
    Ok(())
}

impl Herd {
    /// Forgets who was sent where: every bucket is full again.
    fn refill(&mut self) {
        self.balancer = Balancer::new(balancer::Config::default(), 1);
        self.balancer.set_keys(KeyRing::new([7; 32], 0));
    }

    /// What must hold after every step.
    fn check(&self, died: u64) -> Held {
        let longest = self.longest_answer;
        self.world.law(Law::Answered, longest <= 5_200, || {
            format!("an answer took {longest} ms")
        })?;
        // A full bucket is a second's worth, and another comes in while it is emptied.
        let first = died / 1_000 + 3;
        self.arrivals
            .iter()
            .try_for_each(|((relay, second), count)| {
                let most = if *second <= first { 2 * BUCKET } else { BUCKET };
                // Ways of 50 to 400 ms put arrivals of two seconds into one.
                let holds = *count <= most + BUCKET * 4 / 10;
                self.world.law(Law::Bucket, holds, || {
                    format!("n{relay:03} took {count} at {second} s")
                })
            })
    }
}

#[test]
fn five_thousand_come_back_and_no_relay_gets_more_than_its_bucket() {
    for seed in seeds(21..=23) {
        let held = all_back(seed, 5_000, Broken::None);
        held.unwrap_or_else(|violation| panic!("{:?}: {}", violation.of, violation.what));
    }
}

#[test]
fn one_who_is_left_standing_in_line_is_seen() {
    let violation = all_back(21, 12_000, Broken::Waiting).unwrap_err();
    assert_eq!(violation.of, Law::Answered, "{}", violation.what);
}

#[test]
fn a_bucket_that_never_empties_is_seen() {
    let violation = all_back(21, 5_000, Broken::Bucket).unwrap_err();
    assert_eq!(violation.of, Law::Bucket, "{}", violation.what);
}
