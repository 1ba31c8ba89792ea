//! Settings that hold and are hardly meant.

use super::types::Settings;
use crate::base::ids::MountId;

/// A password with fewer characters is guessed within a day at the pace that a door allows.
const SHORTEST: usize = 6;

/// A sentence for each of them.
pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let mut said = Vec::new();
    passwords(settings, &mut said);
    fallbacks(settings, &mut said);
    said
}

fn passwords(settings: &Settings, said: &mut Vec<String>) {
    let given = &settings.given;
    let all = [
        ("source_password", &given.source),
        ("admin_password", &given.admin),
        ("relay_password", &given.relay),
    ];
    let given = all.map(|(key, secret)| (key, secret.as_ref().map(|secret| secret.reveal())));
    for (key, text) in given {
        if text.is_some_and(|text| !text.is_empty() && text.chars().count() < SHORTEST) {
            said.push(format!(
                "`{key}` has fewer than {SHORTEST} characters, and is guessed soon: set a longer one"
            ));
        }
    }
    let [source, admin, _] = given.map(|(_, text)| text.filter(|text| !text.is_empty()));
    if source.is_some() && source == admin {
        said.push(
            "`admin_password` is the same as `source_password`, so every encoder may do everything: set another one"
                .to_owned(),
        );
    }
}

/// Where mounts are listed, a fallback that is none of them is rather a slip.
fn fallbacks(settings: &Settings, said: &mut Vec<String>) {
    let mounts = &settings.mounts;
    let is_listed = |id: &MountId| {
        mounts.iter().any(|mount| mount.id == *id)
            || settings.relays.iter().any(|relay| relay.mount == *id)
    };
    let of_mounts = mounts.iter().map(|mount| mount.fallback.as_ref());
    let all = of_mounts.chain([settings.fallback.as_ref()]).flatten();
    for fallback in all.filter(|id| !mounts.is_empty() && !is_listed(id)) {
        let sentence = format!(
            "the fallback {fallback} is none of the `mounts`: whoever is to hear it hears nothing unless a source takes \
             it; correct it, or list it"
        );
        if !said.contains(&sentence) {
            said.push(sentence);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::{Sources, load};

    fn warned(yaml: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("relayctl.yaml");
        std::fs::write(&file, yaml).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).unwrap();
        let sources = Sources {
            file: Some(file),
            environment: Vec::new(),
            flags: Vec::new(),
        };
        load(&sources).unwrap().report.warnings
    }

    #[test]
    fn passwords_that_are_hardly_meant() {
        let said = warned("source_password: x\nadmin_password: hackme\n");
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("`source_password` has fewer than 6 characters"));
        let said = warned("source_password: hackme\nadmin_password: hackme\n");
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("every encoder may do everything"));
        assert!(!said[0].contains("hackme"));
        assert_eq!(
            warned("source_password: hackme\nadmin_password: hackyou\n"),
            [""; 0]
        );
    }

    #[test]
    fn a_fallback_that_is_no_mount_is_told_once() {
        let said = warned(
            "mounts:\n- /a.mp3\n- path: /b.mp3\n  fallback: /bakc.mp3\nfallback: /bakc.mp3\n",
        );
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("the fallback /bakc.mp3 is none of the `mounts`"),
            "{said:?}"
        );
        assert_eq!(
            warned("mounts:\n- path: /a.mp3\n  fallback: /b.mp3\n- /b.mp3\n"),
            [""; 0]
        );
        assert_eq!(warned("fallback: /b.mp3\n"), [""; 0]);
    }
}
