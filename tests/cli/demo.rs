//! The demo: its nodes play, and all of them end with it.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, test_kill_process};
use tempfile::tempdir;

use crate::harness::{Running, get, run, until};

/// What the demo printed.
struct Demo {
    running: Running,
    urls: Vec<String>,
    pids: Vec<Pid>,
    folder: PathBuf,
}

fn start() -> Demo {
    let mut running = Running::start(tempdir().unwrap(), &[], &["demo", "--relays", "2"]);
    let (mut urls, mut pids) = (Vec::new(), Vec::new());
    loop {
        let line = running.line_with("");
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(url) = words.first().filter(|word| word.starts_with("http://")) {
            urls.push((*url).to_owned());
        }
        let pid = words.iter().position(|word| *word == "(process");
        if let Some(pid) = pid.and_then(|at| words.get(at + 1)) {
            let number = pid.trim_end_matches(')').parse().unwrap();
            pids.push(Pid::from_raw(number).unwrap());
        }
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    let folder = std::fs::read_dir(running.home.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("primary").is_dir())
        .unwrap();
    // The primary does not print its number; its data directory holds it.
    let primary = std::fs::read_to_string(folder.join("primary/pid")).unwrap();
    pids.push(Pid::from_raw(primary.trim().parse().unwrap()).unwrap());
    assert_eq!((urls.len(), pids.len()), (3, 3));
    Demo {
        running,
        urls,
        pids,
        folder,
    }
}

/// Whole frames of 96 kbit/s at 44.1 kHz, one behind the other.
fn frames(audio: &[u8]) -> usize {
    let mut at = 0;
    let mut count = 0;
    while let Some(head) = audio.get(at..at + 3) {
        assert_eq!(head[0..2], [0xff, 0xfb], "no frame at {at}");
        at += 144 * 96_000 / 44_100 + usize::from(head[2] >> 1 & 1);
        count += 1;
    }
    count
}

/// A relay's files have the primary's mounts, HAProxy's the nodes of the table, kept and printed alike.
fn rendered_files(demo: &Demo) {
    let relay = demo.folder.join("relay-1");
    until("the relay's file", || {
        let kept = std::fs::read_to_string(relay.join("rendered/icecast.xml")).ok()?;
        kept.contains("<mount>/demo.mp3</mount>").then_some(())
    });
    let primary = demo.folder.join("primary").display().to_string();
    let words = ["render", "haproxy", "--data-dir", &primary];
    let printed = run(demo.running.home.path(), &[], &words);
    assert_eq!(printed.code, 0, "{printed:?}");
    for url in &demo.urls {
        let authority = url.split('/').nth(2).unwrap();
        assert!(
            printed.out.contains(authority),
            "{authority}: {}",
            printed.out
        );
    }
}

#[test]
fn plays_through_every_node_and_ends_cleanly_on_an_interrupt() {
    let mut demo = start();
    for url in &demo.urls {
        let (head, audio) = get(url, 60_000);
        assert!(
            head.contains(" 200 ") && head.contains("icy-name: relayctl demo"),
            "{head}"
        );
        assert!(frames(&audio) > 185, "less than a round of the tone");
    }
    let (head, _) = get(&demo.urls[0], 1);
    assert!(
        head.contains("X-Relayctl-Node: relay-"),
        "the primary sent nobody away: {head}"
    );
    rendered_files(&demo);
    demo.running.signal(Signal::INT);
    assert_eq!(demo.running.code(), 0);
    for pid in demo.pids {
        assert!(test_kill_process(pid).is_err(), "{pid:?} is still there");
    }
    assert!(!demo.folder.exists(), "it left {}", demo.folder.display());
}

#[test]
#[cfg(target_os = "linux")]
fn its_nodes_do_not_outlive_a_demo_that_was_killed() {
    let mut demo = start();
    demo.running.signal(Signal::KILL);
    demo.running.code();
    // Orphans are waited for by whoever takes them in; one that is not is no running process all the same.
    let runs = |pid: &Pid| {
        let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let stat = std::fs::read_to_string(stat).unwrap_or_default();
        let state = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.trim().to_owned());
        state.is_some_and(|state| !state.starts_with('Z'))
    };
    until("the end of its nodes", || {
        (!demo.pids.iter().any(runs)).then_some(())
    });
}
