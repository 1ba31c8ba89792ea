//! One node's life as its judge sees it: beats, silence, a lost connection, and the way back.
//!
//! Suspect: the beat connection lost, or three beats missed. Dead: ten seconds of silence, or the
//! reconnect probe refused. Back after two beats in a row; each death within ten minutes of the one before
//! doubles that, up to a minute of beats.

use std::time::{Duration, Instant};

/// Beats may come this much late: senders spread theirs by 20 %.
const JITTER: f64 = 1.2;

/// The pace of liveness.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// Between two beats.
    pub beat: Duration,
    /// Missed beats that make a suspect.
    pub missed: u32,
    /// Silence that makes a dead node.
    pub dead: Duration,
    /// Beats in a row until a suspect or dead node is back.
    pub rise: u32,
    /// A death within this of the one before doubles the rise.
    pub flap: Duration,
    /// The longest rise.
    pub rise_cap: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(1),
            missed: 3,
            dead: Duration::from_secs(10),
            rise: 2,
            flap: Duration::from_secs(600),
            rise_cap: Duration::from_secs(60),
        }
    }
}

impl Pace {
    /// Silence that makes a suspect.
    pub fn suspect(&self) -> Duration {
        self.beat.saturating_mul(self.missed).mul_f64(JITTER)
    }

    fn longest_rise(&self) -> u32 {
        let beats = self.rise_cap.as_millis().checked_div(self.beat.as_millis());
        u32::try_from(beats.unwrap_or(0))
            .unwrap_or(u32::MAX)
            .max(self.rise)
    }
}

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// On its way up: never up yet, or back from the dead.
    Rising,
    /// Its beats come.
    Up,
    /// Its beats stopped, or came back too few times yet.
    Suspect,
    /// Gone without a word.
    Dead,
}

/// The life itself.
#[derive(Debug, Clone)]
pub struct Liveness {
    condition: Condition,
    last_beat: Instant,
    beats_needed: u32,
    rise: u32,
    last_death: Option<Instant>,
    connection_lost: bool,
}

impl Liveness {
    /// Of a node that just joined, or that was learnt from its beat: its first beat brings it up.
    pub fn new(now: Instant, pace: &Pace) -> Self {
        Self {
            condition: Condition::Rising,
            last_beat: now,
            beats_needed: 1,
            rise: pace.rise,
            last_death: None,
            connection_lost: false,
        }
    }

    /// Where it is.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// When it was last heard.
    pub fn last_beat(&self) -> Instant {
        self.last_beat
    }

    /// True unless dead.
    pub fn is_live(&self) -> bool {
        self.condition != Condition::Dead
    }

    /// A beat came.
    pub fn beat(&mut self, now: Instant) {
        self.last_beat = now;
        self.connection_lost = false;
        if self.condition == Condition::Up {
            return;
        }
        if self.condition == Condition::Dead {
            self.condition = Condition::Rising;
            self.beats_needed = self.rise;
        }
        self.beats_needed = self.beats_needed.saturating_sub(1);
        if self.beats_needed == 0 {
            self.condition = Condition::Up;
        }
    }

    /// The connection that carried its beats is gone.
    pub fn lost(&mut self, pace: &Pace) {
        if self.is_live() {
            self.connection_lost = true;
            self.suspect(pace);
        }
    }

    /// Its port refused a connect. Only a node that is missing already dies of it.
    pub fn refused(&mut self, now: Instant, pace: &Pace) {
        if self.condition == Condition::Suspect && self.connection_lost {
            self.die(now, pace);
        }
    }

    /// A new process of the same node took the place of this one without a goodbye. It is up again with
    /// its first beat, or later if it falls over and over.
    pub fn restarted(&mut self, now: Instant, pace: &Pace) {
        if self.is_live() {
            self.die(now, pace);
        }
        let first_fall = self.rise <= pace.rise;
        self.condition = Condition::Rising;
        self.connection_lost = false;
        self.last_beat = now;
        self.beats_needed = if first_fall { 1 } else { self.rise };
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant, pace: &Pace) {
        let silence = now.saturating_duration_since(self.last_beat);
        if self.is_live() && silence >= pace.dead {
            self.die(now, pace);
        } else if self.is_live() && silence > pace.suspect() {
            self.suspect(pace);
        }
    }

    /// The judge itself was away: nobody is blamed for it.
    pub fn forgive(&mut self, now: Instant) {
        if self.is_live() {
            self.last_beat = now;
        }
    }

    fn suspect(&mut self, pace: &Pace) {
        // One on its way up stays there and begins anew.
        if self.condition == Condition::Rising {
            self.beats_needed = self.beats_needed.max(self.rise);
            return;
        }
        self.condition = Condition::Suspect;
        self.beats_needed = pace.rise;
    }

    fn die(&mut self, now: Instant, pace: &Pace) {
        let again = self
            .last_death
            .is_some_and(|before| now.saturating_duration_since(before) < pace.flap);
        self.rise = if again {
            self.rise.saturating_mul(2).min(pace.longest_rise())
        } else {
            pace.rise
        };
        self.last_death = Some(now);
        self.condition = Condition::Dead;
        self.beats_needed = self.rise;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: f64) -> Duration {
        Duration::from_secs_f64(n)
    }

    fn up() -> (Liveness, Instant, Pace) {
        let (now, pace) = (Instant::now(), Pace::default());
        let mut life = Liveness::new(now, &pace);
        assert_eq!(life.condition(), Condition::Rising);
        life.beat(now);
        assert_eq!(life.condition(), Condition::Up);
        (life, now, pace)
    }

    #[test]
    fn three_missed_beats_suspect_ten_seconds_dead() {
        let (mut life, start, pace) = up();
        for (after, condition) in [
            (3.5, Condition::Up),
            (3.7, Condition::Suspect),
            (9.9, Condition::Suspect),
            (10.0, Condition::Dead),
        ] {
            life.tick(start + seconds(after), &pace);
            assert_eq!(life.condition(), condition, "after {after}");
        }
    }

    #[test]
    fn a_lost_connection_suspects_at_once_and_two_beats_bring_it_back() {
        let (mut life, start, pace) = up();
        life.refused(start, &pace);
        assert_eq!(life.condition(), Condition::Up, "its beats come");
        life.lost(&pace);
        assert_eq!(life.condition(), Condition::Suspect);
        life.beat(start + seconds(1.0));
        assert_eq!(life.condition(), Condition::Suspect);
        life.beat(start + seconds(2.0));
        assert_eq!(life.condition(), Condition::Up);
        life.lost(&pace);
        life.refused(start + seconds(2.0), &pace);
        assert_eq!(life.condition(), Condition::Dead);
    }

    #[test]
    fn each_death_doubles_the_way_back_up_to_a_minute() {
        let (mut life, start, pace) = up();
        let mut now = start;
        let mut ways = Vec::new();
        for _ in 0..7 {
            now += seconds(10.0);
            life.tick(now, &pace);
            assert_eq!(life.condition(), Condition::Dead);
            let mut beats = 0;
            while life.condition() != Condition::Up {
                now += seconds(0.2);
                life.beat(now);
                beats += 1;
            }
            ways.push(beats);
        }
        assert_eq!(ways, [2, 4, 8, 16, 32, 60, 60]);
        now += seconds(601.0);
        life.tick(now, &pace);
        life.beat(now);
        life.beat(now);
        assert_eq!(life.condition(), Condition::Up, "ten quiet minutes forgive");
    }

    #[test]
    fn a_judge_that_was_away_blames_nobody() {
        let (mut life, start, pace) = up();
        let later = start + seconds(30.0);
        life.forgive(later);
        life.tick(later, &pace);
        assert_eq!(life.condition(), Condition::Up);
    }

    #[test]
    fn a_process_that_restarts_over_and_over_waits() {
        let (mut life, now, pace) = up();
        life.restarted(now, &pace);
        life.beat(now);
        assert_eq!(life.condition(), Condition::Up);
        life.restarted(now + seconds(5.0), &pace);
        for _ in 0..3 {
            life.beat(now + seconds(6.0));
        }
        assert_eq!(life.condition(), Condition::Rising);
        life.beat(now + seconds(6.0));
        assert_eq!(life.condition(), Condition::Up);
    }
}
