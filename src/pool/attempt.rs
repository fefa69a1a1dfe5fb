//! One attempt at one item, and what follows from it.

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::events::Event;
use super::hedge::End;
use super::input::panic_message;
use super::item::Item;
use super::job::{Attempt, Billed, Caught, Failure, Job, Panicked, out_of_time};
use super::leader::{JobItem, RunShared};
use super::outcomes::{JobOutcome, Outcome, Span};
use super::schedule::Finished;
use crate::binding::Binding;
use crate::cancel::Cancel;
use crate::clock::unpark;
use crate::error::{Error, ErrorKind};
use crate::limit::Permit;
use crate::retry::{Decision, Failed, Reach, Verdict};

impl<J: Job> RunShared<'_, J> {
    /// One attempt, and what follows from it; `None` if the item will be tried again.
    pub(super) fn run_attempt(&self, mut item: JobItem<J>, permit: Permit) -> Option<Finished> {
        // Two frames, one after the other: while the thread waits in its attempt there is only the
        // first.
        let race = item.race.as_ref();
        let cut = race.map_or(&self.settings.cancel, |race| &race.cut).clone();
        self.finish_attempt(self.attempt(&mut item, &permit, &cut), item, permit)
    }

    #[inline(never)]
    fn attempt<'a>(
        &'a self,
        item: &mut Item<J::Input, J::Error>,
        permit: &Permit,
        cut: &'a Cancel,
    ) -> (Caught<J>, Attempt<'a>) {
        let monitor = &self.settings.monitor;
        // The first attempt at an item is sent before its copy.
        let is_copy = item.race.as_ref().is_some_and(|race| race.is_copy);
        let clock = self.settings.limiter.clock();
        let attempt = Attempt {
            index: item.index,
            waited: item.times.waited(),
            number: item.history.attempts + 1 + u32::from(is_copy),
            began: clock.now(),
            cost: permit.cost(),
            deadline: item.history.deadline,
            cancel: &self.settings.cancel,
            cut,
            used: Cell::new(None),
            counted: Cell::new(None),
            pause: Cell::new(None),
            refused_for: Cell::default(),
            why_paused: OnceCell::new(),
            answer: OnceCell::new(),
            reach: Cell::new(Reach::Answered),
        };
        self.settings.emit(|| Event::AttemptStarted {
            index: item.index,
            attempt: attempt.number,
        });
        let reserved = permit.cost().model_tokens();
        monitor.update(|progress| {
            progress.counted_tokens = progress.counted_tokens.saturating_add(reserved);
            progress.in_flight += 1;
            progress.in_flight_peak = progress.in_flight_peak.max(progress.in_flight);
            progress.concurrency = permit.most_in_flight();
        });
        let result = {
            let _held = self.settings.limiter.mark_held();
            catch_unwind(AssertUnwindSafe(|| {
                let result = self.job.attempt(&item.input, &attempt);
                result.map_err(|error| {
                    let verdict = self.job.verdict(&error);
                    (error, verdict)
                })
            }))
        };
        if let Ok(Err((_, Verdict::Unreachable))) = result {
            attempt.reach.set(Reach::NotSent);
        }
        let ended = clock.now();
        let took = ended.saturating_duration_since(attempt.began);
        item.times.add(Binding::Wire, took);
        let sent = attempt.was_sent();
        if sent {
            let status = |error: &Error| error.status().map(|status| status.as_u16());
            let failure = self.shown(&result);
            item.spans.push(Span {
                began: attempt.began,
                ended,
                failure: failure.map(|error| (error.kind(), status(error))),
                is_cut: false,
            });
        }
        let sent_again = sent && item.billed == Billed::Possibly;
        if sent_again {
            item.billed = Billed::PossiblyTwice;
        }
        let counted = attempt.final_cost().model_tokens();
        monitor.update(|progress| {
            let tokens = progress.counted_tokens.saturating_sub(reserved);
            progress.counted_tokens = tokens.saturating_add(counted);
            progress.in_flight -= 1;
            progress.attempts += u64::from(sent);
            progress.hedges += u64::from(sent && is_copy);
            progress.retries += u64::from(sent && !is_copy && item.history.attempts > 0);
            progress.possibly_billed += u64::from(sent_again);
            progress.wire += took;
            progress.tokens += attempt.used.get().unwrap_or(0);
        });
        (result, attempt)
    }

    #[inline(never)]
    fn finish_attempt(
        &self,
        (result, attempt): (Caught<J>, Attempt<'_>),
        mut item: JobItem<J>,
        mut permit: Permit,
    ) -> Option<Finished> {
        item.history.attempts += u32::from(attempt.was_sent());
        let end = self.end_race(&mut item, &result, &attempt);
        let verdict = match &result {
            Ok(Err((_, verdict))) => Some(*verdict),
            _ => None,
        };
        // Before the permit is free: whoever takes its place would be one too many. One that was
        // cut off says nothing.
        let (verdict, hold) = match end {
            End::Lost => (None, None),
            _ => self.learn(verdict, &attempt, &mut permit),
        };
        let why = self.shown(&result).or(attempt.why_paused.get());
        self.apply_throttle(verdict, hold.max(attempt.pause.get()), why);
        if !matches!(result, Ok(Ok(_))) {
            permit.fail();
        }
        // Before the result goes anywhere: a consumer may take its time.
        permit.settle_with(attempt.final_cost());
        if end != End::Decides {
            self.leave_race();
            return None;
        }
        match result {
            Err(panic) => Some(self.panicked(item, &*panic)),
            Ok(Ok(output)) => Some(self.deliver(item.ended(Ok(output)), false)),
            Ok(Err((error, was))) => {
                let verdict = verdict.unwrap_or(was);
                self.after_failure(item, error, (verdict, hold), &attempt)
            }
        }
    }

    pub(super) fn shown<'r>(&self, result: &'r Caught<J>) -> Option<&'r Error> {
        let failed = result.as_ref().ok()?.as_ref().err()?;
        self.job.shown(&failed.0)
    }

    /// Tells the limiter whether an answer was a refusal. What becomes of the verdict then, and how
    /// long everyone waits with the item, if they do.
    fn learn(
        &self,
        verdict: Option<Verdict>,
        attempt: &Attempt<'_>,
        permit: &mut Permit,
    ) -> (Option<Verdict>, Option<Duration>) {
        if attempt.reach.get() != Reach::Answered {
            return (verdict, None);
        }
        let refused = verdict.and_then(|verdict| Some((verdict, verdict.refusal()?)));
        let Some((verdict, hint)) = refused else {
            permit.let_in();
            return (verdict, None);
        };
        let limiter = &self.settings.limiter;
        let heard = limiter.refused(permit, hint, attempt.refused_for.get());
        let max_backoff = self.settings.retry.max_backoff;
        let (verdict, pause) = verdict.heard(heard, attempt.number, max_backoff);
        (Some(verdict), pause)
    }

    /// Counts an item out of its backoff.
    pub(super) fn end_backoff(&self, mut item: JobItem<J>) -> JobItem<J> {
        if let Some((since, reason)) = item.backing_off.take().zip(item.waits_for) {
            let now = self.settings.limiter.clock().now();
            let waited = now.saturating_duration_since(since);
            self.settings.monitor.update(|progress| {
                progress.backing_off -= 1;
                if reason == Binding::Backoff {
                    progress.backoff += waited;
                }
            });
            item.times.add(reason, waited);
        }
        item
    }

    /// Stops or pauses everyone, if the attempt asks for that.
    fn apply_throttle(
        &self,
        verdict: Option<Verdict>,
        mut pause: Option<Duration>,
        why: Option<&Error>,
    ) {
        let settings = &self.settings;
        let is_asked = matches!(verdict, Some(Verdict::PauseAll(_) | Verdict::RetryAfter(_)));
        if verdict.is_some_and(|verdict| self.stops_run(verdict)) {
            settings.cancel.cancel();
            // Others who share the limiter may allow a longer wait, or none: they hear it
            // themselves.
            pause = None;
        } else if let Some(Verdict::PauseAll(hint)) = verdict {
            pause = pause.max(Some(hint));
        }
        if let Some(wait) = pause.filter(|pause| !pause.is_zero()) {
            settings.limiter.pause_for(wait);
            // The clock cannot hold every time.
            if let Some(end) = settings.limiter.clock().now().checked_add(wait) {
                settings.monitor.set_pause(end, why.cloned());
            }
            settings.emit(|| Event::Pause { wait });
        }
        // Whoever sees it counted finds the limiter paused.
        if is_asked || verdict == Some(Verdict::Throttled) {
            settings.monitor.update(|progress| progress.throttled += 1);
        }
    }

    #[inline(never)]
    fn after_failure(
        &self,
        mut item: JobItem<J>,
        error: J::Error,
        (verdict, hold): (Verdict, Option<Duration>),
        attempt: &Attempt<'_>,
    ) -> Option<Finished> {
        let now = self.settings.limiter.clock().now();
        let failed = Failed {
            verdict,
            reach: attempt.reach.get(),
            likeness: self.job.likeness(&error),
        };
        let shown = self.job.shown(&error);
        if item.billed == Billed::No && shown.is_some_and(Error::possibly_billed) {
            item.billed = Billed::Possibly;
        }
        // Dropped after the lock.
        let mut _old_outage = None;
        let mut state = self.state.lock();
        let was_in_outage = state.schedule.next_probe(now).is_some();
        let decision = state
            .schedule
            .decide(item.index, &mut item.history, failed, now);
        let probe = state.schedule.next_probe(now);
        if was_in_outage || probe.is_some() {
            _old_outage = self.settings.monitor.set_outage(probe, shown.cloned());
        }
        if probe.is_some() {
            self.settings.limiter.outage();
        }
        let leader = state.parked_leader();
        if let Decision::RetryAt(at) = decision {
            let alone = at.saturating_duration_since(now);
            let (reason, wait) = verdict.wait_of_item(hold, alone);
            self.settings.monitor.update(|progress| {
                progress.backing_off += 1;
                progress.last_retry = progress.last_retry.max(now.checked_add(wait));
            });
            let (index, kind) = (item.index, shown.map(Error::kind));
            item.last = Some(error);
            (item.backing_off, item.waits_for) = (Some(now), Some(reason));
            // More is known by then of what such items take.
            item.cost = None;
            let recall = if verdict.is_refusal() {
                let alone = hold.is_none().then_some(at);
                state.schedule.refused(item, alone, now);
                state.recall()
            } else {
                state.schedule.retry_at(item, at);
                None
            };
            drop(state);
            unpark(leader);
            if let Some(recall) = recall {
                recall.cancel();
            }
            self.settings.emit(|| Event::Retry {
                index,
                attempt: attempt.number,
                kind,
                wait,
            });
            return None;
        }
        drop(state);
        unpark(leader);
        if decision == Decision::OutOfTime {
            item.last = Some(error);
            return Some(self.give_up(item, out_of_time()));
        }
        let alike = match decision {
            Decision::StopAlike(answers) => answers,
            _ => 0,
        };
        let stopped_run = alike > 0 || decision == Decision::Stop;
        if stopped_run {
            // Wakes the leader, too.
            self.settings.cancel.cancel();
        }
        // An answer that came in the same moment is a failure of its own.
        let abandoned = failed.reach != Reach::Answered && self.settings.cancel.is_aborted();
        let mut outcome = item.ended(Err(Failure::Job(error)));
        outcome.stopped_run = stopped_run;
        outcome.alike = alike;
        Some(self.deliver(outcome, abandoned))
    }

    #[inline(never)]
    pub(super) fn panicked(&self, item: JobItem<J>, panic: &(dyn Any + Send)) -> Finished {
        let message = panic_message(panic);
        let panicked = Panicked { message };
        let outcome = item.ended(Err(Failure::Panicked(panicked)));
        self.deliver(outcome, false)
    }

    /// The input's iterator panicked in the place of this item.
    #[cold]
    pub(super) fn broken(&self, index: u64, message: String) -> Finished {
        let failure = Failure::Panicked(Panicked { message });
        self.deliver(Outcome::not_attempted(index, None, Err(failure)), false)
    }

    /// Ends an item for a reason of the run's own.
    #[inline(never)]
    pub(super) fn give_up(&self, mut item: JobItem<J>, reason: Error) -> Finished {
        // Another process was asked for a wait that is too long for this run.
        let stopped_run = reason.kind() == ErrorKind::ServerDelay;
        if stopped_run {
            self.settings.cancel.cancel();
        }
        let abandoned = stopped_run || reason.kind() == ErrorKind::Cancelled;
        let last = item.last.take();
        let mut outcome = item.ended(Err(Failure::NotCompleted { reason, last }));
        outcome.stopped_run = stopped_run;
        self.deliver(outcome, abandoned)
    }

    /// Abandoned is what was not done because the run was stopped.
    fn deliver(
        &self,
        outcome: JobOutcome<J::Input, J::Output, J::Error>,
        abandoned: bool,
    ) -> Finished {
        let (index, attempts) = (outcome.index, outcome.attempts);
        let succeeded = outcome.result.is_ok();
        let success = succeeded.then(|| outcome.spans.last()).flatten();
        let success = success.map(|last| last.began);
        let settings = &self.settings;
        settings.monitor.update(|progress| {
            *match (succeeded, abandoned) {
                (true, _) => &mut progress.succeeded,
                (false, true) => &mut progress.abandoned,
                (false, false) => &mut progress.failed,
            } += 1;
        });
        settings.emit(|| Event::Done {
            index,
            attempts,
            succeeded,
        });
        if !(self.sink)(outcome) {
            settings.cancel.cancel();
        }
        Finished {
            index,
            success,
            was_sent: attempts > 0,
        }
    }
}
