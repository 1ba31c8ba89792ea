//! The shape of every object, and the chart by itself.

use super::rendered::{all, output_of, root, tool};

#[test]
fn every_object_has_the_shape_of_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    for (number, manifests) in all().iter().enumerate() {
        let file = folder.path().join(format!("{number}.yaml"));
        std::fs::write(&file, &manifests.text).unwrap();
        let mut validate = tool("kubernetes-validate");
        let output = validate
            .args(["--strict", "-k", "1.33"])
            .arg(&file)
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{}: {said}", manifests.name);
        // Kinds of other projects have no schema there; nothing else may go unchecked.
        for line in said.lines().filter(|line| line.starts_with("WARN")) {
            let other = ["ScaledObject", "Route", "ServiceMonitor", "PrometheusRule"];
            assert!(
                line.contains("find schema") && other.iter().any(|kind| line.contains(kind)),
                "{}: {line}",
                manifests.name
            );
        }
    }
}

#[test]
fn a_misspelt_value_of_the_chart_is_refused() {
    let mut helm = tool("helm");
    helm.args(["template", "radio", "--set", "relays.replica=3"])
        .arg(root().join("helm/relayctl"));
    let output = helm.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("replica"),
        "{said}"
    );
}

#[test]
fn the_chart_is_clean() {
    let said = output_of(tool("helm").arg("lint").arg(root().join("helm/relayctl")));
    assert!(said.contains("0 chart(s) failed"), "{said}");
}
