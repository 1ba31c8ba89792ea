//! A real `icecast2` in the place of a node, from the file that the node kept while it ran.

use std::path::Path;

use tempfile::TempDir;

use crate::harness::cluster::{api, nodes_of};
use crate::harness::icecast::{Icecast, log_folder, run_as};
use crate::harness::node::{Node, Plan};
use crate::harness::program::output_of;
use crate::harness::source::{Source, listen};
use crate::harness::tone::{self, FRAME};
use crate::harness::{eventually, two_free_ports};

const MOUNT: &str = "/live.mp3";

/// Settings of the rendered file that this machine needs.
fn settings(logs: &Path) -> String {
    let user = run_as().map_or(String::new(), |who| {
        format!("icecast:\n  user: {}\n  group: {}\n", who.user, who.group)
    });
    format!("render:\n  log_dir: {}\n{user}", logs.display())
}

/// The file that a running node keeps, once it has all of `words`; copied, since the node is to end.
async fn kept(node: &Node, words: &[&str], folder: &TempDir) -> std::path::PathBuf {
    let file = node.data_dir().join("rendered/icecast.xml");
    let text = eventually(&format!("the file has {words:?}"), async || {
        let text = std::fs::read_to_string(&file).ok()?;
        words.iter().all(|word| text.contains(word)).then_some(text)
    })
    .await;
    let copy = folder.path().join("icecast.xml");
    std::fs::write(&copy, text).unwrap();
    copy
}

/// Icecast begins its burst wherever a block begins: the run from the first whole frame on.
fn from_a_frame(bytes: &[u8]) -> tone::Run {
    let at = bytes.iter().position(|byte| *byte == 0xFF);
    tone::run(&bytes[at.expect("a frame")..])
}

/// It logs in as `relay`, by the password that came with the join: served by the primary itself although another
/// relay is free, and in no count.
#[tokio::test]
async fn icecast_takes_a_relays_place() {
    let folder = log_folder();
    let primary = Plan::primary().name("head").start().await;
    let _source = Source::start(&primary, MOUNT).await;
    let free = Plan::relay(&primary).name("free").start().await;
    let relay = Plan::relay(&primary)
        .name("leaves")
        .port(two_free_ports())
        .yaml(&settings(folder.path()));
    let mut relay = relay.start().await;
    let port = relay.port;
    let login = format!("<password>{}</password>", primary.secret("relay-password"));
    let words = [
        "<mount>/live.mp3</mount>",
        "<username>relay</username>",
        &login,
    ];
    let file = kept(&relay, &words, &folder).await;
    // What a person would type makes the same file.
    let mut render = relay.words(&["render", "icecast"]);
    render.env("RELAYCTL_PRIMARY", primary.url());
    let said = String::from_utf8(output_of(render).await).unwrap();
    assert!(said.contains(&login), "{said}");
    assert!(relay.terminate().await.success());
    eventually(
        "the other relay is ready, the one that left is gone",
        async || {
            let rows = nodes_of(&primary).await;
            let ready = |row: &serde_json::Value| row["name"] == "free" && row["state"] == "ready";
            (rows.len() == 2 && rows.iter().any(ready)).then_some(())
        },
    )
    .await;
    let icecast = Icecast::from_file(&file, port).await;
    icecast.has(MOUNT).await;
    let (mut listener, head) = listen(icecast.port, MOUNT).await;
    assert_eq!(head.get("content-type"), Some("audio/mpeg"));
    from_a_frame(&listener.exact(300 * FRAME).await);
    icecast.listened(MOUNT, 1).await;
    for node in [&primary, &free] {
        assert_eq!(node.metric("relayctl_listeners", "").await, 0.0);
        assert!(api(node, "listeners").await.is_empty());
    }
    for row in nodes_of(&primary).await {
        assert_eq!(row["listeners"], 0, "{row}");
    }
    let sent = async |node: &Node| node.metric("relayctl_sent_bytes_total", "").await;
    assert_eq!(sent(&free).await, 0.0, "it was redirected");
    assert!(sent(&primary).await > 0.0);
}

/// The sources come to the same port, with the same password.
#[tokio::test]
async fn icecast_takes_a_primarys_place() {
    let folder = log_folder();
    let primary = Plan::primary()
        .port(two_free_ports())
        .yaml(&settings(folder.path()))
        .yaml("mounts:\n  - path: /live.mp3\n    max_listeners: 7");
    let mut primary = primary.start().await;
    let port = primary.port;
    let words = [
        "<mount-name>/live.mp3</mount-name>",
        "<max-listeners>7</max-listeners>",
    ];
    let file = kept(&primary, &words, &folder).await;
    let password = primary.source_password();
    assert!(primary.terminate().await.success());
    let icecast = Icecast::from_file(&file, port).await;
    let _source = icecast.source(MOUNT, Some(&password), 0).await;
    let (mut listener, _) = listen(icecast.port, MOUNT).await;
    from_a_frame(&listener.exact(100 * FRAME).await);
}
