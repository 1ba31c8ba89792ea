//! What `sc_serv.conf.tera` may use. Keys and defaults are those of Shoutcast DNAS 2.6.
//!
//! The file is `key=value` by line and knows no escaping: what a value cannot hold is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{RenderError, RenderMount, Role, Station, check};

#[derive(Serialize)]
struct Context {
    relay: bool,
    port: u16,
    destip: String,
    publicip: Option<String>,
    /// Port of v1 sources; a text, since 0 closes it.
    portlegacy: String,
    password: String,
    adminpassword: String,
    maxuser: u32,
    autodumptime: u64,
    public: bool,
    streams: Vec<Stream>,
    /// Lines that the server itself wrote, verbatim.
    kept: Vec<String>,
    paths: Paths,
}

#[derive(Serialize)]
struct Stream {
    id: u32,
    path: String,
    relay_url: Option<String>,
    password: Option<String>,
    max_listeners: Option<u32>,
    listener_minutes: Option<u64>,
    intro: Option<String>,
    public: Option<bool>,
    hidden: bool,
}

#[derive(Serialize)]
struct Paths {
    data: String,
    logs: String,
}

/// As it is: [`refuse_unwritable`] has seen every text.
pub(super) fn escape(text: &str) -> String {
    text.to_owned()
}

pub(super) fn context(station: &Station, old: Option<&str>) -> Result<Value, RenderError> {
    let upstream = check::upstream(station, "Shoutcast")?;
    check::port("port", station.port)?;
    passwords(station)?;
    let primary = station.role == Role::Primary;
    let portlegacy = match &station.shoutcast_mount {
        Some(_) if primary => check::next_port("port", station.port)?,
        _ => 0,
    };
    let old = Old::read(old.unwrap_or_default());
    let ids = old.ids(&station.mounts);
    let stream = |(id, mount): (u32, &RenderMount)| Stream {
        id,
        path: check::request_path(&mount.path),
        relay_url: upstream.map(|from| {
            let authority = check::authority(&from.host, from.port);
            format!("http://{authority}{}", check::request_path(&mount.path))
        }),
        password: check::set_secret(&mount.password).filter(|_| primary),
        max_listeners: mount.max_listeners.filter(|most| *most > 0),
        listener_minutes: check::limit(mount.max_listener_duration).map(|s| s.div_ceil(60)),
        intro: check::set(mount.intro.as_ref()),
        public: mount.public,
        hidden: mount.hidden,
    };
    let mut streams: Vec<Stream> = ids.into_iter().zip(&station.mounts).map(stream).collect();
    streams.sort_by_key(|stream| stream.id);
    let context = Context {
        relay: !primary,
        port: station.port,
        destip: if station.bind.is_unspecified() {
            "any".to_owned()
        } else {
            station.bind.to_string()
        },
        publicip: station.told_host(),
        portlegacy: portlegacy.to_string(),
        password: station.source_password.reveal().to_owned(),
        adminpassword: station.admin_password.reveal().to_owned(),
        maxuser: station.limits.max_listeners,
        autodumptime: check::some_seconds(station.timeouts.source),
        // `None` leaves it to the source, so the server forbids it only where every mount does.
        public: station.mounts.is_empty()
            || station
                .mounts
                .iter()
                .any(|mount| mount.public != Some(false)),
        streams,
        kept: old.auth_hashes,
        paths: Paths {
            data: check::folder("paths.data", &station.paths.data)?,
            logs: check::folder("paths.logs", &station.paths.logs)?,
        },
    };
    let value = serde_json::to_value(context)
        .map_err(|error| RenderError::value("station", error.to_string()))?;
    refuse_unwritable("", &value)?;
    Ok(value)
}

/// DNAS refuses to start with equal passwords, and parts one that holds `:` at it.
fn passwords(station: &Station) -> Result<(), RenderError> {
    let mut all = vec![
        (
            "source_password".to_owned(),
            "password",
            &station.source_password,
        ),
        (
            "admin_password".to_owned(),
            "adminpassword",
            &station.admin_password,
        ),
    ];
    for (key, word, secret) in &all {
        if secret.is_empty() {
            return Err(RenderError::value(
                key.as_str(),
                format!(
                    "(`{word}`) is empty, and Shoutcast does not run without: set `RELAYCTL_{}`",
                    key.to_uppercase()
                ),
            ));
        }
    }
    for (index, mount) in station.mounts.iter().enumerate() {
        let key = format!("mounts[{index}].password");
        all.push((key, "streampassword", &mount.password));
    }
    for (key, word, secret) in &all {
        if secret.reveal().contains(':') {
            return Err(RenderError::value(
                key.as_str(),
                format!(
                    "(`{word}`) has a `:` in it, where Shoutcast ends a password: choose one without"
                ),
            ));
        }
        if *word != "adminpassword" && *secret == &station.admin_password {
            return Err(RenderError::value(
                "admin_password",
                format!(
                    "(`adminpassword`) is equal to `{key}` (`{word}`), which Shoutcast refuses: \
                     choose two"
                ),
            ));
        }
    }
    Ok(())
}

/// Blanks at either end are lost when the file is read.
fn refuse_unwritable(key: &str, value: &Value) -> Result<(), RenderError> {
    match value {
        Value::String(text) if text.trim() != text => Err(RenderError::value(
            key,
            "begins or ends with a blank, which a `key=value` file loses: remove it",
        )),
        Value::Object(fields) => fields.iter().try_for_each(|(name, below)| {
            let dot = if key.is_empty() { "" } else { "." };
            refuse_unwritable(&format!("{key}{dot}{name}"), below)
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, below)| refuse_unwritable(&format!("{key}[{index}]"), below)),
        _ => Ok(()),
    }
}

/// What of the replaced file lives on. DNAS writes `streamauthhash_N` (the stream's registration in the
/// directory) into its own configuration; losing it loses the registration.
#[derive(Default)]
struct Old {
    auth_hashes: Vec<String>,
    hashed: BTreeSet<u32>,
    paths: BTreeMap<u32, String>,
}

impl Old {
    fn read(text: &str) -> Self {
        let mut old = Self::default();
        for line in text.lines().map(str::trim) {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let key = key.trim().to_ascii_lowercase();
            if let Some(number) = key.strip_prefix("streamauthhash_") {
                old.auth_hashes.push(line.to_owned());
                old.hashed.extend(number.parse::<u32>());
            } else if let Some(number) = key.strip_prefix("streampath_")
                && let Ok(number) = number.parse()
            {
                old.paths.insert(number, value.trim().to_owned());
            }
        }
        old
    }

    /// A number for each mount. One that had a number keeps it, since its hash and its listeners' addresses
    /// hang on it; the others take the lowest that are free, never one whose hash is another mount's.
    fn ids(&self, mounts: &[RenderMount]) -> Vec<u32> {
        let paths: Vec<String> = mounts
            .iter()
            .map(|m| check::request_path(&m.path))
            .collect();
        let had: BTreeMap<&str, u32> = self.paths.iter().map(|(n, p)| (p.as_str(), *n)).collect();
        let kept = |path: &String| had.get(path.as_str()).copied();
        let mut taken: BTreeSet<u32> = paths.iter().filter_map(kept).collect();
        let gone = |n: &&u32| self.paths.contains_key(n);
        taken.extend(self.hashed.iter().filter(gone));
        let mut next = 1;
        let mut ids = Vec::with_capacity(paths.len());
        for path in &paths {
            let id = kept(path).unwrap_or_else(|| {
                while taken.contains(&next) {
                    next += 1;
                }
                taken.insert(next);
                next
            });
            ids.push(id);
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(paths: &[&str]) -> Vec<RenderMount> {
        paths.iter().map(|p| RenderMount::at(*p)).collect()
    }

    #[test]
    fn without_an_old_file_streams_count_from_one() {
        assert_eq!(Old::read("").ids(&mounts(&["/a", "/b", "/c"])), [1, 2, 3]);
    }

    #[test]
    fn a_stream_keeps_its_number_and_a_hash_never_changes_hands() {
        let old = Old::read(
            "streampath_1=/a\nstreamauthhash_1=AAA\r\n; streamauthhash_9=no\nstreampath_2=/b\nStreamAuthHash_3=CCC\nx\n",
        );
        assert_eq!(
            old.auth_hashes,
            ["streamauthhash_1=AAA", "StreamAuthHash_3=CCC"]
        );
        assert_eq!(old.ids(&mounts(&["/new", "/b", "/a"])), [3, 2, 1]);
        // `/a` is gone, its number 1 with the hash stays free; 2 had none.
        assert_eq!(old.ids(&mounts(&["/x", "/y"])), [2, 3]);
        // The old cartridge wrote no path: its hash goes to the first mount.
        assert_eq!(Old::read("streamauthhash_1=A").ids(&mounts(&["/x"])), [1]);
    }
}
