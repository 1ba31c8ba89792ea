//! What the Prometheus operator gets: the alarms of `deploy/prometheus`, word for word, and every node once.

use std::path::Path;

use serde_json::Value;

use super::rendered::{all, root};

/// How the kustomize component begins; the rules follow, two spaces in.
const HEAD: &str = "\
# Made from deploy/prometheus/relayctl.rules.yml: UPDATE_DOCS=1 cargo test --test deploy monitoring
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: relayctl
spec:
";

/// Writes the file where told to; fails where it is not what it must be.
fn is_made(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, text).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == text,
        "{} differs: UPDATE_DOCS=1 cargo test --test deploy monitoring",
        path.display()
    );
}

fn rules() -> String {
    std::fs::read_to_string(root().join("prometheus/relayctl.rules.yml")).unwrap()
}

#[test]
fn the_alarms_are_the_same_everywhere() {
    let rules = rules();
    let indented: String = rules
        .lines()
        .map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("  {line}\n"),
        })
        .collect();
    is_made(
        &root().join("kubernetes/components/monitoring/rules.yaml"),
        &format!("{HEAD}{indented}"),
    );
    is_made(&root().join("helm/relayctl/relayctl.rules.yml"), &rules);
    let plain: Value = serde_saphyr::from_str(&rules).unwrap();
    assert!(
        plain["groups"]
            .as_array()
            .is_some_and(|groups| groups.len() == 2)
    );
    let mut seen = 0;
    for manifests in all() {
        for rule in manifests.of_kind("PrometheusRule") {
            assert_eq!(rule["spec"], plain, "{}", manifests.name);
            seen += 1;
        }
    }
    assert_eq!(seen, 2);
}

/// Each workload's pods are met by exactly one Service that is scraped, under the port's name of the monitor.
#[test]
fn every_node_is_scraped_once() {
    let mut seen = 0;
    for manifests in all() {
        for monitor in manifests.of_kind("ServiceMonitor") {
            let wanted = monitor["spec"]["selector"]["matchLabels"]
                .as_object()
                .unwrap();
            let endpoint = &monitor["spec"]["endpoints"][0];
            let job = &endpoint["relabelings"][0];
            assert_eq!(job["targetLabel"], "job", "{}", manifests.name);
            assert!(
                job["replacement"]
                    .as_str()
                    .unwrap()
                    .starts_with("relayctl/")
            );
            for workload in manifests.workloads() {
                let labels = &workload["spec"]["template"]["metadata"]["labels"];
                let services = manifests.of_kind("Service").filter(|service| {
                    let own = &service["metadata"]["labels"];
                    let selector = service["spec"]["selector"].as_object().unwrap();
                    wanted.iter().all(|(key, value)| &own[key] == value)
                        && selector.iter().all(|(key, value)| &labels[key] == value)
                });
                let services: Vec<&Value> = services.collect();
                assert_eq!(services.len(), 1, "{}: {workload}", manifests.name);
                let ports = services[0]["spec"]["ports"].as_array().unwrap();
                assert!(ports.iter().any(|port| port["name"] == endpoint["port"]));
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 4);
}
