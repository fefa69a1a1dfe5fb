//! How many units were used lately, to ask for as many.

use super::bucket::Nanos;

/// How much was used in the last two spans of a lease's length.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    since: Nanos,
    before: u64,
    now: u64,
}

impl Used {
    pub(super) fn add(&mut self, units: u64, now: Nanos, length: Nanos) -> u64 {
        self.roll(now, length);
        self.now = self.now.saturating_add(units);
        self.before.saturating_add(self.now)
    }

    pub(super) fn sum(&mut self, now: Nanos, length: Nanos) -> u64 {
        self.roll(now, length);
        self.before.saturating_add(self.now)
    }

    fn roll(&mut self, now: Nanos, length: Nanos) {
        let passed = now.saturating_sub(self.since);
        if passed >= length {
            self.before = if passed < 2 * length { self.now } else { 0 };
            self.now = 0;
            self.since = now;
        }
    }
}
