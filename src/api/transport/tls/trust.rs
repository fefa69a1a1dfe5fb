//! Whom to trust, the certificates of a file or the built-in ones, and what is shown to servers
//! that ask for a certificate.
//!
//! A file may hold a key. So no error repeats a byte of a file, and none has a parser's error
//! behind it.

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
};

use super::super::HttpConfig;
use crate::error::{Error, Result, config};

/// Files, by what they are called in a message.
const CERT: &str = "client certificate";
const KEY: &str = "client key";
const NO_CERTIFICATE: &str = "holds no certificate in PEM (-----BEGIN CERTIFICATE-----) of X.509 version \
     3, or one that is broken off or garbled. Save UTF-16 as UTF-8, convert DER with `openssl x509 \
     -inform der -in FILE -out NEW`, and each TRUSTED CERTIFICATE of OpenSSL's own with `openssl x509 \
     -in FILE -out NEW`";

type TlsResult<T> = std::result::Result<T, rustls::Error>;
type Builder<State> = ConfigBuilder<ClientConfig, State>;

/// How all connections of a transport are made, so that sessions are resumed. Made at the first
/// handshake: the system's certificates take milliseconds to read, and a machine that has none may
/// still speak plain http.
pub(super) type LazyConfig = LazyLock<
    TlsResult<Arc<ClientConfig>>,
    Box<dyn FnOnce() -> TlsResult<Arc<ClientConfig>> + Send>,
>;

/// Trusts those in the CA file alone, or the built-in ones.
pub(super) fn configure(settings: &HttpConfig) -> Result<LazyConfig> {
    // A program that has chosen its cryptography, for an audit for instance, has chosen ours.
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
    let file = settings.ca_file.as_deref();
    let file = file.map(|path| CaFile::read(path, &provider)).transpose()?;
    let shown = identity(settings, &provider)?;
    Ok(LazyLock::new(Box::new(move || {
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions()?;
        let builder = match file {
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
        let certificates = certificates("CA file", path)?;
        let mut roots = RootCertStore::empty();
        // A bundle may hold oddities beside what is needed of it, so one unreadable is left out.
        roots.add_parsable_certificates(certificates.iter().cloned());
        let chains =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let chains = chains.build();
        let chains = chains.map_err(|_| unusable("CA file", path, NO_CERTIFICATE))?;
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

/// What is shown to servers that ask for a certificate, if there is anything.
fn identity(settings: &HttpConfig, provider: &CryptoProvider) -> Result<Option<SingleCertAndKey>> {
    let (cert, key) = match (&settings.client_cert, &settings.client_key) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            let why = "a client key needs its certificate: give that as well";
            return Err(config(why).with_settings(&["client_cert"]));
        }
        (Some(cert), key) => (cert, key.as_ref().unwrap_or(cert)),
    };
    let chain = certificates(CERT, cert)?;
    let secret = PrivateKeyDer::from_pem_slice(&read(KEY, key)?).map_err(|_| {
        let why = "holds no private key in PEM (-----BEGIN PRIVATE KEY-----), or one with a passphrase: \
                   name the file with the key, or make one without with `openssl pkey -in FILE -out NEW`";
        unusable(KEY, key, why)
    })?;
    let certified = CertifiedKey::from_der(chain, secret, provider).map_err(|_| {
        let why = format!(
            "is not the key of the certificate in {cert:?}, or of a kind that is not supported (RSA, \
             P-256, P-384 and Ed25519 are)"
        );
        unusable(KEY, key, &why)
    })?;
    Ok(Some(certified.into()))
}

/// All certificates in a file. Other sections are none of our business, a key beside them for
/// instance.
fn certificates(role: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(role, path)?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| {
        let why = match PrivateKeyDer::from_pem_slice(&text) {
            _ if text.is_empty() => "is empty",
            Ok(_) => "holds a private key and no certificate",
            Err(_) => NO_CERTIFICATE,
        };
        unusable(role, path, why)
    })
}

/// What is in a file, but for the byte-order mark that some editors put there.
fn read(role: &str, path: &Path) -> Result<Vec<u8>> {
    let mut text = fs::read(path)
        .map_err(|error| unusable(role, path, "cannot be read").with_source(error))?;
    if text.starts_with("\u{feff}".as_bytes()) {
        text.drain(..3);
    }
    Ok(text)
}

fn unusable(role: &str, path: &Path, why: &str) -> Error {
    let setting = match role {
        CERT => &["client_cert"],
        KEY => &["client_key"],
        _ => &["ca_file"],
    };
    config(format!("the {role} {path:?} {why}")).with_settings(setting)
}
