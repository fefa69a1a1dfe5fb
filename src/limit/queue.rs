//! The queue at the gate: a mutex around an [`LimiterState`], and tickets in front of it.
//!
//! `NOTES.md` beside this file has the states, the wake protocol, and why nobody starves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bucket::Nanos;
use super::freed::{Counted, Freed};
use super::limiter::Limiter;
use super::permit::Waited;
use super::rate::Cost;
use super::state::{Admission, LimiterState, WaitReason};
use crate::cancel::Cancel;
use crate::clock::{Clock, Parker, unpark};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, MutexGuard};

pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) epoch: Instant,
    /// The places that permits have given back, without the lock.
    pub(super) freed: Freed,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) allowance: LimiterState,
    /// Who waits, by ticket; the first is the head, and only the head looks at the allowance.
    pub(super) queue: BTreeMap<u64, Waiter>,
    pub(super) next_ticket: u64,
    /// What the head lay down for; `None` while it has not looked yet.
    pub(super) head_waits_for: Option<WaitReason>,
    /// How many of [`Shared::freed`] the allowance knows of.
    counted: Counted,
}

pub(super) struct Waiter {
    pub(super) parker: Arc<Parker>,
    pub(super) deadline: Option<Instant>,
}

impl State {
    /// The head's look at the allowance, after which it may lie down.
    fn look(&mut self, freed: &Freed, cost: Cost, now: Nanos) -> Admission {
        let admission = self.allowance.admit(cost, now);
        if admission != Admission::WhenFreed {
            return admission;
        }
        // Places are given back without the lock: from the mark on it is rung for one, and those of
        // before the mark it must look at itself.
        self.allowance.release(freed.mark(&mut self.counted));
        self.allowance.admit(cost, now)
    }

    /// The parker of whoever is first.
    pub(super) fn head(&self) -> Option<Arc<Parker>> {
        let head = self.queue.values().next()?;
        Some(Arc::clone(&head.parker))
    }

    /// The head's parker, if news of this kind concerns what it waits for.
    pub(super) fn head_if(&self, concerned: impl Fn(WaitReason) -> bool) -> Option<Arc<Parker>> {
        // A head that has not looked yet will see the news when it does.
        self.head_waits_for
            .filter(|&why| concerned(why))
            .and_then(|_| self.head())
    }

    /// Takes a ticket out; the answer is the parker of the new head, if that changed.
    pub(super) fn leave(&mut self, ticket: u64) -> Option<Arc<Parker>> {
        let was_head = self.queue.keys().next() == Some(&ticket);
        self.queue.remove(&ticket);
        if !was_head {
            return None;
        }
        self.head_waits_for = None;
        self.head()
    }
}

/// A century: as good as for ever, and never beyond what an `Instant` can hold.
pub(super) const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Shared {
    pub(super) fn new(allowance: LimiterState, clock: Clock) -> Self {
        Self {
            epoch: clock.now(),
            clock,
            freed: Freed::default(),
            state: Mutex::new(State {
                allowance,
                queue: BTreeMap::new(),
                next_ticket: 0,
                head_waits_for: None,
                counted: Counted::default(),
            }),
        }
    }

    /// The state, with the places that have been given back by now.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        let freed = self.freed.count(&mut state.counted);
        state.allowance.release(freed);
        state
    }

    /// Takes the mark away, and rings the head if it is for a place that it lies down.
    #[cold]
    pub(super) fn ring_for_a_place(&self) {
        let head = {
            let state = self.lock();
            // Under the lock, and so before whoever is rung looks again and sets it anew.
            self.freed.unmark();
            state.head_if(|why| why == WaitReason::InFlight)
        };
        unpark(head);
    }

    /// Gives a place back together with the tokens that were not used, or with the debt.
    pub(super) fn settle(&self, cost: Cost, used: u64) {
        let head = {
            let mut state = self.lock();
            state.allowance.settle(cost, used, self.now());
            // Under the lock: whoever sees the place sees the tokens too.
            self.freed.add();
            let refund = used < cost.model_tokens();
            state.head_if(|why| match why {
                WaitReason::InFlight => true,
                WaitReason::Tokens => refund,
                WaitReason::Requests | WaitReason::Pause => false,
            })
        };
        unpark(head);
    }

    pub(super) fn now(&self) -> Nanos {
        self.nanos(self.clock.now())
    }

    /// The time for a look that nobody waits on. It is not read where it plays no part: reading it is
    /// half of what a limiter costs that counts places only.
    pub(super) fn time_for(&self, allowance: &LimiterState) -> Nanos {
        if allowance.goes_by_time() {
            self.now()
        } else {
            0
        }
    }

    pub(super) fn nanos(&self, at: Instant) -> Nanos {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn instant(&self, at: Nanos) -> Instant {
        self.epoch
            .checked_add(Duration::from_nanos(at))
            .unwrap_or_else(|| self.epoch + FOREVER)
    }
}

#[cold]
pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "cancelled while waiting at the gate")
}

/// A place in the queue; leaves it on every path that does not end in a permit.
pub(super) struct Ticket<'a> {
    pub(super) limiter: &'a Limiter,
    pub(super) id: u64,
    pub(super) parker: Arc<Parker>,
}

impl Ticket<'_> {
    pub(super) fn wait(
        self,
        cost: Cost,
        deadline: Option<Instant>,
        cancel: Option<&Cancel>,
    ) -> Result<Waited> {
        let shared = &self.limiter.0;
        let _listening = cancel.map(|cancel| cancel.listen(&self.parker));
        let mut waited = Waited::default();
        let mut lay_down: Option<(Option<WaitReason>, Instant)> = None;
        loop {
            if cancel.is_some_and(Cancel::is_cancelled) {
                return Err(cancelled());
            }
            let (why, until) = {
                let mut state = shared.lock();
                let instant = shared.clock.now();
                let now = shared.nanos(instant);
                if let Some((why, since)) = lay_down {
                    waited.add(why, instant.saturating_duration_since(since));
                }
                lay_down = Some((None, instant));
                let (why, until) = if state.queue.keys().next() == Some(&self.id) {
                    match state.look(&shared.freed, cost, now) {
                        Admission::Now => {
                            let next = state.leave(self.id);
                            drop(state);
                            unpark(next);
                            return Ok(waited);
                        }
                        Admission::At(at, why) => (Some(why), Some(shared.instant(at))),
                        Admission::WhenFreed => (Some(WaitReason::InFlight), None),
                    }
                } else {
                    (None, None)
                };
                // A pause is never shortened, so one beyond the deadline is certain, for those further
                // back too. A bucket is not: a refund or a change of rate may bring its instant forward.
                let paused_until = shared.instant(state.allowance.paused_until());
                if deadline.is_some_and(|deadline| deadline <= instant || deadline < paused_until) {
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
            shared.clock.park(&self.parker, wake);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // After a grant the ticket is gone already and this finds nothing.
        let next = self.limiter.0.lock().leave(self.id);
        unpark(next);
    }
}
