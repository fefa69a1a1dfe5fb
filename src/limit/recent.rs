//! The latest answers, and how many of them were refusals.

use std::collections::VecDeque;

use super::bucket::Nanos;
use super::learned_rate::SECOND;

/// Among fewer answers no refusal is stray.
const ENOUGH_ANSWERS: u32 = 20;
const TENTH: Nanos = SECOND / 10;

/// The answers of the last second in which answers came, and the last twenty. A pause is no part of
/// it: after one, the few that are refused at once would be all.
#[derive(Debug, Default)]
pub(super) struct RecentAnswers {
    /// By tenths of a second: which it is, answers, refusals.
    tenths: VecDeque<(u64, u32, u32)>,
    /// The last twenty, a bit each, the newest lowest.
    last: u32,
    count: u32,
    chance: Chance,
}

/// The share of requests that are refused by chance, as those are that hold nobody.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chance(f64);

/// So many answers tell that share, and it is no more than this.
const TELL_CHANCE: f64 = 200.0;
const MOST_CHANCE: f64 = 0.06;

impl Chance {
    fn note(&mut self, refused: bool) {
        self.0 += (f64::from(u8::from(refused)) - self.0) / TELL_CHANCE;
        self.0 = self.0.min(MOST_CHANCE);
    }

    /// Whether chance refuses so many of so many.
    pub(super) fn explains(self, refused: f64, sent: f64) -> bool {
        let expected = self.0 * sent;
        refused <= expected + 3.0 * expected.sqrt()
    }
}

impl RecentAnswers {
    pub(super) fn note(&mut self, refused: bool, now: Nanos) {
        self.count = self.count.saturating_add(1);
        self.last = (self.last << 1) | u32::from(refused);
        let tenth = now / TENTH;
        match self.tenths.back_mut() {
            Some(it) if it.0 >= tenth => {
                it.1 += 1;
                it.2 += u32::from(refused);
            }
            _ => self.tenths.push_back((tenth, 1, refused.into())),
        }
        if self.tenths.len() > 10 {
            self.tenths.pop_front();
        }
    }

    /// What was refused so far counts no more: everyone was held for it.
    pub(super) fn forgive(&mut self) {
        for it in &mut self.tenths {
            it.1 -= it.2;
            it.2 = 0;
        }
    }

    /// Whether fewer than a quarter of the last twenty, or of all, are refusals.
    pub(super) fn are_few_refused(&self) -> bool {
        let all = self.count.min(ENOUGH_ANSWERS);
        4 * (self.last & ((1 << ENOUGH_ANSWERS) - 1)).count_ones() < all
    }

    pub(super) fn chance(&self) -> Chance {
        self.chance
    }

    /// Takes note of an answer that says nothing of a limit.
    pub(super) fn note_chance(&mut self, refused: bool) {
        self.chance.note(refused);
    }

    /// Whether fewer than one in ten of the answers is a refusal, of which the last has just been
    /// noted: of those of the last second, or of the last twenty if that is longer.
    pub(super) fn is_stray(&self, in_flight: usize) -> bool {
        let (mut all, mut refused) = (0, 0);
        for it in &self.tenths {
            all += it.1;
            refused += it.2;
        }
        // Those in flight are no refusals so far, and would outweigh few answers.
        let in_flight = u32::try_from(in_flight.saturating_sub(1)).unwrap_or(u32::MAX);
        all += in_flight.min(all);
        if all < ENOUGH_ANSWERS {
            all = self.count.min(ENOUGH_ANSWERS);
            refused = (self.last & ((1 << ENOUGH_ANSWERS) - 1)).count_ones();
        }
        let is_chance = self.chance.explains(refused.into(), all.into());
        self.count >= ENOUGH_ANSWERS && (10 * refused < all || is_chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the last of these is stray; `true` is a refusal, and they are `apart` from each
    /// other.
    fn is_stray(answers: impl IntoIterator<Item = bool>, apart: Nanos) -> bool {
        let mut recent = RecentAnswers::default();
        for (at, refused) in (0..).zip(answers) {
            recent.note(refused, at * apart);
        }
        recent.is_stray(1)
    }

    #[test]
    fn fewer_than_one_in_ten_of_the_longer_span_is_stray() {
        let after = |let_in, refused: usize| (0..let_in + refused).map(move |n| n >= let_in);
        assert!(is_stray(after(19, 1), SECOND), "the last twenty");
        assert!(!is_stray(after(18, 1), SECOND), "too few to tell");
        assert!(!is_stray(after(18, 2), SECOND), "one in ten");
        // A hundred came in the last second, and nine of the last twenty do not count.
        assert!(is_stray(after(91, 9), SECOND / 100));
        assert!(!is_stray(after(91, 10), SECOND / 100));
        // They came long ago, so it is the last twenty.
        assert!(!is_stray(after(200, 2), SECOND));
    }

    #[test]
    fn what_is_forgiven_does_not_count_as_let_in() {
        let mut recent = RecentAnswers::default();
        for _ in 0..60 {
            recent.note(true, 0);
        }
        recent.forgive();
        recent.note(true, SECOND);
        assert!(!recent.is_stray(1));
    }
}
