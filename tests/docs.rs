//! What the documents say is there: links, commands, flags.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;

#[path = "docs/blocks.rs"]
mod blocks;

/// README and everything under `docs/`.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 5, "too few documents: {files:?}");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    files.into_iter().map(read).collect()
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect()
}

/// The name that a heading is linked by.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn relative_links_resolve() {
    let mut seen = 0;
    for (file, text) in documents() {
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            assert!(
                target.exists(),
                "{}: `{link}` leads nowhere",
                file.display()
            );
            if !fragment.is_empty() {
                let there = fs::read_to_string(&target).unwrap();
                let mut headings = there.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|heading| anchor(heading) == fragment);
                assert!(found, "{}: `{link}` has no such heading", file.display());
            }
        }
    }
    assert!(seen > 5, "only {seen} links were seen");
}

/// Every use of the program in code: what stands behind `relayctl`, to the end of the line or of the code.
fn uses(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let pieces: Vec<&str> = if fenced {
            vec![line]
        } else {
            line.split('`').skip(1).step_by(2).collect()
        };
        for piece in pieces {
            found.extend(uses_in(piece));
        }
    }
    found
}

fn uses_in(code: &str) -> Vec<Vec<String>> {
    let words: Vec<&str> = code.split_whitespace().collect();
    let program = |word: &&str| {
        let word = word.trim_start_matches("$(").trim_start_matches(['"', '(']);
        // `VOLUME:/var/lib/relayctl` is a place.
        word == "relayctl" || (word.ends_with("/relayctl") && !word.contains(':'))
    };
    let starts: Vec<usize> = (0..words.len()).filter(|at| program(&words[*at])).collect();
    let mut uses = Vec::new();
    for start in starts {
        let rest = words[start + 1..].iter().take_while(|word| {
            !matches!(**word, "|" | "#" | "&&" | ">" | "&" | ";") && !program(word)
        });
        let rest: Vec<String> = rest.map(|word| (*word).to_owned()).collect();
        if rest
            .first()
            .is_some_and(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        {
            uses.push(rest);
        }
    }
    uses
}

/// Walks the words down the commands and checks every flag on the way.
fn judge(mut command: &Command, words: &[String]) -> Result<usize, String> {
    let mut flags = 0;
    let mut deeper = true;
    for word in words {
        let word = word.trim_end_matches([')', ',', '.', '"', '\\', ':']);
        if let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) {
            let name = flag.split('=').next().unwrap_or(flag);
            flags += 1;
            let known = command
                .get_arguments()
                .any(|known| known.get_long() == Some(name));
            if !known && name != "help" {
                return Err(format!("`{}` has no flag `--{name}`", command.get_name()));
            }
        } else if deeper && command.has_subcommands() {
            // `a|b|c` names several.
            let mut found = None;
            for name in word.split('|') {
                let one = command.find_subcommand(name);
                found =
                    Some(one.ok_or_else(|| {
                        format!("`{}` has no command `{name}`", command.get_name())
                    })?);
            }
            command = found.unwrap_or(command);
        } else {
            deeper = false;
        }
    }
    Ok(flags)
}

#[test]
fn commands_and_flags_of_the_documents_exist() {
    let mut command = relayctl::cli::command();
    command.build();
    let mut commands = BTreeSet::new();
    let mut flags = 0;
    for (file, text) in documents() {
        for words in uses(&text) {
            commands.insert(words[0].clone());
            match judge(&command, &words) {
                Ok(seen) => flags += seen,
                Err(why) => panic!("{}: `relayctl {}`: {why}", file.display(), words.join(" ")),
            }
        }
    }
    assert!(
        commands.len() > 5,
        "only these commands were seen: {commands:?}"
    );
    assert!(flags > 5, "only {flags} flags were seen");
}

#[test]
fn a_wrong_command_or_flag_would_be_found() {
    let mut command = relayctl::cli::command();
    command.build();
    let bad = [
        "`relayctl nonsense`",
        "`relayctl primary --nonsense 1`",
        "```\n$ relayctl token lits\n```",
    ];
    for text in bad {
        let found = uses(text);
        assert_eq!(found.len(), 1, "{text}");
        assert!(judge(&command, &found[0]).is_err(), "{text}");
    }
    assert!(uses("the program relayctl runs").is_empty());
}

/// Every variable of ours that a document names is one that a node reads.
/// Arguments of a process are read by every user of its machine.
#[test]
fn no_hint_puts_a_token_on_a_command_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut seen) = (vec![root.join("README.md")], 0);
    let mut folders: Vec<PathBuf> = ["docs", "src", "deploy", "templates", "cartridge"]
        .iter()
        .map(|name| root.join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        for (at, flag) in text
            .match_indices("--token ")
            .chain(text.match_indices("--token="))
        {
            let value = text[at + flag.len()..].trim_start_matches(['"', '\\', '\'']);
            let shown = value.split(['\n', '`']).next().unwrap_or_default();
            let given = value.starts_with("$(") || value.starts_with("rctl1.");
            assert!(!given, "{}: `--token {shown}`", file.display());
            seen += 1;
        }
    }
    assert!(seen > 5, "only {seen} were seen");
}

#[test]
fn variables_of_the_documents_exist() {
    use relayctl::settings::keys::{NO_SETTINGS, environment_name};
    use relayctl::settings::table::{KEYS, NOT_YET};
    let mut known: BTreeSet<String> = NO_SETTINGS.iter().map(|name| (*name).into()).collect();
    known.extend(KEYS.iter().map(|key| environment_name(key.path)));
    known.extend(NOT_YET.iter().map(|entry| environment_name(entry.path)));
    let mut seen = 0;
    for (file, text) in documents() {
        for piece in text.split("RELAYCTL_").skip(1) {
            let end =
                piece.find(|c: char| !c.is_ascii_uppercase() && c != '_' && !c.is_ascii_digit());
            let name = format!("RELAYCTL_{}", &piece[..end.unwrap_or(piece.len())]);
            if name == "RELAYCTL_" {
                continue;
            }
            seen += 1;
            let plain = name.strip_suffix("_FILE").unwrap_or(&name);
            assert!(
                known.contains(plain),
                "{}: `{name}` is no setting",
                file.display()
            );
        }
    }
    assert!(seen > 5, "only {seen} variables were seen");
}
