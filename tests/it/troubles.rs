//! What goes wrong is told with its cause and the next command, in the log, in events and in `status`.

use std::os::unix::process::CommandExt as _;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::cluster::{Cluster, api};
use crate::harness::eventually;
use crate::harness::node::{Node, Plan, relayctl};
use crate::harness::peer::{Peer, ask};
use crate::harness::program::Program;
use crate::harness::source::{Source, listen, on_air, source_head};
use crate::harness::two_free_ports;

const MOUNT: &str = "/live.mp3";

/// Waits until a command says all of `words`.
async fn asked(node: &Node, command: &[&str], words: &[&str]) -> String {
    eventually(&format!("{command:?} says {words:?}"), async || {
        let said = node.asked(command).await;
        words.iter().all(|word| said.contains(word)).then_some(said)
    })
    .await
}

async fn happened(node: &Node, kind: &str) -> Vec<Value> {
    let mut events = api(node, "events").await;
    events.retain(|event| event["kind"] == kind);
    events
}

/// The first event of a kind, once there is one.
async fn first(node: &Node, kind: &str) -> Value {
    eventually(&format!("{kind} is an event"), async || {
        happened(node, kind).await.into_iter().next()
    })
    .await
}

/// Runs a program to its end: exit code, standard output, standard error.
async fn run(command: std::process::Command) -> (i32, String, String) {
    let mut program = Program::start(command);
    let code = program.ended().await.code().expect("an exit code");
    (code, program.stdout(), program.stderr())
}

#[tokio::test]
async fn a_wrong_source_password_is_told_at_every_door() {
    let port = two_free_ports();
    let primary = Plan::primary().port(port).name("head").start().await;
    let relay = Plan::relay(&primary).name("relay-1").start().await;
    relay.is_ready().await;
    for (at, line) in [
        (port, "PUT /put.mp3 HTTP/1.1"),
        (port, "SOURCE /source.mp3 ICE/1.0"),
        (relay.port, "PUT /carried.mp3 HTTP/1.1"),
    ] {
        let mut peer = Peer::connect(at).await;
        peer.send(source_head(line, "hackme", "")).await;
        assert_eq!(peer.head().await.status, 401, "{line}");
    }
    for at in [port, port + 1, relay.port] {
        let mut peer = Peer::connect(at).await;
        peer.send(format!("/v1-{at}.mp3:hackme\r\n")).await;
        assert_eq!(peer.rest().await, b"invalid password\r\n");
    }
    let login = crate::harness::source::login("source", "hackme");
    for (target, login) in [
        (
            "/admin/metadata?mode=updinfo&song=x&mount=/title.mp3",
            login.as_str(),
        ),
        (
            "/admin.cgi?mode=updinfo&song=x&mount=/pass.mp3&pass=hackme",
            "",
        ),
    ] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: a\r\n{login}Connection: close\r\n\r\n");
        assert_eq!(ask(port, request).await.0.status, 401, "{target}");
    }
    let mounts = ["put", "source", "carried", "title", "pass"].map(str::to_owned);
    let lines = [port, port + 1, relay.port].map(|at| format!("v1-{at}"));
    let log = primary.log();
    for mount in mounts.iter().chain(&lines) {
        let mount = format!("/{mount}.mp3");
        let events = happened(&primary, "source_refused").await;
        let event = events.iter().find(|event| event["mount"] == mount.as_str());
        let event = event.unwrap_or_else(|| panic!("no {mount} in {events:?}"));
        assert_eq!(event["address"], "127.0.0.1");
        let why = event["why"].as_str().unwrap();
        assert!(why.contains("password"), "{why}");
        let mut lines = log.lines().filter(|line| line.contains("source refused"));
        assert!(
            lines.any(|line| line.contains("WARN") && line.contains(&mount)),
            "{log}"
        );
    }
    asked(
        &primary,
        &["status"],
        &[
            "a source of /",
            "was refused",
            "`relayctl token show source`",
        ],
    )
    .await;
    assert!(!primary.log().contains("hackme"));
}

/// A password in the field of the user is not told.
#[tokio::test]
async fn a_wrong_user_and_a_second_source_are_told_as_what_they_are() {
    let primary = Plan::primary().start().await;
    let _source = Source::start(&primary, MOUNT).await;
    on_air(primary.port, MOUNT).await;
    let password = primary.source_password();
    let head = crate::harness::source::login(&password, &password);
    let request =
        format!("PUT /user.mp3 HTTP/1.1\r\nHost: a\r\n{head}Content-Type: audio/mpeg\r\n\r\n");
    assert_eq!(ask(primary.port, request).await.0.status, 401);
    let mut peer = Peer::connect(primary.port).await;
    peer.send(source_head("PUT /live.mp3 HTTP/1.1", &password, ""))
        .await;
    assert_eq!(peer.head().await.status, 403);
    let events = happened(&primary, "source_refused").await;
    let why = |mount: &str| {
        let event = events.iter().find(|event| event["mount"] == mount);
        event.unwrap_or_else(|| panic!("{events:?}"))["why"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(why("/user.mp3").contains("log in as `source`"));
    assert!(why(MOUNT).contains("source"), "{}", why(MOUNT));
    assert!(!primary.log().contains(&password));
}

#[tokio::test]
async fn a_relay_shows_a_dead_primary_as_dead() {
    let mut cluster = Cluster::start(1).await;
    let relay = cluster.relays.remove(0);
    asked(&relay, &["status"], &["\n2 of 2 nodes ready"]).await;
    cluster.primary.kill();
    let row = eventually("the primary is shown as dead", async || {
        let rows = api(&relay, "nodes").await;
        rows.into_iter()
            .find(|row| row["name"] == "head" && row["state"] == "dead")
    })
    .await;
    let trouble = row["trouble"].as_str().unwrap();
    assert!(trouble.starts_with("last heard "), "{trouble}");
    let said = asked(
        &relay,
        &["status"],
        &["the primary was last heard ", " s ago"],
    )
    .await;
    assert!(said.contains("\n1 of 2 nodes ready"), "{said}");
    assert!(said.contains("this relay plays on"), "{said}");
    assert!(!happened(&relay, "primary_silent").await.is_empty());
    let _again = cluster.primary.again().await;
    eventually("and as ready again", async || {
        let rows = api(&relay, "nodes").await;
        rows.iter()
            .any(|row| row["name"] == "head" && row["state"] == "ready")
            .then_some(())
    })
    .await;
    first(&relay, "primary_back").await;
    let said = relay.asked(&["status"]).await;
    assert!(!said.contains("last heard"), "{said}");
}

#[tokio::test]
async fn a_dead_relay_is_to_be_started_again_and_orders_are_kept_for_it() {
    let mut cluster = Cluster::start(1).await;
    let mut relay = cluster.relays.remove(0);
    let primary = &cluster.primary;
    relay.kill();
    for words in [&["get", "nodes"][..], &["status"]] {
        let said = asked(
            primary,
            words,
            &["relay-0: dead: no beat for ", "start it again"],
        )
        .await;
        assert!(!said.contains("--public-url"), "{said}");
    }
    let died = happened(primary, "died").await;
    let why = died[0]["why"].as_str().unwrap();
    assert!(
        why.contains("(last ") && why.contains("start it again"),
        "{why}"
    );
    for words in [&["drain", "relay-0"][..], &["reflect", "relay-0", "on"]] {
        let said = primary.asked(words).await;
        assert!(
            said.contains("relay-0 is not there to follow (dead: no beat"),
            "{said}"
        );
        assert!(said.contains("kept for its return"), "{said}");
    }
    let (code, said) = primary.asked_in_vain(&["kick", "relay-0/3"]).await;
    assert_eq!(code, 1);
    assert!(said.contains("`relay-0` is dead: no beat"), "{said}");
    let relay = relay.again().await;
    eventually("it is drained and reflects", async || {
        let rows = api(&cluster.primary, "nodes").await;
        let row = rows.into_iter().find(|row| row["name"] == "relay-0")?;
        let follows = row["state"] == "draining" && row["pending"] == false;
        (follows && row["reflect"] == "on").then_some(())
    })
    .await;
    let said = relay.asked(&["status"]).await;
    assert!(said.contains("(relay) is draining"), "{said}");
}

/// When the command ends, the table has it.
#[tokio::test]
async fn an_order_ends_when_the_table_shows_it() {
    let cluster = Cluster::start(1).await;
    let primary = &cluster.primary;
    let row = async || {
        let rows = api(primary, "nodes").await;
        rows.into_iter()
            .find(|row| row["name"] == "relay-0")
            .unwrap()
    };
    primary.asked(&["drain", "relay-0", "--detach"]).await;
    let shown = row().await;
    assert_eq!(
        (&shown["state"], &shown["pending"]),
        (&"draining".into(), &false.into())
    );
    let (head, _) = cluster.relays[0].get("/health").await;
    assert_eq!(head.status, 503, "the relay itself drains");
    primary.asked(&["resume", "relay-0"]).await;
    assert_eq!(row().await["state"], "ready");
    assert_eq!(cluster.relays[0].get("/health").await.0.status, 200);
    primary.asked(&["reflect", "relay-0", "on"]).await;
    let shown = row().await;
    assert_eq!(
        (&shown["full"], &shown["pending"]),
        (&true.into(), &false.into())
    );
    asked(
        primary,
        &["status"],
        &[
            "`relay-0` takes nobody new",
            "relayctl reflect relay-0 auto",
        ],
    )
    .await;
    primary.asked(&["reflect", "relay-0", "auto"]).await;
    assert_eq!(row().await["full"], false);

    let _source = Source::start(primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let _listener = listen(cluster.relays[0].port, MOUNT).await;
    let id = eventually("the listener is listed", async || {
        let list = api(primary, "listeners").await;
        Some(list.first()?["id"].to_string())
    })
    .await;
    primary.asked(&["kick", &format!("relay-0/{id}")]).await;
    assert_eq!(api(primary, "listeners").await, [] as [Value; 0]);
}

/// A relay that is asked about itself needs no primary for the answer.
#[tokio::test]
async fn a_relay_without_its_primary_drains_and_resumes_when_it_is_asked_itself() {
    let mut cluster = Cluster::start(1).await;
    let relay = cluster.relays.remove(0);
    asked(&relay, &["status"], &["\n2 of 2 nodes ready"]).await;
    cluster.primary.kill();
    asked(&relay, &["status"], &["the primary was last heard "]).await;
    for (words, said, state) in [
        (["drain", "relay-0"], "relay-0 is empty\n", "draining"),
        (
            ["resume", "relay-0"],
            "relay-0 takes newcomers again\n",
            "ready",
        ),
    ] {
        let answer = relay.asked(&words).await;
        assert!(answer.ends_with(said), "{answer}");
        let rows = api(&relay, "nodes").await;
        let row = rows.iter().find(|row| row["name"] == "relay-0").unwrap();
        assert_eq!(row["state"], state);
    }
}

/// A node that never follows: what is missing is said, and the exit code is 1.
#[tokio::test]
async fn an_order_that_is_not_followed_ends_at_a_deadline() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let answers = tokio::spawn(async move {
        let nodes = r#"{"nodes":[{"name":"r1","id":"x","state":"draining","reflect":"on","pending":true,"heartbeat_age_seconds":0.5}]}"#;
        loop {
            let Ok((mut peer, _)) = server.accept().await else {
                return;
            };
            let mut head = vec![0; 4096];
            let length = peer.read(&mut head).await.unwrap_or(0);
            let body = if head[..length].starts_with(b"GET") {
                nodes
            } else {
                r#"{"resumed":true,"reflect":"on"}"#
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = peer.write_all(answer.as_bytes()).await;
        }
    });
    let order = |words: &[&str]| {
        let mut command = relayctl();
        command
            .args(words)
            .env("RELAYCTL_ADDR", format!("127.0.0.1:{port}"));
        run(command)
    };
    let (resumed, reflected) =
        tokio::join!(order(&["resume", "r1"]), order(&["reflect", "r1", "on"]));
    for (code, out, said) in [resumed, reflected] {
        assert_eq!(code, 1, "{out}{said}");
        assert_eq!(out, "");
        assert!(said.contains("r1 has not followed"), "{said}");
        assert!(said.contains("its last order pending"), "{said}");
    }
    answers.abort();
}

#[tokio::test]
async fn a_full_node_says_which_limit_and_how_to_lift_it() {
    let full = Plan::primary().flag("--max-listeners", "1").start().await;
    let _source = Source::start(&full, MOUNT).await;
    on_air(full.port, MOUNT).await;
    let _listener = listen(full.port, MOUNT).await;
    asked(
        &full,
        &["status"],
        &[
            "! this node takes nobody new: it is full, 1 of 1 listeners",
            "--max-listeners",
        ],
    )
    .await;
    let told = first(&full, "overload").await;
    assert!(
        told["why"].as_str().unwrap().contains("1 of 1 listeners"),
        "{told:?}"
    );
    assert!(
        full.log()
            .contains("this node takes nobody new: it is full")
    );

    let narrow = Plan::primary().flag("--max-bandwidth", "100").start().await;
    let _source = Source::start(&narrow, MOUNT).await;
    let words = [
        "`max_bandwidth` of 100bit/s is less than one listener takes",
        "so nobody is served",
        "--max-bandwidth",
    ];
    asked(&narrow, &["status"], &words).await;
    let told = first(&narrow, "overload").await;
    assert_eq!(told["reason"], "bandwidth");
    assert!(told["why"].as_str().unwrap().contains(words[0]), "{told:?}");
    assert!(narrow.log().contains(words[0]));
}

/// Another user's node is there, and only may not be asked.
#[tokio::test]
async fn a_missing_permission_is_no_missing_node() {
    let primary = Plan::primary().start().await;
    // As with `/var/lib/relayctl`: only its owner may look in.
    let folder = primary.data_dir();
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for words in [
        &["status"][..],
        &["token", "show", "source"],
        &["get", "nodes"],
    ] {
        let mut command = primary.words(words);
        command.uid(65_534).gid(65_534);
        let (code, out, said) = run(command).await;
        assert_eq!((code, out.as_str()), (4, ""), "{said}");
        assert!(
            said.contains("permission denied") && said.contains("another user"),
            "{said}"
        );
        let sudo = format!("`sudo relayctl {}`", words.join(" "));
        assert!(said.contains(&sudo), "{said}");
    }
}

#[tokio::test]
async fn a_list_without_a_relay_that_does_not_answer_is_incomplete() {
    let cluster = Cluster::start(2).await;
    let primary = &cluster.primary;
    assert_eq!(primary.asked(&["get", "listeners"]).await, "no listeners\n");
    cluster.relays[1].signal(Signal::STOP);
    let (code, out, said) = run(primary.words(&["get", "listeners"])).await;
    cluster.relays[1].signal(Signal::CONT);
    assert_eq!(code, 1, "{out}{said}");
    assert_eq!(out, "no listeners on the nodes that answered\n");
    assert!(
        said.contains("incomplete: relay-1 did not answer"),
        "{said}"
    );
}

/// A parent that restarts under many mounts is one line, not one for each.
#[tokio::test]
async fn a_parent_of_many_mounts_that_dies_is_one_line() {
    const MOUNTS: usize = 40;
    let mut cluster = Cluster::start(1).await;
    let relay = cluster.relays.remove(0);
    let password = cluster.primary.source_password();
    let mut sources = Vec::new();
    for number in 0..MOUNTS {
        let mount = format!("/m{number}.mp3");
        sources.push(Source::put(cluster.primary.port, &mount, &password, 0).await);
    }
    eventually("the relay has them all", async || {
        (api(&relay, "mounts").await.len() == MOUNTS).then_some(())
    })
    .await;
    let lines = |log: &str| -> Vec<String> {
        let about = log.lines().filter(|line| line.contains("parent"));
        about.map(str::to_owned).collect()
    };
    let before = lines(&relay.log()).len();
    cluster.primary.kill();
    let said = eventually("it is said", async || {
        let said = lines(&relay.log()).split_off(before);
        (!said.is_empty()).then_some(said)
    })
    .await;
    assert!(
        said[0].contains("WARN") && said[0].contains(&format!("mounts={MOUNTS}")),
        "{said:?}"
    );
    // It is tried again in vain by each of them, and comes back.
    let _again = cluster.primary.again().await;
    eventually("the relay is a member again", async || {
        let rows = api(&relay, "nodes").await;
        rows.iter()
            .any(|row| row["name"] == "head" && row["state"] == "ready")
            .then_some(())
    })
    .await;
    let said = lines(&relay.log()).split_off(before);
    assert_eq!(said.len(), 1, "{said:?}");
}
