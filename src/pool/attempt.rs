//! One attempt at one item, and what follows from it.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use super::events::Event;
use super::input::panic_message;
use super::job::{Attempt, Failure, Job, Panicked, out_of_time};
use super::leader::RunShared;
use super::monitor::{Down, Ending};
use super::outcomes::{JobOutcome, Outcome, Sink};
use super::schedule::{Schedule, Task};
use crate::clock::unpark;
use crate::error::{Error, ErrorKind};
use crate::limit::{Cost, Permit};
use crate::retry::{Decision, Reach, Verdict};

/// An item that has its outcome.
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
    pause: Option<Duration>,
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
    /// One attempt, and what follows from it; `None` if the item will be tried again.
    pub(super) fn run_attempt(
        &self,
        task: Box<Task<J::Input, J::Error>>,
        permit: Permit,
    ) -> Option<Finished> {
        // Two frames, one after the other: while the thread waits in its attempt there is only the
        // first.
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
            pause: Cell::new(None),
            reach: Cell::new(Reach::Answered),
        };
        self.events.emit(|| Event::AttemptStarted {
            index: task.index,
            attempt: attempt.number,
        });
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
            pause: attempt.pause.get(),
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
            pause,
            reach,
            now,
        } = attempted;
        let number = task.history.attempts + 1;
        task.history.attempts += u32::from(reach != Reach::NotSent);
        // Before the permit is free: whoever takes its place would be one too many.
        let paused = self.apply_throttle(verdict, pause);
        // Before the result goes anywhere: a consumer may take its time.
        match used {
            Some(tokens) => {
                self.monitor.counters().used(tokens);
                permit.settle(tokens);
            }
            None => drop(permit),
        }
        if let Some(wait) = paused {
            self.events.emit(|| Event::Pause { wait });
        }
        match result {
            Err(panic) => Some(self.panicked(task, &*panic)),
            Ok(Ok(output)) => Some(self.deliver(task.ended(Ok(output)), Ending::Succeeded)),
            Ok(Err(error)) => {
                let failed = Failed {
                    error,
                    verdict: verdict.unwrap_or(Verdict::Fail),
                    reach,
                    number,
                };
                self.after_failure(task, failed, now)
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

    /// Tells the monitor whether the breaker keeps attempts back. Returns what it was told before, to
    /// be dropped outside the lock.
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

    /// Stops or pauses everyone, if the attempt asks for that. Returns how long the pause is.
    fn apply_throttle(
        &self,
        verdict: Option<Verdict>,
        pause: Option<Duration>,
    ) -> Option<Duration> {
        if let Some(Verdict::Throttled | Verdict::PauseAll(_) | Verdict::RetryAfter(_)) = verdict {
            self.monitor.counters().throttled();
        }
        let pause = match verdict {
            Some(Verdict::Stop) => {
                self.cancel.cancel();
                pause
            }
            Some(Verdict::PauseAll(hint) | Verdict::RetryAfter(hint))
                if !self.retry.obeys(hint) =>
            {
                self.cancel.cancel();
                pause
            }
            Some(Verdict::PauseAll(hint)) => Some(hint.max(pause.unwrap_or_default())),
            _ => pause,
        };
        if let Some(wait) = pause {
            self.limiter.pause_for(wait);
        }
        pause
    }

    #[inline(never)]
    fn after_failure(
        &self,
        mut task: Box<Task<J::Input, J::Error>>,
        failed: Failed<J::Error>,
        now: Instant,
    ) -> Option<Finished> {
        let Failed {
            error,
            verdict,
            reach,
            number,
        } = failed;
        let shown = self.job.shown(&error);
        // Dropped after the lock.
        let mut _old_news = None;
        let mut state = self.state.lock();
        let held = state.schedule.next_probe(now).is_some();
        let decision = state
            .schedule
            .decide(task.index, &mut task.history, verdict, reach, now);
        if held || state.schedule.next_probe(now).is_some() {
            _old_news = self.note_outage(&state.schedule, shown, now);
        }
        if let Decision::RetryAt(at) = decision {
            self.monitor.counters().backs_off(reach != Reach::NotSent);
            let index = task.index;
            task.last = Some(error);
            task.backing_off = Some(now);
            state.schedule.retry_at(task, at);
            let leader = state.parked_leader();
            drop(state);
            unpark(leader);
            self.events.emit(|| Event::Retry {
                index,
                attempt: number,
                wait: at.saturating_duration_since(now),
            });
            return None;
        }
        let leader = if held { state.parked_leader() } else { None };
        drop(state);
        unpark(leader);
        if decision == Decision::OutOfTime {
            task.last = Some(error);
            return Some(self.give_up(task, out_of_time()));
        }
        let stopped_run = decision == Decision::Stop;
        if stopped_run {
            // Wakes the leader, too.
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
        let failure = Failure::Panicked(Panicked::new(message));
        self.deliver(Outcome::not_attempted(index, None, failure), Ending::Failed)
    }

    /// Ends an item for a reason of the run's own.
    #[inline(never)]
    pub(super) fn give_up(
        &self,
        mut task: Box<Task<J::Input, J::Error>>,
        reason: Error,
    ) -> Finished {
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

    fn deliver(&self, outcome: JobOutcome<J::Input, J::Output, J::Error>, how: Ending) -> Finished {
        let finished = Finished {
            index: outcome.index,
            succeeded: how == Ending::Succeeded,
        };
        self.monitor.counters().ended(how);
        self.events.emit(|| Event::Done {
            index: outcome.index,
            attempts: outcome.attempts,
            succeeded: finished.succeeded,
        });
        if !self.sink.deliver(outcome) {
            self.cancel.cancel();
        }
        finished
    }
}

/// A failed attempt, as far as it decides what follows.
struct Failed<E> {
    error: E,
    verdict: Verdict,
    reach: Reach,
    /// Which attempt it was.
    number: u32,
}
