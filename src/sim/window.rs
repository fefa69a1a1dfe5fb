//! A limit that is judged by counting: so much in each period, or in the last one.

use std::collections::VecDeque;
use std::time::Duration;

use super::meter::{Judge, share_of};
use crate::Rate;

#[derive(Clone, Debug)]
pub(super) struct Window {
    /// The whole limit.
    rate: Rate,
    limit: u64,
    is_sliding: bool,
    /// What was let in and still counts, by its time.
    counted: VecDeque<(Duration, u64)>,
}

impl Window {
    pub(super) fn new(rate: Rate, is_sliding: bool) -> Self {
        Self {
            rate,
            limit: rate.units(),
            is_sliding,
            counted: VecDeque::new(),
        }
    }

    fn in_force(&self, at: Duration) -> impl Iterator<Item = &(Duration, u64)> {
        let period = self.rate.period();
        let counts = |then: Duration| {
            if self.is_sliding {
                then + period > at
            } else {
                then + period >= at + self.left(at)
            }
        };
        let old = self.counted.partition_point(|(then, _)| !counts(*then));
        self.counted.range(old..)
    }

    /// What is left of a fixed period.
    fn left(&self, at: Duration) -> Duration {
        let period = self.rate.period();
        let gone = u64::try_from(at.as_nanos() % period.as_nanos().max(1)).unwrap_or(0);
        period.saturating_sub(Duration::from_nanos(gone))
    }
}

impl Judge for Window {
    fn wait(&self, at: Duration, cost: u64) -> Duration {
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
                return (*then + self.rate.period()).saturating_sub(at);
            }
        }
        self.rate.period()
    }

    fn charge(&mut self, at: Duration, cost: u64) {
        let old = self.counted.len() - self.in_force(at).count();
        self.counted.drain(..old);
        self.counted.push_back((at, cost));
    }

    fn used(&self, at: Duration) -> u64 {
        self.in_force(at).map(|(_, units)| units).sum()
    }

    fn time_to_empty(&self, at: Duration) -> Duration {
        match self.in_force(at).last() {
            _ if !self.is_sliding => self.left(at),
            Some((then, _)) => (*then + self.rate.period()).saturating_sub(at),
            None => Duration::ZERO,
        }
    }

    fn set_share(&mut self, share: f64, _: Duration) {
        self.limit = share_of(self.rate.units(), share);
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
        let mut window = Window::new(Rate::per_minute(3), false);
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
        let mut window = Window::new(Rate::per_minute(3), true);
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
