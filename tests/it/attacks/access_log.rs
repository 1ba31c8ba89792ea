//! An access log that cannot be written, in every way that a disk, an operator or a log collector makes it so.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use crate::harness::eventually;
use crate::harness::node::{Node, Plan, relayctl};
use crate::harness::peer::get;
use crate::harness::source::{Source, listen, listen_with};
use crate::harness::tone::{self, FRAME};
use crate::harness::under_attack::{MOUNT, UnderAttack};

const DROPPED: &str = "relayctl_access_log_dropped_total";
const BROKE: &str = "trying again every second";
const BACK: &str = "the access log is written again";

/// A listener of this name comes and goes.
async fn visit(port: u16, name: &str) {
    let agent = format!("User-Agent: {name}\r\n");
    let (mut peer, head) = listen_with(port, MOUNT, &agent).await;
    assert_eq!(head.status, 200);
    peer.exact(1000).await;
}

/// Listeners come and go until the line of one of them is in the file.
async fn written(port: u16, file: &Path, name: &str) {
    eventually(&format!("a line of {name} is written"), async || {
        visit(port, name).await;
        let text = fs::read_to_string(file).unwrap_or_default();
        text.contains(name).then_some(())
    })
    .await;
}

async fn dropped(node: &Node, least: f64) {
    eventually(&format!("{least} lines are counted as lost"), async || {
        let count = node.metric(DROPPED, "").await;
        (count >= least).then_some(())
    })
    .await;
}

fn logging_to(file: &Path) -> Plan {
    Plan::primary().yaml(&format!("access_log:\n  path: {}", file.display()))
}

fn times(log: &str, words: &str) -> usize {
    log.matches(words).count()
}

/// `link` leads to `target` from one moment to the next.
fn point(link: &Path, target: &Path) {
    let fresh = link.with_extension("fresh");
    symlink(target, &fresh).unwrap();
    fs::rename(&fresh, link).unwrap();
}

#[tokio::test]
async fn a_full_disk_costs_lines_and_no_byte_of_audio() {
    let folder = tempfile::tempdir().unwrap();
    let (link, real) = (folder.path().join("log"), folder.path().join("real"));
    point(&link, Path::new("/dev/full"));
    let scene = UnderAttack::primary(logging_to(&link)).await;
    for _ in 0..20 {
        visit(scene.node.port, "unseen").await;
    }
    dropped(&scene.node, 20.0).await;
    // Away altogether for a while: the log's folder was unmounted.
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    visit(scene.node.port, "unseen").await;
    dropped(&scene.node, 21.0).await;
    fs::remove_dir(&link).unwrap();
    point(&link, &real);
    written(scene.node.port, &real, "seen").await;
    let (node, report) = scene.finish("an access log on a full disk").await;
    assert!(report.peak_mib < report.first_mib + 64, "{report:?}");
    // What was tried in vain holds nothing open.
    assert!(report.peak_descriptors < 200, "{report:?}");
    let log = node.log();
    assert_eq!((times(&log, BROKE), times(&log, BACK)), (1, 1), "{log}");
    let text = fs::read_to_string(&real).unwrap();
    assert!(!text.contains("unseen"), "{text}");
}

#[tokio::test]
async fn a_rotation_goes_on_also_where_the_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let mut node = logging_to(&file).start().await;
    let _source = Source::start(&node, MOUNT).await;
    written(node.port, &file, "first").await;
    let moved = folder.path().join("log.1");
    fs::rename(&file, &moved).unwrap();
    node.signal(Signal::HUP);
    written(node.port, &file, "second").await;
    fs::write(node.folder().join("relayctl.yaml"), "no-such-key: 1\n").unwrap();
    fs::rename(&file, &moved).unwrap();
    node.signal(Signal::HUP);
    written(node.port, &file, "third").await;
    let log = node.log();
    assert!(log.contains("reload refused"), "{log}");
    // Removed without a word, and with it what was in it.
    fs::remove_file(&file).unwrap();
    written(node.port, &file, "fourth").await;
    assert!(node.terminate().await.success());
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let mut node = logging_to(&pipe).start().await;
    let _source = Source::start(&node, MOUNT).await;
    visit(node.port, "unheard").await;
    dropped(&node, 1.0).await;
    let log = node.log();
    assert!(log.contains("is a pipe that nobody reads"), "{log}");
    let out = folder.path().join("out");
    let mut reader = std::process::Command::new("cat")
        .arg(&pipe)
        .stdout(fs::File::create(&out).unwrap())
        .spawn()
        .unwrap();
    written(node.port, &out, "heard").await;
    reader.kill().unwrap();
    reader.wait().unwrap();
    let before = node.metric(DROPPED, "").await;
    visit(node.port, "unheard").await;
    dropped(&node, before + 1.0).await;
    assert!(node.terminate().await.success());
}

/// A node whose standard output and error are not files. Ended by its own id when the test is over.
struct Bare {
    child: Child,
    port: u16,
    password: String,
}

impl Bare {
    /// Starts one and lets its standard output go once it is ready.
    fn start(folder: &Path, stderr: impl Into<Stdio>, level: &str) -> Self {
        let data = folder.join("data");
        fs::create_dir(&data).unwrap();
        let mut command = relayctl();
        command.args(["primary", "--bind", "127.0.0.1:0", "--data-dir"]);
        command.arg(&data).env("RELAYCTL_LOG", level);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut ready).unwrap();
        let port = ready.trim_end().rsplit(':').next().unwrap();
        let password = fs::read_to_string(data.join("source-password")).unwrap();
        Self {
            child,
            port: port.parse().unwrap(),
            password: password.trim_end().to_owned(),
        }
    }

    async fn source(&self) -> Source {
        Source::put(self.port, MOUNT, &self.password, 0).await
    }

    /// Waits until so much is counted.
    async fn counted(&self, name: &str, least: f64) {
        eventually(&format!("{name} is {least}"), async || {
            let (_, text) = get(self.port, "/metrics").await;
            let count = text.lines().find_map(|line| line.strip_prefix(name));
            let count: f64 = count?.trim().parse().ok()?;
            (count >= least).then_some(())
        })
        .await;
    }

    fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn standard_output_that_was_closed_is_survived_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let stderr = fs::File::create(folder.path().join("stderr")).unwrap();
    let mut node = Bare::start(folder.path(), stderr, "info");
    let _source = node.source().await;
    for _ in 0..3 {
        visit(node.port, "unseen").await;
    }
    node.counted(DROPPED, 3.0).await;
    assert!(node.runs());
    let log = fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert_eq!(times(&log, BROKE), 1, "{log}");
    assert!(log.contains("standard output"), "{log}");
}

const LOG_DROPPED: &str = "relayctl_log_dropped_total";

#[tokio::test]
async fn a_log_that_nobody_takes_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    // All that a pipe holds (pipe(7)): there is no room from the first line on.
    writer.write_all(&[b'x'; 64 * 1024]).unwrap();
    let mut node = Bare::start(folder.path(), writer, "info");
    let _source = node.source().await;
    let (mut listener, _) = listen(node.port, MOUNT).await;
    let mut heard = listener.exact(50 * FRAME).await;
    node.counted(LOG_DROPPED, 2.0).await;
    heard.extend(listener.exact(500 * FRAME).await);
    // Whoever read it has gone: writing to it is an error now.
    drop(reader);
    let _other = Source::put(node.port, "/other.mp3", &node.password, 0).await;
    for _ in 0..50 {
        visit(node.port, "somebody").await;
    }
    heard.extend(listener.exact(500 * FRAME).await);
    tone::run(&heard);
    assert_eq!(get(node.port, "/healthz").await.0.status, 200);
    assert!(node.runs());
}

#[tokio::test]
async fn a_log_on_a_full_disk_panics_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut node = Bare::start(folder.path(), full, "info");
    let _source = node.source().await;
    visit(node.port, "somebody").await;
    node.counted(LOG_DROPPED, 2.0).await;
    assert!(node.runs());
}
