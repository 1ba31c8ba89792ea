//! Certificates made on the spot, and a tunnel through which every raw peer speaks TLS.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::program::tool;

/// A self-signed certificate of `localhost` and `127.0.0.1` with its key, as files.
pub struct Certificate {
    folder: TempDir,
}

impl Certificate {
    /// A fresh one.
    pub fn new() -> Self {
        let certificate = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        certificate.replace();
        certificate
    }

    /// The PEM file of the certificate: its own root, too.
    pub fn cert(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// The PEM file of the key.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// The lines of a settings file.
    pub fn yaml(&self) -> String {
        let (cert, key) = (self.cert(), self.key());
        format!("tls:\n  cert: {}\n  key: {}", cert.display(), key.display())
    }

    /// Another certificate with another key in the same files, as a renewal does it: one by one.
    pub fn replace(&self) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        put(&self.cert(), &made.cert.pem());
        put(&self.key(), &made.signing_key.serialize_pem());
    }

    /// The same, valid from the first day of one year to the first day of another.
    pub fn replace_valid(&self, from: i32, until: i32) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut wanted = rcgen::CertificateParams::new(names).unwrap();
        wanted.not_before = rcgen::date_time_ymd(from, 1, 1);
        wanted.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        put(&self.cert(), &wanted.self_signed(&key).unwrap().pem());
        put(&self.key(), &key.serialize_pem());
    }

    /// A copy of the certificate's file as it is now.
    pub fn copy(&self, name: &str) -> PathBuf {
        let copy = self.folder.path().join(name);
        std::fs::copy(self.cert(), &copy).unwrap();
        copy
    }

    /// A port of 127.0.0.1 behind which is `port`, by TLS: what goes in in clear goes on sealed. Believes this
    /// certificate alone.
    pub async fn tunnel(&self, port: u16) -> u16 {
        self.tunnel_after(port, "").await
    }

    /// The same where something is said in clear before the hello.
    pub async fn tunnel_after(&self, port: u16, first: &'static str) -> u16 {
        self.tunnel_by(port, first.to_owned(), false).await
    }

    /// The same by an upgrade: `request` goes in clear, and the hello follows its answer 101. Another answer ends the
    /// connection.
    pub async fn tunnel_upgraded(&self, port: u16, request: String) -> u16 {
        self.tunnel_by(port, request, true).await
    }

    async fn tunnel_by(&self, port: u16, first: String, is_answered: bool) -> u16 {
        let connector = TlsConnector::from(Arc::new(client(&self.cert())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (connector, first) = (connector.clone(), first.clone());
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await?;
                    far.set_nodelay(true)?;
                    far.write_all(first.as_bytes()).await?;
                    if is_answered && !is_switched(&mut far).await? {
                        return Ok((0, 0));
                    }
                    let name = ServerName::try_from("localhost").unwrap();
                    let mut far = connector.connect(name, far).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        own
    }

    /// `curl` that believes this certificate alone.
    pub fn curl(&self) -> Command {
        let mut curl = tool("curl", "curl");
        curl.args(["--silent", "--show-error", "--max-time", "60"]);
        curl.arg("--cacert").arg(self.cert());
        curl
    }
}

/// Reads a head, and no byte more; true where it is a 101 to TLS.
async fn is_switched(far: &mut TcpStream) -> std::io::Result<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(far.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let has = |line: &str| head.contains(&format!("\r\n{line}\r\n"));
    let is_switched = head.starts_with("HTTP/1.1 101 Switching Protocols\r\n");
    Ok(is_switched && has("Upgrade: TLS/1.0, HTTP/1.1") && has("Connection: Upgrade"))
}

fn put(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

fn client(root: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(root).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
