//! Whom a TLS server must be: known to the system, signed by an authority that was named, or the one whose key was
//! named. Nothing is read or built before it is needed, but for the files of [`Trust::with_authorities`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::system::System;

/// A server's key, named by its digest: SHA-256 of the certificate's `SubjectPublicKeyInfo`, as in RFC 7469.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The host that must have this key. Another one may have it, or a certificate that is good without.
    pub host: String,
    /// The digest.
    pub sha256: [u8; 32],
}

/// See the module. The default is what the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` say where that is).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    authorities: Vec<CertificateDer<'static>>,
    pin: Option<Pin>,
}

/// A file of certificates is no use.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It cannot be read.
    #[error("cannot read `{path}`: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error.
        why: String,
    },
    /// There is none in it.
    #[error("`{path}` has no certificate in it: give a PEM file")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The key is not the one that was named.
#[derive(Debug, thiserror::Error)]
#[error(
    "the key of its certificate is not the one that the join token names: make a new token there, or see who answers \
     in its place"
)]
struct WrongKey;

impl Trust {
    /// Trusts these authorities (a PEM file) beside the system's.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn with_authorities(mut self, path: &Path) -> Result<Self, TrustError> {
        let unreadable = |why: String| TrustError::Unreadable {
            path: path.to_owned(),
            why,
        };
        let found = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(e.to_string()))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            // The same check as before a handshake, where it would come too late for whoever typed the path.
            let usable = RootCertStore::empty().add(certificate.clone());
            usable.map_err(|error| unreadable(error.to_string()))?;
            self.authorities.push(certificate);
        }
        if self.authorities.is_empty() {
            let path = path.to_owned();
            return Err(TrustError::Empty { path });
        }
        Ok(self)
    }

    /// Trusts a host by its key, whoever signed its certificate, and by nothing else.
    pub fn with_pin(mut self, pin: Pin) -> Self {
        self.pin = Some(pin);
        self
    }

    /// For a connection. The system's authorities are read when a server shows its certificate.
    ///
    /// # Errors
    /// Where the provider of ciphers has none for any version of TLS.
    pub(super) fn client_config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = System::new(self.authorities.clone(), Arc::clone(&provider));
        let verifier: Arc<dyn ServerCertVerifier> = match &self.pin {
            None => Arc::new(chain),
            Some(pin) => Arc::new(Pinned {
                pin: pin.clone(),
                chain,
            }),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(config)
    }
}

#[derive(Debug)]
struct Pinned {
    pin: Pin,
    chain: System,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        if bool::from(Sha256::digest(&key).as_slice().ct_eq(&self.pin.sha256)) {
            return Ok(ServerCertVerified::assertion());
        }
        if server_name.to_str().eq_ignore_ascii_case(&self.pin.host) {
            return Err(Error::Other(OtherError(Arc::new(WrongKey))));
        }
        self.chain
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
