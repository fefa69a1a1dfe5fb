//! The warm-up: the first items of a run go before all others. A provider that caches the
//! beginnings of prompts has them in its cache when the others come.

use std::time::{Duration, Instant};

/// How far the warm-up of a run is. If an item has its outcome and was never sent, the next item
/// takes its place in the warm-up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Warmup {
    /// Items that may begin now.
    to_begin: u64,
    /// Items that must be sent and end before the others begin. While this is above 0, every item
    /// that has begun belongs to the warm-up.
    to_end: u64,
    /// Since when the item that is next waits for it.
    since: Option<Instant>,
}

impl Warmup {
    /// The first `items` go before the others. With 0 there is no warm-up.
    pub(super) fn of(items: u64) -> Self {
        Self {
            to_begin: items,
            to_end: items,
            since: None,
        }
    }

    /// Whether a new item may begin.
    pub(super) fn lets_in(&self) -> bool {
        self.to_end == 0 || self.to_begin > 0
    }

    /// The item that is next waits from now on, if it has not waited before.
    pub(super) fn keeps_waiting(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// A new item begins. Returns how long it has waited for the warm-up. A run that was stopped
    /// does not ask [`lets_in`](Self::lets_in) before.
    pub(super) fn begun(&mut self, now: Instant) -> Duration {
        self.to_begin = self.to_begin.saturating_sub(1);
        let since = self.since.take();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// An item has its outcome. Returns whether others waited for it.
    pub(super) fn ended(&mut self, was_sent: bool) -> bool {
        if self.to_end == 0 {
            return false;
        }
        if was_sent {
            self.to_end -= 1;
        } else {
            self.to_begin += 1;
        }
        self.lets_in()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_begin_when_the_first_have_been_sent_and_have_ended() {
        let (mut warmup, start) = (Warmup::of(2), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        for _ in 0..2 {
            assert!(warmup.lets_in());
            assert!(warmup.begun(start).is_zero());
        }
        assert!(!warmup.lets_in());
        warmup.keeps_waiting(at(1));
        assert!(warmup.ended(false), "another in place of what was not sent");
        assert_eq!(warmup.begun(at(2)), Duration::from_secs(1));
        for second in 3..5 {
            warmup.keeps_waiting(at(second));
        }
        assert!(!warmup.lets_in() && !warmup.ended(true));
        assert!(!warmup.lets_in() && warmup.ended(true));
        for waited in [2, 0, 0] {
            assert!(warmup.lets_in());
            assert_eq!(warmup.begun(at(5)), Duration::from_secs(waited));
            assert!(!warmup.ended(true), "nobody waits for it");
        }
        assert!(Warmup::of(0).lets_in());
    }
}
