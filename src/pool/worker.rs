//! The worker loop: one for every kind of run.
//!
//! Leader and followers. At most one idle thread of a run, the *leader*, stands at the gate (or
//! waits for something to take there). When it is admitted it passes the lead on, to an idle
//! thread or a new one, and makes its own attempt: the thread that was admitted is the thread that
//! sends, no task is handed between threads, and no herd ever waits on the limiter. A thread that
//! has finished an attempt tries the gate itself and waits only if it must; with every thread on
//! the wire nobody is parked and nothing is woken. So threads grow to what is in flight at once,
//! rate × latency, and not to what is allowed.
//!
//! The lead is a guard, [`Lead`]: whatever way it is dropped, it is handed on, or lies vacant for
//! the next thread that finishes.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::job::{Attempt, Done, Failure, Job, Panicked};
use super::progress::{Ending, Monitor};
use super::results::Sink;
use super::schedule::{Next, Schedule, Task};
use super::source::panic_message;
use crate::cancel::Cancel;
use crate::clock::Bell;
use crate::error::{Error, ErrorKind};
use crate::limit::{Limiter, Permit, Refusal};
use crate::retry::{Decision, Reach, Retry, Verdict};
use crate::sync::Mutex;

/// What the threads of one run share.
pub(crate) struct Run<'env, J: Job, S> {
    pub(super) job: J,
    pub(super) sink: S,
    pub(super) limiter: Limiter,
    pub(super) retry: Retry,
    pub(super) cancel: Cancel,
    pub(super) monitor: Monitor,
    pub(super) core: Mutex<Core<'env, J>>,
}

pub(super) struct Core<'env, J: Job> {
    schedule: Schedule<'env, J::Input, J::Error>,
    leader: Leader,
    /// Threads with nothing to do, by number; the last to lie down is the first to be woken.
    idle: Vec<(usize, Arc<Bell>)>,
    threads: usize,
    /// The system would not give another thread; those there are must do.
    no_more_threads: bool,
    ended: bool,
}

enum Leader {
    /// Nobody leads; the next thread that finishes will.
    Vacant,
    /// Somebody is on the way, at the gate, or about to look.
    Leads,
    /// An idle thread has been told to.
    Appointed(usize),
    /// The leader has nothing to take to the gate and lies down; its bell.
    Resting(Arc<Bell>),
}

impl<'env, J: Job> Core<'env, J> {
    pub(super) fn new(schedule: Schedule<'env, J::Input, J::Error>) -> Self {
        Self {
            schedule,
            leader: Leader::Leads,
            idle: Vec::new(),
            threads: 1,
            no_more_threads: false,
            ended: false,
        }
    }

    /// The bell of a leader that rests, to tell it that something has changed.
    fn resting(&mut self) -> Option<Arc<Bell>> {
        match &self.leader {
            Leader::Resting(bell) => Some(Arc::clone(bell)),
            _ => None,
        }
    }

    /// Has an idle thread take the lead, or leaves it vacant; the bell to ring.
    fn hand_over(&mut self) -> Option<Arc<Bell>> {
        let next = self.idle.pop();
        self.leader = match next {
            Some((number, _)) => Leader::Appointed(number),
            None => Leader::Vacant,
        };
        next.map(|(_, bell)| bell)
    }

    /// Sends everybody home; the bells to ring.
    fn end(&mut self) -> Vec<Arc<Bell>> {
        self.ended = true;
        let resting = self.resting();
        self.idle
            .drain(..)
            .map(|(_, bell)| bell)
            .chain(resting)
            .collect()
    }
}

/// How a run gets at itself and at more threads: borrowed within a scope, or counted without.
pub(super) trait Crew<'env>: Clone + Send {
    type Job: Job + 'env;
    type Sink: Sink<<Self::Job as Job>::Input, <Self::Job as Job>::Output, <Self::Job as Job>::Error>
        + 'env;

    fn run(&self) -> &Run<'env, Self::Job, Self::Sink>;

    /// Starts a thread that works with this lead.
    fn start(&self, lead: Lead<'env, Self>, number: usize) -> io::Result<()>;
}

/// The lead of a run.
pub(super) struct Lead<'env, C: Crew<'env>> {
    crew: C,
    held: bool,
    _env: std::marker::PhantomData<&'env ()>,
}

impl<'env, C: Crew<'env>> Lead<'env, C> {
    /// The lead that [`Core::new`] starts with, or that has just been taken under the lock.
    pub(super) fn taken(crew: C) -> Self {
        Self {
            crew,
            held: true,
            _env: std::marker::PhantomData,
        }
    }

    /// Hands the lead to an idle thread, or to a new one; if there is nothing to lead to, or no
    /// thread to be had, it lies vacant.
    fn pass_on(mut self) {
        let run = self.crew.run();
        let number = {
            let mut core = run.core.lock();
            if core.ended || !core.schedule.expects_more() {
                core.leader = Leader::Vacant;
                self.held = false;
                return;
            }
            if !core.idle.is_empty() {
                let bell = core.hand_over();
                drop(core);
                ring(bell);
                self.held = false;
                return;
            }
            if core.no_more_threads || core.threads >= run.limiter.concurrency() {
                core.leader = Leader::Vacant;
                self.held = false;
                return;
            }
            core.threads += 1;
            core.threads - 1
        };
        let crew = self.crew.clone();
        // Should it fail, the lead comes back by being dropped, and lies vacant.
        if let Err(error) = crew.start(self, number) {
            log::warn!(
                "cannot start thread {}, going on without: {error}",
                number + 1
            );
            let mut core = crew.run().core.lock();
            core.threads -= 1;
            core.no_more_threads = true;
        }
    }
}

impl<'env, C: Crew<'env>> Drop for Lead<'env, C> {
    fn drop(&mut self) {
        if self.held {
            let bell = self.crew.run().core.lock().hand_over();
            ring(bell);
        }
    }
}

/// What a thread does next.
enum Step<I, E> {
    Attempt(Task<I, E>),
    Abandon(Task<I, E>),
    OutOfTime(Task<I, E>),
    Broken { index: u64, message: String },
    Park(Option<Instant>),
    Over,
}

/// An item that is through.
struct Finished {
    index: u64,
    succeeded: bool,
}

/// A thread's life: from its first lead to the end of the run.
pub(super) fn work<'env, C: Crew<'env>>(lead: Lead<'env, C>, number: usize) {
    let crew = lead.crew.clone();
    let run = crew.run();
    let _counted = run.monitor.counters().thread();
    let _alarm = Alarm(run);
    let bell = Bell::new();
    let _listening = run.cancel.listen(&bell);
    let mut lead = Some(lead);
    let mut finished = None;
    let mut idle = false;
    loop {
        match step(&crew, &mut lead, &mut idle, number, &bell, finished.take()) {
            Step::Attempt(task) => {
                finished = match admit(&crew, task, &mut lead) {
                    Ok(Some((task, permit))) => {
                        if let Some(lead) = lead.take() {
                            lead.pass_on();
                        }
                        run.perform(task, permit, number)
                    }
                    Ok(None) => None,
                    Err(finished) => Some(finished),
                };
            }
            Step::Abandon(task) => {
                finished = Some(run.cut(task, run_over()));
            }
            Step::OutOfTime(task) => {
                finished = Some(run.cut(task, out_of_time()));
            }
            Step::Broken { index, message } => {
                finished = Some(run.deliver(
                    Done {
                        index,
                        input: None,
                        result: Err(Failure::Panicked(Panicked::new(message))),
                        attempts: 0,
                        waited: Duration::ZERO,
                        stopped_run: false,
                    },
                    Ending::Failed,
                ));
            }
            Step::Park(until) => run.limiter.clock().park(&bell, until),
            Step::Over => break,
        }
    }
}

/// Settles what was finished, and finds the next thing to do, under one lock.
fn step<'env, C: Crew<'env>>(
    crew: &C,
    lead: &mut Option<Lead<'env, C>>,
    idle: &mut bool,
    number: usize,
    bell: &Arc<Bell>,
    finished: Option<Finished>,
) -> Step<<C::Job as Job>::Input, <C::Job as Job>::Error> {
    let run = crew.run();
    let mut core = run.core.lock();
    let now = run.limiter.clock().now();
    let mut news = None;
    if let Some(finished) = finished {
        let held = core.schedule.is_held(now);
        core.schedule.finished(finished.index, finished.succeeded);
        if held {
            news = core.resting();
        }
    }
    if run.cancel.is_cancelled() && !core.schedule.is_stopped() {
        core.schedule.stop();
        news = core.resting();
    }
    if core.ended || core.schedule.is_over() {
        let first = !core.ended;
        let bells = core.end();
        if lead.is_some() {
            core.leader = Leader::Leads;
        }
        drop(core);
        for bell in bells {
            bell.ring();
        }
        if first {
            run.sink.end();
        }
        return Step::Over;
    }
    if lead.is_some() {
        core.leader = Leader::Leads;
    } else {
        match core.leader {
            Leader::Appointed(appointed) if appointed == number => {
                *idle = false;
                core.leader = Leader::Leads;
                *lead = Some(Lead::taken(crew.clone()));
            }
            Leader::Vacant if !*idle => {}
            _ => {
                if !*idle {
                    *idle = true;
                    core.idle.push((number, Arc::clone(bell)));
                }
                drop(core);
                ring(news);
                return Step::Park(None);
            }
        }
    }
    let step = match core.schedule.next(now, bell) {
        Next::Attempt(task) => Step::Attempt(run.taken_up(task)),
        Next::Abandon(task) => Step::Abandon(run.taken_up(task)),
        Next::OutOfTime(task) => Step::OutOfTime(run.taken_up(task)),
        Next::Broken { index, message } => Step::Broken { index, message },
        Next::At(at) => Step::Park(Some(at)),
        Next::Wait | Next::Over => Step::Park(None),
    };
    if let Step::Park(_) = step {
        // Over is found above, at the next look: nothing has come in between.
        if core.schedule.is_over() {
            bell.ring();
        }
        core.leader = Leader::Resting(Arc::clone(bell));
        if lead.is_none() {
            *lead = Some(Lead::taken(crew.clone()));
        }
    }
    drop(core);
    ring(news);
    step
}

/// A task that may be attempted; `None` if somebody else stands at the gate and it was given back;
/// or the task's end.
type Admitted<I, E> = Result<Option<(Task<I, E>, Permit)>, Finished>;

/// Takes a task through the gate: waiting, with the lead; trying once, without.
fn admit<'env, C: Crew<'env>>(
    crew: &C,
    mut task: Task<<C::Job as Job>::Input, <C::Job as Job>::Error>,
    lead: &mut Option<Lead<'env, C>>,
) -> Admitted<<C::Job as Job>::Input, <C::Job as Job>::Error> {
    let run = crew.run();
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
    if lead.is_none() {
        match run.limiter.try_acquire(cost) {
            Ok(permit) => return Ok(Some((task, permit))),
            Err(Refusal::Never(error)) => return Err(run.cut(task, error)),
            Err(Refusal::NotUntil(_) | Refusal::Busy) => {
                let mut core = run.core.lock();
                if let Leader::Vacant = core.leader {
                    core.leader = Leader::Leads;
                    *lead = Some(Lead::taken(crew.clone()));
                } else {
                    core.schedule.give_back(task);
                    let resting = core.resting();
                    drop(core);
                    ring(resting);
                    return Ok(None);
                }
            }
        }
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

impl<J, S> Run<'_, J, S>
where
    J: Job,
    S: Sink<J::Input, J::Output, J::Error>,
{
    /// One attempt, and what follows from it; `None` if it will be tried again.
    fn perform(
        &self,
        mut task: Task<J::Input, J::Error>,
        permit: Permit,
        lane: usize,
    ) -> Option<Finished> {
        let counters = self.monitor.counters();
        let clock = self.limiter.clock();
        let attempt = Attempt {
            number: task.history.attempts + 1,
            lane,
            cost: permit.cost(),
            deadline: task.history.deadline,
            cancel: &self.cancel,
            used: Cell::new(None),
            reach: Cell::new(Reach::Answered),
        };
        let began = clock.now();
        let outcome = {
            let _in_flight = counters.attempt();
            let _held = self.limiter.mark_held();
            catch_unwind(AssertUnwindSafe(|| {
                let result = self.job.attempt(&task.input, &attempt);
                let verdict = result.as_ref().err().map(|error| self.job.verdict(error));
                (result, verdict)
            }))
        };
        let now = clock.now();
        let used = attempt.used.get();
        let reach = match outcome {
            Ok((_, Some(Verdict::Unreachable))) => Reach::NotSent,
            _ => attempt.reach.get(),
        };
        let sent = reach != Reach::NotSent;
        task.history.attempts += u32::from(sent);
        counters.attempted(now.saturating_duration_since(began), sent);
        if let Ok((_, Some(verdict))) = &outcome {
            self.hold_others(*verdict);
        }
        // Before the result goes anywhere: a consumer may take its time.
        match used {
            Some(tokens) => {
                counters.used(tokens);
                permit.settle(tokens);
            }
            None => drop(permit),
        }
        match outcome {
            Err(panic) => Some(self.panicked(task, &*panic)),
            Ok((Ok(output), _)) => Some(self.deliver(
                Done {
                    index: task.index,
                    input: Some(task.input),
                    result: Ok(output),
                    attempts: task.history.attempts,
                    waited: task.waited,
                    stopped_run: false,
                },
                Ending::Succeeded,
            )),
            Ok((Err(error), verdict)) => {
                self.after_failure(task, error, verdict.unwrap_or(Verdict::Fail), reach, now)
            }
        }
    }

    /// Counts a task out of its backoff.
    fn taken_up(&self, mut task: Task<J::Input, J::Error>) -> Task<J::Input, J::Error> {
        if std::mem::take(&mut task.backing_off) {
            self.monitor.counters().backed_off();
        }
        task
    }

    /// What holds everyone, before the place becomes free: whoever takes it would be one too many.
    fn hold_others(&self, verdict: Verdict) {
        if let Verdict::Throttled | Verdict::Wait(_) | Verdict::WaitAlone(_) = verdict {
            self.monitor.counters().throttled();
        }
        match verdict {
            Verdict::Stop => self.cancel.cancel(),
            Verdict::Wait(hint) | Verdict::WaitAlone(hint) if !self.retry.obeys(hint) => {
                self.cancel.cancel();
            }
            Verdict::Wait(hint) => self.limiter.pause_for(hint),
            _ => {}
        }
    }

    fn after_failure(
        &self,
        mut task: Task<J::Input, J::Error>,
        error: J::Error,
        verdict: Verdict,
        reach: Reach,
        now: Instant,
    ) -> Option<Finished> {
        let mut core = self.core.lock();
        let held = core.schedule.is_held(now);
        let decision = core
            .schedule
            .decide(task.index, &mut task.history, verdict, reach, now);
        if let Decision::RetryAt(at) = decision {
            let wait = at.saturating_duration_since(now);
            self.monitor.counters().backs_off(wait);
            task.waited += wait;
            task.last = Some(error);
            task.backing_off = true;
            core.schedule.retry_at(task, at);
            let resting = core.resting();
            drop(core);
            ring(resting);
            return None;
        }
        let news = if held { core.resting() } else { None };
        drop(core);
        ring(news);
        match decision {
            Decision::OutOfTime => {
                task.last = Some(error);
                Some(self.cut(task, out_of_time()))
            }
            Decision::RetryAt(_) | Decision::Fail | Decision::Stop => {
                let stopped_run = decision == Decision::Stop;
                if stopped_run {
                    // Wakes the leader, at the gate or resting.
                    self.cancel.cancel();
                }
                // An answer that came in the same moment is a failure of its own.
                let called_off = reach != Reach::Answered && self.cancel.is_aborted();
                Some(self.deliver(
                    Done {
                        index: task.index,
                        input: Some(task.input),
                        result: Err(Failure::Job(error)),
                        attempts: task.history.attempts,
                        waited: task.waited,
                        stopped_run,
                    },
                    if called_off {
                        Ending::Abandoned
                    } else {
                        Ending::Failed
                    },
                ))
            }
        }
    }

    fn panicked(
        &self,
        task: Task<J::Input, J::Error>,
        panic: &(dyn std::any::Any + Send),
    ) -> Finished {
        self.deliver(
            Done {
                index: task.index,
                input: Some(task.input),
                result: Err(Failure::Panicked(Panicked::new(panic_message(panic)))),
                attempts: task.history.attempts,
                waited: task.waited,
                stopped_run: false,
            },
            Ending::Failed,
        )
    }

    fn cut(&self, task: Task<J::Input, J::Error>, reason: Error) -> Finished {
        let ending = match reason.kind() {
            ErrorKind::Cancelled => Ending::Abandoned,
            _ => Ending::Failed,
        };
        self.deliver(
            Done {
                index: task.index,
                input: Some(task.input),
                result: Err(Failure::Cut {
                    reason,
                    last: task.last,
                }),
                attempts: task.history.attempts,
                waited: task.waited,
                stopped_run: false,
            },
            ending,
        )
    }

    fn deliver(&self, done: Done<J::Input, J::Output, J::Error>, how: Ending) -> Finished {
        let finished = Finished {
            index: done.index,
            succeeded: how == Ending::Succeeded,
        };
        self.monitor.counters().ended(how);
        if !self.sink.deliver(done) {
            self.cancel.cancel();
        }
        finished
    }
}

/// Ends the run if one of its threads dies of a fault of our own, which would otherwise leave the
/// others, and the consumer, waiting for ever.
struct Alarm<'a, 'env, J: Job, S: Sink<J::Input, J::Output, J::Error>>(&'a Run<'env, J, S>);

impl<J: Job, S: Sink<J::Input, J::Output, J::Error>> Drop for Alarm<'_, '_, J, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel.cancel();
            let bells = self.0.core.lock().end();
            for bell in bells {
                bell.ring();
            }
            self.0.sink.end();
        }
    }
}

#[cold]
fn run_over() -> Error {
    Error::new(
        ErrorKind::Cancelled,
        "the run was stopped before this was done",
    )
}

#[cold]
fn out_of_time() -> Error {
    Error::new(
        ErrorKind::Deadline,
        "the deadline comes before the next attempt could",
    )
}

fn ring(bell: Option<Arc<Bell>>) {
    if let Some(bell) = bell {
        bell.ring();
    }
}
