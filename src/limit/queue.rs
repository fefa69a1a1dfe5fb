//! What clones of a limiter and their permits share: a lock around the [`LimiterState`], and the
//! queue of threads that wait for a permit.
//!
//! `NOTES.md` in this folder has the states of a ticket, who wakes whom, and why nobody starves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::bucket::Nanos;
use super::keeper_link::KeeperLink;
use super::rate::Cost;
use super::sharing::{Next, Sharing};
use super::state::{LimiterState, Start};
use super::waited::{Admission, WaitReason, Waited};
use crate::cancel::Cancel;
use crate::clock::{Clock, Parker, unpark};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, MutexGuard};

pub(super) struct Queue {
    pub(super) clock: Clock,
    epoch: Instant,
    locked: Mutex<Locked>,
    /// Of limits that are shared.
    pub(super) keeper: Option<KeeperLink>,
}

/// What the lock is around.
pub(super) struct Locked {
    pub(super) limits: LimiterState,
    /// Who waits, by ticket number. The first is the head, and only the head asks for admission.
    pub(super) waiting: BTreeMap<u64, Waiter>,
    next_ticket: u64,
    /// What the head waits for. `None` until it has asked for the first time.
    head_waits_for: Option<WaitReason>,
}

pub(super) struct Waiter {
    pub(super) parker: Arc<Parker>,
    pub(super) deadline: Option<Instant>,
}

impl Locked {
    fn head(&self) -> Option<Arc<Parker>> {
        let head = self.waiting.values().next()?;
        Some(Arc::clone(&head.parker))
    }

    /// The head, if it waits for a reason that `concerns` it. A head that has not asked yet needs
    /// no wake: it sees the change when it asks.
    pub(super) fn head_if(&self, concerns: impl Fn(WaitReason) -> bool) -> Option<Arc<Parker>> {
        self.head_waits_for
            .filter(|&reason| concerns(reason))
            .and_then(|_| self.head())
    }

    /// Admits nothing before `until`. The answer is who is to be told: those who cannot wait so
    /// long. Nobody else is woken: a head that waits for an earlier instant finds the pause then.
    pub(super) fn pause(&mut self, until: Nanos, queue: &Queue) -> Vec<Arc<Parker>> {
        self.limits.pause(until, queue.now());
        let paused_until = queue.instant(self.limits.paused_until());
        let waiting = self.waiting.values();
        waiting
            .filter(|waiter| waiter.deadline.is_some_and(|at| at < paused_until))
            .map(|waiter| Arc::clone(&waiter.parker))
            .collect()
    }

    /// What the keeper does next.
    pub(super) fn next_ask(&mut self, now: Nanos) -> Next {
        let (in_flight, waiting) = (self.limits.in_flight(), self.waiting.len());
        let shared = self.limits.set.shared_mut();
        shared.map_or(Next::WhenCalled, |it| it.next(in_flight, waiting, now))
    }
}

/// A century: longer than any wait, and within what an `Instant` can hold.
pub(super) const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Queue {
    pub(super) fn new(limits: LimiterState, clock: Clock, keeper: Option<KeeperLink>) -> Self {
        Self {
            epoch: clock.now(),
            clock,
            locked: Mutex::new(Locked {
                limits,
                waiting: BTreeMap::new(),
                next_ticket: 0,
                head_waits_for: None,
            }),
            keeper,
        }
    }

    pub(super) fn set_keeper_thread(&self, id: ThreadId) {
        if let Some(keeper) = &self.keeper {
            let _first = keeper.thread.set(id);
        }
    }

    /// The keeper, if it has something to do at once. To be woken without the lock.
    #[inline]
    pub(super) fn keeper(&self, locked: &mut Locked) -> Option<Arc<Parker>> {
        let keeper = self.keeper.as_ref()?;
        let is_called = locked.limits.set.shared_mut()?.call();
        is_called.then(|| Arc::clone(&keeper.parker))
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock()
    }

    /// Waits until `cost` is admitted. How long that took is added to `waited`, whatever comes of
    /// it. What it waits for is told to `watch`, without a reason behind others in the queue.
    pub(super) fn acquire(
        &self,
        cost: Cost,
        deadline: Option<Instant>,
        cancel: Option<&Cancel>,
        waited: &mut Waited,
        watch: impl Fn(Option<WaitReason>),
    ) -> Result<Start> {
        check_cancelled(cancel)?;
        let ticket = {
            let mut locked = self.lock();
            locked.limits.check_fits(cost)?;
            if locked.waiting.is_empty() && locked.limits.admit(cost, self.now()) == Admission::Now
            {
                let start = locked.limits.start();
                let keeper = self.keeper(&mut locked);
                drop(locked);
                unpark(keeper);
                return Ok(start);
            }
            let number = locked.next_ticket;
            locked.next_ticket += 1;
            let parker = Parker::new();
            let entry = Waiter {
                parker: Arc::clone(&parker),
                deadline,
            };
            locked.waiting.insert(number, entry);
            Ticket {
                queue: self,
                number,
                parker,
            }
        };
        ticket.wait(cost, deadline, cancel, waited, watch)
    }

    /// The present, for the limits. Read under the lock, so that what is admitted later is never
    /// counted as admitted earlier.
    pub(super) fn now(&self) -> Nanos {
        self.nanos(self.clock.now())
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

fn check_cancelled(cancel: Option<&Cancel>) -> Result<()> {
    if cancel.is_some_and(Cancel::is_cancelled) {
        return Err(Error::new(
            ErrorKind::Cancelled,
            "cancelled while waiting for a permit",
        ));
    }
    Ok(())
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            let last = self.lock().limits.set.shared_mut().and_then(Sharing::last);
            keeper.end(last);
        }
    }
}

/// A number in the queue. Dropping it leaves the queue and wakes the next head, on every path:
/// after a permit, an error or a panic.
struct Ticket<'a> {
    queue: &'a Queue,
    number: u64,
    parker: Arc<Parker>,
}

impl Ticket<'_> {
    fn wait(
        self,
        cost: Cost,
        deadline: Option<Instant>,
        cancel: Option<&Cancel>,
        waited: &mut Waited,
        watch: impl Fn(Option<WaitReason>),
    ) -> Result<Start> {
        let queue = self.queue;
        if let Some(cancel) = cancel {
            cancel.listen(&self.parker);
        }
        let (mut since, mut reason) = (queue.clock.now(), None);
        loop {
            let (wake_at, keeper) = {
                let mut locked = queue.lock();
                let now = queue.clock.now();
                waited.add(reason, now.saturating_duration_since(since));
                since = now;
                check_cancelled(cancel)?;
                let mut wake_at = None;
                if locked.waiting.keys().next() == Some(&self.number) {
                    reason = Some(match locked.limits.admit(cost, queue.nanos(now)) {
                        Admission::Now => {
                            let start = locked.limits.start();
                            let keeper = queue.keeper(&mut locked);
                            drop(locked);
                            unpark(keeper);
                            return Ok(start);
                        }
                        Admission::WhenReleased => WaitReason::InFlight,
                        Admission::WhenLeased(reason) => reason,
                        Admission::At(at, reason) => {
                            wake_at = Some(queue.instant(at));
                            reason
                        }
                    });
                    locked.head_waits_for = reason;
                }
                // A pause is never shortened, so a deadline before its end cannot be met, by those
                // further back neither. A bucket says less: a refund or another rate may move its
                // instant forward.
                let paused_until = queue.instant(locked.limits.paused_until());
                if deadline.is_some_and(|deadline| deadline <= now || deadline < paused_until) {
                    return Err(Error::new(
                        ErrorKind::Deadline,
                        "no permit can be had before the deadline: allow more time, or raise the limits",
                    ));
                }
                let wake_at = [wake_at, deadline].into_iter().flatten().min();
                (wake_at, queue.keeper(&mut locked))
            };
            unpark(keeper);
            watch(reason);
            queue.clock.park(&self.parker, wake_at);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let next = {
            let mut locked = self.queue.lock();
            let was_head = locked.waiting.keys().next() == Some(&self.number);
            locked.waiting.remove(&self.number);
            if was_head {
                locked.head_waits_for = None;
                locked.head()
            } else {
                None
            }
        };
        unpark(next);
    }
}
