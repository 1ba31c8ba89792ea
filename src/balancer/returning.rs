//! Clients that come back with a token that has expired or was used: they had a place, and are the first in line for
//! another one, once a minute.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::token::Token;

/// A client goes to the head of the line no more often.
pub const ONCE_IN: Duration = Duration::from_secs(60);

/// Most tokens remembered; with so many the line is one of equals.
pub const MAX_RETURNING: usize = 65_536;

/// Who came back during the last minute.
#[derive(Debug, Default)]
pub struct Returning {
    since: HashMap<(u64, u64), Instant>,
    order: VecDeque<(Instant, (u64, u64))>,
}

impl Returning {
    /// True if the bearer of this token goes to the head of the line now.
    pub fn admits(&mut self, token: &Token, now: Instant) -> bool {
        self.expire(now);
        let key = (token.issuer, token.sequence);
        // Without a sequence it was promised nothing.
        if token.sequence == 0 || self.since.len() >= MAX_RETURNING || self.since.contains_key(&key)
        {
            return false;
        }
        self.since.insert(key, now);
        self.order.push_back((now, key));
        true
    }

    /// Forgets whose minute is over.
    pub fn expire(&mut self, now: Instant) {
        while let Some((since, key)) = self.order.front().copied() {
            if now.saturating_duration_since(since) < ONCE_IN {
                return;
            }
            self.order.pop_front();
            self.since.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(sequence: u64) -> Token {
        Token {
            issuer: 1,
            relay: 2,
            sequence,
            hops: 1,
            expires: 0,
        }
    }

    #[test]
    fn once_a_minute_and_bounded() {
        let now = Instant::now();
        let mut returning = Returning::default();
        assert!(returning.admits(&token(5), now));
        assert!(!returning.admits(&token(5), now + Duration::from_secs(59)));
        assert!(returning.admits(&token(5), now + ONCE_IN));
        assert!(!returning.admits(&token(0), now));
        for sequence in 10..MAX_RETURNING as u64 + 100 {
            returning.admits(&token(sequence), now + ONCE_IN);
        }
        assert_eq!(returning.since.len(), MAX_RETURNING);
        returning.expire(now + ONCE_IN * 3);
        assert!(returning.since.is_empty() && returning.order.is_empty());
    }
}
