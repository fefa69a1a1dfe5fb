//! How the real transport connects, as a user says it.

use std::path::PathBuf;
use std::time::Duration;

use super::ProxyPolicy;

/// How an [`HttpTransport`](super::HttpTransport) connects.
///
/// ```
/// use std::time::Duration;
/// use tollgate::{HttpConfig, HttpTransport, ProxyPolicy};
///
/// let config = HttpConfig::new()
///     .connect_timeout(Duration::from_secs(5))
///     .proxy(ProxyPolicy::None);
/// let transport = HttpTransport::new(config)?;
/// transport.check_url("http://127.0.0.1:8080/v1")?;
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HttpConfig {
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) client_cert: Option<PathBuf>,
    pub(super) client_key: Option<PathBuf>,
    pub(super) proxy: ProxyPolicy,
    pub(super) workers: usize,
}

impl HttpConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: None,
            ca_file: None,
            client_cert: None,
            client_key: None,
            proxy: ProxyPolicy::default(),
            workers: 0,
        }
    }

    /// How long a connection may take to stand: address, TCP, proxy and TLS together. Default 10 s.
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// How long a peer may be silent, neither taking nor sending a byte. Default: until the call's
    /// deadline, for a completion may take minutes to its first byte.
    pub fn idle_timeout(mut self, idle_timeout: Option<Duration>) -> Self {
        self.idle_timeout = idle_timeout;
        self
    }

    /// A PEM file of certificates to trust *in place of* the built-in ones: a private CA's, or a
    /// server's own self-signed certificate, as `openssl req -x509` makes it. Default: none.
    ///
    /// A server whose certificate is itself in the file, byte for byte, is trusted for the names
    /// that the certificate lists as subject alternative names. Whoever put it there has answered
    /// for it: its dates, its issuer and whether it is marked as a CA's are not checked. Any other
    /// certificate needs a chain to one in the file, and all of that is checked.
    pub fn ca_file(mut self, ca_file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(ca_file.into());
        self
    }

    /// A PEM file with the certificate that servers get who ask for one (mutual TLS), an `https`
    /// proxy among them, and behind it those that lead from it to its root, if there are any.
    /// Default: none.
    pub fn client_cert(mut self, client_cert: impl Into<PathBuf>) -> Self {
        self.client_cert = Some(client_cert.into());
        self
    }

    /// A PEM file with the private key of [`client_cert`](Self::client_cert), without a passphrase.
    /// Default: the file of the certificate, which may hold both.
    pub fn client_key(mut self, client_key: impl Into<PathBuf>) -> Self {
        self.client_key = Some(client_key.into());
        self
    }

    /// Where proxies come from. Default: [`ProxyPolicy::FromEnv`].
    pub fn proxy(self, proxy: ProxyPolicy) -> Self {
        Self { proxy, ..self }
    }

    /// The most workers expected to send at once: so many requests at once share nothing that slows
    /// them down, and never fewer than 2,048. More may send.
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self::new()
    }
}
