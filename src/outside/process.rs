//! The pieces of a child's life that need no child: names, ports, the way it ends.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child as Process;

use super::Kind;

/// How long it may take over TERM before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// Between two knocks at a port that is not open yet.
const KNOCK: Duration = Duration::from_millis(50);

/// Pairs of ports that are tried at one start.
const TRIES: u32 = 50;

/// The variables that the shim needs.
pub(super) fn shim_environment(
    command: &std::process::Command,
) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let set = command.get_envs();
    set.filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect()
}

/// What its configuration is called.
pub(super) fn file_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Icecast => "icecast.xml",
        Kind::Shoutcast => "sc_serv.conf",
    }
}

/// A port of 127.0.0.1 that is free, and so is the next one.
pub(super) fn free_port() -> io::Result<u16> {
    let free = |port| TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    for _ in 0..TRIES {
        let port = free(0)?.local_addr()?.port();
        if port.checked_add(1).is_some_and(|next| free(next).is_ok()) {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Returns once somebody takes connections there.
pub(super) async fn opens(port: u16) {
    let mut knocks = tokio::time::interval(KNOCK);
    loop {
        knocks.tick().await;
        let knocked = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        if knocked.is_ok() {
            return;
        }
    }
}

/// TERM, then KILL. Its number is its own until it was waited for, which happens here.
pub(super) async fn stop(process: &mut Process, pid: Option<Pid>) {
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(GRACE, process.wait()).await.is_err() {
        tracing::warn!("the engine took longer than {GRACE:?} to end, and was killed");
        let _ = process.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ports_that_are_free() {
        let port = free_port().unwrap();
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok());
    }
}
