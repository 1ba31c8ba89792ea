//! The authorities that the system knows, read when the first TLS server shows its certificate: a node that never meets one
//! needs none, as in an image that is empty but for the program.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// There is nothing to check a certificate by.
#[derive(Debug, thiserror::Error)]
#[error(
    "nothing to check its certificate by: this system has no authorities ({why}); install `ca-certificates`, or name a \
     PEM file in `SSL_CERT_FILE`"
)]
struct NoAuthorities {
    why: String,
}

/// Believes whom the system believes, and the authorities that were named besides.
#[derive(Debug)]
pub(super) struct System {
    more: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    /// A failure is not kept: the next server finds what was installed meanwhile.
    found: OnceLock<Verifier>,
}

impl System {
    pub(super) fn new(more: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Self {
        Self {
            more,
            provider,
            found: OnceLock::new(),
        }
    }

    fn found(&self) -> Result<&Verifier, Error> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let provider = Arc::clone(&self.provider);
        // Another constructor, as some systems' own checks take no authority besides.
        let found = match self.more.is_empty() {
            true => Verifier::new(provider),
            false => Verifier::new_with_extra_roots(self.more.clone(), provider),
        };
        let found = found.map_err(|error| {
            let why = match error {
                Error::General(why) => why,
                other => other.to_string(),
            };
            Error::Other(OtherError(Arc::new(NoAuthorities { why })))
        })?;
        Ok(self.found.get_or_init(|| found))
    }
}

impl ServerCertVerifier for System {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = self.found()?;
        found.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
