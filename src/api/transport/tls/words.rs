//! Says in words why TLS fails, and behind a semicolon what can be done about it.

use std::time::{Duration, SystemTime};

use rustls::Error::{self, AlertReceived, InvalidCertificate, InvalidMessage, PeerIncompatible};
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription as A, CertificateError as C};

use super::super::TransportErrorKind::{self, Tls};
use super::super::context::broken;
use super::super::error::fail;
use crate::api::times::to_rfc3339;

/// What to do, for more than one fault.
const NAME_IT: &str = "if it is your own or a private CA's, name that as the CA file (`ca_file`)";
const MAKE_IT: &str = "make a new one, of X.509 version 3 and with a subjectAltName";

/// What it means that TLS fails with `error`. If that is about who the two are, it is for good,
/// whenever it is said: in TLS 1.3 that is when the client has long done with the handshake. All
/// else is of this `kind` in a handshake, and without one a session that is lost like any
/// connection.
pub(super) fn failed(error: Error, kind: Option<TransportErrorKind>) -> ureq::Error {
    let told = spaced(&error);
    let (is_about_identity, why) = match &error {
        InvalidCertificate(error) => (true, of_certificate(error)),
        AlertReceived(A::UnrecognisedName) => (
            true,
            format!("the server does not know this name ({told}); check the URL"),
        ),
        // Those about certificates, and access_denied (RFC 8446, section 6).
        AlertReceived(alert) if matches!(u8::from(*alert), 41..=46 | 48 | 49 | 116) => {
            let what = "the server takes only clients with a certificate that it knows";
            let next = "give one that it accepts (`client_cert`)";
            (true, format!("{what} ({told}); {next}"))
        }
        InvalidMessage(_) => {
            let what = "what answers there does not speak TLS";
            let next =
                "check the host and the port, or write http:// if it is meant to be unencrypted";
            (false, format!("{what} ({told}); {next}"))
        }
        // Up to TLS 1.2, the first is said of a missing certificate as well.
        AlertReceived(A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity)
        | PeerIncompatible(_) => {
            let next = "it may know no version or cipher of TLS that is still safe (1.2 and 1.3 are), or \
                        want a certificate of its clients (`client_cert`)";
            (false, format!("the server refused it ({told}); {next}"))
        }
        _ => (false, told),
    };
    let why = format!("the TLS handshake failed: {why}");
    match kind {
        _ if is_about_identity => fail(Tls, why),
        Some(kind) => fail(kind, why),
        None => broken(error),
    }
}

fn of_certificate(error: &C) -> String {
    let (what, next) = match error {
        C::ExpiredContext { not_after, .. } => (
            format!("expired on {}", date(*not_after)),
            "it must be renewed, unless this machine's clock is wrong",
        ),
        C::NotValidYetContext { not_before, .. } => (
            format!("is not valid before {}", date(*not_before)),
            "check this machine's clock",
        ),
        C::NotValidForNameContext { presented, .. } if presented.is_empty() => (
            "names no host (a common name does not count)".into(),
            MAKE_IT,
        ),
        C::NotValidForNameContext {
            expected,
            presented,
        } => {
            // As in `DnsName("a.test")`. Whoever has seen five knows that it is another server.
            let names = presented.iter().take(5);
            let names = names.filter_map(|name| name.split(['(', ')']).nth(1));
            let names: Vec<&str> = names.map(|name| name.trim_matches('"')).collect();
            let (names, expected) = (names.join(", "), expected.to_str());
            let what = format!("is for other names ({names}), not for {expected}");
            (what, "check the host in the URL")
        }
        C::UnknownIssuer => ("is not signed by a CA that is trusted here".into(), NAME_IT),
        C::BadSignature => (
            "is not the server's, or not signed by the CA that it names".into(),
            "check the URL and the CA file",
        ),
        C::Other(rule) if rule.to_string() == "CaUsedAsEndEntity" => (
            "is marked as a CA's, as self-signed ones are".into(),
            NAME_IT,
        ),
        C::Other(rule) => (format!("cannot be accepted: {}", spaced(rule)), MAKE_IT),
        rule => (format!("cannot be accepted: {}", spaced(rule)), MAKE_IT),
    };
    format!("the server's certificate {what}; {next}")
}

/// As `2021-01-01`, in UTC.
fn date(time: UnixTime) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs());
    to_rfc3339(time).split('T').take(1).collect()
}

/// rustls names many errors as its code does: `CamelCase` becomes words.
fn spaced(error: &impl ToString) -> String {
    let (mut words, mut last) = (String::new(), ' ');
    for letter in error.to_string().chars() {
        if letter.is_ascii_uppercase() && last.is_ascii_lowercase() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
        last = letter;
    }
    words
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use rustls::{InvalidMessage, OtherError, PeerIncompatible, PeerMisbehaved};
    use std::sync::Arc;

    fn rule(name: &'static str) -> Error {
        C::Other(OtherError(Arc::new(std::io::Error::other(name)))).into()
    }

    #[test]
    fn no_error_shows_a_name_of_the_code() {
        let at = UnixTime::since_unix_epoch;
        let (time, day) = (at(Duration::from_secs(1_800_000_000)), 86_400);
        for (error, words) in [
            (
                C::ExpiredContext {
                    time,
                    not_after: at(Duration::from_secs(18_627 * day + 1)),
                }
                .into(),
                "expired on 2020-12-31",
            ),
            (
                C::NotValidYetContext {
                    time,
                    not_before: at(Duration::from_secs(18_628 * day)),
                }
                .into(),
                "not valid before 2021-01-01; check this machine's clock",
            ),
            (C::Expired.into(), "cannot be accepted: expired"),
            (C::UnknownIssuer.into(), "(`ca_file`)"),
            (C::Revoked.into(), "cannot be accepted: revoked"),
            (rule("CaUsedAsEndEntity"), "(`ca_file`)"),
            (
                rule("UnsupportedCertVersion"),
                "unsupported cert version; make a new one, of X.509 version 3",
            ),
            (
                rule("PathLenConstraintViolated"),
                ": path len constraint violated",
            ),
            (
                InvalidMessage::InvalidContentType.into(),
                "does not speak TLS",
            ),
            (
                Error::AlertReceived(A::HandshakeFailure),
                "(received fatal alert: handshake failure)",
            ),
            (
                Error::AlertReceived(A::UnrecognisedName),
                "does not know this name",
            ),
            (
                Error::AlertReceived(A::CertificateRequired),
                "(`client_cert`)",
            ),
            (
                Error::AlertReceived(A::UnknownCA),
                "(received fatal alert: unknown ca)",
            ),
            (
                Error::AlertReceived(A::InternalError),
                "alert: internal error",
            ),
            (
                PeerIncompatible::ServerDoesNotSupportTls12Or13.into(),
                "server does not support tls12or13",
            ),
            (PeerMisbehaved::InvalidKeyShare.into(), "invalid key share"),
        ] {
            let told = failed(error, Some(Tls)).to_string();
            let told = told.replace("subjectAltName", "");
            assert!(told.contains(words), "{told}");
            let is_camel =
                |pair: &[u8]| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase();
            assert!(!told.as_bytes().windows(2).any(is_camel), "{told}");
        }
    }
}
