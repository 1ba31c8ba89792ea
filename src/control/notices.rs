//! Conditions that keep listeners or sources away now, each with its cause and the next command: the lines that `status` shows
//! above its tables.

use std::time::{Duration, Instant};

use super::overload::{Limit, ONE_LISTENER};
use super::refusals::{Refused, Row};
use super::{Control, Role};
use crate::base::wall::{rfc3339, unix_millis};
use crate::cluster::snapshot::{NodeView, State};
use crate::wire::message::NodeRole;

/// Most notices of one kind.
const MOST: usize = 5;

/// A condition that an operator should know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Stable word of its kind.
    pub kind: &'static str,
    /// The cause, and the next thing to do.
    pub text: String,
}

impl Control {
    /// Troubles of now, the gravest first.
    pub fn notices(&self, now: Instant) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut note = |kind, text| notices.push(Notice { kind, text });
        if let Some(waiting) = self.waiting() {
            note("waiting_to_join", waiting.to_string());
        }
        if let Some(silence) = self.primary_silence(now) {
            note("primary_silent", self.silent_primary(silence));
        }
        if let Some(limit) = self.over_limit() {
            let text = format!("this node takes nobody new: {}", self.own_limit(limit));
            note("full", text);
        }
        if self.identity.role == Role::Primary {
            for node in self.full_relays() {
                note("full", node);
            }
        }
        let rows = self.refusals.recent();
        let of = |source: bool| {
            let is_source = move |row: &&Row| matches!(row.what, Refused::Source(_)) == source;
            rows.iter().filter(is_source).take(MOST)
        };
        for row in of(true) {
            note("source_refused", refused(row, now));
        }
        for row in of(false) {
            note("join_refused", refused(row, now));
        }
        notices
    }

    fn silent_primary(&self, silence: Duration) -> String {
        let url = self.origin();
        let url = url.as_ref().map_or("its URL", |url| url.as_str());
        format!(
            "the primary was last heard {}: this relay plays on, and the tables below are as they were then; see that \
             the primary runs, and that this machine reaches {url}",
            ago(silence)
        )
    }

    fn full_relays(&self) -> Vec<String> {
        let snapshot = self.snapshot();
        let full = snapshot.nodes.iter().filter(|node| {
            node.role == NodeRole::Relay
                && node.full
                && !matches!(node.state, State::Dead | State::Draining)
        });
        full.take(MOST)
            .map(|node| {
                let words = limit_words(&node.limit, &Load::of(node));
                format!("`{}` takes nobody new: {words}", node.name)
            })
            .collect()
    }

    /// The limit of this node that is reached, in words.
    pub(super) fn own_limit(&self, limit: Limit) -> String {
        let config = self.config();
        let load = Load {
            name: self.identity.name.as_str(),
            listeners: self.telemetry.listeners(),
            max_listeners: config.max_listeners,
            max_bandwidth: config.max_bandwidth,
            leanest: self.leanest_bits(),
        };
        limit_words(limit.detail(), &load)
    }

    /// Why listeners do not reach a node, where there is something to say.
    pub fn trouble_of(&self, node: &NodeView, now: Instant) -> Option<String> {
        let silence = now.saturating_duration_since(node.reported);
        if node.state == State::Dead {
            return Some(dead(silence, unix_millis()));
        }
        if node.role == NodeRole::Primary
            && let Some(silence) = self.primary_silence(now)
        {
            return Some(format!("last heard {}", ago(silence)));
        }
        node.trouble.clone()
    }

    /// The state of a node as this one sees it: a relay that does not hear its primary has only the primary's last words.
    pub fn state_of(&self, node: &NodeView, now: Instant) -> State {
        if node.id == self.identity.id && self.identity.role == Role::Relay {
            // What it knows of itself is newer than what the primary told of it.
            return match (self.is_draining(), node.state) {
                (true, _) => State::Draining,
                (false, State::Draining) => State::Ready,
                (false, state) => state,
            };
        }
        let silent = node.role == NodeRole::Primary && self.primary_silence(now).is_some();
        match silent {
            true if self.is_orphan(now) => State::Dead,
            true => State::Unreachable,
            false => node.state,
        }
    }

    /// How many nodes are in `state`, as this one sees them.
    pub fn nodes_in(&self, state: State) -> usize {
        let (snapshot, now) = (self.snapshot(), Instant::now());
        let nodes = snapshot.nodes.iter();
        nodes
            .filter(|node| self.state_of(node, now) == state)
            .count()
    }
}

/// Numbers behind the limit of a node.
struct Load<'a> {
    name: &'a str,
    listeners: u64,
    max_listeners: u64,
    max_bandwidth: u64,
    /// Bits a second of its leanest mount.
    leanest: u64,
}

impl<'a> Load<'a> {
    fn of(node: &'a NodeView) -> Self {
        let rates = node.mounts.values().map(|mount| mount.bitrate);
        Self {
            name: node.name.as_str(),
            listeners: node.listeners,
            max_listeners: node.limits.max_listeners,
            max_bandwidth: node.limits.max_bandwidth,
            leanest: rates.filter(|bits| *bits > 0).min().unwrap_or(0),
        }
    }
}

fn limit_words(limit: &str, load: &Load<'_>) -> String {
    let Load {
        name,
        listeners,
        max_listeners,
        max_bandwidth,
        leanest,
    } = load;
    match limit {
        ONE_LISTENER => format!(
            "its `max_bandwidth` of {} is less than one listener takes ({}), so nobody is served: set \
             --max-bandwidth (RELAYCTL_MAX_BANDWIDTH) to a rate such as 100Mbit",
            rate(*max_bandwidth),
            rate(*leanest)
        ),
        "bandwidth" => format!(
            "its {listeners} listeners take all of its `max_bandwidth` of {}: raise --max-bandwidth \
             (RELAYCTL_MAX_BANDWIDTH), or add a relay",
            rate(*max_bandwidth)
        ),
        "listeners" => format!(
            "it is full, {listeners} of {max_listeners} listeners: raise --max-listeners (RELAYCTL_MAX_LISTENERS), or \
             add a relay"
        ),
        "cpu" => "its processors are busy beyond `limits.cpu`: add a relay, or raise that limit"
            .to_owned(),
        "forced" => {
            format!("`relayctl reflect {name} on` holds: `relayctl reflect {name} auto` ends that")
        }
        _ => "it is over a limit of its own: `relayctl status` there says which".to_owned(),
    }
}

/// `800bit/s`, `128kbit/s`, `2.5Mbit/s`.
fn rate(bits: u64) -> String {
    match bits {
        0..1_000 => format!("{bits}bit/s"),
        1_000..1_000_000 => format!("{}kbit/s", bits / 1_000),
        _ => format!("{:.1}Mbit/s", bits as f64 / 1e6),
    }
}

fn refused(row: &Row, now: Instant) -> String {
    let what = match &row.what {
        Refused::Source(mount) => format!("a source of {mount}"),
        Refused::Join(Some(name)) => format!("the join of a node called `{name}`"),
        Refused::Join(None) => "the join of a node".to_owned(),
    };
    let times = match row.count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    };
    let since = ago(now.saturating_duration_since(row.last));
    format!(
        "{what} from {} was refused {times}, last {since}: {}",
        row.address, row.why
    )
}

/// Time of a dead node's last beat.
fn dead(silence: Duration, unix_millis: u64) -> String {
    let passed = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
    let stamp = rfc3339(unix_millis.saturating_sub(passed));
    let clock = stamp.get(11..19).unwrap_or_default();
    let silence = span(silence);
    format!("dead: no beat for {silence} (last {clock}): start it again")
}

/// `32 s`, `15 min`, `7 h`.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

fn ago(time: Duration) -> String {
    format!("{} ago", span(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_node_is_to_be_started_again() {
        let at = 1_795_959_070_000;
        assert_eq!(
            dead(Duration::from_millis(5_300), at),
            format!(
                "dead: no beat for 5 s (last {}): start it again",
                &rfc3339(at - 5_300)[11..19]
            )
        );
    }

    #[test]
    fn each_limit_names_the_setting_that_lifts_it() {
        let load = Load {
            name: "relay-1",
            listeners: 7,
            max_listeners: 10,
            max_bandwidth: 800,
            leanest: 128_000,
        };
        let words = |limit| limit_words(limit, &load);
        let one = words(ONE_LISTENER);
        assert!(
            one.contains("800bit/s") && one.contains("128kbit/s"),
            "{one}"
        );
        assert!(one.contains("--max-bandwidth"), "{one}");
        assert!(words("listeners").contains("7 of 10 listeners"));
        assert!(words("forced").contains("`relayctl reflect relay-1 auto`"));
        assert!(words("").contains("`relayctl status` there"));
    }
}
