//! New settings while the node runs: read all, then take all or nothing.

use std::sync::Arc;

use anyhow::Context as _;

use super::kubernetes::Pod;
use super::node::{Choose, Launch};
use super::rooms::{Known, Rooms};
use super::{Node, configs, fixed, kubernetes, limits, outside, parts, tls};
use crate::control::Role;
use crate::edge::bind;
use crate::settings::types::{Primary, Settings};
use crate::settings::watch::{FileWatch, Pace, watch};
use crate::settings::{self, Loaded, Sources, Values, effect, role, secrets};
use crate::telemetry::access::Opened;
use crate::telemetry::log::Log;
use crate::wire::tls::Server;

/// Where settings come from and what holds now.
pub(super) struct Reloads {
    sources: Sources,
    choose: Choose,
    primary: Option<Primary>,
    /// The settings that the node runs with.
    settings: Settings,
    /// Settings as read last, with the keys that are not in effect yet.
    values: Values,
    log: Log,
    watch: FileWatch,
}

/// Everything that a reload can fail at, done.
struct Prepared {
    rooms: Rooms,
    server: Option<Arc<Server>>,
    access_log: Option<Opened>,
}

impl Reloads {
    /// Watches the files that `launch` was read from.
    pub fn new(launch: Launch) -> Self {
        let watch = watch(launch.loaded.report.files, Pace::default());
        if let Some(why) = watch.blind() {
            tracing::warn!(
                why,
                "changed files are found only by looking every half minute"
            );
        }
        Self {
            sources: launch.sources,
            choose: launch.choose,
            primary: launch.primary,
            settings: launch.loaded.settings,
            values: launch.loaded.values,
            log: launch.log,
            watch,
        }
    }

    /// Waits for a changed file.
    pub async fn changed(&mut self) {
        self.watch.changed().await;
    }

    /// Reads all again; on any error the old settings stay.
    pub fn apply(&mut self, node: &Node) {
        let taken = settings::load(&self.sources)
            .map_err(anyhow::Error::from)
            .and_then(|loaded| self.take(node, loaded));
        let outcome = if taken.is_ok() { "taken" } else { "refused" };
        metrics::counter!("relayctl_reloads_total", "outcome" => outcome).increment(1);
        match taken {
            Ok(keys) => {
                let changed = !keys.is_empty();
                tracing::info!(changed, keys = keys.join(", "), "settings reloaded");
            }
            Err(error) => {
                // A rotated log is no matter of the settings.
                node.access_log.reopen();
                tracing::error!("reload refused, the old settings stay: {error:#}");
            }
        }
    }

    /// The keys that were changed, in effect now or not.
    fn take(&mut self, node: &Node, loaded: Loaded) -> anyhow::Result<Vec<&'static str>> {
        let Loaded {
            settings: mut new,
            report,
            values,
        } = loaded;
        self.would_start(&new)?;
        let pending = fixed::keep(&self.settings, &mut new);
        let prepared = self.prepare(node, &new)?;
        // The last that can fail: from here on everything is taken.
        self.log.set_filter(prepared.rooms.log.name())?;
        for key in pending {
            tracing::warn!(key, "this setting takes effect at the next start");
        }
        let mut keys = self.values.changed(&values);
        for key in changed_files(node, &self.settings, &new, &prepared.rooms) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        prepared.take_effect(node, &new);
        self.watch.follow(report.files);
        self.values = values;
        self.settings = new;
        Ok(keys)
    }

    /// Refuses what the next start would refuse, as far as that can be known without it; what is left is judged by
    /// [`Reloads::prepare`].
    fn would_start(&self, new: &Settings) -> anyhow::Result<()> {
        (self.choose)(&self.sources, new)?;
        effect::refuse_without_effect(new)?;
        Pod::of(new, &self.sources.environment)?;
        outside::check(new)?;
        if new.bind != self.settings.bind {
            self.could_bind(new)?;
        }
        let folder = new.data_dir.as_ref();
        if let Some(folder) = folder.filter(|path| path.exists() && !path.is_dir()) {
            anyhow::bail!("`data_dir`: `{}` is no directory", folder.display());
        }
        Ok(())
    }

    /// Refuses an address that cannot be had. The port of this node is not judged: it is in use by this node.
    fn could_bind(&self, new: &Settings) -> anyhow::Result<()> {
        use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
        let moves = new.bind.port != self.settings.bind.port;
        match bind(new.bind.socket_address()) {
            Err(error)
                if matches!(error.kind(), AddrNotAvailable | PermissionDenied)
                    || moves && error.kind() == AddrInUse =>
            {
                Err(error).context("`bind`")
            }
            _ => Ok(()),
        }
    }

    fn prepare(&self, node: &Node, new: &Settings) -> anyhow::Result<Prepared> {
        let role = node.control.identity.role;
        let given = kubernetes::completed(&new.given, &node.kept);
        let secrets = secrets::open(&node.data_dir, &given, new.name.as_ref(), role_of(role))?;
        let pair = tls::read_pair(new)?;
        tls::may_replace(node.control.config().certificate.as_ref(), pair.as_ref())?;
        let server = tls::server(pair.as_ref(), &node.tickets)?;
        let certificate = pair.as_ref().map(|pair| pair.certificate().clone());
        let urls = parts::urls(new, role, node.address.port(), certificate.as_ref());
        let known = Known {
            role,
            primary: self.primary.as_ref(),
            secrets: &secrets,
            urls,
            certificate,
            descriptors: limits::raise_descriptors(),
        };
        Ok(Prepared {
            rooms: Rooms::of(new, known)?,
            server,
            access_log: opened_again(&self.settings, new)?,
        })
    }
}

impl Prepared {
    fn take_effect(self, node: &Node, new: &Settings) {
        // Every room by name: one that is added must be told as well.
        let Rooms {
            engine,
            control,
            table,
            edge,
            agent,
            trust,
            foreign,
            join_token,
            log: _taken_already,
            access_log: (_, format),
        } = self.rooms;
        tls::say(control.certificate.as_ref());
        node.control.engine.reconfigure(engine);
        node.control.reconfigure(control);
        node.control.reconfigure_table(table);
        node.control.accept_tokens([join_token]);
        node.edge.reconfigure(edge);
        node.edge.set_tls(self.server);
        node.connector.trust(trust);
        match (agent, node.agent()) {
            (Some(config), Some(agent)) => agent.reconfigure(config),
            (Some(_), None) => {
                let key = "token";
                tracing::warn!(key, "this setting takes effect at the next start");
            }
            (None, _) => {}
        }
        node.foreign.apply(&foreign);
        if let Some(opened) = self.access_log {
            node.access_log.change(opened, format);
        }
        node.settings.send_replace(new.clone());
    }
}

/// The keys whose files have another content under the same name.
fn changed_files(node: &Node, old: &Settings, new: &Settings, rooms: &Rooms) -> Vec<&'static str> {
    let changed = [
        ("mounts", old.mounts != new.mounts),
        ("relay", old.relays != new.relays),
        (
            "tls.cert",
            node.control.config().certificate != rooms.control.certificate,
        ),
        ("primary_ca", !node.connector.trusts(&rooms.trust)),
    ];
    let changed = changed.into_iter().filter(|(_, differs)| *differs);
    changed.map(|(key, _)| key).collect()
}

/// The access log opened anew, also after `logrotate` has moved its file away; `None` where it stays as it was since
/// the same file cannot be opened for the moment.
fn opened_again(old: &Settings, new: &Settings) -> anyhow::Result<Option<Opened>> {
    let target = configs::access_log(new).0;
    match Opened::at(target) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if old.access_log == new.access_log => {
            tracing::warn!("{error}; the log goes on where it was");
            Ok(None)
        }
        Err(error) => Err(error).context("`access_log.path`"),
    }
}

fn role_of(role: Role) -> role::Role {
    match role {
        Role::Primary => role::Role::Primary,
        Role::Relay => role::Role::Relay,
    }
}

#[cfg(test)]
mod tests;
