//! How a number of milliseconds is distributed, in memory that does not grow with their count.

use std::time::Duration;

use crate::classes::Classes;

/// Times are told apart to a part in 128, so percentiles are accurate to 1 %.
const CLASSES: Classes = Classes::in_each_doubling(128);
/// A longer time counts as this one: 49 days.
const LONGEST_MS: u64 = u32::MAX as u64;

/// Times, by class. At most 3,300 classes of 4 bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    counts: Vec<u32>,
    pub(super) count: u64,
    sum: Duration,
    pub(super) longest: Duration,
}

impl Histogram {
    pub(super) fn add(&mut self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let class = CLASSES.class(ms.min(LONGEST_MS));
        if self.counts.len() <= class {
            self.counts.resize(class + 1, 0);
        }
        self.counts[class] = self.counts[class].saturating_add(1);
        self.count += 1;
        self.sum = self.sum.saturating_add(time);
        self.longest = self.longest.max(time);
    }

    pub(super) fn mean(&self) -> Duration {
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        self.sum.checked_div(count).unwrap_or_default()
    }

    /// The least time that this share of all does not exceed, by the nearest rank; 0 of none.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count"
        )]
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        let class = self.counts.iter().position(|count| {
            below += u64::from(*count);
            below >= rank
        });
        class.map_or(Duration::ZERO, |class| middle(class).min(self.longest))
    }

    /// How many are in each of so many equal parts of the times up to `end`, and behind them.
    pub(super) fn parts(&self, parts: usize, end: Duration) -> (Vec<u64>, u64) {
        let (mut within, mut behind) = (vec![0; parts], 0);
        for (class, count) in self.counts.iter().enumerate() {
            let part = middle(class).as_nanos() * parts as u128 / end.as_nanos().max(1);
            let part = usize::try_from(part).unwrap_or(usize::MAX);
            *within.get_mut(part).unwrap_or(&mut behind) += u64::from(*count);
        }
        (within, behind)
    }
}

/// What stands for the times of a class.
fn middle(class: usize) -> Duration {
    let width = CLASSES.least(class + 1) - CLASSES.least(class);
    Duration::from_millis(CLASSES.least(class) + width / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times: &[u64]) -> Histogram {
        let mut all = Histogram::default();
        for ms in times {
            all.add(Duration::from_millis(*ms));
        }
        all
    }

    #[test]
    fn nothing_has_no_times() {
        let none = Histogram::default();
        let zero = Duration::ZERO;
        assert_eq!(
            (none.quantile(0.5), none.mean(), none.longest),
            (zero, zero, zero)
        );
        assert_eq!(none.parts(3, zero), (vec![0; 3], 0));
    }

    #[test]
    fn parts_hold_all_and_what_is_behind_them_is_counted_apart() {
        let all = of(&[0, 9, 10, 15, 29, 30, 5_000]);
        let (parts, behind) = all.parts(3, Duration::from_millis(30));
        assert_eq!((parts, behind), (vec![2, 2, 1], 2));
    }

    #[test]
    fn memory_is_bounded_whatever_the_times_are() {
        let mut all = of(&[0, u64::MAX]);
        all.add(Duration::MAX);
        assert!(all.counts.len() < 3_400, "{}", all.counts.len());
    }

    proptest! {
        #[test]
        fn a_percentile_is_that_of_the_sorted_times(
            mut times in prop::collection::vec(0_u64..10_000_000, 1..300),
            share in 0.0..1.0_f64,
        ) {
            let all = of(&times);
            times.sort_unstable();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let rank = (times.len() as f64 * share).ceil() as usize;
            let exact = times[rank.max(1) - 1] as f64;
            let told = all.quantile(share).as_secs_f64() * 1e3;
            prop_assert!((told - exact).abs() <= 0.01 * exact + 0.5, "{} for {}", told, exact);
        }
    }
}
