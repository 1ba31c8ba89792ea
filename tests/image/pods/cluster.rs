//! A machine with an engine, a name server and an API server, and the pods of one arrangement on it: the parts of a cluster
//! that containers see.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hickory_resolver::proto::rr::RecordType;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::account::Control;
use super::arrangement::Arrangement;
use super::container::{self, Given};
use super::pod::{Plan, Pod};
use super::probes::Running;
use super::volumes::Identity;
use crate::artefact::{IMAGE, engine};
use crate::docker::{Docker, said_by};
use crate::harness::names::NameServer;
use crate::harness::program::tool;

/// Seconds for which the cluster's name server lets its answers be kept: CoreDNS' own default.
const TTL: u32 = 5;

/// See the module.
pub struct Machine {
    /// Its engine, with the image.
    pub docker: Arc<Docker>,
    /// Its address, as pods see it.
    pub address: Ipv4Addr,
    pub(super) names: NameServer,
}

impl Machine {
    /// One whose name server answers at the engine's own bridge.
    pub async fn start() -> Self {
        let docker = engine().await;
        // The engine names its bridge's own address to no one.
        let mut ask = tool("ip", "iproute2");
        ask.args(["-4", "-oneline", "address", "show", "dev", "docker0"]);
        let said = said_by(&mut ask);
        let words = said.split_whitespace().skip_while(|word| *word != "inet");
        let address = words.skip(1).find_map(|word| word.split_once('/'));
        let address: Ipv4Addr = address.unwrap().0.parse().unwrap();
        let names = NameServer::start((address, 53).into(), TTL).await.unwrap();
        Self {
            docker: Arc::new(docker),
            address,
            names,
        }
    }
}

/// The pods of an arrangement, and what they find around them.
pub struct Cluster<'a> {
    pub(super) machine: &'a Machine,
    /// What was applied.
    pub arrangement: Arc<Arrangement>,
    /// The API server.
    pub control: Control,
    /// In the order in which they started.
    pub pods: Vec<Pod>,
    pub(super) folder: TempDir,
}

/// The pod's name: a StatefulSet counts, a Deployment's are unlike any other.
fn pod_name(workload: &Value, number: usize) -> String {
    let name = workload["metadata"]["name"].as_str().unwrap();
    match workload["kind"] == "StatefulSet" {
        true => format!("{name}-{number}"),
        false => format!("{name}-6f7c9d8b54-x{number}k2p"),
    }
}

impl<'a> Cluster<'a> {
    /// Nothing runs yet.
    pub async fn new(machine: &'a Machine, arrangement: Arrangement) -> Self {
        machine.names.clear();
        let arrangement = Arc::new(arrangement);
        let control = Control::start(machine.address, &arrangement).await;
        Self {
            machine,
            arrangement,
            control,
            pods: Vec::new(),
            folder: tempfile::tempdir_in(machine.docker.folder()).unwrap(),
        }
    }

    /// Starts every pod: those of a StatefulSet one after the other is ready, as `OrderedReady` does it, those of a Deployment
    /// at once.
    pub async fn start(&mut self) {
        for workload in self.arrangement.workloads() {
            let in_order = workload["kind"] == "StatefulSet";
            let policy = &workload["spec"]["podManagementPolicy"];
            assert!(policy.is_null() || policy == "OrderedReady", "{policy}");
            let container = &workload["spec"]["template"]["spec"]["containers"][0];
            // A port of the machine is given once, and an autoscaler begins with one pod.
            let alone = !container::host_ports(container).is_empty();
            let replicas = workload["spec"]["replicas"].as_u64().unwrap_or(1);
            let replicas = if alone {
                1
            } else {
                replicas.try_into().unwrap()
            };
            let first = self.pods.len();
            for number in 0..replicas {
                let pod = self.start_pod(&workload, number).await;
                self.pods.push(pod);
                self.publish();
                if in_order {
                    self.pods[first + number].is_ready(true).await;
                }
            }
            for pod in &self.pods[first..] {
                pod.is_ready(true).await;
                pod.is_confined();
            }
        }
        self.publish();
    }

    async fn start_pod(&self, workload: &Value, number: usize) -> Pod {
        let template = &workload["spec"]["template"];
        let spec = template["spec"].clone();
        container::is_known(&spec);
        let name = pod_name(workload, number);
        let mut labels = template["metadata"]["labels"].as_object().unwrap().clone();
        if workload["kind"] == "StatefulSet" {
            let key = "statefulset.kubernetes.io/pod-name";
            labels.insert(key.to_owned(), name.clone().into());
        }
        let metadata = json!({"name": name, "labels": labels, "annotations": {}});
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
        let namespace = &self.arrangement.namespace;
        let what = format!("pods/{name}");
        self.control.server.set(namespace, &what, object);

        let identity = container::identity(&spec);
        let (mounts, settings) = self.mounts(workload, &name, identity).await;
        let words = self.words(&spec, &name, identity, mounts);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let docker = &self.machine.docker;
        let container = docker.start_container(&words);
        let SocketAddr::V4(address) = docker.address(&container, 0) else {
            unreachable!("an address of the other family")
        };
        let running = Running {
            docker: Arc::clone(docker),
            container,
            address: *address.ip(),
        };
        let subdomain = workload["spec"]["serviceName"].as_str().map(str::to_owned);
        let plan = Plan {
            name,
            labels,
            subdomain,
            spec,
            identity,
            settings,
        };
        Pod::new(plan, running)
    }

    /// All of `docker run` behind `--detach`.
    fn words(
        &self,
        spec: &Value,
        name: &str,
        identity: Identity,
        mounts: Vec<String>,
    ) -> Vec<String> {
        let container = &spec["containers"][0];
        let given = Given {
            name,
            host: self.machine.address,
            api: self.control.address,
            arrangement: &self.arrangement,
            secret: &|name, key| self.secret(name, key).unwrap(),
        };
        let environment = container::environment(container, &given);
        let (before, behind) = container::command(container, &environment);
        let domain = "svc.cluster.local";
        let namespace = &self.arrangement.namespace;
        let mut words = vec![
            format!("--name={namespace}_{name}"),
            format!("--hostname={name}"),
            // The cluster's `resolv.conf`.
            format!("--dns={}", self.machine.address),
            format!("--dns-search={namespace}.{domain}"),
            format!("--dns-search={domain}"),
            "--dns-search=cluster.local".to_owned(),
            "--dns-option=ndots:5".to_owned(),
            // The image's own check is not the kubelet's business.
            "--no-healthcheck".to_owned(),
            "--pull=never".to_owned(),
        ];
        words.extend(container::security(container, identity));
        words.extend(container::resources(container));
        words.extend(container::host_ports(container));
        for (name, value) in environment {
            words.push(format!("--env={name}={value}"));
        }
        words.extend(mounts);
        words.extend(before);
        assert_eq!(container["image"], IMAGE);
        words.push(IMAGE.to_owned());
        words.extend(behind);
        words
    }

    /// What stands in a Secret.
    pub fn secret(&self, name: &str, key: &str) -> Option<String> {
        let what = format!("secrets/{name}");
        let object = self
            .control
            .server
            .object(&self.arrangement.namespace, &what)?;
        let bytes = BASE64_STANDARD.decode(object["data"][key].as_str()?);
        Some(String::from_utf8(bytes.unwrap()).unwrap())
    }

    /// How often the name server was asked for the port of a headless Service, by its whole name.
    pub fn asked_for_service(&self, name: &str) -> usize {
        let namespace = &self.arrangement.namespace;
        let name = format!("_relayctl._tcp.{name}.{namespace}.svc.cluster.local.");
        self.machine.names.asked_for(&name, RecordType::SRV)
    }
}
