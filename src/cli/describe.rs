//! `relayctl describe`: all that is known of one node or one mount; and `relayctl reparent`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::args::{DescribeFlags, Form, ReparentFlags, Subject};
use super::client::{Client, Verb, segment};
use super::table::{clean, words};
use super::{Exit, Failure, Outcome, print};

/// `relayctl describe`.
pub(super) fn run(flags: &DescribeFlags) -> Outcome {
    let client = Client::new(&flags.target)?;
    let nodes = client.ask(Verb::Get, "/api/v1/nodes", None)?;
    let (kind, found) = match flags.what {
        Subject::Node => ("node", find(&nodes, "nodes", &flags.name, &["id", "name"])),
        Subject::Mount => {
            let mounts = client.ask(Verb::Get, "/api/v1/mounts", None)?;
            let found = find(&mounts, "mounts", &flags.name, &["name"]);
            ("mount", found.map(|mount| with_nodes(mount, &nodes)))
        }
    };
    let Some(found) = found else {
        let hint = format!("`relayctl get {kind}s` lists them");
        let sentence = format!("no {kind} is called `{}` here: {hint}", clean(&flags.name));
        return Err(Failure::said(Exit::Failed, sentence));
    };
    match flags.output {
        Form::Json => print::json(&found),
        _ => print::text(&shown(&found)),
    }
}

/// `relayctl reparent`.
pub(super) fn reparent(flags: &ReparentFlags) -> Outcome {
    let path = format!("/api/v1/nodes/{}/parent", segment(&flags.node));
    let body = json!({ "to": flags.to });
    let answer = Client::new(&flags.target)?.ask(Verb::Post, &path, Some(&body))?;
    let name = |field| answer.get(field).and_then(Value::as_str).map(clean);
    let node = name("node").unwrap_or_default();
    print::text(&match name("parent") {
        Some(parent) => format!("{node} pulls from {parent} until that one dies\n"),
        None => format!("{node} chooses its parent itself again\n"),
    })
}

fn find(answer: &Value, plural: &str, name: &str, by: &[&str]) -> Option<Value> {
    let all = answer.get(plural)?.as_array()?;
    let is = |row: &&Value| {
        by.iter()
            .any(|field| row.get(field).is_some_and(|v| v == name))
    };
    all.iter().find(is).cloned()
}

/// The mount with what each node says of it.
fn with_nodes(mut mount: Value, nodes: &Value) -> Value {
    let name = mount.get("name").cloned().unwrap_or_default();
    let rows = nodes.get("nodes").and_then(Value::as_array);
    let on = |row: &Value| {
        let own = row.get("mounts")?.as_array()?;
        let mut here = own
            .iter()
            .find(|one| one.get("name") == Some(&name))?
            .clone();
        let fields = here.as_object_mut()?;
        fields.insert("name".into(), row.get("name")?.clone());
        fields.insert("state".into(), row.get("state")?.clone());
        Some(here)
    };
    let on: Vec<Value> = rows.into_iter().flatten().filter_map(on).collect();
    if let Some(fields) = mount.as_object_mut() {
        fields.insert("nodes".into(), Value::Array(on));
    }
    mount
}

/// A line for each field; lists of objects indented below theirs.
fn shown(row: &Value) -> String {
    let mut text = String::new();
    let fields = row.as_object().into_iter().flatten();
    let width = fields
        .clone()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    for (name, value) in fields {
        let name = name.replace('_', " ");
        match value.as_array() {
            Some(list) => {
                let _ = writeln!(text, "{name}:");
                for entry in list {
                    let _ = writeln!(text, "  {}", words(entry));
                }
            }
            None => {
                let _ = writeln!(
                    text,
                    "{:width$}  {}",
                    format!("{name}:"),
                    words(value),
                    width = width + 1
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_shown_with_its_way_to_every_node() {
        let nodes = json!({"nodes": [
            {"name": "head", "state": "ready", "mounts": [{"name": "/a", "depth": 0}]},
            {"name": "r1", "state": "ready", "mounts": [
                {"name": "/b"}, {"name": "/a", "parent": "head", "depth": 1, "lag_bytes": 4000, "lag_millis": 250}
            ]},
            {"name": "r2", "state": "joining", "mounts": []},
        ]});
        let mount = with_nodes(json!({"name": "/a", "content_type": "audio/mpeg"}), &nodes);
        assert_eq!(
            shown(&mount),
            "name:          /a\n\
             content type:  audio/mpeg\n\
             nodes:\n  \
               name head, depth 0, state ready\n  \
               name r1, parent head, depth 1, lag bytes 4000, lag millis 250, state ready\n"
        );
        assert_eq!(
            find(&nodes, "nodes", "r2", &["id", "name"]).unwrap()["state"],
            "joining"
        );
        assert!(find(&nodes, "nodes", "r3", &["id", "name"]).is_none());
    }
}
