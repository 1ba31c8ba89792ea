//! The rules: what `promtool` says of them, and what each of them is for.

use serde_json::Value;

use crate::harness::program::{output_of, tool};
use crate::prometheus::deploy;

#[tokio::test]
async fn promtool_takes_the_files_and_every_alarm_fires_when_it_must() {
    for words in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "relayctl.rules.yml"],
        ["test", "rules", "relayctl.rules.test.yml"],
        ["test", "rules", "relayctl.rules.day.test.yml"],
    ] {
        let mut promtool = tool("promtool", "prometheus");
        promtool.current_dir(deploy("prometheus")).args(words);
        let said = String::from_utf8(output_of(promtool).await).unwrap();
        assert!(said.contains("SUCCESS"), "{words:?}: {said}");
    }
}

#[test]
fn every_alarm_has_its_test_and_its_advice() {
    let read = |name: &str| std::fs::read_to_string(deploy(name)).unwrap();
    let rules: Value = serde_saphyr::from_str(&read("prometheus/relayctl.rules.yml")).unwrap();
    let tests = read("prometheus/relayctl.rules.test.yml")
        + &read("prometheus/relayctl.rules.day.test.yml");
    let mut seen = 0;
    for group in rules["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let Some(name) = rule["alert"].as_str() else {
                continue;
            };
            seen += 1;
            assert!(
                tests.contains(&format!("alertname: {name}\n        exp_alerts:")),
                "{name}"
            );
            for annotation in ["summary", "description"] {
                assert!(
                    rule["annotations"][annotation].is_string(),
                    "{name}: {annotation}"
                );
            }
            assert!(
                ["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap())
            );
        }
    }
    assert!(seen > 8, "{seen}");
}
