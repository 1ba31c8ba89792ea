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
        let mode = fs::metadata(rendered.join(name))
            .unwrap()
            .permissions()
            .mode();
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
