//! The configuration of other servers from our settings: what `relayctl render` prints, and what a running
//! node keeps up to date in its data directory.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use url::Url;

use crate::base::ids::MountId;
use crate::base::secret::Secret;
use crate::engine::Fallback;
use crate::render::{
    Balancer, Limits, Paths, RenderMount, RenderNode, Role, RunAs, Scheme, Station, Timeouts,
    Upstream,
};
use crate::settings::types::{Mount, Primary, Settings};

/// What only a running node or its data directory knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// The data port in use, where the settings ask for a free one.
    pub port: Option<u16>,
    /// On a relay the primary's mounts; none where there is no such list, then the settings' own count.
    pub mounts: Option<Vec<MountId>>,
    /// On a relay what the primary says of their fallbacks; the settings' own word wins.
    pub fallbacks: HashMap<MountId, Fallback>,
    /// On a relay the mounts that its primary hides; the settings' own word wins.
    pub hidden: HashSet<MountId>,
    /// The nodes of the table; the settings' own list wins.
    pub nodes: Vec<RenderNode>,
    /// The passwords; an empty one is not known.
    pub passwords: Passwords,
}

/// The passwords that rendered files hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Passwords {
    /// User `source`.
    pub source: Secret,
    /// User `admin`.
    pub admin: Secret,
    /// User `relay`.
    pub relay: Secret,
}

/// The station as a server in the role of this node sees it. `primary` is whom a relay pulls from.
///
/// # Errors
/// A sentence, where an address of a server in the settings cannot be read.
pub fn station(
    settings: &Settings,
    role: Role,
    primary: Option<&Primary>,
    data_dir: &Path,
    known: &Known,
) -> Result<Station, String> {
    let port = known.port.unwrap_or(settings.bind.port);
    let defaults = Limits::default();
    Ok(Station {
        role,
        bind: settings.bind.address,
        port,
        public_host: settings.public.host.clone().unwrap_or_default(),
        public_urls: settings
            .public
            .urls(port)
            .iter()
            .map(ToString::to_string)
            .collect(),
        // Other servers take v1 sources on the next port and nowhere else.
        shoutcast_mount: settings
            .shoutcast
            .port
            .filter(|v1| Some(*v1) == port.checked_add(1))
            .map(|_| settings.shoutcast.mount.path().to_owned()),
        paths: Paths {
            data: absolute(data_dir),
            logs: settings.render.log_dir.clone(),
            icecast: settings.render.icecast.base_dir.clone(),
        },
        run_as: run_as(settings),
        source_password: known.passwords.source.clone(),
        admin_password: known.passwords.admin.clone(),
        relay_password: known.passwords.relay.clone(),
        location: settings.station.location.clone(),
        admin_contact: settings.station.admin_email.clone(),
        limits: Limits {
            max_listeners: settings
                .limits
                .max_listeners
                .unwrap_or(defaults.max_listeners),
            sources: settings.limits.max_sources,
            clients: settings.render.icecast.clients,
            queue_size: settings.render.icecast.queue_size.0,
            burst: settings.audio.burst_bytes.0,
        },
        timeouts: Timeouts {
            client: settings.render.icecast.client_timeout,
            header: settings.render.icecast.header_timeout,
            source: settings.audio.source_timeout,
        },
        master_update_interval: settings.render.icecast.master_update_interval,
        mounts: mounts(settings, known),
        upstream: primary.map(|primary| upstream(&primary.url, settings.pull.on_demand)),
        nodes: nodes(settings, known)?,
        balancer: Balancer {
            bind: settings.render.haproxy.bind.address,
            port: settings.render.haproxy.bind.port,
            source_port: settings.render.haproxy.source_port,
            stats_port: settings.render.haproxy.stats_port,
            user: settings.render.haproxy.user.clone(),
            expose: settings
                .render
                .haproxy
                .expose
                .iter()
                .map(|own| own.name())
                .collect(),
        },
        hold: settings.audio.hold,
        is_child: false,
    })
}

/// A rendered server runs from a folder of its own.
fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

fn run_as(settings: &Settings) -> Option<RunAs> {
    let icecast = &settings.render.icecast;
    let user = icecast.user.clone()?;
    let group = icecast.group.clone().unwrap_or_else(|| user.clone());
    Some(RunAs { user, group })
}

fn mounts(settings: &Settings, known: &Known) -> Vec<RenderMount> {
    let rendered = |id: &MountId| {
        let own = settings.mounts.iter().find(|mount| mount.id == *id);
        let mut rendered = own.map_or_else(|| RenderMount::at(id.path()), mount);
        let told = || known.hidden.contains(id);
        rendered.hidden = own.and_then(|own| own.hidden).unwrap_or_else(told);
        if let Some(fallback) = fallback(settings, known, own, id) {
            rendered.fallback = Some(fallback.mount.path().to_owned());
            rendered.fallback_override = fallback.returns;
        }
        rendered
    };
    match &known.mounts {
        Some(list) => list.iter().map(rendered).collect(),
        None => settings
            .mounts
            .iter()
            .map(|mount| rendered(&mount.id))
            .collect(),
    }
}

/// The fallback of a mount as the engine has it (`Engine::fallback_of`): the mount's own, else the primary's word, else
/// the general one.
fn fallback(
    settings: &Settings,
    known: &Known,
    own: Option<&Mount>,
    id: &MountId,
) -> Option<Fallback> {
    let of = |to: &MountId, returns: bool| Fallback {
        mount: to.clone(),
        returns,
    };
    let own = own.and_then(|own| Some(of(own.fallback.as_ref()?, own.fallback_override)));
    own.or_else(|| known.fallbacks.get(id).cloned())
        .or_else(|| settings.fallback.as_ref().map(|to| of(to, true)))
        .filter(|fallback| fallback.mount != *id)
}

fn mount(mount: &Mount) -> RenderMount {
    RenderMount {
        path: mount.id.path().to_owned(),
        content_type: mount.content_type.clone(),
        max_listeners: mount.max_listeners,
        max_listener_duration: mount.max_listener_duration,
        // See `fallback`.
        fallback: None,
        fallback_override: mount.fallback_override,
        intro: mount.intro.clone(),
        burst: mount.burst.map(|burst| burst.0),
        charset: mount.charset.map(|charset| charset.name().to_owned()),
        name: mount.name.clone(),
        description: mount.description.clone(),
        genre: mount.genre.clone(),
        url: mount.url.clone(),
        public: mount.public,
        // See `mounts`.
        hidden: false,
        password: mount.password.clone().unwrap_or_default(),
    }
}

/// The server behind a URL.
pub(super) fn upstream(url: &Url, on_demand: bool) -> Upstream {
    Upstream {
        scheme: match url.scheme() {
            "https" => Scheme::Https,
            _ => Scheme::Http,
        },
        host: bare_host(url),
        port: url.port_or_known_default().unwrap_or(80),
        on_demand,
    }
}

/// The host of a URL, an IPv6 address without its brackets.
fn bare_host(url: &Url) -> String {
    url.host_str()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned()
}

/// A node of the table for HAProxy; none where it is not reached by plain http.
pub fn node(name: &str, role: Role, public_url: &str, max_listeners: u64) -> Option<RenderNode> {
    let url = Url::parse(public_url)
        .ok()
        .filter(|url| url.scheme() == "http")?;
    Some(RenderNode {
        name: name.to_owned(),
        role,
        host: bare_host(&url),
        port: url.port_or_known_default()?,
        max_listeners: u32::try_from(max_listeners).ok(),
    })
}

/// The servers of the settings, else the table.
fn nodes(settings: &Settings, known: &Known) -> Result<Vec<RenderNode>, String> {
    let haproxy = &settings.render.haproxy;
    let source = match &haproxy.source_server {
        Some(text) => Some(server("haproxy.source_server", text)?),
        None => None,
    };
    let mut nodes = Vec::new();
    for text in &haproxy.servers {
        let (host, port) = server("haproxy.servers", text)?;
        let takes_sources = source.as_ref() == Some(&(host.clone(), port));
        nodes.push(RenderNode {
            name: format!("{}-{port}", host.replace(':', "-")),
            role: if takes_sources {
                Role::Primary
            } else {
                Role::Relay
            },
            host,
            port,
            max_listeners: None,
        });
    }
    if nodes.is_empty() {
        nodes = known.nodes.clone();
    }
    if let Some((host, port)) = source
        && !nodes
            .iter()
            .any(|node| node.host == host && node.port == port)
    {
        for node in &mut nodes {
            node.role = Role::Relay;
        }
        nodes.push(RenderNode {
            name: "source-server".into(),
            role: Role::Primary,
            host,
            port,
            max_listeners: None,
        });
    }
    Ok(nodes)
}

fn server(key: &str, text: &str) -> Result<(String, u16), String> {
    Url::parse(&format!("http://{text}/"))
        .ok()
        .filter(|url| url.path() == "/" && url.query().is_none() && url.username().is_empty())
        .and_then(|url| {
            let host = bare_host(&url);
            // `Url` leaves the scheme's own port out.
            Some((host, url.port_or_known_default()?))
        })
        .filter(|_| {
            text.trim_end_matches(|c: char| c.is_ascii_digit())
                .ends_with(':')
        })
        .ok_or_else(|| format!("`{key}`: `{text}` is no `host:port`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{self, Sources};

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let sources = Sources {
            environment: pairs.collect(),
            ..Sources::default()
        };
        settings::load(&sources).unwrap().settings
    }

    #[test]
    fn a_relay_takes_its_primarys_mounts_with_its_own_settings_of_them() {
        let settings = settings(&[
            ("RelayServer", "head.example"),
            ("portbase", "9000"),
            (
                "RELAYCTL_MOUNTS",
                "[{path: /live.mp3, max_listeners: 7}, {path: /gone.mp3}]",
            ),
        ]);
        let mut known = Known::default();
        let primary = settings.primary.as_ref();
        let make = |known: &Known| {
            station(&settings, Role::Relay, primary, Path::new("/x"), known).unwrap()
        };
        let paths = |station: &Station| -> Vec<String> {
            station
                .mounts
                .iter()
                .map(|mount| mount.path.clone())
                .collect()
        };
        let before = make(&known);
        assert_eq!(paths(&before), ["/live.mp3", "/gone.mp3"]);
        assert_eq!(
            (before.port, before.shoutcast_mount.as_deref()),
            (9000, Some("/stream"))
        );
        known.mounts = Some(vec![
            "/live.mp3".parse().unwrap(),
            "/talk.ogg".parse().unwrap(),
        ]);
        known.port = Some(9100);
        known.hidden = HashSet::from(["/talk.ogg".parse().unwrap()]);
        let after = make(&known);
        let hidden: Vec<bool> = after.mounts.iter().map(|mount| mount.hidden).collect();
        assert_eq!(hidden, [false, true]);
        assert_eq!(paths(&after), ["/live.mp3", "/talk.ogg"]);
        assert_eq!(after.mounts[0].max_listeners, Some(7));
        let upstream = after.upstream.unwrap();
        assert_eq!(
            (upstream.host.as_str(), upstream.port),
            ("head.example", 80)
        );
        assert_eq!((after.port, after.shoutcast_mount), (9100, None));
    }

    /// What the rendered file says is what the engine does with the same settings.
    #[test]
    fn fallbacks_are_those_of_the_engine() {
        let settings = settings(&[
            ("RELAYCTL_FALLBACK", "/noise.mp3"),
            (
                "RELAYCTL_MOUNTS",
                "[{path: /live.mp3, fallback: /jingle.mp3, fallback_override: false}, /talk.mp3, /noise.mp3, /far.mp3]",
            ),
        ]);
        let id = |path: &str| path.parse::<MountId>().unwrap();
        let told = Fallback {
            mount: id("/told.mp3"),
            returns: false,
        };
        let fallbacks = HashMap::from([
            (id("/far.mp3"), told.clone()),
            (id("/live.mp3"), told.clone()),
        ]);
        let known = Known {
            fallbacks: fallbacks.clone(),
            ..Known::default()
        };
        let telemetry = crate::telemetry::Telemetry::new(Box::new(|_, _| {}));
        let engine =
            crate::engine::Engine::start(super::super::configs::engine(&settings), telemetry);
        let engine = engine.unwrap();
        engine.tell_fallbacks(fallbacks);
        let made = station(&settings, Role::Primary, None, Path::new("/x"), &known).unwrap();
        let rendered: Vec<_> = made
            .mounts
            .iter()
            .map(|mount| (mount.fallback.as_deref(), mount.fallback_override))
            .collect();
        assert_eq!(
            rendered,
            [
                (Some("/jingle.mp3"), false),
                (Some("/noise.mp3"), true),
                (None, true),
                (Some("/told.mp3"), false)
            ]
        );
        for mount in &made.mounts {
            let played = engine.fallback_of(&id(&mount.path));
            let played = played.map(|to| (to.mount.path().to_owned(), to.returns));
            let said = mount.fallback.clone();
            assert_eq!(played, said.map(|to| (to, mount.fallback_override)));
        }
        engine.stop();
    }

    #[test]
    fn servers_of_the_settings_win_over_the_table() {
        let known = Known {
            nodes: vec![node("head", Role::Primary, "http://[2001:db8::1]:8000", 5).unwrap()],
            ..Known::default()
        };
        let nodes = |pairs: &[(&str, &str)]| nodes(&settings(pairs), &known);
        let table = nodes(&[]).unwrap();
        assert_eq!(
            (table[0].host.as_str(), table[0].port),
            ("2001:db8::1", 8000)
        );
        let source = ("RELAYCTL_HAPROXY__SOURCE_SERVER", "a:80");
        let own = nodes(&[("RELAYCTL_HAPROXY__SERVERS", "a:80,b:81"), source]).unwrap();
        let seen: Vec<_> = own.iter().map(|n| (n.name.as_str(), n.role)).collect();
        assert_eq!(seen, [("a-80", Role::Primary), ("b-81", Role::Relay)]);
        // Sources that go elsewhere leave every node of the table to the listeners.
        let apart = nodes(&[source]).unwrap();
        let roles: Vec<Role> = apart.iter().map(|n| n.role).collect();
        assert_eq!(roles, [Role::Relay, Role::Primary]);
        assert!(node("tls", Role::Relay, "https://x", 1).is_none());
        assert!(server("k", "no-port").is_err() && server("k", "a:80/x").is_err());
    }
}
