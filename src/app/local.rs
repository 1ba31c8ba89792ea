//! The node's own socket: whoever can open it is its operator. It stands in the data directory, and where that takes
//! none in a runtime directory (`settings::runtime_dir`), so that `status` and `drain --local` work there too.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::admin::Client;
use crate::edge::Edge;
use crate::settings::data_dir::DataDir;
use crate::settings::runtime_dir::{self, RuntimeDir};
use crate::telemetry::panics::guarded;

/// Name of the socket in its directory.
pub const SOCKET_FILE: &str = "relayctl.sock";

/// Name of the file beside it that says where this machine reaches the data port.
pub const URL_FILE: &str = "url";

/// An open socket and the directory that was made for it.
pub(super) struct Socket {
    listener: UnixListener,
    /// `None` where it stands in the data directory.
    runtime: Option<RuntimeDir>,
}

/// Opens the socket (mode 0600) in the first place that takes it. `None` where no place does, which is logged.
pub(super) fn open(
    data_dir: &DataDir,
    environment: &[(String, String)],
    port: u16,
) -> Option<Socket> {
    let mut tried = Vec::new();
    // The lock on the data directory makes sure that an old socket file there belongs to nobody.
    match data_dir.is_writable().then(|| bind(data_dir.path())) {
        Some(Ok(listener)) => {
            let runtime = None;
            return Some(Socket { listener, runtime });
        }
        Some(Err(error)) => tried.push(failed(data_dir.path(), &error)),
        None => tried.push(format!("`{}` (read-only)", data_dir.path().display())),
    }
    for base in runtime_dir::bases(environment) {
        let made = RuntimeDir::create(&base, port, data_dir.path());
        let opened = made.and_then(|runtime| {
            let listener = bind(runtime.path())?;
            Ok((listener, runtime))
        });
        match opened {
            Ok((listener, runtime)) => {
                tracing::info!(path = %runtime.path().display(), "the node's own socket is in a runtime directory");
                let runtime = Some(runtime);
                return Some(Socket { listener, runtime });
            }
            Err(error) => tried.push(failed(&base, &error)),
        }
    }
    tracing::warn!(
        tried = tried.join(", "),
        "no directory takes the node's own socket, so `relayctl status` and `relayctl drain --local` cannot reach it: \
         make one of them writable (in a container mount a tmpfs at /run/relayctl), or ask by `--addr` and a token"
    );
    None
}

fn failed(place: &Path, error: &io::Error) -> String {
    format!("`{}` ({error})", place.display())
}

fn bind(directory: &Path) -> io::Result<UnixListener> {
    let path = directory.join(SOCKET_FILE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Writes [`URL_FILE`] beside the socket and into the data directory, for `relayctl health` and scripts where the port is
/// a free one.
pub(super) fn tell(data_dir: &DataDir, socket: Option<&Socket>, url: &str) {
    let text = format!("{url}\n");
    let runtime = socket.and_then(|socket| socket.runtime.as_ref());
    let beside = runtime.map(|runtime| {
        let file: PathBuf = runtime.path().join(URL_FILE);
        std::fs::write(file, &text)
    });
    if let Some(Err(error)) = beside {
        tracing::debug!(%error, "the node's URL is not kept beside its socket");
    }
    if !data_dir.is_writable() {
        return;
    }
    if let Err(error) = data_dir.write(URL_FILE, text.as_bytes()) {
        tracing::debug!(%error, "the node's URL is not kept");
    }
}

/// Serves the data port's router on the socket until `shutdown`.
pub(super) async fn serve(socket: Option<Socket>, edge: Arc<Edge>, shutdown: CancellationToken) {
    // A directory that was made for the socket goes with it.
    let Some(Socket {
        listener,
        runtime: _runtime,
    }) = socket
    else {
        return;
    };
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if is_own(&stream) => {
                tokio::spawn(guarded("connection", answer(stream, Arc::clone(&edge))));
            }
            Ok(_) => crate::telemetry::refuse("socket_peer"),
            Err(error) => {
                tracing::warn!(%error, "the node's own socket accepts no connection at the moment");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// The file's mode says the same; the peer's user is checked as well, since a mode can be changed.
fn is_own(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn answer(stream: UnixStream, edge: Arc<Edge>) {
    let client = Client {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        https: false,
        local: true,
        hosts: Vec::new(),
        hidden: false,
        carried: false,
        claimed: None,
        connection: 0,
    };
    edge.serve_own(stream, client).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(base: &Path) -> Vec<(String, String)> {
        vec![("RUNTIME_DIRECTORY".to_owned(), base.display().to_string())]
    }

    #[tokio::test]
    async fn a_data_directory_that_takes_no_socket_is_replaced() {
        let scene = tempfile::tempdir().unwrap();
        let file = scene.path().join("file");
        std::fs::write(&file, "").unwrap();
        // Too deep for an address of 108 bytes, and one that cannot be made.
        let deep = scene.path().join("x".repeat(120));
        for (writable, path) in [(true, deep), (false, file.join("data"))] {
            let data_dir = DataDir::open(&path).unwrap();
            assert_eq!(data_dir.is_writable(), writable);
            let socket = open(&data_dir, &environment(scene.path()), 8000).unwrap();
            tell(&data_dir, Some(&socket), "http://127.0.0.1:8000");
            let place = socket.runtime.as_ref().unwrap().path().to_owned();
            assert!(place.starts_with(scene.path()), "{}", place.display());
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&place.join(SOCKET_FILE)), 0o600);
            assert_eq!(mode(&place), 0o700);
            let url = std::fs::read_to_string(place.join(URL_FILE)).unwrap();
            assert_eq!(url, "http://127.0.0.1:8000\n");
            drop(socket);
            assert!(!place.exists());
        }
    }

    #[tokio::test]
    async fn a_data_directory_comes_first() {
        let scene = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&scene.path().join("data")).unwrap();
        let socket = open(&data_dir, &environment(scene.path()), 8000).unwrap();
        assert!(socket.runtime.is_none());
        assert!(data_dir.path().join(SOCKET_FILE).exists());
    }
}
