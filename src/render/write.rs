//! A rendered text against the file that is there: the difference, and an exchange that is whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use similar::TextDiff;

/// How the name of a file begins that is being written; the one of the data directory, whose sweep finds both.
const HALF_DONE: &str = ".new-";

/// What [`write_atomic`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The file is new or has a new text.
    Changed,
    /// The text was there already: nothing was written and the time of the file is the old one.
    Unchanged,
}

/// The unified difference from `old` to `new` with three lines around each change; `None` if they are equal.
pub fn diff(old: &str, new: &str, from_name: &str, to_name: &str) -> Option<String> {
    if old == new {
        return None;
    }
    let difference = TextDiff::from_lines(old, new);
    let text = difference
        .unified_diff()
        .header(from_name, to_name)
        .to_string();
    Some(text)
}

/// Gives the file at `path` the text and the permission bits `mode` (0600 where passwords are in it): a new
/// file in the same folder, flushed to the disk, then renamed over the old one, so that a reader sees one or
/// the other. A symbolic link stays, its target is exchanged; owner and group of the old file stay where the
/// system permits.
///
/// # Errors
/// The folder is not there (it is never made), `path` is a folder, or the system refuses.
pub fn write_atomic(path: &Path, text: &str, mode: u32) -> io::Result<Written> {
    let target = resolve(path)?;
    let old = match fs::metadata(&target) {
        Ok(old) if !old.is_file() => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{}` is no plain file: name a file", path.display()),
            ));
        }
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(old) = &old
        && fs::read(&target)? == text.as_bytes()
    {
        if old.permissions().mode() & 0o7777 != mode {
            fs::set_permissions(&target, Permissions::from_mode(mode))?;
        }
        return Ok(Written::Unchanged);
    }
    let folder = folder_of(&target)?;
    let mut fresh = tempfile::Builder::new()
        .prefix(HALF_DONE)
        .tempfile_in(&folder)?;
    fresh.write_all(text.as_bytes())?;
    if let Some(old) = &old {
        // Only root may give a file away; for anyone else the new one is theirs, as the old one mostly was.
        let _ = fchown(fresh.as_file(), Some(old.uid()), Some(old.gid()));
    }
    fresh
        .as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    fresh.as_file().sync_all()?;
    fresh.persist(&target).map_err(|failed| failed.error)?;
    File::open(&folder)?.sync_all()?;
    Ok(Written::Changed)
}

/// The file behind a symbolic link, else the path itself.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_symlink() => fs::canonicalize(path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("`{}` is a link that leads nowhere: {error}", path.display()),
            )
        }),
        _ => Ok(path.to_owned()),
    }
}

fn folder_of(path: &Path) -> io::Result<PathBuf> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    match fs::metadata(&folder) {
        Ok(meta) if meta.is_dir() => Ok(folder),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("`{}` is no folder", folder.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "folder `{}` does not exist: make it first, or name another file",
                folder.display()
            ),
        )),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_unified_and_none_when_equal() {
        assert_eq!(diff("a\n", "a\n", "x", "y"), None);
        assert_eq!(
            diff("a\nb\n", "a\nc\n", "old", "new").unwrap(),
            "--- old\n+++ new\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
        );
    }

    #[test]
    fn a_write_is_whole_private_and_done_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("icecast.xml");
        assert_eq!(write_atomic(&path, "one", 0o600).unwrap(), Written::Changed);
        let first = fs::metadata(&path).unwrap();
        assert_eq!(first.mode() & 0o7777, 0o600);
        assert_eq!(
            write_atomic(&path, "one", 0o600).unwrap(),
            Written::Unchanged
        );
        let second = fs::metadata(&path).unwrap();
        assert_eq!(
            (first.ino(), first.mtime_nsec(), first.ctime_nsec()),
            (second.ino(), second.mtime_nsec(), second.ctime_nsec())
        );
        assert_eq!(write_atomic(&path, "two", 0o640).unwrap(), Written::Changed);
        let third = fs::metadata(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(third.mode() & 0o7777, 0o640);
        assert_ne!(third.ino(), first.ino());
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "a temporary file was left");
    }

    #[test]
    fn an_equal_text_that_anyone_may_read_is_made_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write_atomic(&path, "one", 0o644).unwrap();
        assert_eq!(
            write_atomic(&path, "one", 0o600).unwrap(),
            Written::Unchanged
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_link_stays_and_a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write_atomic(&link, "new", 0o600).unwrap();
        assert!(
            fs::symlink_metadata(&link)
                .unwrap()
                .file_type()
                .is_symlink()
        );
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");

        let missing = folder.path().join("no/such/icecast.xml");
        let error = write_atomic(&missing, "x", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let place = folder.path().join("no/such").display().to_string();
        assert_eq!(
            error.to_string(),
            format!("folder `{place}` does not exist: make it first, or name another file")
        );
        assert!(write_atomic(folder.path(), "x", 0o600).is_err());
    }
}
