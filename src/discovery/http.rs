//! One way to make an HTTP client.

use super::trust::Trust;

/// A client to be completed. An `https` server is checked by the system's authorities, which are read when the first one is
/// met: building a client needs no certificate on the machine.
pub fn http_client() -> reqwest::ClientBuilder {
    let client = plain();
    match Trust::default().client_config() {
        Ok(mut tls) => {
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            client.tls_backend_preconfigured(tls)
        }
        // There is no such provider; reqwest's own way then says what it lacks.
        Err(_) => client,
    }
}

/// A client to be completed that believes these authorities alone.
pub fn http_client_trusting(only: Vec<reqwest::Certificate>) -> reqwest::ClientBuilder {
    plain().tls_certs_only(only)
}

/// reqwest is built without a TLS provider of its own; this names the process's one first (a second naming finds it there),
/// since building a client without would panic.
fn plain() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
