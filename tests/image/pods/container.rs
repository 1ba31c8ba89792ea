//! A container's spec as words of `docker run`. A field that is not carried out here is refused, so that nothing in the
//! manifests goes unstarted.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::arrangement::Arrangement;
use super::only;
use super::volumes::{Identity, bytes};

/// The user and group of volumes that OpenShift gives a pod which names none (SCC `restricted-v2`: from the project's own
/// range); the first group is then 0.
const BY_PLATFORM: u32 = 1_000_650_000;

/// What a kubelet knows of a pod before it starts.
pub struct Given<'a> {
    /// The pod's name.
    pub name: &'a str,
    /// Of the machine.
    pub host: Ipv4Addr,
    /// The API server.
    pub api: std::net::SocketAddr,
    /// Where ConfigMaps are.
    pub arrangement: &'a Arrangement,
    /// A key of a Secret, as text.
    pub secret: &'a dyn Fn(&str, &str) -> String,
}

/// Who the containers of a pod run as.
pub fn identity(pod: &Value) -> Identity {
    let context = &pod["securityContext"];
    only(
        context,
        &[
            "runAsNonRoot",
            "runAsUser",
            "runAsGroup",
            "fsGroup",
            "fsGroupChangePolicy",
            "seccompProfile",
        ],
    );
    let number = |key: &str, or: u32| {
        let number = context[key].as_u64();
        number.map_or(or, |number| number.try_into().unwrap())
    };
    let identity = Identity {
        user: number("runAsUser", BY_PLATFORM),
        group: number("runAsGroup", 0),
        fs_group: number("fsGroup", BY_PLATFORM),
    };
    // What the kubelet checks for `runAsNonRoot`.
    assert!(identity.user != 0, "{context}");
    // The engine's own profile is the runtime's default.
    assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}));
    identity
}

/// What the process may.
pub fn security(container: &Value, identity: Identity) -> Vec<String> {
    let context = &container["securityContext"];
    let known = [
        "allowPrivilegeEscalation",
        "readOnlyRootFilesystem",
        "capabilities",
    ];
    only(context, &known);
    let Identity {
        user,
        group,
        fs_group,
    } = identity;
    let mut words = vec![format!("--user={user}:{group}")];
    words.push(format!("--group-add={fs_group}"));
    if context["allowPrivilegeEscalation"] == false {
        words.push("--security-opt=no-new-privileges".to_owned());
    }
    if context["readOnlyRootFilesystem"] == true {
        words.push("--read-only".to_owned());
    }
    only(&context["capabilities"], &["drop"]);
    for name in context["capabilities"]["drop"].as_array().unwrap() {
        words.push(format!("--cap-drop={}", name.as_str().unwrap()));
    }
    words
}

/// Requests and limits, as the runtime gets them.
pub fn resources(container: &Value) -> Vec<String> {
    let resources = &container["resources"];
    only(resources, &["requests", "limits"]);
    only(&resources["requests"], &["cpu", "memory"]);
    only(&resources["limits"], &["memory"]);
    let limit = bytes(&resources["limits"]["memory"]);
    let cpu = resources["requests"]["cpu"].as_str().unwrap();
    let thousandths: u64 = cpu.strip_suffix('m').unwrap().parse().unwrap();
    vec![
        format!("--memory={limit}"),
        // No swap, as on any node of a cluster.
        format!("--memory-swap={limit}"),
        format!("--cpu-shares={}", thousandths * 1024 / 1000),
    ]
}

/// What every container finds in its environment of the API server, service links or not.
fn of_platform(given: &Given) -> Vec<(String, String)> {
    let (host, port) = (given.api.ip(), given.api.port());
    let prefix = format!("KUBERNETES_PORT_{port}_TCP");
    let url = format!("tcp://{host}:{port}");
    [
        ("KUBERNETES_SERVICE_HOST", host.to_string()),
        ("KUBERNETES_SERVICE_PORT", port.to_string()),
        ("KUBERNETES_SERVICE_PORT_HTTPS", port.to_string()),
        ("KUBERNETES_PORT", url.clone()),
        (prefix.as_str(), url),
        (&format!("{prefix}_PROTO"), "tcp".to_owned()),
        (&format!("{prefix}_PORT"), port.to_string()),
        (&format!("{prefix}_ADDR"), host.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The environment, in order: the platform's, then the container's own.
pub fn environment(container: &Value, given: &Given) -> Vec<(String, String)> {
    let mut all = of_platform(given);
    for variable in container["env"].as_array().into_iter().flatten() {
        only(variable, &["name", "value", "valueFrom"]);
        let value = match variable["valueFrom"].as_object() {
            Some(_) => from(&variable["valueFrom"], given),
            None => expanded(variable["value"].as_str().unwrap_or_default(), &all),
        };
        let name = variable["name"].as_str().unwrap().to_owned();
        all.retain(|(own, _)| *own != name);
        all.push((name, value));
    }
    all
}

fn from(source: &Value, given: &Given) -> String {
    only(source, &["fieldRef", "secretKeyRef", "configMapKeyRef"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let map = &source["configMapKeyRef"];
    let secret = &source["secretKeyRef"];
    if let Some(name) = map["name"].as_str() {
        let map_of = given.arrangement.find("ConfigMap", name).unwrap();
        return text(&map_of["data"][text(&map["key"])]);
    }
    if let Some(name) = secret["name"].as_str() {
        return (given.secret)(name, &text(&secret["key"]));
    }
    match source["fieldRef"]["fieldPath"].as_str() {
        Some("metadata.name") => given.name.to_owned(),
        Some("metadata.namespace") => given.arrangement.namespace.clone(),
        Some("status.hostIP") => given.host.to_string(),
        _ => panic!("nobody fills {source} here"),
    }
}

/// `$(NAME)` with what stands before it; what nobody named stays as it is.
pub fn expanded(text: &str, known: &[(String, String)]) -> String {
    assert!(!text.contains("$$"), "{text}: an escape, which is not read");
    known.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("$({name})"), value)
    })
}

/// Ports that are the machine's as well.
pub fn host_ports(container: &Value) -> Vec<String> {
    let mut words = Vec::new();
    for port in container["ports"].as_array().into_iter().flatten() {
        only(port, &["name", "containerPort", "hostPort", "protocol"]);
        if let Some(host) = port["hostPort"].as_u64() {
            words.push(format!("--publish={host}:{}", port["containerPort"]));
        }
    }
    words
}

/// What stands before the image, and what behind it.
pub fn command(container: &Value, known: &[(String, String)]) -> (Vec<String>, Vec<String>) {
    let list = |key: &str| {
        let words = container[key].as_array().into_iter().flatten();
        let words = words.filter_map(Value::as_str);
        words.map(|word| expanded(word, known)).collect::<Vec<_>>()
    };
    let (command, args) = (list("command"), list("args"));
    match command.split_first() {
        Some((first, more)) => (
            vec![format!("--entrypoint={first}")],
            [more.to_vec(), args].concat(),
        ),
        None => (Vec::new(), args),
    }
}

/// Everything in a pod's spec is carried out here, or concerns the choice of a machine.
pub fn is_known(spec: &Value) {
    let known = [
        "containers",
        "volumes",
        "securityContext",
        "serviceAccountName",
        "automountServiceAccountToken",
        "enableServiceLinks",
        "terminationGracePeriodSeconds",
        "topologySpreadConstraints",
    ];
    only(spec, &known);
    assert_eq!(spec["enableServiceLinks"], false);
    assert_eq!(spec["containers"].as_array().unwrap().len(), 1);
    let known = [
        "name",
        "image",
        "imagePullPolicy",
        "command",
        "args",
        "env",
        "ports",
        "resources",
        "securityContext",
        "volumeMounts",
        "startupProbe",
        "readinessProbe",
        "livenessProbe",
        "lifecycle",
    ];
    only(&spec["containers"][0], &known);
    only(&spec["containers"][0]["lifecycle"], &["preStop"]);
}

#[test]
fn variables_are_filled_from_those_before_them() {
    let known = [("HOST_IP".to_owned(), "10.0.0.7".to_owned())];
    let text = expanded("http://$(HOST_IP):8000/$(NOBODY)", &known);
    assert_eq!(text, "http://10.0.0.7:8000/$(NOBODY)");
}
