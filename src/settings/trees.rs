//! The lists of mappings: `mounts` and `relay`.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};
use url::Url;

use super::fallbacks;
use super::keys::{self, Field, Kind};
use super::reader::Reader;
use super::secret_file;
use super::table::{MOUNT, RELAY};
use super::values::{self, Read};
use super::yaml;
use crate::base::charset::Charset;
use crate::base::ids::MountId;
use crate::base::secret::Secret;
use crate::base::units::Size;

/// Entries of one list at most.
const MAX_ENTRIES: usize = 10_000;

/// A mount with settings of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which.
    pub id: MountId,
    /// Announced whatever the source says.
    pub content_type: Option<String>,
    /// Source password of this mount alone.
    pub password: Option<Secret>,
    /// None sets no limit.
    pub max_listeners: Option<u32>,
    /// None is never.
    pub max_listener_duration: Option<Duration>,
    /// Where listeners go when the source is gone.
    pub fallback: Option<MountId>,
    /// They come back when it returns.
    pub fallback_override: bool,
    /// File played before the stream.
    pub intro: Option<String>,
    /// Instead of the general one.
    pub burst: Option<Size>,
    /// Instead of the general one.
    pub metaint: Option<u32>,
    /// Of titles that do not name one.
    pub charset: Option<Charset>,
    /// In directories; none is what the source says.
    pub public: Option<bool>,
    /// Not in public lists; none is what the primary says.
    pub hidden: Option<bool>,
    /// Instead of the source's.
    pub name: Option<String>,
    /// Instead of the source's.
    pub description: Option<String>,
    /// Instead of the source's.
    pub genre: Option<String>,
    /// Instead of the source's.
    pub url: Option<String>,
}

/// A stream of another server that this node pulls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRelay {
    /// The first choice, then the backups in order; never empty.
    pub urls: Vec<Url>,
    /// Local mount.
    pub mount: MountId,
    /// Only while there are listeners.
    pub on_demand: bool,
    /// User and password, for the hosts of `urls` alone.
    pub login: Option<(String, Secret)>,
    /// Ask for titles.
    pub metadata: bool,
    /// Character set of its titles.
    pub charset: Option<Charset>,
}

/// Reads `mounts`.
pub(super) fn mounts(reader: &mut Reader<'_>) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut places: Vec<String> = Vec::new();
    for mut entry in entries(reader, "mounts", MOUNT) {
        let mount = mount(&mut entry);
        let place = entry.place();
        entry.finish(reader);
        let Some(mount) = mount else { continue };
        if mounts.iter().any(|other| other.id == mount.id) {
            reader.problem(
                &place,
                format!("`{}` is there twice", mount.id),
                "leave one out",
            );
        } else {
            mounts.push(mount);
            places.push(place);
        }
    }
    fallbacks::refuse_circles(&mounts, &places, reader);
    mounts
}

fn mount(entry: &mut Entry) -> Option<Mount> {
    let id = entry.required("path", mount_id)?;
    if id.is_reserved() {
        entry.wrong(
            "path",
            format!("`{id}` is a path that a node answers itself"),
        );
    }
    let fallback = entry.get("fallback", mount_id);
    if fallback.as_ref() == Some(&id) {
        entry.wrong("fallback", "is the mount itself");
    }
    Some(Mount {
        id,
        content_type: entry.text("content_type"),
        password: entry.secret("password"),
        max_listeners: entry.number("max_listeners").filter(|number| *number > 0),
        max_listener_duration: entry
            .get("max_listener_duration", values::duration)
            .filter(|time| !time.is_zero()),
        fallback,
        fallback_override: entry
            .get("fallback_override", values::boolean)
            .unwrap_or(true),
        intro: entry.text("intro"),
        burst: entry.get("burst", values::size),
        metaint: entry.number("metaint"),
        charset: entry.get("charset", charset),
        public: entry.get("public", values::boolean),
        hidden: entry.get("hidden", values::boolean),
        name: entry.text("name"),
        description: entry.text("description"),
        genre: entry.text("genre"),
        url: entry.text("url"),
    })
}

/// Reads `relay`.
pub(super) fn relays(reader: &mut Reader<'_>) -> Vec<ForeignRelay> {
    let mut relays: Vec<ForeignRelay> = Vec::new();
    for mut entry in entries(reader, "relay", RELAY) {
        let relay = relay(&mut entry);
        let place = entry.place();
        entry.finish(reader);
        let Some(relay) = relay else { continue };
        if relays.iter().any(|other| other.mount == relay.mount) {
            reader.problem(
                &place,
                format!("the mount `{}` is pulled twice", relay.mount),
                "give one of them another `mount`",
            );
        } else {
            relays.push(relay);
        }
    }
    relays
}

fn relay(entry: &mut Entry) -> Option<ForeignRelay> {
    let url = |value: &Value| values::http_url(&values::text(value)?);
    let first = entry.required("url", url)?;
    let backup = entry.get("backup", |value| {
        let items = values::list(value)?;
        items
            .iter()
            .map(|item| values::http_url(item))
            .collect::<Read<Vec<_>>>()
    });
    let of_url = MountId::new(first.path());
    let mount = match entry.get("mount", mount_id) {
        Some(mount) => mount,
        None => match of_url {
            Ok(mount) => mount,
            Err(error) => {
                entry.wrong(
                    "url",
                    format!("has no path that could be the local mount: {error}"),
                );
                return None;
            }
        },
    };
    if mount.is_reserved() {
        entry.wrong(
            "mount",
            format!("`{mount}` is a path that a node answers itself: give a `mount`"),
        );
    }
    let password = entry.secret("password");
    let username = entry.text("username");
    if username.is_some() && password.is_none() {
        entry.wrong("username", "has no `password` beside it");
    }
    let mut urls = vec![first];
    urls.extend(backup.unwrap_or_default());
    Some(ForeignRelay {
        urls,
        mount,
        on_demand: entry.get("on_demand", values::boolean).unwrap_or(false),
        login: password.map(|password| (username.unwrap_or_else(|| "relay".into()), password)),
        metadata: entry.get("metadata", values::boolean).unwrap_or(true),
        charset: entry.get("charset", charset),
    })
}

pub(super) fn mount_id(value: &Value) -> Read<MountId> {
    let text = values::text(value)?;
    text.parse().map_err(|error| format!("`{text}`: {error}"))
}

fn charset(value: &Value) -> Read<Charset> {
    let text = values::text(value)?;
    Charset::of(&text).ok_or_else(|| {
        format!("`{text}` is no character set that is known: give a WHATWG label such as `windows-1251`, `koi8-r`, `iso-8859-2` or `shift_jis`")
    })
}

/// One mapping of a list.
struct Entry {
    path: &'static str,
    index: usize,
    fields: Map<String, Value>,
    known: &'static [Field],
    wrong: Vec<(String, String)>,
}

impl Entry {
    fn place(&self) -> String {
        format!("{}[{}]", self.path, self.index)
    }

    fn wrong(&mut self, field: &str, what: impl Into<String>) {
        self.wrong.push((field.into(), what.into()));
    }

    fn get<T>(&mut self, field: &str, read: impl Fn(&Value) -> Read<T>) -> Option<T> {
        let value = self.fields.get(field).filter(|value| !value.is_null())?;
        match read(value) {
            Ok(value) => Some(value),
            Err(what) => {
                self.wrong(field, what);
                None
            }
        }
    }

    fn required<T>(&mut self, field: &str, read: impl Fn(&Value) -> Read<T>) -> Option<T> {
        if !self.fields.contains_key(field) {
            self.wrong(field, "is missing");
        }
        self.get(field, read)
    }

    fn text(&mut self, field: &str) -> Option<String> {
        self.get(field, values::text)
            .filter(|text| !text.is_empty())
    }

    fn number(&mut self, field: &str) -> Option<u32> {
        let known = self.known.iter().find(|known| known.name == field)?;
        let Kind::Integer { min, max } = known.kind else {
            return None;
        };
        self.get(field, |value| values::integer(value, min, max))
            .and_then(|number| u32::try_from(number).ok())
    }

    fn secret(&mut self, field: &str) -> Option<Secret> {
        let file = self.text(&format!("{field}_file"));
        let literal = self.get(field, values::secret);
        match (file, literal) {
            (Some(_), Some(_)) => {
                self.wrong(
                    field,
                    format!("stands beside `{field}_file`: leave one out"),
                );
                None
            }
            (Some(file), None) => match secret_file::read(Path::new(&file)) {
                Ok(secret) => Some(Secret::new(secret)),
                Err(what) => {
                    self.wrong(&format!("{field}_file"), what);
                    None
                }
            },
            (None, literal) => literal,
        }
    }

    /// Reports unknown fields and everything that was wrong.
    fn finish(mut self, reader: &mut Reader<'_>) {
        let known: Vec<String> = self
            .known
            .iter()
            .flat_map(|field| {
                let file =
                    matches!(field.kind, Kind::Secret).then(|| format!("{}_file", field.name));
                [Some(field.name.to_owned()), file]
            })
            .flatten()
            .collect();
        let names: Vec<String> = self.fields.keys().cloned().collect();
        for name in names.iter().filter(|name| !known.contains(name)) {
            let near = keys::nearest(name, known.iter().map(String::as_str))
                .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            self.wrong(name, format!("is no key of `{}`{near}", self.path));
        }
        let place = self.place();
        for (field, what) in self.wrong {
            let problem = super::problem::Problem::new(
                format!("{place}.{field}"),
                &reader.origin(self.path),
                what,
                "",
            );
            reader.problems.push(problem);
        }
    }
}

/// The entries of the list at `path`, which may also be YAML text or texts with commas.
fn entries(reader: &mut Reader<'_>, path: &'static str, known: &'static [Field]) -> Vec<Entry> {
    let Some(items) = reader.get(path, items) else {
        return Vec::new();
    };
    let first = known.first().map_or("", |field| field.name);
    let mut entries = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let fields = match item {
            Value::Object(fields) => fields,
            Value::String(text) => Map::from_iter([(first.to_owned(), Value::String(text))]),
            _ => {
                reader.problem(
                    path,
                    format!("entry {index} is neither a text nor a mapping"),
                    "",
                );
                continue;
            }
        };
        entries.push(Entry {
            path,
            index,
            fields,
            known,
            wrong: Vec::new(),
        });
    }
    entries
}

fn items(value: &Value) -> Read<Vec<Value>> {
    let items = match value {
        Value::Array(items) => items.clone(),
        Value::Object(_) => vec![value.clone()],
        Value::String(text) if is_yaml(text) => {
            let parsed = yaml::parse_value(text)
                .map_err(|error| format!("is neither a list nor YAML: {}", error.what))?;
            return match parsed {
                Value::String(_) => Err("is neither a list nor YAML".into()),
                parsed => items(&parsed),
            };
        }
        other => values::list(other)?
            .into_iter()
            .map(Value::String)
            .collect(),
    };
    if items.len() > MAX_ENTRIES {
        return Err(format!("has more than {MAX_ENTRIES} entries"));
    }
    Ok(items)
}

/// A text that is YAML or JSON and not a list with commas.
fn is_yaml(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with(['[', '{']) || text.starts_with("- ") || text.contains('\n')
}
