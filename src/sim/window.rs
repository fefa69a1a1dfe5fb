//! A limit that is judged by counting: so much in each period, or in the last one.

use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Window {
    period: Duration,
    limit: u64,
    is_sliding: bool,
    /// What was let in and still counts, by its time.
    counted: VecDeque<(Duration, u64)>,
}

impl Window {
    pub(super) fn new(period: Duration, limit: u64, is_sliding: bool) -> Self {
        Self {
            period,
            limit,
            is_sliding,
            counted: VecDeque::new(),
        }
    }

    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// How long from `at` until `cost` units fit; nothing if they do.
    pub(super) fn wait(&self, at: Duration, cost: u64) -> Duration {
        let mut free = self.limit.saturating_sub(self.used(at));
        if free >= cost {
            return Duration::ZERO;
        }
        if !self.is_sliding {
            return self.left(at);
        }
        for (then, units) in self.in_force(at) {
            free += units;
            if free >= cost {
                return (*then + self.period).saturating_sub(at);
            }
        }
        self.period
    }

    pub(super) fn charge(&mut self, at: Duration, cost: u64) {
        let old = self.counted.len() - self.in_force(at).count();
        self.counted.drain(..old);
        self.counted.push_back((at, cost));
    }

    pub(super) fn used(&self, at: Duration) -> u64 {
        self.in_force(at).map(|(_, units)| units).sum()
    }

    /// How long from `at` until nothing counts any more.
    pub(super) fn time_to_empty(&self, at: Duration) -> Duration {
        let last = self.in_force(at).last();
        match last {
            _ if !self.is_sliding => self.left(at),
            Some((then, _)) => (*then + self.period).saturating_sub(at),
            None => Duration::ZERO,
        }
    }

    fn in_force(&self, at: Duration) -> impl Iterator<Item = &(Duration, u64)> {
        let counts = |then: Duration| {
            if self.is_sliding {
                then + self.period > at
            } else {
                then + self.period >= at + self.left(at)
            }
        };
        let old = self.counted.partition_point(|(then, _)| !counts(*then));
        self.counted.range(old..)
    }

    /// What is left of a fixed period.
    fn left(&self, at: Duration) -> Duration {
        let period = self.period.as_nanos().max(1);
        let gone = u64::try_from(at.as_nanos() % period).unwrap_or(0);
        self.period.saturating_sub(Duration::from_nanos(gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_fixed_window_lets_all_in_at_its_start() {
        let mut window = Window::new(at(60), 3, false);
        for second in [10, 20, 59] {
            assert_eq!(window.wait(at(second), 1), at(0));
            window.charge(at(second), 1);
        }
        assert_eq!(window.wait(at(59), 1), at(1));
        assert_eq!(
            (window.used(at(59)), window.time_to_empty(at(59))),
            (3, at(1))
        );
        assert_eq!((window.wait(at(60), 3), window.used(at(60))), (at(0), 0));
    }

    #[test]
    fn a_sliding_window_counts_the_last_period() {
        let mut window = Window::new(at(60), 3, true);
        for second in [0, 20, 59] {
            assert_eq!(window.wait(at(second), 1), at(0));
            window.charge(at(second), 1);
        }
        assert_eq!(window.wait(at(59), 1), at(1));
        assert_eq!(window.wait(at(59), 2), at(21));
        assert_eq!(window.wait(at(60), 1), at(0));
        assert_eq!(window.time_to_empty(at(60)), at(59));
    }
}
