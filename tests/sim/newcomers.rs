//! Somebody comes in every step and asks the primary, or where it is gone any relay.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use relayctl::balancer::{self, Ask, Balancer, Decision, OwnState, Serve};
use relayctl::cluster::keys::KeyRing;
use relayctl::cluster::snapshot::{NodeView, Snapshot, State};
use relayctl::wire::message::NodeRole;

use super::check::{Held, Law};
use super::world::{Broken, World, live};

/// The longest line is five seconds, and whoever stands in it asks again in the next step.
const ANSWERED_WITHIN: u64 = 5_200;

/// One who waits for an answer.
struct Guest {
    asks: usize,
    came: u64,
    next: u64,
    number: u32,
}

/// The doors of a cluster, each with its own balancer.
pub struct Doors {
    balancers: Vec<Balancer>,
    guests: Vec<Guest>,
    number: u32,
    pub redirected: u64,
    pub longest: u64,
}

impl Doors {
    pub fn new(nodes: usize) -> Self {
        let door = |_| {
            let mut balancer = Balancer::new(balancer::Config::default(), 1);
            balancer.set_keys(KeyRing::new([7; 32], 0));
            balancer
        };
        Self {
            balancers: (0..=nodes).map(door).collect(),
            guests: Vec::new(),
            number: 0,
            redirected: 0,
            longest: 0,
        }
    }

    /// One more comes; who waits and is due asks again.
    pub fn step(&mut self, world: &mut World) -> Held {
        let (millis, now) = (world.millis(), world.now());
        for balancer in &mut self.balancers {
            balancer.tick(now, 1_800_000_000_000 + millis);
        }
        if millis.is_multiple_of(1_000) {
            for at in 1..world.nodes.len() {
                if world.nodes[at].alive {
                    self.balancers[0].on_beat(&world.report(at), now);
                }
            }
        }
        self.number += 1;
        let asks = match world.nodes[0].alive {
            true => 0,
            false => world.chance.random_range(1..world.nodes.len()),
        };
        self.guests.push(Guest {
            asks,
            came: millis,
            next: millis,
            number: self.number,
        });
        let mut guests = std::mem::take(&mut self.guests);
        // A door that is gone answers nobody; its guests knock elsewhere.
        guests.retain(|guest| world.nodes[guest.asks].alive);
        for guest in guests {
            if guest.next > millis {
                self.late(world, &guest)?;
                self.guests.push(guest);
            } else {
                self.ask(world, guest)?;
            }
        }
        Ok(())
    }

    fn late(&mut self, world: &World, guest: &Guest) -> Held {
        let waited = world.millis() - guest.came;
        self.longest = self.longest.max(waited);
        world.law(Law::Answered, waited <= ANSWERED_WITHIN, || {
            format!("guest {} has waited {waited} ms", guest.number)
        })
    }

    fn ask(&mut self, world: &mut World, mut guest: Guest) -> Held {
        let (millis, now) = (world.millis(), world.now());
        self.late(world, &guest)?;
        let known = match guest.asks {
            0 => Arc::new(world.table.snapshot()),
            relay => Arc::clone(&world.nodes[relay].table),
        };
        let mount = live();
        let ask = Ask {
            mount: &mount,
            bitrate: 128_000,
            https: false,
            address: IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + guest.number)),
            from: relayctl::base::reach::Reach::Network,
            agent: "player/1",
            session: None,
            reserves: true,
            target: "/live.mp3",
            waited: Duration::from_millis(millis - guest.came),
            behind: false,
            avoid: &[],
            now,
            unix_millis: 1_800_000_000_000 + millis,
            random: world.chance.random(),
        };
        let door = &world.nodes[guest.asks];
        let is_primary = guest.asks == 0;
        let own = OwnState {
            id: door.id.clone(),
            role: if is_primary {
                NodeRole::Primary
            } else {
                NodeRole::Relay
            },
            serve: Serve::Auto,
            can_serve: is_primary || door.parent().is_some(),
            // Half of the doors send on.
            full: guest.number.is_multiple_of(2),
            hard_full: false,
            draining: false,
            primary_gone: !is_primary,
            uptime: Duration::from_secs(600),
        };
        let seen = seen(world.broken, &known);
        match self.balancers[guest.asks].decide(&ask, &seen, &own) {
            Decision::Redirect { node, .. } => {
                self.redirected += 1;
                let state = known.find(&node).map(|row| row.state);
                let open = match state {
                    Some(State::Ready) => true,
                    // Where most cannot be reached, those heard last are better than nobody.
                    Some(State::Suspect) => known.panic,
                    _ => false,
                };
                world.law(Law::SentToReady, open, || {
                    format!("sent to {node}, which is {state:?}")
                })
            }
            Decision::Wait { until, .. } => {
                let wait = until.saturating_duration_since(now).as_millis() as u64;
                guest.next = millis + wait.clamp(1, 1_000);
                self.guests.push(guest);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The table as a picker sees it that overlooks what it should not.
fn seen(broken: Broken, known: &Arc<Snapshot>) -> Arc<Snapshot> {
    let overlooked = match broken {
        Broken::Draining => State::Draining,
        Broken::Dead => State::Dead,
        _ => return Arc::clone(known),
    };
    // A dead node's row carries nothing any more.
    let whole = known.nodes.iter().find(|row| row.carries(&live()));
    let cured = |row: &Arc<NodeView>| {
        let mut row = NodeView::clone(row);
        if row.state == overlooked {
            row.state = State::Ready;
            if let Some(whole) = whole {
                row.mounts.clone_from(&whole.mounts);
            }
        }
        Arc::new(row)
    };
    Arc::new(Snapshot {
        nodes: known.nodes.iter().map(cured).collect(),
        ..Snapshot::clone(known)
    })
}
