//! The token bucket as arithmetic: no lock, no clock, no float.
//!
//! Time comes in as nanoseconds since some epoch. Credit is kept in units multiplied by the
//! period's nanoseconds, so that one nanosecond at `units` per `period` is worth exactly `units`
//! of it: nothing is ever rounded while time passes, and no sequence of reads and takes can drift.
//!
//! The rule is the leaky bucket as a meter (ITU-T I.371, the generic cell rate algorithm): what is
//! taken in any window of length T is at most `capacity + rate · T`. Two additions for costs that
//! are only estimates: the level may be negative (a debt, paid off by the same refill), and a cost
//! above the capacity is admitted from a full bucket and leaves it in debt.

use super::rate::Rate;

/// Nanoseconds since the limiter's epoch.
pub(crate) type Nanos = u64;

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    units: u64,
    period: u64,
    capacity: u64,
    /// What it lacks to be full at the instant `as_of`, in units × period nanoseconds; more than the
    /// capacity is a debt. Counted from the top, a refill needs no cap but zero.
    missing: u128,
    /// May lie ahead of the present: the bucket then stays as it is until that instant.
    as_of: Nanos,
}

impl Bucket {
    /// A full bucket. `rate` has been [`checked`](Rate::checked).
    pub(crate) fn full(rate: Rate, capacity: u64, now: Nanos) -> Self {
        Self {
            units: rate.units(),
            period: period_nanos(rate),
            capacity,
            missing: 0,
            as_of: now,
        }
    }

    /// The largest cost that is ever admitted: one period's worth, or the capacity if that is more.
    pub(crate) fn largest(&self) -> u64 {
        self.units.max(self.capacity)
    }

    /// The earliest instant, not before `now`, at which `cost` can be taken, if nothing else is.
    pub(crate) fn earliest(&mut self, cost: u64, now: Nanos) -> Nanos {
        if cost == 0 {
            return now;
        }
        self.refill(now);
        // A cost above the capacity needs a full bucket.
        let may_be_missing = self.scaled(self.capacity.saturating_sub(cost));
        if self.missing <= may_be_missing {
            return now.max(self.as_of);
        }
        let wait = (self.missing - may_be_missing).div_ceil(self.units.into());
        self.as_of
            .saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
            .max(now)
    }

    /// Takes `cost`, into debt if need be. The caller has seen [`earliest`](Self::earliest) pass.
    pub(crate) fn take(&mut self, cost: u64, now: Nanos) {
        self.refill(now);
        self.missing = self.missing.saturating_add(self.scaled(cost));
    }

    /// Corrects an earlier take of `reserved` to `actual`: a refund, or a debt.
    pub(crate) fn settle(&mut self, reserved: u64, actual: u64, now: Nanos) {
        self.refill(now);
        self.missing = self
            .missing
            .saturating_add(self.scaled(actual))
            .saturating_sub(self.scaled(reserved));
    }

    /// Empties the bucket until `until`, and lets it fill from there. A debt stays.
    pub(crate) fn hold(&mut self, until: Nanos, now: Nanos) {
        self.refill(now);
        self.missing = self.missing.max(self.scaled(self.capacity));
        self.as_of = self.as_of.max(until);
    }

    /// Goes on at another rate and capacity, with what has been earned at the old one.
    pub(crate) fn change(&mut self, rate: Rate, capacity: u64, now: Nanos) {
        self.refill(now);
        let full = self.scaled(self.capacity);
        // One of the two is nothing.
        let (credit, debt) = (
            full.saturating_sub(self.missing),
            self.missing.saturating_sub(full),
        );
        let (old, new) = (u128::from(self.period), u128::from(period_nanos(rate)));
        // Credit is rounded down and debt up: a change of rate never creates credit.
        let credit = (credit / old).saturating_mul(new) + credit % old * new / old;
        let debt = (debt / old)
            .saturating_mul(new)
            .saturating_add((debt % old * new).div_ceil(old));
        self.units = rate.units();
        self.period = period_nanos(rate);
        self.capacity = capacity;
        self.missing = self
            .scaled(capacity)
            .saturating_sub(credit)
            .saturating_add(debt);
    }

    fn refill(&mut self, now: Nanos) {
        if now <= self.as_of {
            return;
        }
        let earned = u128::from(self.units) * u128::from(now - self.as_of);
        self.missing = self.missing.saturating_sub(earned);
        self.as_of = now;
    }

    fn scaled(&self, units: u64) -> u128 {
        u128::from(units) * u128::from(self.period)
    }
}

/// A checked rate's period is at most a hundred thousand days, which fits.
fn period_nanos(rate: Rate) -> u64 {
    u64::try_from(rate.period().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn starts_full_and_refills_exactly() {
        let mut bucket = Bucket::full(Rate::per_second(3), 3, 0);
        for _ in 0..3 {
            assert_eq!(bucket.earliest(1, 0), 0);
            bucket.take(1, 0);
        }
        // A third of a second is not a whole number of nanoseconds: never early, and never more
        // than the one nanosecond late, however many grants have gone before.
        for grant in 1..=3_000_u64 {
            let due = bucket.earliest(1, 0);
            assert_eq!(due, (grant * SECOND).div_ceil(3));
            bucket.take(1, due);
        }
    }

    #[test]
    fn a_cost_above_the_capacity_waits_for_a_full_bucket_and_leaves_a_debt() {
        let mut bucket = Bucket::full(Rate::per_second(10), 10, 0);
        bucket.take(1, 0);
        assert_eq!(bucket.earliest(25, 0), SECOND / 10, "one unit is missing");
        bucket.take(25, SECOND / 10);
        assert_eq!(
            bucket.earliest(1, SECOND / 10),
            SECOND / 10 + 16 * SECOND / 10,
            "15 of debt and the one asked for"
        );
    }

    #[test]
    fn settling_gives_back_or_takes_more() {
        let mut bucket = Bucket::full(Rate::per_second(10), 10, 0);
        bucket.take(10, 0);
        bucket.settle(10, 4, 0);
        assert_eq!(bucket.earliest(6, 0), 0);
        bucket.settle(4, 14, 0);
        assert_eq!(
            bucket.earliest(1, 0),
            SECOND / 2,
            "four below zero, one asked for"
        );
        bucket.settle(100, 0, 0);
        assert_eq!(bucket.earliest(10, 0), 0);
        bucket.take(10, 0);
        assert_eq!(
            bucket.earliest(1, 0),
            SECOND / 10,
            "never above its capacity"
        );
    }

    #[test]
    fn a_hold_leaves_it_empty() {
        let mut bucket = Bucket::full(Rate::per_second(10), 10, 0);
        bucket.hold(5 * SECOND, 0);
        assert_eq!(bucket.earliest(1, 0), 5 * SECOND + SECOND / 10);
        assert_eq!(bucket.earliest(0, 0), 0);
    }

    #[test]
    fn a_change_keeps_what_was_earned() {
        let mut bucket = Bucket::full(Rate::per_second(10), 10, 0);
        bucket.take(10, 0);
        bucket.change(Rate::per_hour(3_600), 10, SECOND / 2);
        assert_eq!(bucket.earliest(5, SECOND / 2), SECOND / 2);
        assert_eq!(bucket.earliest(6, SECOND / 2), SECOND / 2 + SECOND);
    }

    #[test]
    fn no_arithmetic_overflows() {
        let slow = Rate::per_day(1).checked("x").unwrap();
        let mut bucket = Bucket::full(slow, u64::MAX, 0);
        for _ in 0..4 {
            bucket.take(u64::MAX, u64::MAX);
            bucket.settle(u64::MAX, 0, u64::MAX);
            bucket.settle(0, u64::MAX, u64::MAX);
        }
        assert_eq!(bucket.earliest(u64::MAX, 0), u64::MAX);
        bucket.change(Rate::per_second(1), 1, 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Wait so long, then take as early as allowed.
        Take {
            idle: u64,
            cost: u64,
        },
        Change {
            units: u64,
            seconds: u64,
        },
        Hold {
            length: u64,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..3 * SECOND, 1..40_u64).prop_map(|(idle, cost)| Step::Take { idle, cost }),
            1 => (1..100_u64, 1..100_u64)
                .prop_map(|(units, seconds)| Step::Change { units, seconds }),
            1 => (0..5 * SECOND).prop_map(|length| Step::Hold { length }),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        /// In every window, for every pair of admissions: at most max(burst, largest cost) plus
        /// what the fastest rate in force during it earns.
        #[test]
        fn no_window_is_ever_over(steps in steps(), capacity in 1..30_u64) {
            let mut now = 0;
            let mut bucket = Bucket::full(Rate::per_second(7), capacity, now);
            let mut fastest = Rate::per_second(7);
            let mut largest = capacity;
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take { idle, cost } => {
                        now += idle;
                        now = bucket.earliest(cost, now);
                        prop_assert_eq!(bucket.earliest(cost, now), now, "granted exactly when promised");
                        bucket.take(cost, now);
                        largest = largest.max(cost);
                        admitted.push((now, cost));
                    }
                    Step::Change { units, seconds } => {
                        let rate = Rate::new(units, std::time::Duration::from_secs(seconds));
                        if rate.units_per_second() > fastest.units_per_second() {
                            fastest = rate;
                        }
                        bucket.change(rate, capacity, now);
                    }
                    Step::Hold { length } => bucket.hold(now + length, now),
                }
            }
            for first in 0..admitted.len() {
                let mut sum = 0_u128;
                for &(at, cost) in &admitted[first..] {
                    sum += u128::from(cost);
                    let window = u128::from(at - admitted[first].0);
                    // sum <= largest + rate * window, in exact integers.
                    let period = fastest.period().as_nanos();
                    prop_assert!(
                        (sum - u128::from(largest).min(sum)) * period
                            < u128::from(fastest.units()) * window + period,
                        "{sum} in a window of {window} ns"
                    );
                }
            }
        }
    }
}
