//! The directory of a node's socket where its data directory takes none: it is read-only, is missing, or lies too deep for
//! the address of a socket.
//!
//! It is `BASE/relayctl-UID/PORT-TAG`, below the first base that can be used: `$RUNTIME_DIRECTORY`, `/run/relayctl`,
//! `$TMPDIR` (else `/tmp`). `relayctl-UID` has mode 0700 and belongs to the node's user, which the node makes sure of and
//! a client checks; a symbolic link in its place is refused. TAG stands for the data directory, so that two nodes with one
//! port (in two network namespaces, or on two addresses) have two sockets.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use sha2::{Digest as _, Sha256};

/// Where the system keeps what lasts until the next boot.
const SYSTEM_RUNTIME: &str = "/run/relayctl";

/// Directory for temporary files where `$TMPDIR` is not set.
const TEMPORARY: &str = "/tmp";

/// Begins the name of a user's directory; its number follows.
const PREFIX: &str = "relayctl-";

/// Most directories that are looked at below one base, so that a stranger who fills `/tmp` does not stop a client.
const MAX_LOOKED_AT: usize = 4096;

/// The places that may hold such directories, the first choice first.
pub fn bases(environment: &[(String, String)]) -> Vec<PathBuf> {
    let variable = |wanted: &str| {
        let set = environment
            .iter()
            .find(|(name, value)| name == wanted && !value.is_empty());
        set.map(|(_, value)| value.as_str())
    };
    // systemd joins several with colons.
    let runtime = variable("RUNTIME_DIRECTORY").and_then(|list| list.split(':').next());
    let temporary = variable("TMPDIR").unwrap_or(TEMPORARY);
    let mut bases: Vec<PathBuf> = runtime.into_iter().map(PathBuf::from).collect();
    for base in [SYSTEM_RUNTIME, temporary] {
        if !bases.iter().any(|known| known == Path::new(base)) {
            bases.push(base.into());
        }
    }
    bases
}

/// A node's own directory, which no other node takes while the value lives. Dropping it removes the directory.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    /// Holds the lock.
    _directory: File,
}

impl RuntimeDir {
    /// Makes the directory below `base` for the node with that data port and data directory.
    ///
    /// # Errors
    /// Where `base` cannot be written, what stands there is a link or belongs to another user, or another node has it.
    pub fn create(base: &Path, port: u16, data_dir: &Path) -> io::Result<Self> {
        let own = rustix::process::geteuid().as_raw();
        let of_user = base.join(format!("{PREFIX}{own}"));
        // `/run/relayctl` itself may be missing; a base that an operator named is not for us to make.
        if base == Path::new(SYSTEM_RUNTIME) {
            let _ = DirBuilder::new().mode(0o755).create(base);
        }
        make(&of_user)?;
        own_alone(&of_user, own)?;
        let path = of_user.join(format!("{port}-{}", tag(data_dir)));
        make(&path)?;
        let directory = own_alone(&path, own)?;
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self {
            path,
            _directory: directory,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        // The user's directory stays: another node may be about to use it.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens the directory itself, not what a link leads to.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    File::options().read(true).custom_flags(flags).open(path)
}

/// Makes sure that nobody but `own` may enter.
fn own_alone(path: &Path, own: u32) -> io::Result<File> {
    let directory = open(path)?;
    let metadata = directory.metadata()?;
    if metadata.uid() != own {
        let text = format!(
            "`{}` belongs to user {}, not to this process's user {own}",
            path.display(),
            metadata.uid()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    if metadata.mode() & 0o777 != 0o700 {
        directory.set_permissions(Permissions::from_mode(0o700))?;
    }
    Ok(directory)
}

/// Short and the same for the same directory, however it is written.
fn tag(data_dir: &Path) -> String {
    let whole = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.into());
    let whole: PathBuf = whole.components().collect();
    let digest = Sha256::digest(whole.as_os_str().as_encoded_bytes());
    let bytes = digest.iter().take(4);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// The directories of nodes below `bases` that this process may trust, those of the data directory `of` or all: its own
/// user's, and for root every user's. A directory that is a link, is open to others, or whose owner is not the one in its
/// name is left out.
pub fn found(bases: &[PathBuf], of: Option<&Path>) -> Vec<PathBuf> {
    let own = rustix::process::geteuid().as_raw();
    let tag = of.map(tag);
    let mut found = Vec::new();
    for base in bases {
        let users = match own {
            0 => listed(base),
            own => vec![base.join(format!("{PREFIX}{own}"))],
        };
        for user in users.iter().filter(|user| is_of_its_user(user)) {
            let nodes = listed(user).into_iter().filter(|node| {
                let name = node.file_name().and_then(|name| name.to_str());
                let end = name.and_then(|name| name.split_once('-'));
                end.is_some_and(|(_, end)| tag.as_ref().is_none_or(|tag| end == tag))
            });
            found.extend(nodes);
        }
    }
    found
}

fn listed(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let entries = entries.flatten().take(MAX_LOOKED_AT);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// True for `relayctl-UID` that belongs to that user and is open to nobody else.
fn is_of_its_user(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let user = name.and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
    let metadata = fs::symlink_metadata(path).ok();
    let (Some(user), Some(metadata)) = (user, metadata) else {
        return false;
    };
    metadata.is_dir() && metadata.uid() == user && metadata.mode() & 0o077 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn the_bases_in_their_order() {
        let paths = |list: &[&str]| -> Vec<PathBuf> { list.iter().map(PathBuf::from).collect() };
        assert_eq!(bases(&[]), paths(&["/run/relayctl", "/tmp"]));
        let all = pairs(&[("RUNTIME_DIRECTORY", "/r:/s"), ("TMPDIR", "/t")]);
        assert_eq!(bases(&all), paths(&["/r", "/run/relayctl", "/t"]));
        let same = pairs(&[("RUNTIME_DIRECTORY", "/run/relayctl"), ("TMPDIR", "")]);
        assert_eq!(bases(&same), paths(&["/run/relayctl", "/tmp"]));
    }

    #[test]
    fn two_nodes_have_two_and_each_is_found_by_its_data_directory() {
        let scene = tempfile::tempdir().unwrap();
        let base = scene.path();
        let (one, two) = (Path::new("/data/one"), Path::new("/data/two/"));
        let first = RuntimeDir::create(base, 8000, one).unwrap();
        let second = RuntimeDir::create(base, 8000, two).unwrap();
        let third = RuntimeDir::create(base, 9000, one).unwrap();
        assert_ne!(first.path(), second.path());
        let bases = [base.to_owned()];
        assert_eq!(
            found(&bases, Some(one)),
            [first.path().to_owned(), third.path().to_owned()]
        );
        assert_eq!(
            found(&bases, Some(Path::new("/data/two"))),
            [second.path().to_owned()]
        );
        assert_eq!(found(&bases, None).len(), 3);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(first.path()), 0o700);
        assert_eq!(mode(first.path().parent().unwrap()), 0o700);
        let error = RuntimeDir::create(base, 8000, one).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "one node has it");
        drop((first, second, third));
        assert!(found(&bases, None).is_empty(), "nothing is left");
    }

    #[test]
    fn an_open_directory_is_closed_by_the_node_and_not_trusted_by_a_client() {
        let scene = tempfile::tempdir().unwrap();
        let of_user = scene.path().join(format!("{PREFIX}{}", own()));
        fs::create_dir_all(of_user.join("8000-00000000")).unwrap();
        fs::set_permissions(&of_user, Permissions::from_mode(0o777)).unwrap();
        let bases = [scene.path().to_owned()];
        assert!(found(&bases, None).is_empty());
        let _own = RuntimeDir::create(scene.path(), 9000, Path::new("/d")).unwrap();
        assert_eq!(found(&bases, None).len(), 2);
    }

    #[test]
    fn a_link_is_refused_on_both_sides() {
        let scene = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir(elsewhere.path().join("8000-00000000")).unwrap();
        let of_user = scene.path().join(format!("{PREFIX}{}", own()));
        std::os::unix::fs::symlink(elsewhere.path(), &of_user).unwrap();
        assert!(RuntimeDir::create(scene.path(), 8000, Path::new("/d")).is_err());
        assert!(found(&[scene.path().to_owned()], None).is_empty());
    }

    #[test]
    fn another_users_directory_is_refused_on_both_sides() {
        let scene = tempfile::tempdir().unwrap();
        let other = scene.path().join(format!("{PREFIX}{}", own() + 1));
        make(&other).unwrap();
        let error = own_alone(&other, own() + 1).unwrap_err();
        assert!(error.to_string().contains("belongs to user"), "{error}");
        assert!(!is_of_its_user(&other));
        let mine = scene.path().join(format!("{PREFIX}{}", own()));
        make(&mine).unwrap();
        assert!(is_of_its_user(&mine));
    }
}
