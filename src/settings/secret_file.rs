//! Files that hold one secret.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Longest secret in bytes.
const MAX: u64 = 4096;

/// The first line of the file at `path`; the sentence of an error names the path, never the content.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
    let mut text = String::new();
    File::open(path)
        .map_err(cannot)?
        .take(MAX + 1)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    clean(&text).map_err(|what| format!("`{}` {what}", path.display()))
}

/// `text` without the end of its line.
pub(super) fn clean(text: &str) -> Result<String, String> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("is empty".into());
    }
    if text.len() as u64 > MAX {
        return Err(format!("is longer than {MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("holds more than one line, or control characters".into());
    }
    Ok(text.into())
}
