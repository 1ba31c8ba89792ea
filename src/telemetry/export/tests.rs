use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::help::{COUNTERS, EVENTS, HISTOGRAMS, describe_events};
use super::*;

/// What `promtool check metrics` says; empty is praise.
fn promtool(text: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: install the Debian package `prometheus`");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).unwrap()
}

fn sample() -> Scrape {
    Scrape {
        version: "0.1.0".into(),
        role: "primary".into(),
        node: "head".into(),
        started_unix_seconds: 1_795_235_880.0,
        certificate_not_after: Some(1_826_771_880),
        listeners_limit: 100,
        tasks: 7,
        bandwidth_limit_bits: 8000,
        draining: false,
        mounts: vec![
            MountSample {
                mount: "/a \"quoted\" é".into(),
                listeners: 3,
                audience: 7,
                totals: Totals {
                    sent_bytes: 10,
                    slow_jumps: 2,
                    ..Totals::default()
                },
                replaced: Some(false),
                now: Some(MountNow {
                    up: true,
                    silent: Some(false),
                    ring_bytes: 960_000,
                    listen_url: "http://127.0.0.1:8000/a".into(),
                    server_type: "audio/mpeg".into(),
                    stream_start_unix_seconds: 1_795_235_881.0,
                }),
            },
            MountSample {
                mount: "/gone".into(),
                totals: Totals {
                    received_bytes: 7,
                    ..Totals::default()
                },
                ..MountSample::default()
            },
        ],
        fanout: vec![("plain", 0), ("io_uring", 2)],
        node_states: vec![("up", 1), ("dead", 0)],
        nodes: vec![NodeSample {
            node: "edge-1".into(),
            listeners: 5,
            listeners_limit: Some(50),
            heartbeat_age_seconds: Some(0.5),
            cpu_ratio: Some(0.25),
            ..NodeSample::default()
        }],
        picks: vec![("edge-1".into(), "redirect", 1)],
        engine: Some(EngineSample {
            kind: "icecast".into(),
            up: true,
            restarts: 1,
            mounts: vec![("/a".into(), 2, Some(3), None)],
        }),
    }
}

/// The two parts as one page, counted into a recorder of the test's own.
fn page(scrape: &Scrape) -> String {
    let counted = recorder();
    metrics::with_local_recorder(&counted, || {
        describe_events();
        crate::telemetry::refuse("mount-unknown");
        metrics::histogram!(FIRST_BYTE).record(std::time::Duration::from_millis(1));
        metrics::histogram!(PICK).record(std::time::Duration::from_micros(3));
    });
    counted.handle().render() + &render_state(scrape)
}

#[test]
fn the_page_holds_every_series_and_promtool_likes_it() {
    let text = page(&sample());
    for line in [
        "relayctl_listeners{mount=\"/a \\\"quoted\\\" é\"} 3",
        "relayctl_sent_bytes_total{mount=\"/a \\\"quoted\\\" é\"} 10",
        "relayctl_received_bytes_total{mount=\"/gone\"} 7",
        "relayctl_slow_listeners_total{mount=\"/gone\",action=\"stalled\"} 0",
        "relayctl_nodes{state=\"dead\"} 0",
        "relayctl_node_listeners{node=\"edge-1\"} 5",
        "relayctl_node_listeners_limit{node=\"edge-1\"} 50",
        "relayctl_node_heartbeat_age_seconds{node=\"edge-1\"} 0.5",
        "relayctl_node_cpu_ratio{node=\"edge-1\"} 0.25",
        "relayctl_refusals_total{reason=\"mount-unknown\"} 1",
        "relayctl_picks_total{node=\"edge-1\",mode=\"redirect\"} 1",
        "relayctl_first_byte_seconds_bucket{le=\"0.001\"} 1",
        "relayctl_first_byte_seconds_count 1",
        "relayctl_pick_seconds_bucket{le=\"0.0000025\"} 0",
        "relayctl_access_log_dropped_total 0",
        "relayctl_mounts 1",
        "relayctl_fallback_playing{mount=\"/a \\\"quoted\\\" é\"} 0",
        "icecast_up 1",
        "icecast_listeners{listenurl=\"http://127.0.0.1:8000/a\",server_type=\"audio/mpeg\"} 7",
        "relayctl_bandwidth_limit_bytes 1000",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    assert!(!text.contains("relayctl_listeners{mount=\"/gone\"}"));
    assert!(!text.contains("relayctl_node_bandwidth_bits{"));
    assert_eq!(promtool(&text), "");
}

#[test]
fn no_family_comes_twice_and_each_has_its_help() {
    let text = page(&sample());
    let of = |prefix: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
        lines
            .filter_map(|rest| rest.split(' ').next())
            .map(str::to_owned)
            .collect()
    };
    let (types, helps) = (of("# TYPE "), of("# HELP "));
    let unique: BTreeSet<&String> = types.iter().collect();
    assert_eq!(unique.len(), types.len(), "{types:?}");
    assert!(types.len() > 25);
    assert_eq!(unique, helps.iter().collect());
}

#[test]
fn the_contracts_bits_are_all_that_promtool_minds() {
    let mut scrape = sample();
    scrape.nodes[0].bandwidth_bits = Some(1e6);
    scrape.nodes[0].bandwidth_bits_limit = Some(2e6);
    scrape.nodes[0].cpu_ratio_limit = Some(0.8);
    let said = promtool(&page(&scrape));
    let minds: Vec<&str> = said.lines().collect();
    assert_eq!(
        minds,
        [
            "relayctl_node_bandwidth_bits use base unit \"bytes\" instead of \"bits\"",
            "relayctl_node_bandwidth_bits_limit use base unit \"bytes\" instead of \"bits\"",
        ]
    );
}

#[test]
fn what_is_gone_leaves_no_gauge() {
    let mut scrape = sample();
    assert!(render_state(&scrape).contains("edge-1"));
    scrape.nodes.clear();
    scrape.picks.clear();
    scrape.mounts[0].now = None;
    let text = render_state(&scrape);
    assert!(!text.contains("relayctl_gap_seconds{"), "{text}");
    assert!(!text.contains("edge-1") && !text.contains("icecast_listeners"));
    assert!(text.contains("relayctl_sent_bytes_total"));
}

#[test]
fn the_recorder_of_the_process_is_installed_once() {
    assert!(install() && install());
    upkeep();
    let text = render(&sample());
    assert!(text.contains("relayctl_access_log_dropped_total"));
    assert!(text.contains("relayctl_build_info"));
}

/// Every name that our sources count under a literal, with where it is.
fn counted_names(folder: &std::path::Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            counted_names(&path, found);
            continue;
        }
        if path.extension().is_none_or(|ending| ending != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for macro_name in ["counter!(", "histogram!("] {
            let calls = text.split(macro_name).skip(1);
            let literals = calls.filter_map(|rest| rest.trim_start().strip_prefix('"'));
            let names = literals.filter_map(|rest| rest.split('"').next());
            found.extend(names.map(|name| (name.to_owned(), path.display().to_string())));
        }
    }
}

/// A series of the process's own recorder never ends, so none may name a mount or a node.
#[test]
fn what_is_counted_as_it_happens_names_no_mount_and_no_node() {
    let mut found = Vec::new();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    lasting_labels(&source, &mut found);
    assert!(found.len() > 5, "only {found:?}");
    for (label, place) in found {
        let allowed = [
            "reason", "cause", "door", "protocol", "mode", "outcome", "state",
        ];
        assert!(allowed.contains(&label.as_str()), "`{label}` in {place}");
    }
}

/// The labels of all series outside this room, with where each is.
fn lasting_labels(folder: &std::path::Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lasting_labels(&path, found);
            continue;
        }
        if path.extension().is_none_or(|ending| ending != "rs") {
            continue;
        }
        if path.ends_with("telemetry/export.rs") || path.ends_with("telemetry/export/tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for macro_name in ["counter!(", "gauge!(", "histogram!("] {
            for call in text.split(macro_name).skip(1) {
                let call = call.split(';').next().unwrap();
                let labels = call.split("=>");
                let names = labels.filter_map(|before| before.trim_end().strip_suffix('"'));
                let names = names.filter_map(|name| name.rsplit('"').next());
                found.extend(names.map(|name| (name.to_owned(), path.display().to_string())));
            }
        }
    }
}

#[test]
fn whatever_is_counted_anywhere_has_its_help() {
    let mut found = Vec::new();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    counted_names(&source, &mut found);
    found.retain(|(name, _)| name.starts_with("relayctl_"));
    assert!(!found.is_empty());
    for (name, place) in found {
        let events = EVENTS.iter().chain(&HISTOGRAMS).map(|(known, _)| *known);
        let known = events.chain(COUNTERS.iter().map(|(known, ..)| *known));
        assert!(
            known.into_iter().any(|known| known == name),
            "`{name}` of {place} has no help text: add it to EVENTS in telemetry/export/help.rs"
        );
    }
}
