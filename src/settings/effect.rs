//! Keys of `mounts` and `relay` that a node could read and not carry out: refused or named at its start. Files for other
//! servers are rendered from them all the same.

use super::layer::Origin;
use super::problem::{Problem, SettingsError};
use super::role::Role;
use super::types::Settings;

/// Refuses what no node of these settings carries out.
///
/// # Errors
/// With each such key, and what to do.
pub fn refuse_without_effect(settings: &Settings) -> Result<(), SettingsError> {
    if !settings.is_embedded() {
        return Ok(());
    }
    let mounts = settings.mounts.iter().enumerate();
    let intros = mounts.filter(|(_, mount)| mount.intro.is_some());
    let problems: Vec<Problem> = intros
        .map(|(index, mount)| {
            Problem::new(
                format!("mounts[{index}].intro"),
                &Origin::Default,
                format!(
                    "is played by an Icecast or Shoutcast server alone, and `{}` is carried by this program's own engine",
                    mount.id
                ),
                "leave it out, or set `engine: icecast`",
            )
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(SettingsError { problems })
    }
}

/// Warnings about keys that hold on another node: a relay may have the primary's settings, as the pods of one
/// StatefulSet do.
pub fn without_effect_here(settings: &Settings, role: Role) -> Vec<String> {
    if role == Role::Primary || !settings.is_embedded() {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    if !settings.relays.is_empty() {
        warnings.push(
            "`relay` has no effect on a relay, which pulls from its primary: name foreign upstreams on the primary"
                .to_owned(),
        );
    }
    let mounts = settings.mounts.iter().enumerate();
    warnings.extend(
        mounts
            .filter(|(_, mount)| mount.password.is_some())
            .map(|(index, mount)| {
                format!(
                    "`mounts[{index}].password` has no effect on a relay: the primary judges the sources of `{}`",
                    mount.id
                )
            }),
    );
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Sources, load};

    fn settings(yaml: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("relayctl.yaml");
        std::fs::write(&file, yaml).unwrap();
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        load(&sources).unwrap().settings
    }

    #[test]
    fn an_intro_is_for_engines_that_play_it() {
        let yaml =
            "mounts:\n  - /a\n  - {path: /b, intro: /i.mp3}\n  - {path: /c, intro: /i.mp3}\n";
        let refused = refuse_without_effect(&settings(yaml)).unwrap_err();
        let keys: Vec<&str> = refused.problems.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(keys, ["mounts[1].intro", "mounts[2].intro"]);
        let icecast = settings(&format!("engine: icecast\n{yaml}"));
        assert!(refuse_without_effect(&icecast).is_ok());
    }

    #[test]
    fn a_relay_is_warned_of_what_the_primary_carries_out() {
        let yaml = "mounts:\n  - {path: /a, password: secret}\n  - {path: /b, name: B}\nrelay: [http://h/c]\n";
        let settings = settings(yaml);
        assert_eq!(without_effect_here(&settings, Role::Primary), [""; 0]);
        let warnings = without_effect_here(&settings, Role::Relay);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].starts_with("`relay` ") && warnings[1].starts_with("`mounts[0].password` ")
        );
    }
}
