//! A herd at the door, those for whom there is no place, and those whose connection is held.

use super::*;
use crate::balancer::{Mode, Overflow};

const OVERFLOW: &str = "http://elsewhere.example/live";

impl Stage {
    fn configured(mut self, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        self.balancer.set_config(config);
        self
    }

    fn overflowing(self) -> Self {
        self.configured(|config| {
            config.overflow = Overflow {
                http: Some(OVERFLOW.into()),
                https: None,
            };
        })
    }
}

fn location(decision: &Decision) -> Option<&str> {
    match decision {
        Decision::Overflow { location, .. } => Some(location),
        _ => None,
    }
}

/// The simulated herd: all come at once, wait in line, and are asked when a place opens. In any second no relay gets
/// more than its bucket holds and is filled with, and nobody is turned away whom pacing could have served.
#[test]
fn five_thousand_after_a_death_are_paced_within_the_buckets() {
    let mut stage = Stage::ten();
    for view in &mut stage.views {
        view.limits.max_listeners = 10_000;
    }
    stage.own.serve = Serve::Never;
    stage.views.remove(0);
    let (rate, mut joins) = (500.0, Vec::new());
    let mut line: std::collections::VecDeque<u32> = (0..5_000).collect();
    while let Some(number) = line.front().copied() {
        let mut one = who(number);
        one.waited = stage.now - stage.start;
        match stage.ask(&one) {
            Decision::Redirect { node, .. } => {
                joins.push((node.to_string(), stage.now - stage.start));
                line.pop_front();
            }
            Decision::Wait { until, .. } => {
                stage.now = until;
                stage.refresh();
            }
            other => panic!("{other:?} after {:?}", one.waited),
        }
    }
    let last = joins.last().unwrap().1;
    println!("5,000 joins over nine relays, the last after {last:?}");
    assert!(
        last < Duration::from_millis(200),
        "burst and refill: {last:?}"
    );
    for relay in 1..10 {
        let name = format!("r{relay}");
        let times: Vec<Duration> = joins
            .iter()
            .filter(|(node, _)| *node == name)
            .map(|(_, at)| *at)
            .collect();
        for (first, began) in times.iter().enumerate() {
            let within = times
                .iter()
                .skip(first)
                .take_while(|at| **at - *began < Duration::from_secs(1));
            let most = rate + rate + 1.0;
            assert!((within.count() as f64) <= most);
        }
    }
}

#[test]
fn who_comes_while_others_wait_gets_behind_them() {
    let mut stage = Stage::new(&[("r1", 0)]);
    let mut late = who(1);
    late.behind = true;
    assert_eq!(
        stage.ask(&late).mode(),
        "wait",
        "a place is free, but not for it"
    );
    late.behind = false;
    assert_eq!(stage.ask(&late).mode(), "redirect");
    // Where there is nothing to wait for it does not.
    stage.views.clear();
    late.behind = true;
    assert_eq!(stage.ask(&late).reason(), Reason::PrimaryServes);
}

#[test]
fn the_last_places_then_the_primary_then_the_overflow() {
    let mut stage = Stage::new(&[("r1", 950)]).overflowing();
    stage.views[0].full = true;
    assert_eq!(stage.ask(&who(1)).reason(), Reason::SoftCap);
    stage.views[0].listeners = 1_000;
    assert_eq!(stage.ask(&who(2)).reason(), Reason::PrimaryServes);
    stage.own.full = true;
    let last = stage.ask(&who(3));
    assert_eq!((last.mode(), last.reason()), ("overflow", Reason::Full));
    assert_eq!(location(&last), Some(OVERFLOW));
    // By its own scheme only.
    let mut https = who(4);
    https.https = true;
    assert_eq!(stage.ask(&https).mode(), "refuse");
    // A relay that is full for another reason than its listeners keeps its places.
    stage.views[0].listeners = 10;
    assert_eq!(stage.ask(&who(5)).mode(), "overflow");
}

#[test]
fn last_places_are_paced_too() {
    let mut stage = Stage::new(&[("r1", 100)]);
    stage.own.serve = Serve::Never;
    let sent: Vec<Decision> = (0..50).map(|number| stage.ask(&who(number))).collect();
    stage.beat("r1", 950, sent.iter().map(sequence).collect());
    stage.views[0].listeners = 950;
    stage.views[0].full = true;
    let mut one = who(99);
    assert_eq!(
        stage.ask(&one).mode(),
        "wait",
        "a second of C/20 is used up"
    );
    one.waited = Duration::from_secs(5);
    assert_eq!(stage.ask(&one).mode(), "refuse");
}

#[test]
fn a_token_of_ours_opens_the_head_of_the_line_once_a_minute() {
    let mut stage = Stage::new(&[("r1", 0)]);
    let sent = stage.ask(&who(1));
    let target = path_of(&sent);
    let late = stage.now + Duration::from_secs(3_600);
    let unix = UNIX + 3_600_000;
    assert!(
        stage.balancer.returns(&target, late, unix),
        "however old it is"
    );
    assert!(
        !stage
            .balancer
            .returns(&target, late + Duration::from_secs(59), unix)
    );
    assert!(
        stage
            .balancer
            .returns(&target, late + Duration::from_secs(60), unix)
    );
    for other in ["/live.mp3", "/live.mp3?rt=x", "/live.mp3?rt="] {
        assert!(!stage.balancer.returns(other, late, unix), "{other}");
    }
    let mut forged = target.clone();
    forged.replace_range(forged.len() - 2.., "AA");
    assert!(!stage.balancer.returns(&forged, late, unix));
}

#[test]
fn a_front_holds_everybody_until_it_is_full() {
    let mut stage = Stage::new(&[("r1", 0)]).configured(|config| config.mode = Mode::Proxy);
    let held = stage.ask(&who(1));
    assert_eq!((held.mode(), held.reason()), ("proxy", Reason::Proxy));
    stage.own.full = true;
    assert_eq!(stage.ask(&who(2)).mode(), "redirect");
    stage.own.full = false;
    stage.own.draining = true;
    assert_eq!(stage.ask(&who(3)).mode(), "redirect");
    stage.own.draining = false;
    stage.own.can_serve = false;
    assert_eq!(stage.ask(&who(4)).mode(), "redirect");
}

#[test]
fn auto_holds_those_who_do_not_follow() {
    let mut stage = Stage::new(&[("r1", 0)]).configured(|config| config.mode = Mode::Auto);
    assert_eq!(stage.ask(&who(1)).mode(), "redirect");
    let mut stubborn = who(2);
    stubborn.agent = "ESP8266Audio/1.9";
    assert_eq!(stage.ask(&stubborn).reason(), Reason::ProxyPlayer);
    // Up to the hard cap: nobody else can have it.
    stage.own.full = true;
    assert_eq!(stage.ask(&stubborn).reason(), Reason::ProxyPlayer);
    stage.own.hard_full = true;
    assert_eq!(stage.ask(&stubborn).mode(), "redirect");
    stage.own.full = false;
    stage.own.hard_full = false;
    // Redirected twice within 30 s and never seen: held. The first one, who asked once, is not.
    stage.pass(3_000);
    stage.refresh();
    assert_eq!(stage.ask(&who(1)).mode(), "redirect");
    stage.pass(3_000);
    stage.refresh();
    assert_eq!(stage.ask(&who(1)).reason(), Reason::ProxyLost);
    assert_eq!(stage.ask(&who(3)).mode(), "redirect");
    stage.pass(31_000);
    stage.refresh();
    assert_eq!(stage.ask(&who(1)).mode(), "redirect");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// All are over their limits, whatever the tables say: three redirects at most, then 503 with a time to come back,
    /// or the overflow URL.
    #[test]
    fn all_over_limit_ends_within_three_redirects(
        nodes in 1_usize..30,
        start in any::<usize>(),
        tables_lie in any::<bool>(),
        overflow in any::<bool>(),
        primaries in any::<u32>(),
    ) {
        let now = Instant::now();
        let name = |n: usize| format!("n{n}");
        let role = |n: usize| match primaries >> n & 1 {
            1 => NodeRole::Primary,
            _ => NodeRole::Relay,
        };
        let mut stages: Vec<Stage> = (0..nodes).map(|n| {
            let mut stage = Stage::new(&[]);
            if overflow {
                stage = stage.overflowing();
            }
            (stage.start, stage.now) = (now, now);
            stage.views = (0..nodes).map(|n| {
                let mut view = relay(&name(n), 1_000, now);
                view.role = role(n);
                view.full = !tables_lie;
                if tables_lie {
                    view.listeners = 1;
                }
                view
            }).collect();
            stage.own.id = id(&name(n));
            stage.own.role = role(n);
            (stage.own.full, stage.own.hard_full) = (true, true);
            stage
        }).collect();
        let (mut at, mut target, mut redirects) = (start % nodes, "/live.mp3".to_owned(), 0);
        loop {
            let mut one = who(1);
            one.target = &target;
            let decision = stages[at].ask(&one);
            match &decision {
                Decision::Redirect { node, .. } => {
                    redirects += 1;
                    prop_assert!(redirects <= token::MAX_HOPS);
                    at = (0..nodes).find(|n| *node == id(&name(*n))).unwrap();
                    target = path_of(&decision);
                }
                Decision::Overflow { location, .. } => {
                    prop_assert!(overflow && location == OVERFLOW);
                    break;
                }
                Decision::Refuse { status, retry_after, .. } => {
                    prop_assert!(!overflow && *status == 503 && (5..=15).contains(retry_after));
                    break;
                }
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
        }
    }
}
