//! One line, one number: a fingerprint that is the same on every machine and in every version.
//!
//! Records carry the hash of their request line, and a resume years later on another machine
//! compares it, so it must never change: the standard library's hasher promises no such thing.
//! This is SipHash-2-4 with 128 bits of output and a key of zeros (Aumasson and Bernstein, 2012;
//! the reference is <https://github.com/veorq/SipHash>): published test vectors, eight bytes a
//! step, and `openssl mac -macopt size:16 SIPHASH` computes the same. At 128 bits two of ten
//! million lines collide by chance once in some 10²⁴ files. It guards against accidents, not
//! against somebody who makes two lines collide on purpose.

use std::fmt;

/// The fingerprint of a request line, or of an id; printed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LineHash(u128);

impl LineHash {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(siphash_2_4_128([0, 0], bytes))
    }

    /// Reads back what `Display` wrote; anything else is `None`.
    pub(crate) fn parse(hex: &str) -> Option<Self> {
        // `from_str_radix` would also take a sign.
        let plain = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !plain {
            return None;
        }
        // In halves: arithmetic on 128 bits takes several times as long, and a resume reads millions.
        let half = |digits| u64::from_str_radix(digits, 16).ok().map(u128::from);
        let (high, low) = hex.split_at(16);
        Some(Self(half(high)? << 64 | half(low)?))
    }

    /// The two halves: a pair of `u64` packs tighter than a 16-byte aligned `u128`.
    #[expect(clippy::cast_possible_truncation)]
    pub(crate) fn halves(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, self.0 as u64)
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The digits of the result, read from the left, are the reference's output bytes in their order.
fn siphash_2_4_128(key: [u64; 2], bytes: &[u8]) -> u128 {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        absorb(&mut state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    // The top byte is the length modulo 256; the tail is at most seven bytes and leaves it free.
    absorb(
        &mut state,
        u64::from_le_bytes(last) | ((bytes.len() as u64) << 56),
    );
    state[2] ^= 0xee;
    let high = finish(&mut state);
    state[1] ^= 0xdd;
    let low = finish(&mut state);
    (u128::from(high.swap_bytes()) << 64) | u128::from(low.swap_bytes())
}

fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    round(state);
    state[0] ^= word;
}

fn finish(state: &mut [u64; 4]) -> u64 {
    for _ in 0..4 {
        round(state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline]
fn round(state: &mut [u64; 4]) {
    let [mut v0, mut v1, mut v2, mut v3] = *state;
    v0 = v0.wrapping_add(v1);
    v1 = v1.rotate_left(13) ^ v0;
    v0 = v0.rotate_left(32);
    v2 = v2.wrapping_add(v3);
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.wrapping_add(v3);
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.wrapping_add(v1);
    v1 = v1.rotate_left(17) ^ v2;
    v2 = v2.rotate_left(32);
    *state = [v0, v1, v2, v3];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `vectors_sip128` of the reference implementation: key 00 01 .. 0f, input 00 01 .. n-1.
    #[test]
    fn matches_the_reference_vectors() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let input: Vec<u8> = (0..64).collect();
        for (length, expected) in [
            (0, 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293),
            (1, 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45),
        ] {
            let got = siphash_2_4_128(key, &input[..length]);
            assert_eq!(got, expected, "length {length}: {got:032x}");
        }
    }

    /// Files hold these digits: a change here orphans every results file ever written.
    #[test]
    fn stays_what_it_was() {
        for (text, digits) in [
            ("", "5049d74780a3e07d4202ab47d4cef2f4"),
            ("{\"custom_id\":\"a\"}", "5eb352ac8b99c3ee13a1f07ef996be44"),
        ] {
            assert_eq!(LineHash::of(text.as_bytes()).to_string(), digits);
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
