//! Every setting, from the table to typed values: defaults < YAML file < environment < flags.
//!
//! [`load`] takes what was given as values and reads only the files that it names. One flat table
//! ([`table`]) is the source of YAML, environment, flags, `check` and the documents.
//!
//! The rest is what stands on settings before anything runs: the [`role`], the data directory, the
//! [`secrets`] in it, and the [`watch`] over the files.
//!
//! Must never: read the process's own environment or arguments, print, or show a secret. Only `app` and
//! `cli` see this room; every other room has its own configuration, which `app` fills from [`Settings`].

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub mod check;
pub mod choices;
pub mod data_dir;
pub mod effect;
pub mod keys;
pub mod role;
pub mod runtime_dir;
pub mod secrets;
pub mod table;
pub mod types;
pub mod watch;

mod addresses;
mod changes;
mod document;
mod doubtful;
mod environment;
mod exposure;
mod fallbacks;
mod layer;
mod problem;
mod reader;
mod resolve;
mod secret_file;
mod trees;
mod values;
mod yaml;

pub use addresses::DATA_PORT;
pub use changes::Values;
pub use check::{Report, markdown};
pub use data_dir::DataDir;
pub use layer::Origin;
pub use problem::{Problem, SettingsError};
pub use role::{Role, choose_role};
pub use secrets::Secrets;
pub use types::Settings;

use layer::{Layer, Merged};

/// Everything that settings are read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The YAML file, where one was named.
    pub file: Option<PathBuf>,
    /// The variables of the process.
    pub environment: Vec<(String, String)>,
    /// Dotted path of the key and what its flag said. A secret may be `@FILE`; `-` is read by
    /// [`Sources::with_input`] beforehand.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// Replaces `-` behind a flag of a secret by the first line of `input`, so that a reload knows it too.
    ///
    /// # Errors
    /// Where `input` gives no line.
    pub fn with_input(mut self, input: &mut dyn std::io::Read) -> Result<Self, SettingsError> {
        for (path, text) in &mut self.flags {
            let key = keys::find(path).filter(|key| matches!(key.kind, keys::Kind::Secret));
            let Some(key) = key.filter(|_| text == "-") else {
                continue;
            };
            let mut line = String::new();
            let outcome = input
                .take(8192)
                .read_to_string(&mut line)
                .map_err(|error| format!("cannot read standard input: {error}"))
                .and_then(|_| {
                    secret_file::clean(&line).map_err(|what| format!("standard input {what}"))
                });
            match outcome {
                Ok(secret) => *text = secret,
                Err(what) => {
                    let origin = Origin::Flag(key.flag.unwrap_or(key.path).into());
                    let problems = vec![Problem::new(key.path, &origin, what, "")];
                    return Err(SettingsError { problems });
                }
            }
        }
        Ok(self)
    }
}

/// Settings, and what `check` shows of them.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// As meant.
    pub settings: Settings,
    /// As written.
    pub report: Report,
    /// As written, to be compared with another reading.
    pub values: Values,
}

/// Reads, merges and checks everything.
///
/// # Errors
/// All problems at once; then nothing is to be used.
pub fn load(sources: &Sources) -> Result<Loaded, SettingsError> {
    let mut problems = Vec::new();
    let mut files = Vec::new();
    let mut text_of_file = String::new();
    let file = match &sources.file {
        Some(path) => {
            files.push(path.clone());
            match read_file(path) {
                Ok(text) => {
                    let layers = yaml::read(path, &text);
                    text_of_file = text;
                    layers
                }
                Err(problem) => {
                    problems.push(problem);
                    yaml::FileLayers::default()
                }
            }
        }
        None => yaml::FileLayers::default(),
    };
    problems.extend(file.problems);
    files.extend(file.files);
    let environment = environment::read(&sources.environment);
    problems.extend(environment.problems);
    files.extend(environment.files);
    let flags = flags(&sources.flags, &mut files, &mut problems);
    let merged = Merged::of(vec![
        file.old,
        file.ours,
        environment.platform,
        environment.old,
        environment.ours,
        flags,
    ]);
    let mut reader = reader::Reader::new(&merged);
    let settings = resolve::settings(&mut reader);
    problems.extend(reader.problems);
    match settings {
        Some(settings) if problems.is_empty() => {
            let mut report = check::report(&merged, &settings);
            report.ignored = environment.ignored;
            let mut secret = files.clone();
            secret.retain(|path| {
                Some(path) != sources.file.as_ref() || exposure::has_secret(&merged, &text_of_file)
            });
            secret.extend(settings.tls.iter().map(|tls| tls.key.clone()));
            files.extend(
                settings
                    .tls
                    .iter()
                    .flat_map(|tls| [tls.cert.clone(), tls.key.clone()]),
            );
            // A primary, and a relay that was given none, never reads it.
            let authorities = settings.primary.as_ref().and(settings.primary_ca.clone());
            files.extend(authorities);
            report.files = files;
            report.notes = notes(&settings, &report);
            report.warnings = exposure::warnings(&secret);
            report.warnings.extend(doubtful::warnings(&settings));
            Ok(Loaded {
                settings,
                report,
                values: Values::of(&merged),
            })
        }
        _ => Err(SettingsError { problems }),
    }
}

fn read_file(path: &Path) -> Result<String, Problem> {
    let origin = Origin::File {
        path: path.into(),
        line: None,
    };
    let wrong = |what: String, hint: &str| Problem::new("config", &origin, what, hint);
    let mut text = String::new();
    let cannot = |error: std::io::Error| wrong(format!("cannot read it: {error}"), "");
    File::open(path)
        .map_err(cannot)?
        .take(yaml::MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    if text.len() as u64 > yaml::MAX_FILE {
        return Err(wrong("is larger than 1MiB".into(), "is it the right file?"));
    }
    Ok(text)
}

fn flags(
    given: &[(&'static str, String)],
    files: &mut Vec<PathBuf>,
    problems: &mut Vec<Problem>,
) -> Layer {
    let mut layer = Layer::default();
    for (path, text) in given {
        let Some(key) = keys::find(path) else {
            let origin = Origin::Flag((*path).into());
            problems.push(Problem::new(
                *path,
                &origin,
                "is no key",
                keys::nearest_path(path),
            ));
            continue;
        };
        let origin = Origin::Flag(key.flag.unwrap_or(key.path).into());
        let file = text
            .strip_prefix('@')
            .filter(|_| matches!(key.kind, keys::Kind::Secret));
        let outcome = match file {
            Some(file) => {
                files.push(file.into());
                secret_file::read(Path::new(file))
            }
            None => Ok(text.clone()),
        };
        match outcome {
            // A list may be given in several flags; any other flag that comes twice is clap's matter.
            Ok(text) => {
                layer.add(key.path, Value::String(text), origin);
            }
            Err(what) => problems.push(Problem::new(key.path, &origin, what, "")),
        }
    }
    layer
}

/// What is allowed and still worth saying.
fn notes(settings: &Settings, report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(primary) = settings
        .primary
        .as_ref()
        .filter(|primary| primary.assumed_port)
    {
        notes.push(format!(
            "{} names no port, so port 80 is meant; a relayctl primary listens on {DATA_PORT}",
            primary.said_by
        ));
    }
    if !report.files.is_empty() {
        notes.push(
            "files are read again when they change, or on SIGHUP; a Kubernetes subPath mount never changes"
                .into(),
        );
    }
    notes
}

#[cfg(test)]
mod tests;
