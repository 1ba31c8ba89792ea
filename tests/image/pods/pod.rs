//! One pod: what it runs as, how it is, and its end.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use rustix::fs::{StatVfsMountFlags, statvfs};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::probes::{self, Health, Hook, Running};
use super::volumes::{FileVolume, Identity};
use crate::harness::eventually;

/// See the module. Its container is removed by whoever ends it.
pub struct Pod {
    /// As its workload calls it.
    pub name: String,
    /// By which Services find it.
    pub labels: Map<String, Value>,
    /// The headless Service that gives it a name, of a StatefulSet.
    pub subdomain: Option<String>,
    /// The one container's spec.
    pub container: Value,
    /// Where it runs.
    pub running: Running,
    /// Its ConfigMaps, by name.
    pub settings: Vec<(String, FileVolume)>,
    identity: Identity,
    grace: Duration,
    health: watch::Receiver<Health>,
    asking: JoinHandle<()>,
}

/// What a pod is started from.
pub struct Plan {
    pub name: String,
    pub labels: Map<String, Value>,
    pub subdomain: Option<String>,
    pub spec: Value,
    pub identity: Identity,
    pub settings: Vec<(String, FileVolume)>,
}

impl Pod {
    /// Begins to ask a container that was started.
    pub fn new(plan: Plan, running: Running) -> Self {
        let container = plan.spec["containers"][0].clone();
        let (told, health) = watch::channel(Health::default());
        let grace = &plan.spec["terminationGracePeriodSeconds"];
        let asking = tokio::spawn(probes::watch(container.clone(), running.clone(), told));
        Self {
            name: plan.name,
            labels: plan.labels,
            subdomain: plan.subdomain,
            container,
            running,
            settings: plan.settings,
            identity: plan.identity,
            grace: Duration::from_secs(grace.as_u64().unwrap_or(30)),
            health,
            asking,
        }
    }

    /// What its probes say now.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        self.running.docker.logs(&self.running.container)
    }

    fn inspect(&self, template: &str) -> String {
        let container = &self.running.container;
        self.running.docker.inspect(container, template)
    }

    /// Neither has it ended nor would the kubelet kill it.
    fn lives(&self) {
        let lost = self.health().lost;
        let state = self.inspect("{{.State.Status}}");
        assert!(
            lost.is_none() && state == "running",
            "{}: {state}, {lost:?}\n{}",
            self.name,
            self.log()
        );
    }

    /// Waits until the pod is in its Services, or out of them.
    pub async fn is_ready(&self, wanted: bool) {
        let what = match wanted {
            true => format!("{} is ready", self.name),
            false => format!("{} is ready no more", self.name),
        };
        eventually(&what, async || {
            self.lives();
            let health = self.health();
            (health.ready == wanted && health.alive > 0).then_some(())
        })
        .await;
    }

    /// Its process is who the manifest says, and may no more.
    pub fn is_confined(&self) {
        let pid = self.inspect("{{.State.Pid}}");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            let words = value.unwrap_or_else(|| panic!("no {name} in {status}"));
            words.split_whitespace().collect::<Vec<_>>()
        };
        let Identity {
            user,
            group,
            fs_group,
        } = self.identity;
        assert_eq!(field("Uid:"), [&*user.to_string(); 4]);
        assert_eq!(field("Gid:"), [&*group.to_string(); 4]);
        assert!(field("Groups:").contains(&&*fs_group.to_string()));
        for set in ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), ["0000000000000000"], "{set}");
        }
        assert_eq!(field("NoNewPrivs:"), ["1"]);
        // 2: a filter of system calls.
        assert_eq!(field("Seccomp:"), ["2"]);
        let host = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}}";
        let limit = &self.container["resources"]["limits"]["memory"];
        let limit = super::volumes::bytes(limit);
        assert_eq!(self.inspect(host), format!("true {limit}"));
        self.has_its_volumes(&pid);
    }

    /// Each of its mounts is there, of the pod's group, and no more writable than the manifest says.
    fn has_its_volumes(&self, pid: &str) {
        for mount in self.container["volumeMounts"].as_array().unwrap() {
            let path = mount["mountPath"].as_str().unwrap();
            // The file system as that process sees it.
            let path = format!("/proc/{pid}/root{path}");
            let there = fs::metadata(&path).unwrap();
            assert_eq!(there.gid(), self.identity.fs_group, "{mount}");
            let flags = statvfs(&*path).unwrap().f_flag;
            let read_only = flags.contains(StatVfsMountFlags::RDONLY);
            assert_eq!(read_only, mount["readOnly"] == true, "{mount}");
        }
    }

    /// The kubelet was told to end it: what runs before the signal has begun.
    pub fn leaves(self) -> Leaving {
        let begun = Instant::now();
        let written = &self.container["lifecycle"]["preStop"];
        let hook = Hook::new(&self.container, written, self.grace);
        let on = self.running.clone();
        Leaving {
            hook: tokio::spawn(async move { hook.run(&on).await }),
            pod: self,
            begun,
        }
    }
}

/// A pod whose end has begun.
pub struct Leaving {
    pub pod: Pod,
    hook: JoinHandle<Result<(), String>>,
    begun: Instant,
}

impl Leaving {
    /// Waits for the hook, then for the process, which has what the hook left of the grace period; it ends by itself, and well.
    pub async fn ends(self) {
        let Self { pod, hook, begun } = self;
        let hooked = hook.await.unwrap();
        assert_eq!(hooked, Ok(()), "{}: preStop\n{}", pod.name, pod.log());
        pod.lives();
        // From here on the kubelet asks nothing.
        pod.asking.abort();
        let docker = &pod.running.docker;
        let container = &pod.running.container;
        let left = pod.grace.saturating_sub(begun.elapsed()).as_secs();
        docker.run(&["stop", "--time", &left.to_string(), container]);
        // 137 is what the kubelet's last means would leave.
        let ended = pod.inspect("{{.State.ExitCode}} {{.State.OOMKilled}}");
        let log = pod.log();
        assert_eq!(ended, "0 false", "{}: {log}", pod.name);
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{} ended in {seconds:.2} s of {:?}: {ended}",
            pod.name, pod.grace
        );
        for line in log.lines() {
            let broken = line.contains("\"level\":\"ERROR\"") || line.contains("panicked");
            assert!(!broken, "{}: {line}", pod.name);
        }
        docker.run(&["rm", "--volumes", container]);
    }
}
