//! Where a node of this machine keeps its data directory, found by the rule that the node itself follows.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::node;
use crate::app::SOCKET_FILE;
use crate::settings::{self, DATA_PORT, Sources, data_dir};

/// Where the system keeps the state of services.
const SYSTEM_STATE: &str = "/var/lib/relayctl";

/// Directories that may be a node's, the likeliest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// The one that was named, or that a node with the same settings would take.
    pub first: PathBuf,
    /// Where other nodes of this user may be; empty if the first was named.
    pub others: Vec<PathBuf>,
}

/// Which of several places it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This one.
    One(PathBuf),
    /// None of them.
    Nowhere,
    /// More than one, and nothing says which.
    Several(Vec<PathBuf>),
}

impl Places {
    /// By `--data-dir`, else by the settings of this shell. `settings` is none where they cannot be read.
    pub fn new(
        flag: Option<&str>,
        environment: &[(String, String)],
        settings: Option<&settings::Settings>,
    ) -> Self {
        let named = flag
            .map(PathBuf::from)
            .or_else(|| settings.and_then(|settings| settings.data_dir.clone()))
            .or_else(|| variable(environment, "RELAYCTL_DATA_DIR").map(PathBuf::from));
        if let Some(first) = named {
            let others = Vec::new();
            return Self { first, others };
        }
        let port = settings.map_or(DATA_PORT, |settings| settings.bind.port);
        let first = data_dir::choose(environment, port, Path::new(SYSTEM_STATE));
        let mut others = of_other_ports(environment);
        others.push(SYSTEM_STATE.into());
        others.retain(|other| *other != first);
        Self { first, others }
    }

    /// The one place where `there` is true; the first before all others.
    pub fn find(&self, there: impl Fn(&Path) -> bool) -> Found {
        if there(&self.first) {
            return Found::One(self.first.clone());
        }
        let mut found: Vec<PathBuf> = self
            .others
            .iter()
            .filter(|place| there(place))
            .cloned()
            .collect();
        match (found.pop(), found.is_empty()) {
            (None, _) => Found::Nowhere,
            (Some(one), true) => Found::One(one),
            (Some(last), false) => {
                found.push(last);
                Found::Several(found)
            }
        }
    }

    /// All, for a message.
    pub fn listed(&self) -> String {
        std::iter::once(&self.first)
            .chain(&self.others)
            .map(|place| format!("`{}`", place.display()))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// The places by the settings of this shell, wrong ones left out: a client command must work where a
/// node's settings are not to be had.
pub(super) fn places(flag: Option<&str>) -> (Places, Option<settings::Settings>) {
    let environment = node::environment();
    let sources = Sources {
        file: variable(&environment, "RELAYCTL_CONFIG").map(PathBuf::from),
        environment: environment.clone(),
        flags: Vec::new(),
    };
    let settings = settings::load(&sources).ok().map(|loaded| loaded.settings);
    (Places::new(flag, &environment, settings.as_ref()), settings)
}

/// True if a node answers on the socket in `place`.
pub(super) fn lives(place: &Path) -> bool {
    UnixStream::connect(place.join(SOCKET_FILE)).is_ok()
}

/// A variable that is set and not empty.
pub(super) fn variable<'a>(environment: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    environment
        .iter()
        .find(|(name, value)| name == wanted && !value.is_empty())
        .map(|(_, value)| value.as_str())
}

/// `$XDG_STATE_HOME/relayctl/<port>` for each port that there is.
fn of_other_ports(environment: &[(String, String)]) -> Vec<PathBuf> {
    // A directory that nobody can write makes the rule go on to the user's own place.
    let own = data_dir::choose(environment, DATA_PORT, Path::new("/proc/1/relayctl"));
    let Some(parent) = own.parent() else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut ports: Vec<(u16, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    ports.sort();
    ports.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &Path)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), value.display().to_string()))
            .collect()
    }

    #[test]
    fn a_named_directory_is_the_only_place() {
        let scene = tempfile::tempdir().unwrap();
        let variables = environment(&[("RELAYCTL_DATA_DIR", scene.path())]);
        let places = Places::new(Some("/x"), &variables, None);
        assert_eq!(places.first, Path::new("/x"));
        assert!(places.others.is_empty());
        let places = Places::new(None, &variables, None);
        assert_eq!(places.first, scene.path());
        assert_eq!(places.find(|_| false), Found::Nowhere);
        assert_eq!(places.find(|_| true), Found::One(scene.path().into()));
    }

    #[test]
    fn one_of_several_ports_is_taken_and_two_are_listed() {
        let scene = tempfile::tempdir().unwrap();
        for port in ["8000", "9000", "junk"] {
            std::fs::create_dir_all(scene.path().join("relayctl").join(port)).unwrap();
        }
        let variables = environment(&[("XDG_STATE_HOME", scene.path())]);
        let ports = of_other_ports(&variables);
        let state = |port| scene.path().join("relayctl").join(port);
        assert_eq!(ports, [state("8000"), state("9000")]);
        let places = Places {
            first: "/nowhere".into(),
            others: ports,
        };
        assert_eq!(
            places.find(|place| place.ends_with("9000")),
            Found::One(state("9000"))
        );
        assert_eq!(
            places.find(|place| place.starts_with(scene.path())),
            Found::Several(vec![state("8000"), state("9000")])
        );
        assert!(places.listed().contains("/relayctl/8000`, `"));
    }
}
