//! One way to make an HTTP client.

/// A client to be completed. reqwest is built without a TLS provider of its own; this names the process's one
/// first (a second naming finds it there), since building a client without would panic.
pub fn http_client() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
