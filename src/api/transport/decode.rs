//! Undoes the codings of a body, `gzip` and `deflate`.
//!
//! None is asked for, yet some servers and proxies compress all they send, and others only say that
//! they did. So the bytes decide: what does not begin as its coding does is taken as it is.

use std::io::{Read, copy};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Undoes `codings`, a list in the order in which they were applied (RFC 9110, 8.4), and stops
/// behind `most` bytes. What breaks off is kept as far as it goes.
///
/// # Errors
/// The bytes are in a coding that is not understood, or not in the one they seem to be in.
pub(super) fn decode(bytes: &mut Vec<u8>, codings: &str, most: usize) -> Result<(), ()> {
    for coding in codings.rsplit(',') {
        let body = &bytes[..];
        // The checksum of two bytes (RFC 1950, 2.2).
        let is_zlib = match body {
            [a, b, ..] => a & 15 == 8 && u16::from_be_bytes([*a, *b]) % 31 == 0,
            _ => false,
        };
        let mut decoder: Box<dyn Read + '_> = match &*coding.trim().to_ascii_lowercase() {
            "gzip" | "x-gzip" if body.starts_with(&[0x1f, 0x8b]) => {
                Box::new(MultiGzDecoder::new(body))
            }
            "deflate" if is_zlib => Box::new(ZlibDecoder::new(body)),
            _ if str::from_utf8(body).is_ok() => continue,
            // Some leave its frame out.
            "deflate" => Box::new(DeflateDecoder::new(body)),
            "br" | "zstd" | "compress" | "x-compress" => return Err(()),
            // Some name the charset here, or "none", and mean no coding.
            _ => continue,
        };
        let mut plain = Vec::with_capacity(2 * body.len());
        let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        let read = copy(&mut decoder.by_ref().take(limit), &mut plain);
        if read.is_err() && plain.is_empty() {
            return Err(());
        }
        drop(decoder);
        *bytes = plain;
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use flate2::Compression;
    use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const PLAIN: &[u8] = br#"{"choices":[{"message":{"content":"hello hello hello"}}]}"#;

    fn all(mut reader: impl Read) -> Vec<u8> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        all(GzEncoder::new(bytes, Compression::default()))
    }

    #[test]
    fn the_bytes_decide_whatever_the_header_says() {
        let zlib = all(ZlibEncoder::new(PLAIN, Compression::default()));
        let raw = all(DeflateEncoder::new(PLAIN, Compression::default()));
        let plain = || PLAIN.to_vec();
        let members = [gzip(&PLAIN[..9]), gzip(&PLAIN[9..])].concat();
        for (codings, body, expected) in [
            ("gzip", gzip(PLAIN), Ok(PLAIN)),
            (" X-GZip", gzip(PLAIN), Ok(PLAIN)),
            ("gzip", members, Ok(PLAIN)),
            ("deflate, gzip", gzip(&zlib), Ok(PLAIN)),
            ("deflate", zlib, Ok(PLAIN)),
            ("deflate", raw, Ok(PLAIN)),
            ("gzip, gzip", gzip(PLAIN), Ok(PLAIN)),
            ("gzip", plain(), Ok(PLAIN)),
            ("deflate", plain(), Ok(PLAIN)),
            ("br", plain(), Ok(PLAIN)),
            ("utf-8", plain(), Ok(PLAIN)),
            ("", plain(), Ok(PLAIN)),
            ("gzip", Vec::new(), Ok(b"")),
            ("identity", b"\xff".to_vec(), Ok(b"\xff")),
            ("br", b"\x0b\xff".to_vec(), Err(())),
            ("gzip", b"\x1f\x8b\xff\xff".to_vec(), Err(())),
            ("deflate", b"\xff\xff".to_vec(), Err(())),
        ] {
            let mut bytes = body.clone();
            let plain = decode(&mut bytes, codings, 1000).map(|()| &bytes[..]);
            assert_eq!(plain, expected, "{codings:?} {body:?}");
        }
    }

    #[test]
    fn what_unpacks_to_too_much_ends_behind_the_bound_and_what_breaks_off_is_kept() {
        let mut bytes = gzip(&vec![b'x'; 1 << 20]);
        decode(&mut bytes, "gzip", 100).unwrap();
        assert_eq!(bytes, [b'x'; 101]);

        let mut bytes = gzip(PLAIN);
        bytes.truncate(bytes.len() - 12);
        decode(&mut bytes, "gzip", 100).unwrap();
        assert!(!bytes.is_empty() && PLAIN.starts_with(&bytes));
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_panic(mut bytes: Vec<u8>, magic in 0usize..3, coding in "gzip|deflate|gzip, deflate") {
            bytes.splice(..0, [&b"\x1f\x8b\x08\0"[..], b"\x78\x9c", b""][magic].iter().copied());
            let _ = decode(&mut bytes, &coding, 1000);
            proptest::prop_assert!(bytes.len() <= 2000);
        }
    }
}
