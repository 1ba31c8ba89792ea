//! What a node is built from: settings and secrets in the words of the rooms below.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::names::own_name;
use super::node::Launch;
use super::{configs, limits};
use crate::base::ids::Epoch;
use crate::base::wall::unix_millis;
use crate::control::{EPOCH_FILE, Identity, Parts, Remembered, Role, Store};
use crate::engine::Engine;
use crate::settings::data_dir::{self, DataDir};
use crate::settings::secrets::Secrets;
use crate::settings::types::Settings;
use crate::telemetry::Telemetry;
use crate::telemetry::access::{AccessLog, Opened};
use crate::wire::bounds::Clock;
use crate::wire::message::PublicUrls;
use crate::wire::tls::Certificate;

/// Where the system keeps the state of services.
const SYSTEM_STATE: &str = "/var/lib/relayctl";

pub(super) fn parts(
    launch: &Launch,
    secrets: &Secrets,
    port: u16,
    data_dir: &Arc<DataDir>,
    engine: Arc<Engine>,
    telemetry: Arc<Telemetry>,
    certificate: Option<Certificate>,
) -> Parts {
    let settings = &launch.loaded.settings;
    let identity = Identity {
        id: secrets.node_id.clone(),
        name: settings
            .name
            .clone()
            .unwrap_or_else(|| own_name(&secrets.node_id)),
        role: launch.role,
        incarnation: unix_millis(),
        version: env!("CARGO_PKG_VERSION"),
        data_port: port,
    };
    let urls = urls(settings, launch.role, port, certificate.as_ref());
    let kept = Arc::clone(data_dir);
    let store: Store = Box::new(move |file, bytes| {
        let written = kept.write(file, bytes);
        written.map(drop).map_err(|error| error.to_string())
    });
    Parts {
        stopping: CancellationToken::new(),
        identity,
        config: configs::control(
            settings,
            secrets,
            urls,
            certificate,
            limits::raise_descriptors(),
        ),
        engine,
        telemetry,
        outside: None,
        table: configs::table(settings),
        remembered: Remembered::read(|file| data_dir.read(file), |file| data_dir.set_aside(file)),
        secrets: configs::cluster_secrets(secrets),
        join_tokens: vec![secrets.join.clone()],
        store: data_dir.is_writable().then_some(store),
    }
}

/// Where the node is reached: as the settings say, completed by what follows from its certificate. Empty on a relay
/// that leaves it to its primary.
pub(super) fn urls(
    settings: &Settings,
    role: Role,
    port: u16,
    certificate: Option<&Certificate>,
) -> PublicUrls {
    let urls = match role {
        Role::Primary => configs::primary_urls(settings, port),
        Role::Relay => configs::public_urls(settings, port),
    };
    configs::with_https(urls, certificate, port)
}

pub(super) fn data_path(launch: &Launch, port: u16) -> PathBuf {
    let given = launch.loaded.settings.data_dir.clone();
    given.unwrap_or_else(|| {
        data_dir::choose(&launch.sources.environment, port, Path::new(SYSTEM_STATE))
    })
}

pub(super) fn open_access_log(settings: &Settings) -> anyhow::Result<AccessLog> {
    let (target, format) = configs::access_log(settings);
    let opened = Opened::at(target).context("`access_log.path`")?;
    AccessLog::start(opened, format).context("cannot start the access log's thread")
}

/// The highest epoch of the node's earlier processes. One more than a day ahead of the clock is left out, and
/// overwritten with the next: kept, it would be below every later one, and each restart would silence the relays.
pub(super) fn persisted_epoch(data_dir: &DataDir) -> Epoch {
    let text = data_dir.read(EPOCH_FILE).ok().flatten().unwrap_or_default();
    let epoch = Epoch(String::from_utf8_lossy(&text).trim().parse().unwrap_or(0));
    let clock = Clock {
        unix_millis: unix_millis(),
        stamped: Epoch(0),
    };
    if epoch <= clock.latest_epoch() {
        return epoch;
    }
    let now = Epoch(clock.unix_millis);
    tracing::warn!(
        %epoch, %now,
        "`{EPOCH_FILE}` in the data directory is more than a day ahead of this machine's clock: left out; if the clock \
         is behind, set it and restart this node"
    );
    now
}
