//! A fingerprint of a request line, the same on every machine and in every version.
//!
//! Records carry the hash of their request line, and a resume on another machine years later
//! compares it, so it must never change. The standard library's hasher promises no such thing.
//! This is SipHash-2-4 with 128 bits of output and a key of zeros; `openssl mac -macopt size:16
//! SIPHASH` computes the same. Among ten million lines two collide by chance once in some 10²⁴
//! files. It guards against accidents, not against somebody who makes two lines collide on purpose.

use std::fmt;

use siphasher::sip128::{Hash128, SipHasher24};

/// The fingerprint of a request line, or of an id; printed as 32 hexadecimal digits.
///
/// Two `u64`, which pack tighter than a `u128` that is aligned to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LineHash {
    /// Hashes are sorted by this half first.
    pub(super) high: u64,
    /// For where 64 bits tell two apart well enough.
    pub(super) low: u64,
}

impl LineHash {
    pub(crate) fn of(content: impl AsRef<[u8]>) -> Self {
        Self::from_hash(SipHasher24::new().hash(content.as_ref()))
    }

    /// The digits, read from the left, are the algorithm's output bytes in their order.
    fn from_hash(hash: Hash128) -> Self {
        let (high, low) = (hash.h1.swap_bytes(), hash.h2.swap_bytes());
        Self { high, low }
    }

    /// Reads back what `Display` wrote; anything else is `None`.
    pub(crate) fn parse(hex: &str) -> Option<Self> {
        // `from_str_radix` would also take a sign.
        if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let (high, low) = hex.split_at(16);
        let half = |digits| u64::from_str_radix(digits, 16).ok();
        Some(Self {
            high: half(high)?,
            low: half(low)?,
        })
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `vectors_sip128` of the reference implementation: key 00 01 .. 0f, input 00 01 .. n-1.
    #[test]
    fn matches_the_reference_vectors() {
        let hasher = SipHasher24::new_with_keys(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        for (input, expected) in [
            (&b""[..], "a3817f04ba25a8e66df67214c7550293"),
            (&b"\0"[..], "da87c1d86b99af44347659119b22fc45"),
        ] {
            assert_eq!(
                LineHash::from_hash(hasher.hash(input)).to_string(),
                expected
            );
        }
    }

    /// Files hold these digits: a change here orphans every results file ever written.
    #[test]
    fn stays_what_it_was() {
        for (text, digits) in [
            ("", "5049d74780a3e07d4202ab47d4cef2f4"),
            ("{\"custom_id\":\"a\"}", "5eb352ac8b99c3ee13a1f07ef996be44"),
        ] {
            assert_eq!(LineHash::of(text).to_string(), digits);
        }
    }

    #[test]
    fn digits_read_back_and_nothing_else_does() {
        let hash = LineHash::of(b"a line");
        assert_eq!(LineHash::parse(&hash.to_string()), Some(hash));
        for other in ["", "+123456789012345678901234567890ab", "xyz", "ab"] {
            assert_eq!(LineHash::parse(other), None, "{other}");
        }
    }
}
