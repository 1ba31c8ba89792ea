//! The installed HAProxy with one thread and one rule: a fixed redirect.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::cli::bench::clock::until;
use crate::cli::bench::process::{Cores, Process, installed, pin};
use crate::cli::bench::server::{MOUNT, PATIENCE, Server, folder};

/// Starts it.
///
/// # Errors
/// Where it is not installed or does not start.
pub(super) fn start(cores: Cores) -> anyhow::Result<Server> {
    let program = installed("haproxy", "haproxy")?;
    let folder = folder()?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(
        &file,
        format!(
            "global\n  nbthread 1\n  maxconn 9000\ndefaults\n  mode http\n  timeout client 30s\n  timeout server 30s\n  \
             timeout connect 5s\n  timeout http-keep-alive 60s\nfrontend listeners\n  bind 127.0.0.1:{port}\n  \
             http-request redirect location http://127.0.0.1:9{MOUNT}?rt=0123456789abcdef0123456789abcdef code 302\n"
        ),
    )?;
    let file = file.display().to_string();
    pin(cores.server)?;
    let process = Process::other_program("haproxy", &program, &["-db", "-f", file.as_str()]);
    pin(cores.load)?;
    let mut process = process?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    until("haproxy does not listen", PATIENCE, || {
        process.still_runs()?;
        Ok(TcpStream::connect(server).ok())
    })?;
    Ok(Server {
        name: "haproxy",
        listen: vec![server],
        path: MOUNT.into(),
        places: Vec::new(),
        pids: vec![process.pid()],
        certificate: None,
        processes: vec![process],
        _folder: Some(folder),
    })
}
