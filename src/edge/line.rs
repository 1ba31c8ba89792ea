//! A listener who has to wait: in line for a place, for a node to answer, for a mount to play.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Edge;
use super::connection::Conn;
use super::gate::State;
use super::login::too_many;
use super::serve::{Served, visitor};
use crate::base::ids::MountId;
use crate::control::{Place, Verdict, Visitor};
use crate::engine::Mount;
use crate::telemetry::log_limit;
use crate::wire::head::{Method, Request};

/// How long a newcomer waits for a place in a join bucket.
const PATIENCE: Duration = Duration::from_secs(5);

/// With the primary gone nobody vouches for a node but its own answer, within this time.
const VOUCH: Duration = Duration::from_millis(300);

impl Edge {
    /// The same for somebody who can wait: in line for a place, for a node to answer, for a mount.
    pub(super) async fn listen(
        self: &Arc<Self>,
        mut conn: Conn,
        request: Request,
        mount: MountId,
    ) -> Option<Conn> {
        conn.is_at(State::Waiting);
        let origin = conn.origin(&request, self);
        if request.method == Method::Head {
            conn.answer(&self.head(&request, &mount, origin)).await;
            return None;
        }
        let class = match self.classify(&request, &mount, conn.client.ip()) {
            Ok(class) => class,
            Err(seconds) => {
                conn.answer(&too_many(&request, seconds)).await;
                return None;
            }
        };
        if let Some(outside) = &self.control.outside {
            self.fetch(outside, &mount).await;
        }
        let mut visitor = visitor(&request, &mount, origin, class);
        match self.place(&mut visitor).await {
            Verdict::Serve { reason } => {
                let served = Served {
                    address: origin.address,
                    class,
                    reason,
                };
                match &self.control.outside {
                    Some(outside) => self.pass(outside, conn, &request, &mount, served).await,
                    None => self.serve(conn, &request, &mount, served).await,
                }
            }
            verdict => {
                conn.answered += 1;
                let keep =
                    matches!(verdict, Verdict::Redirect { .. }) && conn.may_ask_again(&request);
                let bytes = self.say(Vec::new(), &request, &mount, &verdict, keep);
                if keep {
                    return conn.reply(&bytes).await.is_ok().then_some(conn);
                }
                conn.answer(&bytes).await;
            }
        }
        None
    }

    /// Audio from here, as soon as the mount plays.
    pub(super) async fn serve(
        self: &Arc<Self>,
        conn: Conn,
        request: &Request,
        id: &MountId,
        served: Served,
    ) {
        let Some(mount) = self.playable(id).await else {
            return conn.answer(&self.no_mount(request, id)).await;
        };
        let opened = match self.open(request, id, &mount, &served, conn.accepted) {
            Ok(opened) => opened,
            Err(answer) => return conn.answer(&answer).await,
        };
        match conn.stream.into_std() {
            Ok((socket, tls)) => self.seat(socket, tls, opened),
            Err(error) => log_limit::unusable(&error),
        }
    }

    /// The mount once it plays: at once where it does, within [`PATIENCE`] where it has to be fetched first or
    /// has only just begun.
    async fn playable(&self, id: &MountId) -> Option<Arc<Mount>> {
        let stand_in = self.control.stands_for(id);
        let id = stand_in.as_ref().unwrap_or(id);
        let engine = &self.control.engine;
        let mut changes = engine.watch();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let demanded = self.control.demand(id);
        loop {
            if let Some(mount) = engine.mount(id).filter(|mount| mount.is_playable()) {
                return Some(mount);
            }
            if !demanded && engine.is_free(id) {
                return None;
            }
            tokio::time::timeout_at(deadline, changes.changed())
                .await
                .ok()?
                .ok()?;
        }
    }

    /// Asks until there is an answer; those who must wait do so in the order they came.
    async fn place(&self, visitor: &mut Visitor<'_>) -> Verdict {
        loop {
            let verdict = self.place_in_turn(visitor).await;
            let Verdict::Redirect {
                node,
                location,
                check_first: true,
                ..
            } = &verdict
            else {
                return verdict;
            };
            if answers(location).await {
                return verdict;
            }
            visitor.avoid.push(node.clone());
        }
    }

    /// Who comes back with its token waits behind others like it and one of the line; all others in the order they
    /// came, and nobody overtakes them.
    async fn place_in_turn(&self, visitor: &mut Visitor<'_>) -> Verdict {
        let started = Instant::now();
        let first = self.ask(visitor, started);
        let Place::Wait { .. } = first else {
            return first.verdict();
        };
        let deadline = tokio::time::Instant::from_std(started + PATIENCE);
        let placed = tokio::time::timeout_at(deadline, self.wait_for_place(visitor, started));
        match placed.await {
            Ok(Some(verdict)) => verdict,
            // The time is up, or the line is full: who cannot wait takes what is left.
            _ => self
                .control
                .place(visitor, PATIENCE, Instant::now())
                .verdict(),
        }
    }

    async fn wait_for_place(&self, visitor: &Visitor<'_>, started: Instant) -> Option<Verdict> {
        let _waiting = self.queue.try_acquire().ok()?;
        // Locked before the turn and let go after it: whoever comes back meanwhile is next.
        let _line = match self.control.returns(visitor.target, started) {
            true => None,
            false => Some(self.line.lock().await),
        };
        let mut turn = self.turn.lock().await;
        *turn += 1;
        loop {
            let now = Instant::now();
            let waited = now.saturating_duration_since(started);
            match self.control.place(visitor, waited, now) {
                Place::Wait { until } => tokio::time::sleep_until(until.into()).await,
                placed => return Some(placed.verdict()),
            }
        }
    }
}

/// True if somebody takes a connection at a URL within [`VOUCH`].
async fn answers(location: &str) -> bool {
    let Ok(url) = url::Url::parse(location) else {
        return false;
    };
    let Some(host) = url.host_str() else {
        return false;
    };
    let port = url.port_or_known_default().unwrap_or(80);
    let host = host.trim_matches(['[', ']']);
    let connecting = tokio::net::TcpStream::connect((host, port));
    matches!(tokio::time::timeout(VOUCH, connecting).await, Ok(Ok(_)))
}
