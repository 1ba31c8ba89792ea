//! Settings as people give them.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use super::types::{AccessTarget, Strategy};
use super::*;
use crate::base::ids::MountId;
use crate::base::units::{Rate, Size};

/// Sources from YAML text and pairs.
struct Scene {
    directory: tempfile::TempDir,
    sources: Sources,
}

fn scene(yaml: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relayctl.yaml");
    fs::write(&path, yaml).unwrap();
    Scene {
        directory,
        sources: Sources {
            file: Some(path),
            environment: pairs(environment),
            flags: flags
                .iter()
                .map(|(path, text)| (*path, (*text).into()))
                .collect(),
        },
    }
}

fn pairs(environment: &[(&str, &str)]) -> Vec<(String, String)> {
    environment
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn of(yaml: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Loaded {
    let scene = scene(yaml, environment, flags);
    load(&scene.sources).unwrap_or_else(|error| panic!("{error}"))
}

fn wrong(yaml: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Vec<Problem> {
    let scene = scene(yaml, environment, flags);
    load(&scene.sources).unwrap_err().problems
}

fn row(loaded: &Loaded, key: &str) -> check::Row {
    let found = loaded.report.rows.iter().find(|row| row.key == key);
    found.unwrap().clone()
}

#[test]
fn nothing_given_is_the_contracts_defaults() {
    let loaded = load(&Sources::default()).unwrap();
    let settings = loaded.settings;
    assert_eq!(settings.bind.to_string(), "[::]:8000");
    assert!(settings.bind.is_both_families());
    assert_eq!(settings.shoutcast.port, Some(8001));
    assert_eq!(settings.shoutcast.mount.path(), "/stream");
    assert_eq!(settings.limits.max_listeners, None);
    assert_eq!(settings.limits.weight, 100);
    assert_eq!(settings.strategy, Strategy::LeastConn);
    assert_eq!(settings.audio.hold, Duration::from_secs(45));
    assert_eq!(settings.audio.ring, Duration::from_secs(60));
    assert_eq!(settings.audio.ring_max, Size(32 << 20));
    assert_eq!(settings.audio.burst_bytes, Size(65_536));
    assert_eq!(settings.fanout.max_delay, Duration::from_secs(1));
    assert_eq!(settings.pull.mounts, ["*"]);
    assert_eq!(settings.forget, Duration::from_secs(600));
    assert_eq!(settings.primary, None);
    assert_eq!(settings.given, types::Given::default());
    assert_eq!(settings.access_log.target, AccessTarget::Output);
    assert!(settings.public.urls(8000).is_empty());
    assert!(loaded.report.rows.iter().all(|row| row.origin == "default"));
}

#[test]
fn every_key_is_read_and_nothing_else() {
    let merged = Merged::default();
    let mut reader = reader::Reader::new(&merged);
    resolve::settings(&mut reader).unwrap();
    assert_eq!(reader.problems, []);
    let parts = keys::PARTS.iter().map(|(part, _)| *part);
    let known: BTreeSet<&str> = table::KEYS
        .iter()
        .map(|key| key.path)
        .chain(parts)
        .collect();
    assert_eq!(reader.asked, known);
}

#[test]
fn each_place_overrules_those_below_it() {
    let yaml = "weight: 10\n";
    let variable = [("RELAYCTL_WEIGHT", "20")];
    assert_eq!(of("", &[], &[]).settings.limits.weight, 100);
    assert_eq!(of(yaml, &[], &[]).settings.limits.weight, 10);
    assert_eq!(of(yaml, &variable, &[]).settings.limits.weight, 20);
    let loaded = of(yaml, &variable, &[("weight", "30")]);
    assert_eq!(loaded.settings.limits.weight, 30);
    let row = row(&loaded, "weight");
    assert_eq!(
        (row.value.as_str(), row.origin.as_str()),
        ("30", "--weight")
    );
    assert_eq!(row.overruled.len(), 2);
    assert!(row.overruled[0].ends_with("relayctl.yaml:1"), "{row:?}");
    assert_eq!(row.overruled[1], "$RELAYCTL_WEIGHT");
}

#[test]
fn old_names_line_by_line() {
    let loaded = of("", &[("portbase", "9000")], &[]);
    assert_eq!(loaded.settings.bind.to_string(), "[::]:9000");
    assert_eq!(loaded.settings.shoutcast.port, Some(9001));
    assert_eq!(row(&loaded, "bind").origin, "$portbase");

    let loaded = of("", &[("destip", "127.0.0.9")], &[]);
    assert_eq!(loaded.settings.bind.to_string(), "127.0.0.9:8000");
    assert_eq!(
        of("", &[("destip", "any")], &[]).settings.bind.to_string(),
        "[::]:8000"
    );

    let loaded = of(
        "",
        &[("publicip", "radio.example"), ("portbase", "9000")],
        &[],
    );
    let urls = loaded.settings.public.urls(9000);
    assert_eq!(urls[0].as_str(), "http://radio.example:9000/");
    assert_eq!(
        row(&loaded, "public_url").value,
        "http://radio.example:9000/"
    );

    for (server, port, url, assumed) in [
        ("head.example", None, "http://head.example/", true),
        (
            "head.example",
            Some("8000"),
            "http://head.example:8000/",
            false,
        ),
        (
            "head.example:8100",
            Some("80"),
            "http://head.example:8100/",
            false,
        ),
        ("head.example/shoutcast", None, "http://head.example/", true),
        (
            "http://head.example:8000/x",
            None,
            "http://head.example:8000/",
            false,
        ),
        (
            "https://head.example",
            Some("8443"),
            "https://head.example:8443/",
            false,
        ),
        ("::1", Some("8000"), "http://[::1]:8000/", false),
    ] {
        let mut environment = vec![("RelayServer", server)];
        environment.extend(port.map(|port| ("RelayPort", port)));
        let primary = of("", &environment, &[]).settings.primary.unwrap();
        assert_eq!(
            (primary.url.as_str(), primary.assumed_port),
            (url, assumed),
            "{server} {port:?}"
        );
        assert_eq!(primary.said_by, "$RelayServer");
    }

    let platform = [
        ("OPENSHIFT_SCS_PORT", "8080"),
        ("OPENSHIFT_SCS_IP", "127.1.2.3"),
        ("OPENSHIFT_APP_DNS", "app.example"),
    ];
    let settings = of("", &platform, &[]).settings;
    assert_eq!(settings.bind.to_string(), "127.1.2.3:8080");
    assert_eq!(
        settings.public.urls(8080)[0].as_str(),
        "http://app.example:8080/"
    );
    let mut both = platform.to_vec();
    both.extend([
        ("portbase", "9000"),
        ("destip", "127.0.0.1"),
        ("publicip", "b.example"),
    ]);
    let loaded = of("", &both, &[]);
    assert_eq!(loaded.settings.bind.to_string(), "127.0.0.1:9000");
    assert_eq!(loaded.settings.public.host.as_deref(), Some("b.example"));
    let overruled = row(&loaded, "bind").overruled;
    assert!(
        overruled.contains(&"$OPENSHIFT_SCS_PORT".into()),
        "{overruled:?}"
    );

    let settings = of(
        "",
        &[("password", "s"), ("adminpassword", "a"), ("maxuser", "7")],
        &[],
    )
    .settings;
    assert!(settings.given.source.unwrap().matches("s"));
    assert!(settings.given.admin.unwrap().matches("a"));
    assert_eq!(settings.limits.max_listeners, Some(7));
}

#[test]
fn ours_overrule_old_names_and_old_names_overrule_the_file() {
    let loaded = of(
        "bind: 127.0.0.1:7000\n",
        &[("portbase", "9000"), ("destip", "127.0.0.2")],
        &[],
    );
    assert_eq!(loaded.settings.bind.to_string(), "127.0.0.2:9000");
    let loaded = of("bind: 127.0.0.1:7000\n", &[("portbase", "9000")], &[]);
    assert_eq!(loaded.settings.bind.to_string(), "127.0.0.1:9000");
    let loaded = of("", &[("portbase", "9000"), ("RELAYCTL_BIND", ":7100")], &[]);
    assert_eq!(loaded.settings.bind.port, 7100);
    assert_eq!(row(&loaded, "bind").overruled, ["$portbase"]);
    let loaded = of(
        "",
        &[("password", "old"), ("RELAYCTL_SOURCE_PASSWORD", "new")],
        &[],
    );
    assert!(loaded.settings.given.source.unwrap().matches("new"));
    let loaded = of("portbase: 9100\npassword: hackme\n", &[], &[]);
    assert_eq!(loaded.settings.bind.port, 9100);
    let environment = [
        ("RelayServer", "old.example"),
        ("RELAYCTL_PRIMARY", "http://new.example:8000"),
    ];
    let primary = of("", &environment, &[]).settings.primary.unwrap();
    assert_eq!(primary.url.host_str(), Some("new.example"));
}

#[test]
fn a_pod_with_services_of_our_name_starts() {
    let mut environment = environment::tests::service("relayctl", "10.0.0.1");
    environment.extend(environment::tests::service("relayctl-primary", "10.0.0.2"));
    environment.push((
        "RELAYCTL_PRIMARY".into(),
        "http://relayctl-primary:8000".into(),
    ));
    let sources = Sources {
        environment,
        ..Sources::default()
    };
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.settings.primary.unwrap().url.port(), Some(8000));
    assert_eq!(loaded.settings.bind.port, 8000);
    assert_eq!(loaded.report.ignored.len(), 26);
    assert!(
        loaded
            .report
            .to_string()
            .contains("RELAYCTL_PRIMARY_PORT_8000_TCP_ADDR")
    );
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    let problems = wrong(
        "fanout:\n  max_dely: 1s\nbnd: 1\n",
        &[("RELAYCTL_WEIGT", "1")],
        &[],
    );
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].contains("`fanout.max_dely`") && lines[0].contains("relayctl.yaml:2"),
        "{lines:?}"
    );
    assert!(lines[0].contains("did you mean `fanout.max_delay`?"));
    assert!(
        lines[1].contains("relayctl.yaml:3") && lines[1].contains("`bind`"),
        "{lines:?}"
    );
    assert!(
        lines[2].contains("`RELAYCTL_WEIGT` in the environment"),
        "{lines:?}"
    );
    assert!(lines[2].contains("did you mean `RELAYCTL_WEIGHT`?"));
}

#[test]
fn what_is_not_built_is_refused_with_that_reason() {
    for (yaml, environment, word) in [
        ("", ("RELAYCTL_ADMIN_BIND", ":1"), "admin"),
        ("", ("STATIC_BACKEND", "a b:80"), "pools"),
    ] {
        let problems = wrong(yaml, &[environment], &[]);
        assert_eq!(problems.len(), 1, "{yaml} {environment:?} {problems:?}");
        assert!(
            problems[0].what.contains("not built yet"),
            "{}",
            problems[0]
        );
        assert!(problems[0].what.contains(word), "{}", problems[0]);
    }
}

#[test]
fn foreign_upstreams_need_our_own_engine() {
    let problems = wrong("engine: icecast\nrelay:\n  - http://a/b\n", &[], &[]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].to_string().contains("`relay`"),
        "{}",
        problems[0]
    );
}

#[test]
fn an_external_server_shows_no_password() {
    let problems = wrong("external: http://admin:pw@host:8000\n", &[], &[]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(!problems[0].to_string().contains(":pw@"), "{}", problems[0]);
}

#[test]
fn a_certificate_needs_its_key() {
    let problems = wrong("tls:\n  cert: a.pem\n", &[], &[]);
    assert_eq!(problems.len(), 1);
    let text = problems[0].to_string();
    assert!(
        text.contains("`tls.cert`") && text.contains("stands without `tls.key`"),
        "{text}"
    );
    let problems = wrong("", &[("RELAYCTL_TLS__KEY", "k.pem")], &[]);
    let text = problems[0].to_string();
    assert!(
        text.contains("RELAYCTL_TLS__KEY") && text.contains("without `tls.cert`"),
        "{text}"
    );
    let loaded = of("tls:\n  cert: a.pem\n  key: k.pem\n", &[], &[]);
    let tls = loaded.settings.tls.unwrap();
    assert_eq!(
        (tls.cert.to_str(), tls.key.to_str()),
        (Some("a.pem"), Some("k.pem"))
    );
    // Both are watched.
    assert!(loaded.report.files.ends_with(&[tls.cert, tls.key]));
}

#[test]
fn secrets_from_files_flags_and_input() {
    let scene = scene("", &[], &[]);
    let file = scene.directory.path().join("secret");
    fs::write(&file, "hunter2\n").unwrap();
    let path = file.to_str().unwrap();
    let loaded = of(
        "",
        &[("RELAYCTL_TOKEN_FILE", path), ("adminpassword_FILE", path)],
        &[],
    );
    assert!(
        loaded
            .settings
            .given
            .token
            .as_ref()
            .unwrap()
            .matches("hunter2")
    );
    assert!(loaded.settings.given.join_token.unwrap().matches("hunter2"));
    assert!(loaded.settings.given.admin.unwrap().matches("hunter2"));
    assert!(loaded.report.files.contains(&file));
    let yaml = format!("source_password_file: {path}\n");
    assert!(
        of(&yaml, &[], &[])
            .settings
            .given
            .source
            .unwrap()
            .matches("hunter2")
    );
    let at = format!("@{path}");
    let loaded = of("", &[], &[("token", &at)]);
    assert!(loaded.settings.given.token.unwrap().matches("hunter2"));

    let mut sources = scene.sources.clone();
    sources.flags = vec![("token", "-".into())];
    let sources = sources.with_input(&mut "from-input\n".as_bytes()).unwrap();
    for _ in 0..2 {
        let loaded = load(&sources).unwrap();
        assert!(loaded.settings.given.token.unwrap().matches("from-input"));
    }
    let both = [("RELAYCTL_TOKEN_FILE", path), ("RELAYCTL_TOKEN", "x")];
    assert!(wrong("", &both, &[])[0].hint.contains("leave one out"));
    let gone = wrong("", &[("RELAYCTL_TOKEN_FILE", "/nowhere/token")], &[]);
    assert!(gone[0].what.contains("/nowhere/token"), "{}", gone[0]);
}

#[test]
fn check_never_shows_a_secret() {
    let yaml = "admin_password: hunter2-a\n\
        mounts: [{path: /a.mp3, password: hunter2-b}]\n\
        relay:\n  - {url: 'http://x.example/s.mp3', username: u, password: hunter2-c}\n";
    let environment = [
        ("RELAYCTL_SOURCE_PASSWORD", "hunter2-d"),
        ("password", "hunter2-e"),
        ("RELAYCTL_JOIN_TOKEN", "hunter2-f"),
        ("RELAYCTL_RELAY_PASSWORD", "hunter2-g"),
    ];
    let loaded = of(yaml, &environment, &[("token", "hunter2-h")]);
    for text in [
        loaded.report.to_string(),
        serde_json::to_string(&loaded.report).unwrap(),
        format!("{loaded:?}"),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("***"));
    }
    // Nor does a complaint.
    for yaml in [
        "admin_password: [hunter2]\n",
        "admin_password: \"hunter2\\nx\"\n",
        "mounts: [{path: /a, password: [hunter2]}]\n",
        "admin_password: \"hunter2\n",
        "primary: http://u:hunter2@x.example\n",
        "relay: [{url: 'http://u:hunter2@x.example/a'}]\n",
    ] {
        let problems = wrong(yaml, &[], &[]);
        assert!(!problems.is_empty());
        for problem in problems {
            assert!(!problem.to_string().contains("hunter2"), "{problem}");
        }
    }
}

#[test]
fn ring_is_a_value_and_a_branch() {
    for yaml in [
        "ring: 90s\nring.max_bytes: 1MiB\n",
        "ring: {seconds: 90s, max_bytes: 1MiB}\n",
        "ring:\n  seconds: 90\n  max_bytes: 1048576\n",
        "ring.seconds: 90\nring: {max_bytes: 1MiB}\n",
    ] {
        let audio = of(yaml, &[], &[]).settings.audio;
        assert_eq!(
            (audio.ring, audio.ring_max),
            (Duration::from_secs(90), Size(1 << 20)),
            "{yaml}"
        );
    }
    let environment = [
        ("RELAYCTL_RING", "90s"),
        ("RELAYCTL_RING__MAX_BYTES", "1MiB"),
    ];
    assert_eq!(
        of("", &environment, &[]).settings.audio.ring_max,
        Size(1 << 20)
    );
    let twice = wrong("ring: 90s\nring.seconds: 80s\n", &[], &[]);
    assert!(twice[0].what.contains("twice"));
}

#[test]
fn mounts_in_each_form() {
    let ids = |loaded: &Loaded| {
        let mounts = loaded.settings.mounts.iter();
        mounts.map(|mount| mount.id.to_string()).collect::<Vec<_>>()
    };
    let yaml =
        "mounts:\n  - /live.mp3\n  - {path: '/talk.ogg', max_listeners: 5, fallback: /live.mp3}\n";
    let loaded = of(yaml, &[], &[]);
    assert_eq!(ids(&loaded), ["/live.mp3", "/talk.ogg"]);
    assert_eq!(loaded.settings.mounts[1].max_listeners, Some(5));
    for text in [
        "/live.mp3,/talk.ogg",
        "[/live.mp3, /talk.ogg]",
        r#"[{"path": "/live.mp3"}, "/talk.ogg"]"#,
        "- /live.mp3\n- path: /talk.ogg\n",
    ] {
        assert_eq!(
            ids(&of("", &[("RELAYCTL_MOUNTS", text)], &[])),
            ["/live.mp3", "/talk.ogg"],
            "{text}"
        );
    }
    for (yaml, word) in [
        ("mounts: [/a, /a]\n", "twice"),
        ("mounts: [/admin/x]\n", "answers itself"),
        (
            "mounts: [{path: /a, max_listener: 1}]\n",
            "did you mean `max_listeners`?",
        ),
        ("mounts: [{max_listeners: 1}]\n", "is missing"),
        ("mounts: [a]\n", "begins with `/`"),
        ("mounts: [{path: /a, fallback: /a}]\n", "itself"),
        (
            "mounts: [{path: /a, fallback: /b}, /x, {path: /b, fallback: /a}]\n",
            "`mounts[0].fallback` and `mounts[2].fallback`: /a → /b → /a",
        ),
        (
            "mounts: [{path: /x, fallback: /a}, {path: /a, fallback: /b}, {path: /b, fallback: /c}, {path: /c, fallback: /a}]\n",
            "/a → /b → /c → /a",
        ),
        (
            "mounts: [{path: /a, password: x, password_file: /y}]\n",
            "leave one out",
        ),
        ("mounts: 5\n", "begins with `/`"),
    ] {
        let problems = wrong(yaml, &[], &[]);
        assert!(
            problems[0].to_string().contains(word),
            "{yaml}: {}",
            problems[0]
        );
        assert!(problems[0].key.starts_with("mounts"), "{}", problems[0]);
    }
}

#[test]
fn foreign_upstreams() {
    let yaml = "relay:\n  - url: http://a.example:8000/s.mp3\n    backup: ['http://b.example/s.mp3']\n    \
        password: p\n  - {url: 'http://c.example/', mount: /c.ogg, on_demand: true, metadata: false}\n";
    let relays = of(yaml, &[], &[]).settings.relays;
    assert_eq!(relays[0].urls.len(), 2);
    assert_eq!(relays[0].mount.path(), "/s.mp3");
    assert_eq!(relays[0].login.as_ref().unwrap().0, "relay");
    assert!(relays[0].metadata && !relays[0].on_demand);
    assert_eq!(relays[1].mount.path(), "/c.ogg");
    assert!(!relays[1].metadata && relays[1].on_demand);
    let none = wrong("relay: [{url: 'http://c.example/'}]\n", &[], &[]);
    assert!(none[0].what.contains("give a `mount`"), "{}", none[0]);
    let twice = wrong("relay: ['http://a/x', 'http://b/x']\n", &[], &[]);
    assert!(twice[0].what.contains("pulled twice"), "{}", twice[0]);
}

#[test]
fn rules_between_keys_name_their_key() {
    for (yaml, key) in [
        ("ring: 30s\n", "ring"),
        ("burst.seconds: 1s\n", "burst.seconds"),
        ("ring.max_bytes: 64KiB\n", "ring.max_bytes"),
        ("fanout: {min_delay: 2s}\n", "fanout.min_delay"),
        ("public_url: [http://a, http://b]\n", "public_url"),
        ("public_url: http://a/b\n", "public_url"),
        (
            "bind: 127.0.0.1:8000\nshoutcast.port: 8000\n",
            "shoutcast.port",
        ),
        ("icecast.client_timeout: 500ms\n", "icecast.client_timeout"),
        ("trusted_proxies: [10.0.0.0/33]\n", "trusted_proxies"),
        ("weight: 0\n", "weight"),
        ("strategy: least-con\n", "strategy"),
        ("max_bandwidth: fast\n", "max_bandwidth"),
        ("pull.mounts: ['[']\n", "pull.mounts"),
        ("name: a b\n", "name"),
        ("listener.stall: 0\n", "listener.stall"),
    ] {
        let problems = wrong(yaml, &[], &[]);
        assert_eq!(problems.len(), 1, "{yaml} {problems:?}");
        assert_eq!(problems[0].key, key);
        assert!(
            problems[0].origin.to_string().contains("relayctl.yaml:"),
            "{}",
            problems[0]
        );
    }
    let all = wrong(
        "weight: 0\nhold: soon\nmode: odd\n",
        &[("RELAYCTL_X", "1")],
        &[],
    );
    assert_eq!(all.len(), 4, "{all:?}");
}

#[test]
fn a_bad_file_is_named_with_its_line() {
    let problems = wrong("bind: :8000\nhold: [\n", &[], &[]);
    assert!(
        problems[0].to_string().contains("is no YAML"),
        "{}",
        problems[0]
    );
    let problems = wrong("- a\n- b\n", &[], &[]);
    assert!(problems[0].what.contains("no mapping"), "{}", problems[0]);
    let sources = Sources {
        file: Some("/nowhere/relayctl.yaml".into()),
        ..Sources::default()
    };
    let problems = load(&sources).unwrap_err().problems;
    assert!(
        problems[0].to_string().contains("/nowhere/relayctl.yaml"),
        "{}",
        problems[0]
    );
    for empty in ["", "# nothing\n", "fanout:\n"] {
        assert_eq!(of(empty, &[], &[]).settings.limits.weight, 100);
    }
}

#[test]
fn a_reload_of_a_bad_file_names_the_key_and_changes_nothing() {
    let scene = scene("hold: 30s\n", &[("RELAYCTL_WEIGHT", "20")], &[]);
    let running = load(&scene.sources).unwrap().settings;
    let file = scene.sources.file.clone().unwrap();
    fs::write(&file, "hold: 30s\nring: tomorrow\n").unwrap();
    let error = load(&scene.sources).unwrap_err();
    assert_eq!(error.problems.len(), 1);
    assert_eq!(error.problems[0].key, "ring");
    assert!(error.to_string().contains("relayctl.yaml:2"), "{error}");
    fs::write(&file, "hold: 30s\n").unwrap();
    assert_eq!(load(&scene.sources).unwrap().settings, running);
    fs::write(&file, "hold: 31s\n").unwrap();
    assert_ne!(load(&scene.sources).unwrap().settings, running);
}

#[test]
fn odds_and_ends() {
    let settings = of(
        "max_bandwidth: 900Mbit\ntrusted_proxies: [10.0.0.0/8, '::1']\naccess_log.path: off\ntakeover: yes\n",
        &[("RELAYCTL_WEIGHT", "")],
        &[("bind", "127.0.0.1:0"), ("public_url", "https://a.example")],
    )
    .settings;
    assert_eq!(settings.limits.max_bandwidth, Some(Rate(900_000_000)));
    assert_eq!(settings.trusted_proxies.len(), 2);
    assert_eq!(settings.access_log.target, AccessTarget::Off);
    assert!(settings.audio.takeover);
    assert_eq!(settings.shoutcast.port, None);
    assert_eq!(settings.public.urls(1)[0].as_str(), "https://a.example/");
    let primary = of("primary: head.example\n", &[], &[])
        .settings
        .primary
        .unwrap();
    assert_eq!(primary.url.as_str(), "http://head.example:8000/");
    assert!(
        wrong("", &[("RELAYCTL_WEIGT", "")], &[])[0]
            .hint
            .contains("WEIGHT")
    );
}

#[test]
fn the_page_is_made_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let page = markdown();
    for key in table::KEYS {
        assert!(
            page.contains(&format!("| `{}` |", key.path)),
            "{}",
            key.path
        );
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/settings.md differs: run UPDATE_DOCS=1 cargo test --lib settings::"
    );
}

#[test]
fn the_example_is_read_as_it_stands() {
    let loaded = of(include_str!("../../deploy/settings.example.yaml"), &[], &[]);
    assert_eq!(loaded.settings.mounts.len(), 2);
    assert_eq!(loaded.settings.relays.len(), 1);
    assert_eq!(loaded.settings.limits.max_listeners, Some(10_000));
}

#[test]
fn fallbacks_of_one_mount_and_of_all() {
    let yaml = "fallback: /jingle.mp3\n\
                mounts:\n  - {path: /a, fallback: /b, fallback_override: false}\n  - {path: /b, fallback: /c}\n";
    let settings = of(yaml, &[], &[]).settings;
    let id = |path: &str| Some(path.parse::<MountId>().unwrap());
    assert_eq!(settings.fallback, id("/jingle.mp3"));
    let own: Vec<_> = settings
        .mounts
        .iter()
        .map(|mount| (mount.fallback.clone(), mount.fallback_override))
        .collect();
    assert_eq!(own, [(id("/b"), false), (id("/c"), true)]);
    let one = of("", &[("RELAYCTL_FALLBACK", "/b.mp3")], &[]).settings;
    assert_eq!(one.fallback, id("/b.mp3"));
    assert_eq!(of("", &[], &[]).settings.fallback, None);
    // A circle is told once, whoever leads into it.
    let yaml =
        "mounts: [{path: /x, fallback: /a}, {path: /a, fallback: /b}, {path: /b, fallback: /a}]\n";
    assert_eq!(wrong(yaml, &[], &[]).len(), 1);
}
