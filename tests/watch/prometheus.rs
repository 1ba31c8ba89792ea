//! A real Prometheus over a real cluster, from the file that we ship but for its targets and its pace.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::cluster::Cluster;
use crate::harness::eventually;
use crate::harness::peer::ask;
use crate::harness::program::{Program, tool};
use crate::harness::two_free_ports;

/// See the module.
pub struct Prometheus {
    port: u16,
    _program: Program,
    _folder: TempDir,
}

/// A file of `deploy/`.
pub fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(path)
}

impl Prometheus {
    /// Scrapes every node each second; every target is up when this returns.
    pub async fn start(cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = fs::read_to_string(deploy("prometheus/prometheus.yml")).unwrap();
        let ports = [
            cluster.primary.port,
            cluster.relays[0].port,
            cluster.relays[1].port,
        ];
        let targets = ["10.0.0.10:8000", "10.0.0.11:8000", "10.0.0.12:8000"];
        for (target, port) in targets.iter().zip(ports) {
            assert!(text.contains(target), "{target}");
            text = text.replace(target, &format!("127.0.0.1:{port}"));
        }
        assert!(text.contains("interval: 15s"));
        text = text.replace("interval: 15s", "interval: 1s");
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, text).unwrap();
        fs::copy(
            deploy("prometheus/relayctl.rules.yml"),
            folder.path().join("relayctl.rules.yml"),
        )
        .unwrap();
        let port = two_free_ports();
        let mut command = tool("prometheus", "prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let prometheus = Self {
            port,
            _program: Program::start(command),
            _folder: folder,
        };
        eventually("Prometheus scrapes every node", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .ok()?;
            let up = prometheus.query("sum(up{job=\"relayctl\"})").await.ok()?;
            (up.first()?["value"][1] == "3").then_some(())
        })
        .await;
        prometheus
    }

    /// The series that `expression` gives now, or why it gives none.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let answer = self
            .get(&format!("query?query={}", encode(expression)))
            .await;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"]["result"]
                .as_array()
                .cloned()
                .unwrap_or_default()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// The groups of rules as Prometheus has them.
    pub async fn rules(&self) -> Vec<Value> {
        let answer = self.get("rules").await;
        answer["data"]["groups"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    async fn get(&self, path: &str) -> Value {
        let request =
            format!("GET /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let (_, body) = ask(self.port, request).await;
        serde_json::from_str(&body).unwrap_or_default()
    }
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
