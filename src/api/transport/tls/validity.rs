//! From when until when a certificate is valid.
//!
//! webpki checks it on the way to a chain and offers it to nobody, and a certificate that is trusted
//! for itself has no chain. So the two dates are read here, out of bytes that are already known to be
//! one of our own: RFC 5280, sections 4.1 and 4.1.2.5, with DER's one form for each.

use std::time::{Duration, SystemTime};

use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::api::times::rfc3339;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Whether `certificate` is valid at `now`; both ends of its time belong to it.
pub(super) fn check(
    certificate: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<(), CertificateError> {
    let (from, until) = dates(certificate).ok_or(CertificateError::BadEncoding)?;
    let moment = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    if now.as_secs() < from {
        Err(CertificateError::NotValidYetContext {
            time: now,
            not_before: moment(from),
        })
    } else if now.as_secs() > until {
        Err(CertificateError::ExpiredContext {
            time: now,
            not_after: moment(until),
        })
    } else {
        Ok(())
    }
}

/// `notBefore` and `notAfter`, in seconds since 1970.
fn dates(certificate: &[u8]) -> Option<(u64, u64)> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (signed, _) = element(certificate, SEQUENCE)?;
    // Version 1 is written by leaving the version out.
    let rest = element(signed, VERSION).map_or(signed, |(_, rest)| rest);
    let (_serial_number, rest) = element(rest, INTEGER)?;
    let (_signature_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (from, rest) = date(validity)?;
    let (until, rest) = date(rest)?;
    rest.is_empty().then_some((from, until))
}

/// A date, and what follows it.
fn date(der: &[u8]) -> Option<(u64, &[u8])> {
    let utc = element(der, UTC_TIME);
    let (digits, rest) = utc.or_else(|| element(der, GENERALIZED_TIME))?;
    let digits = str::from_utf8(digits).ok()?.strip_suffix('Z')?;
    let century = match (utc.is_some(), digits.len()) {
        (true, 12) if digits < "50" => "20",
        (true, 12) => "19",
        (false, 14) => "",
        _ => return None,
    };
    let date = format!("{century}{digits}");
    // One byte a digit, or the time that is put together here is not read.
    let part = |range: std::ops::Range<usize>| date.get(range);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0..4)?,
        part(4..6)?,
        part(6..8)?,
        part(8..10)?,
        part(10..12)?,
        part(12..14)?
    );
    let since_epoch = rfc3339(&text)?
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    Some((since_epoch.as_secs(), rest))
}

/// The contents of the element that `der` begins with, if it has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = der.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // Up to 16 MiB; a TLS message is no longer than that.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A date as an element, its type given by its length.
    fn written(date: &str) -> Vec<u8> {
        let tag = if date.len() == 13 {
            UTC_TIME
        } else {
            GENERALIZED_TIME
        };
        wrapped(tag, date.as_bytes())
    }

    fn wrapped(tag: u8, contents: &[u8]) -> Vec<u8> {
        let [.., high, low] = contents.len().to_be_bytes();
        let mut der = if contents.len() < 0x80 {
            vec![tag, low]
        } else {
            vec![tag, 0x82, high, low]
        };
        der.extend_from_slice(contents);
        der
    }

    fn certificate(version: bool, from: &str, until: &str) -> Vec<u8> {
        let mut signed = Vec::new();
        if version {
            signed.extend(wrapped(VERSION, &wrapped(INTEGER, &[2])));
        }
        signed.extend(wrapped(INTEGER, &[7; 20]));
        signed.extend(wrapped(SEQUENCE, &[]));
        signed.extend(wrapped(SEQUENCE, &[0; 300]));
        signed.extend(wrapped(SEQUENCE, &[written(from), written(until)].concat()));
        signed.extend(wrapped(SEQUENCE, b"subject"));
        wrapped(
            SEQUENCE,
            &[wrapped(SEQUENCE, &signed), b"signature".to_vec()].concat(),
        )
    }

    #[test]
    fn both_forms_of_a_date_are_read() {
        let read = |date| super::date(&written(date)).map(|(seconds, _)| seconds);
        assert_eq!(read("700101000000Z"), Some(0));
        assert_eq!(read("19700101000001Z"), Some(1));
        assert_eq!(read("260228235959Z"), Some(1_772_323_199));
        // The two digits of a year turn over in 2050; from there on it has four.
        assert_eq!(read("491231235959Z"), Some(2_524_607_999));
        assert_eq!(read("20500101000000Z"), Some(2_524_608_000));
        assert_eq!(read("500101000000Z"), None, "1950");
        assert_eq!(read("99991231235959Z"), Some(253_402_300_799));
        for bad in [
            "260230000000Z",
            "2602280000Z",
            "260228000000+",
            "26022800000éZ",
            "+60228000000Z",
            "2026022800000.Z",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_dates_are_found_in_any_version() {
        for version in [false, true] {
            let der = certificate(version, "260101000000Z", "20510101000000Z");
            assert_eq!(dates(&der), Some((1_767_225_600, 2_556_144_000)));
        }
    }

    #[test]
    fn both_ends_belong_to_the_time() {
        let der = CertificateDer::from(certificate(true, "19700101000010Z", "19700101000020Z"));
        let at = |seconds| {
            check(
                &der,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            )
        };
        assert!(matches!(
            at(9),
            Err(CertificateError::NotValidYetContext { .. })
        ));
        assert_eq!((at(10), at(20)), (Ok(()), Ok(())));
        assert!(matches!(
            at(21),
            Err(CertificateError::ExpiredContext { .. })
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, at in 0usize..400, byte: u8) {
            let _ = dates(&bytes);
            let mut der = certificate(true, "260101000000Z", "20510101000000Z");
            let at = at % der.len();
            der[at] = byte;
            let _ = dates(&der);
            let _ = dates(&der[..at]);
        }
    }
}
