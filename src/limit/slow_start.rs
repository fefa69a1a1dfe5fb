//! A pause's end without a burst, for a limiter without a request rate.
//!
//! All that have waited for the end of the pause would else be sent in one instant. Where there is
//! a rate, its bucket is empty after a pause and does the same. If the pause was for a few refusals
//! among others, each answer that lets in what was sent since lets two more go at once.

use super::bucket::{Bucket, Nanos};
use super::rate::Rate;

/// Spreads the first requests after a pause.
#[derive(Debug)]
pub(super) struct SlowStart {
    bucket: Bucket,
    since: Nanos,
    until: Nanos,
    /// How many may go at once, as answers have told.
    free: u32,
}

/// How long the slow start takes at most. It takes no longer than the pause did: a server that
/// often asks for a few milliseconds would otherwise see no more than `concurrency` requests a
/// second.
const SLOW_START: Nanos = 1_000_000_000;
/// So many more go for each that is let in.
const FOR_EACH: u32 = 2;
/// How many requests a second the slow start admits at most; concurrency may be without limit.
const SLOW_START_MAX: u64 = 1_000;

impl SlowStart {
    /// For so many permits, after a pause from `now` on.
    pub(super) fn new(permits: usize, paused_until: Nanos, now: Nanos) -> Self {
        let length = SLOW_START.min(paused_until.saturating_sub(now)).max(1);
        let rate = permits as u128 * u128::from(SLOW_START) / u128::from(length);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let rate = Rate::per_second(rate.clamp(1, SLOW_START_MAX));
        Self {
            // One unit at the end of the pause, so that the first request waits no longer than
            // that.
            bucket: Bucket::full(rate, 1, paused_until),
            since: paused_until,
            until: paused_until.saturating_add(length),
            free: 0,
        }
    }

    /// Takes note that a request was let in that was sent at `sent`. Returns whether more may go
    /// for that.
    pub(super) fn let_in(&mut self, sent: Nanos) -> bool {
        let is_news = sent >= self.since;
        if is_news {
            self.free = self.free.saturating_add(FOR_EACH);
        }
        is_news
    }

    pub(super) fn is_over(&self, now: Nanos) -> bool {
        now >= self.until
    }

    pub(super) fn earliest(&mut self, now: Nanos) -> Nanos {
        if self.free > 0 {
            return now;
        }
        self.bucket.earliest(1, now)
    }

    pub(super) fn take(&mut self, now: Nanos) {
        match self.free.checked_sub(1) {
            Some(free) => self.free = free,
            None => self.bucket.take(1, now),
        }
    }
}
