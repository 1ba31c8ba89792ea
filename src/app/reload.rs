//! New settings while the node runs: read all, then take all or nothing.

use anyhow::Context as _;

use super::node::Launch;
use super::{Node, configs, kubernetes, limits, parts, tls};
use crate::control::{Control, Role};
use crate::settings::types::Settings;
use crate::settings::watch::{FileWatch, Pace, watch};
use crate::settings::{self, Sources, role, secrets};
use crate::telemetry::access::Opened;
use crate::telemetry::log::Log;

/// Where settings come from and what holds now.
pub(super) struct Reloads {
    sources: Sources,
    settings: Settings,
    log: Log,
    watch: FileWatch,
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
            settings: launch.loaded.settings,
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
            .and_then(|loaded| self.take(node, loaded.settings));
        let outcome = if taken.is_ok() { "taken" } else { "refused" };
        metrics::counter!("relayctl_reloads_total", "outcome" => outcome).increment(1);
        match taken {
            Ok(changed) => tracing::info!(changed, "settings reloaded"),
            Err(error) => {
                // A rotated log is no matter of the settings.
                node.access_log.reopen();
                tracing::error!("reload refused, the old settings stay: {error:#}");
            }
        }
    }

    /// True if anything differs from before.
    fn take(&mut self, node: &Node, new: Settings) -> anyhow::Result<bool> {
        let name = new.name.as_ref();
        let role = role_of(&node.control);
        let given = kubernetes::completed(&new.given, &node.kept);
        let secrets = secrets::open(&node.data_dir, &given, name, role)?;
        let pair = tls::read_pair(&new)?;
        let server = tls::server(pair.as_ref(), &node.tickets)?;
        let access_log = opened_again(&self.settings, &new)?;
        self.log.set_filter(new.log.name())?;
        for key in fixed(&self.settings, &new) {
            tracing::warn!(key, "this setting takes effect at the next start");
        }
        let certificate = tls::shown(pair.as_ref());
        let role = node.control.identity.role;
        let urls = parts::urls(&new, role, node.address.port(), certificate.as_ref());
        let descriptors = limits::raise_descriptors();
        node.control.engine.reconfigure(configs::engine(&new));
        node.control.reconfigure(configs::control(
            &new,
            &secrets,
            urls,
            certificate,
            descriptors,
        ));
        node.control.reconfigure_table(configs::table(&new));
        node.control.accept_tokens([secrets.join]);
        node.edge.reconfigure(configs::edge(&new, descriptors));
        node.edge.set_tls(server);
        if let Some(opened) = access_log {
            node.access_log.change(opened, configs::access_log(&new).1);
        }
        node.settings.send_replace(new.clone());
        Ok(std::mem::replace(&mut self.settings, new.clone()) != new)
    }
}

/// The access log opened anew, also after `logrotate` has moved its file away; none where it stays as it was since
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

fn role_of(control: &Control) -> role::Role {
    match control.identity.role {
        Role::Primary => role::Role::Primary,
        Role::Relay => role::Role::Relay,
    }
}

/// Keys that differ and cannot change while the node runs.
fn fixed(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let pairs = [
        ("bind", old.bind != new.bind),
        ("data_dir", old.data_dir != new.data_dir),
        ("name", old.name != new.name),
        ("primary", old.primary != new.primary),
        ("fanout.threads", old.fanout.threads != new.fanout.threads),
        ("fanout.backend", old.fanout.backend != new.fanout.backend),
        ("shoutcast.port", old.shoutcast.port != new.shoutcast.port),
        ("log_format", old.log_format != new.log_format),
    ];
    pairs
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(key, _)| key)
        .collect()
}
