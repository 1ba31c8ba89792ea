//! The bugs of the cartridge that this one replaces, each shown not to be here.

use crate::gear::Gear;
use crate::harness::peer::{Peer, ask};
use crate::harness::source::{login, source_head};
use crate::platform::Application;
use crate::station::said;

/// Its `if ! -f FILE` ran `-f` as a command, so every file was missing: secrets and settings were made anew at
/// each start, and the server was always "running".
#[tokio::test]
async fn what_is_there_is_there_and_what_is_not_is_not() {
    let mut app = Application::new();
    app.create().await;
    let head = app.head();
    let kept = |gear: &Gear| {
        let mut files: Vec<_> = std::fs::read_dir(gear.data_dir())
            .unwrap()
            .flatten()
            .filter(|entry| !["epoch", "pid", "url"].contains(&entry.file_name().to_str().unwrap()))
            .filter(|entry| entry.path().is_file())
            .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
            .filter(|(name, _)| !name.to_str().unwrap().contains('.'))
            .collect();
        files.sort();
        assert!(files.len() > 4, "{files:?}");
        files
    };
    let before = kept(head);
    head.control("restart").await.fine();
    assert_eq!(kept(head), before);
    assert_eq!(head.control("status").await.code, 0);
    head.control("stop").await.fine();
    let status = head.control("status").await;
    assert_eq!(
        (status.code, status.out.contains("does not run")),
        (1, true)
    );
    // A pid file of a process that is somebody else's by now is no proof either.
    let file = head.cartridge().join("run/relayctl.pid");
    std::fs::write(&file, format!("{} 1\n", std::process::id())).unwrap();
    assert_eq!(head.control("status").await.code, 1);
    head.control("stop").await.fine();
    head.control("start").await.fine();
    assert_eq!(head.control("status").await.code, 0);
}

/// It set one name and read another, so the source's password was empty.
#[tokio::test]
async fn the_sources_password_is_the_one_that_is_printed() {
    let mut app = Application::new();
    let printed = app.create().await;
    let password = said(&printed, "Password of the source:");
    assert!(password.len() >= 16, "{password}");
    assert_eq!(said(&printed, "CART_PROPERTIES: password="), password);
    for (given, status) in [("", 401), ("changeme", 401), (password.as_str(), 200)] {
        let mut peer = Peer::connect(app.head().sources).await;
        peer.send(source_head("PUT /live.mp3 HTTP/1.1", given, ""))
            .await;
        assert_eq!(peer.head().await.status, status, "with {given:?}");
    }
    // And so is an administrator's.
    for given in ["", "hackme"] {
        let login = login("admin", given);
        let (head, _) = ask(
            app.head().port,
            format!("GET /admin/stats HTTP/1.0\r\n{login}\r\n"),
        )
        .await;
        assert_eq!(head.status, 401, "with {given:?}");
    }
}

/// `/` was the stream: without a source every check failed, the balancer took the gear out, and no source could
/// ever come in; with one, every check was a listener.
#[tokio::test]
async fn checks_find_no_stream_and_take_no_place() {
    let mut app = Application::new();
    let printed = app.create().await;
    let head = app.head();
    let password = said(&printed, "Password of the source:");
    let check = async || {
        for path in ["/", "/health"] {
            for line in [
                format!("GET {path} HTTP/1.0"),
                format!("OPTIONS {path} HTTP/1.0"),
            ] {
                let (answer, _) = ask(head.port, format!("{line}\r\n\r\n")).await;
                assert!(
                    (200..400).contains(&answer.status),
                    "{line}: {}",
                    answer.line
                );
                assert_ne!(answer.get("content-type"), Some("audio/mpeg"));
            }
        }
    };
    check().await;
    let _source = crate::station::source(head, &password).await;
    crate::harness::source::on_air(head.port, "/live.mp3").await;
    check().await;
    assert_eq!(head.nodes().await[0]["listeners"], 0);
}

/// It stopped every server of the user, by name.
#[tokio::test]
async fn a_stop_ends_its_own_process_and_no_other() {
    let (mut one, mut other) = (Application::new(), Application::new());
    one.create().await;
    other.create().await;
    let before = other.head().pid();
    one.head().control("stop").await.fine();
    assert_eq!(other.head().control("status").await.code, 0);
    assert_eq!(other.head().pid(), before);
}

/// Its relays were sent to a path that the front end serves to nobody. Here they join the head's own public port.
#[tokio::test]
async fn members_join_the_head_and_not_the_front_end() {
    let mut app = Application::new();
    app.create().await;
    app.scale_up().await;
    app.members(1).await;
    let url = app.gears[1].variable("OPENSHIFT_SCS_HEAD_URL");
    assert_eq!(url, format!("http://127.0.0.1:{}", app.head().port));
}

/// The platform's sixteen sessions a gear would add one for every fifteen listeners.
#[tokio::test]
async fn the_autoscaler_counts_with_the_real_limit() {
    let mut app = Application::new();
    app.create().await;
    let head = app.head();
    assert_eq!(head.variable("OPENSHIFT_MAX_SESSIONS_PER_GEAR"), "1000");
    std::fs::write(
        head.repository().join("relayctl.yaml"),
        "max_listeners: 321\n",
    )
    .unwrap();
    head.control("restart").await.fine();
    assert_eq!(head.variable("OPENSHIFT_MAX_SESSIONS_PER_GEAR"), "321");
    assert_eq!(head.nodes().await[0]["max_listeners"], 321);
    head.set("maxuser", "44");
    head.control("restart").await.fine();
    assert_eq!(head.variable("OPENSHIFT_MAX_SESSIONS_PER_GEAR"), "44");
    head.set("RELAYCTL_MAX_LISTENERS", "55");
    head.control("restart").await.fine();
    assert_eq!(head.variable("OPENSHIFT_MAX_SESSIONS_PER_GEAR"), "55");
}
