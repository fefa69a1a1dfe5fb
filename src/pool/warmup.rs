//! The warm-up: the first items of a run go before all others. A provider that caches the
//! beginnings of prompts has them in its cache when the others come.

/// How far the warm-up of a run is. If an item has its outcome and was never sent, the next item
/// takes its place in the warm-up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Warmup {
    /// Items that may begin now.
    to_begin: u64,
    /// Items that must be sent and end before the others begin. While this is above 0, every item
    /// that has begun belongs to the warm-up.
    to_end: u64,
}

impl Warmup {
    /// The first `items` go before the others. With 0 there is no warm-up.
    pub(super) fn of(items: u64) -> Self {
        Self {
            to_begin: items,
            to_end: items,
        }
    }

    /// Whether a new item may begin.
    pub(super) fn lets_in(&self) -> bool {
        self.to_end == 0 || self.to_begin > 0
    }

    /// A new item begins. A run that was stopped does not ask [`lets_in`](Self::lets_in) before.
    pub(super) fn begun(&mut self) {
        self.to_begin = self.to_begin.saturating_sub(1);
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
        let mut warmup = Warmup::of(2);
        for _ in 0..2 {
            assert!(warmup.lets_in());
            warmup.begun();
        }
        assert!(!warmup.lets_in());
        assert!(warmup.ended(false), "another in place of what was not sent");
        warmup.begun();
        assert!(!warmup.lets_in() && !warmup.ended(true));
        assert!(!warmup.lets_in() && warmup.ended(true));
        for _ in 0..3 {
            assert!(warmup.lets_in());
            warmup.begun();
            assert!(!warmup.ended(true), "nobody waits for it");
        }
        assert!(Warmup::of(0).lets_in());
    }
}
