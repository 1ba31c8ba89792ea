//! Rules that every arrangement keeps: what a pod may, that probes ask the right paths, that names meet.

use serde_json::{Map, Value, json};

use super::rendered::{Manifests, all};

/// The one container of a workload's pods.
fn container(workload: &Value) -> &Value {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array();
    let containers = containers.unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Runs a check on every workload of every arrangement.
fn each_workload(check: impl Fn(&Manifests, &Value, &str)) {
    let mut seen = 0;
    for manifests in all() {
        for workload in manifests.workloads() {
            let what = format!("{}: {}", manifests.name, name(workload));
            check(&manifests, workload, &what);
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn no_pod_is_root_or_may_more_than_it_needs() {
    each_workload(|manifests, workload, what| {
        let pod = &workload["spec"]["template"]["spec"];
        let by_platform = ["openshift", "userId=null"];
        let by_platform = by_platform.iter().any(|word| manifests.name.contains(word));
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{what}");
        assert_eq!(
            pod["securityContext"]["runAsUser"].is_null(),
            by_platform,
            "{what}"
        );
        assert_eq!(
            pod["securityContext"]["fsGroup"].is_null(),
            by_platform,
            "{what}"
        );
        let seccomp = &pod["securityContext"]["seccompProfile"]["type"];
        assert_eq!(seccomp, "RuntimeDefault", "{what}");
        assert_eq!(pod["enableServiceLinks"], false, "{what}");
        let own = &container(workload)["securityContext"];
        assert_eq!(own["allowPrivilegeEscalation"], false, "{what}");
        assert_eq!(own["readOnlyRootFilesystem"], true, "{what}");
        assert_eq!(own["capabilities"]["drop"], json!(["ALL"]), "{what}");
        let needs = &container(workload)["resources"];
        for part in ["requests", "limits"] {
            assert!(needs[part]["memory"].is_string(), "{what}: {part}");
        }
        // A limit on processor time would be heard.
        assert!(needs["requests"]["cpu"].is_string() && needs["limits"]["cpu"].is_null());
        let image = container(workload)["image"].as_str().unwrap();
        let tag = image.rsplit_once(':').map(|(_, tag)| tag);
        assert_eq!(tag, Some(env!("CARGO_PKG_VERSION")), "{what}: {image}");
    });
}

/// A size as Kubernetes writes it.
fn mebibytes(size: &Value) -> u64 {
    let text = size.as_str().unwrap();
    text.strip_suffix("Mi").unwrap().parse().unwrap()
}

/// The rule of `docs/kubernetes.md`: the limit of memory holds a queue of 48 KiB in the kernel for each listener (as
/// `TCP_NOTSENT_LOWAT` and the send buffer bound it), and the process.
#[test]
fn memory_is_enough_for_the_listeners_that_a_pod_takes() {
    each_workload(|_, workload, what| {
        let container = container(workload);
        let variables = container["env"].as_array().unwrap();
        let most = variables
            .iter()
            .find(|variable| variable["name"] == "RELAYCTL_MAX_LISTENERS");
        let most = most.unwrap_or_else(|| panic!("{what}: no limit of listeners"));
        let most: u64 = most["value"].as_str().unwrap().parse().unwrap();
        let limit = mebibytes(&container["resources"]["limits"]["memory"]);
        assert!(
            most * 48 / 1024 + 128 <= limit,
            "{what}: {most} in {limit}Mi"
        );
        assert!(mebibytes(&container["resources"]["requests"]["memory"]) >= 64);
    });
}

#[test]
fn only_who_writes_a_secret_has_an_account() {
    each_workload(|manifests, workload, what| {
        let pod = &workload["spec"]["template"]["spec"];
        let variables = container(workload)["env"].as_array().unwrap();
        let asks = variables
            .iter()
            .any(|variable| variable["name"] == "RELAYCTL_KUBERNETES__SECRET");
        assert_eq!(pod["automountServiceAccountToken"], asks, "{what}");
        assert!(
            manifests.has("ServiceAccount", &pod["serviceAccountName"], workload),
            "{what}"
        );
    });
}

#[test]
fn probes_ask_what_their_purpose_needs() {
    each_workload(|_, workload, what| {
        let container = container(workload);
        for (probe, path) in [
            ("startupProbe", "/healthz"),
            ("livenessProbe", "/healthz"),
            ("readinessProbe", "/readyz"),
        ] {
            let ask = &container[probe]["httpGet"];
            assert_eq!(ask["path"], path, "{what}: {probe}");
            assert_eq!(ask["port"], "relayctl", "{what}: {probe}");
        }
        let ports = container["ports"].as_array().unwrap();
        assert!(ports.iter().all(|port| port["name"].is_string()), "{what}");
        let grace = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64();
        let stop = container["lifecycle"]["preStop"]["exec"]["command"].as_array();
        let stop: Vec<&str> = stop.unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(stop[..3], ["/relayctl", "drain", "--local"], "{what}");
        // The grace runs through preStop as well.
        if let [_, _, _, "--wait", time] = stop[..] {
            let wait: u64 = time.trim_end_matches('s').parse().unwrap();
            assert!(wait + 15 < grace.unwrap(), "{what}: {stop:?} in {grace:?}");
        }
    });
}

#[test]
fn only_the_data_folder_is_writable() {
    each_workload(|manifests, workload, what| {
        let mounts = container(workload)["volumeMounts"].as_array().unwrap();
        for mount in mounts {
            assert!(
                mount["subPath"].is_null(),
                "{what}: a subPath never changes"
            );
            let writable = mount["readOnly"] != true;
            assert_eq!(
                writable,
                mount["mountPath"] == "/var/lib/relayctl",
                "{what}: {mount}"
            );
        }
        let volumes = workload["spec"]["template"]["spec"]["volumes"]
            .as_array()
            .unwrap();
        for volume in volumes {
            let map = &volume["configMap"]["name"];
            assert!(
                map.is_null() || manifests.has("ConfigMap", map, workload),
                "{what}: {volume}"
            );
            let secret = &volume["secret"]["secretName"];
            assert!(
                secret.is_null() || is_written(manifests, secret),
                "{what}: {volume}"
            );
        }
    });
}

/// True if some primary is told to write this Secret.
fn is_written(manifests: &Manifests, secret: &Value) -> bool {
    manifests.workloads().any(|workload| {
        let variables = container(workload)["env"].as_array().unwrap();
        variables.iter().any(|variable| {
            variable["name"] == "RELAYCTL_KUBERNETES__SECRET" && &variable["value"] == secret
        })
    })
}

fn selects(selector: &Map<String, Value>, workload: &Value) -> bool {
    let labels = &workload["spec"]["template"]["metadata"]["labels"];
    selector.iter().all(|(key, value)| {
        // The platform's own label on each pod of a StatefulSet.
        if key == "statefulset.kubernetes.io/pod-name" {
            let first = format!("{}-0", name(workload));
            return workload["kind"] == "StatefulSet" && value == &first;
        }
        &labels[key] == value
    })
}

#[test]
fn every_selector_meets_a_workload_and_every_port_a_name() {
    let mut seen = 0;
    for manifests in all() {
        let found = |selector: &Value| {
            let selector = selector.as_object().unwrap();
            manifests
                .workloads()
                .find(|workload| selects(selector, workload))
                .unwrap_or_else(|| panic!("{}: nothing has {selector:?}", manifests.name))
        };
        for service in manifests.of_kind("Service") {
            let workload = found(&service["spec"]["selector"]);
            let named = container(workload)["ports"].as_array().unwrap();
            for port in service["spec"]["ports"].as_array().unwrap() {
                let meets = named.iter().any(|own| own["name"] == port["targetPort"]);
                assert!(meets, "{}: {} {port}", manifests.name, name(service));
                seen += 1;
            }
        }
        for kind in ["PodDisruptionBudget", "StatefulSet", "Deployment"] {
            for object in manifests.of_kind(kind) {
                found(&object["spec"]["selector"]["matchLabels"]);
            }
        }
        for policy in manifests.of_kind("NetworkPolicy") {
            found(&policy["spec"]["podSelector"]["matchLabels"]);
        }
        for set in manifests.of_kind("StatefulSet") {
            let headless = manifests.of_kind("Service").any(|service| {
                service["metadata"]["name"] == set["spec"]["serviceName"]
                    && service["spec"]["clusterIP"] == "None"
            });
            assert!(headless, "{}", manifests.name);
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn autoscalers_own_the_number_that_they_change() {
    let mut seen = 0;
    for manifests in all() {
        let scalers = ["HorizontalPodAutoscaler", "ScaledObject"];
        for scaler in scalers.iter().flat_map(|kind| manifests.of_kind(kind)) {
            let target = &scaler["spec"]["scaleTargetRef"]["name"];
            let deployment = manifests
                .of_kind("Deployment")
                .find(|deployment| &deployment["metadata"]["name"] == target);
            let deployment = deployment.unwrap();
            assert!(
                deployment["spec"]["replicas"].is_null(),
                "{}",
                manifests.name
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
}

#[test]
fn no_http_route_leads_to_the_sources_way_in() {
    let mut seen = 0;
    for manifests in all() {
        assert_eq!(manifests.of_kind("Ingress").count(), 0);
        for route in manifests.of_kind("Route") {
            seen += 1;
            let to = &route["spec"]["to"]["name"];
            let service = manifests
                .of_kind("Service")
                .find(|service| &service["metadata"]["name"] == to);
            let selector = &service.unwrap()["spec"]["selector"];
            assert_eq!(selector["app.kubernetes.io/component"], "relay");
            let notes = &route["metadata"]["annotations"];
            let timeout = notes["haproxy.router.openshift.io/timeout"]
                .as_str()
                .unwrap();
            // Longer than `hold`, whose default is 45 s.
            assert!(timeout.trim_end_matches('s').parse::<u64>().unwrap() > 60);
            assert_eq!(notes["haproxy.router.openshift.io/disable_cookies"], "true");
        }
    }
    assert_eq!(seen, 2);
}
