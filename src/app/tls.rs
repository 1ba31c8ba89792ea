//! The certificate of a node: two files to what handshakes are made with, and a word in time before it ends.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio_util::sync::CancellationToken;

use crate::base::wall::unix_millis;
use crate::control::Control;
use crate::settings::types::{Settings, TlsFiles};
use crate::wire::tls::{Certificate, Culprit, Pair, Server, Tickets};

/// No chain and no key is larger.
const MAX_FILE: u64 = 1024 * 1024;

/// Between two looks at how long the certificate lasts.
const LOOK: Duration = Duration::from_secs(12 * 3600);

/// The certificate and key of the settings, if they name any.
///
/// # Errors
/// A sentence that names the key and the file: one cannot be read, is no PEM, or they do not belong together.
pub fn read_pair(settings: &Settings) -> anyhow::Result<Option<Pair>> {
    settings.tls.as_ref().map(read).transpose()
}

fn read(files: &TlsFiles) -> anyhow::Result<Pair> {
    let cert = read_file("tls.cert", &files.cert)?;
    let key = read_file("tls.key", &files.key)?;
    Pair::read(&cert, &key).map_err(|error| {
        let (name, path) = match error.culprit {
            Culprit::Certificate => ("tls.cert", &files.cert),
            Culprit::Key => ("tls.key", &files.key),
        };
        anyhow!("`{name}`: `{}` {error}", path.display())
    })
}

fn read_file(key: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .with_context(|| {
            let who = rustix::process::geteuid().as_raw();
            format!("`{key}`: cannot read `{}` as uid {who}", path.display())
        })?;
    if bytes.len() as u64 > MAX_FILE {
        bail!(
            "`{key}`: `{}` is larger than 1MiB: is it the right file?",
            path.display()
        );
    }
    Ok(bytes)
}

/// What the data port answers TLS with.
///
/// # Errors
/// Where the library refuses the pair.
pub(super) fn server(
    pair: Option<&Pair>,
    tickets: &Tickets,
) -> anyhow::Result<Option<Arc<Server>>> {
    let Some(pair) = pair else { return Ok(None) };
    let server = Server::new(pair, tickets).context("cannot serve TLS with this pair")?;
    Ok(Some(Arc::new(server)))
}

/// What a pair shows, said in the log.
pub(super) fn shown(pair: Option<&Pair>) -> Option<Certificate> {
    let certificate = pair.map(|pair| pair.certificate().clone());
    say(certificate.as_ref());
    certificate
}

/// A good certificate stays where the one that is to take its place has ended or has not begun: players would refuse
/// it. Where there is no good one, any is taken, and warned of.
///
/// # Errors
/// A sentence with the dates.
pub(super) fn may_replace(old: Option<&Certificate>, new: Option<&Pair>) -> anyhow::Result<()> {
    let now = unix_millis() / 1000;
    let is_good = old.is_some_and(|old| old.out_of_dates(now).is_none());
    match new.and_then(|new| new.certificate().out_of_dates(now)) {
        Some(why) if is_good => bail!("`tls.cert`: {why}; the one in use is good"),
        _ => Ok(()),
    }
}

/// A certificate, said in the log.
pub(super) fn say(certificate: Option<&Certificate>) {
    let Some(certificate) = certificate else {
        return;
    };
    if certificate.warning(unix_millis() / 1000).is_none() {
        let until = crate::base::wall::rfc3339(certificate.not_after.saturating_mul(1000));
        tracing::info!(
            names = certificate.names.join(","),
            until,
            "TLS certificate read"
        );
    }
    warn(certificate);
}

fn warn(certificate: &Certificate) {
    if let Some(sentence) = certificate.warning(unix_millis() / 1000) {
        tracing::warn!("{sentence}");
    }
}

/// Looks twice a day at how long the certificate lasts.
pub(super) async fn watch(control: Arc<Control>, shutdown: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK);
    // What there is to say at the start has been said.
    looks.tick().await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = looks.tick() => {}
        }
        if let Some(certificate) = &control.config().certificate {
            warn(certificate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tls::testing;

    fn scene(cert: &str, key: &str) -> (tempfile::TempDir, TlsFiles) {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            cert: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
        };
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        (folder, files)
    }

    #[test]
    fn an_error_names_key_and_file() {
        let (cert, key) = testing::pair(&["radio.example"]);
        let (_, other) = testing::pair(&["radio.example"]);
        let (_folder, files) = scene(&cert, &key);
        assert_eq!(read(&files).unwrap().certificate().names, ["radio.example"]);
        std::fs::write(&files.key, other).unwrap();
        let text = format!("{:#}", read(&files).unwrap_err());
        let path = files.key.display();
        assert_eq!(
            text,
            format!(
                "`tls.key`: `{path}` is not the key of the certificate: they are of different pairs"
            )
        );
        std::fs::remove_file(&files.key).unwrap();
        let text = format!("{:#}", read(&files).unwrap_err());
        assert!(
            text.starts_with(&format!("`tls.key`: cannot read `{path}` as uid ")),
            "{text}"
        );
        std::fs::write(&files.cert, "x".repeat(1024 * 1024 + 1)).unwrap();
        let text = format!("{:#}", read(&files).unwrap_err());
        assert!(
            text.starts_with("`tls.cert`: ") && text.contains("1MiB"),
            "{text}"
        );
    }
}
