//! The limiter that users hold: a handle on the [`queue`](super::queue).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::announced::Announced;
use super::bucket::{Admission, Nanos};
use super::concurrency::Concurrency;
use super::keeper::Keeper;
use super::learned::{Learned, RefusedFor};
use super::nested::{self, HeldMark};
use super::pace::Heard;
use super::permit::Permit;
use super::queue::{FOREVER, Patience, Queue, Users};
use super::rate::{Cost, REQUESTS, Rate, TOKENS, checked_limit};
use super::state::{LimiterState, Start};
use crate::binding::{Binding, Times};
use crate::cancel::Cancel;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::shared::{SharedStatus, Store};

/// Limits how many requests and model tokens are sent in any time, and how many requests are in
/// flight at once.
///
/// In every window of length T it admits at most `burst + rate · T` requests. The model tokens it
/// admits, as reserved and less refunds, are at most `max(burst, largest single cost) + rate · T`.
/// All limits are checked and taken together, under one lock. Waiting is first come, first served.
///
/// Cloning is cheap and gives the same limiter. Clients, pools and plain threads may share one, and
/// so may rayon and tokio tasks; a wait blocks the calling thread.
///
/// A permit can be asked for in these ways. [`try_acquire`](Limiter::try_acquire) answers at once,
/// with the instant to come back if there is none. [`acquire`](Limiter::acquire) waits.
/// [`acquire_timeout`](Limiter::acquire_timeout) and
/// [`acquire_cancellable`](Limiter::acquire_cancellable) wait until a time limit or a [`Cancel`].
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
pub struct Limiter(Arc<Users>);

/// Why [`Limiter::try_acquire`] gave no permit.
///
/// ```
/// use tollgate::{Cost, Limiter, Rate, Refusal};
///
/// let limiter = Limiter::builder().requests(Rate::per_hour(1)).build()?;
/// let _permit = limiter.try_acquire(Cost::ONE).expect("the first of this hour");
/// match limiter.try_acquire(Cost::ONE) {
///     Ok(_permit) => println!("send it now"),
///     Err(Refusal::NotUntil(when)) => println!("do something else until {when:?}"),
///     Err(refusal) => println!("{refusal}"),
/// }
/// assert!(matches!(limiter.try_acquire(Cost::ONE), Err(Refusal::NotUntil(_))));
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// Not before this instant. It is exact unless something else is admitted, refunded or changed
    /// before.
    NotUntil(Instant),
    /// As many requests are in flight as may be, or others are waiting. Nobody can tell when that
    /// ends.
    Busy,
    /// Never: the cost does not fit the limit, or the wait would be a deadlock.
    Never(Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUntil(_) => f.write_str("the rate limit is reached for now"),
            Self::Busy => {
                f.write_str("as many requests are in flight as may be, or others are waiting")
            }
            Self::Never(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

impl Limiter {
    pub(super) fn new(limits: LimiterState, clock: Clock) -> Self {
        let queue = Arc::new(Queue::new(limits, clock));
        Self(Arc::new(Users { queue, ended: None }))
    }

    /// One whose rates are leased from this store, which has a name for people.
    pub(super) fn sharing(
        limits: LimiterState,
        clock: Clock,
        store: Box<dyn Store>,
        name: Arc<str>,
    ) -> Result<Self> {
        let (limiter, keeper) = Self::with_keeper(limits, clock, store, name);
        keeper.start()?;
        Ok(limiter)
    }

    /// The same, whose keeper is not started yet.
    pub(super) fn with_keeper(
        mut limits: LimiterState,
        clock: Clock,
        store: Box<dyn Store>,
        name: Arc<str>,
    ) -> (Self, Keeper) {
        if let Some(shared) = &mut limits.set.shared {
            shared.status.store = Arc::clone(&name);
        }
        let queue = Arc::new(Queue::new(limits, clock));
        let (ends, ended) = bounded(0);
        let keeper = Keeper {
            queue: Arc::clone(&queue),
            store,
            name,
            _ends: ends,
        };
        let ended = Some(ended);
        (Self(Arc::new(Users { queue, ended })), keeper)
    }

    /// Waits for a permit, however long it takes.
    ///
    /// # Errors
    /// Both are returned at once: [`ErrorKind::NeverFits`](crate::ErrorKind::NeverFits) for a cost
    /// above what a whole period allows, and [`ErrorKind::Nested`](crate::ErrorKind::Nested) inside
    /// a pool's job that holds a permit of this limiter.
    pub fn acquire(&self, cost: Cost) -> Result<Permit> {
        self.acquire_until(cost, Patience::default(), None, |_| ())
            .0
    }

    /// Waits for a permit, at most for `timeout`.
    ///
    /// # Errors
    /// As [`acquire`](Limiter::acquire), and [`ErrorKind::Deadline`](crate::ErrorKind::Deadline)
    /// when the time is over, or at once when a pause lasts longer than that.
    pub fn acquire_timeout(&self, cost: Cost, timeout: Duration) -> Result<Permit> {
        let patience = Patience {
            deadline: self.0.clock.now().checked_add(timeout),
            ..Patience::default()
        };
        self.acquire_until(cost, patience, None, |_| ()).0
    }

    /// Waits for a permit until `cancel` is raised.
    ///
    /// # Errors
    /// As [`acquire`](Limiter::acquire), and [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
    pub fn acquire_cancellable(&self, cost: Cost, cancel: &Cancel) -> Result<Permit> {
        self.acquire_until(cost, Patience::default(), Some(cancel), |_| ())
            .0
    }

    /// A permit now, or when to ask again. Does not wait.
    ///
    /// # Errors
    /// A [`Refusal`]. Nothing is reserved then.
    pub fn try_acquire(&self, cost: Cost) -> Result<Permit, Refusal> {
        self.check_nested().map_err(Refusal::Never)?;
        let (admitted, start) = self.0.update(|locked, now| {
            let admitted = locked.admit(cost, now);
            ((admitted, locked.limits.start()), None)
        });
        match admitted.map_err(Refusal::Never)? {
            Admission::Now => Ok(self.permit(cost, Times::default(), start)),
            Admission::At(at, _) => Err(Refusal::NotUntil(self.0.instant(at))),
            Admission::When(_) => Err(Refusal::Busy),
        }
    }

    /// A permit, or why there is none, and how long that took. `watch` is told what it waits for;
    /// it is called without a lock.
    pub(crate) fn acquire_until(
        &self,
        cost: Cost,
        patience: Patience,
        cancel: Option<&Cancel>,
        watch: impl Fn(Binding),
    ) -> (Result<Permit>, Times) {
        let mut waited = Times::default();
        let acquired = self
            .check_nested()
            .and_then(|()| self.0.acquire(cost, patience, cancel, &mut waited, watch));
        let permit = acquired.map(|start| self.permit(cost, waited, start));
        (permit, waited)
    }

    #[inline]
    fn permit(&self, cost: Cost, waited: Times, start: Start) -> Permit {
        Permit {
            users: Arc::clone(&self.0),
            cost,
            used: cost,
            waited,
            start,
            failed: false,
            let_in: false,
        }
    }

    /// Admits nothing before `until`. The buckets are empty then, so there is no burst after a
    /// pause. A pause is never shortened by another. It holds for all processes that share the
    /// limit. A thread that waits with a deadline before its end is told at once.
    pub fn pause_until(&self, until: Instant) {
        let until = self.0.nanos(until);
        self.0.update(|locked, now| {
            if let Some(shared) = &mut locked.limits.set.shared {
                shared.announce_pause(until);
            }
            ((), locked.pause(until, now, &self.0))
        });
    }

    /// As [`pause_until`](Limiter::pause_until), counted from now.
    pub fn pause_for(&self, pause: Duration) {
        let now = self.0.clock.now();
        // A pause longer than an `Instant` can hold is a pause for ever.
        self.pause_until(now.checked_add(pause).unwrap_or(now + FOREVER));
    }

    /// Changes the rate of requests, with a burst of one second's worth; `None` lifts the limit.
    /// Credit earned at the old rate is kept, and the wait of whoever is first in the queue is
    /// computed again.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a rate out of range. Nothing is changed
    /// then.
    pub fn set_requests(&self, rate: Option<Rate>) -> Result<()> {
        let limit = checked_limit(rate, None, &REQUESTS)?;
        self.change(|limits, now| limits.set_requests(limit, now));
        Ok(())
    }

    /// As [`set_requests`](Limiter::set_requests), for model tokens.
    ///
    /// # Errors
    /// As [`set_requests`](Limiter::set_requests).
    pub fn set_tokens(&self, rate: Option<Rate>) -> Result<()> {
        let limit = checked_limit(rate, None, &TOKENS)?;
        self.change(|limits, now| limits.set_tokens(limit, now));
        Ok(())
    }

    /// Changes how many requests may be in flight at once, to a number or a range. It may be fewer
    /// than are in flight now: nothing is admitted until enough of them have finished. A range goes
    /// on from the number that holds now, if that is within it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for zero and for an empty range.
    pub fn set_concurrency(&self, permits: impl Into<Concurrency>) -> Result<()> {
        let permits = permits.into().checked()?;
        self.change(|limits, _| limits.set_concurrency(permits));
        Ok(())
    }

    /// Takes note of what the answer to a request that was sent at `sent` says of the provider's
    /// limits, and of how much else it says that makes no sense.
    pub(crate) fn announced(&self, announced: &[Announced], ignored: u64, sent: Instant) {
        if announced.is_empty() && ignored == 0 {
            return;
        }
        let sent = self.0.nanos(sent);
        self.0.update(|locked, now| {
            let mut sooner = false;
            locked.limits.ignored += ignored;
            for announced in announced {
                sooner |= locked.limits.announced(announced, sent, now);
            }
            ((), locked.head_if(|_| sooner))
        });
    }

    /// Takes note that what was sent with this permit was refused, with a wait or without.
    pub(crate) fn refused(
        &self,
        permit: &Permit,
        hint: Option<Duration>,
        what: RefusedFor,
    ) -> Heard {
        self.0.update(|locked, now| {
            let (limits, start) = (&mut locked.limits, permit.start);
            let (heard, sooner) = match what {
                RefusedFor::Places => limits.full(start, now),
                RefusedFor::Tokens => limits.refused_tokens(start, hint, now),
                RefusedFor::Load => limits.overloaded(start, hint, now),
                RefusedFor::Unsaid => limits.refused(start, hint, now),
            };
            (heard, locked.head_if(|_| sooner))
        })
    }

    /// Takes note that the server is down, and refuses for that.
    pub(crate) fn outage(&self) {
        self.0.update(|locked, now| {
            let sooner = locked.limits.outage(now);
            ((), locked.head_if(|_| sooner))
        });
    }

    /// The rates of requests and of model tokens that are set.
    pub(crate) fn rates(&self) -> [Option<Rate>; 2] {
        self.0.lock().limits.set.rates()
    }

    /// What the provider's answers have said of its limits, where those are lower than the ones
    /// that are set. The limiter goes by the lower of both.
    pub fn learned(&self) -> Learned {
        self.0.lock().limits.learned(self.0.now())
    }

    /// How many processes share the limits, and whether their store can be reached. `None` if the
    /// limits are not [shared](crate::LimiterBuilder::shared).
    pub fn shared_status(&self) -> Option<SharedStatus> {
        let locked = self.0.lock();
        let shared = locked.limits.set.shared.as_ref()?;
        Some(shared.status(self.0.now()))
    }

    fn change(&self, change: impl FnOnce(&mut LimiterState, Nanos)) {
        self.0.update(|locked, now| {
            change(&mut locked.limits, now);
            ((), locked.head_if(|_| true))
        });
    }

    /// How many requests may be in flight at once: the number, or the high end of the range, that
    /// is set. `usize::MAX` if there is no limit.
    pub fn concurrency(&self) -> usize {
        self.concurrency_range().high()
    }

    /// How many requests may be in flight at once, as it was set.
    pub fn concurrency_range(&self) -> Concurrency {
        self.0.lock().limits.concurrency
    }

    /// How many requests may be in flight at once now. Of a range it is the number that was found
    /// last. It is lower if refusals say that so many are too many.
    pub fn most_in_flight(&self) -> usize {
        self.0.lock().limits.most_in_flight()
    }

    /// How many threads are of use. Of a range it is one more than may send now: that one waits
    /// until another may.
    pub(crate) fn most_threads(&self) -> usize {
        self.0.lock().limits.most_threads()
    }

    /// How many requests are in flight: permits that have not been dropped.
    pub fn in_flight(&self) -> usize {
        self.0.lock().limits.in_flight()
    }

    /// How many threads wait for a permit.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// The clock that the rates and waits go by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The most model tokens that are ever admitted at once; `None` if nothing limits them, so that
    /// no estimate is of use.
    pub(crate) fn most_tokens(&self) -> Option<u64> {
        self.0.lock().limits.most_tokens()
    }

    /// Marks this thread as running a pool's job that holds a permit of this limiter.
    pub(crate) fn mark_held(&self) -> HeldMark {
        HeldMark::set(self.identity())
    }

    /// Fails on a thread that is [marked](Self::mark_held).
    pub(crate) fn check_nested(&self) -> Result<()> {
        nested::check(self.identity())
    }

    fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [requests, tokens] = self.rates();
        f.debug_struct("Limiter")
            .field("requests", &requests)
            .field("tokens", &tokens)
            .field("concurrency", &self.concurrency_range())
            .field("in_flight", &self.in_flight())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}
