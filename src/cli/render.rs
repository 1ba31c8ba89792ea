//! `relayctl render`: the configuration of another server from this node's settings.

use std::path::Path;

use serde_json::{Value, json};

use super::args::{RenderFlags, RenderKind, RoleWord, Target};
use super::client::{Client, Verb};
use super::place::{self, Found, Places};
use super::{Exit, Failure, Outcome, node, print, token};
use crate::app::URL_FILE;
use crate::app::rendered::{self, Known, Passwords};
use crate::base::ids::MountId;
use crate::base::secret::Secret;
use crate::render::write::{diff, write_atomic};
use crate::render::{Kind, RenderError, RenderNode, Renderer, Role, Station};
use crate::settings::secrets::{ADMIN_FILE, RELAY_FILE, SOURCE_FILE};
use crate::settings::types::Settings;
use crate::settings::{Loaded, Sources, role};

/// Prints it, writes it, or shows how it differs.
pub(super) fn run(flags: &RenderFlags) -> Outcome {
    let data_dir: Vec<_> = flags
        .data_dir
        .iter()
        .map(|dir| ("data_dir", dir.clone()))
        .collect();
    let (sources, loaded) = node::load(flags.config.clone(), data_dir)?;
    let places = Places::new(None, &sources.environment, Some(&loaded.settings));
    let live = match places.find(place::lives) {
        Found::One(place) => Some(place),
        Found::Nowhere => None,
        Found::Several(several) => return Err(token::ambiguous(&several)),
    };
    let kind = match flags.kind {
        RenderKind::Icecast => Kind::Icecast,
        RenderKind::Shoutcast => Kind::Shoutcast,
        RenderKind::Haproxy => Kind::Haproxy,
    };
    let old = match (&flags.diff, &flags.out) {
        (Some(file), _) => Some(read(file)?),
        (None, Some(file)) if file.exists() => Some(read(file)?),
        _ => None,
    };
    // A file or a role that was named is what is asked about, not what runs.
    let asked = live
        .as_deref()
        .filter(|_| flags.config.is_none() && flags.role.is_none());
    let text = match asked {
        Some(live) => by_the_node(live, kind, old.as_deref())?,
        None => {
            let station = station(flags, &sources, &loaded, &places, live.as_deref())?;
            let renderer = Renderer::new(loaded.settings.render.templates.as_deref())?;
            renderer
                .render_replacing(kind, &station, old.as_deref())
                .map_err(|error| hinted(error, &station))?
        }
    };
    if let (Some(file), Some(old)) = (&flags.diff, &old) {
        return match diff(old, &text, &file.display().to_string(), "rendered") {
            Some(difference) => print::text(&difference).map(|_| Exit::Found),
            None => Ok(Exit::Fine),
        };
    }
    let Some(file) = &flags.out else {
        return print::text(&text);
    };
    write_atomic(file, &text, 0o600).map_err(|error| {
        Failure::said(
            Exit::Failed,
            format!("cannot write `{}`: {error}", file.display()),
        )
    })?;
    Ok(Exit::Fine)
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        Failure::said(
            Exit::Failed,
            format!("cannot read `{}`: {error}", file.display()),
        )
    })
}

/// The file by the settings that the node in `place` runs with.
fn by_the_node(place: &Path, kind: Kind, old: Option<&str>) -> Result<String, Failure> {
    let path = format!("/api/v1/render/{kind}");
    let body = json!({ "old": old });
    let answer = client(place)?.ask(Verb::Post, &path, Some(&body))?;
    let text = answer.get("text").and_then(Value::as_str);
    let text =
        text.ok_or_else(|| Failure::said(Exit::Failed, "the node answered without a file"))?;
    Ok(text.to_owned())
}

fn client(place: &Path) -> Result<Client, Failure> {
    Client::new(&Target {
        addr: None,
        data_dir: Some(place.display().to_string()),
    })
}

fn station(
    flags: &RenderFlags,
    sources: &Sources,
    loaded: &Loaded,
    places: &Places,
    live: Option<&Path>,
) -> Result<Station, Failure> {
    let settings = &loaded.settings;
    let usage = |sentence: String| Failure::said(Exit::Usage, sentence);
    let choice = role::choose_role(&sources.environment, settings).map_err(usage)?;
    let role = match (flags.role, choice.role) {
        (Some(RoleWord::Primary), _) | (None, role::Role::Primary) => Role::Primary,
        (Some(RoleWord::Relay), _) | (None, role::Role::Relay) => Role::Relay,
    };
    let place = match live {
        Some(live) => places.data_dir_of(live),
        None => places.first.clone(),
    };
    let mut known = Known {
        port: live.and_then(running_port),
        passwords: passwords(settings, &place)?,
        ..Known::default()
    };
    if let Some(live) = live {
        let wants_mounts = flags.kind != RenderKind::Haproxy;
        if wants_mounts && role == Role::Relay && settings.mounts.is_empty() {
            known.mounts = Some(running_mounts(live)?);
        }
        if flags.kind == RenderKind::Haproxy && settings.render.haproxy.servers.is_empty() {
            known.nodes = running_nodes(live)?;
        }
    }
    rendered::station(settings, role, choice.primary.as_ref(), &place, &known).map_err(usage)
}

/// What was given, else what the node keeps.
fn passwords(settings: &Settings, place: &Path) -> Result<Passwords, Failure> {
    let one = |given: &Option<Secret>, file: &str| match given {
        Some(given) => Ok(given.clone()),
        None => token::kept(place, file).map(Option::unwrap_or_default),
    };
    Ok(Passwords {
        source: one(&settings.given.source, SOURCE_FILE)?,
        admin: one(&settings.given.admin, ADMIN_FILE)?,
        relay: one(&settings.given.relay, RELAY_FILE)?,
    })
}

/// The port that the node in `place` took, by whatever flags it was started.
fn running_port(place: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(place.join(URL_FILE)).ok()?;
    let url = url::Url::parse(text.trim()).ok()?;
    url.port_or_known_default()
}

/// A list of the node in `place`.
fn ask(place: &Path, what: &str) -> Result<Vec<Value>, Failure> {
    let path = format!("/api/v1/{what}");
    let mut answer = client(place)?.ask(Verb::Get, &path, None)?;
    match answer.get_mut(what).map(Value::take) {
        Some(Value::Array(list)) => Ok(list),
        _ => Ok(Vec::new()),
    }
}

/// What the node in `place` carries now.
fn running_mounts(place: &Path) -> Result<Vec<MountId>, Failure> {
    let name = |mount: &Value| mount.get("name")?.as_str()?.parse().ok();
    Ok(ask(place, "mounts")?.iter().filter_map(name).collect())
}

/// The nodes that the one in `place` knows, without the dead.
fn running_nodes(place: &Path) -> Result<Vec<RenderNode>, Failure> {
    let node = |row: &Value| {
        let text = |field: &str| row.get(field)?.as_str();
        if text("state") == Some("dead") {
            return None;
        }
        let role = match text("role") {
            Some("primary") => Role::Primary,
            _ => Role::Relay,
        };
        let most = row.get("max_listeners").and_then(Value::as_u64);
        rendered::node(text("name")?, role, text("public_url")?, most.unwrap_or(0))
    };
    Ok(ask(place, "nodes")?.iter().filter_map(node).collect())
}

/// A password that nobody has made yet has another way out than to invent one.
fn hinted(error: RenderError, station: &Station) -> Failure {
    let missing = station.source_password.is_empty() || station.admin_password.is_empty();
    let about_password =
        matches!(&error, RenderError::Value { key, .. } if key.ends_with("_password"));
    if missing && about_password {
        let hint = format!(
            "{error}; or start the node once, which makes it and keeps it in `{}`",
            station.paths.data.display()
        );
        return Failure::said(Exit::Failed, hint);
    }
    error.into()
}
