//! New settings while the node runs: read all, then take all or nothing.

use super::Node;
use super::node::Launch;
use crate::settings::types::Settings;
use crate::settings::watch::{FileWatch, Pace, watch};
use crate::settings::{self, Sources};

/// Where settings come from and what holds now.
pub(super) struct Reloads {
    sources: Sources,
    settings: Settings,
    watch: FileWatch,
}

impl Reloads {
    /// Watches the files that `launch` was read from.
    pub fn new(launch: &Launch) -> Self {
        let watch = watch(launch.loaded.report.files.clone(), Pace::default());
        if let Some(why) = watch.blind() {
            tracing::warn!(
                why,
                "changed files are found only by looking every half minute"
            );
        }
        Self {
            sources: launch.sources.clone(),
            settings: launch.loaded.settings.clone(),
            watch,
        }
    }

    /// Waits for a changed file.
    pub async fn changed(&mut self) {
        self.watch.changed().await;
    }

    /// Reads all again; on any error the old settings stay.
    pub fn apply(&mut self, node: &Node) {
        let loaded = match settings::load(&self.sources) {
            Ok(loaded) => loaded,
            Err(error) => {
                metrics::counter!("relayctl_reloads_total", "outcome" => "refused").increment(1);
                tracing::error!(%error, "reload refused: the old settings stay");
                return;
            }
        };
        for key in fixed(&self.settings, &loaded.settings) {
            tracing::warn!(key, "this setting takes effect at the next start");
        }
        node.reconfigure(&loaded.settings);
        let files_changed = self.settings != loaded.settings;
        self.settings = loaded.settings;
        metrics::counter!("relayctl_reloads_total", "outcome" => "taken").increment(1);
        tracing::info!(changed = files_changed, "settings reloaded");
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
        ("shoutcast.port", old.shoutcast.port != new.shoutcast.port),
        ("access_log", old.access_log != new.access_log),
        (
            "log",
            old.log != new.log || old.log_format != new.log_format,
        ),
    ];
    pairs
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(key, _)| key)
        .collect()
}
