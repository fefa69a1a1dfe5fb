//! The limiter: a mutex around an [`Allowance`], and a queue of tickets in front of it.
//!
//! `NOTES.md` beside this file has the states, the wake protocol, and why nobody starves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::allowance::{Admission, Allowance, Why};
use super::bucket::Nanos;
use super::held::{self, Held};
use super::rate::{Cost, Rate};
use crate::cancel::Cancel;
use crate::clock::{Bell, Clock};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;

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
pub struct Limiter(Arc<Shared>);

struct Shared {
    clock: Clock,
    epoch: Instant,
    state: Mutex<State>,
}

struct State {
    allowance: Allowance,
    /// Who waits, by ticket; the first is the head, and only the head looks at the allowance.
    queue: BTreeMap<u64, Waiter>,
    next_ticket: u64,
    /// What the head lay down for; `None` while it has not looked yet.
    head_waits_for: Option<Why>,
}

struct Waiter {
    bell: Arc<Bell>,
    deadline: Option<Instant>,
}

impl State {
    /// The bell of whoever is first.
    fn head(&self) -> Option<Arc<Bell>> {
        let head = self.queue.values().next()?;
        Some(Arc::clone(&head.bell))
    }

    /// The head's bell, if news of this kind concerns what it waits for.
    fn head_if(&self, concerned: impl Fn(Why) -> bool) -> Option<Arc<Bell>> {
        // A head that has not looked yet will see the news when it does.
        self.head_waits_for
            .filter(|&why| concerned(why))
            .and_then(|_| self.head())
    }

    /// Takes a ticket out; the answer is the bell of the new head, if that changed.
    fn leave(&mut self, ticket: u64) -> Option<Arc<Bell>> {
        let was_head = self.queue.keys().next() == Some(&ticket);
        self.queue.remove(&ticket);
        if !was_head {
            return None;
        }
        self.head_waits_for = None;
        self.head()
    }
}

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
    /// once when it is certain that it will not do.
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
    pub fn try_acquire(&self, cost: Cost) -> Result<Permit, Refusal> {
        self.check_nested().map_err(Refusal::Never)?;
        let mut state = self.0.state.lock();
        state.allowance.fits(cost).map_err(Refusal::Never)?;
        if !state.queue.is_empty() {
            return Err(Refusal::Busy);
        }
        let now = self.0.now();
        match state.allowance.check(cost, now) {
            Admission::Now => {
                state.allowance.take(cost, now);
                drop(state);
                Ok(self.permit(cost, Waited::default()))
            }
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
            let mut state = self.0.state.lock();
            state.allowance.fits(cost)?;
            if cancel.is_some_and(Cancel::is_cancelled) {
                return Err(cancelled());
            }
            let now = self.0.now();
            if state.queue.is_empty() && state.allowance.check(cost, now) == Admission::Now {
                state.allowance.take(cost, now);
                drop(state);
                return Ok(self.permit(cost, Waited::default()));
            }
            let id = state.next_ticket;
            state.next_ticket += 1;
            let bell = Bell::new();
            let waiter = Waiter {
                bell: Arc::clone(&bell),
                deadline,
            };
            state.queue.insert(id, waiter);
            Ticket {
                limiter: self,
                id,
                bell,
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
            let mut state = self.0.state.lock();
            let now = self.0.now();
            state.allowance.pause(self.0.nanos(until), now);
            let paused_until = self.0.instant(state.allowance.paused_until());
            // Nobody else is woken: a head that waits for an earlier instant looks again then.
            state
                .queue
                .values()
                .filter(|waiter| waiter.deadline.is_some_and(|at| at < paused_until))
                .map(|waiter| Arc::clone(&waiter.bell))
                .collect()
        };
        for bell in too_late {
            bell.ring();
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

    fn change(&self, change: impl FnOnce(&mut Allowance, Nanos)) {
        let head = {
            let mut state = self.0.state.lock();
            let now = self.0.now();
            change(&mut state.allowance, now);
            state.head_if(|_| true)
        };
        ring(head);
    }

    /// How many may be in flight at once.
    pub fn concurrency(&self) -> usize {
        self.0.state.lock().allowance.concurrency()
    }

    /// How many permits are out.
    pub fn in_flight(&self) -> usize {
        self.0.state.lock().allowance.in_flight()
    }

    /// How many threads wait for a permit.
    pub fn waiting(&self) -> usize {
        self.0.state.lock().queue.len()
    }

    /// The clock this limiter goes by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Whether a token rate is set, so that an estimate is worth making.
    pub(crate) fn limits_tokens(&self) -> bool {
        self.0.state.lock().allowance.limits_tokens()
    }

    /// Marks this thread as running a job under one of this limiter's permits.
    pub(crate) fn mark_held(&self) -> Held {
        Held::mark(self.identity())
    }

    /// Refuses a thread that already holds a permit of this limiter for a pool's job.
    pub(crate) fn check_nested(&self) -> Result<()> {
        if held::is_held(self.identity()) {
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
        let state = self.0.state.lock();
        f.debug_struct("Limiter")
            .field("allowance", &state.allowance)
            .field("waiting", &state.queue.len())
            .finish_non_exhaustive()
    }
}

/// A century: as good as for ever, and never beyond what an `Instant` can hold.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Shared {
    fn now(&self) -> Nanos {
        self.nanos(self.clock.now())
    }

    fn nanos(&self, at: Instant) -> Nanos {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    fn instant(&self, at: Nanos) -> Instant {
        self.epoch
            .checked_add(Duration::from_nanos(at))
            .unwrap_or_else(|| self.epoch + FOREVER)
    }
}

fn ring(bell: Option<Arc<Bell>>) {
    if let Some(bell) = bell {
        bell.ring();
    }
}

#[cold]
fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "cancelled while waiting at the gate")
}

/// A place in the queue; leaves it on every path that does not end in a permit.
struct Ticket<'a> {
    limiter: &'a Limiter,
    id: u64,
    bell: Arc<Bell>,
}

impl Ticket<'_> {
    fn wait(
        self,
        cost: Cost,
        deadline: Option<Instant>,
        cancel: Option<&Cancel>,
    ) -> Result<Waited> {
        let shared = &self.limiter.0;
        let _listening = cancel.map(|cancel| cancel.listen(&self.bell));
        let mut waited = Waited::default();
        let mut lay_down: Option<(Option<Why>, Instant)> = None;
        loop {
            if cancel.is_some_and(Cancel::is_cancelled) {
                return Err(cancelled());
            }
            let (why, until) = {
                let mut state = shared.state.lock();
                let instant = shared.clock.now();
                let now = shared.nanos(instant);
                if let Some((why, since)) = lay_down {
                    waited.add(why, instant.saturating_duration_since(since));
                }
                lay_down = Some((None, instant));
                let (why, until) = if state.queue.keys().next() == Some(&self.id) {
                    match state.allowance.check(cost, now) {
                        Admission::Now => {
                            state.allowance.take(cost, now);
                            let next = state.leave(self.id);
                            drop(state);
                            ring(next);
                            return Ok(waited);
                        }
                        Admission::At(at, why) => (Some(why), Some(shared.instant(at))),
                        Admission::WhenFreed => (Some(Why::InFlight), None),
                    }
                } else {
                    (None, None)
                };
                // An instant beyond the deadline is as good as the deadline itself; a pause is one
                // for those further back, too.
                let paused_until = shared.instant(state.allowance.paused_until());
                if deadline.is_some_and(|deadline| {
                    deadline <= instant || deadline < paused_until || until > Some(deadline)
                }) {
                    return Err(Error::new(
                        ErrorKind::Deadline,
                        "the gate cannot admit this before its deadline",
                    ));
                }
                if why.is_some() {
                    state.head_waits_for = why;
                    lay_down = Some((why, instant));
                }
                (why, until)
            };
            let wake = match (until, deadline) {
                (Some(until), Some(deadline)) => Some(until.min(deadline)),
                (until, deadline) => until.or(deadline),
            };
            debug_assert!(why.is_some() || until.is_none());
            shared.clock.park(&self.bell, wake);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // After a grant the ticket is gone already and this finds nothing.
        let next = self.limiter.0.state.lock().leave(self.id);
        ring(next);
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
    pub turn: Duration,
}

impl Waited {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.requests + self.tokens + self.pause + self.in_flight + self.turn
    }

    fn add(&mut self, why: Option<Why>, time: Duration) {
        *match why {
            Some(Why::Requests) => &mut self.requests,
            Some(Why::Tokens) => &mut self.tokens,
            Some(Why::Pause) => &mut self.pause,
            Some(Why::InFlight) => &mut self.in_flight,
            None => &mut self.turn,
        } += time;
    }
}

/// Leave to send one request; the place in flight is free again when it is dropped.
///
/// [`settle`](Permit::settle) corrects the token estimate to the real usage. A permit dropped
/// without it, by a panic too, keeps its estimate. The request itself is never given back.
#[derive(Debug)]
#[must_use = "a permit frees its place when it is dropped"]
pub struct Permit {
    limiter: Limiter,
    cost: Cost,
    used: u64,
    waited: Waited,
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
    fn drop(&mut self) {
        let head = {
            let mut state = self.limiter.0.state.lock();
            let now = self.limiter.0.now();
            state.allowance.release(self.cost, self.used, now);
            let refund = self.used < self.cost.model_tokens();
            state.head_if(|why| match why {
                Why::InFlight => true,
                Why::Tokens => refund,
                Why::Requests | Why::Pause => false,
            })
        };
        ring(head);
    }
}

/// Settings of a [`Limiter`]; see [`Limiter::builder`].
#[derive(Clone, Debug, Default)]
pub struct LimiterBuilder {
    requests: Option<Rate>,
    burst: Option<u64>,
    tokens: Option<Rate>,
    token_burst: Option<u64>,
    concurrency: Option<usize>,
    clock: Clock,
}

impl LimiterBuilder {
    /// At most this many requests in a time. Default: no limit.
    pub fn requests(mut self, rate: Rate) -> Self {
        self.requests = Some(rate);
        self
    }

    /// How many requests may go at once after an idle spell. Default: one second's worth, at
    /// least 1, because providers judge windows of one to ten seconds, not whole minutes.
    pub fn burst(mut self, requests: u64) -> Self {
        self.burst = Some(requests);
        self
    }

    /// At most this many model tokens in a time. Default: no limit.
    pub fn tokens(mut self, rate: Rate) -> Self {
        self.tokens = Some(rate);
        self
    }

    /// How many model tokens may go at once after an idle spell. Default: one second's worth.
    pub fn token_burst(mut self, tokens: u64) -> Self {
        self.token_burst = Some(tokens);
        self
    }

    /// How many may be in flight at once. Default: no limit.
    pub fn concurrency(mut self, places: usize) -> Self {
        self.concurrency = Some(places);
        self
    }

    /// The clock to go by. Default: the machine's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the limiter; its buckets are full.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an unusable rate, a burst of zero, a burst without its rate, or a
    /// concurrency of zero.
    pub fn build(self) -> Result<Limiter> {
        let mut allowance =
            Allowance::new(checked_concurrency(self.concurrency.unwrap_or(usize::MAX))?);
        allowance.set_requests(with_burst(self.requests, self.burst, "request")?, 0);
        allowance.set_tokens(with_burst(self.tokens, self.token_burst, "token")?, 0);
        Ok(Limiter(Arc::new(Shared {
            epoch: self.clock.now(),
            clock: self.clock,
            state: Mutex::new(State {
                allowance,
                queue: BTreeMap::new(),
                next_ticket: 0,
                head_waits_for: None,
            }),
        })))
    }
}

fn with_burst(rate: Option<Rate>, burst: Option<u64>, what: &str) -> Result<Option<(Rate, u64)>> {
    match (rate, burst) {
        (_, Some(0)) => Err(Error::new(
            ErrorKind::Config,
            format!("a {what} burst of 0 would admit nothing: give at least 1"),
        )),
        (None, Some(_)) => Err(Error::new(
            ErrorKind::Config,
            format!("a {what} burst without a {what} rate limits nothing: give the rate too"),
        )),
        (None, None) => Ok(None),
        (Some(rate), burst) => {
            let rate = rate.checked(what)?;
            Ok(Some((rate, burst.unwrap_or(rate.second_worth()))))
        }
    }
}

fn checked_concurrency(places: usize) -> Result<usize> {
    if places == 0 {
        return Err(Error::new(
            ErrorKind::Config,
            "a concurrency of 0 would admit nothing: give at least 1",
        ));
    }
    Ok(places)
}

#[cfg(all(test, loom))]
mod model {
    //! The lock protocol, interleaving by interleaving. `NOTES.md` says what each one covers. A lost
    //! wake-up leaves a thread parked for ever, which loom reports as a deadlock.
    //!
    //! Two threads are explored in full. Three are bounded to four switches without need: most
    //! faults of this kind show with two, and without a bound three threads take hours. Where time
    //! plays no part the clock is the machine's, which loom does not see, and not the virtual one
    //! with its locks.
    use super::*;
    use crate::clock::VirtualClock;
    use crate::sync::explore;
    use loom::thread::{self, JoinHandle};

    fn one_place(clock: Clock) -> Limiter {
        let one = Limiter::builder().concurrency(1).clock(clock);
        one.build().unwrap()
    }

    fn acquirer(limiter: &Limiter) -> JoinHandle<()> {
        let limiter = limiter.clone();
        thread::spawn(move || drop(limiter.acquire(Cost::ONE).unwrap()))
    }

    fn assert_empty(limiter: &Limiter) {
        assert_eq!((limiter.in_flight(), limiter.waiting()), (0, 0));
    }

    /// Three threads, one place: each grant and each release finds the next.
    #[test]
    fn loom_a_place_that_is_freed_is_taken() {
        explore(Some(4), || {
            let limiter = one_place(Clock::system());
            let others = [acquirer(&limiter), acquirer(&limiter)];
            drop(limiter.acquire(Cost::ONE).unwrap());
            for other in others {
                other.join().unwrap();
            }
            assert_empty(&limiter);
        });
    }

    /// A head that is cancelled hands its turn on, whether the place is freed before or after.
    #[test]
    fn loom_a_cancelled_head_wakes_the_next() {
        explore(Some(4), || {
            let limiter = one_place(Clock::system());
            let cancel = Cancel::new();
            let held = limiter.acquire(Cost::ONE).unwrap();
            let first = {
                let (limiter, cancel) = (limiter.clone(), cancel.clone());
                thread::spawn(move || drop(limiter.acquire_cancellable(Cost::ONE, &cancel)))
            };
            let second = acquirer(&limiter);
            cancel.cancel();
            drop(held);
            first.join().unwrap();
            second.join().unwrap();
            assert_empty(&limiter);
        });
    }

    /// A cancel is enough: nobody else moves.
    #[test]
    fn loom_a_cancel_is_heard() {
        explore(None, || {
            let limiter = one_place(Clock::system());
            let cancel = Cancel::new();
            let held = limiter.acquire(Cost::ONE).unwrap();
            let waiter = {
                let (limiter, cancel) = (limiter.clone(), cancel.clone());
                thread::spawn(move || limiter.acquire_cancellable(Cost::ONE, &cancel).is_err())
            };
            cancel.cancel();
            assert!(waiter.join().unwrap());
            drop(held);
            assert_empty(&limiter);
        });
    }

    /// Time passes while a thread is on its way to bed.
    #[test]
    fn loom_time_that_passes_is_noticed() {
        explore(None, || {
            let time = VirtualClock::new();
            let limiter = Limiter::builder()
                .requests(Rate::per_second(1))
                .clock(time.clock())
                .build()
                .unwrap();
            drop(limiter.acquire(Cost::ONE).unwrap());
            let waiter = acquirer(&limiter);
            time.advance(Duration::from_secs(1));
            waiter.join().unwrap();
        });
    }

    /// A rate that is lifted re-times the head, and the one behind it follows.
    #[test]
    fn loom_a_change_of_rate_is_noticed() {
        explore(Some(4), || {
            let limiter = Limiter::builder()
                .requests(Rate::per_day(1))
                .build()
                .unwrap();
            drop(limiter.acquire(Cost::ONE).unwrap());
            let waiters = [acquirer(&limiter), acquirer(&limiter)];
            limiter.set_requests(None).unwrap();
            for waiter in waiters {
                waiter.join().unwrap();
            }
            assert_empty(&limiter);
        });
    }

    /// Tokens given back wake a head that waits for tokens.
    #[test]
    fn loom_a_refund_is_noticed() {
        explore(None, || {
            let limiter = Limiter::builder()
                .tokens(Rate::per_day(2))
                .token_burst(2)
                .build()
                .unwrap();
            let held = limiter.acquire(Cost::tokens(2)).unwrap();
            let waiter = {
                let limiter = limiter.clone();
                thread::spawn(move || limiter.acquire(Cost::tokens(1)).unwrap().settle(1))
            };
            held.settle(0);
            waiter.join().unwrap();
            assert_empty(&limiter);
        });
    }

    /// The head waits for a place, the place comes free during a pause, and the pause ends: each
    /// of the three alone would leave it asleep.
    #[test]
    fn loom_a_place_freed_in_a_pause_is_taken_after_it() {
        explore(None, || {
            let time = VirtualClock::new();
            let limiter = one_place(time.clock());
            let held = limiter.acquire(Cost::ONE).unwrap();
            let waiter = acquirer(&limiter);
            limiter.pause_for(Duration::from_secs(1));
            drop(held);
            time.advance(Duration::from_secs(2));
            waiter.join().unwrap();
            assert_empty(&limiter);
        });
    }

    /// A pause beyond a waiter's deadline tells it at once: no time passes here.
    #[test]
    fn loom_a_pause_beyond_the_deadline_is_heard() {
        explore(None, || {
            let limiter = one_place(VirtualClock::new().clock());
            let held = limiter.acquire(Cost::ONE).unwrap();
            let waiter = {
                let limiter = limiter.clone();
                thread::spawn(move || {
                    let second = Duration::from_secs(1);
                    limiter.acquire_timeout(Cost::ONE, second).is_err()
                })
            };
            limiter.pause_for(Duration::from_secs(10));
            assert!(waiter.join().unwrap());
            drop(held);
            assert_empty(&limiter);
        });
    }
}
