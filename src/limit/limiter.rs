//! The limiter as its users see it: a handle on the [`queue`](super::queue) and what is behind it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bucket::Nanos;
use super::builder::{LimiterBuilder, checked_concurrency, with_burst};
use super::nested::{self, Held};
use super::permit::{Permit, Waited};
use super::queue::{FOREVER, Shared, Ticket, Waiter, cancelled};
use super::rate::{Cost, Rate};
use super::state::{Admission, LimiterState};
use crate::cancel::Cancel;
use crate::clock::{Clock, Parker, unpark};
use crate::error::{Error, ErrorKind, Result};

/// The gate: at most so many requests and model tokens in any time, and so many in flight.
///
/// In every window of length T it admits at most `burst + rate · T` requests; of model tokens, net
/// of refunds, at most `max(burst, largest single cost) + rate · T`, counted as reserved. All three
/// limits are looked at and taken together, under one lock. Waiting is first come, first served.
///
/// Cloning is cheap and gives the same limiter; share it between clients, pools and plain threads,
/// in a rayon or tokio task as well: waiting blocks the thread that asks and no other.
///
/// The three ways to ask: [`try_acquire`](Limiter::try_acquire) answers at once and says *when*,
/// [`acquire`](Limiter::acquire) waits, [`acquire_timeout`](Limiter::acquire_timeout) and
/// [`acquire_cancellable`](Limiter::acquire_cancellable) wait so long, or until called off.
///
/// ```
/// use tollgate::{Cost, Limiter, Rate};
///
/// let limiter = Limiter::builder()
///     .requests(Rate::per_second(100))
///     .tokens(Rate::per_minute(90_000))
///     .concurrency(8)
///     .build()?;
///
/// std::thread::scope(|scope| {
///     for _ in 0..16 {
///         scope.spawn(|| {
///             let permit = limiter.acquire(Cost::tokens(500))?;
///             // ... send the request, read its usage ...
///             permit.settle(420);
///             Ok::<(), tollgate::Error>(())
///         });
///     }
/// });
/// assert_eq!(limiter.in_flight(), 0);
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone)]
pub struct Limiter(pub(super) Arc<Shared>);

/// Why [`Limiter::try_acquire`] gave no permit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// Not before this instant. Exact if nothing else is admitted, refunded or changed meanwhile.
    NotUntil(Instant),
    /// All places in flight are taken, or others wait already: nobody can tell when.
    Busy,
    /// Never: it does not fit, or would deadlock.
    Never(Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUntil(_) => f.write_str("the limit is reached for now"),
            Self::Busy => f.write_str("others are in flight or waiting already"),
            Self::Never(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

impl Limiter {
    /// Starts a limiter that limits nothing; add to it.
    pub fn builder() -> LimiterBuilder {
        LimiterBuilder::default()
    }

    /// Waits for a permit, however long it takes.
    ///
    /// # Errors
    /// [`ErrorKind::NeverFits`] for a cost above what a whole period allows, and
    /// [`ErrorKind::Nested`] inside a pool's job that this limiter admitted; both at once.
    pub fn acquire(&self, cost: Cost) -> Result<Permit> {
        self.acquire_until(cost, None, None)
    }

    /// Waits for a permit, at most so long.
    ///
    /// # Errors
    /// As [`acquire`](Limiter::acquire), and [`ErrorKind::Deadline`] when the time is over, or at
    /// once when a pause makes it certain that it will not do.
    pub fn acquire_timeout(&self, cost: Cost, timeout: Duration) -> Result<Permit> {
        self.acquire_until(cost, self.0.clock.now().checked_add(timeout), None)
    }

    /// Waits for a permit until `cancel` is raised.
    ///
    /// # Errors
    /// As [`acquire`](Limiter::acquire), and [`ErrorKind::Cancelled`].
    pub fn acquire_cancellable(&self, cost: Cost, cancel: &Cancel) -> Result<Permit> {
        self.acquire_until(cost, None, Some(cancel))
    }

    /// A permit now, or word of when to come back.
    ///
    /// # Errors
    /// A [`Refusal`]. Nothing is reserved by asking.
    #[inline]
    pub fn try_acquire(&self, cost: Cost) -> Result<Permit, Refusal> {
        // This much is inlined: the caller's permit is then made in its place, not handed over in
        // memory, which costs as much as a lock.
        self.try_take(cost)?;
        Ok(self.permit(cost, Waited::default()))
    }

    fn try_take(&self, cost: Cost) -> Result<(), Refusal> {
        self.check_nested().map_err(Refusal::Never)?;
        let mut state = self.0.lock();
        state.allowance.fits(cost).map_err(Refusal::Never)?;
        if !state.queue.is_empty() {
            return Err(Refusal::Busy);
        }
        let now = self.0.time_for(&state.allowance);
        match state.allowance.admit(cost, now) {
            Admission::Now => Ok(()),
            Admission::At(at, _) => Err(Refusal::NotUntil(self.0.instant(at))),
            Admission::WhenFreed => Err(Refusal::Busy),
        }
    }

    pub(crate) fn acquire_until(
        &self,
        cost: Cost,
        deadline: Option<Instant>,
        cancel: Option<&Cancel>,
    ) -> Result<Permit> {
        self.check_nested()?;
        let ticket = {
            let mut state = self.0.lock();
            state.allowance.fits(cost)?;
            if cancel.is_some_and(Cancel::is_cancelled) {
                return Err(cancelled());
            }
            let now = self.0.time_for(&state.allowance);
            if state.queue.is_empty() && state.allowance.admit(cost, now) == Admission::Now {
                drop(state);
                return Ok(self.permit(cost, Waited::default()));
            }
            let id = state.next_ticket;
            state.next_ticket += 1;
            let parker = Parker::new();
            let waiter = Waiter {
                parker: Arc::clone(&parker),
                deadline,
            };
            state.queue.insert(id, waiter);
            Ticket {
                limiter: self,
                id,
                parker,
            }
        };
        let waited = ticket.wait(cost, deadline, cancel)?;
        Ok(self.permit(cost, waited))
    }

    /// Admits nothing before `until`, and starts gently from there: the buckets are empty then, so
    /// there is no burst after a pause. A pause is never shortened by another. Whoever waits with a
    /// deadline before its end is told at once.
    pub fn pause_until(&self, until: Instant) {
        let too_late: Vec<_> = {
            let mut state = self.0.lock();
            let now = self.0.now();
            state.allowance.pause(self.0.nanos(until), now);
            let paused_until = self.0.instant(state.allowance.paused_until());
            // Nobody else is woken: a head that waits for an earlier instant looks again then.
            state
                .queue
                .values()
                .filter(|waiter| waiter.deadline.is_some_and(|at| at < paused_until))
                .map(|waiter| Arc::clone(&waiter.parker))
                .collect()
        };
        for parker in too_late {
            parker.unpark();
        }
    }

    /// As [`pause_until`](Limiter::pause_until), counted from now.
    pub fn pause_for(&self, pause: Duration) {
        let now = self.0.clock.now();
        // A pause beyond the clock's end is for ever, as near as the clock can tell.
        self.pause_until(now.checked_add(pause).unwrap_or(now + FOREVER));
    }

    /// Changes the request rate, its burst one second's worth; `None` lifts the limit. What has
    /// been earned at the old rate stays earned, and whoever waits is re-timed at once.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an unusable rate; nothing is changed then.
    pub fn set_requests(&self, rate: Option<Rate>) -> Result<()> {
        let rate = with_burst(rate, None, "request")?;
        self.change(|allowance, now| allowance.set_requests(rate, now));
        Ok(())
    }

    /// As [`set_requests`](Limiter::set_requests), for model tokens.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an unusable rate; nothing is changed then.
    pub fn set_tokens(&self, rate: Option<Rate>) -> Result<()> {
        let rate = with_burst(rate, None, "token")?;
        self.change(|allowance, now| allowance.set_tokens(rate, now));
        Ok(())
    }

    /// Changes how many may be in flight. Fewer than now are is fine: nobody is admitted until
    /// enough have left.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for zero.
    pub fn set_concurrency(&self, places: usize) -> Result<()> {
        let places = checked_concurrency(places)?;
        self.change(|allowance, _| allowance.set_concurrency(places));
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut LimiterState, Nanos)) {
        let head = {
            let mut state = self.0.lock();
            let now = self.0.now();
            change(&mut state.allowance, now);
            state.head_if(|_| true)
        };
        unpark(head);
    }

    /// How many may be in flight at once.
    pub fn concurrency(&self) -> usize {
        self.0.lock().allowance.concurrency()
    }

    /// How many permits are out.
    pub fn in_flight(&self) -> usize {
        self.0.lock().allowance.in_flight()
    }

    /// How many threads wait for a permit.
    pub fn waiting(&self) -> usize {
        self.0.lock().queue.len()
    }

    /// The clock this limiter goes by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Whether a token rate is set, so that an estimate is worth making.
    pub(crate) fn limits_tokens(&self) -> bool {
        self.0.lock().allowance.limits_tokens()
    }

    /// Marks this thread as running a job under one of this limiter's permits.
    pub(crate) fn mark_held(&self) -> Held {
        Held::mark(self.identity())
    }

    /// Refuses a thread that already holds a permit of this limiter for a pool's job.
    pub(crate) fn check_nested(&self) -> Result<()> {
        if nested::is_held(self.identity()) {
            return Err(Error::new(
                ErrorKind::Nested,
                "called inside a job that already holds a permit of this limiter, which could wait \
                 for ever: do it after the job, or give it a limiter of its own",
            ));
        }
        Ok(())
    }

    fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    #[inline]
    fn permit(&self, cost: Cost, waited: Waited) -> Permit {
        Permit {
            limiter: self.clone(),
            cost,
            used: cost.model_tokens(),
            waited,
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Limiter")
            .field("allowance", &state.allowance)
            .field("waiting", &state.queue.len())
            .finish_non_exhaustive()
    }
}
