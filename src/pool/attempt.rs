//! One attempt at one item, and what follows from it.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use super::input::panic_message;
use super::job::{Attempt, Failure, Job, Panicked};
use super::leader::RunShared;
use super::monitor::{Down, Ending};
use super::outcomes::{JobOutcome, Outcome, Sink};
use super::schedule::{Schedule, Task};
use crate::clock::unpark;
use crate::error::{Error, ErrorKind};
use crate::limit::{Cost, Permit};
use crate::retry::{Decision, Reach, Verdict};

/// An item that is through.
pub(super) struct Finished {
    pub(super) index: u64,
    pub(super) succeeded: bool,
}

/// How one attempt went.
struct Attempted<T, E> {
    /// An `Err` outside is a panic.
    result: thread::Result<Result<T, E>>,
    /// `None` unless it failed.
    verdict: Option<Verdict>,
    used: Option<u64>,
    reach: Reach,
    now: Instant,
}

impl<I, E> Task<I, E> {
    #[expect(clippy::boxed_local, reason = "it comes in its box, and ends here")]
    fn ended<T>(self: Box<Self>, result: Result<T, Failure<E>>) -> JobOutcome<I, T, E> {
        Outcome {
            index: self.index,
            attempts: self.history.attempts,
            waited: self.waited,
            input: Some(self.input),
            result,
            stopped_run: false,
        }
    }
}

impl<J, S> RunShared<'_, J, S>
where
    J: Job,
    S: Sink<J::Input, J::Output, J::Error>,
{
    /// One attempt, and what follows from it; `None` if it will be tried again.
    pub(super) fn run_attempt(
        &self,
        task: Box<Task<J::Input, J::Error>>,
        permit: Permit,
    ) -> Option<Finished> {
        // Two frames, one after the other: while the thread is blocked there is only the first.
        let attempted = self.attempt(&task, permit.cost());
        self.finish_attempt(task, permit, attempted)
    }

    #[inline(never)]
    fn attempt(
        &self,
        task: &Task<J::Input, J::Error>,
        cost: Cost,
    ) -> Attempted<J::Output, J::Error> {
        let counters = self.monitor.counters();
        let clock = self.limiter.clock();
        if let Some(last) = &task.last
            && self.job.possibly_billed(last)
        {
            counters.possibly_billed();
        }
        let attempt = Attempt {
            number: task.history.attempts + 1,
            cost,
            deadline: task.history.deadline,
            cancel: &self.cancel,
            used: Cell::new(None),
            reach: Cell::new(Reach::Answered),
        };
        let began = clock.now();
        let mut verdict = None;
        let result = {
            let _in_flight = counters.attempt();
            let _held = self.limiter.mark_held();
            catch_unwind(AssertUnwindSafe(|| {
                let result = self.job.attempt(&task.input, &attempt);
                verdict = result.as_ref().err().map(|error| self.job.verdict(error));
                result
            }))
        };
        let now = clock.now();
        let reach = match verdict {
            Some(Verdict::Unreachable) => Reach::NotSent,
            _ => attempt.reach.get(),
        };
        counters.attempted(
            now.saturating_duration_since(began),
            reach != Reach::NotSent,
        );
        Attempted {
            result,
            verdict,
            used: attempt.used.get(),
            reach,
            now,
        }
    }

    #[inline(never)]
    fn finish_attempt(
        &self,
        mut task: Box<Task<J::Input, J::Error>>,
        permit: Permit,
        attempted: Attempted<J::Output, J::Error>,
    ) -> Option<Finished> {
        let Attempted {
            result,
            verdict,
            used,
            reach,
            now,
        } = attempted;
        task.history.attempts += u32::from(reach != Reach::NotSent);
        if let Some(verdict) = verdict {
            self.apply_throttle(verdict);
        }
        // Before the result goes anywhere: a consumer may take its time.
        match used {
            Some(tokens) => {
                self.monitor.counters().used(tokens);
                permit.settle(tokens);
            }
            None => drop(permit),
        }
        match result {
            Err(panic) => Some(self.panicked(task, &*panic)),
            Ok(Ok(output)) => Some(self.deliver(task.ended(Ok(output)), Ending::Succeeded)),
            Ok(Err(error)) => {
                self.after_failure(task, error, verdict.unwrap_or(Verdict::Fail), reach, now)
            }
        }
    }

    /// Counts a task out of its backoff.
    pub(super) fn end_backoff(
        &self,
        mut task: Box<Task<J::Input, J::Error>>,
        now: Instant,
    ) -> Box<Task<J::Input, J::Error>> {
        if let Some(since) = task.backing_off.take() {
            let waited = now.saturating_duration_since(since);
            self.monitor.counters().backed_off(waited);
            task.waited += waited;
        }
        task
    }

    /// Tells those who watch whether the breaker keeps attempts back. The answer is what they were
    /// told before, to be dropped outside the lock.
    pub(super) fn note_outage(
        &self,
        schedule: &Schedule<'_, J::Input, J::Error>,
        error: Option<Error>,
        now: Instant,
    ) -> Option<Down> {
        let counters = self.monitor.counters();
        match schedule.next_probe(now) {
            None => counters.outage(None),
            Some(next_probe) if error.is_some() => {
                counters.outage(Some(Down { error, next_probe }))
            }
            // No news of why: what was told stands.
            Some(_) => None,
        }
    }

    /// What holds everyone, before the place becomes free: whoever takes it would be one too many.
    fn apply_throttle(&self, verdict: Verdict) {
        if let Verdict::Throttled | Verdict::PauseAll(_) | Verdict::RetryAfter(_) = verdict {
            self.monitor.counters().throttled();
        }
        match verdict {
            Verdict::Stop => self.cancel.cancel(),
            Verdict::PauseAll(hint) | Verdict::RetryAfter(hint) if !self.retry.obeys(hint) => {
                self.cancel.cancel();
            }
            Verdict::PauseAll(hint) => self.limiter.pause_for(hint),
            _ => {}
        }
    }

    #[inline(never)]
    fn after_failure(
        &self,
        mut task: Box<Task<J::Input, J::Error>>,
        error: J::Error,
        verdict: Verdict,
        reach: Reach,
        now: Instant,
    ) -> Option<Finished> {
        let shown = self.job.shown(&error);
        // Dropped after the lock.
        let mut _old_news = None;
        let mut core = self.core.lock();
        let held = core.schedule.next_probe(now).is_some();
        let decision = core
            .schedule
            .decide(task.index, &mut task.history, verdict, reach, now);
        if held || core.schedule.next_probe(now).is_some() {
            _old_news = self.note_outage(&core.schedule, shown, now);
        }
        if let Decision::RetryAt(at) = decision {
            self.monitor.counters().backs_off(reach != Reach::NotSent);
            task.last = Some(error);
            task.backing_off = Some(now);
            core.schedule.retry_at(task, at);
            let resting = core.resting();
            drop(core);
            unpark(resting);
            return None;
        }
        let news = if held { core.resting() } else { None };
        drop(core);
        unpark(news);
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
                let ending = if called_off {
                    Ending::Abandoned
                } else {
                    Ending::Failed
                };
                let outcome = Outcome {
                    stopped_run,
                    ..task.ended(Err(Failure::Job(error)))
                };
                Some(self.deliver(outcome, ending))
            }
        }
    }

    #[inline(never)]
    pub(super) fn panicked(
        &self,
        task: Box<Task<J::Input, J::Error>>,
        panic: &(dyn Any + Send),
    ) -> Finished {
        let panicked = Panicked::new(panic_message(panic));
        let outcome = task.ended(Err(Failure::Panicked(panicked)));
        self.deliver(outcome, Ending::Failed)
    }

    /// The input's iterator panicked in the place of this item.
    #[cold]
    pub(super) fn broken(&self, index: u64, message: String) -> Finished {
        self.deliver(
            Outcome::not_attempted(index, None, Failure::Panicked(Panicked::new(message))),
            Ending::Failed,
        )
    }

    #[inline(never)]
    pub(super) fn cut(&self, mut task: Box<Task<J::Input, J::Error>>, reason: Error) -> Finished {
        let ending = match reason.kind() {
            ErrorKind::Cancelled => Ending::Abandoned,
            _ => Ending::Failed,
        };
        let last = task.last.take();
        self.deliver(
            task.ended(Err(Failure::NotCompleted { reason, last })),
            ending,
        )
    }

    pub(super) fn deliver(
        &self,
        outcome: JobOutcome<J::Input, J::Output, J::Error>,
        how: Ending,
    ) -> Finished {
        let finished = Finished {
            index: outcome.index,
            succeeded: how == Ending::Succeeded,
        };
        self.monitor.counters().ended(how);
        if !self.sink.deliver(outcome) {
            self.cancel.cancel();
        }
        finished
    }
}

#[cold]
pub(super) fn run_over() -> Error {
    Error::new(
        ErrorKind::Cancelled,
        "the run was stopped before this was done",
    )
}

#[cold]
pub(super) fn out_of_time() -> Error {
    Error::new(
        ErrorKind::Deadline,
        "the deadline comes before the next attempt could",
    )
}
