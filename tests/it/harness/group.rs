//! A control group of its own for a node, with a share of the processors that it cannot exceed.
//!
//! Made under the group that this process is in, or under the root where that one takes none; taken away when it is
//! dropped, after the processes in it. Needs root, and control groups that may be written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::program::tool;

/// Microseconds in which the share holds.
const PERIOD: u32 = 100_000;

/// See the module.
#[derive(Debug)]
pub struct Group {
    /// One folder, or one for each controller where each has its own tree (version 1).
    folders: Vec<PathBuf>,
}

impl Group {
    /// So many hundredths of one processor.
    pub fn with_quota(percent: u32) -> Self {
        static GROUPS: AtomicU32 = AtomicU32::new(0);
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let name = format!("rctl-test-{}-{number}", std::process::id());
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let quota = percent * PERIOD / 100;
        let made = of_version_2(&own, &name, quota).or_else(|| of_version_1(&own, &name, quota));
        made.unwrap_or_else(|| {
            panic!(
                "no control group with a quota of the processors can be made below /sys/fs/cgroup: this scene needs \
                 root, and in a container `--privileged` and its own control groups; this process is in\n{own}"
            )
        })
    }

    /// `command`, run in the group: it becomes the program, under the same process id.
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = tool("sh", "dash");
        inside.env_clear().envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let steps = "while [ \"$1\" != -- ]; do echo $$ > \"$1\" || exit 1; shift; done; shift; exec \"$@\"";
        inside.args(["-c", steps, "sh"]);
        let folders = self.folders.iter();
        inside.args(folders.map(|folder| folder.join("cgroup.procs")));
        inside
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        inside
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            // A group is a folder that cannot be emptied by hand.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// `path` of a line of `/proc/self/cgroup`, below where the tree is mounted.
fn below(mounted: &str, path: &str) -> PathBuf {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts.fold(PathBuf::from(mounted), |folder, part| folder.join(part))
}

/// A folder made there, which is a group that has `file`.
fn made(parent: &Path, name: &str, file: &str) -> Option<PathBuf> {
    let folder = parent.join(name);
    fs::create_dir(&folder).ok()?;
    if folder.join(file).is_file() {
        return Some(folder);
    }
    let _ = fs::remove_dir(&folder);
    None
}

fn of_version_2(own: &str, name: &str, quota: u32) -> Option<Group> {
    let mounted = "/sys/fs/cgroup";
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = [below(mounted, path), PathBuf::from(mounted)]
        .iter()
        .find_map(|parent| {
            // Refused where processes are in it that is not the root: then the next one.
            let control = parent.join("cgroup.subtree_control");
            control.is_file().then(|| fs::write(control, "+cpu"))?.ok();
            made(parent, name, "cpu.max")
        })?;
    fs::write(folder.join("cpu.max"), format!("{quota} {PERIOD}")).unwrap();
    Some(Group {
        folders: vec![folder],
    })
}

fn of_version_1(own: &str, name: &str, quota: u32) -> Option<Group> {
    let path_of = |controller: &str| {
        own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let has = parts.next()?.split(',').any(|one| one == controller);
            has.then(|| parts.next())?
        })
    };
    let tree = |controller: &str| {
        let names = [controller, "cpu,cpuacct", "cpuacct,cpu"];
        let mounted = names.map(|name| format!("/sys/fs/cgroup/{name}"));
        mounted.into_iter().find(|path| Path::new(path).is_dir())
    };
    let path = path_of("cpu")?;
    let group = made(&below(&tree("cpu")?, path), name, "cpu.cfs_quota_us")?;
    fs::write(group.join("cpu.cfs_period_us"), PERIOD.to_string()).unwrap();
    fs::write(group.join("cpu.cfs_quota_us"), quota.to_string()).unwrap();
    let mut folders = vec![group];
    if !folders[0].join("cpuacct.usage").is_file() {
        folders.extend(made(&below(&tree("cpuacct")?, path), name, "cpuacct.usage"));
    }
    Some(Group { folders })
}
