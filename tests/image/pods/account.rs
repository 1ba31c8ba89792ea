//! The API server's stand-in behind TLS, under an authority of its own, and the accounts of pods there.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::api::{ApiServer, Question};
use super::arrangement::Arrangement;

/// The API server of one arrangement, until it is dropped.
pub struct Control {
    /// What it keeps.
    pub server: ApiServer,
    /// Where pods reach it.
    pub address: SocketAddr,
    /// PEM of who signed its certificate.
    pub authority: String,
    task: JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The token of a pod's account. Each account of each namespace has its own.
pub fn token(namespace: &str, account: &str) -> String {
    format!("a-token.of.{namespace}.{account}")
}

/// What the arrangement's Roles allow, and nothing to a token of nobody's.
fn rule(arrangement: &Arrangement, question: &Question) -> StatusCode {
    let mut accounts = arrangement.of_kind("ServiceAccount");
    let account = accounts.find_map(|account| {
        let name = account["metadata"]["name"].as_str()?;
        (token(&arrangement.namespace, name) == question.token).then_some(name)
    });
    let Some(account) = account else {
        return StatusCode::UNAUTHORIZED;
    };
    let allowed = arrangement.allows(account, question.verb, &question.kind, &question.name);
    match allowed && question.namespace == arrangement.namespace {
        true => StatusCode::OK,
        false => StatusCode::FORBIDDEN,
    }
}

impl Control {
    /// Answers at a port of `host`, under a certificate for that address alone.
    pub async fn start(host: Ipv4Addr, arrangement: &Arc<Arrangement>) -> Self {
        let asked = Arc::clone(arrangement);
        let server = ApiServer::new(move |question| rule(&asked, question));
        let (authority, config) = certificates(host);
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let router = server.router();
        let task = tokio::spawn(async move {
            let sealed = Sealed { listener, acceptor };
            let _ = axum::serve(sealed, router).await;
        });
        Self {
            server,
            address,
            authority,
            task,
        }
    }
}

/// An authority (PEM) and what a server at `host` shows under it.
fn certificates(host: Ipv4Addr) -> (String, ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec!["kubernetes.default.svc".to_owned()]).unwrap();
    let address = IpAddr::V4(host);
    params
        .subject_alt_names
        .push(rcgen::SanType::IpAddress(address));
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    (authority, config)
}

/// Connections behind TLS; one whose handshake fails is none.
struct Sealed {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Sealed {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = self.listener.accept().await.expect("a connection");
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// The files that the platform mounts for an account.
pub fn files(control: &Control, namespace: &str, account: &str) -> BTreeMap<String, Vec<u8>> {
    let file = |name: &str, text: String| (name.to_owned(), text.into_bytes());
    [
        file("token", token(namespace, account)),
        file("ca.crt", control.authority.clone()),
        file("namespace", namespace.to_owned()),
    ]
    .into()
}
