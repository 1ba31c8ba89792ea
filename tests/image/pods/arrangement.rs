//! What is in the manifests: the objects of one namespace, as the cluster would get them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::rendered;

/// Where a chart's objects go, which name no namespace.
const NAMESPACE: &str = "radio";

/// Objects that are applied together, of one namespace.
pub struct Arrangement {
    /// The overlay or the chart's values, and the namespace where there are several.
    pub name: String,
    /// Where its pods are.
    pub namespace: String,
    objects: Vec<Value>,
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"]
        .as_str()
        .unwrap_or(NAMESPACE)
}

/// Everything that `deploy/` can be turned into.
pub fn all() -> Vec<Arrangement> {
    let mut arrangements = Vec::new();
    for manifests in rendered::all() {
        let namespaces: BTreeSet<&str> = manifests.workloads().map(namespace).collect();
        for own in &namespaces {
            let objects = manifests.objects.iter();
            let objects = objects.filter(|object| namespace(object) == *own);
            let name = match namespaces.len() {
                1 => manifests.name.clone(),
                _ => format!("{} ({own})", manifests.name),
            };
            arrangements.push(Arrangement {
                name,
                namespace: (*own).to_owned(),
                objects: objects.cloned().collect(),
            });
        }
    }
    arrangements
}

impl Arrangement {
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let objects = self.objects.iter();
        objects.filter(move |object| object["kind"] == kind)
    }

    /// The object of that kind and name; none where somebody else makes it.
    pub fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        self.objects.iter().find(is)
    }

    /// StatefulSets, whose pods start in order, then Deployments.
    pub fn workloads(&self) -> Vec<Value> {
        let sets = self.of_kind("StatefulSet");
        sets.chain(self.of_kind("Deployment")).cloned().collect()
    }

    /// For each workload what its pods are made of: two that are equal start the same containers.
    pub fn specs(&self) -> Vec<String> {
        let spec = |workload: &Value| {
            let pod = &workload["spec"]["template"]["spec"];
            let volumes = pod["volumes"].as_array().into_iter().flatten();
            let settings = volumes
                .filter_map(|volume| volume["configMap"]["name"].as_str())
                .filter_map(|name| Some(&self.find("ConfigMap", name)?["data"]))
                .collect::<Vec<_>>();
            let claims = &workload["spec"]["volumeClaimTemplates"];
            json!([workload["kind"], pod, claims, settings]).to_string()
        };
        self.workloads().iter().map(spec).collect()
    }

    /// Where its source plays: the first mount that the settings name, or one that nobody named.
    pub fn mount(&self) -> String {
        let maps = self.of_kind("ConfigMap");
        let settings = maps.filter_map(|map| map["data"]["relayctl.yaml"].as_str());
        let named = settings.into_iter().find_map(|text| {
            let settings: Value = serde_saphyr::from_str(text).unwrap();
            Some(settings["mounts"][0]["path"].as_str()?.to_owned())
        });
        named.unwrap_or_else(|| "/live.mp3".to_owned())
    }

    /// True if a Role that is bound to the account allows it (RBAC adds up: one rule that fits is enough).
    pub fn allows(&self, account: &str, verb: &str, kind: &str, name: &str) -> bool {
        let holds = |list: &Value, word: &str| {
            let mut words = list.as_array().into_iter().flatten();
            words.any(|own| own == word || own == "*")
        };
        let bound = self.of_kind("RoleBinding").filter(|binding| {
            let mut subjects = binding["subjects"].as_array().into_iter().flatten();
            subjects.any(|one| one["kind"] == "ServiceAccount" && one["name"] == account)
        });
        let roles = bound.filter_map(|binding| {
            let role = binding["roleRef"]["name"].as_str()?;
            self.find("Role", role)
        });
        let mut rules = roles.flat_map(|role| role["rules"].as_array().into_iter().flatten());
        rules.any(|rule| {
            holds(&rule["apiGroups"], "")
                && holds(&rule["resources"], kind)
                && holds(&rule["verbs"], verb)
                && (rule["resourceNames"].is_null() || holds(&rule["resourceNames"], name))
        })
    }
}
