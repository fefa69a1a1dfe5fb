//! What an admission waits for, and how long it did.

use std::ops::AddAssign;
use std::time::Duration;

use super::bucket::Nanos;
use crate::binding::{Binding, Times};

/// Whether a cost is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Now,
    /// Not before this instant, and for this reason.
    At(Nanos, WaitReason),
    /// As many are in flight as may be: when one of them finishes.
    WhenReleased,
    /// Not before more of the shared limit is leased. Until then it waits for this reason.
    WhenLeased(WaitReason),
}

/// What the head of the queue waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitReason {
    Requests,
    Tokens,
    Pause,
    InFlight,
    SharedLimit,
}

impl From<WaitReason> for Binding {
    fn from(reason: WaitReason) -> Self {
        match reason {
            WaitReason::Requests => Self::Requests,
            WaitReason::Tokens => Self::Tokens,
            WaitReason::Pause => Self::Pause,
            WaitReason::InFlight => Self::InFlight,
            WaitReason::SharedLimit => Self::SharedLimit,
        }
    }
}

/// How long an admission waited, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waited {
    /// For the rate of requests.
    pub requests: Duration,
    /// For the rate of model tokens.
    pub tokens: Duration,
    /// For a pause to end.
    pub pause: Duration,
    /// For one of the requests in flight to finish.
    pub in_flight: Duration,
    /// For the store of a shared limit to answer for the first time, or to be back.
    pub shared_limit: Duration,
    /// For those ahead in the queue.
    pub queue: Duration,
}

impl Waited {
    /// The sum of all reasons.
    pub fn total(&self) -> Duration {
        self.requests + self.tokens + self.pause + self.in_flight + self.shared_limit + self.queue
    }

    /// Adds it to where an item's time went.
    pub(crate) fn add_to(&self, times: &mut Times) {
        times.add(Binding::Requests, self.requests);
        times.add(Binding::Tokens, self.tokens);
        times.add(Binding::Pause, self.pause);
        times.add(Binding::InFlight, self.in_flight);
        times.add(Binding::SharedLimit, self.shared_limit);
        times.add(Binding::Queue, self.queue);
    }

    /// Without a reason, the time counts for the queue.
    pub(super) fn add(&mut self, reason: Option<WaitReason>, time: Duration) {
        *match reason {
            Some(WaitReason::Requests) => &mut self.requests,
            Some(WaitReason::Tokens) => &mut self.tokens,
            Some(WaitReason::Pause) => &mut self.pause,
            Some(WaitReason::InFlight) => &mut self.in_flight,
            Some(WaitReason::SharedLimit) => &mut self.shared_limit,
            None => &mut self.queue,
        } += time;
    }
}

impl AddAssign for Waited {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.tokens += other.tokens;
        self.pause += other.pause;
        self.in_flight += other.in_flight;
        self.shared_limit += other.shared_limit;
        self.queue += other.queue;
    }
}
