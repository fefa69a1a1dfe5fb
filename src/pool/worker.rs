//! The worker loop: one for every kind of run.
//!
//! A thread that has finished an attempt tries the gate itself, whoever leads, and waits only if it
//! must: as the leader if nobody is, as a follower otherwise. With every thread on the wire nobody is
//! parked and nothing is woken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::attempt::{Finished, out_of_time, run_over};
use super::job::Job;
use super::leader::{Leader, LeaderGuard, RunShared, RunState, Spawner};
use super::outcomes::Sink;
use super::schedule::{Next, Task};
use crate::clock::{Parker, unpark};
use crate::limit::{Permit, Refusal};
use crate::sync::atomic::Ordering;

/// A thread's life: from its first lead to the end of the run.
pub(super) fn work<'env, C: Spawner<'env>>(lead: LeaderGuard<'env, C>, number: usize) {
    let spawner = lead.spawner().clone();
    let run = spawner.run();
    let _counted = run.monitor.counters().thread();
    let _alarm = Alarm(run);
    let parker = Parker::new();
    let _listening = run.cancel.listen(&parker);
    let mut worker = Worker {
        spawner: &spawner,
        number,
        parker,
        lead: Some(lead),
        idle: false,
        trying: false,
        turned_away: false,
    };
    let mut finished = None;
    // What there is to it but the attempt is in a frame of its own, which is gone by then: thousands
    // of threads are blocked in theirs at once, and their stacks are what a run takes most of.
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
    /// It lies down as a follower.
    idle: bool,
    /// It tries the gate while somebody else has the lead.
    trying: bool,
    /// It has tried the gate and found it shut, with somebody else to wait there.
    turned_away: bool,
}

/// Threads that may try the gate at once while somebody else has the lead. Measured on two cores
/// against none: on empty jobs at 64 at once it takes less than half of the CPU, and at 1,000 at once
/// with all answers in the same moment about as much.
const MOST_TRYING: usize = 4;

/// What a thread does next.
enum Step<I, E> {
    Attempt(Box<Task<I, E>>),
    Abandon(Box<Task<I, E>>),
    OutOfTime(Box<Task<I, E>>),
    Broken {
        index: u64,
        message: String,
    },
    Park(Option<Instant>),
    /// It goes home: the run is over, or goes on without it.
    Leave,
}

/// A task that may be attempted.
type Admitted<'env, C> = (Box<Task<Input<'env, C>, Fault<'env, C>>>, Permit);

type Input<'env, C> = <<C as Spawner<'env>>::Job as Job>::Input;
type Fault<'env, C> = <<C as Spawner<'env>>::Job as Job>::Error;

impl<'env, C: Spawner<'env>> Worker<'_, 'env, C> {
    /// Everything between two attempts; `None` when the thread is to go home.
    #[inline(never)]
    fn next(&mut self, mut finished: Option<Finished>) -> Option<Admitted<'env, C>> {
        let run = self.spawner.run();
        loop {
            finished = match self.step(finished.take()) {
                Step::Attempt(task) => match self.admit_and_stop_trying(task) {
                    Ok(Some(admitted)) => {
                        if let Some(lead) = self.lead.take() {
                            lead.pass_on();
                        }
                        return Some(admitted);
                    }
                    Ok(None) => None,
                    Err(finished) => Some(finished),
                },
                Step::Abandon(task) => Some(run.cut(task, run_over())),
                Step::OutOfTime(task) => Some(run.cut(task, out_of_time())),
                Step::Broken { index, message } => Some(run.broken(index, message)),
                Step::Park(until) => {
                    run.limiter.clock().park(&self.parker, until);
                    None
                }
                Step::Leave => return None,
            };
        }
    }

    /// Settles what was finished, and finds the next thing to do, under one lock.
    fn step(&mut self, finished: Option<Finished>) -> Step<Input<'env, C>, Fault<'env, C>> {
        let run = self.spawner.run();
        // Dropped after the lock.
        let mut _old_news = None;
        let mut core = run.core.lock();
        let now = run.limiter.clock().now();
        let mut news = None;
        if let Some(finished) = finished {
            let held = core.schedule.next_probe(now).is_some();
            core.schedule.finished(finished.index, finished.succeeded);
            if held {
                news = core.resting();
                _old_news = run.note_outage(&core.schedule, None, now);
            }
        }
        if run.cancel.is_cancelled() && !core.schedule.is_stopped() {
            core.schedule.stop();
            news = core.resting();
        }
        if core.ended || core.schedule.is_over() {
            let first = !core.ended;
            let parkers = core.end();
            drop(core);
            for parker in parkers {
                parker.unpark();
            }
            if first {
                run.sink.end();
            }
            return Step::Leave;
        }
        if self.lead.is_none() {
            match core.leader {
                Leader::Appointed(appointed) if appointed == self.number => {
                    self.idle = false;
                    self.lead = Some(LeaderGuard::taken(self.spawner.clone()));
                }
                // Woken for nothing.
                _ if self.idle => {
                    drop(core);
                    unpark(news);
                    return Step::Park(None);
                }
                Leader::Vacant => {}
                // The leader has not got to the gate yet: it may still be open. A few may try, so
                // that short jobs are not held up by the lead going round; were it everybody, a
                // thousand answers in one moment would be a thousand threads at two locks.
                Leader::OnTheWay | Leader::Appointed(_)
                    if !self.turned_away && run.trying.load(Ordering::Relaxed) < MOST_TRYING =>
                {
                    // Only ever raised under the lock, so never above the bound.
                    run.trying.fetch_add(1, Ordering::Relaxed);
                    self.trying = true;
                }
                Leader::OnTheWay | Leader::Appointed(_) | Leader::AtGate | Leader::Resting(_) => {
                    let step = self.lie_down(&mut core);
                    drop(core);
                    unpark(news);
                    return step;
                }
            }
        }
        self.turned_away = false;
        if self.lead.is_some() {
            core.leader = Leader::OnTheWay;
        }
        let step = match core.schedule.next(now, &self.parker) {
            Next::Attempt(task) => Step::Attempt(run.end_backoff(task, now)),
            Next::Abandon(task) => Step::Abandon(run.end_backoff(task, now)),
            Next::OutOfTime(task) => Step::OutOfTime(run.end_backoff(task, now)),
            Next::Broken { index, message } => Step::Broken { index, message },
            Next::At(at) => Step::Park(Some(at)),
            Next::Wait | Next::Over => Step::Park(None),
        };
        let step = match step {
            Step::Park(_) if self.lead.is_none() && !matches!(core.leader, Leader::Vacant) => {
                self.lie_down(&mut core)
            }
            Step::Park(_) if core.dismiss() => Step::Leave,
            Step::Park(until) => {
                // That it is over is found above, at the next look: nothing has come in between.
                if core.schedule.is_over() {
                    self.parker.unpark();
                }
                core.leader = Leader::Resting(Arc::clone(&self.parker));
                if self.lead.is_none() {
                    self.lead = Some(LeaderGuard::taken(self.spawner.clone()));
                }
                Step::Park(until)
            }
            step => step,
        };
        drop(core);
        unpark(news);
        step
    }

    fn admit_and_stop_trying(
        &mut self,
        task: Box<Task<Input<'env, C>, Fault<'env, C>>>,
    ) -> Result<Option<Admitted<'env, C>>, Finished> {
        let admitted = self.admit(task);
        self.stop_trying();
        admitted
    }

    fn stop_trying(&mut self) {
        if std::mem::take(&mut self.trying) {
            self.spawner.run().trying.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// As a follower, unless it may go home.
    fn lie_down<I, E>(&mut self, core: &mut RunState<'env, C::Job>) -> Step<I, E> {
        self.stop_trying();
        if core.dismiss() {
            return Step::Leave;
        }
        self.idle = true;
        self.turned_away = false;
        core.idle.push((self.number, Arc::clone(&self.parker)));
        Step::Park(None)
    }

    /// Takes a task through the gate: at once if it is open, and else waiting, if nobody else does.
    /// `None` if it was given back, since somebody else stands there; an error is the task's end.
    fn admit(
        &mut self,
        mut task: Box<Task<Input<'env, C>, Fault<'env, C>>>,
    ) -> Result<Option<Admitted<'env, C>>, Finished> {
        let run = self.spawner.run();
        let cost = match task.cost {
            Some(cost) => cost,
            None => match catch_unwind(AssertUnwindSafe(|| run.job.cost(&task.input))) {
                Ok(Ok(cost)) => *task.cost.insert(cost),
                Ok(Err(error)) => return Err(run.cut(task, error)),
                Err(panic) => return Err(run.panicked(task, &*panic)),
            },
        };
        let deadline = task.history.deadline;
        if deadline.is_some_and(|deadline| deadline <= run.limiter.clock().now()) {
            return Err(run.cut(task, out_of_time()));
        }
        match run.limiter.try_acquire(cost) {
            Ok(permit) => return Ok(Some((task, permit))),
            Err(Refusal::Never(error)) => return Err(run.cut(task, error)),
            Err(Refusal::NotUntil(_) | Refusal::Busy) => {}
        }
        {
            let mut core = run.core.lock();
            if self.lead.is_none() {
                if !matches!(core.leader, Leader::Vacant) {
                    self.turned_away = true;
                    core.schedule.give_back(task);
                    let resting = core.resting();
                    drop(core);
                    unpark(resting);
                    return Ok(None);
                }
                self.lead = Some(LeaderGuard::taken(self.spawner.clone()));
            }
            core.leader = Leader::AtGate;
        }
        let standing = run.monitor.counters().at_gate();
        let permit = run.limiter.acquire_until(cost, deadline, Some(&run.cancel));
        drop(standing);
        match permit {
            Ok(permit) => {
                let waited = permit.waited();
                run.monitor.counters().gate(waited);
                task.waited += waited.total();
                Ok(Some((task, permit)))
            }
            Err(error) => Err(run.cut(task, error)),
        }
    }
}

/// Ends the run if one of its threads dies of a fault of our own, which would otherwise leave the
/// others, and the consumer, waiting for ever.
struct Alarm<'a, 'env, J: Job, S: Sink<J::Input, J::Output, J::Error>>(&'a RunShared<'env, J, S>);

impl<J: Job, S: Sink<J::Input, J::Output, J::Error>> Drop for Alarm<'_, '_, J, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel.cancel();
            let parkers = self.0.core.lock().end();
            for parker in parkers {
                parker.unpark();
            }
            self.0.sink.end();
        }
    }
}
