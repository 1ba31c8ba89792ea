//! Standard output for commands that print and end. A reader that went away is no failure.

use std::io::{self, Write as _};

use super::{Exit, Outcome};

/// Writes `text` as it is.
pub(super) fn text(text: &str) -> Outcome {
    bytes(text.as_bytes())
}

/// Writes `bytes` as they are.
pub(super) fn bytes(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Fine),
    }
}

/// A JSON value on lines of its own.
pub(super) fn json(value: &serde_json::Value) -> Outcome {
    text(&format!("{value:#}\n"))
}
