//! TLS for the bench: a certificate that lasts a day, and HAProxy terminating TLS in front of icecast2.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::args::Plan;
use super::clock::until;
use super::icecast;
use super::process::{Cores, Process, installed, pin};
use super::server::{PATIENCE, Server};

/// For 127.0.0.1, signed by itself.
pub(super) struct Certificate {
    /// PEM.
    pub file: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes one in `folder`, by the installed openssl.
    ///
    /// # Errors
    /// Where it is not installed or fails.
    pub fn make(folder: &Path) -> anyhow::Result<Self> {
        let made = Self {
            file: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
        };
        let wishes = folder.join("openssl.cnf");
        std::fs::write(
            &wishes,
            "[req]\ndistinguished_name=name\nx509_extensions=more\nprompt=no\n[name]\nCN=relayctl bench\n\
             [more]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1\n",
        )?;
        let output = Command::new(installed("openssl", "openssl")?)
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .args(["-nodes", "-days", "1", "-config"])
            .arg(&wishes)
            .arg("-keyout")
            .arg(&made.key)
            .arg("-out")
            .arg(&made.file)
            .output()
            .context("cannot run openssl")?;
        ensure!(
            output.status.success(),
            "openssl makes no certificate: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(made)
    }
}

/// icecast2 behind HAProxy; only HAProxy's figures count.
///
/// # Errors
/// Where one is not installed or does not start.
pub(super) fn haproxy_before_icecast(plan: &Plan, cores: Cores) -> anyhow::Result<Server> {
    let mut server = icecast::start(plan, cores)?;
    let program = installed("haproxy", "haproxy")?;
    let folder = server
        .folder()
        .context("icecast2 has no folder")?
        .to_owned();
    let certificate = Certificate::make(&folder)?;
    let behind = *server.listen.first().context("icecast2 does not listen")?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let file = folder.join("haproxy.cfg");
    std::fs::write(
        &file,
        configuration(plan, port, behind, &certificate, &folder)?,
    )?;
    let file = file.display().to_string();
    pin(cores.server)?;
    let process = Process::other_program("haproxy", &program, &["-db", "-f", file.as_str()]);
    pin(cores.load)?;
    let mut process = process?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    until("haproxy does not listen", PATIENCE, || {
        process.still_runs()?;
        Ok(TcpStream::connect(address).ok())
    })?;
    server.name = "haproxy";
    server.listen = vec![address];
    server.pids = vec![process.pid()];
    server.processes.push(process);
    server.certificate = Some(certificate.file);
    Ok(server)
}

/// HAProxy's file; its certificate and key are to be in one.
fn configuration(
    plan: &Plan,
    port: u16,
    behind: SocketAddr,
    certificate: &Certificate,
    folder: &Path,
) -> std::io::Result<String> {
    let both = folder.join("both.pem");
    let pem = std::fs::read_to_string(&certificate.file)?;
    std::fs::write(&both, pem + &std::fs::read_to_string(&certificate.key)?)?;
    let (most, both) = (plan.all() + 500, both.display());
    Ok(format!(
        "global
  nbthread 1
  maxconn {most}
defaults
  mode http
  timeout client 1h
  timeout server 1h
  timeout connect 5s
frontend listeners
  bind 127.0.0.1:{port} ssl crt {both}
  default_backend icecast
backend icecast
  server one {behind}
"
    ))
}
