//! TLS, on rustls: whom to trust, and the layer that encrypts and decrypts what passes through.
//!
//! ureq's own layer would hold two more buffers for each connection. And a server's own self-signed
//! certificate, as `openssl req -x509` makes it, is marked as a CA's, which no stock verifier takes
//! from a server; here it is taken from the one whose CA file holds that very certificate.
//!
//! `trust` reads certificates and says which are good, `layer` is a session on a connection, and
//! `words` says why one fails. Without the feature `rustls` only this file is left, and https is
//! refused before anything is sent.

#[cfg(feature = "rustls")]
mod layer;
#[cfg(feature = "rustls")]
mod trust;
#[cfg(feature = "rustls")]
mod words;

#[cfg(feature = "rustls")]
pub(super) use self::layer::TlsConnector;

/// Without TLS there is nobody to trust, and no handshake succeeds.
#[cfg(not(feature = "rustls"))]
#[derive(Debug)]
pub(super) struct TlsConnector;

#[cfg(not(feature = "rustls"))]
impl TlsConnector {
    /// Without TLS a certificate or a key is a mistake.
    pub(super) fn new(config: &super::HttpConfig) -> crate::error::Result<Self> {
        let why = "certificates are of no use without TLS: build with the feature `rustls`";
        match (&config.ca_file, &config.client_cert, &config.client_key) {
            (None, None, None) => Ok(Self),
            _ => Err(crate::error::config(why).with_settings(&[
                "ca_file",
                "client_cert",
                "client_key",
            ])),
        }
    }

    /// Always fails.
    #[allow(clippy::unused_self)] // The one that speaks TLS has a use for it.
    pub(super) fn connect<T, D>(&self, _: T, _: &D) -> Result<T, ureq::Error> {
        Err(ureq::Error::TlsRequired)
    }
}
