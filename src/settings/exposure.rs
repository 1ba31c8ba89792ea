//! Files with secrets that others on the machine may read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::keys::{Key, Kind};
use super::layer::{Merged, Origin};
use super::table::KEYS;

/// The bits of a mode by which anybody may read a file.
const OTHERS_READ: u32 = 0o004;

/// A sentence for each of `files`, which hold a secret, that anybody on the machine may read. One that cannot be looked
/// at gives none: whoever reads it says so.
pub(super) fn warnings(files: &[PathBuf]) -> Vec<String> {
    let exposed = |file: &PathBuf| warning(file);
    files.iter().filter_map(exposed).collect()
}

fn warning(file: &Path) -> Option<String> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    (mode & OTHERS_READ != 0).then(|| {
        let file = file.display();
        format!(
            "`{file}` holds a secret and may be read by every user of this machine (mode {:04o}): `chmod o= {file}`",
            mode & 0o7777
        )
    })
}

/// True where the settings file, whose content is `text`, says a secret itself and names no file of it.
pub(super) fn has_secret(merged: &Merged, text: &str) -> bool {
    let said = |key: &&Key| {
        matches!(key.kind, Kind::Secret)
            && matches!(merged.origin(key.path), Origin::File { .. })
            && !names_file(text, key.path)
    };
    KEYS.iter().any(|key| said(&key))
}

/// True where `text` has the key `path` with `_file` behind it.
fn names_file(text: &str, path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap_or(path);
    text.contains(&format!("{name}_file"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use crate::settings::{Sources, load};

    fn warned(yaml: &str, mode: u32, more: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            file
        };
        let here = folder.path().display().to_string();
        let yaml = write("relayctl.yaml", &yaml.replace("HERE", &here), mode);
        write("secret", "abcdef\n", 0o644);
        write("kept", "abcdef\n", 0o640);
        let text = |(name, value): &(&str, &str)| (name.to_string(), value.replace("HERE", &here));
        let sources = Sources {
            file: Some(yaml),
            environment: more.iter().map(text).collect(),
            flags: Vec::new(),
        };
        let loaded = load(&sources).unwrap();
        loaded.report.warnings
    }

    #[test]
    fn a_secret_that_anybody_may_read_is_told() {
        let said = warned("source_password: abcdef\n", 0o644, &[]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("relayctl.yaml` holds a secret"),
            "{said:?}"
        );
        assert!(said[0].contains("(mode 0644): `chmod o= /"), "{said:?}");
        assert!(warned("source_password: abcdef\n", 0o640, &[]).is_empty());
        assert!(warned("hold: 10s\n", 0o644, &[]).is_empty());

        let said = warned("source_password_file: HERE/secret\n", 0o644, &[]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("/secret` holds a secret"), "{said:?}");
        assert!(warned("source_password_file: HERE/kept\n", 0o644, &[]).is_empty());

        let variable = ("RELAYCTL_ADMIN_PASSWORD_FILE", "HERE/secret");
        assert_eq!(warned("", 0o644, &[variable]).len(), 1);

        let tls = "tls:\n  cert: HERE/kept\n  key: HERE/secret\n";
        let said = warned(tls, 0o644, &[]);
        assert_eq!(said.len(), 1, "{said:?}");
        let tls = "tls:\n  cert: HERE/secret\n  key: HERE/kept\n";
        assert!(warned(tls, 0o644, &[]).is_empty());
    }
}
