//! Golden files (`UPDATE_GOLDEN=1` writes them anew) and what is refused.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::base::secret::Secret;

fn primary() -> Station {
    Station {
        bind: "192.0.2.10".parse().unwrap(),
        public_host: "radio.example.org".into(),
        public_urls: vec!["http://radio.example.org:8000".into()],
        shoutcast_mount: Some("/stream".into()),
        source_password: Secret::new(r#"a&b<c>d"e'f"#),
        admin_password: Secret::new("admin-secret"),
        relay_password: Secret::new("relay-secret"),
        location: "Lübeck & Hamburg".into(),
        admin_contact: "ops@example.org".into(),
        mounts: vec![
            RenderMount {
                content_type: Some("audio/mpeg".into()),
                max_listeners: Some(500),
                max_listener_duration: Some(Duration::from_secs(86_340)),
                fallback: Some("/fallback.mp3".into()),
                fallback_override: true,
                intro: Some("/intro.mp3".into()),
                burst: Some(262_144),
                name: Some("<Live> & loud".into()),
                description: Some("All day".into()),
                genre: Some("various".into()),
                url: Some("https://example.org/?a=1&b=2".into()),
                public: Some(true),
                password: Secret::new("only-live"),
                ..RenderMount::at("/live.mp3")
            },
            RenderMount {
                public: Some(false),
                hidden: true,
                ..RenderMount::at("/late night.ogg")
            },
        ],
        ..Station::default()
    }
}

fn relay() -> Station {
    Station {
        role: Role::Relay,
        upstream: Some(Upstream {
            scheme: Scheme::Http,
            host: "primary.example.org".into(),
            port: 8000,
            on_demand: false,
        }),
        run_as: Some(RunAs {
            user: "icecast2".into(),
            group: "icecast".into(),
        }),
        bind: "0.0.0.0".parse().unwrap(),
        source_password: Secret::new("source-secret"),
        ..primary()
    }
}

fn balanced() -> Station {
    let node = |name: &str, role, host: &str, max_listeners| RenderNode {
        name: name.into(),
        role,
        host: host.into(),
        port: 8000,
        max_listeners,
    };
    Station {
        nodes: vec![
            node("head", Role::Primary, "10.0.0.1", Some(200)),
            node("relay-1", Role::Relay, "relay-1.example.org", Some(1000)),
            node("relay-2", Role::Relay, "2001:db8::2", None),
        ],
        balancer: Balancer {
            stats_port: Some(8404),
            ..Balancer::default()
        },
        ..primary()
    }
}

fn render(kind: Kind, station: &Station) -> Result<String, RenderError> {
    Renderer::new(None).unwrap().render(kind, station)
}

fn refused(kind: Kind, station: &Station) -> String {
    render(kind, station).unwrap_err().to_string()
}

fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some(difference) = write::diff(&wanted, text, name, "rendered") {
        panic!("UPDATE_GOLDEN=1 takes it if it is meant:\n{difference}");
    }
}

#[test]
fn golden_files() {
    let old = "portbase=1\nstreampath_2=/live.mp3\nstreamauthhash_2=HASH OF LIVE\n";
    let shoutcast = Station {
        source_password: Secret::new(r#"a&b<c>d"e'f"#),
        ..primary()
    };
    golden(
        "icecast-primary.xml",
        &render(Kind::Icecast, &primary()).unwrap(),
    );
    golden(
        "icecast-relay.xml",
        &render(Kind::Icecast, &relay()).unwrap(),
    );
    golden(
        "shoutcast-primary.conf",
        &render(Kind::Shoutcast, &shoutcast).unwrap(),
    );
    golden(
        "shoutcast-relay.conf",
        &render(Kind::Shoutcast, &relay()).unwrap(),
    );
    golden("haproxy.cfg", &render(Kind::Haproxy, &balanced()).unwrap());
    golden(
        "haproxy-alone.cfg",
        &render(Kind::Haproxy, &Station::default()).unwrap(),
    );
    let kept = Renderer::new(None)
        .unwrap()
        .render_replacing(Kind::Shoutcast, &primary(), Some(old))
        .unwrap();
    golden("shoutcast-replacing.conf", &kept);
}

#[test]
fn rendering_again_gives_the_same_bytes_and_keeps_its_own_numbers() {
    let renderer = Renderer::new(None).unwrap();
    for kind in Kind::ALL {
        let station = relay();
        let once = renderer.render(kind, &station).unwrap();
        let twice = renderer
            .render_replacing(kind, &station, Some(&once))
            .unwrap();
        assert_eq!(once, twice, "{kind}");
    }
}

#[test]
fn every_text_of_the_icecast_file_comes_back_out_of_the_xml() {
    let text = render(Kind::Icecast, &primary()).unwrap();
    let found = elements(&text);
    let has = |name: &str, value: &str| found.contains(&(name.to_owned(), value.to_owned()));
    assert!(has("source-password", r#"a&b<c>d"e'f"#), "{found:?}");
    assert!(has("stream-name", "<Live> & loud"));
    assert!(has("stream-url", "https://example.org/?a=1&b=2"));
    assert!(has("mount-name", "/late night.ogg"));
    assert!(has("location", "Lübeck & Hamburg"));
}

/// Leaf elements and their texts, in order.
fn elements(xml: &str) -> Vec<(String, String)> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(xml);
    let (mut found, mut name, mut text) = (Vec::new(), String::new(), String::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) => {
                name = tag.name().as_ref().to_owned();
                text.clear();
            }
            Event::Text(part) => text.push_str(&part),
            Event::GeneralRef(part) => {
                let entity = &*part;
                let whole = format!("&{entity};");
                text.push_str(&quick_xml::escape::unescape(&whole).unwrap());
            }
            Event::End(_) => found.push((name.clone(), text.clone())),
            Event::Eof => return found,
            _ => {}
        }
    }
}

#[test]
fn a_relay_pulls_every_mount_and_lets_no_source_of_its_own_near_it() {
    let text = render(Kind::Icecast, &relay()).unwrap();
    assert_eq!(text.matches("<relay>").count(), 2);
    assert_eq!(text.matches("<username>relay</username>").count(), 2);
    assert!(text.contains("<mount>/late%20night.ogg</mount>"));
    assert!(text.contains("<local-mount>/late night.ogg</local-mount>"));
    assert!(text.contains("<master-update-interval>5</master-update-interval>"));
    assert!(!text.contains("only-live") && !text.contains("<shoutcast-mount>"));
    assert!(!text.contains("<source-password>"));
    let text = render(Kind::Shoutcast, &relay()).unwrap();
    assert!(text.contains("\nstreamrelayurl_1=http://primary.example.org:8000/live.mp3\n"));
    assert!(text.contains("\nstreamrelayurl_2=http://primary.example.org:8000/late%20night.ogg\n"));
    assert!(!text.contains("only-live"));
}

#[test]
fn a_relay_without_mounts_says_so() {
    let bare = Station {
        mounts: Vec::new(),
        ..relay()
    };
    for kind in [Kind::Icecast, Kind::Shoutcast] {
        assert_eq!(render(kind, &bare), Err(RenderError::NoMounts));
    }
    assert!(RenderError::NoMounts.to_string().contains("set `mounts`"));
    assert!(render(Kind::Haproxy, &bare).is_ok());
    let lost = Station {
        upstream: None,
        ..relay()
    };
    assert!(refused(Kind::Icecast, &lost).starts_with("`upstream` is not set"));
}

#[test]
fn a_line_end_is_refused_with_the_key_named() {
    for (bad, what) in [
        ('\n', "a newline"),
        ('\r', "a carriage return"),
        ('\0', "a NUL"),
    ] {
        let mut station = primary();
        station.source_password = Secret::new(format!("a{bad}b"));
        let mut other = primary();
        other.mounts[1].name = Some(format!("a{bad}b"));
        let mut third = primary();
        third.mounts[0].password = Secret::new(format!("{bad}"));
        for kind in Kind::ALL {
            let text = refused(kind, &station);
            assert!(
                text.starts_with(&format!("`source_password` has {what}")),
                "{text}"
            );
            let text = refused(kind, &other);
            assert!(
                text.starts_with(&format!("`mounts[1].name` has {what}")),
                "{text}"
            );
            let text = refused(kind, &third);
            assert!(
                text.starts_with(&format!("`mounts[0].password` has {what}")),
                "{text}"
            );
        }
    }
}

#[test]
fn shoutcast_passwords() {
    let with = |source: &str, admin: &str| Station {
        source_password: Secret::new(source),
        admin_password: Secret::new(admin),
        ..primary()
    };
    let text = refused(Kind::Shoutcast, &with("same", "same"));
    assert!(
        text.starts_with("`admin_password` (`adminpassword`) is equal to `source_password`"),
        "{text}"
    );
    let text = refused(Kind::Shoutcast, &with("only-live2", "only-live"));
    assert!(text.contains("is equal to `mounts[0].password`"), "{text}");
    let text = refused(Kind::Shoutcast, &with("a:b", "x"));
    assert!(
        text.starts_with("`source_password` (`password`) has a `:`"),
        "{text}"
    );
    let text = refused(Kind::Shoutcast, &with("a", "x:"));
    assert!(
        text.starts_with("`admin_password` (`adminpassword`) has a `:`"),
        "{text}"
    );
    let text = refused(Kind::Shoutcast, &with("", "x"));
    assert!(text.contains("RELAYCTL_SOURCE_PASSWORD"), "{text}");
    let text = refused(Kind::Shoutcast, &with("a ", "x"));
    assert!(
        text.starts_with("`password` begins or ends with a blank"),
        "{text}"
    );
    // None of it is Icecast's or HAProxy's business.
    assert!(render(Kind::Icecast, &with("same:", "same:")).is_ok());
    assert!(render(Kind::Haproxy, &with("", "")).is_ok());
}

#[test]
fn limits_that_would_harm_are_refused() {
    let mut station = primary();
    station.mounts[0].burst = Some(1 << 20);
    assert!(refused(Kind::Icecast, &station).starts_with("`mounts[0].burst` is 1048576 bytes"));
    let mut station = relay();
    station.upstream.as_mut().unwrap().scheme = Scheme::Https;
    assert!(refused(Kind::Icecast, &station).starts_with("`upstream.scheme` is `https`"));
    let mut station = primary();
    station.port = 65_535;
    assert!(refused(Kind::Icecast, &station).starts_with("`port` is 65535"));
    let mut station = primary();
    station.mounts[1].path = "/live.mp3".into();
    assert!(refused(Kind::Icecast, &station).contains("is there already"));
    let mut station = balanced();
    station.balancer.stats_port = Some(8011);
    assert!(refused(Kind::Haproxy, &station).contains("takes port 8011"));
    let mut station = balanced();
    station.nodes[2].name = "relay 2".into();
    assert!(refused(Kind::Haproxy, &station).starts_with("`nodes[2].name`"));
    let mut station = balanced();
    station.nodes[2].host = "http://x/".into();
    assert!(refused(Kind::Haproxy, &station).starts_with("`nodes[2].host`"));
}

#[test]
fn a_template_may_be_replaced_and_its_mistakes_have_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("haproxy.cfg.tera");
    let renderer = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Renderer::new(Some(folder.path()))
    };
    let fine = renderer("# mine\n{% for s in servers %}{{ s.name }} {% endfor %}").unwrap();
    assert_eq!(
        fine.render(Kind::Haproxy, &balanced()).unwrap(),
        "# mine\nhead relay-1 relay-2 "
    );
    assert!(fine.render(Kind::Icecast, &primary()).is_ok());

    let unknown = renderer("a\nb {{ timeot }}").unwrap();
    assert_eq!(
        unknown
            .render(Kind::Haproxy, &balanced())
            .unwrap_err()
            .to_string(),
        "template `haproxy.cfg.tera`, line 2: variable `timeot` does not exist: did you mean `timeout`"
    );
    let condition =
        renderer("{% for s in servers %}\n{% if s.backpu %}x{% endif %}{% endfor %}").unwrap();
    let text = condition
        .render(Kind::Haproxy, &balanced())
        .unwrap_err()
        .to_string();
    assert!(text.contains("line 2: variable `s.backpu`"), "{text}");
    let text = renderer("a\n{% if %}").unwrap_err().to_string();
    assert!(
        text.starts_with("template `haproxy.cfg.tera`: ") && text.contains("2:"),
        "{text}"
    );

    std::fs::write(&file, "").unwrap();
    std::fs::write(folder.path().join("haproxy.tera"), "").unwrap();
    let text = Renderer::new(Some(folder.path())).unwrap_err().to_string();
    assert!(
        text.contains("`haproxy.tera` replaces no template"),
        "{text}"
    );
    assert!(Renderer::new(Some(&folder.path().join("none"))).is_err());
}

#[test]
fn a_replaced_template_escapes_like_the_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let put = |kind: Kind, text: &str| {
        std::fs::write(folder.path().join(kind.template()), text).unwrap();
    };
    put(Kind::Icecast, "{{ source_password }}");
    put(Kind::Shoutcast, "{{ password }}");
    let renderer = Renderer::new(Some(folder.path())).unwrap();
    assert_eq!(
        renderer.render(Kind::Icecast, &primary()).unwrap(),
        "a&amp;b&lt;c&gt;d&quot;e&#39;f"
    );
    assert_eq!(
        renderer.render(Kind::Shoutcast, &primary()).unwrap(),
        r#"a&b<c>d"e'f"#
    );
    assert_eq!(haproxy::escape(r#"a b#"'\"#), r#"a\ b\#\"\'\\"#);
}

#[test]
fn a_station_shows_no_secret() {
    let station = primary();
    let shown = format!("{station:?}{}", serde_json::to_string(&station).unwrap());
    assert!(!shown.contains("admin-secret") && !shown.contains("only-live"));
}

proptest::proptest! {
    #[test]
    fn any_text_without_control_characters_survives_the_xml(text in "[^\\p{C}]{1,40}") {
        let mut station = primary();
        station.source_password = Secret::new(text.clone());
        let rendered = render(Kind::Icecast, &station).unwrap();
        let found = elements(&rendered);
        let (_, value) = found.iter().find(|(name, _)| name == "source-password").unwrap();
        proptest::prop_assert_eq!(value, &text);
    }
}
