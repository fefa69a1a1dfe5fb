//! Turns outcomes into records, and records into writes of what is ready.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::journal::{Ending, Journal, PartialWrite, ResumeIndex};
use super::record::{Extras, Failure, Record, RecordWriter, Response};
use super::rows::{ReadSoFar, Row};
use super::summary::{FileProgress, ResumeInfo, Summary};
use crate::api::classify::record_code;
use crate::api::{AttemptError, Client, Reply, into_error};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::{Consumer, JobOutcome, Reorder};

/// How long the writing thread waits for an outcome before it looks up.
///
/// Short enough for a program that looks for its signals in `on_progress`.
const PATIENCE: Duration = Duration::from_millis(25);
/// How much may be ready to be written before it is, with outcomes coming in without a pause.
const READY: usize = 256 << 10;

/// What a writer works with.
pub(super) struct Writing<'p> {
    pub(super) client: Client,
    /// Ends this run, and no other of the client.
    pub(super) cancel: Cancel,
    /// What others may end it by.
    pub(super) outside: Cancel,
    /// The time that the whole run has.
    pub(super) deadline: Option<Duration>,
    pub(super) journal: Journal,
    pub(super) records: RecordWriter,
    /// Of a run whose results are written in the order of the input.
    pub(super) order: Option<Reorder<Outcome>>,
    pub(super) so_far: Arc<ReadSoFar>,
    pub(super) budget: Arc<Budget>,
    pub(super) index: Arc<ResumeIndex>,
    /// Rows in the input, where that is known.
    pub(super) total: Option<u64>,
    pub(super) found: Option<ResumeInfo>,
    pub(super) opened: Instant,
    pub(super) on_progress: Box<dyn FnMut(&FileProgress) + 'p>,
}

pub(super) type Outcome = JobOutcome<Row, Reply, AttemptError>;

/// Failed rows, counted by what a rerun makes of them.
#[derive(Clone, Copy, Debug, Default)]
struct GivenUp {
    all: u64,
    for_good: u64,
    bad_lines: u64,
}

impl GivenUp {
    fn add(&mut self, why: ErrorKind) {
        self.all += 1;
        self.for_good += u64::from(!why.is_transient());
        self.bad_lines += u64::from(why == ErrorKind::InvalidLine);
    }
}

/// The one thread that writes.
pub(super) struct Writer<'p> {
    with: Writing<'p>,
    results: Vec<u8>,
    errors: Vec<u8>,
    /// Successes that are records, and not yet in their file.
    succeeding: usize,
    /// The failures that are, in the order of their records.
    failing: Vec<ErrorKind>,
    /// Rows given up by this run.
    given_up: GivenUp,
    /// Answers of earlier runs that are not in the output any more.
    lost_before: u64,
    /// Rows that a rerun asks for again, although they may have been paid for.
    paid_again: u64,
    progress: FileProgress,
    last_record: Instant,
    /// When the run's time is over.
    ends: Option<Instant>,
    stopped: Option<Error>,
    broken: Option<Error>,
}

impl Consumer<Row, Reply, AttemptError> for Writer<'_> {
    fn take(&mut self, done: Outcome) -> usize {
        let Some(order) = &mut self.with.order else {
            self.record(done);
            return 1;
        };
        order.insert(done.index, done);
        let mut recorded = 0;
        while let Some(done) = self.with.order.as_mut().and_then(Reorder::pop) {
            self.record(done);
            recorded += 1;
        }
        recorded
    }

    fn idle_interval(&self) -> Option<Duration> {
        Some(PATIENCE)
    }

    fn on_idle(&mut self) {
        self.hear();
        self.flush();
        self.look();
    }
}

impl<'p> Writer<'p> {
    pub(super) fn new(with: Writing<'p>) -> Self {
        Self {
            progress: FileProgress {
                total: with.total,
                found: with.found,
                ..FileProgress::default()
            },
            last_record: with.opened,
            ends: with
                .deadline
                .and_then(|time| with.client.limiter().clock().now().checked_add(time)),
            with,
            results: Vec::new(),
            errors: Vec::new(),
            succeeding: 0,
            failing: Vec::new(),
            given_up: GivenUp::default(),
            lost_before: 0,
            paid_again: 0,
            stopped: None,
            broken: None,
        }
    }

    /// Sees whether the run is to end. An input that gives nothing has no row to tell it by.
    fn hear(&mut self) {
        let clock = self.with.client.limiter().clock();
        if self.ends.is_some_and(|ends| clock.now() >= ends) {
            self.out_of_time();
        }
        // What waits behind a slow row may never be written, if a second signal comes. A run that
        // was stopped leaves an output that the next one puts in order.
        let ending = self.stopped.is_some() || self.with.outside.is_cancelled();
        if ending && let Some(order) = self.with.order.take() {
            for done in order.into_rest() {
                self.record(done);
            }
        }
    }

    fn out_of_time(&mut self) {
        self.stopped
            .get_or_insert_with(|| Error::new(ErrorKind::Deadline, "the run's time is over"));
        self.with.cancel.cancel();
    }

    fn record(&mut self, done: Outcome) {
        let Some(row) = done.input else {
            // The reading side panicked: a fault of our own, and the input's end for this run.
            if let Err(failure) = done.result {
                self.with.so_far.fail(into_error(failure, 0, false));
            }
            return;
        };
        let extras = Extras {
            line: Some(row.number),
            hash: row.hash,
            attempts: done.attempts,
            wait: done.waited,
            ..Extras::default()
        };
        match done.result {
            Ok(reply) => self.success(&row, &reply, extras),
            Err(failure) => {
                let error = into_error(failure, done.attempts, done.stopped_run);
                self.failure(&row, &error, extras);
            }
        }
        if self.results.len() + self.errors.len() >= READY {
            self.flush();
            self.look();
        }
    }

    fn success(&mut self, row: &Row, reply: &Reply, mut extras: Extras<'_>) {
        if let Some(usage) = reply.usage() {
            extras.prompt_tokens = Some(usage.prompt_tokens);
            extras.completion_tokens = Some(usage.completion_tokens);
            extras.cost = self.with.budget.cost_of_one(&usage);
        }
        let record = Record {
            dialect: row.dialect,
            custom_id: row.custom_id.as_deref(),
            response: Some(Response {
                status: reply.status().as_u16(),
                request_id: reply.request_id(),
                body: reply.body(),
            }),
            failure: None,
            extras,
        };
        self.with.records.write(&mut self.results, &record);
        self.succeeding += 1;
        self.with.index.ended(row.custom_id.as_deref());
    }

    /// Records a failed row, unless it is left for a rerun: one that was never attempted, cancelled,
    /// cut by the end of the run, or answered by what stopped it.
    fn failure<'a>(&mut self, row: &Row, error: &'a Error, mut extras: Extras<'a>) {
        if error.stopped_run() {
            self.stopped.get_or_insert_with(|| error.clone());
        }
        let out_of_time = error.kind() == ErrorKind::Deadline && self.ends.is_some();
        if out_of_time {
            self.out_of_time();
        }
        let left = error.stopped_run() || out_of_time || error.kind() == ErrorKind::Cancelled;
        if error.possibly_billed() && (left || error.kind().is_transient()) {
            self.paid_again += 1;
        }
        if left {
            return;
        }
        let message = error.to_string();
        extras.code = error.code();
        // A status of success with nothing to use in it needs its reason beside it.
        let answered = error.status().filter(|status| !status.is_success());
        let record = Record {
            dialect: row.dialect,
            custom_id: row.custom_id.as_deref(),
            response: error.status().map(|status| Response {
                status: status.as_u16(),
                request_id: error.request_id(),
                body: error.body().unwrap_or_default(),
            }),
            failure: answered.is_none().then(|| Failure {
                code: record_code(error.kind()),
                message: &message,
            }),
            extras,
        };
        self.with.records.write(&mut self.errors, &record);
        self.failing.push(error.kind());
        self.with.index.ended(row.custom_id.as_deref());
    }

    /// Writes what is ready, and sees to the files.
    fn flush(&mut self) {
        if self.broken.is_none()
            && let Err(error) = self.write()
        {
            self.give_up(error);
        }
        if self.broken.is_some() {
            self.paid_again += self.succeeding as u64;
        }
        self.results.clear();
        self.errors.clear();
        self.succeeding = 0;
        self.failing.clear();
    }

    fn give_up(&mut self, error: Error) {
        // Answers that cannot be kept are not worth fetching.
        self.with.cancel.cancel();
        self.broken = Some(error);
        let Some(left) = self.with.journal.answers_left() else {
            return;
        };
        let written = self.with.index.done() + self.progress.succeeded;
        let lost = written.saturating_sub(left);
        self.progress.lost = lost;
        self.paid_again += lost;
        // What stood at the end is the most likely to be gone.
        let own = lost.min(self.progress.succeeded);
        self.progress.succeeded -= own;
        self.lost_before = lost - own;
    }

    fn write(&mut self) -> Result<()> {
        let (journal, now) = (&mut self.with.journal, Instant::now());
        if self.succeeding > 0 || !self.failing.is_empty() {
            let results = journal.write_results(&self.results, now);
            let kept = written(self.succeeding, &self.results, &results);
            self.progress.succeeded += kept as u64;
            self.succeeding -= kept;
            results?;
            let errors = journal.write_errors(&self.errors, now);
            let kept = written(self.failing.len(), &self.errors, &errors);
            for why in &self.failing[..kept] {
                self.given_up.add(*why);
            }
            errors?;
            self.last_record = now;
        }
        journal.tick(now)
    }

    pub(super) fn look(&mut self) {
        self.progress.elapsed = self.with.opened.elapsed();
        let skipped = self.with.so_far.skipped();
        self.progress.skipped = skipped.saturating_sub(self.lost_before);
        self.progress.failed_before = self.with.so_far.failed();
        self.progress.failed = self.given_up.all + self.progress.failed_before;
        self.progress.failed_for_good = self.given_up.for_good + self.progress.failed_before;
        self.progress.bad_lines = self.given_up.bad_lines + self.with.so_far.failed_bad();
        let spent = self.with.budget.spent();
        self.progress.prompt_tokens = spent.prompt_tokens;
        self.progress.completion_tokens = spent.completion_tokens;
        self.progress.uncounted = spent.uncounted;
        self.progress.cost = self.with.budget.cost();
        let monitor = self.with.client.monitor();
        self.progress.engine = monitor.snapshot();
        let before = self.with.found.unwrap_or_default().possibly_billed;
        self.progress.engine.possibly_billed += self.paid_again + before;
        self.progress.outage = monitor.outage(self.with.client.limiter().clock().now());
        (self.with.on_progress)(&self.progress);
    }

    pub(super) fn finish(mut self) -> Result<Summary> {
        if let Some(order) = self.with.order.take() {
            for done in order.into_rest() {
                self.record(done);
            }
        }
        self.flush();
        if self.broken.is_none()
            && let Err(error) = self.with.journal.finish()
        {
            self.give_up(error);
        }
        self.look();
        let Self {
            with:
                Writing {
                    journal,
                    so_far,
                    budget,
                    index,
                    opened,
                    outside,
                    ..
                },
            progress,
            broken,
            last_record,
            mut stopped,
            ..
        } = self;
        if let Some(error) = broken {
            // What is on file is whole, and no write can be trusted any more to keep it so.
            return Err(error);
        }
        if stopped.is_none() && outside.is_cancelled() {
            stopped = Some(Error::new(ErrorKind::Cancelled, "the run was interrupted"));
        }
        // A file has been looked through to its end beforehand.
        let whole_input = progress.total.is_some() || so_far.reached_end();
        let requests = progress.total.unwrap_or(0).max(so_far.rows());
        let not_attempted = requests.saturating_sub(progress.done());
        // A budget that was spent by the last row has stopped nothing.
        if stopped.is_none() && (not_attempted > 0 || !whole_input) {
            stopped = budget.exhausted();
        }
        let ending = Ending {
            whole_input,
            // The next run will put right what is not complete.
            order: so_far.take_order().filter(|_| stopped.is_none()),
        };
        // What has ended the run does not keep it from being settled; what comes from here on does.
        let cancel = if outside.is_cancelled() {
            Cancel::new()
        } else {
            outside
        };
        let closed = journal.close(&index, &ending, &cancel);
        if let Some(error) = so_far.failure() {
            return Err(error);
        }
        if let Err(error) = closed {
            if error.kind() != ErrorKind::Cancelled {
                return Err(error);
            }
            stopped.get_or_insert(error);
        }
        // Where the time went is the better half of the news.
        if let Some(error) = &mut stopped
            && error.kind() == ErrorKind::Deadline
            && let Some(cause) = progress
                .outage
                .as_ref()
                .and_then(|outage| outage.error.clone())
        {
            *error = error.clone().with_source(cause);
        }
        Ok(Summary {
            requests,
            not_attempted,
            stopped,
            wall: last_record.duration_since(opened),
            progress,
        })
    }
}

/// How many of `all` these records are in their file now: each, or if the write failed the lines
/// that it kept.
fn written(all: usize, records: &[u8], outcome: &Result<(), PartialWrite>) -> usize {
    match outcome {
        Ok(()) => all,
        Err(unwritten) => {
            let kept = &records[..unwritten.kept];
            kept.split_inclusive(|byte| *byte == b'\n').count()
        }
    }
}
