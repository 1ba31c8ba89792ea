//! The fuzz targets on a stable compiler: each body over its corpus and some thousand mutations of it.
//!
//! `tests/fuzz` is also a package of `cargo fuzz`, outside the workspace, with the same bodies:
//! `cargo +nightly fuzz run heads --fuzz-dir tests/fuzz`. An input that it finds belongs into `corpus/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bodies;
mod mutation;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bodies::TARGETS;
use mutation::{Random, mutated};

/// Mutated inputs of each target; `RELAYCTL_FUZZ_INPUTS` sets another number.
const INPUTS: usize = 4000;

/// Longest input in bytes.
const LONGEST: usize = 16 * 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The corpus of a target, and for the framers the sound of `tests/fixtures`.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder().join("corpus").join(name))
        .unwrap_or_else(|error| panic!("the corpus of `{name}`: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    let kinds: &[&str] = match name {
        "mpeg" => &["mp3"],
        "adts" => &["aac"],
        "ogg" => &["ogg"],
        "containers" => &["webm", "flac", "mp4"],
        "detector" => &["mp3", "aac", "ogg", "webm", "flac", "mp4"],
        _ => &[],
    };
    let fixtures = fs::read_dir(folder().join("../fixtures")).unwrap();
    files.extend(fixtures.map(|entry| entry.unwrap().path()).filter(|path| {
        let kind = path.extension().and_then(|kind| kind.to_str());
        kind.is_some_and(|kind| kinds.contains(&kind))
    }));
    files.sort();
    let read = |path: &PathBuf| {
        let mut bytes = fs::read(path).unwrap();
        bytes.truncate(LONGEST);
        bytes
    };
    files.iter().map(read).collect()
}

/// Tries one input; where it fails, the input is kept and named.
fn try_input(name: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| bodies::run(name, input))).is_err() {
        let file = std::env::temp_dir().join(format!("relayctl-fuzz-{name}"));
        fs::write(&file, input).unwrap();
        panic!(
            "`{name}` failed on {} bytes, kept in {}",
            input.len(),
            file.display()
        );
    }
}

fn inputs() -> usize {
    let given = std::env::var("RELAYCTL_FUZZ_INPUTS").ok();
    given.map_or(INPUTS, |text| {
        text.parse().expect("RELAYCTL_FUZZ_INPUTS is a number")
    })
}

fn try_target(name: &str) {
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "`{name}` has an empty corpus");
    for seed in &seeds {
        try_input(name, seed);
    }
    let mut random = Random::of(name);
    let count = inputs();
    for _ in 0..count {
        try_input(name, &mutated(&seeds, &mut random, LONGEST));
    }
    println!("{name}: {} seeds, {count} mutations", seeds.len());
}

/// A test for each target, so that they run side by side and a failure names its own.
macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { try_target(stringify!($name)); })*
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    heads responses first_bytes proxy_protocol forwarded chunks icy_stream titles frames mpeg adts ogg yaml environment
    containers detector messages names
}

#[test]
fn every_target_is_tested_and_fuzzed() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TESTED);
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for name in names {
        let file = format!("fuzz_targets/{name}.rs");
        let text = fs::read_to_string(folder().join(&file)).unwrap_or_default();
        assert!(
            text.contains(&format!("\"{name}\"")),
            "{file} does not run `{name}`"
        );
        assert!(manifest.contains(&file), "Cargo.toml does not name {file}");
    }
}
