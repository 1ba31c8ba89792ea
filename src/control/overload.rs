//! When a node is over its limits, and sends newcomers on: a rule, debounced and with hysteresis, and an operator's
//! word above it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Control;
use crate::balancer::pool::soft_cap;
use crate::wire::message::{Happening, Reflect};

/// So many samples in a row decide about the processors.
const SAMPLES: u32 = 3;

/// Below this share of a limit the node is under it again.
const CALM: f64 = 0.9;

/// A limit of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Listeners,
    Bandwidth,
    /// Bandwidth for not a single listener.
    OneListener,
    Cpu,
    Forced,
}

impl Limit {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listeners => "listeners",
            Self::Bandwidth | Self::OneListener => "bandwidth",
            Self::Cpu => "cpu",
            Self::Forced => "forced",
        }
    }

    /// The word in beats: what an operator has to change.
    pub fn detail(self) -> &'static str {
        match self {
            Self::OneListener => ONE_LISTENER,
            other => other.as_str(),
        }
    }
}

/// Word in beats for a bandwidth that not a single listener fits into.
pub(super) const ONE_LISTENER: &str = "one-listener";

/// How much a node carries and may carry; a limit of 0 is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub listeners: u64,
    pub max_listeners: u64,
    /// Bits a second that listeners are owed.
    pub bits: u64,
    /// What the next one would be owed at least.
    pub next_bits: u64,
    pub max_bits: u64,
    /// Share of the processors in use, 0 to 1.
    pub cpu: f64,
    pub max_cpu: f64,
    /// There is no other node: nobody promises anything.
    pub alone: bool,
}

impl Sample {
    /// From here on newcomers without a promise go elsewhere.
    fn soft_listeners(&self) -> u64 {
        let promised = match self.alone {
            true => 0,
            false => self.max_listeners - soft_cap(self.max_listeners),
        };
        self.max_listeners - promised
    }

    fn is_full(&self) -> bool {
        self.listeners >= self.soft_listeners()
    }

    fn is_at_cap(&self) -> bool {
        self.listeners >= self.max_listeners
    }

    /// The bandwidth that is exceeded: for everybody, or for one more.
    fn bandwidth(&self) -> Limit {
        match self.max_bits > 0 && self.next_bits > self.max_bits {
            true => Limit::OneListener,
            false => Limit::Bandwidth,
        }
    }

    fn is_over_bandwidth(&self) -> bool {
        let with_next = self.bits.saturating_add(self.next_bits.max(1));
        self.max_bits > 0 && with_next > self.max_bits
    }

    /// Well below the limit again. Alone, every place is given: there is nobody to send newcomers to.
    fn is_calm_in_bandwidth(&self) -> bool {
        match self.alone {
            true => !self.is_over_bandwidth(),
            false => (self.bits as f64) < self.max_bits as f64 * CALM,
        }
    }
}

/// Which limits are exceeded, as of the last samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Latch {
    listeners: bool,
    bandwidth: bool,
    cpu: bool,
    /// Samples in a row that speak against `cpu`.
    against: u32,
}

impl Latch {
    /// Takes a sample, once a second. Listeners and bandwidth are over at once and calm again a little below
    /// their limit; processors, which are noisy, take three seconds either way.
    fn take(&mut self, sample: &Sample) {
        let soft = sample.soft_listeners();
        let calm = sample.listeners < soft.saturating_sub(soft / 50).max(1);
        self.listeners = sample.is_full() || (self.listeners && !calm);
        self.bandwidth =
            sample.is_over_bandwidth() || (self.bandwidth && !sample.is_calm_in_bandwidth());
        if sample.max_cpu <= 0.0 {
            (self.cpu, self.against) = (false, 0);
            return;
        }
        let other = if self.cpu {
            sample.cpu < sample.max_cpu * CALM
        } else {
            sample.cpu >= sample.max_cpu
        };
        self.against = if other { self.against + 1 } else { 0 };
        if self.against >= SAMPLES {
            (self.cpu, self.against) = (!self.cpu, 0);
        }
    }

    fn limit(self) -> Option<Limit> {
        if self.listeners {
            Some(Limit::Listeners)
        } else if self.bandwidth {
            Some(Limit::Bandwidth)
        } else {
            self.cpu.then_some(Limit::Cpu)
        }
    }
}

/// The limit that a newcomer would break now.
fn verdict(latch: Latch, force: Reflect, sample: &Sample) -> Option<Limit> {
    match force {
        Reflect::On => Some(Limit::Forced),
        Reflect::Off => sample.is_at_cap().then_some(Limit::Listeners),
        Reflect::Auto => {
            let full = sample.is_full().then_some(Limit::Listeners);
            let wide = sample.is_over_bandwidth().then(|| sample.bandwidth());
            full.or(wide).or(latch.limit())
        }
    }
}

/// The rule's state on a node.
#[derive(Debug, Default)]
pub(super) struct Overload {
    latch: Mutex<Latch>,
    /// The word's number and one; 0 before any.
    force: AtomicU8,
    /// What was said last.
    said: Mutex<Option<Limit>>,
}

impl Overload {
    /// An operator's word.
    pub fn force(&self, reflect: Reflect) {
        self.force.store(reflect as u8 + 1, Ordering::Relaxed);
    }

    /// The operator's word that holds here.
    pub fn forced(&self) -> Reflect {
        let word = self.force.load(Ordering::Relaxed);
        [Reflect::On, Reflect::Off]
            .into_iter()
            .find(|known| *known as u8 + 1 == word)
            .unwrap_or_default()
    }

    fn latch(&self) -> MutexGuard<'_, Latch> {
        self.latch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// The limit that one more listener would break now, if any.
    pub(super) fn over_limit(&self) -> Option<Limit> {
        let latch = *self.overload.latch();
        verdict(latch, self.overload.forced(), &self.sample(0.0))
    }

    /// Takes a sample, once a second, and says what changed.
    pub(super) fn judge_load(&self, now: Instant) {
        let sample = self.sample(self.cpu_ratio(now));
        self.overload.latch().take(&sample);
        let over = self.over_limit();
        let mut said = self
            .overload
            .said
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *said, over);
        drop(said);
        if before.is_some() != over.is_some() {
            let limit = over.or(before).unwrap_or(Limit::Forced);
            let why = over.map(|limit| self.own_limit(limit));
            if let Some(why) = &why {
                tracing::warn!(reason = limit.as_str(), "this node takes nobody new: {why}");
            }
            self.happened(Happening::Overload {
                on: over.is_some(),
                reason: limit.as_str().into(),
                why,
            });
            self.nudge.send_modify(|turn| *turn += 1);
        }
    }

    /// Bits a second that the listeners here are owed.
    pub(super) fn committed_bits(&self) -> u64 {
        let mut mounts = self.engine.mounts();
        // Their listeners hear a fallback and are counted on the mount that they asked for.
        mounts.extend(self.engine.missed());
        mounts.iter().fold(0_u64, |sum, mount| {
            let bits = mount
                .counters
                .listeners()
                .saturating_mul(mount.committed_rate());
            sum.saturating_add(bits)
        })
    }

    /// Bits a second of the leanest mount here.
    pub(super) fn leanest_bits(&self) -> u64 {
        let rates = self.engine.mounts().into_iter();
        let known = rates
            .map(|mount| mount.committed_rate())
            .filter(|bits| *bits > 0);
        known.min().unwrap_or(0)
    }

    fn sample(&self, cpu: f64) -> Sample {
        let config = self.config.load();
        // Asked for every newcomer: what no limit needs is not summed up.
        let (bits, next_bits) = match config.max_bandwidth {
            0 => (0, 0),
            _ => (self.committed_bits(), self.leanest_bits()),
        };
        Sample {
            listeners: self.telemetry.listeners(),
            max_listeners: config.max_listeners,
            bits,
            next_bits,
            max_bits: config.max_bandwidth,
            cpu,
            max_cpu: f64::from(config.max_cpu) / 1_000.0,
            alone: self.snapshot.load().nodes.len() < 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cpu(ratio: f64) -> Sample {
        Sample {
            max_listeners: 1_000,
            cpu: ratio,
            max_cpu: 0.8,
            ..Sample::default()
        }
    }

    fn after(latch: &mut Latch, ratios: &[f64]) -> bool {
        for ratio in ratios {
            latch.take(&cpu(*ratio));
        }
        latch.cpu
    }

    #[test]
    fn processors_are_debounced_and_have_to_calm_down() {
        let mut latch = Latch::default();
        assert!(!after(&mut latch, &[0.9, 0.9, 0.1, 0.9, 0.95]));
        assert!(after(&mut latch, &[0.8]), "three in a row");
        assert!(after(&mut latch, &[0.75, 0.75, 0.75, 0.75]), "not calm");
        assert!(after(&mut latch, &[0.5, 0.5, 0.73, 0.5, 0.5]));
        assert!(!after(&mut latch, &[0.5]));
        assert!(!after(&mut latch, &[0.79; 20]));
    }

    #[test]
    fn listeners_and_bandwidth_count_at_once_and_leave_a_little_below() {
        let mut latch = Latch::default();
        let mut with = |listeners, bits| {
            let sample = Sample {
                listeners,
                max_listeners: 1_000,
                bits,
                max_bits: 10_000,
                ..Sample::default()
            };
            let limit = verdict(latch, Reflect::Auto, &sample);
            latch.take(&sample);
            limit
        };
        assert_eq!(with(949, 9_999), None);
        assert_eq!(with(950, 0), Some(Limit::Listeners));
        assert_eq!(with(940, 0), Some(Limit::Listeners));
        assert_eq!(with(930, 0), Some(Limit::Listeners));
        assert_eq!(with(930, 0), None);
        assert_eq!(with(0, 10_000), Some(Limit::Bandwidth));
        assert_eq!(with(0, 9_100), Some(Limit::Bandwidth));
        assert_eq!(with(0, 8_999), Some(Limit::Bandwidth));
        assert_eq!(with(0, 8_999), None);
    }

    #[test]
    fn bandwidth_is_over_where_not_one_more_fits() {
        let with = |bits, alone| Sample {
            max_listeners: 1_000,
            bits,
            next_bits: 128,
            max_bits: 1_000,
            alone,
            ..Sample::default()
        };
        let over = |latch, bits, alone| {
            verdict(latch, Reflect::Auto, &with(bits, alone)) == Some(Limit::Bandwidth)
        };
        let fresh = Latch::default();
        assert!(!over(fresh, 6 * 128, false));
        assert!(over(fresh, 7 * 128, false), "896 and 128 are 1024");
        for (alone, still) in [(false, true), (true, false)] {
            let mut latch = fresh;
            latch.take(&with(950, alone));
            assert!(latch.bandwidth);
            // A bit below nine tenths is calm; alone, one place that is free is one to give.
            latch.take(&with(900, alone));
            assert!(latch.bandwidth);
            latch.take(&with(6 * 128 + 100, alone));
            assert!(!over(latch, 6 * 128, alone));
            let mut latch = fresh;
            latch.take(&with(950, alone));
            latch.take(&Sample {
                next_bits: 50,
                ..with(920, alone)
            });
            assert_eq!(latch.bandwidth, still, "alone: {alone}");
        }
    }

    #[test]
    fn an_operator_has_the_last_word_but_for_the_hard_cap() {
        let calm = cpu(0.0);
        assert_eq!(
            verdict(Latch::default(), Reflect::On, &calm),
            Some(Limit::Forced)
        );
        let hot = Latch {
            cpu: true,
            bandwidth: true,
            ..Latch::default()
        };
        assert_eq!(verdict(hot, Reflect::Off, &calm), None);
        let most = Sample {
            listeners: 1_000,
            ..calm
        };
        assert_eq!(verdict(hot, Reflect::Off, &most), Some(Limit::Listeners));
    }

    #[test]
    fn a_node_for_one_listener_takes_one() {
        let with = |listeners| Sample {
            listeners,
            max_listeners: 1,
            ..Sample::default()
        };
        let mut latch = Latch::default();
        assert_eq!(verdict(latch, Reflect::Auto, &with(0)), None);
        assert_eq!(
            verdict(latch, Reflect::Auto, &with(1)),
            Some(Limit::Listeners)
        );
        latch.take(&with(1));
        latch.take(&with(0));
        assert_eq!(verdict(latch, Reflect::Auto, &with(0)), None);
    }

    proptest! {
        #[test]
        fn it_never_turns_twice_within_three_seconds(ratios in proptest::collection::vec(0.0_f64..1.0, 1..200)) {
            let mut latch = Latch::default();
            let mut turned_at: Option<usize> = None;
            for (at, ratio) in ratios.iter().enumerate() {
                let before = latch.cpu;
                latch.take(&cpu(*ratio));
                if latch.cpu != before {
                    if let Some(last) = turned_at {
                        prop_assert!(at - last >= SAMPLES as usize);
                    }
                    turned_at = Some(at);
                }
            }
        }
    }
}
