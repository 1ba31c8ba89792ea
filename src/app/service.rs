//! A node as a service of systemd: sockets that it is handed, readiness, a watchdog (sd_listen_fds(3),
//! sd_notify(3), sd_watchdog_enabled(3)). Started otherwise, all of it does nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::control::{Control, Standing};
use crate::edge::{Edge, bind};

/// The thread that accepts takes at most this long to answer its own node.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sockets that systemd holds open over a restart: the first is the data port, the second that of Shoutcast
/// v1 sources.
pub(super) struct Sockets(ListenFd);

impl Sockets {
    /// Those of this process.
    pub fn handed() -> Self {
        Self(ListenFd::from_env())
    }

    /// The one at `place`, or a new one at `address`.
    ///
    /// # Errors
    /// Where the address is not to be had, or what was handed is no listening TCP socket.
    pub fn take(&mut self, place: usize, address: SocketAddr) -> io::Result<TcpListener> {
        let named = |error: io::Error| {
            let what = format!("socket {place} of the socket unit is no TCP listener: {error}");
            io::Error::new(error.kind(), what)
        };
        match self.0.take_tcp_listener(place).map_err(named)? {
            Some(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            }
            None => bind(address),
        }
    }
}

/// Says that the port answers: a relay that waits to join is ready in the eyes of systemd, whose start would time out.
pub(super) fn ready(control: &Control) {
    let role = control.identity.role.as_str();
    let state = match unjoined(control) {
        None => format!("{role}, ready"),
        Some(_) => summary(control),
    };
    say(&[NotifyState::Ready, NotifyState::Status(&state)]);
}

/// Tells the node's state again.
pub(super) fn status(control: &Control) {
    say(&[NotifyState::Status(&summary(control))]);
}

/// Says that settings are read again; [`ready`] ends it.
pub(super) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        say(&[NotifyState::Reloading, now]);
    }
}

/// Says that the node goes down.
pub(super) fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// Keeps the watchdog quiet for as long as the thread that accepts on the data port goes round. It is asked directly: a
/// connection would stand in line behind everybody else's, and a flood is no reason to restart a node that plays.
pub(super) async fn watch(edge: Arc<Edge>, control: Arc<Control>, shutdown: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut rounds = tokio::time::interval(limit / 3);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = rounds.tick() => {}
        }
        match tokio::time::timeout(PATIENCE, edge.answers()).await {
            Ok(()) => say(&[
                NotifyState::Watchdog,
                NotifyState::Status(&summary(&control)),
            ]),
            Err(_) => {
                tracing::error!("the data port does not answer its own node within {PATIENCE:?}")
            }
        }
    }
}

/// One line for `systemctl status`.
fn summary(control: &Control) -> String {
    let state = unjoined(control).map_or_else(String::new, |state| format!("{state}, "));
    format!(
        "{}, {state}{} mounts, {} listeners",
        control.identity.role.as_str(),
        control.engine.mounts().len(),
        control.telemetry.listeners()
    )
}

/// Sentence on the wait of a relay that is no member.
fn unjoined(control: &Control) -> Option<String> {
    let state = match &*control.watch_standing().borrow() {
        Standing::Member => return None,
        Standing::Asking => "joining".to_owned(),
        Standing::Waiting(waiting) => waiting.to_string(),
    };
    // One line: a text from elsewhere could hold another state of sd_notify(3).
    Some(state.replace(char::is_control, " "))
}

fn say(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
