//! The latest answers, and how many of them were refusals.

use std::collections::VecDeque;

use super::bucket::Nanos;
use super::learned_rate::SECOND;

/// Among fewer answers no refusal is stray.
const ENOUGH_ANSWERS: usize = 20;
/// So many refusals are needed to cut a rate: fewer may be chance.
const CUTTING_REFUSALS: u64 = 5;

/// The answers of the last second, and the last twenty. Only time counts in which answers came: after a
/// pause it would be the few that are refused at once.
#[derive(Debug, Default)]
pub(super) struct RecentAnswers {
    /// By tenths of a second: which it is, answers, refusals.
    tenths: VecDeque<(u64, u32, u32)>,
    /// The last twenty, a bit each, the newest lowest.
    last: u32,
    count: u64,
    /// Those that are still to come. A refusal is there at once, an answer is not: at a start only
    /// refusals would have come.
    in_flight: u64,
}

impl RecentAnswers {
    pub(super) fn note(&mut self, refused: bool, now: Nanos) {
        self.count += 1;
        self.last = (self.last << 1) | u32::from(refused);
        let tenth = now / (SECOND / 10);
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

    pub(super) fn set_in_flight(&mut self, requests: usize) {
        self.in_flight = requests as u64;
    }

    /// Whether fewer than one in ten of them is a refusal.
    pub(super) fn is_stray(&self) -> bool {
        let (all, refused) = self.refused();
        all >= ENOUGH_ANSWERS as u64 && 10 * refused < all
    }

    /// Whether so many are refusals that the rate is far from what is possible.
    pub(super) fn is_much(&self, share: f64) -> bool {
        let (all, refused) = self.refused();
        refused >= CUTTING_REFUSALS && refused as f64 >= share * all as f64
    }

    /// All of them and the refusals: of the last second or the last twenty, whichever is more.
    fn refused(&self) -> (u64, u64) {
        let of_second = self.tenths.iter().fold((0, 0), |(all, refused), it| {
            (all + u64::from(it.1), refused + u64::from(it.2))
        });
        let (all, refused) = if of_second.0 >= ENOUGH_ANSWERS as u64 {
            of_second
        } else {
            let all = self.count.min(ENOUGH_ANSWERS as u64);
            let mask = (1 << all) - 1;
            (all, u64::from((self.last & mask).count_ones()))
        };
        (all + self.in_flight, refused)
    }
}
