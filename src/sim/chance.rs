//! Chance made of hashes: every draw is a function of the seed and of what it is drawn for.
//!
//! Written out here because "the same seed gives the same run" is a promise that a library's
//! generator, free to change in any release, would break.

use std::time::Duration;

/// A running hash of what identifies a request: FNV-1a over the bytes, with a strong last mix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0xcbf2_9ce4_8422_2325))
    }

    /// Adds one part; where one part ends and the next begins counts.
    pub(super) fn part(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.0 = mix(self.0 ^ bytes.len() as u64);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    pub(super) fn finish(self) -> u64 {
        mix(self.0)
    }
}

/// A sequence of draws: `SplitMix64` (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Draws(u64);

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 up to but not including 1, in steps of 2⁻⁵³.
    pub(super) fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A whole number below `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        let wide = u128::from(self.bits()) * count as u128;
        // The high half of a 64-bit draw times `count` is below `count`, so it fits.
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// A standard normal draw (Box and Muller), held within ±4.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.share()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.share();
        (radius * angle.cos()).clamp(-4.0, 4.0)
    }
}

/// A latency with the given mean and with standard deviation ÷ mean = `jitter`, log-normal.
pub(super) fn latency(mean: Duration, jitter: f64, draws: &mut Draws) -> Duration {
    if jitter == 0.0 || mean.is_zero() {
        return mean;
    }
    let variance = (1.0 + jitter * jitter).ln();
    let factor = (variance.sqrt() * draws.normal() - variance / 2.0).exp();
    mean.mul_f64(factor)
}

/// The last step of `SplitMix64`: every bit of the input reaches every bit of the output.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // The first outputs of SplitMix64 for seed 1234567, from the reference C code.
        let mut draws = Draws::new(1_234_567);
        assert_eq!(draws.bits(), 6_457_827_717_110_365_317);
        assert_eq!(draws.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn where_a_part_ends_counts() {
        let digest = |parts: &[&str]| {
            let mut digest = Digest::new(7);
            for part in parts {
                digest.part(part.as_bytes());
            }
            digest.finish()
        };
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["abc"]), digest(&["abc", ""]));
        assert_eq!(digest(&["ab", "c"]), digest(&["ab", "c"]));
    }

    #[test]
    fn latencies_have_the_mean_and_the_spread_asked_for() {
        let mean = Duration::from_millis(500);
        let mut draws = Draws::new(7);
        let seconds: Vec<f64> = (0..20_000)
            .map(|_| latency(mean, 0.3, &mut draws).as_secs_f64())
            .collect();
        let count = seconds.len() as f64;
        let average = seconds.iter().sum::<f64>() / count;
        let spread = seconds.iter().map(|s| (s - average).powi(2)).sum::<f64>() / count;
        assert!((average - 0.5).abs() < 0.005, "{average}");
        assert!((spread.sqrt() / average - 0.3).abs() < 0.01, "{spread}");
    }

    #[test]
    fn without_jitter_the_latency_is_fixed() {
        let mean = Duration::from_millis(500);
        assert_eq!(latency(mean, 0.0, &mut Draws::new(7)), mean);
    }

    #[test]
    fn draws_below_a_count_stay_below_it_and_reach_it_all() {
        let mut draws = Draws::new(7);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[draws.below(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
    }
}
