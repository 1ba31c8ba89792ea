//! Commands that ask a running node.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use tempfile::tempdir;

use crate::harness::{Running, run, until};

#[test]
fn health_finds_the_node_by_its_data_directory() {
    let (mut node, url) = Running::primary(tempdir().unwrap(), &[]);
    let home = node.home.path().to_owned();
    let health = run(&home, &[], &["health"]);
    assert_eq!(health.code, 0, "{health:?}");
    assert!(health.out.contains("\"role\":\"primary\""), "{health:?}");
    let health = run(&home, &[], &["health", &format!("{url}/readyz")]);
    assert_eq!(health.code, 0, "{health:?}");
    let missing = run(&home, &[], &["health", &format!("{url}/no-such-mount")]);
    assert_eq!(missing.code, 1, "{missing:?}");
    node.signal(Signal::TERM);
    assert_eq!(node.code(), 0);
    assert_eq!(run(&home, &[], &["health"]).code, 1);
}

#[test]
fn what_a_node_made_is_shown() {
    let (node, url) = Running::primary(tempdir().unwrap(), &[]);
    for (word, file) in [
        ("source", "source-password"),
        ("admin", "admin-password"),
        ("join", "join-token"),
    ] {
        let shown = run(node.home.path(), &[], &["token", "show", word]);
        let kept = fs::read_to_string(node.home.path().join("data").join(file)).unwrap();
        assert_eq!((shown.code, shown.out), (0, kept));
    }
    // A rendered file has the very passwords, and the port that the node took.
    let rendered = run(node.home.path(), &[], &["render", "icecast"]);
    let password = fs::read_to_string(node.home.path().join("data/source-password")).unwrap();
    let port = url.rsplit_once(':').unwrap().1;
    assert_eq!(rendered.code, 0, "{rendered:?}");
    for part in [password.trim(), &format!("<port>{port}</port>")] {
        assert!(rendered.out.contains(part), "{part}: {rendered:?}");
    }
}

#[test]
fn a_running_node_keeps_its_rendered_files_up_to_date() {
    let home = tempdir().unwrap();
    let file = home.path().join("relayctl.yaml");
    fs::write(&file, "mounts: [/live.mp3]\n").unwrap();
    let config = file.display().to_string();
    let (node, url) = Running::primary(home, &[("RELAYCTL_CONFIG", &config)]);
    let port = url.rsplit_once(':').unwrap().1;
    let rendered = node.home.path().join("data/rendered");
    let icecast = rendered.join("icecast.xml");
    let holds = |text: &str| {
        let content = fs::read_to_string(&icecast).unwrap_or_default();
        content.contains(text).then_some(())
    };
    until("the first files", || {
        holds("<mount-name>/live.mp3</mount-name>")
    });
    holds(&format!("<port>{port}</port>")).unwrap();
    for name in ["icecast.xml", "sc_serv.conf", "haproxy.cfg"] {
        let file = until(name, || fs::metadata(rendered.join(name)).ok());
        let mode = file.permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    fs::write(&file, "mounts: [/live.mp3, /talk.ogg]\n").unwrap();
    node.signal(Signal::HUP);
    until("the files of new settings", || {
        holds("<mount-name>/talk.ogg</mount-name>")
    });
}

#[test]
fn a_second_node_in_the_same_directory_is_refused() {
    let (node, _) = Running::primary(tempdir().unwrap(), &[]);
    let words = ["primary", "--bind=127.0.0.1:0"];
    let second = run(node.home.path(), &[], &words);
    assert_ne!(second.code, 0);
    assert!(
        second.err.contains("is in use by another node"),
        "{second:?}"
    );
}

#[test]
fn tokens_open_what_their_scope_says_and_nothing_once_revoked() {
    let (node, url) = Running::primary(tempdir().unwrap(), &[]);
    let home = node.home.path();
    let create = |scope: &str| {
        let made = run(home, &[], &["token", "create", "--scope", scope]);
        assert_eq!(made.code, 0, "{made:?}");
        made.out.trim().to_owned()
    };
    let (read, admin) = (create("read"), create("admin"));
    let ask = |token: &str, what: &str| {
        let token = [
            ("RELAYCTL_API_TOKEN", token),
            ("RELAYCTL_ADDR", url.as_str()),
        ];
        run(home, &token, &["get", what]).code
    };
    assert_eq!((ask(&read, "nodes"), ask(&read, "listeners")), (0, 4));
    assert_eq!((ask(&admin, "nodes"), ask(&admin, "listeners")), (0, 0));
    assert_eq!(ask("rctl1.00000000.wrong", "nodes"), 4);
    let denied = run(home, &[("RELAYCTL_ADDR", &url)], &["get", "nodes"]);
    assert_eq!(denied.code, 4);
    assert!(denied.err.contains("set RELAYCTL_API_TOKEN"), "{denied:?}");
    let list = run(home, &[], &["token", "list"]);
    let id = read.split('.').nth(1).unwrap();
    assert!(
        list.out.contains(id) && !list.out.contains(&read),
        "{list:?}"
    );
    assert_eq!(run(home, &[], &["token", "revoke", id]).code, 0);
    assert_eq!(ask(&read, "nodes"), 4);
    let again = run(home, &[], &["token", "revoke", id]);
    assert_eq!(again.code, 1);
    assert!(
        again.err.contains("`relayctl token list` shows"),
        "{again:?}"
    );
}

#[test]
fn lists_and_status_of_a_node_without_a_source() {
    let (node, url) = Running::primary(tempdir().unwrap(), &[]);
    let home = node.home.path();
    let nodes = until("the node's own row", || {
        let nodes = run(home, &[], &["get", "nodes"]);
        nodes.out.contains("head").then_some(nodes)
    });
    assert!(nodes.out.starts_with("NAME  ROLE     STATE"), "{nodes:?}");
    assert!(nodes.out.contains(&url), "{nodes:?}");
    let json = run(home, &[], &["get", "nodes", "-o", "json"]);
    let answer: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    for field in [
        "id",
        "name",
        "role",
        "state",
        "public_url",
        "listeners",
        "max_listeners",
        "weight",
        "parent",
        "version",
    ] {
        assert!(answer["nodes"][0].get(field).is_some(), "{field}: {answer}");
    }
    for what in ["mounts", "listeners", "picks"] {
        let list = run(home, &[], &["get", what]);
        assert_eq!((list.code, list.out), (0, format!("no {what}\n")));
        let json = run(home, &[], &["get", what, "-o", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(answer[what].as_array().unwrap().len(), 0);
    }
    let status = run(home, &[], &["status"]);
    assert_eq!(status.code, 0, "{status:?}");
    let first = "head (primary) is up, source waiting\n1 of 1 nodes ready, 0 of 0 mounts live";
    assert!(status.out.starts_with(first), "{status:?}");
    let kick = run(home, &[], &["kick", "7"]);
    assert_eq!(kick.code, 1);
    assert!(kick.err.contains("no listener `7`"), "{kick:?}");
}
