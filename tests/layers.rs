//! Imports go down: reads the layers that `src/lib.rs` names and what every file imports.
//!
//! A module may import only from layers below its own, so no two modules can import each other, neither
//! directly nor around a corner. Comments and literals do not count, tests do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Top-level module to its layer, 0 the lowest.
type Layers = BTreeMap<String, usize>;

/// Who alone may import a module, besides the rule of layers.
const ONLY: [(&str, &[&str]); 1] = [("settings", &["app", "cli"])];

#[test]
fn imports_go_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layers = layers(&fs::read_to_string(root.join("lib.rs")).unwrap());
    assert!(
        layers.len() >= 10,
        "src/lib.rs names too few modules: {layers:?}"
    );
    for module in layers.keys() {
        let file = root.join(format!("{module}.rs"));
        assert!(
            file.exists() || root.join(module).join("mod.rs").exists(),
            "{module}"
        );
    }
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in sources(&root) {
        let inside = module_of(file.strip_prefix(&root).unwrap());
        let (imports, mut problems) = imports(&inside, &fs::read_to_string(&file).unwrap());
        seen += imports.len();
        problems.extend(judge(&layers, &inside, &imports));
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        wrong.extend(
            problems
                .into_iter()
                .map(|problem| format!("src/{name}: {problem}")),
        );
    }
    assert!(
        seen > 20,
        "only {seen} imports were seen: is the reader blind?"
    );
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Files whose threads and tasks are not begun by `telemetry::panics`, and why.
const UNWATCHED: [(&str, &str); 3] = [
    ("telemetry/panics.rs", "what watches the others"),
    (
        "edge/tasks.rs",
        "the tasks of connections, each guarded there",
    ),
    (
        "settings/watch.rs",
        "is below it; without the look at files SIGHUP reloads",
    ),
];

/// Beginners of threads and tasks: everything that is not begun by `telemetry::panics::{thread, vital, guarded}` could
/// end unseen, and the node go on without it.
#[test]
fn every_thread_and_task_is_watched() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut seen, mut wrong) = (0, Vec::new());
    for file in sources(&root) {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        let is_for_tests = ["tests.rs", "testing.rs"]
            .iter()
            .any(|end| name.ends_with(end));
        let is_unwatched = UNWATCHED.iter().any(|(own, _)| *own == name);
        // Commands for people run once, and end with what they say.
        if is_for_tests || is_unwatched || name.starts_with("cli/") || name.contains("/tests/") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let (watched, unwatched) = beginners(text.split("\nmod tests {").next().unwrap());
        seen += watched;
        wrong.extend(unwatched.iter().map(|what| format!("src/{name}: {what}")));
    }
    assert!(seen > 15, "only {seen} were seen: is the reader blind?");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// How many threads and tasks of a file are watched, and those that are not.
fn beginners(text: &str) -> (usize, Vec<String>) {
    let words = words(text);
    let word = |index: usize| words.get(index).map_or("", String::as_str);
    let (mut watched, mut wrong) = (0, Vec::new());
    for index in 0..words.len() {
        let around = |from: usize, to: usize| words.get(from..to).unwrap_or_default().join(" ");
        let before = word(index.wrapping_sub(1));
        match word(index) {
            // A definition, a process, or one of our own functions that begin several.
            "spawn" if before == "fn" || word(index + 2) == ")" => {}
            "spawn" if ["foreign", "outside"].contains(&word(index.wrapping_sub(2))) => {}
            "spawn" if word(index + 1) == "(" => match word(index + 2) {
                // `relay_on` guards each try of its own, `async` one inside.
                "guarded" | "vital" | "relay_on" => watched += 1,
                "async" if around(index, index + 12).contains("guarded") => watched += 1,
                _ => wrong.push(around(index.saturating_sub(4), index + 8)),
            },
            "spawn_on" if around(index.saturating_sub(6), index).ends_with("edge . tasks .") => {
                watched += 1;
            }
            "spawn_on" | "spawn_local" | "JoinSet" => wrong.push(around(index, index + 8)),
            "thread" if word(index + 1) == "::" => match word(index + 2) {
                "Builder" | "spawn" => wrong.push(around(index, index + 8)),
                _ => {}
            },
            "thread" if before == "::" && word(index + 1) == "(" => watched += 1,
            _ => {}
        }
    }
    (watched, wrong)
}

#[test]
fn a_beginner_that_is_not_watched_is_found() {
    for wrong in [
        "tokio::spawn(async move { work().await });",
        "self.tasks.spawn(member.run());",
        "tasks\n    .spawn(keeper.run(shutdown));",
        "std::thread::spawn(move || run());",
        "std::thread::Builder::new().name(name).spawn(move || run())?;",
        "tracker.spawn_on(task, &runtime);",
        "let mut tasks = JoinSet::new();",
    ] {
        assert!(!beginners(wrong).1.is_empty(), "{wrong}");
    }
    for fine in [
        "tokio::spawn(guarded(\"pull\", pulling));",
        "self.tasks.spawn(vital(part, task));",
        "panics::thread(Vital::Disk, \"disk\", run)?;",
        "self.edge.tasks.spawn_on(task, &self.runtime);",
        "command.spawn()?;",
        "tokio::task::spawn_blocking(move || run());",
        "// tokio::spawn(work())",
    ] {
        assert_eq!(beginners(fine).1, Vec::<String>::new(), "{fine}");
    }
}

/// The layers of `lib.rs`: groups of `mod` lines under comments `// L<number>`.
fn layers(text: &str) -> Layers {
    let mut layers = Layers::new();
    let mut layer = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("// L") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            layer = Some(digits.parse().expect("a number behind `// L`"));
        }
        let line = line.strip_prefix("pub ").unwrap_or(line);
        if let Some(name) = line
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(';'))
        {
            let layer = layer.unwrap_or_else(|| panic!("`mod {name}` stands under no layer"));
            assert_eq!(
                layers.insert(name.into(), layer),
                None,
                "{name} stands twice"
            );
        }
    }
    layers
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The module that a file is, `a/b/mod.rs` being `[a, b]`; the binary is `[main]`.
fn module_of(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if parts
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        parts.pop();
    }
    parts
}

/// What is wrong with these imports of a file of module `inside`.
fn judge(layers: &Layers, inside: &[String], imports: &[String]) -> Vec<String> {
    let Some(from) = inside.first() else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    for to in imports.iter().filter(|to| *to != from) {
        let Some(below) = layers.get(to) else {
            wrong.push(format!("`{to}` is no module of src/lib.rs"));
            continue;
        };
        // The binary is above everything.
        let above = layers.get(from).copied().unwrap_or(usize::MAX);
        if *below > above {
            wrong.push(format!(
                "`{from}` (layer {above}) imports upward from `{to}` (layer {below})"
            ));
        } else if *below == above {
            wrong.push(format!(
                "`{from}` imports sideways from `{to}`: both are of layer {above}"
            ));
        }
        if let Some((_, who)) = ONLY.iter().find(|(module, _)| module == to)
            && !who.contains(&from.as_str())
        {
            wrong.push(format!("`{to}` is for {} alone", who.join(" and ")));
        }
    }
    wrong
}

/// The top-level modules that `text`, the source of module `inside`, names, in order and repeated; and
/// what could not be resolved.
fn imports(inside: &[String], text: &str) -> (Vec<String>, Vec<String>) {
    let words = words(text);
    let word = |index: usize| words.get(index).map_or("", String::as_str);
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    // Inline modules that are open: name, and the depth of braces outside of it.
    let mut open: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut index = 0;
    while index < words.len() {
        match word(index) {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if open.last().is_some_and(|(_, outside)| *outside == depth) {
                    open.pop();
                }
            }
            "mod" if word(index + 2) == "{" => open.push((word(index + 1).into(), depth)),
            // The binary names the library by the crate's name.
            name @ ("crate" | "relayctl")
                if word(index + 1) == "::" && (name == "crate" || inside == ["main"]) =>
            {
                heads(&words, index + 2, &mut found, &mut wrong);
            }
            "super"
                if index == 0
                    || word(index - 1) != "::"
                    || word(index.saturating_sub(2)) == "self" =>
            {
                let mut path: Vec<&str> = inside.iter().map(String::as_str).collect();
                path.extend(open.iter().map(|(name, _)| name.as_str()));
                let mut next = index;
                while word(next) == "super" {
                    if path.pop().is_none() {
                        wrong.push("`super` leads out of the crate".into());
                    }
                    next += 2;
                }
                if path.is_empty() && word(next - 1) == "::" {
                    heads(&words, next, &mut found, &mut wrong);
                }
            }
            _ => {}
        }
        index += 1;
    }
    (found, wrong)
}

/// The first names of the path or of the group `{a, b::c}` at `index`.
fn heads(words: &[String], index: usize, found: &mut Vec<String>, wrong: &mut Vec<String>) {
    let word = |index: usize| words.get(index).map_or("", String::as_str);
    if word(index) != "{" {
        return head(word(index), found, wrong);
    }
    let mut depth = 0;
    let mut first = true;
    for index in index.. {
        match word(index) {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => first = true,
            "" => return,
            name if first && depth == 1 => {
                first = false;
                head(name, found, wrong);
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

fn head(name: &str, found: &mut Vec<String>, wrong: &mut Vec<String>) {
    match name {
        "*" => wrong.push("imports everything of the crate: name the modules".into()),
        "self" | "super" => wrong.push(format!("`{name}` behind the crate's root")),
        name => found.push(name.into()),
    }
}

/// Identifiers, `::` and single signs of `text`; no comments, no literals.
fn words(text: &str) -> Vec<String> {
    let signs: Vec<char> = text.chars().collect();
    let at = |index: usize| signs.get(index).copied().unwrap_or('\0');
    let is_name = |sign: char| sign.is_alphanumeric() || sign == '_';
    let mut words = Vec::new();
    let mut index = 0;
    while index < signs.len() {
        match at(index) {
            '/' if at(index + 1) == '/' => {
                while index < signs.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            '/' if at(index + 1) == '*' => index = skip_comment(&signs, index),
            '"' => index = skip_text(&signs, index),
            '\'' => index = skip_character(&signs, index),
            sign if is_name(sign) => {
                let begin = index;
                while is_name(at(index)) {
                    index += 1;
                }
                let name: String = signs[begin..index].iter().collect();
                match (name.as_str(), at(index), at(index + 1)) {
                    // r#name, and r"…", r#"…"#, br, cr.
                    ("r", '#', next) if is_name(next) => index += 1,
                    ("r" | "br" | "cr", '"' | '#', _) => index = skip_raw(&signs, index),
                    _ => words.push(name),
                }
            }
            ':' if at(index + 1) == ':' => {
                words.push("::".into());
                index += 2;
            }
            sign => {
                if !sign.is_whitespace() {
                    words.push(sign.into());
                }
                index += 1;
            }
        }
    }
    words
}

fn skip_comment(signs: &[char], mut index: usize) -> usize {
    let mut depth = 0;
    while index + 1 < signs.len() {
        match (signs[index], signs[index + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                index += 1;
                continue;
            }
        }
        index += 2;
        if depth == 0 {
            return index;
        }
    }
    signs.len()
}

fn skip_text(signs: &[char], mut index: usize) -> usize {
    index += 1;
    while index < signs.len() && signs[index] != '"' {
        index += if signs[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

fn skip_raw(signs: &[char], mut index: usize) -> usize {
    let marks = signs[index..]
        .iter()
        .take_while(|sign| **sign == '#')
        .count();
    index += marks + 1;
    while index < signs.len() {
        let closes = signs[index] == '"'
            && signs[index + 1..]
                .iter()
                .take_while(|sign| **sign == '#')
                .count()
                >= marks;
        index += 1;
        if closes {
            return index + marks;
        }
    }
    index
}

/// A character (`'a'`, `'\n'`, `'\u{7f}'`) whole; of a lifetime only the mark.
fn skip_character(signs: &[char], index: usize) -> usize {
    let at = |index: usize| signs.get(index).copied().unwrap_or('\0');
    if at(index + 1) == '\\' {
        let mut index = index + 3;
        while index < signs.len() && at(index) != '\'' {
            index += 1;
        }
        return index + 1;
    }
    if at(index + 2) == '\'' {
        index + 3
    } else {
        index + 1
    }
}

const SAMPLE: &str = "
// L2
pub mod app;
// L1
pub mod left;
pub mod right;
pub mod settings;
// L0
pub mod base;
";

/// What is said of `text` as the file of `module` in the sample's layers.
fn complaints(module: &str, text: &str) -> Vec<String> {
    let inside: Vec<String> = module.split('/').map(str::to_owned).collect();
    let (found, mut wrong) = imports(&inside, text);
    wrong.extend(judge(&layers(SAMPLE), &inside, &found));
    wrong
}

#[test]
fn bad_imports_are_found() {
    for (module, text, word) in [
        ("base", "use crate::left::X;", "upward"),
        ("left", "use crate::app;", "upward"),
        ("left", "use crate::right::X;", "sideways"),
        ("left/deep", "use crate::{base, right::{a, b}};", "sideways"),
        (
            "left",
            "use crate::{\n    base::{x, y},\n    app,\n};",
            "upward",
        ),
        ("left", "fn f() { crate::right::g() }", "sideways"),
        ("left", "fn f(x: &'static crate::right::T) {}", "sideways"),
        (
            "left",
            "const C: char = '\"'; use crate::right::X;",
            "sideways",
        ),
        (
            "left",
            r#"const C: &str = "\""; use crate::right::X;"#,
            "sideways",
        ),
        (
            "left",
            r###"const C: &str = r#"""#; use crate::right::X;"###,
            "sideways",
        ),
        ("left", "/* a /* b */ c */ use crate::right::X;", "sideways"),
        ("left", "use super::right::X;", "sideways"),
        ("left/deep", "use super::super::right::X;", "sideways"),
        ("left/deep", "use super::super::{base, right};", "sideways"),
        (
            "left",
            "mod tests { use super::super::right::X; }",
            "sideways",
        ),
        (
            "left/deep",
            "mod a { mod b { fn f() { super::super::super::super::app::x() } } }",
            "upward",
        ),
        (
            "left",
            "mod a { } mod tests { use super::super::right::X; }",
            "sideways",
        ),
        ("left", "use self::super::right::X;", "sideways"),
        ("left", "use super::super::right::X;", "out of the crate"),
        ("left", "use crate::*;", "everything"),
        ("left", "use crate::nowhere::X;", "no module"),
        ("left", "pub use crate :: right;", "sideways"),
        ("right", "use crate::left::X;", "sideways"),
        ("left", "use crate::settings::X;", "alone"),
    ] {
        let complaints = complaints(module, text);
        assert!(
            complaints.iter().any(|complaint| complaint.contains(word)),
            "{module}: {text}: {complaints:?}"
        );
    }
}

#[test]
fn good_imports_pass() {
    for (module, text) in [
        ("app", "use crate::{base, left, right::X, settings};"),
        (
            "left",
            "use crate::base::X; use crate::left::Y; use super::base::Z;",
        ),
        (
            "left/deep",
            "use super::X; mod tests { use super::super::Y; use super::*; }",
        ),
        (
            "left",
            "// use crate::right;\n/// [`crate::app`]\n//! crate::app\n",
        ),
        ("left", "/* crate::app /* crate::right */ crate::app */"),
        (
            "left",
            r#"const C: &str = "crate::app"; const D: &str = "a\" crate::app";"#,
        ),
        (
            "left",
            r###"const C: &str = r#"crate::app " crate::app"#;"###,
        ),
        (
            "left",
            "const C: [char; 3] = ['\\'', '\"', 'x']; fn f<'a>(x: &'a str) {}",
        ),
        (
            "left",
            "pub(crate) fn f() {} pub(super) fn g() {} use relayctl::app;",
        ),
        ("main", "fn main() { relayctl::app::main() }"),
    ] {
        assert_eq!(
            complaints(module, text),
            Vec::<String>::new(),
            "{module}: {text}"
        );
    }
    let (found, _) = imports(&["main".into()], "fn main() { relayctl::app::main() }");
    assert_eq!(found, ["app"]);
}

#[test]
fn files_to_modules() {
    assert_eq!(module_of(Path::new("a/b/mod.rs")), ["a", "b"]);
    assert_eq!(module_of(Path::new("a/b.rs")), ["a", "b"]);
    assert_eq!(module_of(Path::new("main.rs")), ["main"]);
    assert!(module_of(Path::new("lib.rs")).is_empty());
}
