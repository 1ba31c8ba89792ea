//! A name server and a TLS server on loopback, and what we make of their answers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use reqwest::dns::Resolve as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::*;

type Zone = HashMap<(String, RecordType), Vec<RData>>;

/// A name server for one zone.
struct NameServer {
    zone: Arc<Mutex<Zone>>,
    /// Answers nothing but `SERVFAIL`.
    down: Arc<Mutex<bool>>,
    asked: Arc<Mutex<Vec<String>>>,
    resolver: Resolver,
}

impl NameServer {
    async fn start(ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (zone, down, asked) =
            <(Arc<Mutex<Zone>>, Arc<Mutex<bool>>, Arc<Mutex<Vec<String>>>)>::default();
        let (answers, broken, log) = (zone.clone(), down.clone(), asked.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
                let mut message = Message::from_vec(&buffer[..count]).unwrap();
                let query = message.queries[0].clone();
                let name = query.name().to_utf8().to_lowercase();
                let key = (name.clone(), query.query_type());
                log.lock().unwrap().push(name);
                message.metadata.message_type = MessageType::Response;
                message.metadata.recursion_available = true;
                message.additionals.clear();
                message.edns = None;
                let found = answers.lock().unwrap().get(&key).cloned();
                let known = answers.lock().unwrap().keys().any(|(n, _)| *n == key.0);
                message.metadata.response_code = match (*broken.lock().unwrap(), known) {
                    (true, _) => ResponseCode::ServFail,
                    (false, true) => ResponseCode::NoError,
                    (false, false) => ResponseCode::NXDomain,
                };
                if message.metadata.response_code == ResponseCode::NoError {
                    for data in found.unwrap_or_default() {
                        message.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
                    }
                }
                socket
                    .send_to(&message.to_vec().unwrap(), peer)
                    .await
                    .unwrap();
            }
        });
        let mut connection = ConnectionConfig::udp();
        connection.port = address.port();
        let mut server = NameServerConfig::udp(address.ip());
        server.connections = vec![connection];
        let config = ResolverConfig::from_name_servers(vec![server]);
        Self {
            zone,
            down,
            asked,
            resolver: Resolver::by_servers(config),
        }
    }

    fn set(&self, name: &str, kind: RecordType, data: Vec<RData>) {
        let key = (name.to_owned(), kind);
        self.zone.lock().unwrap().insert(key, data);
    }

    fn set_addresses(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| a.parse::<IpAddr>().unwrap());
        let (four, six): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv4);
        let data = |address: IpAddr| match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        self.set(name, RecordType::A, four.into_iter().map(data).collect());
        self.set(name, RecordType::AAAA, six.into_iter().map(data).collect());
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
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
    let server = NameServer::start(0).await;
    server.set_addresses("radio.test.", &["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let all = ["192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"];
    assert_eq!(server.sorted("radio.test").await, all);
    // TTL 0: asked again, and the new answer holds.
    server.set_addresses("radio.test.", &["192.0.2.3"]);
    assert_eq!(server.sorted("radio.test").await, ["192.0.2.3:80"]);
    *server.down.lock().unwrap() = true;
    assert_eq!(server.sorted("radio.test").await, ["192.0.2.3:80"]);
    let error = server.resolver.addresses("other.test", 80).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("`other.test` has no address ("),
        "{error}"
    );
    // For reqwest the port is its own affair.
    let name = "radio.test".parse().unwrap();
    let found: Vec<_> = server.resolver.resolve(name).await.unwrap().collect();
    assert_eq!(found, ["192.0.2.3:0".parse().unwrap()]);
}

#[tokio::test]
async fn answers_are_kept_for_their_ttl_and_literals_ask_nobody() {
    let server = NameServer::start(3600).await;
    server.set_addresses("radio.test.", &["192.0.2.1", "2001:db8::1"]);
    server.sorted("radio.test").await;
    let asked = server.asked();
    assert!(asked > 0);
    server.sorted("radio.test").await;
    assert_eq!(server.sorted("[::1]").await, ["[::1]:80"]);
    assert_eq!(server.sorted("127.0.0.1").await, ["127.0.0.1:80"]);
    assert_eq!(server.asked(), asked);
}

#[tokio::test]
async fn services_where_no_port_is_written() {
    let server = NameServer::start(0).await;
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
    server.set("_relayctl._tcp.radio.test.", RecordType::SRV, records);
    let urls = async |text: &str| {
        let primary = text.parse().unwrap();
        server.resolver.base_urls(&primary).await
    };
    let both = ["http://a.radio.test:8000", "http://b.radio.test:8001"];
    assert_eq!(urls("http://radio.test").await, both);
    assert_eq!(urls("radio.test:80").await, ["http://radio.test:80"]);
    assert_eq!(urls("192.0.2.1").await, ["http://192.0.2.1:8000"]);
    *server.down.lock().unwrap() = true;
    assert_eq!(urls("radio.test").await, both);
    // A name server that says that there are none is believed.
    *server.down.lock().unwrap() = false;
    server.zone.lock().unwrap().clear();
    assert_eq!(urls("radio.test").await, ["http://radio.test:8000"]);
    *server.down.lock().unwrap() = true;
    assert_eq!(urls("radio.test").await, ["http://radio.test:8000"]);
}

#[tokio::test]
async fn one_address_that_answers_is_enough() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = NameServer::start(0).await;
    // Nobody listens at the others.
    let addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.1", "::1"];
    server.set_addresses("radio.test.", &addresses);
    let connector = Connector::new(server.resolver.clone());
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
fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let folder = tempfile::tempdir().unwrap();
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out \
                     cert.pem -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
                     -addext basicConstraints=critical,CA:FALSE";
    let made = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("`openssl` does not start ({error}): install `openssl`"));
    assert!(made.success());
    (
        CertificateDer::from_pem_file(folder.path().join("cert.pem")).unwrap(),
        PrivateKeyDer::from_pem_file(folder.path().join("key.pem")).unwrap(),
    )
}

#[tokio::test]
async fn tls_with_a_certificate_that_is_checked() {
    let (certificate, key) = certificate();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
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
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = Connector::with_tls(Resolver::system(), Arc::new(config));
    let mut stream = connector.connect("localhost", port, true).await.unwrap();
    stream.write_all(b"echo").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"echo");
    assert_eq!(stream.peer_addr().unwrap().port(), port);
    // The name is checked, and so is the issuer.
    assert!(connector.connect("127.0.0.1", port, true).await.is_err());
    let strict = Connector::new(Resolver::system());
    let error = strict.connect("localhost", port, true).await.unwrap_err();
    assert!(error.to_string().contains("ertificate"), "{error}");
}
