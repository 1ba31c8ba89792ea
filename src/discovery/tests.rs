//! A name server and a TLS server on loopback, and what we make of their answers.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use reqwest::dns::Resolve as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::testing::NameServer;
use super::*;

/// A name server and a resolver that asks it.
struct Scene {
    server: NameServer,
    resolver: Resolver,
}

impl Scene {
    async fn start(ttl: u32) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let server = NameServer::start(any, ttl).await.unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = server.address.port();
        let mut known = NameServerConfig::udp(server.address.ip());
        known.connections = vec![connection];
        let config = ResolverConfig::from_name_servers(vec![known]);
        Self {
            server,
            resolver: Resolver::by_servers(config),
        }
    }

    async fn sorted(&self, host: &str) -> Vec<String> {
        let found = self.resolver.addresses(host, 80).await.unwrap();
        let mut found: Vec<String> = found.iter().map(SocketAddr::to_string).collect();
        found.sort();
        found
    }
}

#[tokio::test]
async fn all_addresses_and_the_last_good_answer() {
    let scene = Scene::start(0).await;
    scene
        .server
        .set_addresses("radio.test.", &["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let all = ["192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"];
    assert_eq!(scene.sorted("radio.test").await, all);
    // TTL 0: asked again, and the new answer holds.
    scene.server.set_addresses("radio.test.", &["192.0.2.3"]);
    assert_eq!(scene.sorted("radio.test").await, ["192.0.2.3:80"]);
    scene.server.set_down(true);
    assert_eq!(scene.sorted("radio.test").await, ["192.0.2.3:80"]);
    let error = scene.resolver.addresses("other.test", 80).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("`other.test` has no address ("),
        "{error}"
    );
    // For reqwest the port is its own affair.
    let name = "radio.test".parse().unwrap();
    let found: Vec<_> = scene.resolver.resolve(name).await.unwrap().collect();
    assert_eq!(found, ["192.0.2.3:0".parse().unwrap()]);
}

#[tokio::test]
async fn answers_are_kept_for_their_ttl_and_literals_ask_nobody() {
    let scene = Scene::start(3600).await;
    scene
        .server
        .set_addresses("radio.test.", &["192.0.2.1", "2001:db8::1"]);
    scene.sorted("radio.test").await;
    let asked = scene.server.asked();
    assert!(asked > 0);
    scene.sorted("radio.test").await;
    assert_eq!(scene.sorted("[::1]").await, ["[::1]:80"]);
    assert_eq!(scene.sorted("127.0.0.1").await, ["127.0.0.1:80"]);
    assert_eq!(scene.server.asked(), asked);
}

#[tokio::test]
async fn services_where_no_port_is_written() {
    let scene = Scene::start(0).await;
    let srv = |priority, port, target: &str| {
        RData::SRV(SRV::new(
            priority,
            10,
            port,
            Name::from_utf8(target).unwrap(),
        ))
    };
    let records = vec![
        srv(20, 8001, "b.radio.test."),
        srv(10, 8000, "a.radio.test."),
    ];
    scene
        .server
        .set("_relayctl._tcp.radio.test.", RecordType::SRV, records);
    let urls = async |text: &str| {
        let primary = text.parse().unwrap();
        scene.resolver.base_urls(&primary).await
    };
    let both = ["http://a.radio.test:8000", "http://b.radio.test:8001"];
    assert_eq!(urls("http://radio.test").await, both);
    assert_eq!(urls("radio.test:80").await, ["http://radio.test:80"]);
    assert_eq!(urls("192.0.2.1").await, ["http://192.0.2.1:8000"]);
    scene.server.set_down(true);
    assert_eq!(urls("radio.test").await, both);
    // A name server that says that there are none is believed.
    scene.server.set_down(false);
    scene.server.clear();
    assert_eq!(urls("radio.test").await, ["http://radio.test:8000"]);
    scene.server.set_down(true);
    assert_eq!(urls("radio.test").await, ["http://radio.test:8000"]);
}

#[tokio::test]
async fn one_address_that_answers_is_enough() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let scene = Scene::start(0).await;
    // Nobody listens at the others.
    let addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.1", "::1"];
    scene.server.set_addresses("radio.test.", &addresses);
    let connector = Connector::new(scene.resolver.clone());
    for _ in 0..8 {
        let stream = connector.connect("radio.test", port, false).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }
    drop(listener);
    let error = connector.connect("radio.test", port, false).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&format!(":{port}: ")), "{error}");
}

/// A certificate for `localhost` and its key, by Debian's `openssl`.
struct Certificate {
    folder: tempfile::TempDir,
    certificate: CertificateDer<'static>,
}

impl Certificate {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out \
                         cert.pem -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
                         -addext basicConstraints=critical,CA:FALSE";
        let made = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(folder.path())
            .stderr(Stdio::null())
            .status()
            .unwrap_or_else(|error| {
                panic!("`openssl` does not start ({error}): install `openssl`")
            });
        assert!(made.success());
        let certificate = CertificateDer::from_pem_file(folder.path().join("cert.pem")).unwrap();
        Self {
            folder,
            certificate,
        }
    }

    fn pin(&self, host: &str) -> Pin {
        let parsed = rustls::server::ParsedCertificate::try_from(&self.certificate).unwrap();
        Pin {
            host: host.into(),
            sha256: Sha256::digest(parsed.subject_public_key_info()).into(),
        }
    }

    /// A server that sends back four bytes; its port.
    async fn echo(&self) -> u16 {
        let key = PrivateKeyDer::from_pem_file(self.folder.path().join("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(socket).await {
                    let mut word = [0; 4];
                    stream.read_exact(&mut word).await.unwrap();
                    stream.write_all(&word).await.unwrap();
                    stream.shutdown().await.unwrap();
                }
            }
        });
        port
    }
}

/// What comes back from `host`, or why nothing does.
async fn asked(trust: Trust, host: &str, port: u16) -> Result<Vec<u8>, String> {
    let connector = Connector::trusting(Resolver::system(), trust);
    let stream = connector.connect(host, port, true).await;
    let mut stream = stream.map_err(|error| error.to_string())?;
    assert_eq!(stream.peer_addr().unwrap().port(), port);
    stream.write_all(b"echo").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    Ok(answer)
}

#[tokio::test]
async fn tls_with_an_authority_that_was_named() {
    let server = Certificate::make();
    let port = server.echo().await;
    let file = server.folder.path().join("cert.pem");
    let trust = Trust::default().with_authorities(&file).unwrap();
    assert_eq!(
        asked(trust.clone(), "localhost", port).await.unwrap(),
        b"echo"
    );
    // The name is checked, and so is the issuer.
    assert!(asked(trust, "127.0.0.1", port).await.is_err());
    let error = asked(Trust::default(), "localhost", port)
        .await
        .unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    for (name, text, said) in [
        ("empty.pem", "nothing here", "no certificate in it"),
        ("none.pem", "", "cannot read"),
    ] {
        let file = server.folder.path().join(name);
        if !text.is_empty() {
            std::fs::write(&file, text).unwrap();
        }
        let error = Trust::default().with_authorities(&file).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(said) && error.contains(name), "{error}");
    }
}

#[tokio::test]
async fn clones_share_what_they_trust_also_after_it_has_changed() {
    let (server, other) = (Certificate::make(), Certificate::make());
    let port = server.echo().await;
    let trust = |of: &Certificate| {
        let file = of.folder.path().join("cert.pem");
        Trust::default().with_authorities(&file).unwrap()
    };
    let connector = Connector::trusting(Resolver::system(), trust(&other));
    let clone = connector.clone();
    let before = clone.tls_config().unwrap();
    assert!(clone.connect("localhost", port, true).await.is_err());
    // The same trust keeps what was built by it.
    connector.trust(trust(&other));
    assert!(Arc::ptr_eq(&before, &clone.tls_config().unwrap()));
    connector.trust(trust(&server));
    assert!(clone.trusts(&trust(&server)) && !clone.trusts(&trust(&other)));
    assert!(clone.connect("localhost", port, true).await.is_ok());
}

/// A pinned host needs no authority, and no authority helps one without the key.
#[tokio::test]
async fn tls_with_a_key_that_was_named() {
    let (server, other) = (Certificate::make(), Certificate::make());
    let port = server.echo().await;
    let pinned = |pin: Pin| Trust::default().with_pin(pin);
    for host in ["localhost", "127.0.0.1"] {
        let answer = asked(pinned(server.pin(host)), host, port).await;
        assert_eq!(answer.unwrap(), b"echo", "{host}");
    }
    let file = server.folder.path().join("cert.pem");
    let trust = pinned(other.pin("localhost"));
    let trust = trust.with_authorities(&file).unwrap();
    let error = asked(trust, "localhost", port).await.unwrap_err();
    assert!(error.contains("join token"), "{error}");
    // The pin of another host binds nobody here: the authority decides.
    let trust = pinned(other.pin("radio.test"));
    assert!(asked(trust.clone(), "localhost", port).await.is_err());
    let trust = trust.with_authorities(&file).unwrap();
    assert_eq!(asked(trust, "localhost", port).await.unwrap(), b"echo");
}
