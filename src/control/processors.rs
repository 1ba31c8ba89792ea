//! How busy the processors are that this node may use: those of its control group where that has a quota (a
//! container's), else the machine's.
//!
//! Only a group with a quota is asked, since one without may take the whole machine, and then it is the machine that
//! is busy. Of nested groups the tightest one counts. Read by path below a root, so that tests bring their own.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where groups are mounted, and where a process finds its own.
const GROUPS: &str = "sys/fs/cgroup";
const OWN: &str = "proc/self/cgroup";

/// The v1 controllers have folders of their own, under either name.
const V1: [&str; 3] = ["cpu,cpuacct", "cpuacct,cpu", "cpu"];

/// A reading of the counters; two of them give a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reading {
    /// Clock ticks since the machine's start.
    Machine { busy: u64, all: u64 },
    /// Microseconds of processor time that the group has used, and how many processors it may use.
    Group { used: u64, processors: f64 },
}

impl Reading {
    /// What the files below `root` (`/` but in tests) say now.
    pub fn take(root: &Path) -> Option<Self> {
        group(root).or_else(|| machine(root))
    }

    /// The busy share between an earlier reading and this one, 0 to 1; `None` where they are of two kinds.
    pub fn share_since(self, before: Self, span: Duration) -> Option<f64> {
        let share = match (before, self) {
            (Self::Machine { busy: b, all: a }, Self::Machine { busy, all }) => {
                busy.saturating_sub(b) as f64 / all.saturating_sub(a).max(1) as f64
            }
            (Self::Group { used: u, .. }, Self::Group { used, processors }) => {
                let allowed = span.as_micros().max(1) as f64 * processors;
                used.saturating_sub(u) as f64 / allowed
            }
            _ => return None,
        };
        Some(share.clamp(0.0, 1.0))
    }
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)).
fn machine(root: &Path) -> Option<Reading> {
    let text = std::fs::read_to_string(root.join("proc/stat")).ok()?;
    let fields = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = fields
        .split_whitespace()
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Some(Reading::Machine {
        busy: all - idle,
        all,
    })
}

fn group(root: &Path) -> Option<Reading> {
    let own = std::fs::read_to_string(root.join(OWN)).ok()?;
    let mounted = root.join(GROUPS);
    let v2 = own.lines().find_map(|line| line.strip_prefix("0::"));
    let v2 = v2.and_then(|path| tightest(&mounted, path, read_v2));
    v2.or_else(|| {
        let path = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let has_cpu = parts.next()?.split(',').any(|one| one == "cpu");
            has_cpu.then(|| parts.next())?
        })?;
        let folders = V1.iter().map(|name| mounted.join(name));
        folders
            .filter(|folder| folder.is_dir())
            .find_map(|folder| tightest(&folder, path, read_v1))
    })
}

/// From the process' own group up to the mount's root, which in a container is its own whatever the path says: the
/// reading with the fewest processors.
fn tightest(
    mounted: &Path,
    path: &str,
    read: impl Fn(&Path) -> Option<(u64, f64)>,
) -> Option<Reading> {
    let own: PathBuf = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != "..")
        .collect();
    let groups = own.ancestors().map(|group| mounted.join(group));
    let found = groups.filter_map(|group| read(&group));
    let (used, processors) = found.min_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(Reading::Group { used, processors })
}

/// `cpu.max` is `quota period` in microseconds, or `max period` without one (cgroups(7), version 2).
fn read_v2(group: &Path) -> Option<(u64, f64)> {
    let text = std::fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let stat = std::fs::read_to_string(group.join("cpu.stat")).ok()?;
    let used = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?;
    Some((used.trim().parse().ok()?, ratio(quota, period)?))
}

/// The quota is -1 where there is none; the usage is in nanoseconds (version 1).
fn read_v1(group: &Path) -> Option<(u64, f64)> {
    let file = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    let (quota, period) = (file("cpu.cfs_quota_us")?, file("cpu.cfs_period_us")?);
    let usage = file("cpuacct.usage").or_else(|| beside(group, "cpuacct.usage"))?;
    let used: u64 = usage.trim().parse().ok()?;
    Some((used / 1_000, ratio(quota.trim(), period.trim())?))
}

/// The same group's file where `cpuacct` is mounted apart from `cpu`.
fn beside(group: &Path, name: &str) -> Option<String> {
    let at = group.ancestors().find(|at| at.ends_with("cpu"))?;
    let other = at
        .with_file_name("cpuacct")
        .join(group.strip_prefix(at).ok()?);
    std::fs::read_to_string(other.join(name)).ok()
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  10 0 20 60 10 0 0 0 0 0\ncpu0 1 1 1 1\n";

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn taken(files: &[(&str, &str)]) -> Option<Reading> {
        Reading::take(root(files).path())
    }

    fn of(used: u64, processors: f64) -> Option<Reading> {
        Some(Reading::Group { used, processors })
    }

    const MACHINE: Option<Reading> = Some(Reading::Machine { busy: 30, all: 100 });

    #[test]
    fn a_container_of_version_two_counts_its_own_quota() {
        let files = [
            ("proc/stat", STAT),
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec 7000\nuser_usec 1\n"),
        ];
        assert_eq!(taken(&files), of(7_000, 0.5));
        // The path is the host's, and what is mounted is the container's own.
        let mut strange = files;
        strange[1].1 = "0::/kubepods/pod7/abc\n";
        assert_eq!(taken(&strange), of(7_000, 0.5));
        let mut free = files;
        free[2].1 = "max 100000\n";
        assert_eq!(taken(&free), MACHINE);
    }

    #[test]
    fn of_nested_groups_the_tightest_counts() {
        let files = [
            ("proc/stat", STAT),
            ("proc/self/cgroup", "0::/system.slice/relayctl.service\n"),
            ("sys/fs/cgroup/system.slice/cpu.max", "100000 100000\n"),
            ("sys/fs/cgroup/system.slice/cpu.stat", "usage_usec 9000\n"),
            (
                "sys/fs/cgroup/system.slice/relayctl.service/cpu.max",
                "150000 100000\n",
            ),
            (
                "sys/fs/cgroup/system.slice/relayctl.service/cpu.stat",
                "usage_usec 4000\n",
            ),
        ];
        assert_eq!(taken(&files), of(9_000, 1.0));
    }

    #[test]
    fn version_one_under_each_of_its_names() {
        for (cpu, usage) in [("cpu,cpuacct", "cpu,cpuacct"), ("cpu", "cpuacct")] {
            let own = format!("5:memory:/x\n4:{cpu}:/docker/abc\n");
            let file =
                |folder: &str, name: &str| format!("sys/fs/cgroup/{folder}/docker/abc/{name}");
            let files = [
                ("proc/stat".to_owned(), STAT),
                ("proc/self/cgroup".to_owned(), own.as_str()),
                (file(cpu, "cpu.cfs_quota_us"), "200000\n"),
                (file(cpu, "cpu.cfs_period_us"), "100000\n"),
                (file(usage, "cpuacct.usage"), "5000000\n"),
            ];
            let mut files: Vec<(&str, &str)> = files
                .iter()
                .map(|(path, text)| (path.as_str(), *text))
                .collect();
            assert_eq!(taken(&files), of(5_000, 2.0), "{cpu}");
            files[2].1 = "-1\n";
            assert_eq!(taken(&files), MACHINE, "{cpu}");
        }
    }

    #[test]
    fn without_groups_the_machine_and_without_that_nothing() {
        assert_eq!(taken(&[("proc/stat", STAT)]), MACHINE);
        assert_eq!(taken(&[]), None);
        for junk in ["", "cpu", "50000", "x y", "-5 100", "5 0"] {
            let files = [
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/cpu.max", junk),
                ("sys/fs/cgroup/cpu.stat", "usage_usec 1\n"),
            ];
            assert_eq!(taken(&files), None, "{junk:?}");
        }
    }

    #[test]
    fn a_share_is_of_what_may_be_used() {
        let group = |used, processors| Reading::Group { used, processors };
        let second = Duration::from_secs(1);
        // A quarter of a second used of half a processor.
        let share = group(350_000, 0.5).share_since(group(100_000, 0.5), second);
        assert_eq!(share, Some(0.5));
        let burst = group(2_000_000, 0.5).share_since(group(0, 0.5), second);
        assert_eq!(burst, Some(1.0));
        let machine = |busy, all| Reading::Machine { busy, all };
        let share = machine(80, 300).share_since(machine(30, 100), second);
        assert_eq!(share, Some(0.25));
        assert_eq!(group(1, 1.0).share_since(machine(30, 100), second), None);
        assert!(Reading::take(Path::new("/")).is_some());
    }
}
