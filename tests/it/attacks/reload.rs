//! Reloads: what they change, what they name, what they refuse; and that a storm of them costs no listener a byte.

use std::fs;

use rustix::process::Signal;

use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::get;
use crate::harness::source::{Source, listen, off_air, on_air};
use crate::harness::tls::Certificate;
use crate::harness::tone::{self, FRAME};
use crate::harness::under_attack::{MOUNT, UnderAttack};

/// Writes the settings file of a node, whole, as editors do.
fn write(node: &Node, yaml: &str) {
    let file = node.folder().join("relayctl.yaml");
    let fresh = file.with_extension("fresh");
    fs::write(&fresh, yaml).unwrap();
    fs::rename(&fresh, &file).unwrap();
}

async fn judged(node: &Node) -> f64 {
    node.metric("relayctl_reloads_total", "").await
}

/// What the log says from `begin` on, once that holds `words`.
async fn says(node: &Node, begin: usize, words: &str) -> String {
    eventually(&format!("the log says {words}"), async || {
        let log = node.log()[begin..].to_owned();
        log.contains(words).then_some(log)
    })
    .await
}

/// Gives the node other settings, and waits until its log says `words`; what it said. The file is watched; one that
/// is as before is read again at a signal.
async fn reload(node: &Node, yaml: &str, words: &str) -> String {
    let begin = node.log().len();
    let before = fs::read_to_string(node.folder().join("relayctl.yaml")).unwrap();
    match before.trim() == yaml.trim() {
        true => node.signal(Signal::HUP),
        false => write(node, yaml),
    }
    says(node, begin, words).await
}

#[tokio::test]
async fn a_storm_of_reloads_costs_no_listener_a_byte() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    for turn in 0..40 {
        // Every other file is refused.
        write(
            &scene.node,
            &match turn % 4 {
                0 => format!("hold: {}s\nforget: {}s\n", 45 + turn, 5 + turn),
                1 => "no-such-key: 1\n".to_owned(),
                2 => "fanout: {max_delay: 500ms}\nburst: {bytes: 32KiB}\n".to_owned(),
                _ => "kubernetes: {deletion_cost: true}\n".to_owned(),
            },
        );
        let before = judged(&scene.node).await;
        scene.node.signal(Signal::HUP);
        eventually("one more is judged", async || {
            (judged(&scene.node).await > before).then_some(())
        })
        .await;
    }
    let (_, report) = scene.finish("40 reloads, half of them refused").await;
    assert!(report.peak_mib < report.first_mib + 64, "{report:?}");
    assert!(report.peak_descriptors < 400, "{report:?}");
}

#[tokio::test]
async fn foreign_upstreams_come_and_go_with_the_settings() {
    let other = Plan::primary().start().await;
    let _source = Source::start(&other, MOUNT).await;
    let node = Plan::primary().yaml("hold: 1s").start().await;
    let entry = format!(
        "hold: 1s\nforget: 3s\nrelay:\n  - url: {}{MOUNT}\n",
        other.url()
    );
    let wanted = format!("{entry}    mount: /new.mp3\n");
    reload(&node, &wanted, "keys=\"forget, relay\"").await;
    on_air(node.port, "/new.mp3").await;
    let (mut listener, _) = listen(node.port, "/new.mp3").await;
    tone::run(&listener.exact(100 * FRAME).await);
    // Another name for the same stream: the old one ends when its hold is over.
    let wanted = format!("{entry}    mount: /newer.mp3\n    on_demand: true\n");
    reload(&node, &wanted, "keys=\"relay\"").await;
    off_air(node.port, "/new.mp3").await;
    let (mut listener, _) = listen(node.port, "/newer.mp3").await;
    tone::run(&listener.exact(100 * FRAME).await);
    reload(&node, "hold: 1s\n", "keys=\"forget, relay\"").await;
    off_air(node.port, "/newer.mp3").await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named_each_time_and_nothing_of_it_is_taken() {
    let node = Plan::primary().start().await;
    let yaml = "log_format: json\nfanout: {threads: 3}\nicecast: {program: other}\n";
    let keys = "keys=\"fanout.threads, log_format, icecast.program\"";
    for words in [keys, "changed=false"] {
        let log = reload(&node, yaml, words).await;
        for key in ["log_format", "fanout.threads", "icecast.program"] {
            let line = format!("this setting takes effect at the next start key=\"{key}\"");
            assert!(log.contains(&line), "{key}: {log}");
        }
    }
    let keys = "keys=\"hold, fanout.threads, log_format, icecast.program\"";
    let log = reload(&node, "hold: 44s\n", keys).await;
    assert!(!log.contains("at the next start"), "{log}");
    reload(&node, "hold: 44s\n", "changed=false").await;
}

#[tokio::test]
async fn what_the_next_start_refuses_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = Plan::primary().start().await;
    let away = folder.path().join("away/access.log");
    let away = format!("access_log: {{path: {}}}\n", away.display());
    for (yaml, words) in [
        ("kubernetes: {deletion_cost: true}\n", "pod"),
        ("kubernetes: {secret: radio}\n", "pod"),
        (
            "engine: icecast\nicecast: {program: no-such-icecast}\n",
            "`no-such-icecast` is not installed",
        ),
        ("primary: http://127.0.0.1:9\n", "names a primary"),
        (&away, "away/access.log"),
    ] {
        let log = reload(&node, yaml, words).await;
        assert!(log.contains("the old settings stay"), "{yaml}: {log}");
    }
    let relay = Plan::relay(&node).start().await;
    for (yaml, words) in [
        ("primary_ca: /nonexistent\n", "/nonexistent"),
        ("pull: {mounts: ['[']}\n", "is no glob"),
    ] {
        let log = reload(&relay, yaml, words).await;
        assert!(log.contains("the old settings stay"), "{yaml}: {log}");
    }
}

async fn carries(relay: &Node, mount: &str, times: f64) {
    eventually(&format!("{mount} is there {times} times"), async || {
        let labels = format!("mount=\"{mount}\"");
        let up = relay.metric("relayctl_source_up", &labels).await;
        (up == times).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_relay_takes_another_token_and_other_mounts() {
    let primary = Plan::primary().start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "wrong\n").unwrap();
    let url = primary.url();
    let relay = Plan::joining_at(&url, &format!("@{}", token.display()))
        .yaml("pull: {mounts: ['/a.*']}")
        .start()
        .await;
    let _a = Source::start(&primary, "/a.mp3").await;
    let _b = Source::start(&primary, "/b.mp3").await;
    says(&relay, 0, "not joined yet").await;
    // Nobody says anything: the file is watched.
    fs::write(&token, primary.secret("join-token")).unwrap();
    carries(&relay, "/a.mp3", 1.0).await;
    says(&relay, 0, "keys=\"token\"").await;
    let only_b = "pull: {mounts: ['/b.*']}\n";
    reload(&relay, only_b, "keys=\"pull.mounts\"").await;
    carries(&relay, "/b.mp3", 1.0).await;
    carries(&relay, "/a.mp3", 0.0).await;
    // Who listens keeps the mount that from now on is fetched only for listeners.
    let (mut listener, _) = listen(relay.port, "/b.mp3").await;
    let mut heard = listener.exact(50 * FRAME).await;
    let on_demand = "pull: {on_demand: true}\n";
    reload(&relay, on_demand, "keys=\"pull.mounts, pull.on_demand\"").await;
    heard.extend(listener.exact(500 * FRAME).await);
    tone::run(&heard);
    let (mut other, _) = listen(relay.port, "/a.mp3").await;
    tone::run(&other.exact(50 * FRAME).await);
}

#[tokio::test]
async fn a_relay_takes_another_authority_for_its_primary() {
    let (certificate, other) = (Certificate::new(), Certificate::new());
    let primary = Plan::primary().yaml(&certificate.yaml()).start().await;
    let _source = Source::start(&primary, MOUNT).await;
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    fs::copy(other.cert(), &authority).unwrap();
    let url = format!("https://localhost:{}", primary.port);
    let relay = Plan::joining_at(&url, &primary.secret("join-token"))
        .yaml(&format!("primary_ca: {}", authority.display()))
        .start()
        .await;
    says(&relay, 0, "not joined yet").await;
    // The file is watched, and clients that were made before judge by it.
    fs::copy(certificate.cert(), &authority).unwrap();
    says(&relay, 0, "keys=\"primary_ca\"").await;
    carries(&relay, MOUNT, 1.0).await;
}

#[tokio::test]
async fn a_changed_password_reaches_the_rendered_files() {
    let node = Plan::primary().start().await;
    let file = node.data_dir().join("rendered/icecast.xml");
    let holds = async |words: &str| {
        eventually(&format!("the file has {words}"), async || {
            let text = fs::read_to_string(&file).unwrap_or_default();
            text.contains(words).then_some(())
        })
        .await;
    };
    holds(&node.source_password()).await;
    let yaml = "source_password: another-one\n";
    let log = reload(&node, yaml, "keys=\"source_password\"").await;
    assert!(!log.contains("another-one"), "{log}");
    holds("another-one").await;
}

#[tokio::test]
async fn a_certificate_out_of_its_dates_does_not_replace_a_good_one() {
    let certificate = Certificate::new();
    let node = Plan::primary().yaml(&certificate.yaml()).start().await;
    let tunnel = certificate.tunnel(node.port).await;
    let serves = async || assert_eq!(get(tunnel, "/health").await.0.status, 200);
    serves().await;
    let (good, key) = (
        fs::read(certificate.cert()).unwrap(),
        fs::read(certificate.key()).unwrap(),
    );
    let mut begin = 0;
    for (from, until, words) in [
        (2020, 2021, "ended at 2021-01-01T00:00:00.000Z"),
        (2090, 2091, "is not valid before 2090-01-01T00:00:00.000Z"),
    ] {
        certificate.replace_valid(from, until);
        let log = says(&node, begin, words).await;
        assert!(log.contains("`tls.cert`"), "{log}");
        serves().await;
        begin = node.log().len();
    }
    // An empty file, a chain in the wrong order, a file that is away in the middle of a rotation.
    fs::write(certificate.cert(), "").unwrap();
    says(&node, begin, "holds no certificate").await;
    fs::write(certificate.key(), &key).unwrap();
    let other = fs::read(Certificate::new().cert()).unwrap();
    fs::write(certificate.cert(), [other, good.clone()].concat()).unwrap();
    says(&node, begin, "in place 2").await;
    fs::remove_file(certificate.key()).unwrap();
    says(&node, begin, "cannot read").await;
    serves().await;
    let refused = node.metric("relayctl_reloads_total", "refused").await;
    assert!(refused >= 5.0, "{refused}");
    fs::write(certificate.key(), &key).unwrap();
    fs::write(certificate.cert(), &good).unwrap();
    let begin = node.log().len();
    says(&node, begin, "settings reloaded").await;
    serves().await;
    // Where there is nothing good to lose, it is taken and warned of, as at a start.
    certificate.replace_valid(2020, 2021);
    let bad = Plan::primary().yaml(&certificate.yaml()).start().await;
    says(&bad, 0, "days ago: players refuse it").await;
    certificate.replace_valid(2021, 2022);
    says(&bad, 0, "keys=\"tls.cert\"").await;
}
