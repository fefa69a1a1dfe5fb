//! The tally of a run over a file: what was read, spent and written.
//!
//! A run has one [`Tally`]. The thread that reads the input counts rows in it, the threads that get
//! answers count model tokens, and the thread that writes counts records. [`FileProgress`] is a
//! copy of it for the user, [`Summary`] the last one.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failures::RowFailure;
use super::ids::IdTable;
use super::journal::Again;
use super::scan::InputScan;
use super::summary::{FileProgress, ResumeInfo, Summary};
use crate::api::{Price, Usage, Usd};
use crate::error::{Error, ErrorKind, Result, config};
use crate::pool::Monitor;
use crate::sync::Mutex;

/// What a run may spend, and the price to count by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpendLimits {
    pub(super) price: Option<Price>,
    pub(super) max_cost: Option<Usd>,
    /// Model tokens, of prompts and answers together.
    pub(super) max_tokens: Option<u64>,
}

impl SpendLimits {
    /// # Errors
    /// [`ErrorKind::Config`] for a bound on the cost of what has no price, or one that allows
    /// nothing.
    pub(super) fn check(&self) -> Result<()> {
        const NOTHING: &str = "a limit of 0 allows no request: give more, or leave it out";
        let (why, settings): (_, &[_]) = if self.max_cost.is_some() && self.price.is_none() {
            (
                "a limit on the cost needs the price of model tokens",
                &["price"],
            )
        } else if self.max_cost == Some(Usd::ZERO) {
            (NOTHING, &["max_cost"])
        } else if self.max_tokens == Some(0) {
            (NOTHING, &["token_budget"])
        } else {
            return Ok(());
        };
        Err(config(why).with_settings(settings))
    }

    /// The cost of a run, and what of it is an estimate.
    fn costs(&self, spent: &FileProgress) -> Option<(Usd, Usd)> {
        let price = self.price?;
        let known = price.of(spent.prompt_tokens, spent.completion_tokens);
        let estimated = price.of(
            spent.estimated_prompt_tokens,
            spent.estimated_completion_tokens,
        );
        Some((known + estimated, estimated))
    }

    /// Why nothing more is sent, once a limit is reached.
    fn reached(&self, spent: &FileProgress) -> Option<Error> {
        let sum = |prompt: u64, completion| prompt.saturating_add(completion);
        let estimated = sum(
            spent.estimated_prompt_tokens,
            spent.estimated_completion_tokens,
        );
        let known = sum(spent.prompt_tokens, spent.completion_tokens);
        let tokens = known.saturating_add(estimated);
        let of_that = |estimated: &dyn fmt::Display| match spent.unanswered {
            0 => String::new(),
            attempts => format!(
                " (of that {estimated} by estimate, for attempts without an answer: {attempts})"
            ),
        };
        let (why, setting): (_, &[_]) = match (self.costs(spent), self.max_cost, self.max_tokens) {
            (Some((cost, part)), Some(most), _) if cost >= most => {
                let part = of_that(&part);
                let why =
                    format!("this run has spent {cost} USD{part}, and its limit is {most} USD");
                (why, &["max_cost"])
            }
            (.., Some(most)) if tokens >= most => {
                let part = of_that(&estimated);
                let why = format!(
                    "this run has used {tokens} model tokens{part}, and its budget is {most}"
                );
                (why, &["token_budget"])
            }
            _ => return None,
        };
        let message =
            format!("{why}: nothing more is sent. A rerun carries on and may spend as much again");
        Some(Error::new(ErrorKind::Budget, message).with_settings(setting))
    }
}

/// The counts of one run, shared by its threads.
#[derive(Debug)]
pub(super) struct Tally {
    limits: SpendLimits,
    opened: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// What the user sees, without the cost. Of the engine's part it has the rows that are asked
    /// for again by this run or by a rerun, although they may have been paid for.
    shown: FileProgress,
    input: InputState,
}

/// How far the input has been read.
#[derive(Debug, Default)]
pub(super) struct InputState {
    /// Whether all rows of the input are known.
    pub(super) at_end: bool,
    /// The line numbers of all rows by their ids, if they were asked for and the end was reached.
    pub(super) order: Option<IdTable<u64>>,
    /// Why reading ended before the input did.
    pub(super) failure: Option<Error>,
}

impl Tally {
    /// `scan` and `found` say what was known before the run began; `opened` is when it did.
    pub(super) fn new(
        limits: SpendLimits,
        scan: Option<&InputScan>,
        found: Option<ResumeInfo>,
        opened: Instant,
    ) -> Self {
        let nothing = InputScan::default();
        let before = scan.unwrap_or(&nothing);
        let mut shown = FileProgress {
            total: scan.map(|scan| scan.rows),
            skipped: before.done,
            failed: before.failed,
            failed_before: before.failed,
            failed_for_good: before.failed,
            bad_lines: before.failed_bad,
            found,
            ..FileProgress::default()
        };
        shown.engine.possibly_billed = found.unwrap_or_default().possibly_billed;
        let input = InputState {
            at_end: scan.is_some(),
            ..InputState::default()
        };
        Self {
            limits,
            opened,
            counts: Mutex::new(Counts { shown, input }),
        }
    }

    /// Notes or takes how far the input has been read.
    pub(super) fn input<T>(&self, note: impl FnOnce(&mut InputState) -> T) -> T {
        note(&mut self.counts.lock().input)
    }

    /// Counts rows in what the user sees.
    pub(super) fn count(&self, add: impl FnOnce(&mut FileProgress)) {
        add(&mut self.counts.lock().shown);
    }

    /// Counts a row that an earlier run has given up for good. After a scan it is counted already.
    pub(super) fn failed_before(&self, is_request: bool) {
        let shown = &mut self.counts.lock().shown;
        shown.failed_before += 1;
        shown.failed += 1;
        shown.failed_for_good += 1;
        shown.bad_lines += u64::from(!is_request);
    }

    /// Counts what an answer took, `None` if it does not say. Whether nothing more may be sent.
    pub(super) fn spend(&self, usage: Option<Usage>) -> bool {
        let mut counts = self.counts.lock();
        let spent = &mut counts.shown;
        if let Some(usage) = usage {
            // Each count is bounded, their sum is not.
            spent.prompt_tokens = spent.prompt_tokens.saturating_add(usage.prompt_tokens);
            spent.completion_tokens = spent
                .completion_tokens
                .saturating_add(usage.completion_tokens);
            return self.limits.reached(spent).is_some();
        }
        spent.uncounted += 1;
        let is_first = spent.uncounted == 1;
        drop(counts);
        if is_first && (self.limits.max_cost.is_some() || self.limits.max_tokens.is_some()) {
            log::warn!(
                "an answer did not say how many model tokens it took (it has no \"usage\", or \
                 one whose counts make no sense): such answers count nothing against the budget, so it may never be reached"
            );
        }
        false
    }

    /// Counts an attempt that may have been billed and has no answer to say for what. Whether nothing
    /// more may be sent.
    pub(super) fn may_have_spent(&self, estimate: &Usage) -> bool {
        let spent = &mut self.counts.lock().shown;
        spent.unanswered += 1;
        let add = |count: &mut u64, tokens| *count = count.saturating_add(tokens);
        add(&mut spent.estimated_prompt_tokens, estimate.prompt_tokens);
        add(
            &mut spent.estimated_completion_tokens,
            estimate.completion_tokens,
        );
        self.limits.reached(spent).is_some()
    }

    /// Whether it matters what an attempt may have taken that has no answer.
    pub(super) fn needs_estimates(&self) -> bool {
        self.limits.price.is_some() || self.limits.max_tokens.is_some()
    }

    /// What one answer costs, if there is a price.
    pub(super) fn cost_of(&self, usage: &Usage) -> Option<Usd> {
        self.limits.price.map(|price| price.cost(usage))
    }

    /// Counts rows that are given up, and written as such.
    pub(super) fn gave_up(&self, rows: &[RowFailure]) {
        let shown = &mut self.counts.lock().shown;
        for row in rows {
            let kind = row.error.kind();
            shown.failed += 1;
            shown.failed_for_good += u64::from(!kind.is_transient());
            shown.bad_lines += u64::from(kind == ErrorKind::InvalidLine);
            row.count_in(Arc::make_mut(&mut shown.failure_groups));
        }
    }

    /// Counts failed rows as rows that a rerun sends, and as not attempted if their record is
    /// removed. `passes` says that they were not counted as failed for good.
    pub(super) fn take_back(&self, again: &Again, passes: bool) {
        let (shown, rows) = (&mut self.counts.lock().shown, again.rows.len() as u64);
        shown.failed -= if again.no_mark { rows } else { 0 };
        shown.failed_for_good -= if passes { 0 } else { rows };
    }

    /// Counts rows that a rerun asks for again, although they may have been paid for.
    pub(super) fn possibly_billed(&self, rows: u64) {
        self.counts.lock().shown.engine.possibly_billed += rows;
    }

    /// Takes back what the output does not hold any more: of `before` answers of earlier runs and
    /// those of this one, `left` are left.
    pub(super) fn lose(&self, before: u64, left: u64) {
        let shown = &mut self.counts.lock().shown;
        shown.lost = (before + shown.succeeded).saturating_sub(left);
        shown.engine.possibly_billed += shown.lost;
        // What was written last is the most likely to be gone.
        let own = shown.lost.min(shown.succeeded);
        shown.succeeded -= own;
        shown.skipped = shown.skipped.saturating_sub(shown.lost - own);
    }

    /// The progress of the run, with the engine's counters.
    pub(super) fn progress(&self, engine: &Monitor) -> FileProgress {
        let shown = self.counts.lock().shown.clone();
        let possibly_billed = shown.engine.possibly_billed;
        let costs = self.limits.costs(&shown);
        let mut progress = FileProgress {
            cost: costs.map(|costs| costs.0),
            estimated_cost: costs.map(|costs| costs.1),
            elapsed: self.elapsed(),
            engine: engine.snapshot(),
            ..shown
        };
        progress.engine.possibly_billed += possibly_billed;
        progress
    }

    /// Time since the run began.
    pub(super) fn elapsed(&self) -> Duration {
        self.opened.elapsed()
    }

    /// The summary of a run that has ended; `stopped` says by what, if before its end.
    pub(super) fn summary(
        &self,
        progress: FileProgress,
        input: &InputState,
        stopped: Option<Error>,
    ) -> Summary {
        let mut summary = Summary::of(progress, stopped, self.elapsed());
        // A limit that the last row has reached has stopped nothing.
        if summary.stopped.is_none() && (summary.not_attempted > 0 || !input.at_end) {
            summary.stopped = self.limits.reached(&summary.progress);
        }
        // An outage or a pause explains where the time went.
        if let Some(error) = &mut summary.stopped
            && error.kind() == ErrorKind::Deadline
            && let Some(hold) = &summary.progress.hold
            && let Some(cause) = &hold.error
        {
            *error = error.clone().with_source(cause.clone());
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(tally: &Tally, prompt_tokens: u64, completion_tokens: u64) -> bool {
        tally.spend(Some(Usage {
            prompt_tokens,
            completion_tokens,
            ..Usage::default()
        }))
    }

    fn limits(price: &str, max_cost: &str, max_tokens: Option<u64>) -> SpendLimits {
        SpendLimits {
            price: price.parse().ok(),
            max_cost: max_cost.parse().ok(),
            max_tokens,
        }
    }

    fn tally(limits: SpendLimits) -> Tally {
        Tally::new(limits, None, None, Instant::now())
    }

    fn progress(tally: &Tally) -> FileProgress {
        tally.progress(&Monitor::new())
    }

    /// Why a run with rows left to read has stopped.
    fn stopped(tally: &Tally) -> Option<Error> {
        tally
            .summary(progress(tally), &InputState::default(), None)
            .stopped
    }

    #[test]
    fn it_is_spent_when_the_limit_is_reached_and_not_before() {
        // A dollar a token.
        let dear = tally(limits("1000000,1000000", "3", None));
        assert!(!spend(&dear, 1, 1));
        assert!(stopped(&dear).is_none());
        assert!(spend(&dear, 0, 1));
        assert!(spend(&dear, 2, 0), "what was in flight");
        let why = stopped(&dear).unwrap();
        assert_eq!(why.kind(), ErrorKind::Budget);
        let why = why.to_string();
        assert!(
            why.contains("5 USD") && why.contains("limit is 3 USD") && why.contains("`max_cost`"),
            "{why}"
        );
        assert_eq!(progress(&dear).cost.unwrap().to_string(), "5");

        let long = tally(limits("", "", Some(10)));
        assert!(!spend(&long, 4, 5));
        assert!(spend(&long, 1, 1));
        let why = stopped(&long).unwrap().to_string();
        assert!(
            why.contains("11 model")
                && why.contains("budget is 10")
                && why.contains("`token_budget`"),
            "{why}"
        );
        assert_eq!(progress(&long).cost, None);
    }

    #[test]
    fn what_may_have_been_billed_counts_as_an_estimate() {
        let lost = Usage {
            prompt_tokens: 1,
            completion_tokens: 2,
            ..Usage::default()
        };
        // A dollar a token.
        let dear = tally(limits("1000000,1000000", "7", None));
        assert!(!spend(&dear, 3, 0));
        assert!(!dear.may_have_spent(&lost));
        assert!(dear.may_have_spent(&lost));
        let spent = progress(&dear);
        let costs = [spent.cost, spent.estimated_cost].map(|cost| cost.unwrap().to_string());
        assert_eq!(costs, ["9", "6"]);
        assert_eq!((spent.prompt_tokens, spent.unanswered), (3, 2));
        let why = stopped(&dear).unwrap().to_string();
        let part =
            "9 USD (of that 6 by estimate, for attempts without an answer: 2), and its limit";
        assert!(why.contains(part), "{why}");

        let long = tally(limits("", "", Some(10)));
        assert!(!long.may_have_spent(&lost));
        assert!(spend(&long, 7, 0));
        let why = stopped(&long).unwrap().to_string();
        assert!(
            why.contains("10 model tokens (of that 3 by estimate"),
            "{why}"
        );
    }

    #[test]
    fn without_limits_it_only_counts() {
        let tally = tally(limits("0,0", "", None));
        assert!(!spend(&tally, u64::MAX, u64::MAX));
        assert!(!spend(&tally, 1, 1));
        assert!(!tally.spend(None));
        let spent = progress(&tally);
        assert_eq!(spent.cost, Some(Usd::ZERO));
        assert_eq!((spent.prompt_tokens, spent.uncounted), (u64::MAX, 1));
        assert!(stopped(&tally).is_none());
    }

    #[test]
    fn answers_that_are_gone_are_those_written_last() {
        let scan = InputScan {
            rows: 9,
            done: 5,
            ..InputScan::default()
        };
        let tally = Tally::new(SpendLimits::default(), Some(&scan), None, Instant::now());
        tally.count(|shown| shown.succeeded += 2);
        tally.lose(5, 4);
        let left = progress(&tally);
        assert_eq!((left.lost, left.succeeded, left.skipped), (3, 0, 4));
        assert_eq!(left.engine.possibly_billed, 3);
    }

    #[test]
    fn bounds_that_cannot_be_meant_are_refused() {
        for (limits, word) in [
            (limits("", "1", None), "`price`"),
            (limits("1,1", "0", None), "`max_cost`"),
            (limits("", "", Some(0)), "`token_budget`"),
        ] {
            let error = limits.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(limits("0,0", "1", Some(1)).check().is_ok());
    }
}
