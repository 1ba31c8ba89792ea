//! Where a node of this machine keeps its data directory and its socket, found by the rules that the node itself
//! follows.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{Exit, Failure, node};
use crate::app::SOCKET_FILE;
use crate::settings::{self, DATA_PORT, Sources, data_dir, runtime_dir};

/// Where the system keeps the state of services.
const SYSTEM_STATE: &str = "/var/lib/relayctl";

/// Directories that may be a node's, the likeliest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// The one that was named, or that a node with the same settings would take.
    pub first: PathBuf,
    /// Runtime directories of nodes with that data directory, whose socket is there.
    pub runtime: Vec<PathBuf>,
    /// Where other nodes of this user may be; empty if the first was named.
    pub others: Vec<PathBuf>,
    /// Where runtime directories were looked for.
    bases: Vec<PathBuf>,
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
        let bases = runtime_dir::bases(environment);
        if let Some(first) = named {
            return Self {
                runtime: runtime_dir::found(&bases, Some(&first)),
                others: Vec::new(),
                first,
                bases,
            };
        }
        let port = settings.map_or(DATA_PORT, |settings| settings.bind.port);
        let first = data_dir::choose(environment, port, Path::new(SYSTEM_STATE));
        let runtime = runtime_dir::found(&bases, Some(&first));
        let mut others = of_other_ports(environment);
        others.push(SYSTEM_STATE.into());
        others.extend(runtime_dir::found(&bases, None));
        others.retain(|other| *other != first && !runtime.contains(other));
        Self {
            first,
            runtime,
            others,
            bases,
        }
    }

    /// The one place where `there` is true; the first and its runtime directories before all others.
    pub fn find(&self, there: impl Fn(&Path) -> bool) -> Found {
        if there(&self.first) {
            return Found::One(self.first.clone());
        }
        let of = |places: &[PathBuf]| -> Vec<PathBuf> {
            let found = places.iter().filter(|place| there(place));
            found.cloned().collect()
        };
        let mut found = of(&self.runtime);
        if found.is_empty() {
            found = of(&self.others);
        }
        match (found.pop(), found.is_empty()) {
            (None, _) => Found::Nowhere,
            (Some(one), true) => Found::One(one),
            (Some(last), false) => {
                found.push(last);
                Found::Several(found)
            }
        }
    }

    /// The first place that the system keeps this user out of: whether a node runs there cannot be seen.
    pub fn forbidden(&self) -> Option<&Path> {
        let all = std::iter::once(&self.first)
            .chain(&self.runtime)
            .chain(&self.others);
        let denied = |place: &&Path| {
            let socket = UnixStream::connect(place.join(SOCKET_FILE));
            socket.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        };
        all.map(PathBuf::as_path).find(denied)
    }

    /// The data directory of the node that was found in `place`, as far as that is known.
    pub fn data_dir_of(&self, place: &Path) -> PathBuf {
        match self.runtime.iter().any(|own| own == place) {
            true => self.first.clone(),
            false => place.into(),
        }
    }

    /// All, for a message.
    pub fn listed(&self) -> String {
        std::iter::once(&self.first)
            .chain(&self.others)
            .chain(&self.bases)
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

/// The refusal where the system keeps this user out of `place`, with the command that is not kept out.
pub(super) fn not_permitted(place: &Path) -> Failure {
    let words = std::env::args().skip(1);
    let words: Vec<String> = words.take_while(|word| !word.starts_with('-')).collect();
    let words = super::table::clean(&words.join(" "));
    Failure::said(
        Exit::Denied,
        format!(
            "permission denied: `{}` belongs to another user: ask as that user or as root (`sudo relayctl {words}`), or \
             by --addr and a token",
            place.display()
        ),
    )
}

/// True if a process of this user or of root answers on the socket in `place`; to root any user's node is one.
pub(super) fn lives(place: &Path) -> bool {
    let Ok(socket) = UnixStream::connect(place.join(SOCKET_FILE)) else {
        return false;
    };
    let own = rustix::process::geteuid();
    let peer = rustix::net::sockopt::socket_peercred(&socket);
    own.is_root() || peer.is_ok_and(|peer| peer.uid == own || peer.uid.is_root())
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
            runtime: Vec::new(),
            others: ports,
            bases: vec!["/run/relayctl".into()],
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
        assert!(places.listed().ends_with("`/run/relayctl`"));
    }
    #[test]
    fn the_runtime_directory_of_the_first_comes_before_others() {
        let places = Places {
            first: "/data".into(),
            runtime: vec!["/run/relayctl/relayctl-1/8000-aa".into()],
            others: vec!["/other".into()],
            bases: Vec::new(),
        };
        let own = Path::new("/run/relayctl/relayctl-1/8000-aa");
        let found = places.find(|place| place != Path::new("/data"));
        assert_eq!(found, Found::One(own.into()));
        assert_eq!(places.data_dir_of(own), Path::new("/data"));
        assert_eq!(places.data_dir_of(Path::new("/other")), Path::new("/other"));
        let other = places.find(|place| place.ends_with("other"));
        assert_eq!(other, Found::One("/other".into()));
    }
}
