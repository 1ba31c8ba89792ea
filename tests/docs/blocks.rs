//! The blocks of code in the documents, held to the program: each of its command lines parses as it stands there, each block
//! of settings is read.

use relayctl::settings::{self, Sources};

use super::documents;

/// A block of code between fences.
struct Block {
    /// What stands behind the fence.
    language: String,
    /// Its lines, without the indentation of its fence.
    lines: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        let Some(language) = bare.strip_prefix("```") else {
            continue;
        };
        let indent = line.len() - bare.len();
        let inner = lines
            .by_ref()
            .take_while(|line| !line.trim_start().starts_with("```"))
            .map(|line| line.get(indent..).unwrap_or_default().to_owned());
        found.push(Block {
            language: language.trim().to_owned(),
            lines: inner.collect(),
        });
    }
    found
}

/// Commands of a shell, as words. What stands in `$(…)` is a command of its own, and one word where it stands.
#[derive(Default)]
struct Shell {
    commands: Vec<Vec<String>>,
}

impl Shell {
    /// Reads to the end of `line`, or to the bracket that closes what it stands in.
    fn read(&mut self, line: &mut std::iter::Peekable<std::str::Chars<'_>>) {
        let mut words: Vec<String> = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        while let Some(letter) = line.next() {
            match (letter, quote) {
                ('$', None | Some('"')) if line.peek() == Some(&'(') => {
                    line.next();
                    self.read(line);
                    word.get_or_insert_default().push_str("said");
                }
                (')', None) => break,
                ('\'' | '"', None) => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (_, Some(open)) if letter == open => quote = None,
                ('#', None) if word.is_none() => for _ in line.by_ref() {},
                (' ', None) => words.extend(word.take()),
                ('|' | '&' | ';' | '>' | '<', None) => {
                    words.extend(word.take());
                    self.commands.push(std::mem::take(&mut words));
                }
                _ => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        self.commands.push(words);
    }
}

/// Every command of the block; lines that a `\` joins are one.
fn commands(block: &Block) -> Vec<Vec<String>> {
    let text = block.lines.join("\n").replace("\\\n", " ");
    let mut shell = Shell::default();
    for line in text.lines() {
        let line = line.trim_start_matches("$ ");
        shell.read(&mut line.chars().peekable());
    }
    shell.commands
}

/// What the program is given in `command`, if it is called there: by name, out of an image, or by `cargo run --`.
fn given(command: &[String]) -> Option<Vec<String>> {
    let own = command.iter().position(|word| {
        let path = word == "relayctl" || word.ends_with("/relayctl");
        // `VOLUME:/var/lib/relayctl` is a place.
        (path && !word.contains(':')) || word.starts_with("relayctl/relayctl:")
    });
    let built = || match command {
        [cargo, run, ..] if cargo == "cargo" && run == "run" => {
            command.iter().position(|word| word == "--")
        }
        _ => None,
    };
    let at = own.or_else(built)?;
    let words = command.get(at + 1..)?.to_vec();
    // `install … /usr/bin/relayctl`, `docker build -t relayctl/relayctl:0.1.0 -f …` are about the file.
    let first = words.first()?;
    first
        .starts_with(|letter: char| letter.is_ascii_lowercase())
        .then_some(words)
}

fn parse(words: &[String]) -> Result<(), String> {
    let name = "relayctl".to_owned();
    let words = std::iter::once(&name).chain(words);
    let parsed = relayctl::cli::command().try_get_matches_from(words);
    parsed.map(drop).map_err(|error| error.to_string())
}

#[test]
fn command_lines_of_the_documents_parse() {
    let mut seen = 0;
    for (file, text) in documents() {
        // Made of the definitions themselves.
        if file
            .components()
            .any(|part| part.as_os_str() == "reference")
        {
            continue;
        }
        let shell = ["sh", "", "console"];
        for block in blocks(&text) {
            if !shell.contains(&block.language.as_str()) {
                continue;
            }
            for words in commands(&block).iter().filter_map(|words| given(words)) {
                seen += 1;
                if let Err(why) = parse(&words) {
                    panic!("{}: `relayctl {}`: {why}", file.display(), words.join(" "));
                }
            }
        }
    }
    assert!(seen > 40, "only {seen} command lines were seen");
}

#[test]
fn a_command_line_that_does_not_parse_would_be_found() {
    let given_in = |line: &str| {
        let text = format!("text\n\n```sh\n{line}\n```\n");
        let block = blocks(&text).pop().unwrap();
        let found: Vec<_> = commands(&block).iter().filter_map(|c| given(c)).collect();
        found
    };
    for line in [
        "relayctl drain",
        "relayctl join --primary",
        "sudo relayctl primary --max-listener 5  # a note",
        "relayctl get nodes extra",
        "docker exec CONTAINER /relayctl token show nothing | cat",
        "docker run -p 8000:8000 relayctl/relayctl:0.1.0 primari",
        "cargo run --release -- demo --relays two",
        "ffmpeg \\\n  \"icecast://source:$(relayctl token show)@host/\"",
    ] {
        let found = given_in(line);
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(parse(&found[0]).is_err(), "{line}");
    }
    let good =
        given_in("relayctl join --primary http://a:8000 --token \"$(relayctl token show join)\" &");
    assert_eq!(good.len(), 2, "{good:?}");
    assert!(good.iter().all(|words| parse(words).is_ok()), "{good:?}");
    let piped =
        given_in("relayctl token show join | relayctl join --primary http://a:8000 --token -");
    assert_eq!(piped.len(), 2, "{piped:?}");
    assert!(piped.iter().all(|words| parse(words).is_ok()), "{piped:?}");
    assert!(given_in("install relayctl /usr/bin/relayctl").is_empty());
}

/// YAML of other programs, by what it begins with.
const OTHERS: [&str; 2] = ["lifecycle:", "# Prometheus"];

fn read(yaml: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relayctl.yaml");
    std::fs::write(&file, yaml).unwrap();
    let sources = Sources {
        file: Some(file),
        environment: Vec::new(),
        flags: Vec::new(),
    };
    let loaded = settings::load(&sources);
    loaded.map(drop).map_err(|error| error.to_string())
}

#[test]
fn settings_of_the_documents_are_read() {
    let (mut seen, mut others) = (0, 0);
    for (file, text) in documents() {
        for block in blocks(&text) {
            let yaml = block.lines.join("\n");
            if block.language != "yaml" {
                continue;
            }
            if OTHERS.iter().any(|first| yaml.starts_with(first)) {
                others += 1;
                continue;
            }
            seen += 1;
            if let Err(why) = read(&yaml) {
                panic!("{}: {why}\n{yaml}", file.display());
            }
        }
    }
    assert!(seen > 4 && others > 1, "{seen} of ours, {others} of others");
    assert!(read("max_listenerz: 3\n").is_err());
}
