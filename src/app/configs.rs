//! From the settings to each room's own configuration. Pure.

use std::time::Duration;

use anyhow::Context;
use globset::{Glob, GlobSetBuilder};
use sha2::{Digest, Sha256};

use super::own_address::own_address;
use crate::base::ids::MountId;
use crate::cluster::access::without_pin;
use crate::cluster::keys::ClusterSecrets;
use crate::cluster::table;
use crate::discovery::{Pin, Trust};
use crate::engine::{self, fanout, ring};
use crate::settings::choices;
use crate::settings::secrets::Secrets;
use crate::settings::types::{AccessTarget, Mount, Primary, Settings};
use crate::telemetry::access;
use crate::wire::icy::clean_field;
use crate::wire::message::PublicUrls;
use crate::wire::tls::Certificate;
use crate::{agent, balancer, control, edge};

/// Descriptors that are kept for everything but listeners.
pub(super) const KEPT_DESCRIPTORS: u64 = crate::balancer::pool::SPARE_DESCRIPTORS;

/// A burst holds at least this much audio.
const SHORTEST_BURST: Duration = Duration::from_secs(2);

/// New listeners a second of one address: behind a mobile carrier's address there may be thousands of people, of whom
/// hundreds listen and come back at once after a fault.
const ADDRESS_JOINS: u32 = 20;

/// A ring holds at least its burst and this much.
const BEYOND_BURST: Duration = Duration::from_secs(30);

/// For `engine`.
pub(super) fn engine(settings: &Settings) -> engine::Config {
    let audio = &settings.audio;
    engine::Config {
        ring: ring::Bounds {
            window: audio.ring.max(audio.burst_time + BEYOND_BURST),
            max_bytes: audio.ring_max.0,
        },
        burst: ring::Burst {
            bytes: audio.burst_bytes.0,
            longest: audio.burst_time,
            shortest: SHORTEST_BURST,
        },
        hold: audio.hold,
        max_sources: usize::try_from(settings.limits.max_sources).unwrap_or(usize::MAX),
        fallback: settings.fallback.clone().map(|mount| engine::Fallback {
            mount,
            returns: true,
        }),
        presets: settings
            .mounts
            .iter()
            .map(|mount| (mount.id.clone(), preset(mount)))
            .collect(),
        fanout: fanout::Config {
            threads: settings.fanout.threads.unwrap_or(0),
            min_delay: settings.fanout.min_delay,
            max_delay: settings.fanout.max_delay,
            stall: audio.listener_stall,
            backend: match settings.fanout.backend {
                choices::Backend::Auto => fanout::Choice::Auto,
                choices::Backend::Plain => fanout::Choice::Plain,
                choices::Backend::IoUring => fanout::Choice::IoUring,
            },
        },
    }
}

/// What a mount's settings say instead of its source, under the names that are carried.
fn preset(mount: &Mount) -> engine::Preset {
    let public = mount.public.map(|public| u8::from(public).to_string());
    let headers = [
        ("icy-name", &mount.name),
        ("icy-description", &mount.description),
        ("icy-genre", &mount.genre),
        ("icy-url", &mount.url),
        ("icy-pub", &public),
    ];
    let own = |(name, value): (&str, &Option<String>)| {
        let value = value.as_deref().map(clean_field)?;
        Some((name.to_owned(), value))
    };
    engine::Preset {
        content_type: mount.content_type.clone(),
        headers: headers.into_iter().filter_map(own).collect(),
        burst: mount.burst.map(|burst| burst.0),
        charset: mount.charset,
        fallback: mount.fallback.clone().map(|to| engine::Fallback {
            mount: to,
            returns: mount.fallback_override,
        }),
    }
}

/// For `control`. `descriptors` is what the process may open.
pub(super) fn control(
    settings: &Settings,
    secrets: &Secrets,
    public_urls: PublicUrls,
    certificate: Option<Certificate>,
    descriptors: u64,
) -> control::Config {
    // One listener of an engine that is not ours is two connections here.
    let each = if settings.is_embedded() { 1 } else { 2 };
    let room = (descriptors.saturating_sub(KEPT_DESCRIPTORS) / each).max(1);
    let most = settings
        .limits
        .max_listeners
        .map_or(room, |most| u64::from(most).min(room));
    let passwords = settings.mounts.iter().filter_map(|mount| {
        Some((
            mount.id.clone(),
            control::Password::new(mount.password.clone()?),
        ))
    });
    control::Config {
        source_password: control::Password::new(secrets.source.clone()),
        mount_passwords: passwords.collect(),
        admin_password: control::Password::new(secrets.admin.clone()),
        relay_password: control::Password::new(secrets.relay.clone()),
        public_urls,
        urls_are_guessed: are_guessed(settings),
        certificate,
        default_mount: default_mount(settings),
        shoutcast_mount: settings.shoutcast.mount.clone(),
        listed: settings
            .mounts
            .iter()
            .map(|mount| (mount.id.clone(), listed(mount)))
            .collect(),
        forget: settings.forget,
        max_listeners: most,
        max_bandwidth: settings.limits.max_bandwidth.map_or(0, |rate| rate.0),
        max_cpu: settings.limits.max_cpu,
        weight: settings.limits.weight,
        max_children: settings.limits.max_children,
        key_rotation: settings.cluster.key_rotation,
        region: settings.limits.region.clone(),
        on_demand: settings.pull.on_demand,
        serve: match settings.serve {
            choices::Serve::Auto => balancer::Serve::Auto,
            choices::Serve::Always => balancer::Serve::Always,
            choices::Serve::Never => balancer::Serve::Never,
        },
        mode: match settings.mode {
            choices::Mode::Redirect => balancer::Mode::Redirect,
            choices::Mode::Proxy => balancer::Mode::Proxy,
            choices::Mode::Auto => balancer::Mode::Auto,
        },
        overflow: overflow(settings),
        strategy: settings.strategy.name().parse().unwrap_or_default(),
        location: settings.station.location.clone(),
        admin_contact: settings.station.admin_email.clone(),
        metrics_open: match settings.metrics_open {
            choices::Open::Auto => control::MetricsOpen::Auto,
            choices::Open::Always => control::MetricsOpen::Always,
            choices::Open::Never => control::MetricsOpen::Never,
        },
        web: control::Web {
            hosts: settings.web.hosts.clone(),
            get_actions: match settings.web.get_actions {
                choices::GetActions::All => control::GetActions::All,
                choices::GetActions::Titles => control::GetActions::Titles,
                choices::GetActions::None => control::GetActions::None,
            },
        },
    }
}

fn listed(mount: &Mount) -> control::Listed {
    control::Listed {
        max_listeners: mount.max_listeners.map(u64::from),
        hidden: mount.hidden,
    }
}

fn overflow(settings: &Settings) -> balancer::Overflow {
    let of = |scheme: &str| {
        let url = settings.overflow.iter().find(|url| url.scheme() == scheme);
        url.map(ToString::to_string)
    };
    balancer::Overflow {
        http: of("http"),
        https: of("https"),
    }
}

fn default_mount(settings: &Settings) -> MountId {
    settings.mounts.first().map_or_else(
        || settings.shoutcast.mount.clone(),
        |mount| mount.id.clone(),
    )
}

/// For `edge`.
pub(super) fn edge(settings: &Settings, descriptors: u64) -> edge::Config {
    let of_mount = |mount: &Mount| edge::MountConfig {
        max_listeners: mount.max_listeners.map(u64::from),
        max_listener_duration: mount.max_listener_duration,
        metaint: mount.metaint,
    };
    let limits = &settings.limits;
    edge::Config {
        of_address: edge::AddressLimits {
            listeners: limits.address_listeners.map(u64::from),
            joins: limits.address_joins.unwrap_or(ADDRESS_JOINS),
            burst: limits.address_burst,
            loopback: limits.address_joins.is_some(),
        },
        trusted_proxies: settings.trusted_proxies.clone(),
        source_timeout: settings.audio.source_timeout,
        source_stale: settings.audio.source_stale,
        takeover: settings.audio.takeover,
        metaint: settings.audio.metaint,
        stall: settings.audio.listener_stall,
        descriptors,
        shoutcast_mount: settings.shoutcast.mount.clone(),
        mounts: settings
            .mounts
            .iter()
            .map(|mount| (mount.id.clone(), of_mount(mount)))
            .collect(),
    }
}

/// How the table judges.
pub(super) fn table(settings: &Settings) -> table::Config {
    table::Config {
        forget: settings.forget,
        max_weight: settings.cluster.max_weight,
        ..table::Config::default()
    }
}

/// The roots of credentials and tokens: both follow from the one key of the data directory, each under a
/// word of its own.
pub(super) fn cluster_secrets(secrets: &Secrets) -> ClusterSecrets {
    let derive = |word: &[u8]| -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(secrets.cluster_key.0);
        hash.update(word);
        hash.finalize().into()
    };
    ClusterSecrets::new(derive(b"credentials"), derive(b"redirects"), 0)
}

/// A relay's side of the cluster.
pub(super) fn agent(
    settings: &Settings,
    primary: &Primary,
    secrets: &Secrets,
) -> anyhow::Result<agent::Config> {
    let mut globs = GlobSetBuilder::new();
    for pattern in &settings.pull.mounts {
        globs.add(
            Glob::new(pattern).with_context(|| format!("`pull.mounts`: `{pattern}` is no glob"))?,
        );
    }
    let (token, _) = without_pin(&secrets.join)?;
    Ok(agent::Config {
        primary: primary.url.clone(),
        any_port: primary.any_port,
        assumed_port: primary.assumed_port,
        token,
        insecure_join: settings.insecure_join,
        patterns: settings.pull.mounts.clone(),
        mounts: globs.build()?,
        on_demand: settings.pull.on_demand,
    })
}

/// By what the certificate of a primary is known; without one, as the system has it.
pub(super) fn trust(
    settings: &Settings,
    primary: Option<&Primary>,
    secrets: &Secrets,
) -> anyhow::Result<Trust> {
    let mut trust = Trust::default();
    let Some(primary) = primary else {
        return Ok(trust);
    };
    if let Some(file) = &settings.primary_ca {
        let trusted = trust.with_authorities(file);
        trust = trusted.context("`primary_ca` (`--primary-ca`)")?;
    }
    if let (_, Some(sha256)) = without_pin(&secrets.join)? {
        let host = primary.url.host_str().unwrap_or_default();
        let host = host.trim_matches(['[', ']']).to_owned();
        trust = trust.with_pin(Pin { host, sha256 });
    }
    Ok(trust)
}

/// Where access lines go, and how they look.
pub(super) fn access_log(settings: &Settings) -> (access::Target, access::Format) {
    let target = match &settings.access_log.target {
        AccessTarget::Off => access::Target::Off,
        AccessTarget::Output => access::Target::Output,
        AccessTarget::File(path) => access::Target::File(path.clone()),
    };
    let format = match settings.access_log.format {
        choices::AccessFormat::Combined => access::Format::Combined,
        choices::AccessFormat::Json => access::Format::Json,
    };
    (target, format)
}

/// The URLs that were given, by scheme.
pub(super) fn public_urls(settings: &Settings, port: u16) -> PublicUrls {
    let mut urls = PublicUrls {
        withheld: settings.public.withheld,
        ..PublicUrls::default()
    };
    for url in settings.public.urls(port) {
        let text = url.as_str().trim_end_matches('/').to_owned();
        match url.scheme() {
            "https" => urls.https = Some(text),
            _ => urls.http = Some(text),
        }
    }
    urls
}

/// The same with one by https where the certificate allows it and nobody named one.
pub(super) fn with_https(
    mut urls: PublicUrls,
    certificate: Option<&Certificate>,
    port: u16,
) -> PublicUrls {
    if let (Some(http), None, Some(certificate)) = (&urls.http, &urls.https, certificate) {
        urls.https = certificate.https_beside(http, port);
    }
    urls
}

/// True where nobody said how listeners reach the node.
pub(super) fn are_guessed(settings: &Settings) -> bool {
    public_urls(settings, settings.bind.port).is_empty()
}

/// A primary that was given none is reached where it listens: at its one address, else at the one that
/// the system would send from.
pub(super) fn primary_urls(settings: &Settings, port: u16) -> PublicUrls {
    let given = public_urls(settings, port);
    if !given.is_empty() {
        return given;
    }
    let bound = settings.bind.address;
    let address = if bound.is_unspecified() {
        own_address()
    } else {
        bound
    };
    PublicUrls {
        http: Some(format!(
            "http://{}",
            std::net::SocketAddr::new(address, port)
        )),
        ..PublicUrls::default()
    }
}
