//! The settings that take effect at the next start only. Every other key is live: a reload applies it.

use crate::settings::types::Settings;

/// One of them.
pub(super) struct Fixed {
    /// Its path.
    pub key: &'static str,
    differs: fn(&Settings, &Settings) -> bool,
    keep: fn(&Settings, &mut Settings),
}

macro_rules! fixed {
    ($($key:literal: $($field:ident).+;)*) => {
        &[$(Fixed {
            key: $key,
            differs: |running, new| running.$($field).+ != new.$($field).+,
            keep: |running, new| new.$($field).+.clone_from(&running.$($field).+),
        }),*]
    };
}

/// All of them, and where they stand.
pub(super) const FIXED: &[Fixed] = fixed! {
    "bind": bind;
    "name": name;
    "data_dir": data_dir;
    "primary": primary;
    "engine": engine;
    "external": engines.external;
    "external_password": engines.password;
    "fanout.threads": fanout.threads;
    "fanout.backend": fanout.backend;
    "shoutcast.program": engines.shoutcast;
    "shoutcast.port": shoutcast.port;
    "log_format": log_format;
    "kubernetes.secret": kubernetes.secret;
    "kubernetes.deletion_cost": kubernetes.deletion_cost;
    "icecast.program": engines.icecast;
};

/// Puts what the process runs with in the place of what it cannot change; the keys that differed, in the order of
/// the documents.
pub(super) fn keep(running: &Settings, new: &mut Settings) -> Vec<&'static str> {
    let pending = FIXED.iter().filter(|fixed| (fixed.differs)(running, new));
    let pending: Vec<&Fixed> = pending.collect();
    for fixed in &pending {
        (fixed.keep)(running, new);
    }
    pending.iter().map(|fixed| fixed.key).collect()
}
