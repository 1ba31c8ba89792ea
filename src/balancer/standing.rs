//! The pool of healthy relays of the last pick, for as long as nothing has happened since but that pick: those who are decided about at
//! one moment share the work of finding out who is able.

use std::sync::Arc;
use std::time::Instant;

use super::pool::{Ledger, Pool, Want};
use super::reservations::Reservations;
use super::rows::Rows;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Standing(Option<(Key, Pool)>);

/// All that a pool follows from.
#[derive(Debug)]
pub(super) struct Key {
    rows: Arc<Rows>,
    want: (bool, u64, bool, bool, Instant),
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
            want: (
                want.panic,
                want.bitrate,
                want.https,
                want.reserves,
                want.now,
            ),
            warm,
            ledger: ledger.changes(),
            closed: open.closed(),
        })
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let plain = |key: &Self| (key.want, key.warm, key.ledger, key.closed);
        Arc::ptr_eq(&self.rows, &other.rows) && plain(self) == plain(other)
    }
}

impl Standing {
    /// The pool, if it is the one that `key` leads to.
    pub fn take(&mut self, key: &Key) -> Option<Pool> {
        let (known, pool) = self.0.take()?;
        (known == *key).then_some(pool)
    }

    /// `pool` of `key` after one of it was picked and got a reservation; it stands only where that one is able still.
    pub fn keep(
        &mut self,
        mut key: Key,
        mut pool: Pool,
        account: usize,
        ledger: &Ledger,
        open: &Reservations,
    ) {
        let now = key.want.4;
        let picked = pool.able.iter_mut().find(|one| one.account == account);
        // The oldest reservation may have been given up for it: then it is another's place that has changed.
        if open.closed() == key.closed
            && picked.is_some_and(|one| one.has_got_one() && ledger.has_tokens(account, now))
        {
            key.ledger = ledger.changes();
            self.0 = Some((key, pool));
        }
    }
}
