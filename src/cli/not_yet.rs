//! What clap refuses, and what the design names and nothing carries out yet: refused with its reason.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Exit;

/// Commands, words and flags that are known and not built, each with what to do instead.
const NOT_YET: &[(&str, &str)] = &[
    ("top", "use `relayctl status --watch`"),
    (
        "promote",
        "start the primary again: relays play on and join it again by themselves",
    ),
    ("probe", "`curl -v URL` shows what a player is answered"),
    (
        "config",
        "use `relayctl check`; a changed file is taken by a running node by itself",
    ),
];

/// Prints why the words were refused (or the help that they asked for).
pub(super) fn refuse(error: &clap::Error) -> ExitCode {
    let word = match error.kind() {
        ErrorKind::InvalidSubcommand => word(error, ContextKind::InvalidSubcommand),
        ErrorKind::InvalidValue => word(error, ContextKind::InvalidValue),
        ErrorKind::UnknownArgument => word(error, ContextKind::InvalidArg),
        _ => None,
    };
    if let Some(instead) = word.as_deref().and_then(instead) {
        let word = word.unwrap_or_default();
        eprintln!("relayctl: `{word}` is not built yet: {instead}");
        return ExitCode::from(Exit::Usage as u8);
    }
    // A closed pipe behind `--help` is nobody's failure.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Fine
    } as u8)
}

fn instead(word: &str) -> Option<&'static str> {
    let entry = NOT_YET.iter().find(|(name, _)| *name == word)?;
    Some(entry.1)
}

fn word(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(word) => Some(word.clone()),
        ContextValue::Strings(words) => words.first().cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_both_built_and_not() {
        let command = crate::cli::command();
        for (word, _) in NOT_YET {
            assert!(
                command
                    .get_subcommands()
                    .all(|built| built.get_name() != *word),
                "`{word}` is built: take it from the table"
            );
        }
        assert!(instead("top").is_some() && instead("status").is_none());
    }
}
