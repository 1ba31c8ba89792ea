//! TLS for what connects to us: a certificate with its key, and what rustls makes of them. Pure over bytes;
//! who reads the files is `app`, who speaks is `edge` (handshakes) and `engine::fanout` (records).
//!
//! Versions 1.2 and 1.3, the provider is ring. A reload makes a new [`Server`]; connections keep the one that
//! they began with, and the [`Tickets`] outlive it, so that sessions are resumed over a reload.

mod certificate;

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CipherSuite, ServerConfig, SupportedCipherSuite};

pub use certificate::Certificate;

/// The most that one record carries (RFC 8446, section 5.1).
pub const MAX_RECORD: usize = 16 * 1024;

/// Certificates in one chain at most: every handshake sends them all.
const MAX_CHAIN: usize = 16;

/// Which of the two files is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// The file of the certificate.
    Certificate,
    /// The file of the key.
    Key,
}

/// Why two files are no certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct PairError {
    /// Where to look.
    pub culprit: Culprit,
    /// What is wrong, for people.
    pub what: String,
}

/// A certificate chain and the key that belongs to it.
#[derive(Clone)]
pub struct Pair {
    certificate: Certificate,
    key: Arc<CertifiedKey>,
}

/// The key never shows itself.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pair").field(&self.certificate).finish()
    }
}

impl Pair {
    /// Reads a chain (the server's own certificate first) and a key, both PEM.
    ///
    /// # Errors
    /// See [`PairError`]: either is no PEM or of an unknown kind, or they do not belong together.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, PairError> {
        let chain = read_chain(chain)?;
        let own = chain
            .first()
            .ok_or_else(|| certificate_error("holds no certificate".into()))?;
        let certificate = Certificate::read(own).map_err(certificate_error)?;
        let key = read_key(key)?;
        let place = place_of(&chain, &key);
        let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            let mismatch = matches!(error, rustls::Error::InconsistentKeys(_));
            if let Some(place) = place.filter(|_| mismatch) {
                return certificate_error(format!(
                    "has the certificate of the key in place {place}: write the node's own first, then who signed it"
                ));
            }
            key_error(if mismatch {
                "is not the key of the certificate: they are of different pairs".into()
            } else {
                format!("cannot be used: {error}")
            })
        })?;
        Ok(Self {
            certificate,
            key: Arc::new(pair),
        })
    }

    /// What the certificate says.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

/// The place in `chain`, from 1, of the certificate that `key` belongs to.
fn place_of(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> Option<usize> {
    let fits = |certificate: &CertificateDer<'static>| {
        let chain = vec![certificate.clone()];
        CertifiedKey::from_der(chain, key.clone_key(), &provider()).is_ok()
    };
    chain.iter().position(fits).map(|place| place + 1)
}

fn certificate_error(what: String) -> PairError {
    PairError {
        culprit: Culprit::Certificate,
        what,
    }
}

fn key_error(what: String) -> PairError {
    PairError {
        culprit: Culprit::Key,
        what,
    }
}

fn read_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PairError> {
    let mut chain = Vec::new();
    for found in CertificateDer::pem_slice_iter(text) {
        let found = found.map_err(|error| certificate_error(format!("is no PEM: {error}")))?;
        if chain.len() >= MAX_CHAIN {
            let what = format!("holds more than {MAX_CHAIN} certificates: leave its own chain");
            return Err(certificate_error(what));
        }
        chain.push(found);
    }
    if chain.is_empty() {
        let what = "holds no certificate: `-----BEGIN CERTIFICATE-----` is expected";
        return Err(certificate_error(what.into()));
    }
    Ok(chain)
}

fn read_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PairError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        let locked = text
            .windows(9)
            .any(|word| word == b"ENCRYPTED" || word == b"encrypted");
        key_error(match error {
            pem::Error::NoItemsFound if locked => {
                "is locked by a passphrase: write it without one (`openssl pkey -in OLD -out NEW`)"
                    .into()
            }
            pem::Error::NoItemsFound => {
                "holds no private key: `-----BEGIN PRIVATE KEY-----` is expected".into()
            }
            error => format!("is no PEM: {error}"),
        })
    })
}

/// The keys of session tickets: two live at a time, each replaced after six hours. All that a session needs is in
/// the ticket, so sessions cost the server no memory.
#[derive(Debug, Clone)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// Fresh keys.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn new() -> Result<Self, rustls::Error> {
        ring::Ticketer::new().map(Self)
    }
}

/// What handshakes are made with.
#[derive(Debug, Clone)]
pub struct Server {
    /// AES first: most machines have instructions for it.
    aes: Arc<ServerConfig>,
    /// ChaCha20 first.
    chacha: Arc<ServerConfig>,
}

impl Server {
    /// A server that shows the certificate of `pair`.
    ///
    /// # Errors
    /// Where the provider lacks what the versions need; it never does.
    pub fn new(pair: &Pair, tickets: &Tickets) -> Result<Self, rustls::Error> {
        Ok(Self {
            aes: config(pair, tickets, aes_first(provider()))?,
            chacha: config(pair, tickets, chacha_first(provider()))?,
        })
    }

    /// The configuration for a client that offers `suites`, the one it likes best first. One that likes ChaCha20
    /// best has no instructions for AES (a telephone, a small board) and gets it; everybody else gets AES-128,
    /// which costs us least.
    pub fn for_client(&self, suites: &[CipherSuite]) -> Arc<ServerConfig> {
        let likes_chacha = suites
            .iter()
            .find(|suite| !is_grease(**suite))
            .is_some_and(|suite| is_chacha(*suite));
        Arc::clone(if likes_chacha {
            &self.chacha
        } else {
            &self.aes
        })
    }
}

/// Values that clients offer to keep servers tolerant (RFC 8701).
fn is_grease(suite: CipherSuite) -> bool {
    let value = u16::from(suite);
    value & 0x0F0F == 0x0A0A && value >> 8 == value & 0xFF
}

fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

fn is_aes_128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    )
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

fn aes_first(mut provider: CryptoProvider) -> CryptoProvider {
    let rank = |suite: &SupportedCipherSuite| match suite.suite() {
        suite if is_aes_128(suite) => 0,
        suite if !is_chacha(suite) => 1,
        _ => 2,
    };
    provider.cipher_suites.sort_by_key(rank);
    provider
}

fn chacha_first(mut provider: CryptoProvider) -> CryptoProvider {
    provider
        .cipher_suites
        .sort_by_key(|suite| !is_chacha(suite.suite()));
    provider
}

fn config(
    pair: &Pair,
    tickets: &Tickets,
    provider: CryptoProvider,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&pair.key))));
    config.ignore_client_order = true;
    config.ticketer = Arc::clone(&tickets.0);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One is enough for a player that comes back; a browser asks again.
    config.send_tls13_tickets = 1;
    // No ALPN: encoders and players name anything or nothing there, and HTTP/1.x is what follows without.
    Ok(Arc::new(config))
}

#[cfg(test)]
pub mod testing {
    //! Certificates made on the spot.

    /// A self-signed certificate of `names` and its key, both PEM. Valid until 4096.
    pub fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chain: &str, key: &str) -> Result<Pair, PairError> {
        Pair::read(chain.as_bytes(), key.as_bytes())
    }

    #[test]
    fn a_pair_belongs_together() {
        let (cert, key) = testing::pair(&["radio.example"]);
        let (other_cert, other_key) = testing::pair(&["radio.example"]);
        assert!(read(&cert, &key).is_ok());
        // Both in one file, in either order, is what some tools write.
        let both = format!("{key}{cert}");
        assert!(read(&both, &both).is_ok());
        let wrong = |chain: &str, key: &str| {
            let error = read(chain, key).unwrap_err();
            (error.culprit, error.what)
        };
        let (culprit, what) = wrong(&cert, &other_key);
        assert_eq!(culprit, Culprit::Key);
        assert!(what.contains("is not the key of the certificate"), "{what}");
        let (culprit, what) = wrong(&other_key, &key);
        assert_eq!(culprit, Culprit::Certificate);
        assert!(what.contains("holds no certificate"), "{what}");
        assert_eq!(wrong(&cert, &other_cert).0, Culprit::Key);
        assert!(wrong(&cert, "").1.contains("holds no private key"));
        assert!(
            wrong("-----BEGIN CERTIFICATE-----\n%%%\n", &key)
                .1
                .contains("PEM")
        );
        let locked =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(wrong(&cert, locked).1.contains("passphrase"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(wrong(broken, &key).0, Culprit::Certificate);
        let (culprit, what) = wrong(&format!("{other_cert}{cert}"), &key);
        assert_eq!(culprit, Culprit::Certificate);
        assert!(what.contains("in place 2"), "{what}");
        let long = cert.repeat(MAX_CHAIN + 1);
        assert!(wrong(&long, &key).1.contains("more than 16"));
    }

    #[test]
    fn the_key_is_never_shown() {
        let (cert, key) = testing::pair(&["radio.example"]);
        let shown = format!("{:?}", read(&cert, &key).unwrap());
        assert!(
            shown.starts_with("Pair(Certificate") && !shown.to_lowercase().contains("key"),
            "{shown}"
        );
    }

    #[test]
    fn the_suite_follows_the_clients_machine() {
        let (cert, key) = testing::pair(&["radio.example"]);
        let pair = read(&cert, &key).unwrap();
        let server = Server::new(&pair, &Tickets::new().unwrap()).unwrap();
        let first = |offered: &[u16]| {
            let offered: Vec<CipherSuite> = offered
                .iter()
                .map(|value| CipherSuite::from(*value))
                .collect();
            let config = server.for_client(&offered);
            config.crypto_provider().cipher_suites[0].suite()
        };
        let (aes_256, chacha, aes_128) = (0x1302, 0x1303, 0x1301);
        assert_eq!(
            first(&[aes_256, chacha, aes_128]),
            CipherSuite::TLS13_AES_128_GCM_SHA256
        );
        assert_eq!(
            first(&[0x3A3A, chacha, aes_128]),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        );
        assert_eq!(first(&[]), CipherSuite::TLS13_AES_128_GCM_SHA256);
        let config = server.for_client(&[]);
        assert!(config.ticketer.enabled() && config.max_early_data_size == 0);
    }
}
