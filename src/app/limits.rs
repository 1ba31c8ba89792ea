//! What the system lets the process do.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::configs::KEPT_DESCRIPTORS;

/// Says where fewer listeners fit into the limit of open files than were set, and what to do. Without a number
/// that was set the limit is simply the number.
pub(super) fn report(descriptors: u64, max_listeners: Option<u32>) {
    if let Some(text) = shortage(descriptors, max_listeners) {
        tracing::warn!("{text}");
    }
}

fn shortage(descriptors: u64, max_listeners: Option<u32>) -> Option<String> {
    let wanted = u64::from(max_listeners?);
    let needed = wanted + KEPT_DESCRIPTORS;
    let fits = descriptors.saturating_sub(KEPT_DESCRIPTORS);
    (needed > descriptors).then(|| {
        format!(
            "`max_listeners` is {wanted}, but the system allows this process {descriptors} open files, so {fits} \
             listeners are taken at most: raise the limit to {needed} (`ulimit -n`, `LimitNOFILE=` of the service)"
        )
    })
}

/// Room that the table of open files has from the start, or as much as the limit where that is less: a quarter of
/// a megabyte.
const TABLE: u64 = 32 * 1024;

/// Raises the limit of open files to what the system allows, and makes the table of them long at once. To be called before
/// the process has a second thread.
///
/// The kernel doubles a full table, and in a process of several threads whoever opens that file waits for a grace
/// period of its RCU (`expand_fdtable` in fs/file.c; 10 to 20 ms were seen). That would be the thread that accepts, in the
/// middle of a storm.
pub fn prepare_descriptors() -> u64 {
    let limit = raise_descriptors();
    let last = i32::try_from(limit.clamp(1, TABLE)).unwrap_or(i32::MAX) - 1;
    // One open file at the end of it, for a moment. Where that is refused the table grows as it always did.
    drop(rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), last));
    limit
}

/// Raises the limit of open files to what the system allows and returns it.
pub(super) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit of open files");
            return limit.current.unwrap_or(u64::MAX);
        }
    }
    most.min(1 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_table_of_open_files_is_long_before_they_are_opened() {
        let limit = prepare_descriptors();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let room = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
        let room: u64 = room.unwrap().trim().parse().unwrap();
        assert!(room >= limit.min(TABLE), "{room} of {limit}");
    }

    #[test]
    fn too_few_descriptors_are_told_with_what_to_do() {
        let text = shortage(1024, Some(2000)).unwrap();
        for part in ["`max_listeners` is 2000", "1024 open", "so 512", "to 2512"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(shortage(2512, Some(2000)), None);
        assert_eq!(shortage(64, None), None);
    }
}
