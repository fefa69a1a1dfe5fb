//! Says in words why TLS fails, and behind a semicolon what can be done about it.

use std::time::{Duration, SystemTime};

use rustls::CertificateError as C;
use rustls::Error::{self, AlertReceived, InvalidCertificate, InvalidMessage, PeerIncompatible};
use rustls::pki_types::UnixTime;

use super::super::TransportErrorKind::{Connect, Tls};
use super::super::context::broken;
use super::super::error::fail;
use crate::api::times::to_rfc3339;

/// What it means that TLS fails with `error`, in a handshake or later. Later it is lost like any
/// connection, unless it is about who the two are: in TLS 1.3 that is said when the client has long
/// done with the handshake.
pub(super) fn failed(error: Error, is_handshake: bool) -> ureq::Error {
    let alert = match error {
        AlertReceived(alert) => alert.into(),
        _ => 0_u8,
    };
    // The alerts about certificates, access_denied and unrecognised_name (RFC 8446, section 6).
    let is_about_identity = matches!(
        error,
        InvalidCertificate(_) | Error::NoCertificatesPresented
    ) || matches!(alert, 41..=46 | 48 | 49 | 112 | 116);
    // And handshake_failure, protocol_version, insufficient_security.
    let speaks_no_tls =
        matches!(error, InvalidMessage(_) | PeerIncompatible(_)) || matches!(alert, 40 | 70 | 71);
    if !is_handshake && !is_about_identity {
        return broken(error);
    }
    // Whom neither is said of may be a balancer that restarts.
    let is_for_good = is_about_identity || speaks_no_tls;
    let why = format!("the TLS handshake failed: {}", explain(&error));
    fail(if is_for_good { Tls } else { Connect }, why)
}

/// What is wrong, and what to do.
fn explain(error: &Error) -> String {
    let (what, next) = match error {
        InvalidCertificate(C::ExpiredContext { not_after, .. }) => (
            format!("the server's certificate expired on {}", date(*not_after)),
            "it must be renewed, unless this machine's clock is wrong",
        ),
        InvalidCertificate(C::NotValidYetContext { not_before, .. }) => (
            format!(
                "the server's certificate is not valid before {}",
                date(*not_before)
            ),
            "check this machine's clock",
        ),
        InvalidCertificate(error @ C::NotValidForNameContext { .. }) => (
            format!("the server's certificate is for other names ({error})"),
            "check the host in the URL",
        ),
        InvalidCertificate(error) => (
            format!("the server's certificate is not trusted here ({error})"),
            "if it is your own or a private CA's, name that as the CA file (`ca_file`)",
        ),
        InvalidMessage(_) => (
            format!("what answers there does not speak TLS ({error})"),
            "check the host and the port, or write http:// if it is meant to be unencrypted",
        ),
        AlertReceived(_) | PeerIncompatible(_) => (
            format!("the server refused ({error})"),
            "it may want a certificate of its clients (`client_cert`), not know the name in the \
             URL, or know neither TLS 1.2 nor 1.3",
        ),
        _ => return error.to_string(),
    };
    format!("{what}; {next}")
}

/// As `2021-01-01`, in UTC.
fn date(time: UnixTime) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs());
    to_rfc3339(time).split('T').take(1).collect()
}
