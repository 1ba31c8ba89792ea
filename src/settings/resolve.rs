//! Merged layers to typed settings; every rule between keys.

use std::time::Duration;

use super::addresses::{bind, primary, public, web};
use super::choices::{
    AccessFormat, Backend, Engine, Level, LogFormat, Mode, Open, Serve, SilenceAction, Strategy,
};
use super::reader::Reader;
use super::trees;
use super::types::{
    AccessLog, AccessTarget, Audio, Bind, Cluster, Engines, Fanout, Given, Haproxy, Icecast,
    Kubernetes, Limits, Pull, Render, Settings, Shoutcast, Station, TlsFiles,
};
use super::values::{self, Read};
use crate::base::ids::MountId;
use crate::base::units::Size;

/// Reads every key. What is wrong is in the reader afterwards; then the outcome is not to be used.
pub(super) fn settings(reader: &mut Reader<'_>) -> Option<Settings> {
    let bind = bind(reader)?;
    let limits = limits(reader);
    let mode = reader.word("mode", Mode::Redirect);
    let serve = reader.word("serve", Serve::Auto);
    if mode == Mode::Proxy && serve == Serve::Never {
        reader.problem(
            "mode",
            "is `proxy`, and `serve` is `never`",
            "a listener that is proxied is held by this node: set `serve: auto`, or `mode: redirect`",
        );
    }
    let engine = reader.word("engine", Engine::Embedded);
    let mounts = trees::mounts(reader);
    let fallback = reader.get("fallback", trees::mount_id);
    let has_fallback = fallback.is_some() || mounts.iter().any(|mount| mount.fallback.is_some());
    let settings = Settings {
        public: public(reader),
        name: reader.get("name", |value| {
            let text = values::text(value)?;
            text.parse().map_err(|error| format!("`{text}`: {error}"))
        }),
        data_dir: reader.text("data_dir").map(Into::into),
        primary: primary(reader),
        primary_ca: reader.text("primary_ca").map(Into::into),
        insecure_join: reader.boolean("insecure_join"),
        given: given(reader),
        strategy: reader.word("strategy", Strategy::LeastConn),
        serve,
        overflow: overflow(reader),
        mode,
        engine,
        engines: engines(reader),
        forget: reader.duration("forget"),
        cluster: Cluster {
            max_weight: reader.number("cluster.max_weight").unwrap_or(1_000),
            key_rotation: reader.duration("cluster.key_rotation"),
        },
        grace: reader.duration("grace"),
        mounts,
        fallback,
        relays: trees::relays(reader),
        pull: pull(reader),
        audio: audio(reader, has_fallback),
        fanout: fanout(reader),
        tls: tls(reader),
        trusted_proxies: reader
            .get("trusted_proxies", |value| {
                let items = values::list(value)?;
                items.iter().map(|item| values::network(item)).collect()
            })
            .unwrap_or_default(),
        shoutcast: shoutcast(reader, bind)?,
        metrics_open: reader.word("metrics.open", Open::Auto),
        web: web(reader),
        log: reader.word("log", Level::Info),
        log_format: reader.word("log_format", LogFormat::Text),
        access_log: access_log(reader),
        kubernetes: Kubernetes {
            secret: reader.text("kubernetes.secret"),
            deletion_cost: reader.boolean("kubernetes.deletion_cost"),
        },
        station: station(reader),
        render: render(reader)?,
        bind,
        limits,
    };
    if !settings.is_embedded() && !settings.relays.is_empty() {
        reader.problem(
            "relay",
            "names upstreams of our own engine, and another one carries the audio",
            "leave it out, or set `engine: embedded` without `external`",
        );
    }
    Some(settings)
}

fn engines(reader: &mut Reader<'_>) -> Engines {
    let external: Option<url::Url> =
        reader.get("external", |value| values::http_url(&values::text(value)?));
    let program = |text: Option<String>, name: &str| text.unwrap_or_else(|| name.into()).into();
    Engines {
        external,
        password: reader.secret("external_password"),
        icecast: program(reader.text("icecast.program"), "icecast2"),
        shoutcast: program(reader.text("shoutcast.program"), "sc_serv"),
    }
}

/// Both files or none.
fn tls(reader: &mut Reader<'_>) -> Option<TlsFiles> {
    let (cert, key) = (reader.text("tls.cert"), reader.text("tls.key"));
    match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles {
            cert: cert.into(),
            key: key.into(),
        }),
        (Some(_), None) => {
            reader.problem("tls.cert", "stands without `tls.key`", "set both");
            None
        }
        (None, Some(_)) => {
            reader.problem("tls.key", "stands without `tls.cert`", "set both");
            None
        }
        (None, None) => None,
    }
}

fn overflow(reader: &mut Reader<'_>) -> Vec<url::Url> {
    let urls: Vec<url::Url> = reader
        .get("overflow_url", |value| {
            let items = values::list(value)?;
            items.iter().map(|item| values::http_url(item)).collect()
        })
        .unwrap_or_default();
    for scheme in ["http", "https"] {
        if urls.iter().filter(|url| url.scheme() == scheme).count() > 1 {
            reader.problem(
                "overflow_url",
                format!("has two `{scheme}` URLs"),
                "leave one out",
            );
        }
    }
    urls
}

fn given(reader: &mut Reader<'_>) -> Given {
    let token = reader.secret("token");
    Given {
        join_token: reader.secret("join_token").or_else(|| token.clone()),
        token,
        source: reader.secret("source_password"),
        admin: reader.secret("admin_password"),
        relay: reader.secret("relay_password"),
    }
}

fn limits(reader: &mut Reader<'_>) -> Limits {
    Limits {
        max_listeners: reader.number("max_listeners").filter(|number| *number > 0),
        max_bandwidth: Some(reader.rate("max_bandwidth")).filter(|rate| rate.0 > 0),
        max_cpu: reader.get("limits.cpu", values::thousandths).unwrap_or(0),
        address_listeners: reader
            .number("limits.address_listeners")
            .filter(|number| *number > 0),
        address_joins: reader.number("limits.address_joins"),
        address_burst: reader.number("limits.address_burst").unwrap_or(500),
        max_sources: reader.number("max_sources").unwrap_or(1),
        weight: reader.number("weight").unwrap_or(100),
        max_children: reader.number("max_children").unwrap_or(16),
        region: region(reader),
    }
}

/// Longest name of a region in bytes; the messages between nodes carry no more.
const MAX_REGION: usize = 64;

fn region(reader: &mut Reader<'_>) -> String {
    let region = reader.text("region").unwrap_or_default();
    if region.len() > MAX_REGION {
        reader.problem(
            "region",
            format!("`{region}` is longer than {MAX_REGION} bytes"),
            "",
        );
    }
    region
}

fn pull(reader: &mut Reader<'_>) -> Pull {
    let mounts = reader.list("pull.mounts");
    for glob in &mounts {
        if let Err(error) = globset::Glob::new(glob) {
            reader.problem(
                "pull.mounts",
                format!("`{glob}` is no glob: {}", error.kind()),
                "",
            );
        }
    }
    Pull {
        mounts,
        on_demand: reader.boolean("pull.on_demand"),
    }
}

fn audio(reader: &mut Reader<'_>, has_fallback: bool) -> Audio {
    let audio = Audio {
        hold: reader.duration("hold"),
        ring: reader.duration("ring"),
        ring_max: reader.size("ring.max_bytes"),
        burst_bytes: reader.size("burst.bytes"),
        burst_time: reader.duration("burst.seconds"),
        metaint: reader.number("metaint").unwrap_or(16_000),
        listener_stall: reader.duration("listener.stall"),
        source_timeout: reader.duration("source.timeout"),
        source_stale: reader.duration("source.stale"),
        silence: reader.duration("source.silence"),
        silence_level: reader.number("source.silence_level").unwrap_or(60),
        silence_action: reader.word("source.silence_action", SilenceAction::None),
        silence_end: reader.duration("source.silence_end"),
        takeover: reader.boolean("takeover"),
    };
    if audio.silence_action == SilenceAction::Fallback {
        let (what, next) = if audio.silence.is_zero() {
            (
                "is `fallback`, and `source.silence` is 0",
                "set `source.silence: 30s`, or leave this out",
            )
        } else {
            (
                "is `fallback`, and no mount has one",
                "set `fallback: /other.mp3`, or the `fallback` of a mount",
            )
        };
        if audio.silence.is_zero() || !has_fallback {
            reader.problem("source.silence_action", what, next);
        }
    }
    if audio.burst_time < Duration::from_secs(2) {
        reader.problem("burst.seconds", "is less than 2s", "players stop at less");
    }
    let least = audio.burst_time + Duration::from_secs(30);
    if audio.ring < least {
        let what = format!(
            "is less than `burst.seconds` and 30s, {}s",
            least.as_secs_f64()
        );
        reader.problem("ring", what, "raise `ring` or lower `burst.seconds`");
    }
    // Four segments: less could not hold a burst beside the one being written.
    if audio.ring_max < Size(256 * 1024) || audio.ring_max.0 < audio.burst_bytes.0.saturating_mul(2)
    {
        let hint = "give at least 256KiB and twice `burst.bytes`";
        reader.problem(
            "ring.max_bytes",
            format!("`{}` is too little", audio.ring_max),
            hint,
        );
    }
    for (path, time) in [
        ("listener.stall", audio.listener_stall),
        ("source.timeout", audio.source_timeout),
        ("source.stale", audio.source_stale),
    ] {
        if time.is_zero() {
            reader.problem(path, "is zero", "write a time such as `10s`");
        }
    }
    audio
}

fn fanout(reader: &mut Reader<'_>) -> Fanout {
    let fanout = Fanout {
        threads: reader
            .number("fanout.threads")
            .filter(|number| *number > 0)
            .map(|number| number as usize),
        min_delay: reader.duration("fanout.min_delay"),
        max_delay: reader.duration("fanout.max_delay"),
        backend: reader.word("fanout.backend", Backend::Auto),
    };
    if fanout.min_delay > fanout.max_delay {
        reader.problem(
            "fanout.min_delay",
            "is more than `fanout.max_delay`",
            "lower it",
        );
    }
    let ten = Duration::from_secs(10);
    if fanout.min_delay.is_zero() || fanout.max_delay > ten {
        reader.problem("fanout.max_delay", "delays lie between 1ms and 10s", "");
    }
    fanout
}

fn shoutcast(reader: &mut Reader<'_>, bind: Bind) -> Option<Shoutcast> {
    let mount: MountId = reader.get("shoutcast.mount", trees::mount_id)?;
    if mount.is_reserved() {
        reader.problem("shoutcast.mount", format!("`{mount}` takes no source"), "");
    }
    let asked = reader
        .number("shoutcast.port")
        .and_then(|port| u16::try_from(port).ok());
    // With a data port that nobody knows beforehand, nobody could know the next one either.
    let port = match asked {
        _ if bind.port == 0 => None,
        Some(port) => Some(port).filter(|port| *port != 0),
        None => bind.port.checked_add(1),
    };
    if port == Some(bind.port) {
        reader.problem(
            "shoutcast.port",
            "is the data port",
            "which takes such sources anyway: set 0",
        );
    }
    Some(Shoutcast { mount, port })
}

fn access_log(reader: &mut Reader<'_>) -> AccessLog {
    let target = match reader.text("access_log.path").as_deref() {
        None | Some("off") => AccessTarget::Off,
        Some("-") => AccessTarget::Output,
        Some(path) => AccessTarget::File(path.into()),
    };
    AccessLog {
        target,
        format: reader.word("access_log.format", AccessFormat::Combined),
    }
}

fn station(reader: &mut Reader<'_>) -> Station {
    Station {
        location: reader.text("station.location").unwrap_or_default(),
        admin_email: reader.text("station.admin_email").unwrap_or_default(),
    }
}

fn render(reader: &mut Reader<'_>) -> Option<Render> {
    let servers = reader
        .get("haproxy.servers", |value| {
            let items = values::list(value)?;
            items
                .iter()
                .map(|item| values::host_and_port(item))
                .collect::<Read<Vec<_>>>()
        })
        .unwrap_or_default();
    let user = reader.text("icecast.user");
    let group = reader.text("icecast.group");
    if group.is_some() && user.is_none() {
        reader.problem("icecast.group", "stands without `icecast.user`", "set both");
    }
    let icecast = Icecast {
        clients: reader.number("icecast.clients"),
        queue_size: reader.size("icecast.queue_size"),
        client_timeout: seconds(reader, "icecast.client_timeout"),
        header_timeout: seconds(reader, "icecast.header_timeout"),
        master_update_interval: seconds(reader, "icecast.master_update_interval"),
        base_dir: reader.text("icecast.base_dir").unwrap_or_default().into(),
        group: group.or_else(|| user.clone()),
        user,
    };
    Some(Render {
        templates: reader.text("templates").map(Into::into),
        log_dir: reader.text("render.log_dir").unwrap_or_default().into(),
        icecast,
        haproxy: Haproxy {
            bind: reader.get("haproxy.bind", values::bind)?,
            source_port: port(reader, "haproxy.source_port"),
            stats_port: port(reader, "haproxy.stats_port"),
            user: reader.text("haproxy.user").filter(|user| user != "none"),
            expose: reader.words("haproxy.expose"),
            servers,
            source_server: reader.get("haproxy.source_server", |value| {
                values::host_and_port(&values::text(value)?)
            }),
        },
    })
}

/// A port, 0 being none.
fn port(reader: &mut Reader<'_>, path: &'static str) -> Option<u16> {
    let port = reader.number(path).filter(|port| *port != 0)?;
    u16::try_from(port).ok()
}

/// A duration of whole seconds, at least one.
fn seconds(reader: &mut Reader<'_>, path: &'static str) -> Duration {
    let time = reader.duration(path);
    if time.as_secs() == 0 || time.subsec_nanos() != 0 {
        reader.problem(path, "is no whole number of seconds, one or more", "");
    }
    time
}
