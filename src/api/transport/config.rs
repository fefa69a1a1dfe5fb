//! How the real transport connects, as a user says it.

use std::path::PathBuf;
use std::time::Duration;

use super::ProxyPolicy;
use crate::settings::settings;

settings! {
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
    pub struct HttpConfig ()

    /// The longest that a new connection may take: address, TCP, proxy and TLS together. Default:
    /// 10 s.
    connect_timeout: Duration = Duration::from_secs(10);

    /// A PEM file of certificates to trust *in place of* the built-in ones: a private CA's, or a
    /// server's own self-signed certificate, as `openssl req -x509` makes it. Default: none.
    ///
    /// A server whose certificate is itself in the file, byte for byte, is trusted for the names
    /// that the certificate lists as subject alternative names. Whoever put it there has answered
    /// for it: its dates, its issuer and whether it is marked as a CA's are not checked. Any other
    /// certificate needs a chain to one in the file, and all of that is checked.
    ca_file(path: impl Into<PathBuf>): Option<PathBuf> = None => Some(path.into());

    /// A PEM file with the certificate that is shown to servers and `https` proxies that ask for one
    /// (mutual TLS). The certificates between it and its root, if there are any, come behind it.
    /// Default: none.
    client_cert(path: impl Into<PathBuf>): Option<PathBuf> = None => Some(path.into());

    /// A PEM file with the private key of [`client_cert`](Self::client_cert), without a passphrase.
    /// Default: the file of the certificate, which may hold both.
    client_key(path: impl Into<PathBuf>): Option<PathBuf> = None => Some(path.into());

    /// Where proxies come from. Default: [`ProxyPolicy::FromEnv`].
    proxy: ProxyPolicy = ProxyPolicy::FromEnv;

    /// How many requests are expected in flight at once. More may be, but they are slowed down by
    /// what they share. Default, and the least that is used: 2,048.
    workers: usize = 0;
}

impl HttpConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::DEFAULT
    }
}
