//! What the kubelet asks a container, and when: startup first, then readiness and liveness beside each other.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::only;
use crate::docker::Docker;

/// The kubelet reads no more of an answer.
const MAX_ANSWER: u64 = 10 * 1024;

/// A container that runs.
#[derive(Clone)]
pub struct Running {
    pub docker: Arc<Docker>,
    pub container: String,
    pub address: Ipv4Addr,
}

/// Something that is asked of a container, or done in it.
#[derive(Debug, Clone)]
enum Handler {
    Get { port: u16, path: String },
    Exec(Vec<String>),
}

/// A handler with how long it has.
#[derive(Debug, Clone)]
pub struct Hook {
    handler: Handler,
    patience: Duration,
}

/// The number of a port that the container names, or has by number.
pub fn port(container: &Value, port: &Value) -> u16 {
    let named = container["ports"].as_array().into_iter().flatten();
    let mut named = named.filter(|own| &own["name"] == port);
    let number = named.next().map_or(port, |own| &own["containerPort"]);
    let number = number.as_u64().and_then(|number| number.try_into().ok());
    number.unwrap_or_else(|| panic!("no port {port} in {}", container["ports"]))
}

impl Hook {
    /// Of a probe or a step of the life cycle.
    pub fn new(container: &Value, written: &Value, patience: Duration) -> Self {
        let handler = if let Some(command) = written["exec"]["command"].as_array() {
            let words = command.iter().filter_map(Value::as_str);
            Handler::Exec(words.map(str::to_owned).collect())
        } else {
            let get = &written["httpGet"];
            only(get, &["path", "port"]);
            Handler::Get {
                port: port(container, &get["port"]),
                path: get["path"].as_str().unwrap().to_owned(),
            }
        };
        Self { handler, patience }
    }

    /// Nothing, or why it failed.
    pub async fn run(&self, on: &Running) -> Result<(), String> {
        let done = async {
            match &self.handler {
                Handler::Get { port, path } => {
                    let at = SocketAddr::from((on.address, *port));
                    get(at, path).await.map_err(|error| error.to_string())?
                }
                Handler::Exec(words) => exec(on, words).await,
            }
        };
        let done = timeout(self.patience, done).await;
        let done = done.unwrap_or_else(|_| Err(format!("not within {:?}", self.patience)));
        done.map_err(|why| format!("{:?}: {why}", self.handler))
    }
}

async fn get(at: SocketAddr, path: &str) -> std::io::Result<Result<(), String>> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {at}\r\nUser-Agent: kube-probe/1.33\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok(match status {
        Some(200..400_u16) => Ok(()),
        _ => Err(answer),
    })
}

async fn exec(on: &Running, words: &[String]) -> Result<(), String> {
    let mut command = on.docker.command(&["exec", &on.container]);
    command.args(words);
    let output = tokio::process::Command::from(command).output().await;
    let output = output.map_err(|error| error.to_string())?;
    let said = [output.stdout, output.stderr].concat();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&said).into_owned()),
    }
}

/// What the kubelet knows of a container by its probes.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// The startup probe was answered.
    pub started: bool,
    /// In its Services.
    pub ready: bool,
    /// Answers to the liveness probe.
    pub alive: usize,
    /// Why it would be killed.
    pub lost: Option<String>,
}

/// One probe with its numbers.
struct Probe {
    hook: Hook,
    period: Duration,
    failures: u64,
}

impl Probe {
    fn of(container: &Value, name: &str) -> Self {
        let written = &container[name];
        let known = [
            "httpGet",
            "exec",
            "periodSeconds",
            "timeoutSeconds",
            "failureThreshold",
        ];
        only(written, &known);
        let number = |key: &str, or: u64| written[key].as_u64().unwrap_or(or);
        let patience = Duration::from_secs(number("timeoutSeconds", 1));
        Self {
            hook: Hook::new(container, written, patience),
            period: Duration::from_secs(number("periodSeconds", 10)),
            failures: number("failureThreshold", 3),
        }
    }

    /// Asks in its turns until `told` says that it is enough: it gets an answer, or the last of so many failures that count.
    async fn ask(&self, on: &Running, mut told: impl FnMut(Result<(), String>) -> bool) {
        let mut turns = interval(self.period);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = 0;
        loop {
            turns.tick().await;
            let answer = self.hook.run(on).await;
            failed = if answer.is_ok() { 0 } else { failed + 1 };
            if (failed == 0 || failed >= self.failures) && told(answer) {
                return;
            }
        }
    }
}

/// Asks a container as its manifest says, until it would be killed; what is known goes to `health`.
pub async fn watch(container: Value, on: Running, health: watch::Sender<Health>) {
    let lost = |why: String| health.send_modify(|health| health.lost = Some(why));
    let startup = Probe::of(&container, "startupProbe");
    startup
        .ask(&on, |answer| {
            match answer {
                Ok(()) => health.send_modify(|health| health.started = true),
                Err(why) => lost(why),
            }
            true
        })
        .await;
    if health.borrow().lost.is_some() {
        return;
    }
    let readiness = Probe::of(&container, "readinessProbe");
    let readiness = readiness.ask(&on, |answer| {
        health.send_modify(|health| health.ready = answer.is_ok());
        false
    });
    let liveness = Probe::of(&container, "livenessProbe");
    let liveness = liveness.ask(&on, |answer| match answer {
        Ok(()) => {
            health.send_modify(|health| health.alive += 1);
            false
        }
        Err(why) => {
            lost(why);
            true
        }
    });
    tokio::select! {
        () = readiness => {}
        () = liveness => {}
    }
}
