//! Every container of the manifests, started from the image as a cluster's machine would: its command, environment, volumes,
//! user and limits; asked by its own probes, played through, and ended by its own hook.
//!
//! No kubelet and no API server can run here. A stand-in takes the API server's place (`src/kubernetes/testing.rs`): it holds
//! accounts to the Roles of the manifests. Docker takes the container runtime's; what the kubelet does is done by this folder,
//! after its sources. Nobody forwards from a Service's own address (kube-proxy): scenes go to a pod that the Service selects.
//!
//! Must never: leave out a field of a container. What is not carried out is refused by `only`.

mod account;
#[path = "../../../src/kubernetes/testing.rs"]
mod api;
mod arrangement;
mod cluster;
mod container;
mod listener;
mod mounts;
mod pod;
mod probes;
mod services;
mod volumes;

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use arrangement::Arrangement;
use cluster::{Cluster, Machine};
use listener::Listener;
use mounts::text_files;
use pod::Pod;

use crate::harness::source::Source;
use crate::harness::within;
use crate::place::alone;
use crate::station::source_at;

/// The cost of deletion is written once a minute.
const COSTS: Duration = Duration::from_secs(120);

/// A password that was there before the primary.
const OPERATORS: &str = "an-operator-chose-it";

/// Fields of an object: no others than these.
#[track_caller]
fn only(object: &Value, known: &[&str]) {
    for key in object.as_object().into_iter().flatten().map(|(key, _)| key) {
        assert!(known.contains(&key.as_str()), "`{key}` is not started here");
    }
}

/// A station that plays.
struct Station<'a> {
    cluster: Cluster<'a>,
    _source: Source,
    listeners: Vec<Listener>,
}

impl<'a> Station<'a> {
    /// All pods ready, a source by its Service, a listener at each pod that the listeners' Service selects.
    async fn start(machine: &'a Machine, arrangement: Arrangement) -> Self {
        println!("--- {}", arrangement.name);
        let mut cluster = Cluster::new(machine, arrangement).await;
        // A form of the chart names a Secret that an operator made, with one of its keys: the primary adds the others.
        if cluster.arrangement.name.contains("secret=mine") {
            let object = json!({"data": {"source-password": BASE64_STANDARD.encode(OPERATORS)}});
            let namespace = &cluster.arrangement.namespace;
            let server = &cluster.control.server;
            server.set(namespace, "secrets/mine", object);
        }
        cluster.start().await;
        let mount = cluster.arrangement.mount();
        let secret = variable(&cluster.pods[0], "RELAYCTL_KUBERNETES__SECRET").unwrap();
        let password = cluster.secret(secret, "source-password");
        if secret == "mine" {
            assert_eq!(password.as_deref(), Some(OPERATORS));
        }
        let relay = cluster.pods.last().unwrap();
        let primary = variable(relay, "RELAYCTL_PRIMARY").unwrap();
        let primary = primary.strip_prefix("http://").unwrap();
        // Without a port the name is a Service's, which names one.
        assert!(primary.contains(':') || cluster.asked_for_service(primary) > 0);
        let way_in = service(&cluster, |name, _| name.ends_with("-source"));
        let (_, to) = cluster.endpoints(&way_in, "relayctl").remove(0);
        let source = source_at(to, &mount, &password.unwrap()).await;
        let way_out = service(&cluster, |_, port| port == "http");
        // Who comes to the primary goes on where a relay has an address of its own.
        let sent_on = variable(relay, "RELAYCTL_PUBLIC_URL").is_some_and(|url| url != "none");
        let answer = if sent_on { 302 } else { 200 };
        let mut listeners = Vec::new();
        for (pod, at) in cluster.endpoints(&way_out, "http") {
            let listener = Listener::start(at, &mount, answer).await;
            println!("{}: heard from {}", pod.name, listener.node());
            listeners.push(listener);
        }
        assert!(!listeners.is_empty());
        Self {
            cluster,
            _source: source,
            listeners,
        }
    }

    /// Each pod leaves, the primary last; listeners of the first that goes see it out.
    async fn ends(self) {
        let Self {
            mut cluster,
            listeners,
            ..
        } = self;
        let last = cluster.pods.pop().unwrap();
        let name = last.name.clone();
        assert!(listeners.iter().any(|one| one.node() == name));
        let leaving = last.leaves();
        // It takes nobody new and waits, and whoever listens hears on.
        leaving.pod.is_ready(false).await;
        for listener in listeners.iter().filter(|one| one.node() == name) {
            listener.hears_on().await;
        }
        drop(listeners);
        leaving.ends().await;
        while let Some(pod) = cluster.pods.pop() {
            cluster.publish();
            pod.leaves().ends().await;
        }
        assert_eq!(cluster.control.server.refused(), []);
    }
}

/// A variable of a pod's container.
fn variable<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let variables = pod.container["env"].as_array()?;
    let found = variables.iter().find(|variable| variable["name"] == name);
    found?["value"].as_str()
}

/// The one Service for whose name and one of its ports it holds.
fn service(cluster: &Cluster, is: impl Fn(&str, &str) -> bool) -> Value {
    let mut found = cluster.arrangement.of_kind("Service").filter(|service| {
        let name = service["metadata"]["name"].as_str().unwrap();
        let mut ports = service["spec"]["ports"].as_array().unwrap().iter();
        ports.any(|port| is(name, port["name"].as_str().unwrap()))
    });
    found.next().unwrap().clone()
}

/// The arrangement of that name.
fn named(name: &str) -> Arrangement {
    let mut all = arrangement::all().into_iter();
    let found = all.find(|arrangement| arrangement.name == name);
    found.unwrap_or_else(|| panic!("no arrangement `{name}`"))
}

/// Those that have scenes of their own.
const MAIN: [&str; 4] = [
    "kubernetes/overlays/station",
    "kubernetes/overlays/one-set",
    "openshift",
    "helm ",
];

/// The cost of deletion that stands at each relay's pod.
fn costs(cluster: &Cluster) -> Vec<Value> {
    let pods = cluster.pods.iter().skip(1);
    let cost = |name: &str| {
        let namespace = &cluster.arrangement.namespace;
        let server = &cluster.control.server;
        let pod = server.object(namespace, &format!("pods/{name}")).unwrap();
        pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"].clone()
    };
    pods.map(|pod| cost(&pod.name)).collect()
}

/// A change of the ConfigMap, as the kubelet brings it to the pods.
async fn is_taken_while_it_runs(cluster: &mut Cluster<'_>) {
    let settings = json!({"relayctl.yaml": "station:\n  location: Mars\nlog_format: json\n"});
    for pod in &mut cluster.pods {
        for (_, volume) in &mut pod.settings {
            volume.write(&text_files(&settings));
        }
        let what = format!("{} takes its settings anew", pod.name);
        within(COSTS, &what, async || {
            let log = pod.log();
            let taken = log.lines().any(|line| {
                line.contains("settings reloaded") && line.contains("\"changed\":true")
            });
            taken.then_some(())
        })
        .await;
    }
}

#[test]
fn the_station_of_kustomize() {
    alone(async || {
        let machine = Machine::start().await;
        let mut station = Station::start(&machine, named(MAIN[0])).await;
        assert_eq!(station.listeners.len(), 2);
        // The Roles give the primary what it asks for, and nobody anything else.
        let roles = &station.cluster.arrangement;
        let may = |account, name| roles.allows(account, "get", "secrets", name);
        assert!(may("relayctl-primary", "relayctl-secrets"));
        assert!(!may("relayctl-primary", "another"));
        assert!(!may("relayctl-relay", "relayctl-secrets"));
        is_taken_while_it_runs(&mut station.cluster).await;
        within(COSTS, "each relay's pod costs its listener", async || {
            let costs = costs(&station.cluster);
            costs.iter().all(|cost| cost == "1").then_some(())
        })
        .await;
        station.ends().await;
    });
}

#[test]
fn one_set_whose_first_pod_is_the_primary() {
    alone(async || {
        let machine = Machine::start().await;
        let station = Station::start(&machine, named(MAIN[1])).await;
        assert_eq!(station.listeners.len(), 3);
        let role = |pod: &str| {
            let container = format!("{}_{pod}", station.cluster.arrangement.namespace);
            let words = ["exec", &container, "/relayctl", "status", "-o", "json"];
            let said: Value = serde_json::from_str(&machine.docker.run(&words)).unwrap();
            said["status"]["role"].clone()
        };
        let roles = ["relayctl-0", "relayctl-1", "relayctl-2"].map(role);
        assert_eq!(roles, ["primary", "relay", "relay"]);
        station.ends().await;
    });
}

/// As any user that the platform chooses, in group 0 and that of its volumes.
#[test]
fn openshift_with_a_user_of_its_choice() {
    alone(async || {
        let machine = Machine::start().await;
        let station = Station::start(&machine, named(MAIN[2])).await;
        assert_eq!(station.listeners.len(), 2);
        station.ends().await;
    });
}

#[test]
fn the_chart_as_it_is() {
    alone(async || {
        let machine = Machine::start().await;
        let station = Station::start(&machine, named(MAIN[3])).await;
        assert_eq!(station.listeners.len(), 2);
        station.ends().await;
    });
}

/// Whatever is like none of those: other settings, other ports, a Secret that somebody made.
#[test]
fn every_other_container_of_the_manifests() {
    alone(async || {
        let machine = Machine::start().await;
        let (main, others): (Vec<_>, Vec<_>) = arrangement::all()
            .into_iter()
            .partition(|arrangement| MAIN.contains(&arrangement.name.as_str()));
        assert_eq!(main.len(), MAIN.len());
        let mut started: BTreeSet<String> = main.iter().flat_map(Arrangement::specs).collect();
        for arrangement in others {
            let specs = arrangement.specs();
            if specs.iter().all(|spec| started.contains(spec)) {
                println!("--- {}: nothing new", arrangement.name);
                continue;
            }
            let station = Station::start(&machine, arrangement).await;
            station.ends().await;
            started.extend(specs);
        }
    });
}
