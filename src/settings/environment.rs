//! Variables to layers. Takes them as a list: never asks the process for its own.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::keys::{self, Kind, NO_SETTINGS, PREFIX};
use super::layer::{Layer, Origin};
use super::problem::Problem;
use super::secret_file;

/// The three layers of an environment, and what was left aside.
#[derive(Default)]
pub(super) struct Environment {
    /// `OPENSHIFT_*`, the lowest.
    pub(super) platform: Layer,
    /// The other old names.
    pub(super) old: Layer,
    /// `RELAYCTL_*`, the highest.
    pub(super) ours: Layer,
    /// Names that Kubernetes injected for a Service called `relayctl…`.
    pub(super) ignored: Vec<String>,
    /// Files of secrets that it names.
    pub(super) files: Vec<PathBuf>,
    pub(super) problems: Vec<Problem>,
}

/// Which of the layers.
#[derive(Clone, Copy)]
enum Level {
    Platform,
    Old,
    Ours,
}

/// Sorts `variables`. An empty value is as none.
pub(super) fn read(variables: &[(String, String)]) -> Environment {
    let mut environment = Environment::default();
    for (name, value) in variables {
        if value.is_empty() {
            environment.empty(name);
        } else if name.starts_with(PREFIX) {
            environment.ours(name, value);
        } else {
            environment.others(name, value);
        }
    }
    environment.ignored.sort();
    environment
}

impl Environment {
    /// An empty variable says nothing, but a wrong name is wrong all the same.
    fn empty(&mut self, name: &str) {
        let known = !name.starts_with(PREFIX)
            || NO_SETTINGS.contains(&name)
            || keys::path_of(name).is_some_and(|path| {
                keys::find(&path).is_some()
                    || keys::not_yet(&path, None).is_some()
                    || secret_of(&path).is_some()
            });
        if !known {
            self.problem(name, "is no setting", &keys::nearest_variable(name));
        }
    }

    fn ours(&mut self, name: &str, value: &str) {
        if NO_SETTINGS.contains(&name) {
            return;
        }
        if is_service_variable(name, value) {
            self.ignored.push(name.into());
            return;
        }
        let path = keys::path_of(name).filter(|path| keys::environment_name(path) == name);
        let Some(path) = path else {
            return self.problem(name, "is no setting", &keys::nearest_variable(name));
        };
        if let Some(key) = keys::find(&path) {
            self.put(Level::Ours, key.path, name, Value::String(value.into()));
        } else if let Some(reason) = keys::not_yet(&path, None) {
            self.problem(name, reason, "");
        } else if let Some(path) = secret_of(&path) {
            self.secret(Level::Ours, path, name, value);
        } else {
            self.problem(name, "is no setting", &keys::nearest_variable(name));
        }
    }

    fn others(&mut self, name: &str, value: &str) {
        if let Some(reason) = keys::not_yet(name, None).filter(|_| name.contains("BACKEND")) {
            return self.problem(name, reason, "");
        }
        if let Some(old) = keys::find_old(name) {
            let level = if old.platform {
                Level::Platform
            } else {
                Level::Old
            };
            return self.put(level, old.sets, name, Value::String(value.into()));
        }
        let old = name.strip_suffix("_FILE").and_then(keys::find_old);
        let secret = old.and_then(|old| keys::find(old.sets));
        if let Some(key) = secret.filter(|key| matches!(key.kind, Kind::Secret)) {
            self.secret(Level::Old, key.path, name, value);
        }
    }

    fn secret(&mut self, level: Level, path: &'static str, name: &str, file: &str) {
        self.files.push(file.into());
        match secret_file::read(Path::new(file)) {
            Ok(secret) => self.put(level, path, name, Value::String(secret)),
            Err(what) => self.problem(
                name,
                &what,
                "write the path of a file that this user may read",
            ),
        }
    }

    fn put(&mut self, level: Level, path: &'static str, name: &str, value: Value) {
        let layer = match level {
            Level::Platform => &mut self.platform,
            Level::Old => &mut self.old,
            Level::Ours => &mut self.ours,
        };
        if let Some(other) = layer.origin(path).cloned() {
            self.problem(name, &format!("says the same as {other}"), "leave one out");
        } else {
            layer.add(path, value, Origin::Environment(name.into()));
        }
    }

    fn problem(&mut self, name: &str, what: &str, hint: &str) {
        let origin = Origin::Environment(name.into());
        self.problems.push(Problem::new(name, &origin, what, hint));
    }
}

/// The path of the secret whose file `path` names.
fn secret_of(path: &str) -> Option<&'static str> {
    keys::find(path.strip_suffix("_file")?)
        .filter(|key| matches!(key.kind, Kind::Secret))
        .map(|key| key.path)
}

/// True for what Kubernetes injects for a Service called `relayctl…`: `*_SERVICE_HOST`,
/// `*_SERVICE_PORT*`, and `*_PORT`, `*_PORT_<n>_TCP*` (or UDP, SCTP). A bare `*_PORT` and
/// `*_PORT_<n>_TCP` count only with a URL such as `tcp://10.0.0.1:8000`.
fn is_service_variable(name: &str, value: &str) -> bool {
    if keys::path_of(name).is_some_and(|path| keys::find(&path).is_some()) {
        return is_service_url(value) && name.ends_with("_PORT");
    }
    if name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") {
        return true;
    }
    if name.ends_with("_PORT") && !name.contains("_PORT_") {
        return is_service_url(value);
    }
    let Some((_, rest)) = name.split_once("_PORT_") else {
        return false;
    };
    let mut words = rest.split('_');
    let numbered = words.next().is_some_and(|word| word.parse::<u16>().is_ok());
    let protocol = matches!(words.next(), Some("TCP" | "UDP" | "SCTP"));
    let kind = match words.next() {
        None => is_service_url(value),
        Some("PROTO" | "PORT" | "ADDR") => true,
        Some(_) => false,
    };
    numbered && protocol && kind && words.next().is_none()
}

fn is_service_url(value: &str) -> bool {
    ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What the kubelet injects for one Service with two ports.
    pub(in super::super) fn service(name: &str, address: &str) -> Vec<(String, String)> {
        let name = name.to_ascii_uppercase().replace('-', "_");
        let mut variables = vec![
            (format!("{name}_SERVICE_HOST"), address.into()),
            (format!("{name}_SERVICE_PORT"), "8000".into()),
            (format!("{name}_SERVICE_PORT_HTTP"), "8000".into()),
            (format!("{name}_SERVICE_PORT_SHOUTCAST"), "8001".into()),
            (format!("{name}_PORT"), format!("tcp://{address}:8000")),
        ];
        for port in [8000, 8001] {
            let base = format!("{name}_PORT_{port}_TCP");
            variables.push((base.clone(), format!("tcp://{address}:{port}")));
            variables.push((format!("{base}_PROTO"), "tcp".into()));
            variables.push((format!("{base}_PORT"), port.to_string()));
            variables.push((format!("{base}_ADDR"), address.into()));
        }
        variables
    }

    #[test]
    fn variables_of_services_are_left_aside_and_listed() {
        let mut variables = service("relayctl", "10.0.0.1");
        variables.extend(service("relayctl-primary", "10.0.0.2"));
        variables.extend(service("relayctl-bind", "10.0.0.3"));
        let environment = read(&variables);
        assert_eq!(environment.problems, []);
        assert_eq!(environment.ignored.len(), 39);
        assert!(environment.ignored.contains(&"RELAYCTL_PORT".into()));
    }

    #[test]
    fn a_port_that_is_no_url_is_a_mistake() {
        let environment = read(&[("RELAYCTL_PORT".into(), "8000".into())]);
        assert_eq!(environment.problems.len(), 1);
        let environment = read(&[("RELAYCTL_PORT_80_TCP".into(), "80".into())]);
        assert_eq!(environment.problems.len(), 1);
        let environment = read(&[("RELAYCTL_PORT_80_TCP_ODD".into(), "80".into())]);
        assert_eq!(environment.problems.len(), 1);
    }

    #[test]
    fn client_names_are_known_and_other_peoples_names_are_theirs() {
        let environment = read(&[
            ("RELAYCTL_ADDR".into(), "http://a".into()),
            ("RELAYCTL_API_TOKEN".into(), "t".into()),
            ("PATH".into(), "/bin".into()),
            ("PASSWORD".into(), "x".into()),
        ]);
        assert_eq!(environment.problems, []);
    }

    #[test]
    fn case_and_single_underscores_matter() {
        for name in ["RELAYCTL_bind", "RELAYCTL_FANOUT_MAX_DELAY", "RELAYCTL_Bnd"] {
            let environment = read(&[(name.into(), "1".into())]);
            assert_eq!(environment.problems.len(), 1, "{name}");
            assert!(
                environment.problems[0].hint.contains("did you mean"),
                "{name}: {}",
                environment.problems[0]
            );
        }
    }
}
