//! The installed icecast2, with a burst as ours and no limit that would hold it back.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use anyhow::Context as _;

use super::args::Plan;
use super::clock::until;
use super::process::{Cores, Process, installed, pin};
use super::server::{MOUNT, PATIENCE, Server, folder};
use super::source::Place;

/// Only this machine reaches it, and only while it is measured.
const PASSWORD: &str = "bench";

/// Starts it.
///
/// # Errors
/// Where it is not installed or does not start.
pub(super) fn start(plan: &Plan, cores: Cores) -> anyhow::Result<Server> {
    let program = installed("icecast2", "icecast2")?;
    let folder = folder()?;
    let port = free_port()?;
    let file = folder.path().join("icecast.xml");
    std::fs::write(&file, configuration(plan, port, folder.path()))
        .with_context(|| format!("cannot write `{}`", file.display()))?;
    let file = file.display().to_string();
    pin(cores.server)?;
    let process = Process::other_program("icecast2", &program, &["-c", file.as_str()]);
    pin(cores.load)?;
    let mut process = process?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    until("icecast2 does not listen", PATIENCE, || {
        process.still_runs()?;
        Ok(TcpStream::connect(server).ok())
    })?;
    Ok(Server {
        name: "icecast2",
        listen: vec![server],
        path: MOUNT.into(),
        places: vec![Place {
            server,
            path: MOUNT.into(),
            password: PASSWORD.into(),
        }],
        pids: vec![process.pid()],
        certificate: None,
        processes: vec![process],
        _folder: Some(folder),
    })
}

fn free_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

fn configuration(plan: &Plan, port: u16, folder: &Path) -> String {
    let clients = plan.all() + 500;
    let folder = folder.display();
    // It refuses to run as root.
    let owner = if rustix::process::geteuid().is_root() {
        "<security><changeowner><user>nobody</user><group>nogroup</group></changeowner></security>"
    } else {
        ""
    };
    format!(
        "<icecast>
<limits><clients>{clients}</clients><sources>4</sources><queue-size>1048576</queue-size>
<client-timeout>30</client-timeout><header-timeout>15</header-timeout><source-timeout>30</source-timeout>
<burst-on-connect>1</burst-on-connect><burst-size>65536</burst-size></limits>
<authentication><source-password>{PASSWORD}</source-password>
<admin-user>admin</admin-user><admin-password>{PASSWORD}</admin-password></authentication>
<hostname>localhost</hostname>
<listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
<fileserve>0</fileserve>
<paths><basedir>{folder}</basedir><logdir>{folder}</logdir><webroot>{folder}</webroot><adminroot>{folder}</adminroot></paths>
<logging><accesslog>-</accesslog><errorlog>-</errorlog><loglevel>1</loglevel></logging>
{owner}
</icecast>
"
    )
}
