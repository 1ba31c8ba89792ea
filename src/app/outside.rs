//! An engine that is not ours: what it is built from, and its configuration.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::keeper::Keeper;
use super::{rendered, taps};
use crate::base::secret::Secret;
use crate::control::Control;
use crate::discovery::{Connector, Resolver};
use crate::outside::{self, Child, Kind, Outside, Rendered, User};
use crate::render::{self, RenderError, Renderer, Station};
use crate::settings::choices::Engine;
use crate::settings::types::Settings;
use crate::telemetry::panics::{Vital, vital};

/// Folder of the data directory that belongs to the child.
const FOLDER: &str = "engine";

/// The user of a child's administration.
const ADMIN: &str = "admin";

/// An Icecast is told no larger number.
const MOST: u64 = 1_000_000;

fn kind_of(engine: Engine) -> Option<Kind> {
    match engine {
        Engine::Embedded => None,
        Engine::Icecast => Some(Kind::Icecast),
        Engine::Shoutcast => Some(Kind::Shoutcast),
    }
}

/// The engine that the settings ask for, where it is not our own.
///
/// # Errors
/// Where its program is not installed.
pub(super) fn build(settings: &Settings) -> anyhow::Result<Option<Arc<Outside>>> {
    let engines = &settings.engines;
    let kind = kind_of(settings.engine);
    let connector = Connector::new(Resolver::system());
    if let Some(url) = &engines.external {
        let config = outside::Config {
            kind,
            attached: Some(url.clone()),
            admin: engines
                .password
                .clone()
                .map(|password| (ADMIN.to_owned(), password)),
        };
        return Ok(Some(Outside::new(config, connector)));
    }
    let Some(kind) = kind else { return Ok(None) };
    program(settings, kind)?;
    let password = Secret::generate(24).context("no randomness for the engine's password")?;
    let config = outside::Config {
        kind: Some(kind),
        attached: None,
        admin: Some((ADMIN.to_owned(), password)),
    };
    Ok(Some(Outside::new(config, connector)))
}

/// Refuses settings whose engine is not installed.
///
/// # Errors
/// See [`build`].
pub(super) fn check(settings: &Settings) -> anyhow::Result<()> {
    let kind = kind_of(settings.engine).filter(|_| settings.engines.external.is_none());
    kind.map_or(Ok(()), |kind| program(settings, kind).map(drop))
}

/// The file of the program.
fn program(settings: &Settings, kind: Kind) -> anyhow::Result<PathBuf> {
    let (name, key, hint) = match kind {
        Kind::Icecast => (
            &settings.engines.icecast,
            "icecast.program",
            "install Debian's package `icecast2`",
        ),
        Kind::Shoutcast => (
            &settings.engines.shoutcast,
            "shoutcast.program",
            "install Shoutcast's DNAS 2",
        ),
    };
    outside::find(name, std::env::var_os("PATH").as_deref()).with_context(|| {
        format!(
            "`{}` is not installed, and `engine` is `{}`: {hint}, or say where it is (`{key}`)",
            name.display(),
            kind.as_str()
        )
    })
}

/// Starts the child, the looks at the engine, and the taps.
///
/// # Errors
/// Where its program has gone since [`build`].
pub(super) fn spawn(
    outside: &Arc<Outside>,
    keeper: Keeper,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let watching = Arc::clone(outside).watch_it(shutdown.clone());
    tasks.spawn(vital(Vital::Engine, watching));
    let control = Arc::clone(&keeper.control);
    let taps = taps::keep(control, Arc::clone(outside), shutdown.clone());
    tasks.spawn(vital(Vital::Taps, taps));
    let kind = outside.status().kind.filter(|_| !outside.is_attached());
    let Some(kind) = kind else { return Ok(()) };
    let settings = keeper.settings.borrow().clone();
    let changes = watch::Sender::new(0);
    let changed = changes.subscribe();
    let following = follow(keeper.clone(), changes, shutdown.clone());
    tasks.spawn(vital(Vital::Engine, following));
    let folder = keeper.data_dir.path().join(FOLDER);
    let child = Child {
        outside: Arc::clone(outside),
        kind,
        program: program(&settings, kind)?,
        user: Box::new({
            let settings = keeper.settings.clone();
            move || user(&settings.borrow(), kind)
        }),
        secrets: Arc::new({
            let (outside, control) = (Arc::clone(outside), Arc::clone(&keeper.control));
            move || passwords(&outside, &control)
        }),
        render: Box::new({
            let (outside, folder) = (Arc::clone(outside), folder.clone());
            move |port| configuration(&outside, kind, &keeper, &folder, port)
        }),
        folder,
        changed,
    };
    tasks.spawn(vital(Vital::Supervisor, child.run(shutdown.clone())));
    Ok(())
}

/// User that the child runs as where this node is root.
fn user(settings: &Settings, kind: Kind) -> Option<User> {
    let icecast = &settings.render.icecast;
    let names: Vec<&str> = match (&icecast.user, kind) {
        (Some(user), _) => vec![user],
        (None, Kind::Icecast) => vec!["icecast2", "icecast", "nobody"],
        (None, Kind::Shoutcast) => vec!["shoutcast", "nobody"],
    };
    let is_root = rustix::process::geteuid().is_root();
    is_root.then(|| User::of(&names, icecast.group.as_deref()))
}

/// The passwords that its configuration holds.
fn passwords(outside: &Outside, control: &Control) -> Vec<Secret> {
    let config = control.config();
    let own = [
        config.source_password.secret(),
        config.admin_password.secret(),
    ];
    let own = own.into_iter().cloned();
    let admin = outside.admin().map(|(_, password)| password.clone());
    own.chain([control.relay_password()]).chain(admin).collect()
}

/// Says that the configuration may have changed.
async fn follow(mut keeper: Keeper, changes: watch::Sender<u64>, shutdown: CancellationToken) {
    let mut carried = keeper.control.carried();
    loop {
        let changed = tokio::select! {
            () = shutdown.cancelled() => return,
            changed = keeper.settings.changed() => changed,
            changed = carried.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        changes.send_modify(|turn| *turn += 1);
    }
}

/// The child's file for a port.
fn configuration(
    outside: &Outside,
    kind: Kind,
    keeper: &Keeper,
    folder: &Path,
    port: u16,
) -> Result<Rendered, String> {
    let settings = keeper.settings.borrow().clone();
    let control = &keeper.control;
    let mut station = keeper.station(&settings)?;
    adapt(&mut station, control, kind, folder, port);
    if let Some((_, password)) = outside.admin() {
        station.admin_password = password.clone();
    }
    outside.set_source_password(station.source_password.clone());
    let kind = match kind {
        Kind::Icecast => render::Kind::Icecast,
        Kind::Shoutcast => render::Kind::Shoutcast,
    };
    let renderer = Renderer::new(settings.render.templates.as_deref());
    let renderer = renderer.map_err(|error| error.to_string())?;
    // Shoutcast writes into its own file; what it wrote is kept.
    let old = std::fs::read_to_string(folder.join(kind.file_name())).ok();
    match renderer.render_replacing(kind, &station, old.as_deref()) {
        Ok(text) => Ok(Rendered::Ready(text)),
        Err(RenderError::NoMounts) => Ok(Rendered::NotYet(
            "this relay has not heard of any mount yet".to_owned(),
        )),
        Err(error) => Err(format!("no {}: {error}", kind.file_name())),
    }
}

/// What differs between a server that stands for itself and one behind our data port: it listens on loopback, and
/// whom a limit keeps out is our affair.
fn adapt(station: &mut Station, control: &Control, kind: Kind, folder: &Path, port: u16) {
    let config = control.config();
    station.bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
    station.port = port;
    // Our way in for sources there is a Shoutcast v1 line, on the next port.
    station.shoutcast_mount = (kind == Kind::Shoutcast).then(|| "/stream".to_owned());
    station.run_as = None;
    station.is_child = true;
    station.paths.data = folder.to_owned();
    station.paths.logs = folder.to_owned();
    station.source_password = config.source_password.secret().clone();
    station.relay_password = control.relay_password();
    station.limits.max_listeners =
        u32::try_from(config.max_listeners.min(MOST)).unwrap_or(u32::MAX);
    for mount in &mut station.mounts {
        mount.max_listeners = None;
        mount.max_listener_duration = None;
    }
    if let Some(upstream) = &mut station.upstream {
        // A tap listens always, so nothing would ever be let go.
        upstream.on_demand = false;
        if let Some(url) = control.origin() {
            *upstream = rendered::upstream(&url, false);
        }
    }
}
