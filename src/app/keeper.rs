//! Keeps the rendered files of a running node's role up to date in its data directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globset::{Glob, GlobSetBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::rendered::{self, Known, Passwords};
use crate::base::ids::MountId;
use crate::base::secret::Secret;
use crate::cluster::snapshot::{NodeView, State};
use crate::control::Control;
use crate::render::write::{Written, write_atomic};
use crate::render::{Kind, RenderError, RenderNode, Renderer, Role, Station};
use crate::settings::data_dir::DataDir;
use crate::settings::secrets::RELAY_FILE;
use crate::settings::types::{Primary, Settings};
use crate::wire::message::{MountState, NodeRole};

/// Folder of the data directory with the files.
pub const RENDERED_DIR: &str = "rendered";

/// Between two looks: a table that moves every second is looked at no more often.
const LOOK: Duration = Duration::from_millis(500);

/// What the files are made from, and where they go.
#[derive(Clone)]
pub(super) struct Keeper {
    /// Mounts and nodes.
    pub control: Arc<Control>,
    /// The directory that `rendered/` is in.
    pub data_dir: Arc<DataDir>,
    /// This node's role.
    pub role: Role,
    /// Whom a relay pulls from.
    pub primary: Option<Primary>,
    /// The data port.
    pub port: u16,
    /// The settings, as they are reloaded.
    pub settings: watch::Receiver<Settings>,
}

/// What was done last, so that nothing is done or said twice.
#[derive(Default)]
struct Last {
    station: Option<Station>,
    templates: Option<PathBuf>,
    said: Vec<String>,
}

impl Keeper {
    /// Until `shutdown`. In a read-only data directory there is nothing to do.
    pub async fn run(mut self, shutdown: CancellationToken) {
        if !self.data_dir.is_writable() {
            return;
        }
        let mut carried = self.control.carried();
        let mut table = self.control.watch_table();
        let mut last = Last::default();
        loop {
            self.keep(&mut last).await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = async {
                    tokio::time::sleep(LOOK).await;
                    tokio::select! {
                        changed = self.settings.changed() => changed,
                        changed = carried.changed() => changed,
                        changed = table.changed() => changed,
                    }
                } => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn keep(&self, last: &mut Last) {
        let settings = self.settings.borrow().clone();
        let templates = settings.render.templates.clone();
        let station = match self.station(&settings) {
            Ok(station) => station,
            Err(sentence) => return last.say(sentence),
        };
        if last.station.as_ref() == Some(&station) && last.templates == templates {
            return;
        }
        last.station = Some(station.clone());
        last.templates = templates.clone();
        let folder = self.data_dir.path().join(RENDERED_DIR);
        let (data_dir, learned) = (Arc::clone(&self.data_dir), self.learned_password());
        // The disk is waited for, and must not be by a thread that others wait for.
        let written = tokio::task::spawn_blocking(move || {
            if let Some(learned) = learned {
                keep_relay_password(&data_dir, &learned);
            }
            write(&folder, templates, &station)
        });
        let mut sentences = written.await.unwrap_or_default();
        sentences.retain(|sentence| !last.said.contains(sentence));
        for sentence in sentences {
            last.say(sentence);
        }
    }

    /// The station as this node knows it now.
    ///
    /// # Errors
    /// A sentence, where an address in the settings cannot be read.
    pub fn station(&self, settings: &Settings) -> Result<Station, String> {
        let mounts = self.mounts(settings);
        let engine = &self.control.engine;
        let told = mounts.iter().flatten();
        let told = told.filter_map(|id| Some((id.clone(), engine.fallback_of(id)?)));
        let hidden = mounts.iter().flatten();
        let hidden = hidden.filter(|id| self.control.is_hidden(id)).cloned();
        let known = Known {
            hidden: hidden.collect(),
            port: Some(self.port),
            fallbacks: told.collect(),
            mounts,
            nodes: nodes(&self.control.snapshot().nodes),
            passwords: self.passwords(),
        };
        let primary = self.primary.as_ref();
        rendered::station(settings, self.role, primary, self.data_dir.path(), &known)
    }

    /// One file as the settings have it now, in the place of one with the text `old`.
    ///
    /// # Errors
    /// A sentence, where the kind is unknown or the file cannot be made.
    pub fn render(&self, kind: &str, old: Option<&str>) -> Result<String, String> {
        let settings = self.settings.borrow().clone();
        let kind = Kind::ALL.into_iter().find(|own| own.to_string() == kind);
        let kind = kind.ok_or("write `icecast`, `shoutcast` or `haproxy`")?;
        let said = |error: RenderError| error.to_string();
        let renderer = Renderer::new(settings.render.templates.as_deref()).map_err(said)?;
        let station = self.station(&settings)?;
        renderer.render_replacing(kind, &station, old).map_err(said)
    }

    /// This node's own; on a relay that was given no relay password, the one that came with the join.
    fn passwords(&self) -> Passwords {
        let config = self.control.config();
        Passwords {
            source: config.source_password.secret().clone(),
            admin: config.admin_password.secret().clone(),
            relay: self.control.relay_password(),
        }
    }

    /// The relay password that came with the join, where this node was given none of its own.
    fn learned_password(&self) -> Option<Secret> {
        let learned = self.control.relay_password();
        let is_given = !self.control.config().relay_password.secret().is_empty();
        (!is_given && !learned.is_empty()).then_some(learned)
    }

    /// On a relay the primary's mounts as far as it carries them; none before it knows any.
    fn mounts(&self, settings: &Settings) -> Option<Vec<MountId>> {
        if self.role == Role::Primary {
            return None;
        }
        let mut globs = GlobSetBuilder::new();
        for glob in settings
            .pull
            .mounts
            .iter()
            .filter_map(|text| Glob::new(text).ok())
        {
            globs.add(glob);
        }
        let globs = globs.build().ok()?;
        let carried = self.control.carried();
        let mut mounts: Vec<MountId> = carried
            .borrow()
            .iter()
            .filter(|info| info.state != MountState::Idle)
            .map(|info| info.mount.clone())
            .filter(|mount| globs.is_match(mount.to_string()))
            .collect();
        mounts.sort();
        (!mounts.is_empty()).then_some(mounts)
    }
}

/// `relayctl render` on this machine reads it where a primary keeps its own.
fn keep_relay_password(data_dir: &DataDir, learned: &Secret) {
    let text = format!("{}\n", learned.reveal());
    if let Err(error) = data_dir.write(RELAY_FILE, text.as_bytes()) {
        tracing::debug!(%error, "the relay password is not kept");
    }
}

impl Last {
    fn say(&mut self, sentence: String) {
        if self.said.contains(&sentence) {
            return;
        }
        // Nobody may want these files: what is missing for them is no warning.
        tracing::info!("rendered files: {sentence}");
        // What was said long ago may be said again.
        if self.said.len() > 100 {
            self.said.clear();
        }
        self.said.push(sentence);
    }
}

/// The nodes that HAProxy may send to: all but the dead, as far as they are reached by plain http.
fn nodes(table: &[Arc<NodeView>]) -> Vec<RenderNode> {
    let node = |view: &Arc<NodeView>| {
        let role = match view.role {
            NodeRole::Primary => Role::Primary,
            NodeRole::Relay => Role::Relay,
        };
        let url = view.public_urls.http.as_deref()?;
        rendered::node(view.name.as_str(), role, url, view.limits.max_listeners)
    };
    table
        .iter()
        .filter(|view| view.state != State::Dead)
        .filter_map(node)
        .collect()
}

/// Renders and writes every file; a file that cannot be made stays as it was. Gives sentences for people.
fn write(folder: &std::path::Path, templates: Option<PathBuf>, station: &Station) -> Vec<String> {
    let renderer = match Renderer::new(templates.as_deref()) {
        Ok(renderer) => renderer,
        Err(error) => return vec![error.to_string()],
    };
    if let Err(error) = make_folder(folder) {
        return vec![format!("cannot make `{}`: {error}", folder.display())];
    }
    let mut sentences = Vec::new();
    for kind in Kind::ALL {
        let path = folder.join(kind.file_name());
        let old = std::fs::read_to_string(&path).ok();
        let text = match renderer.render_replacing(kind, station, old.as_deref()) {
            Ok(text) => text,
            Err(RenderError::NoMounts) => {
                sentences.push("none yet: this relay has not heard of any mount".to_owned());
                continue;
            }
            Err(error) => {
                sentences.push(format!("no {}: {error}", kind.file_name()));
                continue;
            }
        };
        match write_atomic(&path, &text, 0o600) {
            Ok(Written::Changed) => tracing::debug!(path = %path.display(), "rendered"),
            Ok(Written::Unchanged) => {}
            Err(error) => sentences.push(format!("cannot write `{}`: {error}", path.display())),
        }
    }
    sentences
}

fn make_folder(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::render::RenderMount;

    fn primary() -> Station {
        Station {
            source_password: Secret::new("s3cret"),
            admin_password: Secret::new("adm1n"),
            ..Station::default()
        }
    }

    #[test]
    fn all_three_private_and_only_on_change() {
        let scene = tempfile::tempdir().unwrap();
        let folder = scene.path().join(RENDERED_DIR);
        assert_eq!(write(&folder, None, &primary()), Vec::<String>::new());
        let mut times = Vec::new();
        for kind in Kind::ALL {
            let meta = std::fs::metadata(folder.join(kind.file_name())).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
            times.push(meta.modified().unwrap());
        }
        assert_eq!(times.len(), 3);
        write(&folder, None, &primary());
        for (kind, time) in Kind::ALL.into_iter().zip(times) {
            let meta = std::fs::metadata(folder.join(kind.file_name())).unwrap();
            assert_eq!(meta.modified().unwrap(), time, "{kind}");
        }
        let mut more = primary();
        more.mounts.push(RenderMount::at("/live.mp3"));
        write(&folder, None, &more);
        let text = std::fs::read_to_string(folder.join("icecast.xml")).unwrap();
        assert!(text.contains("/live.mp3"), "{text}");
    }

    #[test]
    fn a_relay_without_mounts_says_so_and_keeps_what_is_there() {
        let scene = tempfile::tempdir().unwrap();
        let folder = scene.path().join(RENDERED_DIR);
        write(&folder, None, &primary());
        let old = std::fs::read_to_string(folder.join("icecast.xml")).unwrap();
        let relay = Station {
            role: Role::Relay,
            ..primary()
        };
        let sentences = write(&folder, None, &relay);
        assert!(
            sentences
                .iter()
                .any(|s| s.contains("has not heard of any mount"))
        );
        let new = std::fs::read_to_string(folder.join("icecast.xml")).unwrap();
        assert_eq!(old, new);
    }
}
