//! Services: which pods they select, and what the cluster's name server says of them.

use std::net::SocketAddr;

use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use serde_json::Value;

use super::cluster::Cluster;
use super::pod::Pod;
use super::probes::port;

impl Cluster<'_> {
    /// Pods that a Service selects.
    fn selected<'b>(&'b self, service: &'b Value) -> impl Iterator<Item = &'b Pod> {
        let selector = service["spec"]["selector"].as_object().unwrap();
        let unready = service["spec"]["publishNotReadyAddresses"] == true;
        self.pods.iter().filter(move |pod| {
            let meets = selector
                .iter()
                .all(|(key, value)| &pod.labels[key] == value);
            meets && (unready || pod.health().ready)
        })
    }

    /// Where a Service that has a port of this name leads: to each pod in turn.
    pub fn endpoints<'b>(&'b self, service: &'b Value, name: &str) -> Vec<(&'b Pod, SocketAddr)> {
        let mut ports = service["spec"]["ports"].as_array().unwrap().iter();
        let found = ports.find(|port| port["name"] == name).unwrap();
        let address = |pod: &Pod| {
            (
                pod.running.address,
                port(&pod.container, &found["targetPort"]),
            )
        };
        let pods = self.selected(service);
        pods.map(|pod| (pod, address(pod).into())).collect()
    }

    /// Tells the name server who is where, as the cluster's own is told.
    pub fn publish(&self) {
        let names = &self.machine.names;
        for service in self.arrangement.of_kind("Service") {
            // Nobody forwards from a Service's own address here: only headless ones have a name.
            if service["spec"]["clusterIP"] != "None" {
                continue;
            }
            let own = service["metadata"]["name"].as_str().unwrap();
            let domain = format!("{own}.{}.svc.cluster.local.", self.arrangement.namespace);
            let pods: Vec<&Pod> = self.selected(service).collect();
            let mut hosts = Vec::new();
            for pod in &pods {
                let address = pod.running.address.to_string();
                let host = match pod.subdomain.as_deref() == Some(own) {
                    true => pod.name.clone(),
                    false => address.replace('.', "-"),
                };
                let host = format!("{host}.{domain}");
                names.set_addresses(&host, &[&address]);
                hosts.push((host, address));
            }
            let all: Vec<&str> = hosts.iter().map(|(_, address)| address.as_str()).collect();
            names.set_addresses(&domain, &all);
            for one in service["spec"]["ports"].as_array().unwrap() {
                let name = one["name"].as_str().unwrap();
                let weight = u16::try_from(100 / hosts.len().max(1)).unwrap();
                let record = |(pod, (host, _)): (&&Pod, &(String, String))| {
                    let number = port(&pod.container, &one["targetPort"]);
                    let host = Name::from_utf8(host).unwrap();
                    RData::SRV(SRV::new(0, weight, number, host))
                };
                let records = pods.iter().zip(&hosts).map(record).collect();
                names.set(&format!("_{name}._tcp.{domain}"), RecordType::SRV, records);
            }
        }
    }
}
