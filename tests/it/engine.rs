//! Engines that are not ours: a real icecast2 as a child and as a server of its own, and a stand-in for sc_serv.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::eventually;
use crate::harness::icecast::Icecast;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Peer, ask};
use crate::harness::program::tool;
use crate::harness::source::{
    Framing, Source, basic, framed, listen, listen_with, on_air, set_title, source_head, strip,
};
use crate::harness::tone::{self, FRAME, Run};

/// An Icecast joins a listener wherever it is in its queue: from the first whole frame on.
fn run_of(audio: &[u8]) -> Run {
    let head = &tone::frame(0)[..4];
    let starts = audio.windows(4).position(|part| part == head);
    tone::run(&audio[starts.expect("a frame")..])
}

/// The processes that a node started and that still run, as `(number, command)`.
pub(crate) fn children(node: &Node) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|text| text.parse::<i32>().ok()) else {
            continue;
        };
        // pid (command) state parent: proc(5).
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let Some((front, behind)) = stat.rsplit_once(") ") else {
            continue;
        };
        let mut fields = behind.split_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        if state != Some("Z") && parent == Some(node.pid().to_string().as_str()) {
            let command = front.split_once('(').map_or("", |(_, command)| command);
            found.push((pid, command.to_owned()));
        }
    }
    found
}

pub(crate) async fn engine_is(node: &Node, word: &str) {
    eventually(&format!("the engine is {word}"), async || {
        let (head, body) = node.get("/health").await;
        // Whatever the engine does, the node is healthy.
        assert_eq!(head.status, 200, "{body}");
        body.contains(&format!("\"state\":\"{word}\""))
            .then_some(())
    })
    .await;
}

pub(crate) async fn icecast_child(node: &Node) -> i32 {
    eventually("icecast2 is a child", async || {
        let found = children(node);
        let own = found.iter().find(|(_, command)| command == "icecast2");
        own.map(|(pid, _)| *pid)
    })
    .await
}

pub(crate) fn icecast_primary() -> Plan {
    // The program has to be there: its package is named where it is missing.
    let _ = tool("icecast2", "icecast2");
    Plan::primary().flag("--engine", "icecast")
}

#[tokio::test]
async fn a_real_icecast_carries_the_audio_behind_our_port() {
    let mut node = icecast_primary().start().await;
    engine_is(&node, "up").await;
    let pid = icecast_child(&node).await;
    let source = Source::start(&node, "/live.mp3").await;
    let (mut one, head) = listen_with(node.port, "/live.mp3", "Icy-MetaData: 1\r\n").await;
    assert_eq!(head.get("content-type"), Some("audio/mpeg"));
    assert!(head.get("x-relayctl-node").is_some());
    let metaint: usize = head.get("icy-metaint").unwrap().parse().unwrap();
    set_title(
        node.port,
        "/live.mp3",
        &node.source_password(),
        "Grüße – 日本",
    )
    .await;
    let mut heard = one.exact(64 * 1024).await;
    eventually("the title is in the stream", async || {
        heard.extend(one.exact(16 * 1024).await);
        let (_, titles) = strip(&heard, metaint);
        titles
            .iter()
            .any(|(_, title)| title == "Grüße – 日本")
            .then_some(())
    })
    .await;
    let (audio, _) = strip(&heard, metaint);
    assert!(run_of(&audio).count > 100);
    eventually("all pages know it", async || {
        let listed = node.asked(&["get", "mounts"]).await;
        let one = node.metric("relayctl_listeners", "/live.mp3").await;
        // Ours and the tap.
        let there = node.metric("relayctl_engine_listeners", "/live.mp3").await;
        (listed.contains("Grüße – 日本") && (one, there) == (1.0, 2.0)).then_some(())
    })
    .await;
    assert!(node.metric("relayctl_sent_bytes_total", "/live.mp3").await > 64_000.0);
    drop(one);

    let killed = Pid::from_raw(pid).unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    let again = eventually("another icecast2 runs", async || {
        let (head, body) = node.get("/health").await;
        assert_eq!(head.status, 200, "{body}");
        let found = children(&node);
        found.iter().map(|(new, _)| *new).find(|new| *new != pid)
    })
    .await;
    engine_is(&node, "up").await;
    assert!(node.metric("relayctl_engine_restarts_total", "").await >= 1.0);
    // The encoder was let go, and comes again by itself.
    let said = source.answer().await;
    assert!(said.is_empty() || said.contains("503"), "{said}");
    let _source = Source::start_at(&node, "/live.mp3", 10_000).await;
    let (mut two, _) = listen(node.port, "/live.mp3").await;
    assert!(run_of(&two.exact(32 * FRAME).await).first >= 10_000);
    assert!(node.terminate().await.success());
    let gone = Pid::from_raw(again).unwrap();
    assert!(
        rustix::process::test_kill_process(gone).is_err(),
        "icecast2 was left behind"
    );
}

#[tokio::test]
async fn a_killed_node_takes_its_icecast_with_it() {
    let mut node = icecast_primary().start().await;
    engine_is(&node, "up").await;
    let pid = Pid::from_raw(icecast_child(&node).await).unwrap();
    node.kill();
    eventually("icecast2 ends with its node", async || {
        // Whoever takes orphans in may be slow to bury them.
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.map_or(true, |stat| stat.contains(") Z "))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn chunks_and_shoutcast_v1_reach_icecast_too() {
    let node = icecast_primary()
        .yaml("shoutcast:\n  mount: /v1.mp3\n")
        .start()
        .await;
    engine_is(&node, "up").await;
    let password = node.source_password();
    let mut peer = Peer::connect(node.port).await;
    let more = "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n";
    peer.send(source_head("PUT /chunked.mp3 HTTP/1.1", &password, more))
        .await;
    assert_eq!(peer.head().await.status, 100);
    let chunked = Source::over(peer, Framing::Chunked, 0);
    on_air(node.port, "/chunked.mp3").await;
    let (mut listener, _) = listen(node.port, "/chunked.mp3").await;
    assert!(run_of(&listener.exact(64 * FRAME).await).count >= 60);
    let (answer, _) = chunked.finish().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let mut peer = Peer::connect(node.port).await;
    peer.send(format!("{password}\r\n")).await;
    assert_eq!(peer.exact(20).await, b"OK2\r\nicy-caps:11\r\n\r\n");
    peer.send("icy-name:Old\r\ncontent-type:audio/mpeg\r\n\r\n")
        .await;
    let _source = Source::over(peer, Framing::Raw, 500);
    on_air(node.port, "/v1.mp3").await;
    let (mut listener, head) = listen(node.port, "/v1.mp3").await;
    assert_eq!(head.get("icy-name"), Some("Old"));
    assert!(run_of(&listener.exact(64 * FRAME).await).first >= 500);
    let login = basic("wrong");
    let wrong =
        format!("PUT /no.mp3 HTTP/1.1\r\nHost: x\r\n{login}Content-Type: audio/mpeg\r\n\r\n");
    assert_eq!(ask(node.port, wrong).await.0.status, 401);
}

#[tokio::test]
async fn a_changed_password_reaches_icecast_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("source");
    fs::write(&file, "first\n").unwrap();
    let node = icecast_primary()
        .variable("RELAYCTL_SOURCE_PASSWORD_FILE", file.to_str().unwrap())
        .start()
        .await;
    engine_is(&node, "up").await;
    let pid = icecast_child(&node).await;
    let try_with = async |password: &str| {
        let mut peer = Peer::connect(node.port).await;
        peer.send(source_head("PUT /live.mp3 HTTP/1.1", password, ""))
            .await;
        let status = peer.head().await.status;
        if status == 200 {
            peer.send(framed(&tone::frames(0, 50), Framing::Raw)).await;
        }
        (status, peer)
    };
    assert_eq!(try_with("second").await.0, 401);
    let (status, peer) = try_with("first").await;
    assert_eq!(status, 200);
    drop(peer);
    fs::write(&file, "second\n").unwrap();
    node.signal(Signal::HUP);
    let _peer = eventually("the new password is taken", async || {
        let (status, peer) = try_with("second").await;
        (status == 200).then_some(peer)
    })
    .await;
    assert_eq!(icecast_child(&node).await, pid);
    assert_eq!(try_with("first").await.0, 401);
}

#[tokio::test]
async fn a_passed_listener_may_close_its_side_and_is_kicked_and_a_source_is_killed() {
    let node = icecast_primary().start().await;
    engine_is(&node, "up").await;
    let source = Source::start(&node, "/live.mp3").await;
    let (mut listener, _) = listen(node.port, "/live.mp3").await;
    listener.finish().await;
    // Far more than what was on its way when it closed its side.
    assert!(run_of(&listener.exact(1000 * FRAME).await).count >= 990);
    let listed = node.asked(&["get", "listeners", "-o", "json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let one = &listed["listeners"][0];
    assert_eq!(one["address"], "127.0.0.1");
    let id = one["id"].to_string();
    node.asked(&["kick", id.trim_matches('"')]).await;
    listener.ended().await;
    eventually("nobody listens", async || {
        let left = node.metric("relayctl_listeners", "/live.mp3").await;
        (left == 0.0).then_some(())
    })
    .await;
    let login = crate::harness::source::login("admin", &node.secret("admin-password"));
    let kill = format!("GET /admin/killsource?mount=/live.mp3 HTTP/1.0\r\n{login}\r\n");
    let (head, body) = ask(node.port, kill).await;
    assert_eq!(head.status, 200, "{body}");
    source.answer().await;
    crate::harness::source::off_air(node.port, "/live.mp3").await;
}

#[tokio::test]
async fn a_relay_with_icecast_plays_what_an_embedded_primary_has() {
    let primary = Plan::primary().name("head").start().await;
    let relay = Plan::relay(&primary)
        .name("ice")
        .yaml("engine: icecast\n")
        .start()
        .await;
    let source = Source::start(&primary, "/live.mp3").await;
    engine_is(&relay, "up").await;
    on_air(relay.port, "/live.mp3").await;
    let (mut listener, head) = listen(relay.port, "/live.mp3").await;
    assert_eq!(head.get("x-relayctl-node"), Some("ice"));
    assert!(run_of(&listener.exact(200 * FRAME).await).count >= 190);
    // The primary sends its listeners there, and hears of them.
    eventually("the table has the listener", async || {
        let said = primary.asked(&["get", "nodes", "-o", "json"]).await;
        let table: serde_json::Value = serde_json::from_str(&said).ok()?;
        let row = table["nodes"]
            .as_array()?
            .iter()
            .find(|row| row["name"] == "ice")?;
        (row["listeners"] == 1).then_some(())
    })
    .await;
    let head = on_air(primary.port, "/live.mp3").await;
    assert_eq!(head.status, 302, "{head:?}");
    assert!(
        head.get("location")
            .unwrap()
            .contains(&relay.port.to_string())
    );
    drop(source);
}

#[tokio::test]
async fn embedded_relays_pull_from_a_primary_with_icecast() {
    let primary = icecast_primary().name("head").start().await;
    engine_is(&primary, "up").await;
    let _source = Source::start(&primary, "/live.mp3").await;
    let relay = Plan::relay(&primary).name("own").start().await;
    on_air(relay.port, "/live.mp3").await;
    let (mut listener, head) = listen(relay.port, "/live.mp3").await;
    assert_eq!(head.get("x-relayctl-node"), Some("own"));
    assert!(tone::run(&listener.exact(200 * FRAME).await).count == 200);
}

#[tokio::test]
async fn a_server_that_runs_already_is_attached() {
    let mut icecast = Icecast::start().await;
    let url = format!("http://127.0.0.1:{}", icecast.port);
    let node = Plan::primary().flag("--external", &url).start().await;
    engine_is(&node, "up").await;
    assert_eq!(children(&node), []);
    // Its own password, not ours.
    let mut peer = Peer::connect(node.port).await;
    peer.send(source_head("SOURCE /live.mp3 ICE/1.0", "hackme", ""))
        .await;
    assert_eq!(peer.head().await.status, 200);
    let _source = Source::over(peer, Framing::Raw, 0);
    on_air(node.port, "/live.mp3").await;
    let (mut ours, _) = listen(node.port, "/live.mp3").await;
    assert!(run_of(&ours.exact(64 * FRAME).await).count >= 60);
    let (_theirs, _) = listen(icecast.port, "/live.mp3").await;
    eventually("who listens there is counted here", async || {
        let count = node.metric("relayctl_listeners", "/live.mp3").await;
        (count == 2.0).then_some(())
    })
    .await;
    set_title(node.port, "/live.mp3", "hackme", "from afar").await;
    icecast.kill();
    engine_is(&node, "down").await;
    assert_eq!(node.get("/healthz").await.0.status, 200);
    assert_eq!(node.get("/").await.0.status, 200);
}

#[tokio::test]
async fn a_program_that_is_missing_is_named_with_its_package() {
    let plan = Plan::primary()
        .flag("--engine", "icecast")
        .yaml("icecast:\n  program: no-such-icecast\n");
    let mut program = plan.spawn();
    assert_eq!(program.ended().await.code(), Some(1));
    let said = program.stderr();
    assert!(
        said.contains("`no-such-icecast` is not installed"),
        "{said}"
    );
    assert!(
        said.contains("package `icecast2`") && said.contains("`icecast.program`"),
        "{said}"
    );
}

/// The stand-in for `sc_serv`: see its own first lines.
fn stand_in() -> PathBuf {
    let _ = tool("python3", "python3");
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sc_serv.py")
}

pub(crate) fn shoutcast_primary() -> Plan {
    let lines = format!(
        "shoutcast:\n  program: {}\n  mount: /one\n",
        stand_in().display()
    );
    Plan::primary()
        .flag("--engine", "shoutcast")
        .yaml(&lines)
        .yaml("mounts:\n  - path: /one\n  - path: /two\n")
}

#[tokio::test]
async fn a_stand_in_for_shoutcast_carries_the_audio() {
    let mut node = shoutcast_primary().start().await;
    engine_is(&node, "up").await;
    let _one = Source::start(&node, "/one").await;
    let _two = Source::start_at(&node, "/two", 7_000).await;
    let (mut first, head) = listen(node.port, "/one").await;
    assert_eq!(head.get("content-type"), Some("audio/mpeg"));
    assert!(run_of(&first.exact(100 * FRAME).await).count >= 95);
    let (mut second, _) = listen(node.port, "/two").await;
    assert!(run_of(&second.exact(100 * FRAME).await).first >= 7_000);
    set_title(node.port, "/two", &node.source_password(), "second").await;
    eventually("both are counted", async || {
        let one = node.metric("relayctl_engine_listeners", "/one").await;
        let two = node.metric("relayctl_engine_listeners", "/two").await;
        ((one, two) == (2.0, 2.0)).then_some(())
    })
    .await;
    let pid = children(&node)[0].0;
    assert!(node.terminate().await.success());
    let gone = Pid::from_raw(pid).unwrap();
    assert!(
        rustix::process::test_kill_process(gone).is_err(),
        "it was left behind"
    );
}

#[tokio::test]
async fn a_configuration_that_is_refused_is_told_in_the_engines_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("sc_serv.conf.tera");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/sc_serv.conf.tera");
    let text = fs::read_to_string(own).unwrap();
    fs::write(&template, format!("{text}\nnosuchkey=1\n")).unwrap();
    let node = shoutcast_primary()
        .yaml(&format!("templates: {}\n", folder.path().display()))
        .start()
        .await;
    engine_is(&node, "down").await;
    let file = node.data_dir().join("engine/sc_serv.conf");
    eventually("it says why", async || {
        let log = node.log();
        let told = log.contains("unknown key `nosuchkey`") && log.contains(file.to_str().unwrap());
        told.then_some(())
    })
    .await;
    let status = node.asked(&["status"]).await;
    assert!(status.contains("engine shoutcast is down"), "{status}");
}
