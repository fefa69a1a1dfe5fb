//! TLS, on rustls: whom to trust, and the layer that encrypts and decrypts what passes through.
//!
//! ureq's own layer would hold two more buffers for each connection. And a server's own self-signed
//! certificate, as `openssl req -x509` makes it, is marked as a CA's, which no stock verifier takes
//! from a server; here it is taken from the one whose CA file holds that very certificate.
//!
//! `trust` says which certificates are good, and `layer` is a session on a connection. Without the
//! feature `rustls` only this file is left, and https is refused before anything is sent.

#[cfg(feature = "rustls")]
mod layer;
#[cfg(feature = "rustls")]
mod trust;

#[cfg(feature = "rustls")]
pub(super) use self::layer::TlsConnector;

/// Whether https can be spoken at all.
pub(super) const AVAILABLE: bool = cfg!(feature = "rustls");

/// Without TLS there is nobody to trust, and no handshake succeeds.
#[cfg(not(feature = "rustls"))]
#[derive(Debug)]
pub(super) struct TlsConnector;

#[cfg(not(feature = "rustls"))]
impl TlsConnector {
    /// Without TLS a CA file is a mistake.
    pub(super) fn new(ca_file: Option<&std::path::Path>) -> crate::error::Result<Self> {
        use crate::error::{Error, ErrorKind};
        let why = "a CA file is of no use without TLS: build with the feature `rustls`";
        ca_file.map_or(Ok(Self), |_| Err(Error::new(ErrorKind::Config, why)))
    }

    /// Always fails.
    #[allow(clippy::unused_self)] // The one that speaks TLS has a use for it.
    pub(super) fn connect(
        &self,
        _: Box<dyn ureq::unversioned::transport::Transport>,
        _: &str,
    ) -> Result<Box<dyn ureq::unversioned::transport::Transport>, ureq::Error> {
        Err(ureq::Error::TlsRequired)
    }
}
