//! Configurations for other servers, made from our settings: Icecast, Shoutcast (DNAS 2) and HAProxy.
//!
//! The templates of `templates/` are compiled in; a folder may replace any of them under the same name.
//! Every value is escaped by the rules of the file that it goes into, and a value that cannot be written
//! there is refused before anything is rendered. Equal stations give equal bytes: no time, no randomness.
//!
//! Must never: start a program, read settings, know another room. It writes only where `write` is told to.
//! Neighbours: `app` fills a [`Station`]; `cli` prints, writes or compares what comes out.

mod check;
mod haproxy;
mod icecast;
mod shoutcast;
mod station;
mod strict;
pub mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::Value;

pub use station::{
    Balancer, Limits, Paths, RenderMount, RenderNode, Role, RunAs, Scheme, Station, Timeouts,
    Upstream,
};

/// Which program the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `icecast.xml` of Icecast 2.4.
    Icecast,
    /// `sc_serv.conf` of Shoutcast DNAS 2.
    Shoutcast,
    /// `haproxy.cfg`.
    Haproxy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Icecast, Self::Shoutcast, Self::Haproxy];

    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Icecast => "icecast",
            Self::Shoutcast => "shoutcast",
            Self::Haproxy => "haproxy",
        }
    }

    /// The usual name of the file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Icecast => "icecast.xml",
            Self::Shoutcast => "sc_serv.conf",
            Self::Haproxy => "haproxy.cfg",
        }
    }

    /// The name of its template, compiled in or in the override folder.
    pub fn template(self) -> &'static str {
        match self {
            Self::Icecast => "icecast.xml.tera",
            Self::Shoutcast => "sc_serv.conf.tera",
            Self::Haproxy => "haproxy.cfg.tera",
        }
    }

    fn built_in(self) -> &'static str {
        match self {
            Self::Icecast => include_str!("../../templates/icecast.xml.tera"),
            Self::Shoutcast => include_str!("../../templates/sc_serv.conf.tera"),
            Self::Haproxy => include_str!("../../templates/haproxy.cfg.tera"),
        }
    }

    /// Applied to every text that a template prints, whatever it is called.
    fn escape(self) -> fn(&str) -> String {
        match self {
            Self::Icecast => icecast::escape,
            Self::Shoutcast => shoutcast::escape,
            Self::Haproxy => haproxy::escape,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why nothing was rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A value of the station cannot be written into this file.
    #[error("`{key}` {problem}")]
    Value {
        /// The field, `mounts[0].name`.
        key: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A relay that has nothing to relay.
    #[error(
        "a relay without any mount has nothing to render: set `mounts` (`RELAYCTL_MOUNTS=/live.mp3`), \
         or render on a node that has joined and knows its primary's mounts"
    )]
    NoMounts,
    /// A template names something that does not exist.
    #[error("template `{template}`, line {line}: variable `{variable}` does not exist{hint}")]
    Undefined {
        /// Name of the template.
        template: String,
        /// Counted from 1.
        line: usize,
        /// As written.
        variable: String,
        /// The nearest names that do exist, or nothing.
        hint: String,
    },
    /// A template that tera cannot read or carry out.
    #[error("template `{template}`: {problem}")]
    Template {
        /// Name of the template.
        template: String,
        /// tera's words, with line and column where it knows them.
        problem: String,
    },
    /// The override folder cannot be used.
    #[error("template folder `{folder}`: {problem}")]
    Folder {
        /// As given.
        folder: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl RenderError {
    pub(crate) fn value(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Value {
            key: key.into(),
            problem: problem.into(),
        }
    }
}

struct Loaded {
    source: String,
    tera: tera::Tera,
}

/// The three templates, parsed.
pub struct Renderer {
    templates: BTreeMap<Kind, Loaded>,
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renderer").finish_non_exhaustive()
    }
}

impl Renderer {
    /// With the built-in templates, each replaced by the file of its name in `override_folder`, if there
    /// is one.
    ///
    /// # Errors
    /// The folder cannot be read or holds a `.tera` file of another name; a template has a syntax error.
    pub fn new(override_folder: Option<&Path>) -> Result<Self, RenderError> {
        let mut replaced = match override_folder {
            Some(folder) => read_folder(folder)?,
            None => BTreeMap::new(),
        };
        let mut templates = BTreeMap::new();
        for kind in Kind::ALL {
            let source = replaced
                .remove(kind.template())
                .unwrap_or_else(|| kind.built_in().to_owned());
            templates.insert(kind, load(kind, source)?);
        }
        Ok(Self { templates })
    }

    /// The file of `kind` for `station`.
    ///
    /// # Errors
    /// See [`RenderError`].
    pub fn render(&self, kind: Kind, station: &Station) -> Result<String, RenderError> {
        self.render_replacing(kind, station, None)
    }

    /// As [`Renderer::render`], for a file that replaces one with the text `old`. Only Shoutcast cares: its
    /// `streamauthhash_N` lines, which the server itself wrote there, stay, and a stream keeps its number.
    ///
    /// # Errors
    /// See [`RenderError`].
    pub fn render_replacing(
        &self,
        kind: Kind,
        station: &Station,
        old: Option<&str>,
    ) -> Result<String, RenderError> {
        check::station(station)?;
        let context = match kind {
            Kind::Icecast => icecast::context(station)?,
            Kind::Shoutcast => shoutcast::context(station, old)?,
            Kind::Haproxy => haproxy::context(station)?,
        };
        self.fill(kind, context)
    }

    fn fill(&self, kind: Kind, context: Value) -> Result<String, RenderError> {
        let name = kind.template();
        let template_error = |problem: String| RenderError::Template {
            template: name.to_owned(),
            problem,
        };
        let loaded = self
            .templates
            .get(&kind)
            .ok_or_else(|| template_error("is not loaded".to_owned()))?;
        strict::check(name, &loaded.source, &context)?;
        let context =
            tera::Context::from_value(context).map_err(|error| template_error(chain(&error)))?;
        loaded
            .tera
            .render(name, &context)
            .map_err(|error| template_error(chain(&error)))
    }
}

fn load(kind: Kind, source: String) -> Result<Loaded, RenderError> {
    let mut tera = tera::Tera::default();
    // One instance for each kind, because tera knows one escape function; the suffix matches them all, so
    // none is ever left unescaped by its name.
    tera.autoescape_on(vec![".tera"]);
    tera.set_escape_fn(kind.escape());
    tera.add_raw_template(kind.template(), &source)
        .map_err(|error| RenderError::Template {
            template: kind.template().to_owned(),
            problem: chain(&error),
        })?;
    Ok(Loaded { source, tera })
}

fn read_folder(folder: &Path) -> Result<BTreeMap<String, String>, RenderError> {
    let error = |problem: String| RenderError::Folder {
        folder: folder.display().to_string(),
        problem,
    };
    let known = Kind::ALL.map(Kind::template);
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|e| error(e.to_string()))? {
        let entry = entry.map_err(|e| error(e.to_string()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".tera") {
            continue;
        }
        if !known.contains(&name.as_str()) {
            return Err(error(format!(
                "`{name}` replaces no template: the names are `{}`",
                known.join("`, `")
            )));
        }
        let text = std::fs::read_to_string(entry.path())
            .map_err(|e| error(format!("`{name}` cannot be read: {e}")))?;
        found.insert(name, text);
    }
    Ok(found)
}

/// tera keeps the reason in the sources of its error.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string().trim().to_owned();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(source.to_string().trim());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests;
