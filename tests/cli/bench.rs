//! The bench measures a primary of its own, finds every byte in place, and leaves nothing behind.

use rustix::process::Signal;
use serde_json::Value;
use tempfile::tempdir;

use crate::harness::{Running, run, until};

/// Temporary folders of a bench in `home`.
fn folders(home: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(home).unwrap().flatten();
    let ours = |name: &str| name.starts_with("relayctl-bench-");
    entries
        .filter(|entry| ours(&entry.file_name().to_string_lossy()))
        .count()
}

#[test]
fn fifty_listeners_hear_every_byte() {
    let home = tempdir().unwrap();
    let words = [
        "bench",
        "--listeners=50",
        "--seconds=3",
        "--metadata",
        "--churn=5",
        "--against=floor",
        "-o=json",
    ];
    let ended = run(home.path(), &[], &words);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let servers = report["servers"].as_array().unwrap();
    let names: Vec<&str> = servers
        .iter()
        .filter_map(|s| s["server"].as_str())
        .collect();
    assert_eq!(names, ["relayctl", "floor"]);
    for server in servers {
        let figures = &server["runs"][0];
        for (key, wanted) in [
            ("checked", 50),
            ("waiting", 0),
            ("failed", 0),
            ("lost", 0),
            ("gaps", 0),
            ("corrupt_bytes", 0),
        ] {
            assert_eq!(figures[key], wanted, "{key}: {figures:#}");
        }
        for key in [
            "bytes",
            "cpu_seconds",
            "cpu_seconds_per_gigabyte",
            "cpu_micros_per_listener_second",
            "bytes_per_send",
            "first_byte_p50_ms",
            "first_byte_p99_ms",
            "delay_p50_ms",
            "delay_p99_ms",
        ] {
            assert!(
                figures[key].as_f64().is_some_and(|value| value > 0.0),
                "{key}: {figures:#}"
            );
        }
        assert!(figures["memory_per_listener"].is_number(), "{figures:#}");
        assert_eq!(figures["stalls"], 0, "{figures:#}");
    }
    assert!(
        report["ratios"][0]["cpu_ours_to_theirs"].is_number(),
        "{report:#}"
    );
    assert!(
        report["machine"]["cores"]
            .as_u64()
            .is_some_and(|cores| cores > 0)
    );
    assert_eq!(folders(home.path()), 0, "it left files");
}

#[test]
fn redirects_are_asked_for_in_the_same_way_of_all_three() {
    let home = tempdir().unwrap();
    let words = [
        "bench",
        "--redirects",
        "--relays=2",
        "--rate=40",
        "--connections=4",
        "--seconds=1",
        "--against=haproxy,floor",
        "-o=json",
    ];
    let ended = run(home.path(), &[], &words);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let servers = report["servers"].as_array().unwrap();
    for (server, (name, places)) in
        servers
            .iter()
            .zip([("relayctl", 2), ("haproxy", 1), ("floor", 1)])
    {
        assert_eq!(server["server"], name);
        for way in ["keep_alive", "one_each"] {
            let figures = &server[way]["runs"][0];
            let redirects = figures["redirects"].as_u64().unwrap();
            assert!(redirects >= 20, "{name} {way}: {figures:#}");
            for (key, wanted) in [("other_answers", 0), ("errors", 0), ("places", places)] {
                assert_eq!(figures[key], wanted, "{name} {way} {key}: {figures:#}");
            }
        }
    }
    assert_eq!(folders(home.path()), 0, "it left files");
}

#[test]
fn an_interrupt_ends_it_and_all_that_it_started() {
    let words = ["bench", "--listeners=20", "--seconds=600"];
    let mut running = Running::start(tempdir().unwrap(), &[], &words);
    let home = running.home.path().to_owned();
    let pid = until("the node", || {
        let folder = std::fs::read_dir(&home).unwrap().flatten().next()?;
        let text = std::fs::read_to_string(folder.path().join("bench-0/pid")).ok()?;
        text.trim().parse::<u32>().ok()
    });
    running.signal(Signal::INT);
    assert_eq!(running.code(), 1);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(folders(&home), 0, "it left files");
}

#[test]
fn it_refuses_servers_elsewhere_and_rates_that_are_none() {
    let home = tempdir().unwrap();
    for (words, said) in [
        (
            ["bench", "--url=http://192.0.2.1:8000/a.mp3"],
            "--i-own-this-server",
        ),
        (
            ["bench", "--url=https://127.0.0.1/a.mp3"],
            "speaks http only",
        ),
        (["bench", "--url=http://127.0.0.1:1"], "names no mount"),
        (["bench", "--bitrate=99kbit"], "is no rate of MPEG audio"),
    ] {
        let ended = run(home.path(), &[], &words);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(said), "{ended:?}");
    }
}
