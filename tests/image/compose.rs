//! `deploy/docker/compose.yml` by the real Compose: HAProxy in front, Prometheus that scrapes, Grafana's place.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::artefact::{engine, root};
use crate::docker::{Docker, said_by};
use crate::files::Files;
use crate::harness::peer::Peer;
use crate::harness::program::tool;
use crate::harness::within;
use crate::place::alone;
use crate::station::{hears, knock, source};

/// Prometheus scrapes each 15 s, HAProxy looks each 2 s, a container's health is asked each 10 s.
const SLOW: Duration = Duration::from_secs(120);

/// The three images of other people, under the names of the compose file, as their entry points are documented.
fn images(docker: &Docker) {
    let haproxy = Files::of_packages(&["haproxy"]);
    haproxy.image(
        docker,
        "haproxy:2.8",
        &[
            "USER 99:99",
            "CMD [\"/usr/sbin/haproxy\", \"-W\", \"-db\", \"-f\", \"/usr/local/etc/haproxy/haproxy.cfg\"]",
        ],
    );
    let prometheus = Files::of_packages(&["prometheus"]);
    prometheus.folder("prometheus", 0o777);
    prometheus.image(
        docker,
        "prom/prometheus:v2.53.0",
        &[
            "USER 65534:65534",
            "WORKDIR /prometheus",
            "ENTRYPOINT [\"/usr/bin/prometheus\"]",
            "CMD [\"--config.file=/etc/prometheus/prometheus.yml\", \"--storage.tsdb.path=/prometheus\"]",
        ],
    );
    let mut grafana = Files::of_packages(&["python3", "python3-yaml"]);
    grafana.add(Path::new("/usr/bin/python3"));
    grafana.file("grafana.py", include_str!("grafana.py"), 0o644);
    grafana.image(
        docker,
        "grafana/grafana:11.1.0",
        &[
            "USER 472:0",
            "ENTRYPOINT [\"/usr/bin/python3\", \"/grafana.py\"]",
        ],
    );
}

/// The compose file as an operator uses it.
struct Compose<'a>(&'a Docker);

impl Compose<'_> {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = tool("docker-compose", "docker-compose");
        command.env("DOCKER_HOST", self.0.host());
        command.env(
            "RELAYCTL_TOKEN",
            "f00dfeed0123456789abcdef0123456789abcdef01234567",
        );
        command.arg("--file");
        command.arg(root().join("deploy/docker/compose.yml"));
        command.args(["--project-name", "radio"]).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> String {
        said_by(&mut self.command(words))
    }

    fn container(&self, service: &str) -> String {
        self.run(&["ps", "--quiet", service])
    }
}

/// The JSON that a path gives.
async fn json(at: SocketAddr, path: &str) -> Option<Value> {
    let mut peer = Peer::connect_to(at).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: radio\r\nConnection: close\r\n\r\n");
    let (head, body) = peer.ask(request).await;
    (head.status == 200)
        .then(|| serde_json::from_str(&body).ok())
        .flatten()
}

/// The number that a query gives, by an address that speaks Prometheus' API.
async fn number(at: SocketAddr, before: &str, query: &str) -> Option<f64> {
    let encoded = percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC);
    let answer = json(at, &format!("{before}/api/v1/query?query={encoded}")).await?;
    answer["data"]["result"][0]["value"][1]
        .as_str()?
        .parse()
        .ok()
}

fn published(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A listener by HAProxy, and the relay that serves.
async fn listens() -> (Peer, String) {
    within(SLOW, "a relay plays through HAProxy", async || {
        let (mut peer, head) = knock(published(80)).await;
        let by = head.get("x-relayctl-node")?.to_owned();
        if head.status != 200 || by == "primary" {
            return None;
        }
        hears(&mut peer).await;
        Some((peer, by))
    })
    .await
}

#[test]
fn the_compose_file_makes_a_station_that_is_watched() {
    alone(async || {
        let docker = engine().await;
        images(&docker);
        let compose = Compose(&docker);
        compose.run(&["up", "--detach", "--no-build"]);
        for service in ["primary", "relay-1", "relay-2"] {
            docker.healthy(&compose.container(service)).await;
        }
        // The very command of the file's head.
        let show = [
            "exec",
            "-T",
            "primary",
            "/relayctl",
            "token",
            "show",
            "source",
        ];
        let password = compose.run(&show);
        for service in ["haproxy", "prometheus", "grafana"] {
            let container = compose.container(service);
            let restarts = docker.inspect(&container, "{{.RestartCount}}");
            assert_eq!(restarts, "0", "{service}: {}", docker.logs(&container));
        }
        within(SLOW, "HAProxy lets sources in", async || {
            let mut peer = Peer::connect_to(published(8010)).await;
            peer.send("GET /health HTTP/1.0\r\n\r\n").await;
            let line = peer.some().await;
            line.starts_with(b"HTTP/1.0 200").then_some(())
        })
        .await;
        let _source = source(published(8010), &password).await;
        let (mut listener, first) = listens().await;

        let prometheus = docker.address(&compose.container("prometheus"), 9090);
        within(SLOW, "Prometheus scrapes all three", async || {
            let up = number(prometheus, "", "sum(up{job=\"relayctl\"})").await?;
            (up == 3.0).then_some(())
        })
        .await;
        let rules = json(prometheus, "/api/v1/rules").await.unwrap();
        assert!(rules["data"]["groups"].as_array().unwrap().len() > 1);
        let shown = json(published(3000), "/api/dashboards/uid/relayctl").await;
        assert!(
            shown.unwrap()["dashboard"]["panels"]
                .as_array()
                .unwrap()
                .len()
                > 5
        );
        within(SLOW, "a listener in Grafana's data source", async || {
            let way = "/api/datasources/proxy/uid/prometheus";
            let sum = number(published(3000), way, "sum(relayctl_listeners)").await?;
            (sum >= 1.0).then_some(())
        })
        .await;

        // The relay that plays is killed: its listener is cut off, comes again, and hears the other one.
        let relays = ["relay-1", "relay-2"];
        let killed = *relays.iter().find(|name| **name == first).unwrap();
        docker.run(&["kill", &compose.container(killed)]);
        listener.rest().await;
        let (_listener, second) = listens().await;
        assert_ne!(first, second);
        compose.run(&["start", killed]);
        docker.healthy(&compose.container(killed)).await;
        within(SLOW, "Prometheus scrapes it again", async || {
            let up = number(prometheus, "", "sum(up{job=\"relayctl\"})").await?;
            (up == 3.0).then_some(())
        })
        .await;
        compose.run(&["down", "--volumes", "--timeout", "20"]);
        assert_eq!(docker.run(&["ps", "--all", "--quiet"]), "");
    });
}
