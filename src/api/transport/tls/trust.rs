//! Whom to trust, the certificates of a file or the built-in ones, and what is shown to servers
//! that ask for a certificate.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
};

use super::super::HttpConfig;
use super::pem::{self, PemFile};
use crate::error::Result;

type TlsResult<T> = std::result::Result<T, rustls::Error>;
type Builder<State> = ConfigBuilder<ClientConfig, State>;

/// What follows from whom to trust for every connection of a transport. Made at the first
/// handshake: the system's certificates take milliseconds to read, and a machine that has none may
/// still speak plain http. Sessions are resumed because it is shared.
pub(super) type LazyConfig = LazyLock<
    TlsResult<Arc<ClientConfig>>,
    Box<dyn FnOnce() -> TlsResult<Arc<ClientConfig>> + Send>,
>;

/// Trusts those in the CA file alone, or the built-in ones.
pub(super) fn configure(config: &HttpConfig) -> Result<LazyConfig> {
    // A program that has chosen its cryptography, for an audit for instance, has chosen ours.
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
    let trusted = config.ca_file.as_deref();
    let trusted = trusted
        .map(|path| CaFile::read(path, &provider))
        .transpose()?;
    let shown = pem::identity(config, &provider)?;
    Ok(LazyLock::new(Box::new(move || {
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions()?;
        let builder = match trusted {
            // rustls' word for any verifier but its own; what ours does stands with it.
            Some(file) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(file)),
            None => trust_built_in(builder)?,
        };
        Ok(Arc::new(match shown {
            Some(shown) => builder.with_client_cert_resolver(Arc::new(shown)),
            None => builder.with_no_client_auth(),
        }))
    })))
}

/// Mozilla's roots, as of the release of `webpki-roots`.
#[cfg(not(feature = "platform-verifier"))]
#[allow(clippy::unnecessary_wraps)] // The operating system may have none.
fn trust_built_in(builder: Builder<WantsVerifier>) -> TlsResult<Builder<WantsClientCert>> {
    let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
    Ok(builder.with_root_certificates(roots.collect::<RootCertStore>()))
}

/// What the operating system trusts, in the way it does.
#[cfg(feature = "platform-verifier")]
fn trust_built_in(builder: Builder<WantsVerifier>) -> TlsResult<Builder<WantsClientCert>> {
    rustls_platform_verifier::BuilderVerifierExt::with_platform_verifier(builder)
}

/// The certificates of a file, trusted in place of all others.
///
/// A server is trusted if one of these holds:
///
/// 1. webpki finds a chain from its certificate to one in the file, as it would to a built-in root:
///    signatures, dates, names, constraints and purposes are checked (RFC 5280, section 6).
/// 2. Its certificate is, byte for byte, one in the file, and holds the server's name as a subject
///    alternative name (RFC 9525; the common name does not count). Whoever put this very
///    certificate into the file has answered for it: its dates, who signed it, what purposes it
///    names and whether it is marked as a CA's are not asked.
///
/// Either way the server then proves, by its signature over the handshake, that it has the key.
#[derive(Debug)]
struct CaFile {
    certificates: Vec<CertificateDer<'static>>,
    chains: Arc<WebPkiServerVerifier>,
}

impl CaFile {
    fn read(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let file = PemFile::read("CA file", path)?;
        let certificates = file.certificates()?;
        let mut roots = RootCertStore::empty();
        // A bundle may hold oddities beside what is needed of it, so one unreadable is left out.
        roots.add_parsable_certificates(certificates.iter().cloned());
        let none = "holds no certificate that can be understood: make one of X.509 version 3";
        let chains =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let chains = chains.build().map_err(|_| file.unusable(none))?;
        Ok(Self {
            certificates,
            chains,
        })
    }
}

impl ServerCertVerifier for CaFile {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> TlsResult<ServerCertVerified> {
        let chains = &self.chains;
        let chained = chains.verify_server_cert(end_entity, chain, name, ocsp, now);
        if chained.is_ok() || !self.certificates.contains(end_entity) {
            return chained;
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> TlsResult<HandshakeSignatureValid> {
        self.chains
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> TlsResult<HandshakeSignatureValid> {
        self.chains
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
