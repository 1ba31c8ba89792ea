//! The node's own socket in its data directory: whoever may use it is its operator.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::admin::Client;
use crate::settings::data_dir::DataDir;

/// Name of the socket in the data directory.
pub const SOCKET_FILE: &str = "relayctl.sock";

/// Name of the file beside it that says where this machine reaches the data port.
pub const URL_FILE: &str = "url";

/// Writes [`URL_FILE`], for `relayctl health` and scripts where the port is a free one.
pub(super) fn tell(data_dir: &DataDir, url: &str) {
    if !data_dir.is_writable() {
        return;
    }
    if let Err(error) = data_dir.write(URL_FILE, format!("{url}\n").as_bytes()) {
        tracing::debug!(%error, "the node's URL is not kept");
    }
}

/// Opens the socket (mode 0600) and serves the router on it. The lock on the data directory makes sure
/// that an old socket file belongs to nobody.
///
/// # Errors
/// Where the directory takes no socket. A read-only one is no error: then there is none.
pub(super) fn serve(
    data_dir: &DataDir,
    router: axum::Router,
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let listener = if data_dir.is_writable() {
        Some(open(&data_dir.path().join(SOCKET_FILE))?)
    } else {
        None
    };
    Ok(async move {
        let Some(listener) = listener else { return };
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) if is_own(&stream) => {
                    tokio::spawn(answer(stream, router.clone(), shutdown.clone()));
                }
                Ok(_) => crate::telemetry::refuse("socket_peer"),
                Err(error) => {
                    tracing::warn!(%error, "the node's own socket takes nobody now");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    })
}

fn open(path: &Path) -> anyhow::Result<UnixListener> {
    let named = || format!("cannot open the node's own socket `{}`", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(named);
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(named)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).with_context(named)?;
    Ok(listener)
}

/// The file's mode says the same; the peer's user is checked as well, since a mode can be changed.
fn is_own(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn answer(stream: UnixStream, router: axum::Router, shutdown: CancellationToken) {
    let client = Client {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        https: false,
        local: true,
        neighbour: false,
        connection: 0,
    };
    let router = router.layer(axum::Extension(client));
    let service = router.map_request(|request: hyper::Request<hyper::body::Incoming>| {
        request.map(axum::body::Body::new)
    });
    let serving = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::select! {
        () = shutdown.cancelled() => {}
        served = serving => {
            if let Err(error) = served {
                tracing::debug!(%error, "a client of the node's own socket broke off");
            }
        }
    }
}
