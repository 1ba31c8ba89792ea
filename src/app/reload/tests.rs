//! Every key of the settings is live, or is among those that need a restart; never both, never neither.

use std::path::Path;

use super::fixed::{self, FIXED};
use super::*;
use crate::app::rendered::{self, Passwords};
use crate::app::silence;
use crate::base::secret::Secret;
use crate::render;
use crate::settings::choices::SilenceAction;
use crate::settings::keys::{Key, Kind, Preset, environment_name};
use crate::settings::secrets::{ClusterKey, Secrets};
use crate::settings::table::KEYS;
use crate::wire::tls::testing;

/// Files that settings name.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        for name in ["one", "two"] {
            let (cert, key) = testing::pair(&["radio.example"]);
            std::fs::write(files.path(&format!("{name}.pem")), cert).unwrap();
            std::fs::write(files.path(&format!("{name}.key")), key).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Variables that a change of `key` needs, before and after it.
    fn change(&self, key: &Key) -> [Vec<(&'static str, String)>; 2] {
        let own = |value: &str| vec![(key.path, value.to_owned())];
        let pair = |name: &str| {
            vec![
                ("tls.cert", self.path(&format!("{name}.pem"))),
                ("tls.key", self.path(&format!("{name}.key"))),
            ]
        };
        match key.path {
            "tls.cert" | "tls.key" => [pair("one"), pair("two")],
            "primary_ca" => [own(&self.path("one.pem")), own(&self.path("two.pem"))],
            "icecast.group" => {
                let user = ("icecast.user", "radio".to_owned());
                let group = ("icecast.group", "other".to_owned());
                [vec![user.clone()], vec![user, group]]
            }
            "source.silence_action" => {
                let fallback = ("fallback", "/other.mp3".to_owned());
                let action = (key.path, "fallback".to_owned());
                [vec![fallback.clone()], vec![fallback, action]]
            }
            _ => [Vec::new(), own(&value(key))],
        }
    }
}

/// A value that is not the default.
fn value(key: &Key) -> String {
    let text = match key.path {
        "primary" => "http://other.example:8000",
        "public_url" | "overflow_url" | "external" => "http://other.example",
        "limits.cpu" => "85%",
        "shoutcast.mount" | "fallback" | "mounts" => "/other.mp3",
        "relay" => "http://other.example/live.mp3",
        "ring" => "70s",
        "ring.max_bytes" => "64MiB",
        "fanout.min_delay" => "200ms",
        "fanout.max_delay" => "2s",
        "trusted_proxies" => "10.0.0.0/8",
        "haproxy.servers" | "haproxy.source_server" => "other.example:8000",
        "shoutcast.port" => "7001",
        "hosts" => "other.example",
        "haproxy.expose" => "metrics",
        _ => "",
    };
    if !text.is_empty() {
        return text.to_owned();
    }
    match (key.kind, key.default) {
        (Kind::Bool, Preset::Is("false")) => "true".into(),
        (Kind::Integer { min, max }, default) => {
            let other = (min + 1).min(max);
            let is_default = matches!(default, Preset::Is(text) if text == other.to_string());
            if is_default {
                min.to_string()
            } else {
                other.to_string()
            }
        }
        (Kind::Choice(names), Preset::Is(default)) => {
            let other = names.iter().find(|name| **name != default);
            (*other.unwrap()).to_owned()
        }
        (Kind::Duration, _) => "7s".into(),
        (Kind::Rate, _) => "900Mbit".into(),
        (Kind::Size, _) => "2MiB".into(),
        (Kind::Address, _) => "127.0.0.1:9000".into(),
        (Kind::Text | Kind::Secret, _) => "other".into(),
        (Kind::List, _) => "/other/*".into(),
        (kind, default) => panic!("`{}`: no value for {kind:?} beside {default:?}", key.path),
    }
}

fn load(pairs: &[(&'static str, String)]) -> Loaded {
    let environment = pairs.iter();
    let environment = environment.map(|(path, value)| (environment_name(path), value.clone()));
    let sources = Sources {
        environment: environment.collect(),
        ..Sources::default()
    };
    settings::load(&sources).unwrap_or_else(|error| panic!("{pairs:?}: {error}"))
}

/// All that a node of a role makes of settings: its rooms, and what follows the settings by itself.
#[derive(Debug, PartialEq)]
struct Made {
    rooms: Rooms,
    station: Result<render::Station, String>,
    templates: Option<std::path::PathBuf>,
    silence: (crate::silence::Config, SilenceAction),
    grace: std::time::Duration,
}

fn made(settings: &Settings, role: Role) -> Made {
    let of_relay = Primary {
        url: "http://127.0.0.1:8000".parse().unwrap(),
        any_port: false,
        assumed_port: false,
        said_by: "a test".into(),
    };
    let primary = Some(&of_relay).filter(|_| role == Role::Relay);
    let given = |secret: &Option<Secret>| secret.clone().unwrap_or_else(|| Secret::new("own"));
    let join = match role {
        Role::Primary => &settings.given.join_token,
        Role::Relay => &settings.given.token,
    };
    let secrets = Secrets {
        source: given(&settings.given.source),
        admin: given(&settings.given.admin),
        relay: given(&settings.given.relay),
        join: given(join),
        cluster_key: ClusterKey([0; 32]),
        node_id: "node".parse().unwrap(),
        generated: Vec::new(),
    };
    let pair = tls::read_pair(settings).unwrap();
    let certificate = pair.map(|pair| pair.certificate().clone());
    let known = Known {
        role,
        primary,
        secrets: &secrets,
        urls: parts::urls(settings, role, 8000, certificate.as_ref()),
        certificate,
        descriptors: 4096,
    };
    let render_role = match role {
        Role::Primary => render::Role::Primary,
        Role::Relay => render::Role::Relay,
    };
    let own = rendered::Known {
        port: Some(8000),
        passwords: Passwords {
            source: secrets.source.clone(),
            admin: secrets.admin.clone(),
            relay: secrets.relay.clone(),
        },
        ..rendered::Known::default()
    };
    Made {
        rooms: Rooms::of(settings, known).unwrap(),
        station: rendered::station(settings, render_role, primary, Path::new("/data"), &own),
        templates: settings.render.templates.clone(),
        silence: silence::config(settings),
        grace: settings.grace,
    }
}

#[test]
fn every_key_is_live_or_needs_a_restart() {
    let files = Files::new();
    let (mut live, mut pending) = (Vec::new(), Vec::new());
    for key in KEYS {
        let [before, after] = files.change(key);
        let (old, mut new) = (load(&before), load(&after));
        let changed = old.values.changed(&new.values);
        assert!(changed.contains(&key.path), "`{}`: {changed:?}", key.path);
        let kept = fixed::keep(&old.settings, &mut new.settings);
        let differs = [Role::Primary, Role::Relay]
            .into_iter()
            .any(|role| made(&old.settings, role) != made(&new.settings, role));
        if FIXED.iter().any(|fixed| fixed.key == key.path) {
            assert!(kept.contains(&key.path), "`{}` is not named", key.path);
            assert!(
                !differs,
                "`{}` needs a restart, and yet something changes",
                key.path
            );
            pending.push(key.path);
        } else {
            assert!(kept.is_empty(), "`{}` changes {kept:?}", key.path);
            assert!(
                differs,
                "`{}` reaches no room and is not among those that need a restart: see `app/fixed.rs`",
                key.path
            );
            live.push(key.path);
        }
    }
    println!("live: {live:?}\nat the next start: {pending:?}");
    assert_eq!(pending.len(), FIXED.len());
    assert!(live.len() > 60, "{}", live.len());
}

#[test]
fn the_page_of_the_settings_names_what_needs_a_restart() {
    let page = include_str!("../../../docs/settings.md");
    let line = page.lines().find(|line| line.contains("next start"));
    let line = line.expect("a line about the next start");
    for fixed in FIXED {
        assert!(
            line.contains(&format!("`{}`", fixed.key)),
            "{}: {line}",
            fixed.key
        );
    }
    assert_eq!(line.matches('`').count(), 2 * FIXED.len(), "{line}");
}
