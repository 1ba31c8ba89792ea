//! Manifests as the cluster would get them, from every overlay and every form of the chart. It has no tests, since those of
//! the image read it as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// One arrangement of objects that is applied together.
pub struct Manifests {
    /// For messages.
    pub name: String,
    /// As YAML.
    pub text: String,
    /// Each object.
    pub objects: Vec<Value>,
}

/// Overlays, each with `kubectl apply -k`.
const OVERLAYS: [&str; 8] = [
    "kubernetes/overlays/station",
    "kubernetes/overlays/autoscaled",
    "kubernetes/overlays/autoscaled-keda",
    "kubernetes/overlays/stations",
    "kubernetes/overlays/one-set",
    "kubernetes/overlays/per-pod",
    "kubernetes/overlays/monitored",
    "openshift",
];

/// Values of the chart that change its form.
const FORMS: [&str; 4] = [
    "",
    "relays.autoscaling.by=hpa,listeners.type=LoadBalancer,sources.type=LoadBalancer",
    "relays.autoscaling.by=keda,monitoring.serviceMonitor=true,monitoring.rules=true,networkPolicy=false",
    "userId=null,listeners.route.enabled=true,secret=mine,primary.persistence.storageClass=fast",
];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// A program that `tests/deploy-tools` installs.
pub fn tool(name: &str) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    let path = target.join("deploy-tools/bin").join(name);
    assert!(
        path.is_file(),
        "`{}` is not there: run tests/deploy-tools",
        path.display()
    );
    Command::new(path)
}

/// Standard output of a tool that must not fail.
pub fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that this folder can be turned into.
pub fn all() -> Vec<Manifests> {
    let overlays = OVERLAYS.map(|overlay| {
        let text = output_of(tool("kubectl").arg("kustomize").arg(root().join(overlay)));
        named(overlay.into(), text)
    });
    let forms = FORMS.map(|values| {
        let mut helm = tool("helm");
        helm.args(["template", "radio", "--namespace", "radio", "--set", values])
            .arg(root().join("helm/relayctl"));
        named(format!("helm {values}"), output_of(&mut helm))
    });
    overlays.into_iter().chain(forms).collect()
}

fn named(name: String, text: String) -> Manifests {
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    assert!(objects.len() > 8, "{name}: only {} objects", objects.len());
    Manifests {
        name,
        text,
        objects,
    }
}

impl Manifests {
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects
            .iter()
            .filter(move |object| object["kind"] == kind)
    }

    /// StatefulSets and Deployments.
    pub fn workloads(&self) -> impl Iterator<Item = &Value> {
        self.of_kind("StatefulSet")
            .chain(self.of_kind("Deployment"))
    }

    pub fn has(&self, kind: &str, name: &Value, beside: &Value) -> bool {
        self.of_kind(kind).any(|object| {
            &object["metadata"]["name"] == name
                && object["metadata"]["namespace"] == beside["metadata"]["namespace"]
        })
    }
}
