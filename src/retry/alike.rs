//! Answers that fail alike, in a row: what stops a run before all of its requests are spent on
//! them.

use super::policy::Retry;

/// What a failure has in common with others. Failures that have the same likeness are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Likeness {
    pub(crate) key: u64,
    pub(crate) class: Class,
}

/// How soon failures that are alike stop a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Usual,
    /// What is asked for is refused to everyone, or is not there.
    Refused,
    /// The words of it speak of money.
    Money,
}

/// How much of a run is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Items that are being attempted, the one in question among them.
    pub(crate) in_flight: usize,
    /// Items without an outcome; as many as there can be while nobody knows.
    pub(crate) unfinished: usize,
}

/// So many items with words about money, and none that succeeds between them, are no accident.
const MONEY: u8 = 3;
/// Once something has succeeded, a run is stopped by no fewer than this,
const AFTER_SUCCESS: u32 = 100;
/// and by no fewer than so many times the items in flight: those were sent before anybody knew.
const TIMES_IN_FLIGHT: usize = 4;

/// The failures alike since the last success or the last one that was not alike.
#[derive(Debug, Default)]
pub(super) struct Streak {
    last: Option<Likeness>,
    answers: u32,
    /// The first [`MONEY`] items of it.
    items: Vec<u64>,
    succeeded: bool,
}

impl Streak {
    pub(super) fn succeeded(&mut self) {
        *self = Self {
            succeeded: true,
            ..Self::default()
        };
    }

    /// Notes a failed answer to `item`. Returns how many were alike in a row, if the run is to
    /// stop.
    pub(super) fn failed(
        &mut self,
        item: u64,
        likeness: Likeness,
        policy: &Retry,
        load: Load,
    ) -> Option<u32> {
        if self.last != Some(likeness) {
            self.last = Some(likeness);
            self.answers = 0;
            self.items.clear();
        }
        self.answers = self.answers.saturating_add(1);
        if self.items.len() < MONEY.into() && !self.items.contains(&item) {
            self.items.push(item);
        }
        let most = match likeness.class {
            Class::Money if self.items.len() >= load.unfinished.min(MONEY.into()) => MONEY.into(),
            Class::Money => return None,
            Class::Usual => self.most(policy.stop_alike[0]?, load),
            Class::Refused => self.most(policy.stop_alike[1]?, load),
        };
        (self.answers >= most).then_some(self.answers)
    }

    fn most(&self, before_success: u32, load: Load) -> u32 {
        if !self.succeeded {
            return before_success;
        }
        let in_flight = load.in_flight.saturating_mul(TIMES_IN_FLIGHT);
        let in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
        before_success.max(AFTER_SUCCESS).max(in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Load = Load {
        in_flight: 1,
        unfinished: usize::MAX,
    };

    fn like(key: u64, class: Class) -> Likeness {
        Likeness { key, class }
    }

    /// After how many of these failures, each of another item, a run stops.
    fn stops_after(streak: &mut Streak, policy: Retry, class: Class, load: Load) -> Option<u64> {
        (1..=1_000).find(|&item| {
            let failed = streak.failed(item, like(7, class), &policy, load);
            failed.is_some()
        })
    }

    #[test]
    fn how_many_stop_a_run_depends_on_the_class_the_setting_and_success() {
        use Class::{Money, Refused, Usual};
        let usual = Retry::new();
        let (five, thirty) = (usual.stop_alike(Some(5)), usual.stop_alike(Some(30)));
        let (many, never) = (usual.stop_alike(Some(300)), usual.stop_alike(None));
        let busy = Load {
            in_flight: 50,
            ..FEW
        };
        for (policy, class, load, at_first, later) in [
            (usual, Usual, FEW, Some(20), Some(100)),
            (usual, Usual, busy, Some(20), Some(200)),
            (usual, Refused, FEW, Some(10), Some(100)),
            (usual, Money, busy, Some(3), Some(3)),
            (five, Usual, FEW, Some(5), Some(100)),
            (five, Refused, FEW, Some(5), Some(100)),
            (thirty, Refused, FEW, Some(30), Some(100)),
            (many, Usual, FEW, Some(300), Some(300)),
            (never, Usual, FEW, None, None),
            (never, Refused, FEW, None, None),
            (never, Money, FEW, Some(3), Some(3)),
        ] {
            let case = (policy, class, load);
            let found = stops_after(&mut Streak::default(), policy, class, load);
            assert_eq!(found, at_first, "{case:?}");
            let mut streak = Streak::default();
            streak.succeeded();
            let found = stops_after(&mut streak, policy, class, load);
            assert_eq!(found, later, "after a success, {case:?}");
        }
    }

    #[test]
    fn a_success_or_another_failure_begins_anew() {
        let policy = Retry::new();
        let mut streak = Streak::default();
        for round in 0..20 {
            for item in 0..19 {
                let likeness = like(round % 2, Class::Usual);
                assert_eq!(streak.failed(item, likeness, &policy, FEW), None);
            }
        }
        streak.succeeded();
        for round in 0..20 {
            for item in 0..99 {
                let likeness = like(1, Class::Usual);
                assert_eq!(streak.failed(item, likeness, &policy, FEW), None, "{round}");
            }
            streak.succeeded();
        }
    }

    #[test]
    fn words_about_money_count_by_row_and_few_rows_may_repeat_them() {
        let (policy, money) = (Retry::new(), like(0, Class::Money));
        let mut streak = Streak::default();
        for _ in 0..10 {
            assert_eq!(
                streak.failed(1, money, &policy, FEW),
                None,
                "one row of many"
            );
        }
        let alone = Load {
            in_flight: 1,
            unfinished: 1,
        };
        let mut streak = Streak::default();
        let answers = [1, 2, 3].map(|_| streak.failed(1, money, &policy, alone));
        assert_eq!(answers, [None, None, Some(3)]);
    }
}
