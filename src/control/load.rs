//! How busy this node is: what its own row and its beats say.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::overload::Limit;
use super::processors::Reading;
use super::{Control, Role};
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::engine::{self, Mount};
use crate::telemetry::Share;
use crate::upstream::PullState;
use crate::wire::message::{
    self, Beat, Capabilities, Counts, Limits, MountBeat, MountCounts, NodeState,
};

/// Shortest time between two measurements: below it the last figures hold.
const SPAN: Duration = Duration::from_millis(500);

/// The last measurement.
#[derive(Default)]
pub(super) struct Meter(Mutex<Measured>);

#[derive(Default)]
struct Measured {
    at: Option<Instant>,
    sent: u64,
    cpu: Option<Reading>,
    bandwidth_bits: u64,
    cpu_ratio: f64,
}

impl Meter {
    /// Bits a second sent and the busy share of the processors that this node may use, over the last half second or more.
    fn measure(&self, sent: u64, now: Instant) -> (u64, f64) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let span = last.at.map(|at| now.saturating_duration_since(at));
        if span.is_some_and(|span| span < SPAN) {
            return (last.bandwidth_bits, last.cpu_ratio);
        }
        let cpu = Reading::take(Path::new("/"));
        if let Some(span) = span {
            let bits = sent.saturating_sub(last.sent).saturating_mul(8);
            last.bandwidth_bits = (u128::from(bits) * 1000 / span.as_millis().max(1))
                .try_into()
                .unwrap_or(u64::MAX);
        }
        if let (Some(before), Some(cpu), Some(span)) = (last.cpu, cpu, span) {
            last.cpu_ratio = cpu.share_since(before, span).unwrap_or(last.cpu_ratio);
        }
        last.at = Some(now);
        last.sent = sent;
        last.cpu = cpu;
        (last.bandwidth_bits, last.cpu_ratio)
    }
}

impl Control {
    /// This node's report, number `seq`.
    pub fn own_beat(&self, seq: u64, state: NodeState, confirmed: Vec<u64>, now: Instant) -> Beat {
        let config = self.config();
        let mounts = self.own_mounts();
        let listeners = self.telemetry.listeners();
        let (bandwidth_bits, cpu_ratio) = self.measure(now);
        let limit = self.over_limit();
        let never =
            self.identity.role == Role::Primary && config.serve == crate::balancer::Serve::Never;
        let uptime = now.saturating_duration_since(self.telemetry.started);
        Beat {
            v: message::VERSION,
            id: self.identity.id.clone(),
            incarnation: self.identity.incarnation,
            seq,
            sent_unix_millis: unix_millis(),
            name: self.identity.name.clone(),
            public_urls: self.told_urls(),
            data_port: self.identity.data_port,
            limits: self.limits(),
            weight: config.weight,
            version: self.identity.version.to_owned(),
            state: if self.is_draining() && state == NodeState::Ready {
                NodeState::Draining
            } else {
                state
            },
            uptime_millis: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            cpu_ratio,
            bandwidth_bits,
            descriptors_left: None,
            mounts,
            on_demand: config.on_demand,
            full: never || limit.is_some(),
            limit: limit.map_or("", Limit::detail).to_owned(),
            reflect: Some(self.overload.forced()),
            listeners,
            confirmed,
            parent: self.parent(),
            capabilities: self.capabilities(),
            events: Vec::new(),
            children: self.children(),
            region: config.region.clone(),
            assigned: self.assigned(),
            counts: self.counts(),
        }
    }

    /// Connections, requests and sources of this node.
    pub(super) fn counts(&self) -> Counts {
        let own = &self.telemetry.connections;
        Counts {
            connections: own.accepted(),
            client_connections: own.requests(),
            listener_connections: self.telemetry.listener_connections(),
            file_connections: own.pages(),
            source_client_connections: own.sources(),
            source_relay_connections: own.pulls(),
        }
    }

    /// What this node can do for others. Its own port reads tokens whatever carries the audio. An engine that is
    /// not ours holds nobody, and keeps no positions: a relay with one feeds no node. A primary keeps them itself,
    /// since it is the origin of what its tap brings.
    pub fn capabilities(&self) -> Capabilities {
        match self.outside {
            None => Capabilities::EMBEDDED,
            Some(_) => Capabilities {
                positions: self.identity.role == Role::Primary,
                hold: false,
                ..Capabilities::EMBEDDED
            },
        }
    }

    fn measure(&self, now: Instant) -> (u64, f64) {
        self.meter.measure(self.telemetry.sent_bytes(), now)
    }

    /// Share of the processors in use that this node may use.
    pub(super) fn cpu_ratio(&self, now: Instant) -> f64 {
        self.measure(now).1
    }

    /// This node's own limits.
    pub fn limits(&self) -> Limits {
        let config = self.config.load();
        let limits = Limits {
            max_listeners: config.max_listeners,
            max_bandwidth: config.max_bandwidth,
            max_children: config.max_children,
            max_cpu: config.max_cpu,
        };
        limits.bounded()
    }

    fn own_mounts(&self) -> Vec<MountBeat> {
        let live: BTreeMap<MountId, _> = self
            .engine
            .mounts()
            .into_iter()
            .chain(self.engine.missed())
            .map(|m| (m.id.clone(), m))
            .collect();
        live.values()
            .take(message::MAX_MOUNTS)
            .map(|mount| {
                let share = self.telemetry.share(&mount.counters);
                mount_beat(mount, share, self.pulls.state(&mount.id))
            })
            .collect()
    }
}

fn mount_beat(mount: &Mount, share: Share, pull: Option<PullState>) -> MountBeat {
    let ring = mount.ring();
    let pull = pull.unwrap_or_default();
    MountBeat {
        mount: mount.id.clone(),
        listeners: share.listeners,
        sent_bytes: share.sent_bytes,
        epoch: ring.epoch(),
        offset: ring.end(),
        bitrate: mount.committed_rate(),
        content_type: mount.content().content_type.clone(),
        state: state_of(mount),
        parent: pull.parent.parse().ok(),
        depth: u32::try_from(pull.path.len()).unwrap_or(u32::MAX),
        lag_millis: u64::try_from(pull.lag.as_millis()).unwrap_or(u64::MAX),
        counts: MountCounts {
            unique_listeners: share.unique_listeners,
            listened_seconds: share.listened_seconds,
            sessions: share.sessions,
            slow_listeners: share.slow_listeners,
        },
    }
}

/// The mount's state as nodes name it.
pub(super) fn state_of(mount: &Mount) -> message::MountState {
    match mount.state() {
        _ if !mount.is_playable() => message::MountState::Waiting,
        engine::MountState::Live => message::MountState::Live,
        engine::MountState::Held => message::MountState::Held,
        engine::MountState::Ended => message::MountState::Idle,
    }
}
