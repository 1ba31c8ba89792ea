//! A real proxy on free ports, from the file that we ship.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::harness::cluster::Cluster;
use crate::harness::peer::get;
use crate::harness::program::{Program, tool};
use crate::harness::{eventually, two_free_ports};

/// Which of them.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Haproxy,
    Nginx,
}

/// See the module.
pub struct Proxy {
    /// Port of listeners.
    pub listeners: u16,
    /// Port of sources; the next one is that of Shoutcast v1.
    pub sources: u16,
    _program: Program,
    _folder: TempDir,
}

impl Proxy {
    /// Before a cluster of two relays, with timeouts of 4 s; ready when this returns.
    pub async fn start(kind: Kind, cluster: &Cluster) -> Self {
        Self::start_with(kind, cluster, "4s").await
    }

    /// The same with other timeouts; 75 s are those of the files.
    pub async fn start_with(kind: Kind, cluster: &Cluster, patience: &str) -> Self {
        let (listeners, sources) = (two_free_ports(), two_free_ports());
        let folder = tempfile::tempdir().unwrap();
        let nodes = [
            cluster.primary.port,
            cluster.relays[0].port,
            cluster.relays[1].port,
        ];
        let program = match kind {
            Kind::Haproxy => haproxy(folder.path(), nodes, (listeners, sources), patience),
            Kind::Nginx => nginx(folder.path(), nodes, (listeners, sources), patience),
        };
        let proxy = Self {
            listeners,
            sources,
            _program: program,
            _folder: folder,
        };
        eventually("the proxy reaches a node", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", listeners))
                .await
                .ok()?;
            (get(listeners, "/health").await.0.status == 200).then_some(())
        })
        .await;
        proxy
    }
}

/// The shipped file with each of `changes` made, which must all be there.
fn shipped(file: &str, changes: &[(&str, String)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(file);
    let mut text = fs::read_to_string(path).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{file} has no `{from}`");
        text = text.replace(from, to);
    }
    text
}

fn haproxy(
    folder: &Path,
    nodes: [u16; 3],
    (listeners, sources): (u16, u16),
    patience: &str,
) -> Program {
    let mut changes = vec![
        ("timeout client 75s", format!("timeout client {patience}")),
        ("timeout server 75s", format!("timeout server {patience}")),
    ];
    if !rustix::process::geteuid().is_root() {
        // As the file says of these lines.
        changes.push(("    user haproxy\n    group haproxy\n", String::new()));
    }
    let file = folder.join("haproxy.cfg");
    fs::write(&file, shipped("haproxy/haproxy.cfg", &changes)).unwrap();
    let mut command = tool("haproxy", "haproxy");
    command.arg("-db").arg("-f").arg(file);
    for (name, port) in [
        ("PRIMARY", nodes[0]),
        ("RELAY_1", nodes[1]),
        ("RELAY_2", nodes[2]),
        ("LISTENERS", listeners),
        ("SOURCES", sources),
        ("SOURCES_V1", sources + 1),
    ] {
        command.env(name, format!("127.0.0.1:{port}"));
    }
    Program::start(command)
}

fn nginx(
    folder: &Path,
    nodes: [u16; 3],
    (listeners, sources): (u16, u16),
    patience: &str,
) -> Program {
    let changes = [
        ("10.0.0.10:8000", format!("127.0.0.1:{}", nodes[0])),
        ("10.0.0.11:8000", format!("127.0.0.1:{}", nodes[1])),
        ("10.0.0.12:8000", format!("127.0.0.1:{}", nodes[2])),
        ("listen 80;", format!("listen 127.0.0.1:{listeners};")),
        ("listen 8010;", format!("listen 127.0.0.1:{sources};")),
        ("listen 8011;", format!("listen 127.0.0.1:{};", sources + 1)),
        ("timeout 75s", format!("timeout {patience}")),
    ];
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    assert!(
        module.exists(),
        "no nginx with streams: install Debian's package `libnginx-mod-stream`"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, shipped("nginx/nginx.conf", &changes)).unwrap();
    let mut command = tool("nginx", "nginx");
    let pid = folder.join("pid");
    command
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(file)
        .arg("-e")
        .arg("stderr");
    command
        .arg("-g")
        .arg(format!("daemon off; pid {};", pid.display()));
    Program::start(command)
}
