//! The permit: leave to send one request.

use std::fmt;
use std::sync::Arc;

use super::queue::Users;
use super::rate::Cost;
use super::state::Start;
use crate::binding::{Binding, Times};

/// Leave to send one request. It counts as in flight until it is dropped.
///
/// [`settle`](Permit::settle) replaces the estimate of model tokens by the real usage. A permit
/// that is dropped without it, by a panic too, keeps its estimate. The request itself is never
/// refunded.
///
/// ```
/// use tollgate::{Cost, Limiter, Rate};
///
/// let limiter = Limiter::builder().tokens(Rate::per_minute(60_000)).concurrency(2).build()?;
/// let permit = limiter.acquire(Cost::tokens(900))?; // waits for its turn
/// assert_eq!(limiter.in_flight(), 1);
/// // ... send the request, read its usage ...
/// permit.settle(420);
/// assert_eq!(limiter.in_flight(), 0);
/// # Ok::<(), tollgate::Error>(())
/// ```
#[must_use = "a permit ends when it is dropped"]
pub struct Permit {
    pub(super) users: Arc<Users>,
    pub(super) cost: Cost,
    pub(super) used: Cost,
    pub(super) waited: Times,
    pub(super) start: Start,
    pub(super) failed: bool,
    pub(super) let_in: bool,
}

impl Permit {
    /// Ends the permit, and counts `tokens` model tokens in place of the estimate. Fewer than
    /// estimated are refunded. More become a debt, which later admissions wait for.
    pub fn settle(mut self, tokens: u64) {
        self.used = self.cost.with_used(tokens);
    }

    /// As [`settle`](Self::settle), with the tokens of prompt and answer apart.
    pub(crate) fn settle_with(mut self, used: Cost) {
        self.used = used;
    }

    /// Says that the request has failed. If the concurrency is a [range](crate::Concurrency), the
    /// limiter then does not go by how long this request took.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// Says that the server has let the request in. The limiter learns from it when the permit
    /// ends, under the lock that it takes then.
    pub(crate) fn let_in(&mut self) {
        self.let_in = true;
    }

    /// The concurrency when this request was admitted.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.start.most
    }

    /// What was reserved.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// How long the wait for this permit was, by what it was for.
    pub fn waited(&self) -> Times {
        self.waited
    }
}

impl Drop for Permit {
    /// One fewer is in flight, and the model tokens that were used count in place of the reserved.
    #[inline]
    fn drop(&mut self) {
        let (reserved, used) = (self.cost, self.used);
        self.users.update(|locked, now| {
            let sooner = self.let_in && locked.limits.let_in(self.start, now);
            let end = (self.start, !self.failed);
            locked.limits.end(reserved, used, end, now);
            let head = locked.head_if(|reason| match reason {
                Binding::InFlight => true,
                Binding::Tokens | Binding::InputTokens | Binding::OutputTokens => {
                    sooner || used.model_tokens() < reserved.model_tokens()
                }
                _ => sooner,
            });
            ((), head)
        });
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("cost", &self.cost)
            .field("waited", &self.waited)
            .finish_non_exhaustive()
    }
}
