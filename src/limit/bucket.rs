//! The token bucket as arithmetic: no lock, no clock, no floating point.
//!
//! Time is in nanoseconds since the limiter was made. Credit is counted in units times the period's
//! nanoseconds: at `units` a `period`, each nanosecond adds exactly `units` of it. So nothing is
//! rounded while time passes, and no sequence of calls drifts.
//!
//! The bucket fills at the rate up to its capacity, and what is taken in any window of length T is
//! at most `capacity + rate · T` (the leaky bucket as a meter of ITU-T I.371). Costs are estimates,
//! which adds two rules. The level may be below zero: that is a debt, and the same refill pays it.
//! A cost above the capacity is admitted from a full bucket and leaves a debt.

use std::time::Duration;

use super::rate::Rate;
use crate::binding::Binding;

/// Nanoseconds since the limiter was made.
pub(super) type Nanos = u64;

/// Whether a cost is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Now,
    /// Not before this instant, and what it waits for until then.
    At(Nanos, Binding),
    /// When something has changed that nobody can foresee: one of the requests in flight has
    /// finished, or more of a shared limit is leased.
    When(Binding),
}

#[derive(Clone, Debug)]
pub(super) struct Bucket {
    units: u64,
    period: u64,
    capacity: u64,
    /// The credit at the instant `as_of`, in units times the period's nanoseconds. Below zero is a
    /// debt.
    level: i128,
    /// When the level was last brought up to date. In the future if the bucket is on hold until
    /// then.
    as_of: Nanos,
}

impl Bucket {
    /// A new limit starts with a full bucket, or with an empty one in a pause, which ends without a
    /// burst.
    pub(super) fn set(
        bucket: &mut Option<Self>,
        limit: Option<(Rate, u64)>,
        paused_until: Nanos,
        now: Nanos,
    ) {
        match (bucket.as_mut(), limit) {
            (Some(bucket), Some((rate, capacity))) => bucket.change(rate, capacity, now),
            (None, Some((rate, capacity))) => {
                let bucket = bucket.insert(Self::full(rate, capacity, now));
                bucket.hold(paused_until, now);
            }
            (_, None) => *bucket = None,
        }
    }

    /// A full bucket. `rate` has been [`checked`](Rate::checked).
    pub(super) fn full(rate: Rate, capacity: u64, now: Nanos) -> Self {
        let period = period_nanos(rate);
        Self {
            units: rate.units(),
            period,
            capacity,
            level: i128::from(capacity) * i128::from(period),
            as_of: now,
        }
    }

    pub(super) fn rate(&self) -> Rate {
        Rate::new(self.units, Duration::from_nanos(self.period))
    }

    /// The largest cost that is ever admitted: one period's worth, or the capacity if that is more.
    pub(super) fn largest(&self) -> u64 {
        self.units.max(self.capacity)
    }

    /// The earliest instant, not before `now`, at which `cost` can be taken if nothing else is.
    pub(super) fn earliest(&mut self, cost: u64, now: Nanos) -> Nanos {
        if cost == 0 {
            return now;
        }
        self.refill(now);
        // A cost above the capacity needs a full bucket.
        let missing = self
            .scaled(cost.min(self.capacity))
            .saturating_sub(self.level);
        let wait = u128::try_from(missing).map_or(0, |it| it.div_ceil(self.units.into()));
        self.as_of
            .saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
            .max(now)
    }

    /// Takes `cost`, going into debt if it is above the level. The caller has checked that
    /// [`earliest`](Self::earliest) is now.
    pub(super) fn take(&mut self, cost: u64, now: Nanos) {
        self.refill(now);
        self.level = self.level.saturating_sub(self.scaled(cost));
    }

    /// Corrects an earlier take of `reserved` to `actual`: a refund, or a debt. A bucket on hold
    /// stays empty: there a refund only pays a debt.
    pub(super) fn settle(&mut self, reserved: u64, actual: u64, now: Nanos) {
        self.refill(now);
        let refund = self.scaled(reserved) - self.scaled(actual);
        let is_held = self.as_of > now;
        let most = if is_held { 0 } else { self.full_level() };
        self.level = self.level.saturating_add(refund).min(most);
    }

    /// Brings the level to `most` at most.
    pub(super) fn lower_to(&mut self, most: u64, now: Nanos) {
        self.refill(now);
        self.level = self.level.min(self.scaled(most));
    }

    /// Brings the level to `least` at least, unless the bucket is on hold. Whether that has raised
    /// it.
    pub(super) fn raise_to(&mut self, least: u64, now: Nanos) -> bool {
        self.refill(now);
        let least = self.scaled(least).min(self.full_level());
        let raised = self.as_of <= now && self.level < least;
        if raised {
            self.level = least;
        }
        raised
    }

    /// How long one unit takes.
    pub(super) fn time_of_one(&self) -> Nanos {
        self.period.div_ceil(self.units)
    }

    /// Leaves the bucket empty until `until`; it fills from there. A debt stays.
    pub(super) fn hold(&mut self, until: Nanos, now: Nanos) {
        if until > now {
            self.refill(now);
            self.level = self.level.min(0);
            self.as_of = self.as_of.max(until);
        }
    }

    /// Goes on at another rate and capacity, with the credit or debt so far.
    pub(super) fn change(&mut self, rate: Rate, capacity: u64, now: Nanos) {
        self.refill(now);
        let (old, new) = (i128::from(self.period), i128::from(period_nanos(rate)));
        self.units = rate.units();
        self.period = period_nanos(rate);
        self.capacity = capacity;
        // Converted from the old period to the new, and rounded down: credit becomes smaller and a
        // debt larger, so changing the rate gives nothing away.
        self.level = (self.level.div_euclid(old))
            .saturating_mul(new)
            .saturating_add(self.level.rem_euclid(old) * new / old)
            .min(self.full_level());
    }

    fn refill(&mut self, now: Nanos) {
        if now > self.as_of {
            let earned = i128::from(self.units) * i128::from(now - self.as_of);
            self.level = self.level.saturating_add(earned).min(self.full_level());
            self.as_of = now;
        }
    }

    fn full_level(&self) -> i128 {
        self.scaled(self.capacity)
    }

    fn scaled(&self, units: u64) -> i128 {
        i128::from(units) * i128::from(self.period)
    }
}

/// The period of a checked rate is at most a hundred thousand days, so it fits. So does any number
/// of units times that.
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
        // What is given back meanwhile pays a debt, and no more.
        bucket.settle(0, 10, 0);
        bucket.settle(20, 0, 0);
        assert_eq!(bucket.earliest(1, 0), 5 * SECOND + SECOND / 10);
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
        let slow = Rate::per_day(1).checked().unwrap();
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
