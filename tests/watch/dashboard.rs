//! Every query of the dashboard gives data, and none of the rules breaks.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::cluster::Cluster;
use crate::harness::peer::{Peer, get};
use crate::harness::source::Source;
use crate::harness::tone::FRAME;
use crate::harness::{address, eventually};
use crate::prometheus::{Prometheus, deploy};

fn dashboard() -> Value {
    let text = std::fs::read_to_string(deploy("grafana/relayctl.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Title and expression of each query.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap();
    let of = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().unwrap().clone();
        targets
            .into_iter()
            .map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
    };
    panels.iter().flat_map(of).collect()
}

/// A cluster with limits, a source, listeners that were sent to relays, and one who was refused.
async fn busy() -> (Cluster, Source, Vec<Peer>) {
    let limits = "max_bandwidth: 900Mbit\nlimits.cpu: 95%";
    let cluster = Cluster::start_with(2, limits, limits).await;
    let source = Source::start(&cluster.primary, "/live.mp3").await;
    cluster.on_air("/live.mp3").await;
    let mut guests = Vec::new();
    for number in 0..4 {
        let guest =
            crate::harness::cluster::follow(address(number), cluster.primary.port, "/live.mp3", "")
                .await;
        let mut peer = guest.peer;
        peer.exact(FRAME).await;
        guests.push(peer);
    }
    assert_eq!(
        get(cluster.primary.port, "/nothing.mp3").await.0.status,
        404
    );
    (cluster, source, guests)
}

#[tokio::test]
async fn every_query_gives_data() {
    let (cluster, _source, _guests) = busy().await;
    let prometheus = Prometheus::start(&cluster).await;
    let queries = queries(&dashboard());
    assert!(queries.len() > 14, "{}", queries.len());
    for (title, expression) in queries {
        let asked = expression
            .replace("$__rate_interval", "30s")
            .replace("$job", ".+");
        assert!(!asked.contains('$'), "{asked}");
        let series = eventually(&title, async || {
            // Somebody new now and then, so that what is counted moves.
            let _ = get(cluster.primary.port, "/nothing.mp3").await;
            match prometheus.query(&asked).await {
                Ok(series) if !series.is_empty() => Some(series),
                Ok(_) => None,
                Err(error) => panic!("{title}: {asked}: {error}"),
            }
        })
        .await;
        println!("{title}: {} series", series.len());
    }
    let four = eventually("four listeners on the dashboard", async || {
        let sum = prometheus.query("relayctl:listeners:sum").await.unwrap();
        (sum.first()?["value"][1] == "4").then_some(sum)
    })
    .await;
    assert_eq!(four[0]["metric"]["mount"], "/live.mp3");
}

#[tokio::test]
async fn no_rule_breaks_and_a_healthy_station_raises_no_alarm() {
    let (cluster, _source, _guests) = busy().await;
    let prometheus = Prometheus::start(&cluster).await;
    let rules = eventually("every rule was evaluated", async || {
        let groups = prometheus.rules().await;
        let rules: Vec<Value> = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect();
        let done = rules.iter().all(|rule| rule["health"] != "unknown");
        (rules.len() > 14 && done).then_some(rules)
    })
    .await;
    for rule in &rules {
        assert_eq!(
            rule["health"], "ok",
            "{}: {}",
            rule["name"], rule["lastError"]
        );
        assert_ne!(rule["state"], "firing", "{}", rule["name"]);
    }
    // What the sums stand on is really there.
    for sum in [
        "relayctl:source_up:primary",
        "relayctl:listeners:used_ratio",
        "relayctl:bandwidth:used_ratio",
    ] {
        eventually(sum, async || {
            let series = prometheus.query(sum).await.unwrap();
            (!series.is_empty()).then_some(())
        })
        .await;
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "relayctl");
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{}",
            panel["title"]
        );
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(
                    places.insert((x, y)),
                    "{} lies on another panel",
                    panel["title"]
                );
            }
        }
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
        }
    }
    let variables: Vec<&Value> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| &v["name"])
        .collect();
    assert_eq!(variables, ["datasource", "job"]);
}
