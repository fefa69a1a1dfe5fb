//! Permits: leave to send, settled when dropped.

use std::time::Duration;

use super::limiter::Limiter;
use super::rate::Cost;
use super::state::WaitReason;

/// Leave to send one request; the place in flight is free again when it is dropped.
///
/// [`settle`](Permit::settle) corrects the token estimate to the real usage. A permit dropped
/// without it, by a panic too, keeps its estimate. The request itself is never given back.
#[derive(Debug)]
#[must_use = "a permit frees its place when it is dropped"]
pub struct Permit {
    pub(super) limiter: Limiter,
    pub(super) cost: Cost,
    pub(super) used: u64,
    pub(super) waited: Waited,
}

impl Permit {
    /// Frees the place and counts `tokens` model tokens in place of the estimate: fewer are given
    /// back, more are a debt that later admissions wait for.
    pub fn settle(mut self, tokens: u64) {
        self.used = tokens;
    }

    /// What was reserved.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// How long this permit was waited for.
    pub fn waited(&self) -> Waited {
        self.waited
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        let shared = &self.limiter.0;
        if self.used != self.cost.model_tokens() {
            shared.settle(self.cost, self.used);
        } else if shared.freed.add() {
            shared.ring_for_a_place();
        }
    }
}

/// How long an admission waited, by what it waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waited {
    /// For the request rate.
    pub requests: Duration,
    /// For the token rate.
    pub tokens: Duration,
    /// For a pause to end.
    pub pause: Duration,
    /// For a place in flight.
    pub in_flight: Duration,
    /// For others that came first.
    pub queue: Duration,
}

impl Waited {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.requests + self.tokens + self.pause + self.in_flight + self.queue
    }

    pub(super) fn add(&mut self, why: Option<WaitReason>, time: Duration) {
        *match why {
            Some(WaitReason::Requests) => &mut self.requests,
            Some(WaitReason::Tokens) => &mut self.tokens,
            Some(WaitReason::Pause) => &mut self.pause,
            Some(WaitReason::InFlight) => &mut self.in_flight,
            None => &mut self.queue,
        } += time;
    }
}
