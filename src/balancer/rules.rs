//! From the question to the answer.
//!
//! A place that was promised is kept. A primary sends away whom it can and serves whom it must; a relay
//! serves whom it can and sends away whom it must. Three redirects, then somebody serves or says no.

use std::sync::Arc;
use std::time::Instant;

use super::decision::{Ask, Decision, Mode, OwnState, Reason, Serve};
use super::last_pool::Key;
use super::location::{location, token_of};
use super::players::cannot_follow;
use super::pool::{Candidate, Pool, SLOW_START, Tier, belongs, capacity};
use super::reservations::{Reservation, TTL};
use super::rows::{Rows, reach_of};
use super::strategy::{Draw, Strategy, pick};
use super::token::{MAX_HOPS, Token, node_hash};
use super::turn::Turn;
use super::{Balancer, block_hash, client_hash, listener_hash};
use crate::base::ids::NodeId;
use crate::cluster::snapshot::{NodeView, Snapshot};
use crate::wire::message::{MAX_CONFIRMED, NodeRole};

/// An address block may have one of so many free places reserved …
const SHARE: u64 = 4;

/// … and always as many as this.
const LEAST_SHARE: u64 = 16;

impl Balancer {
    pub(super) fn choose(
        &mut self,
        ask: &Ask<'_>,
        snapshot: &Snapshot,
        own: &OwnState,
    ) -> Decision {
        self.settle(snapshot, own);
        let token = self.token(ask);
        if let Some(token) = token.filter(|token| keeps_place(token, own)) {
            if ask.reserves {
                self.arrived(&token);
            }
            return Decision::Serve {
                reason: Reason::Token,
            };
        }
        let hops = token.map_or(0, |token| token.hops);
        let overflow = self.config.overflow.of_scheme(ask.https);
        let overflow = overflow.map(str::to_owned);
        let mut turn = Turn {
            overflow,
            ask,
            snapshot,
            own,
            hops,
            from: ask.from,
            listener: 0,
            client: 0,
            draw: Draw::new(ask.random),
        };
        if let Some(held) = self.held(&turn) {
            return Decision::Serve { reason: held };
        }
        if let Some(here) = turn.here_first() {
            return Decision::Serve { reason: here };
        }
        if hops >= MAX_HOPS {
            return turn.end_of_the_road();
        }
        self.elsewhere(&mut turn)
    }

    /// Why the listener's connection is held here rather than sent on, where it is. Who cannot be sent on may have the
    /// last places.
    fn held(&self, turn: &Turn<'_>) -> Option<Reason> {
        let ask = turn.ask;
        let reason = match self.config.mode {
            Mode::Redirect => None,
            Mode::Proxy => Some(Reason::Proxy),
            Mode::Auto if cannot_follow(ask.agent) => Some(Reason::ProxyPlayer),
            Mode::Auto => self
                .is_lost(ask.address, ask.agent, ask.now)
                .then_some(Reason::ProxyLost),
        }?;
        let has_room = match reason {
            Reason::Proxy => !turn.own.full,
            _ => !turn.own.hard_full,
        };
        (turn.may_serve() && has_room).then_some(reason)
    }

    /// Another node, this one for want of others, or nobody.
    fn elsewhere(&mut self, turn: &mut Turn<'_>) -> Decision {
        if turn.ask.reserves {
            turn.listener = listener_hash(turn.ask.address, turn.ask.agent);
            turn.client = client_hash(turn.ask, turn.listener);
        }
        if let Some(again) = self.again(turn) {
            return again;
        }
        let (snapshot, mount) = (turn.snapshot, turn.ask.mount);
        let rows = self.prepared.rows(
            snapshot,
            &turn.own.id,
            mount,
            &mut self.ledger,
            &mut self.open,
        );
        let strategy = self.strategy(turn, &rows);
        let key = self.key(turn, &rows);
        let healthy = self.healthy(key.as_ref(), turn, &rows);
        let in_line = turn.ask.behind && (healthy.wait.is_some() || !healthy.able.is_empty());
        if in_line && turn.may_wait(self.config.queue_wait) {
            return Decision::Wait {
                until: turn.ask.now,
                reason: Reason::Pacing,
            };
        }
        let healthy = match self.healthy_pick(strategy, healthy, key, turn) {
            Ok(decision) => return decision,
            Err(healthy) => healthy,
        };
        if let Some(until) = healthy
            .wait
            .filter(|_| turn.may_wait(self.config.queue_wait))
        {
            return Decision::Wait {
                until,
                reason: Reason::Pacing,
            };
        }
        if turn.own.role == NodeRole::Primary
            && let Some(last) = self.last_places(strategy, turn, &rows)
        {
            return last;
        }
        if turn.own.role == NodeRole::Primary && turn.may_serve() && !turn.own.full {
            let kept_back = !healthy.full && healthy.wait.is_none();
            let reason = match (
                kept_back && healthy.no_scheme,
                kept_back && healthy.no_reach,
            ) {
                (true, _) => Reason::NoScheme,
                (false, true) => Reason::NoReach,
                (false, false) => Reason::PrimaryServes,
            };
            return Decision::Serve { reason };
        }
        if turn.own.role == NodeRole::Relay {
            let head = self.pool(Tier::Head, turn, &rows);
            if let Some(chosen) = self.pick(Strategy::P2c, &head, turn) {
                return self.redirect(chosen, Reason::P2c, turn);
            }
        }
        if turn.snapshot.panic {
            let suspects = self.pool(Tier::Suspects, turn, &rows);
            let freshest = suspects.able.iter().max_by_key(|one| one.node.reported);
            if let Some(chosen) = freshest {
                return self.redirect(chosen, Reason::Panic, turn);
            }
        }
        if healthy.no_reach && turn.narrow() {
            return self.elsewhere(turn);
        }
        turn.refuse(&healthy)
    }

    /// One of the places that relays keep beyond their soft cap, as fast as their buckets permit.
    fn last_places(
        &mut self,
        strategy: Strategy,
        turn: &mut Turn<'_>,
        rows: &Rows,
    ) -> Option<Decision> {
        let soft = self.pool(Tier::Soft, turn, rows);
        if let Some(chosen) = self.pick(strategy, &soft, turn) {
            return Some(self.redirect(chosen, Reason::SoftCap, turn));
        }
        let until = soft.wait?;
        turn.may_wait(self.config.queue_wait)
            .then_some(Decision::Wait {
                until,
                reason: Reason::Pacing,
            })
    }

    /// The token of the ask, if it is one of ours, in time and not used up.
    fn token(&self, ask: &Ask<'_>) -> Option<Token> {
        let text = token_of(ask.target)?;
        let token = Token::verify(text, &self.ring, ask.unix_millis).ok()?;
        (token.sequence == 0 || !self.used.contains(&token)).then_some(token)
    }

    /// The listener that the token was made for is here.
    fn arrived(&mut self, token: &Token) {
        if self.used.insert(token) {
            if self.confirmed.len() >= MAX_CONFIRMED {
                self.confirmed.pop_front();
            }
            self.confirmed.push_back((token.issuer, token.sequence));
        }
    }

    /// On a node that gets no confirmations and hears of nobody's end, rows of the table end reservations instead, and
    /// who is in it no more is forgotten.
    fn settle(&mut self, snapshot: &Snapshot, own: &OwnState) {
        if own.role == NodeRole::Relay && snapshot.version != self.settled {
            self.settled = snapshot.version;
            let is_gone = |node: &&NodeId| snapshot.find(node).is_none();
            let gone: Vec<NodeId> = self.ledger.nodes().filter(is_gone).cloned().collect();
            for node in gone {
                self.on_gone(&node);
            }
            let reported = |node: &_| snapshot.find(node).map(|row| row.reported);
            self.open.settle(reported);
        }
    }

    /// The relay that this client was sent to a moment ago.
    fn again(&mut self, turn: &Turn<'_>) -> Option<Decision> {
        let ask = turn.ask;
        if !ask.reserves {
            return None;
        }
        let (sequence, node, known) = self.open.find_again(turn.client, ask.now)?;
        let node = turn.snapshot.find(&node)?;
        let tier = match node.role {
            NodeRole::Primary => Tier::Head,
            NodeRole::Relay => Tier::Healthy,
        };
        // Its place is counted already; all else may have changed in between.
        if !belongs(node, tier, turn.snapshot.panic, ask.mount)
            || turn.want().is_barred(node)
            || !turn.from.reaches(reach_of(node, ask.https))
        {
            return None;
        }
        let account = self.ledger.place(&node.id);
        self.ledger.take(account, ask.now);
        let token = Token {
            issuer: node_hash(&turn.own.id),
            relay: node_hash(&node.id),
            sequence,
            hops: known.hops.max(turn.hops.saturating_add(1)),
            expires: known.expires,
        };
        self.answer(node, &token, Reason::Again, turn)
    }

    fn pool(&mut self, tier: Tier, turn: &Turn<'_>, rows: &Rows) -> Pool {
        // Without keys hops cannot be counted: then a relay sends nobody on.
        if turn.own.role == NodeRole::Relay && self.ring.current().is_none() {
            return Pool::default();
        }
        let (want, warm) = (turn.want(), turn.own.uptime >= SLOW_START);
        self.ledger.pool(&rows.all, tier, &want, &self.open, warm)
    }

    /// The pool of healthy relays: that of the last pick, where `key` still leads to it.
    fn healthy(&mut self, key: Option<&Key>, turn: &Turn<'_>, rows: &Rows) -> Pool {
        match key.and_then(|key| self.last_pool.take(key)) {
            Some(pool) => {
                debug_assert_eq!(pool, self.pool(Tier::Healthy, turn, rows));
                pool
            }
            None => self.pool(Tier::Healthy, turn, rows),
        }
    }

    /// One of the healthy relays; the pool comes back where there is none.
    fn healthy_pick(
        &mut self,
        strategy: Strategy,
        healthy: Pool,
        key: Option<Key>,
        turn: &mut Turn<'_>,
    ) -> Result<Decision, Pool> {
        let Some(chosen) = self.pick(strategy, &healthy, turn) else {
            return Err(healthy);
        };
        let account = chosen.account;
        let decision = self.redirect(chosen, strategy.reason(), turn);
        let reserved =
            matches!(&decision, Decision::Redirect { reservation, .. } if *reservation != 0);
        if let Some(key) = key.filter(|_| reserved) {
            let (ledger, open) = (&self.ledger, &self.open);
            self.last_pool.keep(key, healthy, account, ledger, open);
        }
        Ok(decision)
    }

    /// What the pool of healthy relays follows from.
    fn key(&self, turn: &Turn<'_>, rows: &Arc<Rows>) -> Option<Key> {
        let (want, warm) = (turn.want(), turn.own.uptime >= SLOW_START);
        Key::new(rows, &want, warm, &self.ledger, &self.open)
    }

    /// The strategy that was set, unless its counts are too old or not ours alone.
    fn strategy(&self, turn: &Turn<'_>, rows: &Rows) -> Strategy {
        let late = |at: Instant| {
            turn.ask.now.saturating_duration_since(at) > self.config.beat.saturating_mul(3)
        };
        let stale = rows.newest_report.is_none_or(late);
        match self.config.strategy {
            Strategy::LeastConn if stale || turn.own.role == NodeRole::Relay => Strategy::P2c,
            strategy => strategy,
        }
    }

    fn pick<'p>(
        &mut self,
        strategy: Strategy,
        pool: &'p Pool,
        turn: &mut Turn<'_>,
    ) -> Option<&'p Candidate> {
        let ask = turn.ask;
        let (service, turns) = (ask.mount.service(), &mut self.turns);
        pick(
            strategy,
            &pool.able,
            ask.address,
            service,
            &mut turn.draw,
            turns,
        )
    }

    fn redirect(&mut self, chosen: &Candidate, reason: Reason, turn: &Turn<'_>) -> Decision {
        let (ask, node) = (turn.ask, &chosen.node);
        let expires = ask.unix_millis.saturating_add(TTL.as_millis() as u64);
        let expires = expires.div_ceil(1_000);
        let expires = u32::try_from(expires).unwrap_or(u32::MAX);
        let mut token = Token {
            issuer: node_hash(&turn.own.id),
            relay: node_hash(&node.id),
            sequence: 0,
            hops: turn.hops.saturating_add(1),
            expires,
        };
        if ask.reserves {
            self.ledger.take(chosen.account, ask.now);
        }
        let block = block_hash(ask.address);
        if ask.reserves && self.may_reserve(block, turn) {
            // What nobody asks for is not remembered.
            if self.config.mode == Mode::Auto {
                self.memory.redirected(turn.listener, ask.now);
            }
            token.sequence = self.open.reserve(Reservation {
                tally: chosen.tally,
                issued: ask.now,
                expires,
                hops: token.hops,
                client: turn.client,
                listener: turn.listener,
                block,
                bits: chosen.newcomer,
                confirms: turn.own.role == NodeRole::Primary && node.capabilities.tokens,
            });
        }
        self.answer(node, &token, reason, turn)
            .unwrap_or_else(|| turn.refuse(&Pool::default()))
    }

    /// True where the address block has no more than its share of what is free in flight. Beyond it a listener is sent on
    /// without a place: whoever asks and does not follow must not keep out those who do.
    fn may_reserve(&self, block: Option<u64>, turn: &Turn<'_>) -> bool {
        let Some(held) = block.map(|block| self.open.held_by(block)) else {
            return true;
        };
        if held < LEAST_SHARE {
            return true;
        }
        let (ask, panic) = (turn.ask, turn.snapshot.panic);
        let nodes = turn.snapshot.nodes.iter();
        let able = nodes.filter(|node| belongs(node, Tier::Healthy, panic, ask.mount));
        let free = able.fold(held, |sum, node| {
            let load = node
                .listeners
                .saturating_add(self.open.tally(&node.id).reserved);
            let places = capacity(node, node.listeners, ask.bitrate);
            sum.saturating_add(places.saturating_sub(load))
        });
        held < free / SHARE
    }

    /// `None` only where the node has no URL of the scheme, which its pool has ruled out.
    fn answer(
        &self,
        node: &NodeView,
        token: &Token,
        reason: Reason,
        turn: &Turn<'_>,
    ) -> Option<Decision> {
        let ask = turn.ask;
        let base = node.public_urls.of_scheme(ask.https)?;
        // An engine that reads no tokens sends nobody on either: it needs none.
        let text = node
            .capabilities
            .tokens
            .then(|| token.sign(&self.ring))
            .flatten();
        Some(Decision::Redirect {
            node: node.id.clone(),
            name: node.name.clone(),
            location: location(base, ask.mount, ask.target, text.as_deref()),
            reason,
            reservation: token.sequence,
            check_first: turn.own.role == NodeRole::Relay && turn.own.primary_gone,
        })
    }
}

/// A token that was made for this very node keeps the place up to the hard cap, unless it is on its way
/// out.
fn keeps_place(token: &Token, own: &OwnState) -> bool {
    let never = own.role == NodeRole::Primary && own.serve == Serve::Never;
    token.sequence != 0
        && token.relay == node_hash(&own.id)
        && own.can_serve
        && !own.draining
        && !own.hard_full
        && !never
}
