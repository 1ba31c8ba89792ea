//! Icecast's `listclients` and `killclient` for the whole station: a primary lists the listeners of its relays, too, and
//! ends them there.
//!
//! Icecast's ids are numbers, and every node counts its own. The id of a listener elsewhere is therefore its number with
//! some bits of a digest of its node's id above it; together they fit the whole numbers of JSON.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use sha2::{Digest, Sha256};

use super::access::Admin;
use super::api::kick;
use super::api::listeners::{Everybody, everybody, is_at};
use super::icecast::{bad, named, said, xml};
use super::query::Query;
use super::xml::Xml;
use crate::base::ids::{ListenerId, MountId, NodeId};
use crate::cluster::snapshot::{NodeView, State as NodeState};
use crate::control::Control;
use crate::telemetry::log_limit;

/// Bits of an id that are the number on its node.
const NUMBER_BITS: u32 = 33;

/// Bits of an id that tell its node, above those.
const NODE_BITS: u32 = 20;

/// The id by which Icecast's tools know listener `number` of another node.
fn id_elsewhere(node: &NodeId, number: u64) -> u64 {
    (node_bits(node) << NUMBER_BITS) | (number & ((1 << NUMBER_BITS) - 1))
}

/// Upper bits of the ids of a node's listeners; never 0, which stands for this node.
fn node_bits(node: &NodeId) -> u64 {
    let digest = Sha256::digest(node.as_str().as_bytes());
    let bits = digest
        .iter()
        .take(8)
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    (bits >> (u64::BITS - NODE_BITS)).max(1)
}

pub(super) async fn list(_: Admin, State(control): State<Arc<Control>>, query: Query) -> Response {
    let mount = match named(&query) {
        Ok(mount) => mount,
        Err(response) => return *response,
    };
    let Some(here) = control.engine.mount(&mount) else {
        return bad("Source does not exist");
    };
    let known = control.telemetry.audience(&here.counters).share.listeners;
    let all = everybody(&control, &mount).await;
    if let Some(why) = missing(&all).first()
        && log_limit::permits("listclients", log_limit::NOBODY)
    {
        tracing::warn!(%mount, "/admin/listclients is not whole: {why}");
    }
    xml(StatusCode::OK, document(&mount, &all, known))
}

/// `known` is how many the station has by its own count.
fn document(mount: &MountId, all: &Everybody, known: u64) -> String {
    let listed = all.listeners.len() as u64;
    let missing = missing(all);
    let count = if missing.is_empty() {
        listed
    } else {
        listed.max(known)
    };
    Xml::document("icestats", |xml| {
        for text in &missing {
            xml.comment(text);
        }
        xml.element("source", &[("mount", &mount.to_string())], |xml| {
            xml.text("Listeners", count);
            for one in &all.listeners {
                let number = one.listener.id;
                let id = one
                    .at
                    .as_ref()
                    .map_or(number, |at| id_elsewhere(at, number));
                xml.element("listener", &[], |xml| {
                    xml.text("IP", &one.listener.address);
                    xml.text("UserAgent", &one.listener.user_agent);
                    xml.text("Connected", one.listener.connected_seconds);
                    xml.text("ID", id);
                });
            }
        });
    })
}

/// Sentences about listeners that are not on the list.
fn missing(all: &Everybody) -> Vec<String> {
    let silent = all.silent.iter();
    let mut texts: Vec<String> = silent
        .map(|node| format!("{node} did not answer: its listeners are missing here"))
        .collect();
    if all.cut {
        texts.push("there are more listeners than fit this list: ask /api/v1/listeners".into());
    }
    texts
}

/// Node and number of a listener to be ended.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Here(u64),
    /// A node by its name or id.
    Named(String, u64),
    /// A node by the upper bits of an id.
    Bits(u64, u64),
}

/// Reads `7`, an id of [`id_elsewhere`], or `relay-1/7` as `relayctl kick` takes it.
fn target(text: &str) -> Option<Target> {
    if let Some((node, number)) = text.rsplit_once('/') {
        let named = !node.is_empty();
        return named.then_some(Target::Named(node.to_owned(), number.parse().ok()?));
    }
    let id: u64 = text.parse().ok()?;
    let (bits, number) = (id >> NUMBER_BITS, id & ((1 << NUMBER_BITS) - 1));
    Some(match bits {
        0 => Target::Here(id),
        bits => Target::Bits(bits, number),
    })
}

pub(super) async fn kill(_: Admin, State(control): State<Arc<Control>>, query: Query) -> Response {
    let mount = match named(&query) {
        Ok(mount) => mount,
        Err(response) => return *response,
    };
    let text = query.text("id").unwrap_or_default();
    let Some(target) = target(&text) else {
        return bad("Missing parameter: id=NUMBER");
    };
    match end(&control, &mount, target).await {
        Ok(true) => said(StatusCode::OK, &format!("Client {text} removed"), true),
        Ok(false) => said(StatusCode::OK, &format!("Client {text} not found"), false),
        Err(why) => said(
            StatusCode::OK,
            &format!("Client {text} not removed: {why}"),
            false,
        ),
    }
}

/// Ends a listener of `mount`. False where there is none.
async fn end(control: &Control, mount: &MountId, target: Target) -> Result<bool, String> {
    let own = &control.identity;
    let (node, number) = match target {
        Target::Here(number) => return Ok(end_here(control, mount, number)),
        Target::Named(name, number) if name == own.name.as_str() || name == own.id.as_str() => {
            return Ok(end_here(control, mount, number));
        }
        Target::Named(name, number) => {
            let of_name = |node: &NodeView| node.name.as_str() == name || node.id.as_str() == name;
            (only(control, of_name)?, number)
        }
        Target::Bits(bits, number) => {
            let of_bits = |node: &NodeView| node_bits(&node.id) == bits;
            (only(control, of_bits)?, number)
        }
    };
    let Some(node) = node else { return Ok(false) };
    // Its node is asked by number alone.
    if !is_at(control, &node, mount, number).await? {
        return Ok(false);
    }
    let ended = kick::ask(control, &node, number).await;
    ended.map(|_| true).map_err(|error| error.to_string())
}

/// The one other node that is meant, unless it is dead.
fn only(
    control: &Control,
    is_meant: impl Fn(&NodeView) -> bool,
) -> Result<Option<Arc<NodeView>>, String> {
    let table = control.snapshot();
    let mut found = table.nodes.iter().filter(|node| {
        node.id != control.identity.id && node.state != NodeState::Dead && is_meant(node)
    });
    let first = found.next().cloned();
    match found.next() {
        Some(_) => Err("several nodes are meant: name one, as in `id=NODE/NUMBER`".into()),
        None => Ok(first),
    }
}

fn end_here(control: &Control, mount: &MountId, number: u64) -> bool {
    let session = control.telemetry.session(ListenerId(number));
    let Some(session) = session.filter(|session| session.mount == *mount) else {
        return false;
    };
    session.kick();
    control.engine.sweep();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back() {
        let node: NodeId = "relay-1".parse().unwrap();
        let id = id_elsewhere(&node, 7);
        assert!(id < 1 << 53, "{id}");
        assert_eq!(
            target(&id.to_string()),
            Some(Target::Bits(node_bits(&node), 7))
        );
        assert_eq!(target("7"), Some(Target::Here(7)));
        assert_eq!(
            target("relay-1/7"),
            Some(Target::Named("relay-1".into(), 7))
        );
        for bad in [
            "",
            "x",
            "-1",
            "/7",
            "relay-1/",
            "relay-1/x",
            "99999999999999999999",
        ] {
            assert_eq!(target(bad), None, "{bad}");
        }
        let other: NodeId = "relay-2".parse().unwrap();
        assert_ne!(node_bits(&node), node_bits(&other));
    }
}
