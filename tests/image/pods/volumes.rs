//! Volumes as the kubelet makes them: what is in them, whose they are, and how they get into a container.
//!
//! The rules are those of `pkg/volume`: a volume of files is written through `..data`, a link that is exchanged as a whole
//! (`util/atomic_writer.go`); where the pod has an fsGroup, everything is of that group, which may do what the owner may, and
//! folders hand the group on (`volume_linux.go`); the account's token is its user's alone (`projected.go`).

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Who a container runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its user.
    pub user: u32,
    /// Its first group.
    pub group: u32,
    /// The group of its volumes.
    pub fs_group: u32,
}

/// Files of a volume, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A permission that the group has whatever the volume says.
const GROUP_READS: u32 = 0o440;
const GROUP_WRITES: u32 = 0o660;
const FOLDER: u32 = 0o2110;

fn give(path: &Path, user: u32, group: u32, mode: u32) {
    chown(path, Some(user), Some(group)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A volume of files: of a ConfigMap, a Secret or an account.
pub struct FileVolume {
    folder: PathBuf,
    identity: Identity,
    mode: u32,
    /// A file that is the user's and nobody else's but the group's.
    own: Option<&'static str>,
    written: u32,
}

impl FileVolume {
    /// An empty one at `folder`, whose files get `mode` and what the group may.
    pub fn new(folder: PathBuf, identity: Identity, mode: u32) -> Self {
        fs::create_dir_all(&folder).unwrap();
        give(&folder, 0, identity.fs_group, 0o777 | FOLDER);
        Self {
            folder,
            identity,
            mode,
            own: None,
            written: 0,
        }
    }

    /// The same for an account, whose token only its user may read.
    pub fn of_account(folder: PathBuf, identity: Identity) -> Self {
        let mut volume = Self::new(folder, identity, 0o644);
        volume.own = Some("token");
        volume
    }

    /// Where it is on this machine.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All files anew, seen by the container at one moment.
    pub fn write(&mut self, files: &Files) {
        self.written += 1;
        let dated = format!("..2026_11_21_00_00_{:02}.{}", self.written, 4711);
        let folder = self.folder.join(&dated);
        fs::create_dir(&folder).unwrap();
        let group = self.identity.fs_group;
        give(&folder, 0, group, 0o755 | GROUP_READS | FOLDER);
        for (name, content) in files {
            let file = folder.join(name);
            fs::write(&file, content).unwrap();
            let (user, mode) = match self.own == Some(name.as_str()) {
                true => (self.identity.user, 0o600),
                false => (0, self.mode),
            };
            give(&file, user, group, mode | GROUP_READS);
        }
        let next = self.folder.join("..data_tmp");
        symlink(&dated, &next).unwrap();
        let before = fs::read_link(self.folder.join("..data"));
        fs::rename(&next, self.folder.join("..data")).unwrap();
        for name in files.keys() {
            let link = self.folder.join(name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        if let Ok(before) = before {
            fs::remove_dir_all(self.folder.join(before)).unwrap();
        }
    }
}

/// A claim's volume as a block device of its own would be: a fresh ext4 has one folder of root's, and the group gets it all.
pub fn claim(folder: &Path, identity: Identity) {
    let lost = folder.join("lost+found");
    fs::create_dir_all(&lost).unwrap();
    give(&lost, 0, identity.fs_group, 0o700 | GROUP_WRITES | FOLDER);
    give(folder, 0, identity.fs_group, 0o755 | GROUP_WRITES | FOLDER);
}

/// `--tmpfs` for an emptyDir in memory.
pub fn memory(target: &str, volume: &Value, identity: Identity) -> String {
    assert_eq!(volume["medium"], "Memory", "{volume}: nothing else is made");
    let size = bytes(&volume["sizeLimit"]);
    let group = identity.fs_group;
    format!("{target}:size={size},mode=2777,gid={group}")
}

/// A size as Kubernetes writes it.
pub fn bytes(size: &Value) -> u64 {
    let text = size.as_str().unwrap_or_default();
    let mebibytes = text.strip_suffix("Mi").and_then(|text| text.parse().ok());
    let mebibytes: u64 = mebibytes.unwrap_or_else(|| panic!("no size in Mi: {size}"));
    mebibytes << 20
}
