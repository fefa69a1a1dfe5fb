//! Turns outcomes into records, and records into writes of what is ready.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::journal::{Ending, Journal, PartialWrite, ResumeIndex};
use super::record::{Extras, Failure, Record, RecordWriter, Response};
use super::rows::Row;
use super::summary::{FileProgress, Summary};
use super::tally::Tally;
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
    /// Ends this run among others.
    pub(super) outside: Cancel,
    /// The time that the whole run has.
    pub(super) deadline: Option<Duration>,
    pub(super) journal: Journal,
    pub(super) records: RecordWriter,
    /// Of a run whose results are written in the order of the input.
    pub(super) order: Option<Reorder<RowOutcome>>,
    pub(super) tally: Arc<Tally>,
    pub(super) index: Arc<ResumeIndex>,
    pub(super) on_progress: Box<dyn FnMut(&FileProgress) + 'p>,
}

pub(super) type RowOutcome = JobOutcome<Row, Reply, AttemptError>;

/// Records that are not yet in their files.
#[derive(Default)]
struct Unwritten {
    results: Vec<u8>,
    answers: usize,
    errors: Vec<u8>,
    /// Why each row failed, in the order of `errors`.
    failures: Vec<ErrorKind>,
}

/// The one thread that writes.
pub(super) struct Writer<'p> {
    with: Writing<'p>,
    unwritten: Unwritten,
    last_record: Option<Instant>,
    /// When the run's time is over.
    ends: Option<Instant>,
    /// What ended the run early.
    stopped: Option<Error>,
    /// Why nothing can be written any more.
    broken: Option<Error>,
}

impl Consumer<Row, Reply, AttemptError> for Writer<'_> {
    fn take(&mut self, done: RowOutcome) -> usize {
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
        self.report();
    }
}

impl<'p> Writer<'p> {
    pub(super) fn new(with: Writing<'p>) -> Self {
        let now = with.client.limiter().clock().now();
        Self {
            ends: with.deadline.and_then(|time| now.checked_add(time)),
            with,
            unwritten: Unwritten::default(),
            last_record: None,
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
        if self.stopped.is_some() || self.with.outside.is_cancelled() {
            self.record_out_of_order();
        }
    }

    /// Records the rows that wait for their turn. From here on there is no order.
    fn record_out_of_order(&mut self) {
        for done in self
            .with
            .order
            .take()
            .into_iter()
            .flat_map(Reorder::into_rest)
        {
            self.record(done);
        }
    }

    fn out_of_time(&mut self) {
        self.stopped
            .get_or_insert_with(|| Error::new(ErrorKind::Deadline, "the run's time is over"));
        self.with.cancel.cancel();
    }

    fn record(&mut self, done: RowOutcome) {
        let Some(row) = done.input else {
            // The reading side panicked: a fault of our own, and the input's end for this run.
            if let Err(failure) = done.result {
                let error = into_error(failure, 0, false);
                self.with.tally.input(|input| input.failure = Some(error));
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
        if self.unwritten.results.len() + self.unwritten.errors.len() >= READY {
            self.flush();
            self.report();
        }
    }

    fn success(&mut self, row: &Row, reply: &Reply, mut extras: Extras<'_>) {
        if let Some(usage) = reply.usage() {
            extras.prompt_tokens = Some(usage.prompt_tokens);
            extras.completion_tokens = Some(usage.completion_tokens);
            extras.cost = self.with.tally.cost_of(&usage);
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
        self.with
            .records
            .write(&mut self.unwritten.results, &record);
        self.unwritten.answers += 1;
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
            self.with.tally.possibly_billed(1);
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
        self.with.records.write(&mut self.unwritten.errors, &record);
        self.unwritten.failures.push(error.kind());
        self.with.index.ended(row.custom_id.as_deref());
    }

    /// Writes what is ready, and lets the journal do what is due.
    fn flush(&mut self) {
        if self.broken.is_none()
            && let Err(error) = self.write()
        {
            self.give_up(error);
        }
        let unwritten = &mut self.unwritten;
        if self.broken.is_some() {
            self.with.tally.possibly_billed(unwritten.answers as u64);
        }
        unwritten.results.clear();
        unwritten.answers = 0;
        unwritten.errors.clear();
        unwritten.failures.clear();
    }

    fn give_up(&mut self, error: Error) {
        // Answers that cannot be kept are not worth fetching.
        self.with.cancel.cancel();
        self.broken = Some(error);
        if let Some(left) = self.with.journal.answers_left() {
            self.with.tally.lose(self.with.index.done(), left);
        }
    }

    fn write(&mut self) -> Result<()> {
        let Writing { journal, tally, .. } = &mut self.with;
        let (unwritten, now) = (&mut self.unwritten, Instant::now());
        if unwritten.answers > 0 || !unwritten.failures.is_empty() {
            let results = journal.write_results(&unwritten.results, now);
            let kept = written(unwritten.answers, &unwritten.results, &results);
            tally.answered(kept);
            unwritten.answers -= kept;
            results?;
            let errors = journal.write_errors(&unwritten.errors, now);
            let kept = written(unwritten.failures.len(), &unwritten.errors, &errors);
            tally.gave_up(&unwritten.failures[..kept]);
            errors?;
            self.last_record = Some(now);
        }
        journal.tick(now)
    }

    /// Shows how the run stands.
    pub(super) fn report(&mut self) -> FileProgress {
        let client = &self.with.client;
        let now = client.limiter().clock().now();
        let progress = self.with.tally.progress(client.monitor(), now);
        (self.with.on_progress)(&progress);
        progress
    }

    pub(super) fn finish(mut self) -> Result<Summary> {
        self.record_out_of_order();
        self.flush();
        if self.broken.is_none()
            && let Err(error) = self.with.journal.finish()
        {
            self.give_up(error);
        }
        let progress = self.report();
        if let Some(error) = self.broken {
            // What is on file is whole, and no write can be trusted any more to keep it so.
            return Err(error);
        }
        let outside = self.with.outside;
        if self.stopped.is_none() && outside.is_cancelled() {
            self.stopped = Some(Error::new(ErrorKind::Cancelled, "the run was interrupted"));
        }
        let input = self.with.tally.take_input();
        let mut summary = self
            .with
            .tally
            .summary(progress, &input, self.stopped, self.last_record);
        let ending = Ending {
            whole_input: input.at_end,
            // The next run will put right what is not complete.
            order: input.order.filter(|_| summary.stopped.is_none()),
        };
        // What has ended the run does not keep it from being settled; what comes from here on does.
        let cancel = if outside.is_cancelled() {
            Cancel::new()
        } else {
            outside
        };
        let closed = self.with.journal.close(&self.with.index, &ending, &cancel);
        if let Some(error) = input.failure {
            return Err(error);
        }
        if let Err(error) = closed {
            if error.kind() != ErrorKind::Cancelled {
                return Err(error);
            }
            summary.stopped.get_or_insert(error);
        }
        // Where the time went is the better half of the news.
        if let Some(error) = &mut summary.stopped
            && error.kind() == ErrorKind::Deadline
            && let Some(outage) = &summary.progress.outage
            && let Some(cause) = &outage.error
        {
            *error = error.clone().with_source(cause.clone());
        }
        Ok(summary)
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
