//! `relayctl token`: the secrets of this machine's node, and tokens that a node makes.

use std::path::Path;

use serde_json::{Value, json};

use super::args::{Form, SecretWord, TokenCommand};
use super::client::{Client, Verb};
use super::place::{self, Found, Places};
use super::{Exit, Failure, Outcome, node, print, table};
use crate::base::secret::Secret;
use crate::settings::secrets::{ADMIN_FILE, JOIN_FILE, SOURCE_FILE};
use crate::settings::types::Given;

/// Carries out one of them.
pub(super) fn run(command: &TokenCommand) -> Outcome {
    match command {
        TokenCommand::Show {
            secret,
            config,
            data_dir,
        } => {
            let flags: Vec<_> = data_dir
                .iter()
                .map(|dir| ("data_dir", dir.clone()))
                .collect();
            let (sources, loaded) = node::load(config.clone(), flags)?;
            let places = Places::new(None, &sources.environment, Some(&loaded.settings));
            show(*secret, &loaded.settings.given, &places)
        }
        TokenCommand::Create { scope, target } => {
            let body = json!({ "scope": scope.word() });
            let client = Client::new(target)?;
            let made = client.ask(Verb::Post, "/api/v1/tokens", Some(&body))?;
            let token = made.get("token").and_then(|token| token.as_str());
            let token = token
                .ok_or_else(|| Failure::said(Exit::Failed, "the node answered without a token"))?;
            print::text(&format!("{token}\n"))
        }
        TokenCommand::List { output, target } => {
            let list = Client::new(target)?.ask(Verb::Get, "/api/v1/tokens", None)?;
            match output {
                Form::Json => print::json(&list),
                form => print::text(&table::listing("tokens", &list, *form == Form::Wide)),
            }
        }
        TokenCommand::Revoke { id, target } => {
            let path = format!("/api/v1/tokens/{}", super::client::segment(id));
            let answer = Client::new(target)?.ask(Verb::Delete, &path, None)?;
            print::text(&format!("token {id} revoked\n{}", came_by(&answer)))
        }
    }
}

/// Commands for the nodes that came by a revoked token.
fn came_by(answer: &Value) -> String {
    let nodes = answer.get("nodes").and_then(Value::as_array);
    let lines = nodes.into_iter().flatten().filter_map(|node| {
        let id = node.get("id").and_then(Value::as_str)?;
        let name = node.get("name").and_then(Value::as_str)?;
        let (id, name) = (table::clean(id), table::clean(name));
        Some(format!("  {name}: relayctl forget {id} --bar\n"))
    });
    let lines: String = lines.collect();
    match lines.is_empty() {
        true => lines,
        false => format!(
            "nodes that came by it stay members; to remove them and keep them out:\n{lines}"
        ),
    }
}

fn show(which: SecretWord, given: &Given, places: &Places) -> Outcome {
    let (given, file, variable) = match which {
        SecretWord::Source => (&given.source, SOURCE_FILE, "RELAYCTL_SOURCE_PASSWORD"),
        SecretWord::Admin => (&given.admin, ADMIN_FILE, "RELAYCTL_ADMIN_PASSWORD"),
        // What a relay was given is for its primary; what a primary was given is the same token.
        SecretWord::Join => (&given.join_token, JOIN_FILE, "RELAYCTL_TOKEN"),
    };
    if let Some(given) = given {
        return print::text(&format!("{}\n", given.reveal()));
    }
    let place = match places.find(place::lives) {
        Found::Nowhere => places.find(|place| place.join(file).exists()),
        found => found,
    };
    let place = match place {
        Found::One(place) => places.data_dir_of(&place),
        Found::Several(several) => return Err(ambiguous(&several)),
        Found::Nowhere => {
            if let Some(place) = places.forbidden() {
                return Err(place::not_permitted(place));
            }
            let sentence = format!(
                "no {file} is given ({variable}) or kept in {}: a node makes it at its first start; \
                 name its data directory by --data-dir",
                places.listed()
            );
            return Err(Failure::said(Exit::Failed, sentence));
        }
    };
    match kept(&place, file)? {
        Some(secret) => print::text(&format!("{}\n", secret.reveal())),
        None => Err(Failure::said(
            Exit::Failed,
            format!(
                "`{}` holds no {file}: it was given to the node ({variable}), or the node is a relay and \
                 has none",
                place.display()
            ),
        )),
    }
}

/// Which of them is not for us to choose.
pub(super) fn ambiguous(several: &[std::path::PathBuf]) -> Failure {
    let list: Vec<String> = several
        .iter()
        .map(|place| format!("--data-dir {}", place.display()))
        .collect();
    Failure::said(
        Exit::Usage,
        format!("several nodes are here, say which: {}", list.join(", or ")),
    )
}

/// A secret in a data directory, which is neither made nor locked.
pub(super) fn kept(place: &Path, file: &str) -> Result<Option<Secret>, Failure> {
    let path = place.join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(Secret::new(text.trim_end_matches(['\n', '\r'])))),
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Ok(None),
            std::io::ErrorKind::PermissionDenied => Err(place::not_permitted(&path)),
            _ => Err(Failure::said(
                Exit::Failed,
                format!("cannot read `{}`: {error}", path.display()),
            )),
        },
    }
}
