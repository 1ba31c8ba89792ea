//! Every container's settings, read by the program itself.

use std::process::Command;

use serde_json::Value;

use super::rendered::all;

/// The container's environment and files, as the platform would give them, in a folder.
#[test]
fn the_program_takes_what_each_container_is_given() {
    let mut seen = 0;
    for manifests in all() {
        for workload in manifests.workloads() {
            let folder = tempfile::tempdir().unwrap();
            let config = settings_of(&manifests.objects, workload);
            std::fs::write(folder.path().join("relayctl.yaml"), config).unwrap();
            std::fs::write(folder.path().join("join-token"), "rctl1.00000000.secret\n").unwrap();
            let mut check = Command::new(env!("CARGO_BIN_EXE_relayctl"));
            check.arg("check").env_clear();
            let container = &workload["spec"]["template"]["spec"]["containers"][0];
            for variable in container["env"].as_array().unwrap() {
                let value = variable["value"].as_str().unwrap_or("10.0.0.1");
                let value = value
                    .replace("/etc/relayctl", &folder.path().display().to_string())
                    .replace(
                        "/run/secrets/relayctl",
                        &folder.path().display().to_string(),
                    )
                    .replace("$(HOST_IP)", "10.0.0.1");
                check.env(variable["name"].as_str().unwrap(), value);
            }
            check.env_remove("HOST_IP");
            let output = check.output().unwrap();
            assert!(
                output.status.success(),
                "{}: {}\n{}{}",
                manifests.name,
                workload["metadata"]["name"],
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
}

fn settings_of(objects: &[Value], workload: &Value) -> String {
    let volumes = workload["spec"]["template"]["spec"]["volumes"]
        .as_array()
        .unwrap();
    let map = volumes
        .iter()
        .find_map(|volume| volume["configMap"]["name"].as_str());
    let map = objects.iter().find(|object| {
        object["kind"] == "ConfigMap"
            && object["metadata"]["name"].as_str() == map
            && object["metadata"]["namespace"] == workload["metadata"]["namespace"]
    });
    map.unwrap()["data"]["relayctl.yaml"]
        .as_str()
        .unwrap()
        .to_owned()
}
