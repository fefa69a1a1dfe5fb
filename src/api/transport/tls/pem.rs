//! Reads PEM files: certificates, and a client's own certificate with its key.
//!
//! A file may hold a key. So no error repeats a byte of a file, and none has a parser's error
//! behind it.

use std::fs;
use std::path::Path;

use rustls::InconsistentKeys::KeyMismatch;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::super::HttpConfig;
use crate::error::{Error, Result, config};

/// A PEM file and what it is for.
pub(super) struct PemFile<'a> {
    role: &'static str,
    path: &'a Path,
    text: String,
}

impl<'a> PemFile<'a> {
    pub(super) fn read(role: &'static str, path: &'a Path) -> Result<Self> {
        let text = String::new();
        let mut file = Self { role, path, text };
        let bytes = fs::read(path);
        let bytes = bytes.map_err(|error| file.unusable("cannot be read").with_source(error))?;
        if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = *bytes {
            return Err(file.unusable("is UTF-16 text: save it as UTF-8"));
        }
        // A byte-order mark is put there by editors. All that counts is ASCII.
        let text = String::from_utf8_lossy(&bytes);
        file.text.push_str(text.trim_start_matches('\u{feff}'));
        Ok(file)
    }

    pub(super) fn unusable(&self, why: &str) -> Error {
        config(format!("the {} {:?} {why}", self.role, self.path))
    }

    /// All certificates. Other sections are none of our business, a key beside them for instance.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.text.as_bytes()).collect();
        // What such a section says about whom it is trusted for would be lost.
        if self.text.contains("-BEGIN TRUSTED CERT") || self.text.contains("-BEGIN X509 CERT") {
            return Err(self.unusable(
                "holds a TRUSTED or X509 CERTIFICATE, forms of OpenSSL's own: \
                 make a plain one of each with `openssl x509 -in FILE -out NEW`",
            ));
        }
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            Ok(_) if self.text.trim().is_empty() => Err(self.unusable("is empty: name another")),
            Ok(_) if self.text.contains("PRIVATE KEY-----") => Err(self.unusable(
                "holds a private key and no certificate: name the file with the certificate",
            )),
            Ok(_) => Err(self.unusable(
                "holds no certificate in PEM (-----BEGIN CERTIFICATE-----): \
                 if it is DER, convert it with `openssl x509 -inform der -in FILE -out NEW`",
            )),
            Err(_) => Err(self.unusable(
                "is damaged: a PEM section of it is broken off or garbled. Copy the file again",
            )),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.text.as_bytes()).map_err(|_| {
            self.unusable(if self.text.contains("ENCRYPTED") {
                "is encrypted: make one without a passphrase with `openssl pkey -in FILE -out NEW`"
            } else {
                "holds no private key in PEM (-----BEGIN PRIVATE KEY-----): name the file with the key"
            })
        })
    }
}

/// What is shown to servers that ask for a certificate, if there is anything.
pub(super) fn identity(
    settings: &HttpConfig,
    provider: &CryptoProvider,
) -> Result<Option<SingleCertAndKey>> {
    let (cert, key) = match (&settings.client_cert, &settings.client_key) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            let why = "a client key needs its certificate: give that as well";
            return Err(config(why).with_settings(&["client_cert"]));
        }
        (Some(cert), key) => (cert, key.as_ref().unwrap_or(cert)),
    };
    let chain = PemFile::read("client certificate", cert)?.certificates()?;
    let file = PemFile::read("client key", key)?;
    let key = provider.key_provider.load_private_key(file.key()?);
    let unknown = "is of a kind that is not supported: use RSA, P-256, P-384 or Ed25519";
    let certified = CertifiedKey::new(chain, key.map_err(|_| file.unusable(unknown))?);
    // A certificate whose key cannot be read may still be one that the server takes.
    if certified.keys_match() == Err(KeyMismatch.into()) {
        return Err(file.unusable(&format!(
            "is not the key of the certificate in {cert:?}: name the one that belongs to it"
        )));
    }
    Ok(Some(certified.into()))
}
