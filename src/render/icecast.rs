//! What `icecast.xml.tera` may use. Keys and defaults are those of Icecast 2.4.4.

use serde::Serialize;
use serde_json::Value;

use super::{RenderError, Role, Station, check};

/// Sources that an Icecast relay may have beside its relays (each relay counts as one).
const SPARE_SOURCES: u32 = 2;

/// Connections beside listeners and sources: pages, statistics and checks count as clients in Icecast.
const SPARE_CLIENTS: u32 = 200;

#[derive(Serialize)]
struct Context {
    relay: bool,
    location: Option<String>,
    admin_contact: Option<String>,
    hostname: String,
    limits: Limits,
    source_password: Option<String>,
    relay_password: Option<String>,
    admin_password: String,
    bind: Option<String>,
    port: u16,
    shoutcast_mount: Option<String>,
    master_update_interval: u64,
    relays: Vec<Relay>,
    mounts: Vec<Mount>,
    paths: Paths,
    run_as: Option<super::RunAs>,
    is_child: bool,
    /// Character set of the titles of mounts that are not named.
    charset: Option<String>,
}

#[derive(Serialize)]
struct Limits {
    clients: u32,
    sources: u32,
    queue_size: u64,
    client_timeout: u64,
    header_timeout: u64,
    source_timeout: u64,
    burst: u64,
}

#[derive(Serialize)]
struct Relay {
    server: String,
    port: u16,
    mount: String,
    local_mount: String,
    password: Option<String>,
    on_demand: bool,
}

#[derive(Serialize)]
struct Mount {
    path: String,
    password: Option<String>,
    max_listeners: Option<u32>,
    max_listener_duration: Option<u64>,
    fallback: Option<String>,
    fallback_override: bool,
    intro: Option<String>,
    /// A text, since a template takes the number 0 for nothing.
    burst: Option<String>,
    content_type: Option<String>,
    charset: Option<String>,
    name: Option<String>,
    description: Option<String>,
    genre: Option<String>,
    url: Option<String>,
    public: Option<bool>,
    hidden: bool,
}

#[derive(Serialize)]
struct Paths {
    base: String,
    logs: String,
}

/// `&<>"'` as entities. Nothing else needs it: control characters were refused.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

pub(super) fn context(station: &Station) -> Result<Value, RenderError> {
    let relays = relays(station)?;
    check::port("port", station.port)?;
    let primary = station.role == Role::Primary;
    if primary && station.source_password.is_empty() {
        return Err(RenderError::value(
            "source_password",
            "is empty, and Icecast would take no source: set `RELAYCTL_SOURCE_PASSWORD`",
        ));
    }
    if station.admin_password.is_empty() {
        return Err(RenderError::value(
            "admin_password",
            "is empty, and Icecast refuses to be administered without: set `RELAYCTL_ADMIN_PASSWORD`",
        ));
    }
    let shoutcast_mount = station.shoutcast_mount.clone().filter(|_| primary);
    if shoutcast_mount.is_some() {
        check::next_port("port", station.port)?;
    }
    let context = Context {
        relay: !primary,
        location: check::set(Some(&station.location)),
        admin_contact: check::set(Some(&station.admin_contact)),
        hostname: station
            .told_host()
            .unwrap_or_else(|| "localhost".to_owned()),
        limits: limits(station)?,
        // Without one Icecast refuses every source: nobody takes a mount before the relay does.
        source_password: check::set_secret(&station.source_password).filter(|_| primary),
        relay_password: check::set_secret(&station.relay_password),
        admin_password: station.admin_password.reveal().to_owned(),
        bind: (!station.bind.is_unspecified()).then(|| station.bind.to_string()),
        port: station.port,
        shoutcast_mount,
        master_update_interval: check::some_seconds(station.master_update_interval),
        relays,
        mounts: mounts(station)?,
        paths: Paths {
            base: check::folder("paths.icecast", &station.paths.icecast)?,
            logs: check::folder("paths.logs", &station.paths.logs)?,
        },
        run_as: station.run_as.clone(),
        is_child: station.is_child,
        charset: charset(station, &super::RenderMount::default()),
    };
    serde_json::to_value(context).map_err(|error| RenderError::value("station", error.to_string()))
}

fn limits(station: &Station) -> Result<Limits, RenderError> {
    let limits = &station.limits;
    burst_fits("limits.burst", limits.burst, limits.queue_size)?;
    let relays = u32::try_from(station.mounts.len()).unwrap_or(u32::MAX);
    let sources = match station.role {
        Role::Primary => limits.sources,
        Role::Relay => limits.sources.max(relays.saturating_add(SPARE_SOURCES)),
    };
    let clients = limits.clients.unwrap_or_else(|| {
        limits
            .max_listeners
            .saturating_add(sources)
            .saturating_add(SPARE_CLIENTS)
    });
    Ok(Limits {
        // Icecast reads it into an `int`.
        clients: clients.min(i32::MAX.unsigned_abs()),
        sources,
        queue_size: limits.queue_size,
        client_timeout: check::some_seconds(station.timeouts.client),
        header_timeout: check::some_seconds(station.timeouts.header),
        source_timeout: check::some_seconds(station.timeouts.source),
        burst: limits.burst,
    })
}

/// Icecast drops a listener that is further behind than the queue; a burst as long would drop each at once.
fn burst_fits(key: &str, burst: u64, queue_size: u64) -> Result<(), RenderError> {
    if burst < queue_size {
        return Ok(());
    }
    Err(RenderError::value(
        key,
        format!(
            "is {burst} bytes, and must be less than `limits.queue_size`, {queue_size}: \
             Icecast would drop every newcomer as slow"
        ),
    ))
}

fn relays(station: &Station) -> Result<Vec<Relay>, RenderError> {
    let Some(upstream) = check::upstream(station, "Icecast")? else {
        return Ok(Vec::new());
    };
    let relay = |mount: &super::RenderMount| Relay {
        server: upstream.host.clone(),
        port: upstream.port,
        // Icecast sends it as it stands; its own mounts it compares decoded.
        mount: check::request_path(&mount.path),
        local_mount: mount.path.clone(),
        password: check::set_secret(&station.relay_password),
        on_demand: upstream.on_demand,
    };
    Ok(station.mounts.iter().map(relay).collect())
}

/// Titles come in UTF-8 from a relayctl node, whether it feeds this server or is its master.
fn charset(station: &Station, mount: &super::RenderMount) -> Option<String> {
    if station.is_child || station.role == Role::Relay {
        return Some("UTF-8".to_owned());
    }
    check::set(mount.charset.as_ref())
}

fn mounts(station: &Station) -> Result<Vec<Mount>, RenderError> {
    let mut all = Vec::with_capacity(station.mounts.len());
    for (index, mount) in station.mounts.iter().enumerate() {
        if let Some(burst) = mount.burst {
            burst_fits(
                &format!("mounts[{index}].burst"),
                burst,
                station.limits.queue_size,
            )?;
        }
        all.push(Mount {
            path: mount.path.clone(),
            // A relay's mounts are filled by the relay; nobody else may.
            password: check::set_secret(&mount.password).filter(|_| station.role == Role::Primary),
            max_listeners: mount.max_listeners.filter(|most| *most > 0),
            max_listener_duration: check::limit(mount.max_listener_duration),
            fallback: check::set(mount.fallback.as_ref()),
            fallback_override: mount.fallback_override,
            intro: check::set(mount.intro.as_ref()),
            burst: mount.burst.map(|bytes| bytes.to_string()),
            content_type: check::set(mount.content_type.as_ref()),
            charset: charset(station, mount),
            name: check::set(mount.name.as_ref()),
            description: check::set(mount.description.as_ref()),
            genre: check::set(mount.genre.as_ref()),
            url: check::set(mount.url.as_ref()),
            public: mount.public,
            hidden: mount.hidden,
        });
    }
    Ok(all)
}
