//! Commands that need no node: what they print, and their exit codes.

use std::fs;

use tempfile::tempdir;

use crate::harness::run;

#[test]
fn help_lists_what_works_and_the_rest_is_refused_with_its_reason() {
    let home = tempdir().unwrap();
    let help = run(home.path(), &[], &["--help"]);
    assert_eq!(help.code, 0, "{help:?}");
    let not_yet = ["top", "promote", "probe", "config"];
    for word in not_yet {
        assert!(
            !help.out.contains(&format!("\n  {word} ")),
            "{word}: {}",
            help.out
        );
        let refused = run(home.path(), &[], &[word, "x"]);
        assert_eq!(refused.code, 2, "{refused:?}");
        let text = format!("relayctl: `{word}` is not built yet: ");
        assert!(refused.err.starts_with(&text), "{refused:?}");
    }
    // `check` ends whatever it finds.
    let setting = [("RELAYCTL_ADMIN_BIND", "127.0.0.1:8001")];
    let refused = run(home.path(), &setting, &["check"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let reason = "a port of its own for metrics, API and admin is not built yet";
    assert!(refused.err.contains(reason), "{refused:?}");
}

#[test]
fn unknown_words_name_the_nearest_known_one() {
    let home = tempdir().unwrap();
    let cases: [(&[&str], &str); 3] = [
        (&["primery"], "'primary'"),
        (&["primary", "--bnd=1"], "'--bind'"),
        (&["get", "node"], "'nodes'"),
    ];
    for (words, near) in cases {
        let ended = run(home.path(), &[], words);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(near), "{ended:?}");
    }
    let ended = run(home.path(), &[("RELAYCTL_BINT", "x")], &["check"]);
    assert_eq!(ended.code, 2);
    assert!(
        ended.err.contains("did you mean `RELAYCTL_BIND`?"),
        "{ended:?}"
    );
}

/// The value that a default takes, and who does not reach what is told to listeners.
#[test]
fn check_shows_defaults_and_urls_that_are_not_reached() {
    let home = tempdir().unwrap();
    let state = home.path().join("state").display().to_string();
    let shown = run(
        home.path(),
        &[("STATE_DIRECTORY", &state), ("RELAYCTL_DATA_DIR", "")],
        &["check"],
    );
    assert_eq!(shown.code, 0, "{shown:?}");
    let row = |key: &str| {
        let mut lines = shown.out.lines();
        let line = lines.find(|line| line.split_whitespace().next() == Some(key));
        line.unwrap_or_else(|| panic!("no {key}: {}", shown.out))
            .to_owned()
    };
    assert!(row("data_dir").contains(&state), "{}", row("data_dir"));
    assert!(row("source_password").contains("(generated once)"));
    assert!(!shown.out.contains("cannot reach"), "{}", shown.out);
    for (variable, value, note) in [
        (
            "RELAYCTL_PUBLIC_URL",
            "http://localhost:8000",
            "listeners elsewhere cannot reach `public_url`",
        ),
        (
            "RELAYCTL_PUBLIC_URL",
            "http://relay-1:8000",
            "is private: listeners on the Internet are not sent there",
        ),
        (
            "RELAYCTL_BIND",
            "127.0.0.1:8000",
            "`bind` is 127.0.0.1: listeners elsewhere cannot reach this node",
        ),
        (
            "RELAYCTL_MAX_BANDWIDTH",
            "100",
            "less than one listener of most streams takes",
        ),
    ] {
        let noted = run(home.path(), &[(variable, value)], &["check"]);
        assert!(noted.out.contains(note), "{value}: {noted:?}");
    }
}

const SECRETS: [(&str, &str); 5] = [
    ("RELAYCTL_SOURCE_PASSWORD", "so-secret"),
    ("RELAYCTL_ADMIN_PASSWORD", "ad-secret"),
    ("RELAYCTL_RELAY_PASSWORD", "re-secret"),
    ("RELAYCTL_TOKEN", "to-secret"),
    (
        "RELAYCTL_MOUNTS",
        "[{path: /live.mp3, password: mo-secret}]",
    ),
];

#[test]
fn check_shows_every_value_and_never_a_secret() {
    let home = tempdir().unwrap();
    for words in [&["check"][..], &["check", "-o", "json"]] {
        let ended = run(home.path(), &SECRETS, words);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.out.contains("***"), "{}", ended.out);
        assert!(
            !ended.out.contains("-secret") && !ended.err.contains("-secret"),
            "{}",
            ended.out
        );
        assert!(
            ended.out.contains("RELAYCTL_SOURCE_PASSWORD"),
            "{}",
            ended.out
        );
    }
    let ended = run(home.path(), &[("RelayServer", "head.example")], &["check"]);
    assert!(
        ended.out.contains("`relayctl run` would be a relay: "),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("RelayServer"), "{}", ended.out);
    assert!(
        fs::read_dir(home.path()).unwrap().next().is_none(),
        "check changed something"
    );
}

/// A proxy that is not named opens or closes `/metrics`, so whoever relies on the default reads by what.
#[test]
fn check_says_by_what_metrics_are_open() {
    let home = tempdir().unwrap();
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&[], "`trusted_proxies` names none"),
        (
            &[("RELAYCTL_TRUSTED_PROXIES", "10.0.0.5/32")],
            "`trusted_proxies` names those that are",
        ),
        (&[("RELAYCTL_METRICS__OPEN", "never")], ""),
    ];
    for (settings, proxies) in cases {
        let ended = run(home.path(), settings, &["check"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let note = "note: `metrics.open` is `auto`: loopback and private networks read /metrics without a token";
        let is_said = ended.out.contains(note) && ended.out.contains(proxies);
        assert_eq!(is_said, !proxies.is_empty(), "{ended:?}");
    }
}

#[test]
fn check_says_all_that_is_wrong() {
    let home = tempdir().unwrap();
    let file = home.path().join("relayctl.yaml");
    fs::write(&file, "weight: 0\nholt: 3s\nmetaint: x\n").unwrap();
    let file = file.display().to_string();
    let ended = run(home.path(), &[], &["check", "--config", &file]);
    assert_eq!(ended.code, 2);
    for word in ["`weight`", "`holt`", "did you mean `hold`", "`metaint`"] {
        assert!(ended.err.contains(word), "{word}: {}", ended.err);
    }
    let ended = run(
        home.path(),
        &[],
        &["check", "-o", "json", "--config", &file],
    );
    let answer: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(answer["problems"].as_array().unwrap().len(), 3, "{answer}");
}

#[test]
fn render_prints_writes_and_compares() {
    let home = tempdir().unwrap();
    let render = |variables: &[(&str, &str)], words: &[&str]| {
        let words = [&["render"], words].concat();
        run(home.path(), variables, &words)
    };
    let given = [
        ("RELAYCTL_SOURCE_PASSWORD", r#"p&a<s>s"w'd"#),
        ("RELAYCTL_ADMIN_PASSWORD", "adm1n"),
        ("RELAYCTL_MOUNTS", "/live.mp3"),
    ];
    let printed = render(&given, &["icecast"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(
        printed
            .out
            .contains("<source-password>p&amp;a&lt;s&gt;s&quot;w&#39;d</source-password>")
    );
    let file = home.path().join("icecast.xml").display().to_string();
    let written = render(&given, &["icecast", "--out", &file]);
    assert_eq!((written.code, written.out.as_str()), (0, ""), "{written:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), printed.out);
    let equal = render(&given, &["icecast", "--diff", &file]);
    assert_eq!((equal.code, equal.out.as_str()), (0, ""), "{equal:?}");
    let mut more = given.to_vec();
    more.push(("RELAYCTL_MAX_LISTENERS", "77"));
    let differs = render(&more, &["icecast", "--diff", &file]);
    assert_eq!(differs.code, 5, "{differs:?}");
    assert!(
        differs.out.contains("\n-") && differs.out.contains("\n+"),
        "{}",
        differs.out
    );
    let newline = [
        ("RELAYCTL_SOURCE_PASSWORD", "a\nb"),
        ("RELAYCTL_ADMIN_PASSWORD", "x"),
    ];
    assert_ne!(render(&newline, &["icecast"]).code, 0);
}

#[test]
fn render_of_a_relay_and_without_passwords() {
    let home = tempdir().unwrap();
    let relay = [
        ("RELAYCTL_PRIMARY", "http://head.example:8000"),
        ("RELAYCTL_ADMIN_PASSWORD", "adm1n"),
        ("RELAYCTL_SOURCE_PASSWORD", "s0urce"),
    ];
    let none = run(home.path(), &relay, &["render", "icecast"]);
    assert_eq!(none.code, 1);
    assert!(
        none.err
            .contains("a relay without any mount has nothing to render"),
        "{none:?}"
    );
    let mut some = relay.to_vec();
    some.push(("RELAYCTL_MOUNTS", "/live.mp3,/talk.ogg"));
    let icecast = run(home.path(), &some, &["render", "icecast"]);
    assert!(
        icecast.out.contains("<server>head.example</server>"),
        "{icecast:?}"
    );
    assert_eq!(icecast.out.matches("<relay>").count(), 2);
    let shoutcast = run(home.path(), &some, &["render", "shoutcast"]);
    let url = "streamrelayurl_2=http://head.example:8000/talk.ogg";
    assert!(shoutcast.out.contains(url), "{shoutcast:?}");
    let turned = run(
        home.path(),
        &some,
        &["render", "icecast", "--role", "primary"],
    );
    assert!(!turned.out.contains("<relay>"), "{turned:?}");
    let haproxy = run(home.path(), &[], &["render", "haproxy"]);
    assert_eq!(haproxy.code, 0, "{haproxy:?}");
    let servers = [
        (
            "RELAYCTL_HAPROXY__SERVERS",
            "192.0.2.1:8000,relay.example:80",
        ),
        ("RELAYCTL_HAPROXY__SOURCE_SERVER", "192.0.2.9:8000"),
    ];
    let haproxy = run(home.path(), &servers, &["render", "haproxy"]);
    for address in ["192.0.2.1:8000", "relay.example:80", "192.0.2.9:8000"] {
        assert!(haproxy.out.contains(address), "{address}: {haproxy:?}");
    }
    let bad = run(
        home.path(),
        &[("RELAYCTL_HAPROXY__SERVERS", "no-port")],
        &["render", "haproxy"],
    );
    assert_eq!(bad.code, 2, "{bad:?}");
    let unknown = run(home.path(), &[], &["render", "icecast"]);
    assert_eq!(unknown.code, 1);
    let hint = "set `RELAYCTL_SOURCE_PASSWORD`; or start the node once";
    assert!(unknown.err.contains(hint), "{unknown:?}");
    assert!(
        !home.path().join("data").exists(),
        "render made the data directory"
    );
}

#[test]
fn client_commands_that_find_nobody_say_where_they_looked() {
    let home = tempdir().unwrap();
    for words in [
        &["status"][..],
        &["get", "nodes"],
        &["kick", "1"],
        &["token", "list"],
    ] {
        let ended = run(home.path(), &[], words);
        assert_eq!(ended.code, 3, "{ended:?}");
        assert!(
            ended.err.contains(&home.path().display().to_string()),
            "{ended:?}"
        );
    }
    let nobody = ["status", "--addr", "http://127.0.0.1:1"];
    assert_eq!(run(home.path(), &[], &nobody).code, 3);
    let health = run(
        home.path(),
        &[("RELAYCTL_ADDR", "127.0.0.1:1")],
        &["health"],
    );
    assert_eq!(health.code, 1);
    assert!(
        health.err.contains("http://127.0.0.1:1/health"),
        "{health:?}"
    );
}

#[test]
fn token_show_takes_what_was_given_and_makes_nothing() {
    let home = tempdir().unwrap();
    for (word, secret) in [
        ("source", "so-secret\n"),
        ("admin", "ad-secret\n"),
        ("join", "to-secret\n"),
    ] {
        let ended = run(home.path(), &SECRETS, &["token", "show", word]);
        assert_eq!((ended.code, ended.out.as_str()), (0, secret), "{ended:?}");
    }
    let none = run(home.path(), &[], &["token", "show", "join"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(
        none.err.contains("a node makes it at its first start"),
        "{none:?}"
    );
    assert!(!home.path().join("data").exists());
}

#[test]
fn completions_come_from_the_words() {
    let home = tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(home.path(), &[], &["completions", shell]);
        assert_eq!(ended.code, 0);
        assert!(ended.out.contains("max-bandwidth"), "{shell}");
    }
    let version = run(home.path(), &[], &["version"]);
    assert_eq!(
        version.out,
        format!("relayctl {}\n", env!("CARGO_PKG_VERSION"))
    );
}

/// The names of all commands that help shows, inner ones as `token-create`.
fn pages(command: &clap::Command, name: &str, found: &mut Vec<String>) {
    found.push(format!("{name}.1"));
    let shown = |inner: &&clap::Command| !inner.is_hide_set() && inner.get_name() != "help";
    for inner in command.get_subcommands().filter(shown) {
        pages(inner, &format!("{name}-{}", inner.get_name()), found);
    }
}

#[test]
fn each_command_has_a_manual_page_that_mandoc_takes() {
    let home = tempdir().unwrap();
    let page = run(home.path(), &[], &["man"]);
    assert!(page.out.contains(".TH relayctl 1"), "{page:?}");
    let folder = home.path().join("man/man1");
    let written = run(home.path(), &[], &["man", folder.to_str().unwrap()]);
    assert_eq!((written.code, written.out.as_str()), (0, ""), "{written:?}");
    let mut wanted = Vec::new();
    pages(&relayctl::cli::command(), "relayctl", &mut wanted);
    wanted.sort();
    let mut there: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(there, wanted);
    assert!(there.len() > 20, "{there:?}");
    for name in &there {
        let file = folder.join(name);
        let mandoc = |words: &[&str]| {
            let output = std::process::Command::new("mandoc")
                .args(words)
                .arg(&file)
                .output()
                .expect("mandoc is missing: install the Debian package `mandoc`");
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8(text).unwrap())
        };
        let (_, said) = mandoc(&["-T", "lint", "-W", "warning"]);
        // The pages have the version where others have a date, and clap's paragraphs a line too many.
        let usual = ["cannot parse date", "skipping paragraph macro: br "];
        let mut trouble = said
            .lines()
            .filter(|line| !usual.iter().any(|known| line.contains(known)));
        assert_eq!(trouble.next(), None, "{name}: {said}");
        // A heading is struck twice on paper: each letter, a step back, the letter again.
        let (_, text) = mandoc(&["-T", "ascii"]);
        for part in ["NAME", "SYNOPSIS", "DESCRIPTION"] {
            let struck: String = part.chars().map(|c| format!("{c}\u{8}{c}")).collect();
            assert!(text.contains(&struck), "{name}: {part}: {text}");
        }
    }
}
