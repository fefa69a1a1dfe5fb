//! TLS: whom to trust, and how a refused certificate is told from a broken connection.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, Transport};

use super::tcp::TcpConnector;
use crate::error::{Error, ErrorKind, Result};

/// Whether https can be spoken at all.
pub(super) const AVAILABLE: bool = cfg!(feature = "rustls");

/// The layers of a connection: a tunnel through a proxy or a TCP connection, and TLS on it for https.
#[cfg(feature = "rustls")]
pub(super) fn layers(tcp: TcpConnector) -> impl Connector<(), Out = impl Transport> {
    ().chain(ConnectProxyConnector::default())
        .chain(tcp)
        .chain(ureq::unversioned::transport::RustlsConnector::default())
}

/// The layers of a connection: a tunnel through a proxy or a TCP connection.
#[cfg(not(feature = "rustls"))]
pub(super) fn layers(tcp: TcpConnector) -> impl Connector<(), Out = impl Transport> {
    ().chain(ConnectProxyConnector::default()).chain(tcp)
}

/// The certificates to trust.
#[cfg(feature = "rustls")]
#[derive(Clone)]
pub(super) struct Trust(ureq::tls::TlsConfig);

/// Without TLS there is nobody to trust.
#[cfg(not(feature = "rustls"))]
#[derive(Clone)]
pub(super) struct Trust;

#[cfg(feature = "rustls")]
pub(super) fn apply(trust: &Trust, config: ConfigBuilder<AgentScope>) -> ConfigBuilder<AgentScope> {
    config.tls_config(trust.0.clone())
}

#[cfg(not(feature = "rustls"))]
pub(super) fn apply(_: &Trust, config: ConfigBuilder<AgentScope>) -> ConfigBuilder<AgentScope> {
    config
}

/// Those in `ca_file` alone, or the built-in ones.
#[cfg(feature = "rustls")]
pub(super) fn trust(ca_file: Option<&Path>) -> Result<Trust> {
    use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

    let roots = match ca_file {
        Some(path) => {
            let unusable = |why: &str| {
                let shown = path.display();
                Error::new(ErrorKind::Config, format!("the CA file {shown} {why}"))
            };
            let pem = std::fs::read(path)
                .map_err(|error| unusable("cannot be read").with_source(error))?;
            let mut certificates = Vec::new();
            for item in parse_pem(&pem) {
                match item {
                    Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                    // A key beside the certificate is none of our business.
                    Ok(_) => {}
                    Err(_) => return Err(unusable("is not valid PEM")),
                }
            }
            if certificates.is_empty() {
                return Err(unusable(
                    "holds no certificate: it must be PEM, with at least one CERTIFICATE section",
                ));
            }
            RootCerts::from(certificates)
        }
        None if cfg!(feature = "platform-verifier") => RootCerts::PlatformVerifier,
        None => RootCerts::WebPki,
    };
    let config = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(roots);
    Ok(Trust(config.build()))
}

/// Without TLS nothing is trusted, and a CA file is a mistake.
#[cfg(not(feature = "rustls"))]
pub(super) fn trust(ca_file: Option<&Path>) -> Result<Trust> {
    match ca_file {
        None => Ok(Trust),
        Some(_) => Err(Error::new(
            ErrorKind::Config,
            "a CA file is of no use without TLS: build with the feature `rustls`",
        )),
    }
}

/// Whether an I/O error is really TLS's: ureq hands certificate errors on as
/// `Io(InvalidData)`, and retried as a broken connection they would be retried for ever.
pub(super) fn is_tls(error: &io::Error) -> bool {
    let mut cause = error
        .get_ref()
        .map(|inner| inner as &(dyn StdError + 'static));
    while let Some(inner) = cause {
        if is_rustls(inner) {
            return true;
        }
        // `io::Error::source` passes over the error it wraps.
        cause = match inner
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    false
}

#[cfg(feature = "rustls")]
fn is_rustls(error: &(dyn StdError + 'static)) -> bool {
    // The type is that of the variant's field, so rustls need not be named, nor its version matched.
    fn is_field_of<T: StdError + 'static>(
        _: fn(T) -> ureq::Error,
        error: &(dyn StdError + 'static),
    ) -> bool {
        error.is::<T>()
    }
    is_field_of(ureq::Error::Rustls, error)
}

#[cfg(not(feature = "rustls"))]
fn is_rustls(_: &(dyn StdError + 'static)) -> bool {
    false
}
