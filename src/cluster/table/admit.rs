//! Who may be in the table: joins and beats, refused by name or applied.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use super::Table;
use super::event::{Effect, Refusal};
use super::row::Row;
use crate::base::ids::{MountId, NodeId};
use crate::cluster::snapshot::{MountView, NodeView};
use crate::wire::message::{Beat, JoinRequest, NodeName, NodeRole, NodeState, WEIGHTS};

impl Table {
    pub(super) fn join(
        &mut self,
        request: JoinRequest,
        seen: IpAddr,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let id = request.id.clone();
        self.fence(&id, &request.name, request.incarnation, true)?;
        self.make_room(&id, effects)?;
        let heaviest = self.config.max_weight;
        let row = self.row(&id, request.incarnation, seen, now);
        row.take_join(request, seen, heaviest, now);
        self.probe(&id, now, false, effects);
        self.touch(&id, now);
        Ok(())
    }

    pub(super) fn beat(
        &mut self,
        beat: Beat,
        seen: IpAddr,
        connection: u64,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let id = beat.id.clone();
        self.fence(&id, &beat.name, beat.incarnation, false)?;
        let known = self.rows.get(&id);
        if known.is_some_and(|row| row.view.incarnation == beat.incarnation && beat.seq <= row.seq)
        {
            return Err(Refusal::Replayed { id, seq: beat.seq });
        }
        self.make_room(&id, effects)?;
        if beat.state == NodeState::Gone {
            self.row(&id, beat.incarnation, seen, now)
                .view_mut()
                .incarnation = beat.incarnation;
            self.remove(&id, true, effects);
            return Ok(());
        }
        let is_new = !self.rows.contains_key(&id);
        let heaviest = self.config.max_weight;
        let row = self.row(&id, beat.incarnation, seen, now);
        if !row.life.is_live() {
            row.admitted = false;
        }
        row.life.beat(now);
        row.connection = connection;
        let before = row.view.clone();
        row.take_beat(beat, seen, heaviest, now);
        let told = is_new || others_must_hear(&before, &row.view) || row.counts_due(now);
        self.probe(&id, now, false, effects);
        if told {
            self.touch(&id, now);
        }
        Ok(())
    }

    /// The row of a process: the old one, a fresh one, or the old one begun anew.
    fn row(&mut self, id: &NodeId, incarnation: u64, seen: IpAddr, now: Instant) -> &mut Row {
        let config = &self.config;
        let entry = self.rows.entry(id.clone());
        let row = entry.or_insert_with(|| Row::new(id.clone(), seen, now, config));
        if row.view.incarnation != 0 && row.view.incarnation != incarnation {
            row.restart(now, config);
        }
        if config.probe_every.is_none() {
            row.trust();
        }
        row
    }

    /// In a full table a node that has never reported gives way, the oldest first, and then the one that has been dead
    /// for longest.
    fn make_room(&mut self, id: &NodeId, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let most = self.config.max_nodes;
        if self.rows.len() < most || self.rows.contains_key(id) {
            return Ok(());
        }
        let relays = || self.rows.iter().filter(|(_, row)| row.is_relay());
        let silent = relays().filter(|(_, row)| row.seq == 0);
        let silent = silent.min_by_key(|(_, row)| row.joined);
        let dead = || {
            let dead = relays().filter_map(|(id, row)| Some((id, row.died?)));
            dead.min_by_key(|(_, died)| *died).map(|(id, _)| id)
        };
        let gives_way = silent.map(|(id, _)| id).or_else(dead).cloned();
        let gives_way = gives_way.ok_or(Refusal::TooMany(most))?;
        self.remove(&gives_way, false, effects);
        Ok(())
    }

    /// Two live nodes never share an id or a name, and nobody comes back as who he was before.
    fn fence(
        &self,
        id: &NodeId,
        name: &NodeName,
        incarnation: u64,
        joins: bool,
    ) -> Result<(), Refusal> {
        if let Some(row) = self.rows.get(id) {
            if !row.is_relay() {
                return Err(Refusal::Itself(id.clone()));
            }
            // A dead row gives way at a join: its clock may have been wrong before it was restarted.
            if incarnation < row.view.incarnation && (row.life.is_live() || !joins) {
                return Err(Refusal::Older {
                    id: id.clone(),
                    address: row.seen,
                });
            }
        }
        let left = self.departed.iter().rev().find(|d| d.id == *id);
        if left.is_some_and(|d| d.incarnation.is_some_and(|left| incarnation <= left)) {
            return Err(Refusal::Left(id.clone()));
        }
        let mut others = self.rows.values().filter(|row| row.view.id != *id);
        match others.find(|row| row.life.is_live() && row.view.name == *name) {
            Some(row) => Err(Refusal::NameTaken {
                name: name.clone(),
                by: row.view.id.clone(),
                address: row.seen,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn own(&mut self, beat: Beat, now: Instant) {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let id = beat.id.clone();
        let row = self.row(&id, beat.incarnation, here, now);
        row.view_mut().role = NodeRole::Primary;
        row.trust();
        row.life.beat(now);
        let before = row.view.clone();
        row.take_beat(beat, here, WEIGHTS.2, now);
        if others_must_hear(&before, &row.view) || row.counts_due(now) {
            self.touch(&id, now);
        }
    }
}

/// True unless only counts and meters moved.
fn others_must_hear(before: &NodeView, after: &NodeView) -> bool {
    let facts = |view: &NodeView| {
        (
            view.incarnation,
            view.weight,
            view.limits,
            view.capabilities,
            view.on_demand,
            view.full,
            view.children,
        )
    };
    let mounts = |view: &NodeView| view.mounts.len();
    let same_mount = |(mount, view): (&MountId, &MountView)| {
        after
            .mounts
            .get(mount)
            .is_some_and(|now| now.state == view.state && now.parent == view.parent)
    };
    facts(before) != facts(after)
        || before.name != after.name
        || before.role != after.role
        || before.version != after.version
        || before.public_urls != after.public_urls
        || before.parent != after.parent
        || before.region != after.region
        || before.peer_url != after.peer_url
        || mounts(before) != mounts(after)
        || !before.mounts.iter().all(same_mount)
}
