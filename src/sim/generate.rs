//! What the simulated provider makes up: draws, latencies, texts and vectors, all from hashes.
//!
//! Every draw is a function of the seed and of what it is drawn for. The generator is written out
//! here because "the same seed gives the same run" is a promise that a library's generator, free
//! to change in any release, would break.
//!
//! A text is made from its request's digest, word by word, one token a word, so that usage is
//! exact and a limit on tokens cuts where it says. A longer limit gives the same text, longer.

use std::ops::Range;
use std::time::Duration;

/// A running hash of what identifies a request: FNV-1a over the bytes, with a strong last mix.
#[derive(Clone, Copy, Debug, Default)]
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
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 up to but not including 1, in steps of 2⁻⁵³.
    pub(super) fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A whole number below `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        let wide = u128::from(self.next_u64()) * count as u128;
        // The high half of a 64-bit draw times `count` is below `count`, so it fits.
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// A standard normal draw (Box and Muller), held within ±4.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.next_f64()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.next_f64();
        (radius * angle.cos()).clamp(-4.0, 4.0)
    }
}

/// A latency with the given mean and with standard deviation ÷ mean = `jitter`, log-normal.
pub(super) fn latency(mean: Duration, jitter: f64, random: &mut Random) -> Duration {
    if jitter == 0.0 || mean.is_zero() {
        return mean;
    }
    let variance = (1.0 + jitter * jitter).ln();
    let factor = (variance.sqrt() * random.normal() - variance / 2.0).exp();
    mean.mul_f64(factor)
}

/// The last step of `SplitMix64`: every bit of the input reaches every bit of the output.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// How many tokens an answer has of its own accord: from this many up to, but not including, that.
pub(crate) const NATURAL: Range<u32> = 24..104;

/// One choice of an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Text {
    pub(super) words: String,
    pub(super) tokens: u64,
    /// The limit on tokens came before the text's own end.
    pub(super) cut: bool,
}

impl Text {
    /// A text that is cut at `limit` tokens.
    pub(super) fn within(mut words: String, limit: u64) -> Self {
        let whole = tokens_in(&words);
        let tokens = whole.min(limit);
        if tokens < whole {
            let most = usize::try_from(tokens * 4).unwrap_or(usize::MAX);
            let end = (0..=most).rev().find(|end| words.is_char_boundary(*end));
            words.truncate(end.unwrap_or(0));
        }
        Self {
            words,
            tokens,
            cut: tokens < whole,
        }
    }
}

/// The text of choice number `choice`, in at most `limit` tokens; 24 to 103 of its own accord.
pub(super) fn compose(identity: u64, choice: u64, limit: u64) -> Text {
    let mut random = Random::new(mix(identity.wrapping_add(choice)));
    let natural = u64::from(NATURAL.start) + random.below(NATURAL.len()) as u64;
    let tokens = natural.min(limit);
    let mut words = String::with_capacity(1024);
    for index in 0..tokens {
        match index {
            0 => words.push_str("Simulated"),
            1 => words.push_str(" answer:"),
            _ => {
                words.push(' ');
                words.push_str(WORDS[random.below(WORDS.len())]);
            }
        }
    }
    Text {
        words,
        tokens,
        cut: tokens < natural,
    }
}

/// The tokens a text is counted at: one for every four bytes, begun ones included.
pub(super) fn tokens_in(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

/// The vector of `dimensions` numbers that stands for an input, of length 1.
pub(super) fn embed(identity: u64, dimensions: u64) -> Vec<f32> {
    let mut random = Random::new(identity);
    let vector: Vec<f64> = (0..dimensions)
        .map(|_| 2.0 * random.next_f64() - 1.0)
        .collect();
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "vectors are sent in single precision"
    )]
    vector.iter().map(|x| (x / length) as f32).collect()
}

const WORDS: [&str; 64] = [
    "a", "about", "after", "answer", "around", "because", "before", "bridge", "carries", "clear",
    "comes", "course", "draws", "early", "every", "field", "first", "from", "gate", "gives",
    "grows", "holds", "in", "keeps", "later", "leads", "light", "line", "little", "makes", "many",
    "measure", "more", "moves", "new", "of", "often", "on", "one", "open", "over", "part", "place",
    "plain", "question", "quiet", "reads", "river", "road", "second", "shows", "simple", "small",
    "stays", "stone", "the", "then", "through", "time", "to", "turns", "water", "with", "work",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // The first outputs of SplitMix64 for seed 1234567, from the reference C code.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
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
        let mut random = Random::new(7);
        let seconds: Vec<f64> = (0..20_000)
            .map(|_| latency(mean, 0.3, &mut random).as_secs_f64())
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
        assert_eq!(latency(mean, 0.0, &mut Random::new(7)), mean);
    }

    #[test]
    fn draws_below_a_count_stay_below_it_and_reach_it_all() {
        let mut random = Random::new(7);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[random.below(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
    }

    #[test]
    fn a_limit_cuts_the_same_text() {
        let whole = compose(42, 0, u64::MAX);
        assert!(!whole.cut);
        assert_eq!(whole.words.split(' ').count() as u64, whole.tokens);
        for limit in 0..whole.tokens {
            let part = compose(42, 0, limit);
            assert!(part.cut);
            assert_eq!(part.tokens, limit);
            assert!(whole.words.starts_with(&part.words), "{}", part.words);
        }
        assert_eq!(compose(42, 0, whole.tokens), whole);
    }

    #[test]
    fn choices_and_requests_differ() {
        assert_ne!(compose(42, 0, 500).words, compose(42, 1, 500).words);
        assert_ne!(compose(42, 0, 500).words, compose(43, 0, 500).words);
    }

    #[test]
    fn embeddings_have_length_one() {
        let vector = embed(42, 1536);
        let length: f32 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-3, "{length}");
        assert_ne!(vector, embed(43, 1536));
        assert!(embed(42, 0).is_empty());
    }
}
