//! Where a program is, and as whom it runs.

use std::path::{Path, PathBuf};

/// Folders of daemons that a service's PATH often lacks.
const DAEMONS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Whom a system without users calls nobody.
const NOBODY: User = User {
    user: 65534,
    group: 65534,
};

/// A user and its group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub user: u32,
    /// The group's number.
    pub group: u32,
}

impl User {
    /// The first of `names` that `/etc/passwd` knows, else nobody. `group` replaces its own group.
    pub fn of(names: &[&str], group: Option<&str>) -> Self {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let mut found = names
            .iter()
            .find_map(|name| in_passwd(&users, name))
            .unwrap_or(NOBODY);
        if let Some(group) = group.and_then(|name| field(&groups, name, 2)) {
            found.group = group;
        }
        found
    }
}

fn in_passwd(text: &str, name: &str) -> Option<User> {
    Some(User {
        user: field(text, name, 2)?,
        group: field(text, name, 3)?,
    })
}

/// A number of the line of `name` (passwd(5), group(5)).
fn field(text: &str, name: &str, place: usize) -> Option<u32> {
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(place)?.parse().ok()
}

/// The file of `program`: itself where it is a path, else the first in PATH and where daemons are.
pub fn find(program: &Path, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        use std::os::unix::fs::PermissionsExt as _;
        let meta = std::fs::metadata(file).ok();
        meta.is_some_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        let file = std::path::absolute(program).ok()?;
        return Some(file).filter(is_program);
    }
    let folders = path.map(std::env::split_paths).into_iter().flatten();
    let all = folders.chain(DAEMONS.map(PathBuf::from));
    all.map(|folder| folder.join(program)).find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_by_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\nicecast2:x:107:112::/usr/share/icecast2:/x\n";
        let found = in_passwd(text, "icecast2").unwrap();
        assert_eq!((found.user, found.group), (107, 112));
        assert_eq!(in_passwd(text, "ice"), None);
        assert_eq!(field("icecast:x:113:\n", "icecast", 2), Some(113));
        assert_eq!(User::of(&["no such user"], None), NOBODY);
    }

    #[test]
    fn programs_by_name_and_by_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sc_serv");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        assert_eq!(
            find(Path::new("sc_serv"), Some(folder.path().as_os_str())),
            None
        );
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let by_name = find(Path::new("sc_serv"), Some(folder.path().as_os_str()));
        assert_eq!(by_name.as_deref(), Some(file.as_path()));
        assert_eq!(find(&file, None).as_deref(), Some(file.as_path()));
        assert_eq!(find(&folder.path().join("other"), None), None);
    }
}
