//! What the system tells the process.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::telemetry::panics::{Vital, vital};

/// A signal that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// SIGTERM or SIGINT.
    End,
    /// SIGHUP.
    Reload,
}

/// Starts listening: from here on none of them ends the process by itself.
pub(super) fn listen() -> io::Result<mpsc::Receiver<Word>> {
    let (told, words) = mpsc::channel(8);
    let kinds = [
        (SignalKind::terminate(), Word::End),
        (SignalKind::interrupt(), Word::End),
        (SignalKind::hangup(), Word::Reload),
    ];
    for (kind, word) in kinds {
        let mut signals = signal(kind)?;
        let told = told.clone();
        let listening =
            async move { while signals.recv().await.is_some() && told.send(word).await.is_ok() {} };
        tokio::spawn(vital(Vital::Signals, listening));
    }
    Ok(words)
}
