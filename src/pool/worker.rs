//! The worker loop: one for every kind of run.
//!
//! A thread that has finished an attempt asks for the next permit itself, whoever leads, and waits
//! only if it must: as the leader if nobody is, as a follower otherwise. While every thread is in
//! an attempt nobody is parked and nobody is woken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::job::{Job, out_of_time};
use super::leader::{JobItem, Leader, RunShared, RunState, Spawner};
use super::schedule::{Finished, Next};
use crate::binding::Binding;
use crate::clock::{Parker, unpark};
use crate::limit::{Patience, Permit, Refusal};
use crate::sync::atomic::Ordering;

/// A thread's life, from its first leadership to its exit.
pub(super) fn work<'s, J: Job>(
    run: &'s RunShared<'_, J>,
    spawner: impl Spawner<'s>,
    number: usize,
) {
    run.settings.monitor.update(|progress| {
        // Whoever starts one of the others has counted it.
        progress.threads += u64::from(number == 0);
        progress.threads_peak = progress.threads_peak.max(progress.threads);
    });
    let parker = Parker::new();
    run.settings.cancel.listen(&parker);
    let mut worker = Worker {
        run,
        spawner,
        number,
        parker,
        leads: true,
        idle: false,
        contending: false,
        leaderless: usize::MAX,
    };
    let mut finished = None;
    // Everything but the attempt happens in `next`, whose frame is gone by then: thousands of
    // threads wait in their attempts at once, and their stacks are most of the memory of a run.
    while let Some((item, permit)) = worker.next(finished) {
        finished = run.run_attempt(item, permit);
    }
}

/// One thread of a run.
struct Worker<'s, 'env, J: Job, T: Spawner<'s>> {
    run: &'s RunShared<'env, J>,
    spawner: T,
    number: usize,
    parker: Arc<Parker>,
    leads: bool,
    /// It is parked as a follower.
    idle: bool,
    /// It asks for a permit while somebody else leads.
    contending: bool,
    /// How many threads there were when it last looked, if nobody led them; else `usize::MAX`.
    leaderless: usize,
}

/// Threads that may ask for a permit at once while somebody else leads. Measured on two cores
/// against none: empty jobs at 64 at once take less than half of the CPU, and at 1,000 at once with
/// all answers in the same moment about as much.
const MOST_CONTENDERS: usize = 4;

/// What a thread does next; `None` is to exit, as the run is over, or goes on without this thread.
type Step<J> = Option<Next<<J as Job>::Input, <J as Job>::Error>>;

impl<'s, J: Job, T: Spawner<'s>> Worker<'s, '_, J, T> {
    /// Everything between two attempts; `None` when the thread is to exit.
    #[inline(never)]
    fn next(&mut self, mut finished: Option<Finished>) -> Option<(JobItem<J>, Permit)> {
        let run = self.run;
        loop {
            finished = match self.step(finished.take())? {
                Next::Attempt(item) => {
                    let admitted = self.admit(run.end_backoff(item));
                    self.stop_contending();
                    match admitted {
                        Ok(Some((mut item, permit))) => {
                            // Before leadership passes on, which somebody may have to take for it.
                            run.let_hedge(&mut item);
                            self.pass_on(permit.most_in_flight());
                            return Some((item, permit));
                        }
                        Ok(None) => None,
                        Err(finished) => Some(finished),
                    }
                }
                Next::GiveUp(item, why) => Some(run.give_up(run.end_backoff(item), why)),
                Next::Broken { index, message } => Some(run.broken(index, message)),
                Next::Wait(until) => {
                    run.settings.limiter.clock().park(&self.parker, until);
                    None
                }
            };
        }
    }

    /// Settles what was finished, and finds the next thing to do, under one lock.
    fn step(&mut self, finished: Option<Finished>) -> Step<J> {
        let run = self.run;
        // Dropped after the lock.
        let mut _old_outage = None;
        let mut state = run.state.lock();
        let now = run.settings.limiter.clock().now();
        // A leader without an item, if something has changed for it.
        let mut to_wake = None;
        if let Some(finished) = finished {
            let was_in_outage = state.schedule.next_probe(now).is_some();
            let others_wait = state.schedule.finished(finished) || state.schedule.expects_copies();
            if others_wait || was_in_outage {
                to_wake = state.parked_leader();
            }
            if was_in_outage {
                let probe = state.schedule.next_probe(now);
                _old_outage = run.settings.monitor.set_outage(probe, None);
            }
        }
        if run.settings.cancel.is_cancelled() && state.schedule.stop() {
            to_wake = state.parked_leader();
        }
        if state.ended || state.schedule.is_over() {
            drop(state);
            run.end();
            return None;
        }
        let is_vacant = matches!(state.leader, Leader::Vacant);
        self.leaderless = if is_vacant { state.threads } else { usize::MAX };
        let step = if self.may_look(&mut state) {
            self.look(&mut state, now)
        } else {
            self.follow(&mut state)
        };
        drop(state);
        unpark(to_wake);
        step
    }

    /// Whether this thread may look for an item, and not the leader alone.
    fn may_look(&mut self, state: &mut RunState<J>) -> bool {
        if self.leads {
            return true;
        }
        match state.leader {
            Leader::Appointed(appointed) if appointed == self.number => {
                self.idle = false;
                self.leads = true;
                true
            }
            // Woken for nothing.
            _ if self.idle => false,
            Leader::Vacant => true,
            // The leader does not wait yet, so there may be a permit. A few may ask for it, so that
            // short jobs are not held up while leadership passes on; were it everybody, a thousand
            // answers in one moment would be a thousand threads at two locks.
            Leader::Busy | Leader::Appointed(_) => {
                let few = self.run.contending.load(Ordering::Relaxed) < MOST_CONTENDERS;
                self.contending = few;
                if few {
                    // Only ever raised under the lock, so never above the bound.
                    self.run.contending.fetch_add(1, Ordering::Relaxed);
                }
                few
            }
            Leader::Waiting(..) | Leader::Parked(_) => false,
        }
    }

    /// Takes what the schedule has to do; if that is nothing, the thread leads, follows or exits.
    fn look(&mut self, state: &mut RunState<J>, now: Instant) -> Step<J> {
        if self.leads {
            state.leader = Leader::Busy;
        }
        let next = state.schedule.next(now, &self.parker);
        if state.schedule.has_begun_all() {
            self.run.bind(state, Binding::Wire);
        }
        let until = match next {
            Next::Wait(until) => until,
            next => return Some(next),
        };
        if !self.leads && !matches!(state.leader, Leader::Vacant) {
            return self.follow(state);
        }
        if state.try_exit() {
            return None;
        }
        // The schedule may have found its end just now: the next look sees it.
        if state.schedule.is_over() {
            self.parker.unpark();
        }
        let binding = state.schedule.binding(now);
        self.run.bind(state, binding);
        state.leader = Leader::Parked(Arc::clone(&self.parker));
        self.leads = true;
        Some(Next::Wait(until))
    }

    /// Parks as a follower, unless the thread is not needed any more.
    fn follow(&mut self, state: &mut RunState<J>) -> Step<J> {
        self.stop_contending();
        if !self.idle {
            if state.try_exit() {
                return None;
            }
            self.idle = true;
            state.idle.push((self.number, Arc::clone(&self.parker)));
        }
        Some(Next::Wait(None))
    }

    /// Passes leadership, if it has it, to an idle thread or to a new one; it is vacant if there is
    /// nothing more to wait for, or no thread to be had. If nobody leads it does, if more may send
    /// than there are threads: that number may have grown while all were busy.
    fn pass_on(&mut self, most_in_flight: usize) {
        let led = std::mem::take(&mut self.leads);
        if !led && self.leaderless >= most_in_flight {
            return;
        }
        let (run, spawner) = (self.run, self.spawner);
        let mut state = run.state.lock();
        if !led {
            let Leader::Vacant = state.leader else { return };
            state.leader = Leader::Busy;
        }
        let is_needed = state.schedule.expects_more() || state.schedule.expects_copies();
        if state.ended || !is_needed {
            state.leader = Leader::Vacant;
            return;
        }
        let most = run.settings.limiter.most_threads();
        if !state.idle.is_empty() || state.no_more_threads || state.threads >= most {
            if state.idle.is_empty() {
                run.bind(&mut state, Binding::InFlight);
            }
            let next = state.appoint();
            drop(state);
            unpark(next);
            return;
        }
        let number = state.started;
        state.started += 1;
        state.threads += 1;
        drop(state);
        let monitor = &run.settings.monitor;
        monitor.update(|progress| progress.threads += 1);
        let name = format!("tollgate-{number}");
        if let Err(error) = spawner.start(&name, move || work(run, spawner, number)) {
            log::warn!("cannot start thread {name}, going on without: {error}");
            monitor.update(|progress| progress.threads -= 1);
            let mut state = run.state.lock();
            state.threads -= 1;
            state.no_more_threads = true;
            drop(state);
            run.appoint();
        }
    }

    fn stop_contending(&mut self) {
        if std::mem::take(&mut self.contending) {
            self.run.contending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gets a permit for an item: at once, or after a wait if nobody else waits for one. `None` if
    /// the item was given back, since somebody else does or another item goes first; an error is
    /// the item's end.
    fn admit(&mut self, mut item: JobItem<J>) -> Result<Option<(JobItem<J>, Permit)>, Finished> {
        let run = self.run;
        if item.race.is_some() {
            return Ok(run.admit_copy(item));
        }
        let (limiter, monitor) = (&run.settings.limiter, &run.settings.monitor);
        let cost = match item.cost {
            Some(cost) => cost,
            None => match catch_unwind(AssertUnwindSafe(|| run.job.cost(&item.input))) {
                Ok(Ok(cost)) => *item.cost.insert(cost),
                Ok(Err(error)) => return Err(run.give_up(item, error)),
                Err(panic) => return Err(run.panicked(item, &*panic)),
            },
        };
        let deadline = item.history.deadline;
        if deadline.is_some_and(|deadline| deadline <= limiter.clock().now()) {
            return Err(run.give_up(item, out_of_time()));
        }
        match limiter.try_acquire(cost) {
            Ok(permit) => return Ok(Some((item, permit))),
            Err(Refusal::Never(error)) => return Err(run.give_up(item, error)),
            Err(Refusal::NotUntil(_) | Refusal::Busy) => {}
        }
        let recall = run.settings.cancel.child();
        {
            let mut state = run.state.lock();
            if state.schedule.has_before(item.refused) {
                run.give_back(&mut state, item);
                let leader = state.parked_leader();
                drop(state);
                unpark(leader);
                return Ok(None);
            }
            if !self.leads {
                if !matches!(state.leader, Leader::Vacant) {
                    run.give_back(&mut state, item);
                    self.follow(&mut state);
                    let leader = state.parked_leader();
                    drop(state);
                    unpark(leader);
                    return Ok(None);
                }
                self.leads = true;
            }
            state.leader = Leader::Waiting(recall.clone(), item.refused);
            state.binding = None;
        }
        monitor.update(|progress| progress.waiting += 1);
        let watch = |binding| monitor.set_binding(Some(binding));
        let patience = Patience {
            deadline,
            longest_pause: run.settings.retry.max_server_delay,
        };
        let (permit, waited) = limiter.acquire_until(cost, patience, Some(&recall), watch);
        monitor.update(|progress| {
            progress.waiting -= 1;
            progress.limiter_wait += waited;
        });
        item.times += waited;
        match permit {
            Ok(permit) => Ok(Some((item, permit))),
            Err(_) if recall.is_cancelled() && !run.settings.cancel.is_cancelled() => {
                run.give_back(&mut run.state.lock(), item);
                Ok(None)
            }
            Err(error) => Err(run.give_up(item, error)),
        }
    }
}

/// A thread that panics outside of the user's code ends the run: the others, and the consumer,
/// would wait for ever otherwise.
impl<'s, J: Job, T: Spawner<'s>> Drop for Worker<'s, '_, J, T> {
    fn drop(&mut self) {
        let settings = &self.run.settings;
        settings.monitor.update(|progress| progress.threads -= 1);
        if std::thread::panicking() {
            settings.cancel.cancel();
            self.run.end();
        } else if self.leads {
            self.run.appoint();
        }
    }
}
