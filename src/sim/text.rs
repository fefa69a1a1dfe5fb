//! What a simulated model writes, and how its tokens are counted.
//!
//! A text is made from its request's digest, word by word, one token a word, so that usage is
//! exact and a limit on tokens cuts where it says. A longer limit gives the same text, longer.

use super::chance::{Draws, mix};

/// One choice of an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Text {
    pub(super) words: String,
    pub(super) tokens: u64,
    /// The limit on tokens came before the text's own end.
    pub(super) cut: bool,
}

/// The text of choice number `choice`, in at most `limit` tokens; 24 to 103 of its own accord.
pub(super) fn compose(identity: u64, choice: u64, limit: u64) -> Text {
    let mut draws = Draws::new(mix(identity.wrapping_add(choice)));
    let natural = 24 + draws.below(80);
    let mut words = String::with_capacity(natural * 7);
    let natural = natural as u64;
    let tokens = natural.min(limit);
    let mut left_in_sentence = 0;
    for index in 0..tokens {
        if index > 0 {
            words.push(' ');
        }
        let word = match index {
            0 => "Simulated",
            1 => "answer:",
            _ => WORDS[draws.below(WORDS.len())],
        };
        if index >= 2 && left_in_sentence == 0 {
            left_in_sentence = 6 + draws.below(8);
            let first = word.chars().next().map(|c| c.to_ascii_uppercase());
            words.extend(first);
            words.push_str(&word[1..]);
        } else {
            words.push_str(word);
        }
        if index >= 2 {
            left_in_sentence -= 1;
            if left_in_sentence == 0 || index + 1 == natural {
                words.push('.');
                left_in_sentence = 0;
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
pub(super) fn embed(identity: u64, dimensions: usize) -> Vec<f32> {
    let mut draws = Draws::new(identity);
    let mut vector: Vec<f64> = (0..dimensions).map(|_| 2.0 * draws.share() - 1.0).collect();
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length > 0.0 {
        for x in &mut vector {
            *x /= length;
        }
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "vectors are sent in single precision"
    )]
    vector.into_iter().map(|x| x as f32).collect()
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
    fn a_limit_cuts_the_same_text() {
        let whole = compose(42, 0, u64::MAX);
        assert!(!whole.cut && whole.words.ends_with('.'));
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
