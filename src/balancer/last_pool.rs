//! The pool of healthy relays of the last pick, for as long as nothing has happened since but that pick: those who are
//! decided about at one moment share the work of finding out who is able.

use std::sync::Arc;
use std::time::Instant;

use super::pool::{Ledger, Pool, Want};
use super::reservations::Reservations;
use super::rows::Rows;
use crate::base::reach::Reach;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LastPool(Option<(Key, Pool)>);

/// All that a pool follows from.
#[derive(Debug)]
pub(super) struct Key {
    rows: Arc<Rows>,
    rest: Rest,
}

#[derive(Debug, PartialEq)]
struct Rest {
    panic: bool,
    bitrate: u64,
    https: bool,
    from: Reach,
    reserves: bool,
    now: Instant,
    warm: bool,
    ledger: u64,
    closed: u64,
}

impl Key {
    /// `None` where somebody is to be avoided, which is rare.
    pub fn new(
        rows: &Arc<Rows>,
        want: &Want<'_>,
        warm: bool,
        ledger: &Ledger,
        open: &Reservations,
    ) -> Option<Self> {
        want.avoid.is_empty().then(|| Self {
            rows: Arc::clone(rows),
            rest: Rest {
                panic: want.panic,
                bitrate: want.bitrate,
                https: want.https,
                from: want.from,
                reserves: want.reserves,
                now: want.now,
                warm,
                ledger: ledger.changes(),
                closed: open.closed(),
            },
        })
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rows, &other.rows) && self.rest == other.rest
    }
}

impl LastPool {
    /// The pool, if it is the one that `key` leads to.
    pub fn take(&mut self, key: &Key) -> Option<Pool> {
        let (known, pool) = self.0.take()?;
        known.is(key).then_some(pool)
    }

    /// `pool` of `key` after one of it was picked and got a reservation; it is kept only where that one is able still.
    pub fn keep(
        &mut self,
        mut key: Key,
        mut pool: Pool,
        account: usize,
        ledger: &Ledger,
        open: &Reservations,
    ) {
        let mut all = pool.able.iter_mut();
        let Some(picked) = all.find(|one| one.account == account) else {
            return;
        };
        picked.reserve_one();
        let is_able = picked.has_room() && ledger.has_tokens(account, key.rest.now);
        // The oldest reservation may have been given up for it: then it is another's place that has changed.
        if is_able && open.closed() == key.rest.closed {
            key.rest.ledger = ledger.changes();
            self.0 = Some((key, pool));
        }
    }
}
