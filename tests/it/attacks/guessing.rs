//! Guesses at every password and token, by the thousand: few are compared, and nobody else is kept out.

use std::net::IpAddr;
use std::time::Instant;

use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer};
use crate::harness::source::{basic, login};
use crate::harness::under_attack::{MOUNT, UnderAttack};
use crate::harness::{address, eventually};

/// Tries at each door.
const TRIES: usize = 2000;

/// A place where a password or token is shown.
#[derive(Clone, Copy)]
enum Door {
    Admin,
    Query,
    Source,
    Line,
    Relay,
    Api,
    Join,
}

const DOORS: [(Door, &str); 7] = [
    (Door::Admin, "admin"),
    (Door::Query, "source"),
    (Door::Source, "source"),
    (Door::Line, "shoutcast"),
    (Door::Relay, "relay"),
    (Door::Api, "api"),
    (Door::Join, "join"),
];

impl Door {
    /// A request with `secret`; `None` for a password line.
    fn request(self, secret: &str) -> String {
        let get = |path: &str, fields: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n")
        };
        match self {
            Self::Admin => get("/admin/stats", &login("admin", secret)),
            Self::Query => get(
                &format!("/admin.cgi?mode=updinfo&mount={MOUNT}&pass={secret}&song=x"),
                "",
            ),
            Self::Source => format!(
                "PUT /other.mp3 HTTP/1.1\r\nHost: localhost\r\n{}Content-Type: audio/mpeg\r\nContent-Length: 0\r\n\r\n",
                basic(secret)
            ),
            Self::Line => format!("{secret}\r\n"),
            Self::Relay => get("/admin/streamlist.txt", &login("relay", secret)),
            Self::Api => get(
                "/api/v1/status",
                &format!("Authorization: Bearer {secret}\r\n"),
            ),
            Self::Join => {
                let body = "{\"v\":1,\"id\":\"guesser\",\"name\":\"guesser\",\"incarnation\":1,\"version\":\"1\",\
                            \"data_port\":1,\"public_urls\":{},\"limits\":{}}";
                format!(
                    "POST /cluster/v1/join HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
            }
        }
    }

    /// The status of one try; a line that is refused counts as 401.
    async fn attempt(self, node: &Node, from: IpAddr, secret: &str) -> Head {
        let mut peer = Peer::connect_from(from, node.port).await;
        peer.send(self.request(secret)).await;
        if matches!(self, Self::Line) {
            let said = peer.exact(3).await;
            let status = if said == b"OK2" { 200 } else { 401 };
            return Head {
                line: String::new(),
                status,
                fields: Vec::new(),
            };
        }
        peer.head().await
    }

    fn secret(self, node: &Node) -> String {
        match self {
            Self::Admin | Self::Api => node.secret("admin-password"),
            Self::Query | Self::Source | Self::Line => node.source_password(),
            Self::Relay => node.secret("relay-password"),
            Self::Join => node.secret("join-token"),
        }
    }
}

async fn guesses(node: &Node, door: &str) -> f64 {
    node.metric("relayctl_guesses_total", &format!("door=\"{door}\""))
        .await
}

fn lines(node: &Node, client: IpAddr) -> usize {
    let client = format!("client={client} ");
    let log = node.log();
    let warnings = log
        .lines()
        .filter(|line| line.contains("WARN") && line.contains("too many wrong"));
    warnings.filter(|line| line.contains(&client)).count()
}

#[tokio::test]
async fn two_thousand_guesses_at_each_door() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let node = &scene.node;
    for (number, (door, name)) in (20..).zip(DOORS) {
        let from = address(number);
        let (before, began) = (guesses(node, name).await, Instant::now());
        let mut early = 0_u32;
        for n in 0..TRIES {
            let head = door.attempt(node, from, &format!("guess-{n}")).await;
            assert!([401, 429].contains(&head.status), "{name}: {}", head.line);
            if head.status == 429 {
                early += 1;
                let after = head.get("retry-after").expect("Retry-After");
                assert!((1..=60).contains(&after.parse::<u64>().unwrap()), "{after}");
            }
        }
        let took = began.elapsed();
        let compared = guesses(node, name).await - before;
        println!(
            "{name}: {TRIES} tries in {:.1} s, {compared} compared, {early} answered 429",
            took.as_secs_f64()
        );
        // Five for nothing, then one a second.
        let most = 5.0 + took.as_secs_f64() + 2.0;
        assert!(compared <= most, "{name}: {compared} of {TRIES} compared");
        assert!(
            matches!(door, Door::Line) || f64::from(early) + compared >= TRIES as f64,
            "{name}: {early}"
        );
        // The right one has a turn within a second or so.
        let secret = door.secret(node);
        let waiting = Instant::now();
        eventually(&format!("{name} takes the right one"), async || {
            let head = door.attempt(node, from, &secret).await;
            // A source without a body, or a join of a node that is not there, is past its password.
            (![401, 429].contains(&head.status)).then_some(())
        })
        .await;
        println!(
            "{name}: the right one entered after {:.1} s",
            waiting.elapsed().as_secs_f64()
        );
        assert_eq!(lines(node, from), 1, "{name}");
    }
    let events = node.asked(&["get", "events"]).await;
    let told = events
        .lines()
        .filter(|line| line.contains("guessing"))
        .count();
    assert_eq!(told, DOORS.len(), "{events}");
    let (_, report) = scene.finish("2,000 guesses at each of seven doors").await;
    assert!(report.peak_mib < report.first_mib + 64, "{report:?}");
    assert!(report.peak_descriptors < 400, "{report:?}");
}

#[tokio::test]
async fn who_was_right_before_is_never_kept_out() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let node = &scene.node;
    let from = address(30);
    for (door, name) in DOORS {
        let secret = door.secret(node);
        let first = door.attempt(node, from, &secret).await;
        assert!(
            ![401, 429].contains(&first.status),
            "{name}: {}",
            first.line
        );
    }
    for n in 0..200 {
        for (door, name) in DOORS {
            let wrong = door.attempt(node, from, &format!("guess-{n}")).await;
            assert!([401, 429].contains(&wrong.status), "{name}");
            if n % 50 == 0 {
                let right = door.attempt(node, from, &door.secret(node)).await;
                assert!(
                    ![401, 429].contains(&right.status),
                    "{name}: {}",
                    right.line
                );
            }
        }
    }
    // A relay joins from the very address, and beats.
    let relay = Plan::relay(node).name("edge").start().await;
    eventually("the relay is ready", async || {
        let nodes = node.asked(&["get", "nodes"]).await;
        nodes
            .lines()
            .any(|line| line.contains("edge") && line.contains("ready"))
            .then_some(())
    })
    .await;
    drop(relay);
    scene
        .finish("guesses beside an encoder, an operator and a relay")
        .await;
}

#[tokio::test]
async fn five_thousand_addresses_free_nobody() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let node = &scene.node;
    let guesser = address(1000);
    for n in 0..40 {
        Door::Line
            .attempt(node, guesser, &format!("guess-{n}"))
            .await;
    }
    let compared = guesses(node, "shoutcast").await;
    assert!(compared < 20.0, "{compared}");
    for n in 0..5000 {
        Door::Line.attempt(node, address(2000 + n), "guess").await;
    }
    let each = guesses(node, "shoutcast").await;
    assert!(each >= compared + 5000.0, "{each}");
    for n in 0..40 {
        Door::Line
            .attempt(node, guesser, &format!("again-{n}"))
            .await;
    }
    let again = guesses(node, "shoutcast").await - each;
    // Its delay is a minute at most, so that its turns come once a second.
    assert!(again < 20.0, "{again}");
    // A fresh one is counted though many are.
    for n in 0..40 {
        Door::Line
            .attempt(node, address(1001), &format!("guess-{n}"))
            .await;
    }
    assert_eq!((lines(node, guesser), lines(node, address(1001))), (1, 1));
    let right = node.source_password();
    let refused = Door::Line.attempt(node, address(1001), &right).await;
    println!(
        "5,040 addresses; the right password after 40 wrong ones at once: {}",
        refused.status
    );
    let log = node.log().len();
    assert!(log < 200_000, "{log} bytes of log");
    let (_, report) = scene.finish("guesses from 5,000 addresses").await;
    assert!(report.peak_mib < report.first_mib + 64, "{report:?}");
}
