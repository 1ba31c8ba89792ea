//! The pieces of a child's life that need no child: names, the way it opens, the way it ends.

use std::net::Ipv4Addr;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child as Process;

use super::Kind;

/// How long it may take over TERM before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// Between two knocks at a port that is not open yet.
const KNOCK: Duration = Duration::from_millis(50);

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

/// Returns once somebody takes connections there.
pub(super) async fn opens(port: u16) {
    let mut knocks = tokio::time::interval(KNOCK);
    loop {
        knocks.tick().await;
        let knocked = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        let ends = knocked.and_then(|stream| Ok((stream.local_addr()?, stream.peer_addr()?)));
        // Where nobody listens, the system may pick the very port that is asked for, and the socket meets itself.
        if ends.is_ok_and(|(own, other)| own != other) {
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
