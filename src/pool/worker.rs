//! The worker loop: one for every kind of run.
//!
//! A thread that has finished an attempt asks for the next permit itself, whoever leads, and waits only
//! if it must: as the leader if nobody is, as a follower otherwise. While every thread is in an attempt
//! nobody is parked and nobody is woken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::attempt::Finished;
use super::job::{Job, out_of_time};
use super::leader::{Leader, LeaderGuard, RunShared, RunState, Spawner};
use super::outcomes::Sink;
use super::schedule::{Next, Task};
use crate::clock::{Parker, unpark};
use crate::error::Error;
use crate::limit::{Permit, Refusal};
use crate::sync::atomic::Ordering;

/// A thread's life, from its first leadership to its exit.
pub(super) fn work<'env, C: Spawner<'env>>(lead: LeaderGuard<'env, C>, number: usize) {
    let spawner = lead.spawner().clone();
    let run = spawner.run();
    let _counted = run.monitor.counters().thread();
    let _end = EndOnPanic(run);
    let parker = Parker::new();
    let _listening = run.cancel.listen(&parker);
    let mut worker = Worker {
        spawner: &spawner,
        number,
        parker,
        lead: Some(lead),
        idle: false,
        trying: false,
        refused: false,
    };
    let mut finished = None;
    // Everything but the attempt happens in `next`, whose frame is gone by then: thousands of threads
    // wait in their attempts at once, and their stacks are most of the memory of a run.
    while let Some((task, permit)) = worker.next(finished) {
        finished = run.run_attempt(task, permit);
    }
}

/// One thread of a run.
struct Worker<'w, 'env, C: Spawner<'env>> {
    spawner: &'w C,
    number: usize,
    parker: Arc<Parker>,
    lead: Option<LeaderGuard<'env, C>>,
    /// It is parked as a follower.
    idle: bool,
    /// It asks for a permit while somebody else leads.
    trying: bool,
    /// It has been refused a permit while somebody else leads.
    refused: bool,
}

/// Threads that may ask for a permit at once while somebody else leads. Measured on two cores against
/// none: empty jobs at 64 at once take less than half of the CPU, and at 1,000 at once with all answers
/// in the same moment about as much.
const MOST_TRYING: usize = 4;

type Input<'env, C> = <<C as Spawner<'env>>::Job as Job>::Input;
type Fault<'env, C> = <<C as Spawner<'env>>::Job as Job>::Error;
type BoxedTask<'env, C> = Box<Task<Input<'env, C>, Fault<'env, C>>>;

/// What a thread does next.
enum Step<I, E> {
    Attempt(Box<Task<I, E>>),
    GiveUp(Box<Task<I, E>>, Error),
    Broken {
        index: u64,
        message: String,
    },
    Park(Option<Instant>),
    /// The run is over, or goes on without this thread.
    Exit,
}

impl<'env, C: Spawner<'env>> Worker<'_, 'env, C> {
    /// Everything between two attempts; `None` when the thread is to exit.
    #[inline(never)]
    fn next(&mut self, mut finished: Option<Finished>) -> Option<(BoxedTask<'env, C>, Permit)> {
        let run = self.spawner.run();
        loop {
            finished = match self.step(finished.take()) {
                Step::Attempt(task) => {
                    let admitted = self.admit(task);
                    self.stop_trying();
                    match admitted {
                        Ok(Some(admitted)) => {
                            if let Some(lead) = self.lead.take() {
                                lead.pass_on();
                            }
                            return Some(admitted);
                        }
                        Ok(None) => None,
                        Err(finished) => Some(finished),
                    }
                }
                Step::GiveUp(task, why) => Some(run.give_up(task, why)),
                Step::Broken { index, message } => Some(run.broken(index, message)),
                Step::Park(until) => {
                    run.limiter.clock().park(&self.parker, until);
                    None
                }
                Step::Exit => return None,
            };
        }
    }

    /// Settles what was finished, and finds the next thing to do, under one lock.
    fn step(&mut self, finished: Option<Finished>) -> Step<Input<'env, C>, Fault<'env, C>> {
        let run = self.spawner.run();
        // Dropped after the lock.
        let mut _old_news = None;
        let mut state = run.state.lock();
        let now = run.limiter.clock().now();
        // Whom to tell that something has changed.
        let mut news = None;
        if let Some(finished) = finished {
            let held = state.schedule.next_probe(now).is_some();
            state.schedule.finished(finished.index, finished.succeeded);
            if held {
                news = state.parked_leader();
                _old_news = run.note_outage(&state.schedule, None, now);
            }
        }
        if run.cancel.is_cancelled() && !state.schedule.is_stopped() {
            state.schedule.stop();
            news = state.parked_leader();
        }
        if state.ended || state.schedule.is_over() {
            let first = !state.ended;
            let parkers = state.end();
            drop(state);
            parkers.iter().for_each(|parker| parker.unpark());
            if first {
                run.sink.end();
            }
            return Step::Exit;
        }
        let step = match self.take_part(&mut state) {
            None => self.take_next(&mut state, now),
            Some(step) => step,
        };
        drop(state);
        unpark(news);
        step
    }

    /// Whether this thread may look for a task: `None` if so, else what it does instead.
    fn take_part<I, E>(&mut self, state: &mut RunState<'env, C::Job>) -> Option<Step<I, E>> {
        if self.lead.is_none() {
            match state.leader {
                Leader::Appointed(appointed) if appointed == self.number => {
                    self.idle = false;
                    self.lead = Some(LeaderGuard::taken(self.spawner.clone()));
                }
                // Woken for nothing.
                _ if self.idle => return Some(Step::Park(None)),
                Leader::Vacant => {}
                // The leader does not wait yet, so there may be a permit. A few may ask for it, so that
                // short jobs are not held up while leadership passes on; were it everybody, a thousand
                // answers in one moment would be a thousand threads at two locks.
                Leader::Busy | Leader::Appointed(_)
                    if !self.refused
                        && self.spawner.run().trying.load(Ordering::Relaxed) < MOST_TRYING =>
                {
                    // Only ever raised under the lock, so never above the bound.
                    self.spawner.run().trying.fetch_add(1, Ordering::Relaxed);
                    self.trying = true;
                }
                Leader::Busy | Leader::Appointed(_) | Leader::Waiting | Leader::Parked(_) => {
                    return Some(self.follow(state));
                }
            }
        }
        self.refused = false;
        None
    }

    /// Takes what the schedule has to do; if that is nothing, the thread leads, follows or exits.
    fn take_next(
        &mut self,
        state: &mut RunState<'env, C::Job>,
        now: Instant,
    ) -> Step<Input<'env, C>, Fault<'env, C>> {
        let run = self.spawner.run();
        if self.lead.is_some() {
            state.leader = Leader::Busy;
        }
        let until = match state.schedule.next(now, &self.parker) {
            Next::Attempt(task) => return Step::Attempt(run.end_backoff(task, now)),
            Next::GiveUp(task, why) => return Step::GiveUp(run.end_backoff(task, now), why),
            Next::Broken { index, message } => return Step::Broken { index, message },
            Next::Wait(until) => until,
        };
        if self.lead.is_none() && !matches!(state.leader, Leader::Vacant) {
            return self.follow(state);
        }
        if state.try_exit() {
            return Step::Exit;
        }
        // The schedule may have found its end just now: the next look sees it.
        if state.schedule.is_over() {
            self.parker.unpark();
        }
        state.leader = Leader::Parked(Arc::clone(&self.parker));
        if self.lead.is_none() {
            self.lead = Some(LeaderGuard::taken(self.spawner.clone()));
        }
        Step::Park(until)
    }

    /// Parks as a follower, unless the thread is not needed any more.
    fn follow<I, E>(&mut self, state: &mut RunState<'env, C::Job>) -> Step<I, E> {
        self.stop_trying();
        if state.try_exit() {
            return Step::Exit;
        }
        self.idle = true;
        self.refused = false;
        state.idle.push((self.number, Arc::clone(&self.parker)));
        Step::Park(None)
    }

    fn stop_trying(&mut self) {
        if std::mem::take(&mut self.trying) {
            self.spawner.run().trying.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gets a permit for a task: at once, or after a wait if nobody else waits for one. `None` if the
    /// task was given back, since somebody else does; an error is the task's end.
    fn admit(
        &mut self,
        mut task: BoxedTask<'env, C>,
    ) -> Result<Option<(BoxedTask<'env, C>, Permit)>, Finished> {
        let run = self.spawner.run();
        let cost = match task.cost {
            Some(cost) => cost,
            None => match catch_unwind(AssertUnwindSafe(|| run.job.cost(&task.input))) {
                Ok(Ok(cost)) => *task.cost.insert(cost),
                Ok(Err(error)) => return Err(run.give_up(task, error)),
                Err(panic) => return Err(run.panicked(task, &*panic)),
            },
        };
        let deadline = task.history.deadline;
        if deadline.is_some_and(|deadline| deadline <= run.limiter.clock().now()) {
            return Err(run.give_up(task, out_of_time()));
        }
        match run.limiter.try_acquire(cost) {
            Ok(permit) => return Ok(Some((task, permit))),
            Err(Refusal::Never(error)) => return Err(run.give_up(task, error)),
            Err(Refusal::NotUntil(_) | Refusal::Busy) => {}
        }
        {
            let mut state = run.state.lock();
            if self.lead.is_none() {
                if !matches!(state.leader, Leader::Vacant) {
                    self.refused = true;
                    state.schedule.give_back(task);
                    let leader = state.parked_leader();
                    drop(state);
                    unpark(leader);
                    return Ok(None);
                }
                self.lead = Some(LeaderGuard::taken(self.spawner.clone()));
            }
            state.leader = Leader::Waiting;
        }
        let waiting = run.monitor.counters().at_gate();
        let permit = run.limiter.acquire_until(cost, deadline, Some(&run.cancel));
        drop(waiting);
        match permit {
            Ok(permit) => {
                let waited = permit.waited();
                run.monitor.counters().gate(waited);
                task.waited += waited.total();
                Ok(Some((task, permit)))
            }
            Err(error) => Err(run.give_up(task, error)),
        }
    }
}

/// Ends the run if one of its threads panics outside of the user's code, which would otherwise leave the
/// others, and the consumer, waiting for ever.
struct EndOnPanic<'a, 'env, J: Job, S: Sink<J::Input, J::Output, J::Error>>(
    &'a RunShared<'env, J, S>,
);

impl<J: Job, S: Sink<J::Input, J::Output, J::Error>> Drop for EndOnPanic<'_, '_, J, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel.cancel();
            let parkers = self.0.state.lock().end();
            parkers.iter().for_each(|parker| parker.unpark());
            self.0.sink.end();
        }
    }
}
