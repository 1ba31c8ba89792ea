//! What was answered is on the disk, however many ask at once and however the process ends; and a disk that hangs or
//! refuses stops nothing that plays.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::cluster::nodes_of;
use crate::harness::eventually;
use crate::harness::hanging_disk::HangingDisk;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer};
use crate::harness::source::{Source, login, on_air};
use crate::harness::under_attack::{MOUNT, UnderAttack};

/// Operators at once.
const OPERATORS: usize = 8;

/// Turns of each in a scene that does not kill.
const TURNS: usize = 40;

/// Kills in a row.
const KILLS: usize = 6;

/// A request of an operator, ready to be sent on a connection that is kept.
fn request(node: &Node, line: &str, body: Option<&Value>) -> String {
    let login = login("admin", &node.secret("admin-password"));
    let body = body.map_or_else(String::new, Value::to_string);
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\n{login}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

async fn ordered(node: &Node, line: &str, body: Option<&Value>) -> (Head, String) {
    Peer::connect(node.port)
        .await
        .ask(request(node, line, body))
        .await
}

fn json_of(file: &Path) -> Value {
    let text = std::fs::read_to_string(file);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The public parts of the tokens in the file.
fn on_disk(folder: &Path) -> BTreeSet<String> {
    let tokens = json_of(&folder.join("tokens.json"));
    let rows = tokens["tokens"].as_array().unwrap().iter();
    rows.map(|row| row["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Names in a folder that a writer left half done.
fn leftovers(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with(".new-") || name.starts_with(".relayctl-"))
        .collect()
}

#[tokio::test]
async fn eight_operators_find_in_the_file_what_they_were_answered() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let (create, folder) = (json!({"scope": "admin"}), scene.node.data_dir());
    let wrong = Arc::new(AtomicUsize::new(0));
    let port = scene.node.port;
    let mut operators = JoinSet::new();
    for _ in 0..OPERATORS {
        let making = request(&scene.node, "POST /api/v1/tokens", Some(&create));
        let revoking = request(&scene.node, "DELETE /api/v1/tokens/ID", None);
        let (folder, wrong) = (folder.clone(), Arc::clone(&wrong));
        operators.spawn(async move {
            for _ in 0..TURNS {
                let (head, text) = Peer::connect(port).await.ask(&making).await;
                assert_eq!(head.status, 201, "{text}");
                let made: Value = serde_json::from_str(&text).unwrap();
                let id = made["id"].as_str().unwrap();
                let is_there = on_disk(&folder).contains(id);
                let asking = revoking.replace("/ID ", &format!("/{id} "));
                let (head, text) = Peer::connect(port).await.ask(asking).await;
                assert_eq!(head.status, 200, "{text}");
                let is_gone = !on_disk(&folder).contains(id);
                wrong.fetch_add(
                    usize::from(!is_there) + usize::from(!is_gone),
                    Ordering::Relaxed,
                );
            }
        });
    }
    while let Some(done) = operators.join_next().await {
        done.unwrap();
    }
    let (_node, report) = scene.finish("8 operators of tokens").await;
    let answers = 2 * OPERATORS * TURNS;
    println!("of {answers} answers {wrong:?} were not in tokens.json");
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    assert!(report.peak_mib < report.first_mib + 32, "{report:?}");
}

#[tokio::test]
async fn a_killed_node_comes_back_with_what_it_answered() {
    let mut node = Plan::primary().start().await;
    let (mut made, mut revoked) = (0, 0);
    for round in 0..KILLS {
        let create = json!({"scope": "admin"});
        let mut operators = JoinSet::new();
        let answers = Arc::new(AtomicUsize::new(0));
        for operator in 0..OPERATORS {
            let making = request(&node, "POST /api/v1/tokens", Some(&create));
            let revoking = request(&node, "DELETE /api/v1/tokens/ID", None);
            let port = node.port;
            let answers = Arc::clone(&answers);
            operators.spawn(operate(port, operator, making, revoking, answers));
        }
        // Somewhere in their work, another place in each round.
        let enough = 40 + 17 * round;
        eventually("a part of the work is done", async || {
            (answers.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
        node.kill();
        let (mut there, mut gone) = (BTreeSet::new(), BTreeSet::new());
        while let Some(answered) = operators.join_next().await {
            let (one, other) = answered.unwrap();
            there.extend(one);
            gone.extend(other);
        }
        let kept = on_disk(&node.data_dir());
        let lost: Vec<_> = there.difference(&kept).collect();
        let revived: Vec<_> = gone.intersection(&kept).collect();
        assert!(lost.is_empty(), "made, answered and lost: {lost:?}");
        assert!(
            revived.is_empty(),
            "revoked, answered and back: {revived:?}"
        );
        // What a kill leaves half done goes at the next start, and nothing that is not ours.
        std::fs::write(node.data_dir().join(".new-abcdef"), b"half a file").unwrap();
        std::fs::write(node.data_dir().join(".newer"), b"somebody's").unwrap();
        (made, revoked) = (made + there.len(), revoked + gone.len());
        node = node.again().await;
        assert_eq!(leftovers(&node.data_dir()), Vec::<String>::new());
        assert!(node.data_dir().join(".newer").exists());
        for id in &there {
            let line = format!("DELETE /api/v1/tokens/{id}");
            let (head, text) = ordered(&node, &line, None).await;
            assert_eq!(head.status, 200, "{id}: {text}");
        }
        for id in &gone {
            let line = format!("DELETE /api/v1/tokens/{id}");
            let (head, _) = ordered(&node, &line, None).await;
            assert_eq!(head.status, 404, "{id}");
        }
    }
    println!("{KILLS} kills: {made} tokens made and {revoked} revoked, each as answered");
    assert!(made > 0 && revoked > 0, "{made} made, {revoked} revoked");
}

/// Makes tokens and revokes every second one until the node is gone: the ids that were answered as made and not touched
/// again, and those that were answered as revoked.
async fn operate(
    port: u16,
    operator: usize,
    making: String,
    revoking: String,
    answers: Arc<AtomicUsize>,
) -> (Vec<String>, Vec<String>) {
    let (mut there, mut gone) = (Vec::new(), Vec::new());
    for turn in operator.. {
        let Some((201, text)) = answer(port, &making).await else {
            break;
        };
        answers.fetch_add(1, Ordering::Relaxed);
        let made: Value = serde_json::from_str(&text).unwrap();
        let id = made["id"].as_str().unwrap().to_owned();
        if turn % 2 == 0 {
            there.push(id);
            continue;
        }
        let asking = revoking.replace("/ID ", &format!("/{id} "));
        match answer(port, &asking).await {
            Some((200, _)) => gone.push(id),
            // It may be there or not: nothing was said.
            _ => break,
        }
    }
    (there, gone)
}

/// Status and body of an answer of known length, none where the node died before its end.
async fn answer(port: u16, request: &str) -> Option<(u16, String)> {
    let mut peer = Peer::try_connect([127, 0, 0, 1].into(), port).await.ok()?;
    peer.try_send(request.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    loop {
        let more = peer.some().await;
        if more.is_empty() {
            return None;
        }
        bytes.extend(more);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if body.len() >= length {
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            return Some((status, body.to_owned()));
        }
    }
}

#[tokio::test]
async fn drains_and_resumes_at_once_leave_node_and_file_of_one_mind() {
    let scene = UnderAttack::primary(Plan::primary().name("head")).await;
    let node = &scene.node;
    let (mut drained, mut of_two_minds) = (0, 0);
    let drain = request(node, "POST /api/v1/nodes/head/drain", Some(&json!({})));
    let resume = request(node, "POST /api/v1/nodes/head/resume", None);
    for round in 0..60 {
        let mut operators = JoinSet::new();
        for operator in 0..4 {
            let (port, ask) = (node.port, [&drain, &resume][(operator + round) % 2].clone());
            operators.spawn(async move {
                let (head, text) = Peer::connect(port).await.ask(ask).await;
                assert_eq!(head.status, 200, "{text}");
            });
        }
        while let Some(done) = operators.join_next().await {
            done.unwrap();
        }
        let orders = json_of(&node.data_dir().join("orders.json"));
        let kept = !orders["drains"].as_object().unwrap().is_empty();
        let (head, _) = node.get("/readyz").await;
        drained += usize::from(kept);
        of_two_minds += usize::from(kept != (head.status == 503));
        // The table takes the node back with its next look, and never where it was drained last.
        eventually("the table says so too", async || {
            let (_, text) = ordered(node, "GET /api/v1/nodes", None).await;
            let nodes: Value = serde_json::from_str(&text).unwrap();
            (kept == (nodes["nodes"][0]["state"] == "draining")).then_some(())
        })
        .await;
    }
    println!("60 rounds: {drained} ended drained, {of_two_minds} with node and file of two minds");
    assert_eq!(of_two_minds, 0);
    assert!((1..60).contains(&drained), "{drained}");
    scene.finish("drains and resumes at once").await;
}

async fn ready(primary: &Node, name: &str) {
    eventually(&format!("{name} is ready"), async || {
        let rows = nodes_of(primary).await;
        let is_ready = |row: &&Value| row["name"] == name && row["state"] == "ready";
        rows.iter().any(|row| is_ready(&row)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_disk_that_hangs_stops_nothing_that_plays() {
    let disk = HangingDisk::new().await;
    let mut primary = disk.under(Plan::primary().name("head")).start().await;
    let source = Source::start(&primary, MOUNT).await;
    let relay = disk.under(Plan::relay(&primary).name("edge")).start().await;
    on_air(relay.port, MOUNT).await;
    ready(&primary, "edge").await;
    let scene = UnderAttack::of(relay, None).await;

    disk.hang();
    let began = Instant::now();
    let scope = json!({"scope": "read"});
    let (head, text) = ordered(&primary, "POST /api/v1/tokens", Some(&scope)).await;
    println!(
        "a token with the disk hanging: {} after {:?}",
        head.status,
        began.elapsed()
    );
    assert_eq!(head.status, 500, "{text}");
    assert!(text.contains("is not on the disk after 5 s"), "{text}");
    let (_, list) = ordered(&primary, "GET /api/v1/tokens", None).await;
    assert_eq!(list, r#"{"tokens":[]}"#, "what was refused is not there");
    // A drain holds at once, and says that it is not kept.
    let (head, text) = ordered(&primary, "POST /api/v1/nodes/edge/drain", Some(&json!({}))).await;
    assert_eq!(head.status, 500, "{text}");
    assert!(
        text.contains("the order holds until this node restarts"),
        "{text}"
    );
    let (head, _) = ordered(&primary, "POST /api/v1/nodes/edge/resume", None).await;
    assert_eq!(head.status, 500);
    // New sources, titles, picks, health, beats and joins go on.
    let _second = Source::start(&primary, "/second.mp3").await;
    let mut peer = Peer::connect(primary.port).await;
    peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    let head = peer.head().await;
    assert!([200, 302].contains(&head.status), "{head:?}");
    let _third = Plan::relay(&primary).name("third").start().await;
    ready(&primary, "third").await;
    let (node, report) = scene.finish("a disk that hangs").await;
    assert!(
        !node.log().contains("the primary does not answer"),
        "{}",
        node.log()
    );
    assert!(!primary.log().contains("suspected"), "{}", primary.log());
    assert!(report.slowest_health < Duration::from_secs(1), "{report:?}");

    disk.work();
    let (head, text) = ordered(&primary, "POST /api/v1/tokens", Some(&scope)).await;
    assert_eq!(head.status, 201, "{text}");
    drop(source);
    // And a node whose disk hangs can be stopped.
    disk.hang();
    let _ = ordered(&primary, "POST /api/v1/tokens", Some(&scope)).await;
    let began = Instant::now();
    let status = primary.terminate().await;
    println!("stopped with the disk hanging after {:?}", began.elapsed());
    assert_eq!(status.code(), Some(0), "{}", primary.log());
}

#[tokio::test]
async fn a_disk_that_refuses_is_an_error_and_is_tried_again() {
    let scene = UnderAttack::primary(Plan::primary().name("head")).await;
    let node = &scene.node;
    let create = json!({"scope": "admin"});
    let (head, text) = ordered(node, "POST /api/v1/tokens", Some(&create)).await;
    assert_eq!(head.status, 201, "{text}");
    let made: Value = serde_json::from_str(&text).unwrap();
    let revoking = format!("DELETE /api/v1/tokens/{}", made["id"].as_str().unwrap());
    // A name that no file can take: as root every mode may be written.
    let file = node.data_dir().join("tokens.json");
    let (aside, blocked) = (node.folder().join("aside"), file.join("x"));
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir_all(&blocked).unwrap();
    let (head, text) = ordered(node, "POST /api/v1/tokens", Some(&create)).await;
    assert_eq!(head.status, 500, "{text}");
    assert!(text.contains("`tokens.json` cannot be written"), "{text}");
    let (head, text) = ordered(node, &revoking, None).await;
    assert_eq!(head.status, 500, "{text}");
    assert!(
        text.contains("opens nothing until this node restarts"),
        "{text}"
    );
    let bearer = format!(
        "GET /api/v1/listeners HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        made["token"].as_str().unwrap()
    );
    let (head, _) = Peer::connect(node.port).await.ask(&bearer).await;
    assert_eq!(head.status, 401, "revoked, and so it is");
    std::fs::remove_dir_all(&file).unwrap();
    eventually("it is written at last", async || {
        (file.is_file() && on_disk(&node.data_dir()).is_empty()).then_some(())
    })
    .await;
    let (head, _) = ordered(node, &revoking, None).await;
    assert_eq!(head.status, 404);
    let failures = node.metric("relayctl_state_write_failures_total", "").await;
    assert!(failures >= 2.0, "{failures}");
    let (node, _) = scene.finish("a disk that refuses").await;
    // What cannot be understood is set aside, not written over.
    let folder = node.data_dir();
    std::fs::write(folder.join("tokens.json"), b"{\"tokens\": [{").unwrap();
    let node = node.again().await;
    let kept = std::fs::read(folder.join("tokens.json.damaged")).unwrap();
    assert_eq!(kept, b"{\"tokens\": [{");
    let (head, text) = ordered(&node, "POST /api/v1/tokens", Some(&create)).await;
    assert_eq!(head.status, 201, "{text}");
}
