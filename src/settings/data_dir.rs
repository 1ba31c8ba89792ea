//! The directory where a node keeps what must last. Locked, so that two nodes never share one.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation};

/// Longest file that [`DataDir::read`] reads, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Holds the number of the process that has the lock, for the message to the next one.
const PID_FILE: &str = "pid";

/// How the name of a file begins that is being written.
const HALF_DONE: &str = ".new-";

/// Random characters behind it, as the crate `tempfile` makes them.
const RANDOM: usize = 6;

/// Why there is no directory.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another node has it.
    #[error(
        "the data directory `{path}` is in use by another node{pid}: give each node its own \
         (`--data-dir` or RELAYCTL_DATA_DIR)"
    )]
    InUse {
        /// Which.
        path: PathBuf,
        /// ` (process 123)`, or nothing.
        pid: String,
    },
    /// Something else.
    #[error("cannot use the data directory `{path}`: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A directory that this process alone uses, as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    writable: bool,
    /// None where there is no directory and none could be made, or a read-only one knows no locks.
    lock: Option<File>,
}

/// Where the data directory is, if nobody names one: `$STATE_DIRECTORY`, else `system` if writable, else
/// `$XDG_STATE_HOME/relayctl/<port>` (`~/.local/state` where that is not set).
///
/// `system` is `/var/lib/relayctl`.
pub fn choose(environment: &[(String, String)], port: u16, system: &Path) -> PathBuf {
    let variable = |wanted: &str| {
        environment
            .iter()
            .find(|(name, value)| name == wanted && !value.is_empty())
            .map(|(_, value)| value.as_str())
    };
    // systemd joins several with colons.
    let state = variable("STATE_DIRECTORY").and_then(|list| list.split(':').next());
    if let Some(state) = state {
        return state.into();
    }
    if is_writable(system) || (!system.exists() && system.parent().is_some_and(is_writable)) {
        return system.into();
    }
    let home = match (variable("XDG_STATE_HOME"), variable("HOME")) {
        (Some(state), _) => PathBuf::from(state),
        (None, Some(home)) => Path::new(home).join(".local/state"),
        // Nobody's home: the system's place, read-only.
        (None, None) => return system.into(),
    };
    home.join("relayctl").join(port.to_string())
}

/// The one of [`choose`] for this machine.
pub fn default_path(environment: &[(String, String)], port: u16) -> PathBuf {
    choose(environment, port, Path::new("/var/lib/relayctl"))
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

impl DataDir {
    /// Makes the directory (mode 0700) where it is missing, and locks it. One that cannot be made or
    /// written is taken as read-only.
    ///
    /// # Errors
    /// Where another node holds it, or it is there and cannot be opened.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |error: io::Error| DataDirError::Io {
            path: path.into(),
            error,
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        if made.is_err() && !path.exists() {
            return Ok(Self {
                path: path.into(),
                writable: false,
                lock: None,
            });
        }
        made.map_err(failed)?;
        let writable = is_writable(path);
        let lock = if writable {
            Some(
                lock_by_file(path)
                    .map_err(failed)?
                    .ok_or_else(|| in_use(path))?,
            )
        } else {
            lock_read_only(path).map_err(|()| in_use(path))?
        };
        Ok(Self {
            path: path.into(),
            writable,
            lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// False for one that is read-only, or that could not be made.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// True if the directory is there and held by this value.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// The content of a file in it; none if it is missing. Where the mode shows it to others, that ends.
    ///
    /// # Errors
    /// Where it is there and cannot be read, or is larger than 16 MiB.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DataDirError> {
        let path = self.path.join(name);
        let failed = |error: io::Error| DataDirError::Io {
            path: path.clone(),
            error,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                    _ => Err(failed(error)),
                };
            }
        };
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            // A file that belongs to another user stays as it is: that is the operator's doing.
            let _ = file.set_permissions(Permissions::from_mode(0o600));
        }
        let mut content = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut content)
            .map_err(failed)?;
        if content.len() as u64 > MAX_FILE {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        Ok(Some(content))
    }

    /// Writes a file in it, mode 0600, so that a reader (and a machine that loses power) sees the old
    /// content or the new one, never a part.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(name);
        self.write_file(&path, content)
            .map_err(|error| DataDirError::Io {
                path: path.clone(),
                error,
            })?;
        Ok(path)
    }

    /// Gives a file that cannot be understood the name `<name>.damaged`, where no write destroys it. One that was set
    /// aside before is replaced.
    ///
    /// # Errors
    /// Where it cannot be renamed.
    pub fn set_aside(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(name);
        let aside = self.path.join(format!("{name}.damaged"));
        match fs::rename(&path, &aside) {
            Ok(()) => Ok(aside),
            Err(error) => Err(DataDirError::Io { path, error }),
        }
    }

    /// Takes away what writers of processes that died left half done, here and in `folders` of it; gives their number.
    /// Nothing where the directory is not locked, since another process may be writing then.
    pub fn sweep(&self, folders: &[&str]) -> usize {
        if !self.writable || self.lock.is_none() {
            return 0;
        }
        let below = folders.iter().map(|folder| self.path.join(folder));
        let all = std::iter::once(self.path.clone()).chain(below);
        all.map(|folder| sweep_one(&folder)).sum()
    }

    fn write_file(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(HALF_DONE)
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.path)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // The name itself must reach the disk too.
        File::open(&self.path)?.sync_all()
    }
}

fn sweep_one(folder: &Path) -> usize {
    let is_half_done = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(HALF_DONE));
        random.is_some_and(|random| {
            random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
        }) && entry.file_type().is_ok_and(|kind| kind.is_file())
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let removed = entries
        .filter(is_half_done)
        .filter(|entry| fs::remove_file(entry.path()).is_ok());
    removed.count()
}

/// Locks by a file that names this process; none if another one holds it. The file is never removed: a
/// new one of the same name would be another lock. It is opened for writing, since NFS asks for that.
fn lock_by_file(path: &Path) -> io::Result<Option<File>> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join(PID_FILE))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    file.set_len(0)?;
    file.write_all(std::process::id().to_string().as_bytes())?;
    Ok(Some(file))
}

/// Locks the directory itself, where no file can be made. A file system without locks is no hindrance:
/// nothing is written there. An error is another node.
fn lock_read_only(path: &Path) -> Result<Option<File>, ()> {
    let Ok(directory) = File::open(path) else {
        return Ok(None);
    };
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(directory)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(()),
        Err(_) => Ok(None),
    }
}

fn in_use(path: &Path) -> DataDirError {
    let pid = fs::read_to_string(path.join(PID_FILE))
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .map(|pid| format!(" (process {pid})"))
        .unwrap_or_default();
    DataDirError::InUse {
        path: path.into(),
        pid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn what_a_crash_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let dir = DataDir::open(&path).unwrap();
        fs::create_dir_all(path.join("rendered")).unwrap();
        fs::create_dir_all(path.join("other")).unwrap();
        let swept = [".new-aB3dEf", "rendered/.new-000000"];
        let kept = [
            ".new-aB3dE",
            ".new-aB3dEfg",
            "new-aB3dEf",
            "other/.new-aB3dEf",
        ];
        for name in swept.iter().chain(&kept) {
            fs::write(path.join(name), b"x").unwrap();
        }
        fs::create_dir(path.join(".new-folder")).unwrap();
        assert_eq!(dir.sweep(&["rendered", "missing"]), swept.len());
        assert_eq!(dir.sweep(&["rendered"]), 0);
        for name in kept {
            assert!(path.join(name).exists(), "{name}");
        }
        assert!(path.join(".new-folder").is_dir());
    }

    #[test]
    fn the_place_by_the_contract() {
        let scene = tempfile::tempdir().unwrap();
        let system = scene.path().join("relayctl");
        let gone = scene.path().join("missing/relayctl");
        let all = pairs(&[
            ("STATE_DIRECTORY", "/s:/t"),
            ("XDG_STATE_HOME", "/x"),
            ("HOME", "/h"),
        ]);
        assert_eq!(choose(&all, 8000, &system), Path::new("/s"));
        assert_eq!(choose(&all[1..], 8000, &system), system);
        assert_eq!(
            choose(&all[1..], 8000, &gone),
            Path::new("/x/relayctl/8000")
        );
        assert_eq!(
            choose(&all[2..], 81, &gone),
            Path::new("/h/.local/state/relayctl/81")
        );
    }

    #[test]
    fn two_nodes_never_share_one() {
        let scene = tempfile::tempdir().unwrap();
        let path = scene.path().join("data");
        let first = DataDir::open(&path).unwrap();
        assert!(first.is_writable() && first.is_locked());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        assert!(DataDir::open(&path).is_ok());
    }

    #[test]
    fn a_directory_that_nobody_may_write_is_locked_too() {
        let scene = tempfile::tempdir().unwrap();
        let first = lock_read_only(scene.path()).unwrap();
        assert!(first.is_some());
        assert!(lock_read_only(scene.path()).is_err());
        drop(first);
        assert!(lock_read_only(scene.path()).is_ok());
    }

    #[test]
    fn files_are_private_and_replaced_whole() {
        let scene = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(scene.path()).unwrap();
        assert_eq!(data_dir.read("a").unwrap(), None);
        data_dir.write("a", b"one").unwrap();
        let path = data_dir.write("a", b"two").unwrap();
        assert_eq!(data_dir.read("a").unwrap().unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        data_dir.read("a").unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let names: Vec<_> = fs::read_dir(scene.path()).unwrap().collect();
        assert_eq!(names.len(), 2, "a and pid, nothing left over: {names:?}");
    }

    #[test]
    fn a_place_that_cannot_be_made_is_read_only() {
        let scene = tempfile::tempdir().unwrap();
        fs::write(scene.path().join("file"), "").unwrap();
        let data_dir = DataDir::open(&scene.path().join("file/data")).unwrap();
        assert!(!data_dir.is_writable() && !data_dir.is_locked());
        assert!(data_dir.write("a", b"x").is_err());
    }
}
