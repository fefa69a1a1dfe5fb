//! Everything a limiter allows, as one pure state: requests, model tokens, places in flight and
//! the pause, looked at and taken together.
//!
//! The lock, the queue and the waiting are in [`super::queue`]; this file only answers *now*,
//! *at which instant*, or *when somebody leaves*.

use super::bucket::{Bucket, Nanos};
use super::rate::{Cost, Rate};
use crate::error::{Error, ErrorKind, Result};

/// What the head of the queue waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitReason {
    Requests,
    Tokens,
    Pause,
    InFlight,
}

/// Whether a cost may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Now,
    /// Not before this instant, and for this reason.
    At(Nanos, WaitReason),
    /// When a place in flight becomes free.
    WhenFreed,
}

#[derive(Debug)]
pub(crate) struct LimiterState {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    concurrency: usize,
    in_flight: usize,
    paused_until: Nanos,
    restart: Option<Restart>,
}

/// A gentle start after a pause for a limiter without a request rate: the bucket that is empty
/// after a pause is what spreads the others, and such a limiter has none, so that every place in
/// flight would be taken in one instant by requests that all have waited for it.
#[derive(Debug)]
struct Restart {
    bucket: Bucket,
    until: Nanos,
}

/// How long the gentle start lasts at the most; the places in flight are filled evenly over it. It
/// is no longer than the pause before it, in which so much and no more has piled up: a server that
/// asks for milliseconds now and then would otherwise be sent as many a second as there are places.
const RESTART: Nanos = 1_000_000_000;
/// And how many a second it lets through at the most, where the places are without number.
const RESTART_MAX: u64 = 1_000;

impl LimiterState {
    pub(crate) fn new(concurrency: usize) -> Self {
        Self {
            requests: None,
            tokens: None,
            concurrency,
            in_flight: 0,
            paused_until: 0,
            restart: None,
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency
    }

    pub(crate) fn set_concurrency(&mut self, places: usize) {
        self.concurrency = places;
    }

    pub(crate) fn limits_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Sets, changes or (with `None`) lifts the request rate.
    pub(crate) fn set_requests(&mut self, rate: Option<(Rate, u64)>, now: Nanos) {
        let was_limited = self.requests.is_some();
        set(&mut self.requests, rate, self.paused_until, now);
        if was_limited && self.requests.is_none() && now < self.paused_until {
            self.start_gently(now);
        }
    }

    /// Sets, changes or (with `None`) lifts the token rate.
    pub(crate) fn set_tokens(&mut self, rate: Option<(Rate, u64)>, now: Nanos) {
        set(&mut self.tokens, rate, self.paused_until, now);
    }

    /// Refuses a cost that would wait for ever.
    #[inline]
    pub(crate) fn fits(&self, cost: Cost) -> Result<()> {
        let check = |bucket: &Option<Bucket>, asked: u64, what: &str| match bucket {
            Some(bucket) if asked > bucket.largest() => {
                Err(never_fits(asked, what, bucket.largest()))
            }
            _ => Ok(()),
        };
        check(&self.requests, cost.requests(), "requests")?;
        check(&self.tokens, cost.model_tokens(), "model tokens")
    }

    /// Whether the time makes a difference to [`admit`](Self::admit).
    pub(crate) fn goes_by_time(&self) -> bool {
        // A gentle start comes after a pause only.
        self.requests.is_some() || self.tokens.is_some() || self.paused_until > 0
    }

    /// Takes `cost` if it may go now, all of it or nothing.
    pub(crate) fn admit(&mut self, cost: Cost, now: Nanos) -> Admission {
        let admission = self.check(cost, now);
        if admission == Admission::Now {
            self.take(cost, now);
        }
        admission
    }

    fn check(&mut self, cost: Cost, now: Nanos) -> Admission {
        if self.in_flight >= self.concurrency {
            return Admission::WhenFreed;
        }
        let mut latest = (now, WaitReason::Requests);
        let mut consider = |at: Nanos, why: WaitReason| {
            if at > latest.0 {
                latest = (at, why);
            }
        };
        consider(self.paused_until, WaitReason::Pause);
        if let Some(requests) = &mut self.requests {
            consider(
                requests.earliest(cost.requests(), now),
                WaitReason::Requests,
            );
        }
        if let Some(tokens) = &mut self.tokens {
            consider(
                tokens.earliest(cost.model_tokens(), now),
                WaitReason::Tokens,
            );
        }
        if let Some(restart) = &mut self.restart {
            if now < restart.until {
                consider(restart.bucket.earliest(1, now), WaitReason::Pause);
            } else {
                self.restart = None;
            }
        }
        match latest {
            (at, _) if at <= now => Admission::Now,
            (at, why) => Admission::At(at, why),
        }
    }

    /// Takes what [`check`](Self::check) has just allowed.
    fn take(&mut self, cost: Cost, now: Nanos) {
        self.in_flight += 1;
        if let Some(requests) = &mut self.requests {
            requests.take(cost.requests(), now);
        }
        if let Some(tokens) = &mut self.tokens {
            tokens.take(cost.model_tokens(), now);
        }
        if let Some(restart) = &mut self.restart {
            restart.bucket.take(1, now);
        }
    }

    /// Frees so many places; what was taken stays taken.
    pub(crate) fn release(&mut self, places: usize) {
        self.in_flight -= places;
    }

    /// Corrects the tokens that were taken for `cost` to `used`.
    pub(crate) fn settle(&mut self, cost: Cost, used: u64, now: Nanos) {
        if let Some(tokens) = &mut self.tokens {
            tokens.settle(cost.model_tokens(), used, now);
        }
    }

    /// Admits nothing before `until`, and starts gently from there. Never shortens a pause.
    pub(crate) fn pause(&mut self, until: Nanos, now: Nanos) {
        if until <= self.paused_until || until <= now {
            return;
        }
        self.paused_until = until;
        for bucket in [&mut self.requests, &mut self.tokens].into_iter().flatten() {
            bucket.hold(until, now);
        }
        if self.requests.is_none() {
            self.start_gently(now);
        }
    }

    /// Until when nothing is admitted; in the past if there is no pause.
    pub(crate) fn paused_until(&self) -> Nanos {
        self.paused_until
    }

    fn start_gently(&mut self, now: Nanos) {
        let lasts = RESTART.min(self.paused_until.saturating_sub(now)).max(1);
        let places = self.concurrency as u64;
        let rate = u64::try_from(u128::from(places) * u128::from(RESTART) / u128::from(lasts));
        let rate = rate.unwrap_or(u64::MAX).clamp(1, RESTART_MAX);
        self.restart = Some(Restart {
            // With its first unit at the end of the pause: a single place would otherwise wait a
            // second longer than it was told to.
            bucket: Bucket::full(Rate::per_second(rate), 1, self.paused_until),
            until: self.paused_until.saturating_add(lasts),
        });
    }
}

#[cold]
fn never_fits(asked: u64, what: &str, largest: u64) -> Error {
    Error::new(
        ErrorKind::NeverFits,
        format!(
            "needs {asked} {what} at once and the limit allows {largest} in a whole period: \
             make it smaller or raise the limit"
        ),
    )
}

/// A limit that is new starts full, unless it starts in a pause, which ends without a burst.
fn set(bucket: &mut Option<Bucket>, rate: Option<(Rate, u64)>, paused_until: Nanos, now: Nanos) {
    match (bucket.as_mut(), rate) {
        (Some(bucket), Some((rate, capacity))) => bucket.change(rate, capacity, now),
        (_, rate) => {
            *bucket = rate.map(|(rate, capacity)| Bucket::full(rate, capacity, now));
            if let Some(bucket) = bucket
                && now < paused_until
            {
                bucket.hold(paused_until, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn both() -> LimiterState {
        let mut allowance = LimiterState::new(2);
        allowance.set_requests(Some((Rate::per_second(10), 10)), 0);
        allowance.set_tokens(Some((Rate::per_minute(600), 10)), 0);
        allowance
    }

    #[test]
    fn the_later_of_both_buckets_decides_and_nothing_is_taken_meanwhile() {
        let mut allowance = both();
        allowance.take(Cost::tokens(10), 0);
        let refused = Admission::At(SECOND / 2, WaitReason::Tokens);
        assert_eq!(allowance.check(Cost::tokens(5), 0), refused);
        assert_eq!(
            allowance.check(Cost::tokens(5), 0),
            refused,
            "asking costs nothing"
        );
        assert_eq!(allowance.check(Cost::ONE, 0), Admission::Now);
    }

    #[test]
    fn a_full_house_waits_for_somebody_to_leave() {
        let mut allowance = both();
        allowance.take(Cost::ONE, 0);
        allowance.take(Cost::ONE, 0);
        assert_eq!(allowance.check(Cost::ONE, 0), Admission::WhenFreed);
        allowance.release(1);
        assert_eq!(allowance.check(Cost::ONE, 0), Admission::Now);
    }

    #[test]
    fn requests_stay_taken_and_tokens_are_given_back() {
        let mut allowance = both();
        allowance.take(Cost::tokens(10).with_requests(10), 0);
        allowance.release(1);
        allowance.settle(Cost::tokens(10).with_requests(10), 0, 0);
        assert_eq!(
            allowance.check(Cost::tokens(10), 0),
            Admission::At(SECOND / 10, WaitReason::Requests)
        );
    }

    #[test]
    fn more_than_a_period_allows_never_fits() {
        let allowance = both();
        assert!(allowance.fits(Cost::tokens(600)).is_ok(), "above the burst");
        let error = allowance.fits(Cost::tokens(601)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NeverFits);
    }

    #[test]
    fn a_pause_holds_everyone_and_ends_without_a_burst() {
        let mut allowance = both();
        allowance.pause(5 * SECOND, 0);
        allowance.pause(3 * SECOND, 0);
        let first = 5 * SECOND + SECOND / 10;
        assert_eq!(
            allowance.check(Cost::ONE, 0),
            Admission::At(first, WaitReason::Requests)
        );
        assert_eq!(allowance.check(Cost::ONE, first), Admission::Now);
        allowance.take(Cost::ONE, first);
        assert_ne!(allowance.check(Cost::ONE, first), Admission::Now);
    }

    #[test]
    fn a_limit_lifted_or_set_during_a_pause_ends_it_without_a_burst_too() {
        let mut allowance = both();
        allowance.pause(5 * SECOND, 0);
        allowance.set_requests(None, SECOND);
        allowance.set_tokens(None, SECOND);
        let end = 5 * SECOND;
        assert_eq!(
            allowance.check(Cost::ONE, SECOND),
            Admission::At(end, WaitReason::Pause)
        );
        allowance.take(Cost::ONE, end);
        assert_eq!(
            allowance.check(Cost::ONE, end),
            Admission::At(end + SECOND / 2, WaitReason::Pause),
            "two places, filled over a second"
        );
        allowance.release(1);
        let mut allowance = both();
        allowance.pause(end, 0);
        allowance.set_tokens(None, SECOND);
        allowance.set_tokens(Some((Rate::per_second(1), 10)), SECOND);
        assert_eq!(
            allowance.check(Cost::tokens(3), SECOND),
            Admission::At(8 * SECOND, WaitReason::Tokens)
        );
    }

    #[test]
    fn without_a_rate_the_places_are_filled_evenly_after_a_pause() {
        let mut allowance = LimiterState::new(50);
        allowance.pause(5 * SECOND, 0);
        let mut now = 5 * SECOND;
        assert_eq!(
            allowance.check(Cost::ONE, 0),
            Admission::At(now, WaitReason::Pause)
        );
        assert_eq!(allowance.check(Cost::ONE, now), Admission::Now, "one goes");
        allowance.take(Cost::ONE, now);
        allowance.release(1);
        let mut admitted = Vec::new();
        while let Admission::At(at, WaitReason::Pause) = allowance.check(Cost::ONE, now) {
            now = at;
            allowance.take(Cost::ONE, now);
            allowance.release(1);
            admitted.push(now);
        }
        assert_eq!(admitted.first(), Some(&(5 * SECOND + SECOND / 50)));
        assert_eq!(admitted.len(), 50);
        assert_eq!(
            allowance.check(Cost::ONE, now),
            Admission::Now,
            "and then freely"
        );
    }

    #[test]
    fn a_short_pause_has_a_short_start() {
        let mut allowance = LimiterState::new(50);
        allowance.pause(SECOND / 10, 0);
        let mut now = SECOND / 10;
        let mut admitted = 0;
        while now <= SECOND / 5 {
            match allowance.check(Cost::ONE, now) {
                Admission::At(at, _) => now = at,
                _ if now == SECOND / 5 => break,
                _ => {
                    allowance.take(Cost::ONE, now);
                    allowance.release(1);
                    admitted += 1;
                }
            }
        }
        assert_eq!(admitted, 50, "all places within a tenth of a second");
        for _ in 0..1_000 {
            assert_eq!(allowance.check(Cost::ONE, now), Admission::Now);
            allowance.take(Cost::ONE, now);
            allowance.release(1);
        }
    }
}
