//! What clones of a limiter and their permits share: a lock around the [`LimiterState`], and the
//! queue of threads that wait for a permit.
//!
//! `NOTES.md` in this folder has the states of a ticket, who wakes whom, and why nobody starves.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::bucket::{Admission, Nanos};
use super::rate::Cost;
use super::sharing::Next;
use super::state::{LimiterState, Start};
use crate::binding::{Binding, Times};
use crate::cancel::Cancel;
use crate::clock::{Clock, Parker};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, MutexGuard};

pub(super) struct Queue {
    pub(super) clock: Clock,
    epoch: Instant,
    locked: Mutex<Locked>,
    /// Wakes the thread that talks to the store of limits that are shared.
    pub(super) keeper_parker: Arc<Parker>,
}

/// What the lock is around.
pub(super) struct Locked {
    pub(super) limits: LimiterState,
    /// Who waits, by ticket number. The first is the head, and only the head asks for admission.
    pub(super) waiting: BTreeMap<u64, Waiter>,
    next_ticket: u64,
    /// What the head waits for. `None` until it has asked for the first time.
    head_waits_for: Option<Binding>,
    /// The last limiter and the last permit are gone.
    is_over: bool,
}

pub(super) struct Waiter {
    parker: Arc<Parker>,
    patience: Patience,
}

/// How long a thread waits for a permit at the most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    pub(crate) deadline: Option<Instant>,
    /// The longest pause of which it waits for the end, if another process began it.
    pub(crate) longest_pause: Option<Duration>,
}

impl Locked {
    fn head(&self) -> Option<Arc<Parker>> {
        let head = self.waiting.values().next()?;
        Some(Arc::clone(&head.parker))
    }

    /// The head, if it waits for a reason that `concerns` it. A head that has not asked yet needs
    /// no wake: it sees the change when it asks.
    pub(super) fn head_if(&self, concerns: impl Fn(Binding) -> bool) -> Option<Arc<Parker>> {
        self.head_waits_for
            .filter(|&reason| concerns(reason))
            .and_then(|_| self.head())
    }

    /// Admits `cost` if nobody waits.
    pub(super) fn admit(&mut self, cost: Cost, now: Nanos) -> Result<Admission> {
        self.limits.check_fits(cost)?;
        if self.waiting.is_empty() {
            return Ok(self.limits.admit(cost, now));
        }
        Ok(Admission::When(Binding::Queue))
    }

    /// Admits nothing before `until`. The answer is who is to be told: those who cannot wait so
    /// long. Nobody else is woken: a head that waits for an earlier instant finds the pause then.
    pub(super) fn pause(&mut self, until: Nanos, now: Nanos, queue: &Queue) -> Vec<Arc<Parker>> {
        self.limits.pause(until, now);
        let waiting = self.waiting.values();
        waiting
            .filter(|waiter| self.in_vain(waiter.patience, now, queue).is_some())
            .map(|waiter| Arc::clone(&waiter.parker))
            .collect()
    }

    /// Why somebody with this patience waits in vain, those further back in the queue too. A pause is
    /// never shortened, so a deadline before its end cannot be met. A bucket says less: a refund or
    /// another rate may move its instant forward.
    fn in_vain(&self, patience: Patience, now: Nanos, queue: &Queue) -> Option<Error> {
        let paused_until = queue.instant(self.limits.paused_until);
        let is_missed = |at| at <= queue.instant(now) || at < paused_until;
        if patience.deadline.is_some_and(is_missed) {
            return Some(Error::new(
                ErrorKind::Deadline,
                "no permit can be had before the deadline: allow more time, or raise the limits",
            ));
        }
        let shared = self.limits.set.shared.as_ref()?;
        let pause = Duration::from_nanos(shared.others_pause.saturating_sub(now));
        let seconds = pause.as_secs_f64().ceil();
        (pause > patience.longest_pause?).then(|| {
            Error::new(
                ErrorKind::ServerDelay,
                format!(
                    "the server asks another process that shares the limit for a longer wait than \
                     is allowed here, {seconds} s; run again after that time, or allow longer \
                     ones (`max_server_delay`)"
                ),
            )
        })
    }

    /// What the keeper does next.
    pub(super) fn next_ask(&mut self, now: Nanos) -> Next {
        let (in_flight, waiting) = (self.limits.in_flight(), self.waiting.len());
        match &mut self.limits.set.shared {
            None => Next::End(None),
            Some(shared) if self.is_over => Next::End(shared.last()),
            Some(shared) => shared.next(in_flight, waiting, now),
        }
    }
}

/// A century: longer than any wait, and within what an `Instant` can hold.
pub(super) const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Queue {
    pub(super) fn new(limits: LimiterState, clock: Clock) -> Self {
        Self {
            epoch: clock.now(),
            clock,
            locked: Mutex::new(Locked {
                limits,
                waiting: BTreeMap::new(),
                next_ticket: 0,
                head_waits_for: None,
                is_over: false,
            }),
            keeper_parker: Parker::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock()
    }

    /// Changes what the lock is around. Without the lock it then wakes those that the change names,
    /// and the keeper if it has something to do at once.
    #[inline]
    pub(super) fn update<T, W: IntoIterator<Item = Arc<Parker>>>(
        &self,
        change: impl FnOnce(&mut Locked, Nanos) -> (T, W),
    ) -> T {
        let (result, to_wake, calls) = {
            let mut locked = self.lock();
            let now = self.now();
            let (result, to_wake) = change(&mut locked, now);
            let shared = locked.limits.set.shared.as_ref();
            (result, to_wake, shared.is_some_and(|it| it.has_call(now)))
        };
        to_wake.into_iter().for_each(|parker| parker.unpark());
        if calls {
            self.keeper_parker.unpark();
        }
        result
    }

    /// Waits until `cost` is admitted. How long that took is added to `waited`, whatever comes of
    /// it. What it waits for is told to `watch`, without a lock.
    pub(super) fn acquire(
        &self,
        cost: Cost,
        patience: Patience,
        cancel: Option<&Cancel>,
        waited: &mut Times,
        watch: impl Fn(Binding),
    ) -> Result<Start> {
        let ticket = self.ticket(cost, patience)?;
        if let Some(cancel) = cancel {
            cancel.listen(&ticket.parker);
        }
        let (mut since, mut reason) = (self.now(), Binding::Queue);
        loop {
            let (looked, start) = self.update(|locked, now| {
                waited.add(reason, Duration::from_nanos(now.saturating_sub(since)));
                since = now;
                let looked = if cancel.is_some_and(Cancel::is_cancelled) {
                    let what = "cancelled while waiting for a permit";
                    Err(Error::new(ErrorKind::Cancelled, what))
                } else {
                    ticket.look(locked, cost, patience, now)
                };
                ((looked, locked.limits.start()), None)
            });
            let mut until = patience.deadline;
            reason = match looked? {
                Admission::Now => return Ok(start),
                Admission::When(reason) => reason,
                Admission::At(at, reason) => {
                    let at = self.instant(at);
                    until = Some(until.map_or(at, |until| until.min(at)));
                    reason
                }
            };
            watch(reason);
            self.clock.park(&ticket.parker, until);
        }
    }

    fn ticket(&self, cost: Cost, patience: Patience) -> Result<Ticket<'_>> {
        self.update(|locked, _| {
            let fits = locked.limits.check_fits(cost).map(|()| {
                let (number, parker) = (locked.next_ticket, Parker::new());
                locked.next_ticket += 1;
                let waiter = Waiter {
                    parker: Arc::clone(&parker),
                    patience,
                };
                locked.waiting.insert(number, waiter);
                Ticket {
                    queue: self,
                    number,
                    parker,
                }
            });
            (fits, None)
        })
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

/// A number in the queue. Dropping it leaves the queue and wakes the next head, on every path:
/// after a permit, an error or a panic.
struct Ticket<'a> {
    queue: &'a Queue,
    number: u64,
    parker: Arc<Parker>,
}

impl Ticket<'_> {
    fn is_head(&self, locked: &Locked) -> bool {
        locked.waiting.keys().next() == Some(&self.number)
    }

    /// Asks for admission if it is the head of the queue.
    fn look(
        &self,
        locked: &mut Locked,
        cost: Cost,
        patience: Patience,
        now: Nanos,
    ) -> Result<Admission> {
        let mut admission = Admission::When(Binding::Queue);
        if self.is_head(locked) {
            admission = locked.limits.admit(cost, now);
            let paused_until = locked.limits.paused_until;
            let at = match admission {
                Admission::Now => return Ok(admission),
                Admission::At(at, reason) => {
                    locked.head_waits_for = Some(reason);
                    at
                }
                Admission::When(reason) => {
                    locked.head_waits_for = Some(reason);
                    Nanos::MAX
                }
            };
            // Whatever holds it after a pause, until then it is the pause.
            if paused_until > now {
                admission = Admission::At(at.min(paused_until), Binding::Pause);
            }
        }
        let in_vain = locked.in_vain(patience, now, self.queue);
        in_vain.map_or(Ok(admission), Err)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.queue.update(|locked, _| {
            let was_head = self.is_head(locked);
            locked.waiting.remove(&self.number);
            if was_head {
                locked.head_waits_for = None;
            }
            ((), was_head.then(|| locked.head()).flatten())
        });
    }
}

/// What limiters and permits hold. With the last of them the keeper ends.
pub(super) struct Users {
    pub(super) queue: Arc<Queue>,
    /// Disconnects when the keeper has ended. `None` without a keeper.
    pub(super) ended: Option<Receiver<()>>,
}

/// How long the drop of the last limiter waits, in real time, until its lease is given back.
const LAST_WORDS: Duration = Duration::from_millis(250);

impl Deref for Users {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        let Some(ended) = &self.ended else { return };
        self.queue.lock().is_over = true;
        self.queue.keeper_parker.unpark();
        // Under loom there is no real time.
        if cfg!(not(loom)) {
            // If the time is over, what was not given back lapses.
            let _in_time = ended.recv_timeout(LAST_WORDS);
        }
    }
}
