//! A shard without its thread: driven by moments, looked into between them.

use std::io::Read;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::mpsc::sync_channel;

use bytes::Bytes;

use super::super::HALF_CLOSED;
use super::*;
use crate::base::ids::{Epoch, MountId};
use crate::engine::detours::Signpost;
use crate::engine::fanout::{Choice, Listener};
use crate::engine::mount::{Content, Mount};
use crate::engine::ring::{Bounds, Burst, Writer};
use crate::telemetry::{Class, Opening, Protocol, Telemetry};

struct Scene {
    shard: Shard,
    mount: Arc<Mount>,
    writer: Writer,
    telemetry: Arc<Telemetry>,
    server: TcpListener,
    clients: Vec<TcpStream>,
}

impl Scene {
    fn open() -> Self {
        let config = Config {
            threads: 1,
            min_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(1),
            stall: Duration::from_secs(30),
            backend: Choice::Plain,
        };
        // Nobody sends commands: the shard's parts are called by their names.
        let (_, commands) = sync_channel(1);
        let (shard, _) = Shard::new(config, commands, Arc::default()).unwrap();
        let telemetry = Telemetry::new(Box::new(|_, _| {}));
        let id = MountId::new("/live.mp3").unwrap();
        let bounds = Bounds {
            window: Duration::from_secs(60),
            max_bytes: 64 << 20,
        };
        let counters = telemetry.mount(&id);
        let mount = Mount::new(id, counters, Content::default(), bounds, Instant::now());
        let mount = Arc::new(mount);
        let writer = mount.start_epoch(Epoch(1), 0);
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            shard,
            mount,
            writer,
            telemetry,
            server,
            clients: Vec::new(),
        }
    }

    /// A moment after the shard's start.
    fn at(&self, millis: u64) -> Moment {
        let at = self.shard.start + Duration::from_millis(millis);
        self.shard.moment(at)
    }

    fn join(&mut self, now: Moment) {
        let client = TcpStream::connect(self.server.local_addr().unwrap()).unwrap();
        self.clients.push(client);
        let listener = Listener {
            asked: self.mount.id.clone(),
            socket: self.server.accept().unwrap().0,
            mount: Arc::clone(&self.mount),
            head: Bytes::from_static(b"HEAD"),
            metaint: 0,
            session: self.telemetry.open(&Opening {
                mount: &self.mount.id,
                address: IpAddr::from([127, 0, 0, 1]),
                user_agent: "",
                referer: "",
                target: "/live.mp3",
                protocol: Protocol::Http11,
                class: Class::Listener,
            }),
            accepted: now.at,
            tls: None,
            ends_at: None,
        };
        let burst = Burst {
            bytes: 0,
            longest: Duration::ZERO,
            shortest: Duration::ZERO,
        };
        let mut fresh: Vec<Newcomer> = Vec::new();
        let home = Arc::new(Signpost::new(self.mount.id.clone()));
        fresh.extend(self.shard.attach(listener, home, 1, burst, now));
        self.shard.greet(&mut fresh, now);
        self.shard.views.end();
    }

    fn round(&mut self, millis: u64) {
        let now = self.at(millis);
        self.shard.visit_due(now);
        self.shard.close_overdue(now);
        self.shard.views.end();
    }

    /// How many are due in each slot of 20 ms from one moment to another; all are served.
    fn turns(&mut self, from: u64, to: u64) -> Vec<usize> {
        let mut held = Vec::new();
        for millis in (from..to).step_by(20) {
            let now = self.at(millis);
            let mut due = Vec::new();
            self.shard.wheel.take_due(now.at, &mut due);
            held.push(due.len());
            self.shard.serve(&mut due, now);
            self.shard.views.end();
        }
        held
    }

    fn is_blocked(&self) -> bool {
        self.shard.entries.iter().all(|(_, entry)| entry.blocked)
    }
}

#[test]
fn a_burst_of_joins_gives_a_flat_load_and_so_does_a_hold() {
    let mut scene = Scene::open();
    let now = scene.at(1_000);
    for _ in 0..200 {
        scene.join(now);
    }
    for client in &mut scene.clients {
        let mut head = [0; 4];
        client.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HEAD", "at once, not at the first turn");
    }
    // Each once within its turn of 200 ms, the same number in each slot.
    let first = scene.turns(1_020, 1_220);
    assert_eq!(first.iter().sum::<usize>(), 200, "{first:?}");
    assert!(first.iter().all(|held| held.abs_diff(20) <= 2), "{first:?}");
    // Ten seconds without a byte, then bytes for all at once.
    let _ = scene.turns(1_220, 11_220);
    scene.writer.append(&[0x55; 4_000], 250_000);
    let after = scene.turns(11_220, 11_420);
    assert_eq!(after, first, "the turns keep their places");
    for client in &mut scene.clients {
        let mut audio = [0; 4_000];
        client.read_exact(&mut audio).unwrap();
    }
}

/// A scene whose only listener takes no more, and the time of its last round.
fn blocked() -> (Scene, u64) {
    let mut scene = Scene::open();
    let now = scene.at(1_000);
    scene.join(now);
    let mut millis = 1_000;
    while !scene.is_blocked() {
        scene.writer.append(&[0x55; 32 * 1024], 250_000);
        millis += 200;
        scene.round(millis);
    }
    (scene, millis)
}

#[test]
fn a_blocked_listener_has_no_turn_but_its_deadline() {
    let (mut scene, millis) = blocked();
    let joined = scene.at(1_000).at;
    assert!(scene.shard.wheel.until_next(joined).is_none(), "no turn");
    let entry = scene.shard.entries.iter().next().unwrap().1;
    let (progress, offset) = (entry.progress, entry.offset);
    assert_eq!(scene.shard.deadlines.next(), Some(progress + 30_000));
    // Bytes come, and it is not looked at.
    scene.writer.append(&[0x55; 32 * 1024], 250_000);
    scene.round(millis + 29_000);
    assert_eq!(scene.shard.entries.iter().next().unwrap().1.offset, offset);
    assert_eq!(scene.telemetry.listeners(), 1);
    scene.round(progress + 30_000);
    assert_eq!(scene.telemetry.listeners(), 0);
    assert_eq!(scene.mount.counters.stalls(), 1);
}

#[test]
fn a_blocked_listener_goes_on_when_its_socket_is_writable() {
    let mut scene = Scene::open();
    let now = scene.at(1_000);
    scene.join(now);
    let mut millis = 1_000;
    let mut sent = 4;
    while !scene.is_blocked() {
        scene.writer.append(&[0x55; 32 * 1024], 250_000);
        sent += 32 * 1024;
        millis += 200;
        scene.round(millis);
    }
    let mut client = scene.clients.pop().unwrap();
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; sent];
        client.read_exact(&mut got).unwrap();
        (client, got)
    });
    let now = scene.at(millis + 20);
    let mut events = Events::with_capacity(8);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !reader.is_finished() {
        assert!(Instant::now() < deadline, "it never goes on");
        let wait = Some(Duration::from_millis(100));
        scene.shard.poll.poll(&mut events, wait).unwrap();
        scene.shard.on_events(&events, now);
        scene.shard.views.end();
    }
    let (_client, got) = reader.join().unwrap();
    assert!(got.starts_with(b"HEAD") && got[4..].iter().all(|byte| *byte == 0x55));
    assert!(!scene.is_blocked());
    assert!(
        scene.shard.wheel.until_next(now.at).is_some(),
        "a turn again"
    );
}

#[test]
fn those_who_are_due_are_served_in_handfuls_while_others_come() {
    const LISTENERS: usize = 100;
    let mut scene = Scene::open();
    let now = scene.at(1_000);
    for _ in 0..LISTENERS {
        scene.join(now);
    }
    let had = |scene: &Scene| {
        let entries = scene.shard.entries.iter();
        entries.filter(|(_, entry)| entry.offset == 4_000).count()
    };
    scene.writer.append(&[0x55; 4_000], 250_000);
    // Somebody knocks: a handful a round, until the shard looks into its inbox.
    assert!(scene.shard.gauge.knock() && !scene.shard.gauge.knock());
    for round in 1..=3 {
        scene.round(1_300);
        assert_eq!(had(&scene), round * HANDFUL);
    }
    let now = scene.at(1_300);
    assert!(!matches!(scene.shard.take_commands(now), Inbox::More));
    scene.round(1_300);
    assert_eq!(had(&scene), LISTENERS, "nobody has come: all of them");
    // Who is there keeps one turn each.
    let turns = scene.turns(1_320, 1_520);
    assert_eq!(turns.iter().sum::<usize>(), LISTENERS, "{turns:?}");
    // Nobody came for a second: all in one go, whoever knocks.
    scene.shard.gauge.knock();
    scene.writer.append(&[0x55; 4_000], 250_000);
    scene.round(3_000);
    assert!(scene.shard.due.is_empty());
    let entries = scene.shard.entries.iter();
    assert!(
        entries
            .map(|(_, entry)| entry.offset)
            .all(|offset| offset == 8_000)
    );
}

#[test]
fn who_is_due_does_not_go_before_what_is_left_in_the_inbox() {
    const LISTENERS: usize = 3 * HANDFUL;
    let mut scene = Scene::open();
    let (sender, commands) = sync_channel(LISTENERS);
    scene.shard.commands = commands;
    let now = scene.at(1_000);
    for _ in 0..LISTENERS {
        scene.join(now);
    }
    scene.shard.gauge.knock();
    scene.round(1_300);
    assert_eq!(scene.shard.due.len(), LISTENERS - HANDFUL);
    (0..=HANDFUL).for_each(|_| sender.send(Command::Sweep).unwrap());
    // A handful is taken, one is left: a handful is served, too.
    let now = scene.at(1_301);
    assert!(matches!(scene.shard.take_commands(now), Inbox::More));
    scene.round(1_301);
    assert_eq!(scene.shard.due.len(), LISTENERS - 2 * HANDFUL);
    let now = scene.at(1_302);
    assert!(matches!(scene.shard.take_commands(now), Inbox::Empty));
    scene.round(1_302);
    assert!(scene.shard.due.is_empty());
}

/// Events until `holds`, all at one moment.
fn events_until(scene: &mut Scene, millis: u64, holds: impl Fn(&Scene) -> bool) {
    let now = scene.at(millis);
    let mut events = Events::with_capacity(8);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds(scene) {
        assert!(Instant::now() < deadline, "it is never seen");
        let wait = Some(Duration::from_millis(100));
        scene.shard.poll.poll(&mut events, wait).unwrap();
        scene.shard.on_events(&events, now);
        scene.shard.views.end();
    }
}

fn is_half_closed(scene: &Scene) -> bool {
    let mut entries = scene.shard.entries.iter();
    entries.all(|(_, entry)| entry.side.half_closed.is_some())
}

#[test]
fn one_that_closed_its_writing_side_stays_while_it_gets_something() {
    let mut scene = Scene::open();
    let now = scene.at(1_000);
    scene.join(now);
    scene.clients[0]
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    events_until(&mut scene, 1_000, is_half_closed);
    let patience = millis(HALF_CLOSED);
    // A byte before each look.
    let mut at = 1_000;
    for _ in 0..3 {
        scene.writer.append(&[0x55; 100], 250_000);
        scene.round(at + 1_000);
        scene.round(at + patience + 1);
        assert_eq!(scene.telemetry.listeners(), 1);
        at += patience + 1;
    }
    // The mount is held: it goes at the look after the last byte, and not before.
    scene.round(at + patience - 1);
    assert_eq!(scene.telemetry.listeners(), 1);
    scene.round(at + patience);
    assert_eq!(scene.telemetry.listeners(), 0);
    let mut got = Vec::new();
    scene.clients[0].read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), 4 + 300);
}

#[test]
fn one_that_is_gone_is_noticed_at_the_next_send() {
    let mut scene = Scene::open();
    let now = scene.at(1_000);
    scene.join(now);
    let mut client = scene.clients.pop().unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    drop(client);
    events_until(&mut scene, 1_000, is_half_closed);
    assert_eq!(scene.telemetry.listeners(), 1);
    scene.writer.append(&[0x55; 100], 250_000);
    scene.round(1_300);
    events_until(&mut scene, 1_300, |scene| scene.telemetry.listeners() == 0);
}

#[test]
fn one_that_is_blocked_is_left_to_its_stall() {
    let (mut scene, millis) = blocked();
    scene.clients[0]
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    events_until(&mut scene, millis, is_half_closed);
    for seconds in 1..30 {
        scene.round(millis + seconds * 1_000);
        assert_eq!(scene.telemetry.listeners(), 1, "{seconds} s");
    }
    scene.round(millis + 31_000);
    assert_eq!(scene.mount.counters.stalls(), 1);
}
