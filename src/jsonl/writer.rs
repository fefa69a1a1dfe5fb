//! Turns outcomes into records, and records into writes of what is ready.

use std::collections::{HashSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failures::RowFailure;
use super::hash::LineHash;
use super::journal::{Again, Journal, Locks, ResumeIndex};
use super::record::{Failure, Record, RecordWriter, Response};
use super::rows::Row;
use super::summary::{FileProgress, Summary};
use super::tally::Tally;
use crate::api::classify::{is_nearly_answered, record_code};
use crate::api::times::to_rfc3339;
use crate::api::{AttemptError, Client, Reply, into_error, likeness, stopped_by};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::{Billed, Consumer, Failure as ItemFailure, JobOutcome, Reorder};
use crate::retry::Likeness;

/// How long the writing thread waits for an outcome before it calls `on_progress`.
///
/// A program may handle its signals there, so this is short.
const IDLE_INTERVAL: Duration = Duration::from_millis(25);
/// How many bytes of records are collected at most before they are written, while outcomes keep
/// coming.
const MOST_BUFFERED: usize = 256 << 10;

/// Writes the records of a run, on the thread that called `run`.
pub(super) struct Writer<'p> {
    pub(super) client: Client,
    /// Ends this run, and no other of the client.
    pub(super) cancel: Cancel,
    /// Ends this run among others.
    pub(super) outside: Cancel,
    /// When the run's time is over.
    pub(super) ends: Option<Instant>,
    pub(super) journal: Journal,
    pub(super) locks: &'p mut Locks,
    pub(super) records: RecordWriter,
    /// Of a run whose results are written in the order of the input.
    pub(super) order: Option<Reorder<RowOutcome>>,
    pub(super) tally: Arc<Tally>,
    pub(super) index: Arc<ResumeIndex>,
    pub(super) on_progress: Box<dyn FnMut(&FileProgress) + 'p>,
    pub(super) state: WriterState,
}

pub(super) type RowOutcome = JobOutcome<Row, Reply, AttemptError>;

#[derive(Default)]
pub(super) struct WriterState {
    /// Records of answers that are not yet in their file.
    results: Vec<u8>,
    /// Records of failures that are not yet in their file.
    errors: Vec<u8>,
    /// The rows of these, in the same order.
    failed: Vec<RowFailure>,
    /// The kinds of failure that the log has told of.
    told: Vec<ErrorKind>,
    /// The rows that failed last, with what makes them alike to others.
    last_failed: VecDeque<(LineHash, Likeness)>,
    /// What the answers had in common that stopped the run.
    stopped_alike: Option<Likeness>,
    /// Rows that had failed, and were to be tried again when the run stopped.
    interrupted: Vec<RowOutcome>,
    /// What ended the run early.
    stopped: Option<Error>,
    /// Why nothing can be written any more.
    broken: Option<Error>,
}

impl WriterState {
    /// The rows that failed in the way that stopped the run.
    fn failed_alike(&self) -> HashSet<LineHash> {
        let alike = |likeness| self.stopped_alike == Some(likeness);
        let rows = self.last_failed.iter().filter(|row| alike(row.1));
        rows.map(|row| row.0).collect()
    }

    /// Warns of the first failure of each kind. At the end all are counted.
    fn tell(&mut self, row: &Row, failure: &RowFailure) {
        let kind = failure.error.kind();
        if !self.told.contains(&kind) {
            self.told.push(kind);
            let why = failure.words();
            log::warn!("{row} failed: {why}; further failures of this kind are counted at the end");
        }
    }
}

impl Consumer<Row, Reply, AttemptError> for Writer<'_> {
    fn take(&mut self, outcome: RowOutcome) -> usize {
        let Some(order) = &mut self.order else {
            self.record(outcome);
            return 1;
        };
        order.insert(outcome.index, outcome);
        let mut recorded = 0;
        while let Some(next) = self.order.as_mut().and_then(Reorder::pop) {
            self.record(next);
            recorded += 1;
        }
        recorded
    }

    fn idle_interval(&self) -> Option<Duration> {
        Some(IDLE_INTERVAL)
    }

    fn on_idle(&mut self) {
        self.check_end();
        self.flush();
        // Behind this, the threads that wait for their rows to be written go on, also with rows
        // that are only held.
        if let Some(order) = &self.order {
            self.locks.hold(order.len());
        }
        self.report();
    }
}

impl Writer<'_> {
    /// Checks whether the run is to end. With an input that stalls, no row would say so.
    fn check_end(&mut self) {
        let clock = self.client.limiter().clock();
        if self.ends.is_some_and(|ends| clock.now() >= ends) {
            if self.state.stopped.is_none() {
                self.state.stopped = Some(self.out_of_time());
            }
            self.cancel.cancel();
        }
        // Rows that wait behind a slow one would be lost if a second signal ended the process. A
        // run that was stopped leaves an output that the next one puts in order.
        if self.state.stopped.is_some() || self.outside.is_cancelled() {
            self.record_out_of_order();
        }
    }

    /// Why there is no time for another request. The run's own may not be over yet.
    fn out_of_time(&self) -> Error {
        let clock = self.client.limiter().clock();
        let now = clock.now();
        let hold = self.client.monitor().hold(now, None);
        let pause = hold.filter(|hold| hold.is_pause && self.ends.is_some_and(|ends| now < ends));
        let message = match pause {
            None => "the run's time is over (`with_deadline`)".into(),
            Some(pause) => {
                let left = pause.next_try.unwrap_or_default();
                let seconds = left.as_secs_f64();
                let until = to_rfc3339(clock.wall() + left);
                format!(
                    "the server asked for a pause of {seconds:.0} s more, until {until}, and the run's time \
                     is over before that (`with_deadline`)"
                )
            }
        };
        Error::new(ErrorKind::Deadline, message)
    }

    /// Records the rows that wait for their turn. From here on there is no order.
    fn record_out_of_order(&mut self) {
        let waiting = self.order.take().map(Reorder::into_rest);
        for outcome in waiting.into_iter().flatten() {
            self.record(outcome);
        }
    }

    /// Records an outcome. Why the run stopped may not be known yet, and decides about a row that
    /// was to be tried again.
    fn record(&mut self, outcome: RowOutcome) {
        match &outcome.result {
            Err(ItemFailure::NotCompleted {
                reason,
                last: Some(_),
            }) if reason.kind() == ErrorKind::Cancelled => self.state.interrupted.push(outcome),
            _ => self.record_now(outcome),
        }
    }

    /// Records the rows that were to be tried again. Those that had failed as all others did have
    /// failed, and what was paid for them is kept.
    fn record_interrupted(&mut self) {
        for mut outcome in mem::take(&mut self.state.interrupted) {
            let stop = self.state.stopped_alike;
            outcome.result = outcome.result.map_err(|failure| match failure {
                ItemFailure::NotCompleted {
                    last: Some(failed), ..
                } if stop.is_some() && likeness(&failed) == stop => ItemFailure::Job(failed),
                other => other,
            });
            self.record_now(outcome);
        }
    }

    fn record_now(&mut self, outcome: RowOutcome) {
        let Some(row) = &outcome.input else {
            // The thread that reads has panicked, so this run gets no more rows.
            if let Err(failure) = outcome.result {
                let error = into_error(failure, 0, false, 0);
                self.tally.input(|input| input.failure = Some(error));
            }
            return;
        };
        let mut record = Record {
            dialect: row.dialect,
            custom_id: row.custom_id.as_deref(),
            line: Some(row.number),
            hash: row.hash,
            attempts: outcome.attempts,
            by_copy: outcome.by_copy,
            times: outcome.times,
            spans: &outcome.spans,
            ..Record::default()
        };
        match outcome.result {
            Ok(reply) => {
                record.response = Some(Response::of_reply(&reply));
                let usage = reply.usage();
                record.usage = usage;
                record.cost = usage.and_then(|usage| self.tally.cost_of(&usage));
                self.records.write(&mut self.state.results, &record);
            }
            Err(failure) => {
                let likeness = match &failure {
                    ItemFailure::Job(failed) => likeness(failed),
                    _ => None,
                };
                let alike = outcome.alike;
                // What failed alike is tried again after all other rows, so it needs a record.
                let stopped_run = outcome.stopped_run && alike == 0;
                let error = into_error(failure, outcome.attempts, stopped_run, 0);
                if alike > 0 && self.state.stopped.is_none() {
                    let example = format!(", the last of them at {row}");
                    self.state.stopped = Some(stopped_by(error.clone(), alike, &example));
                    self.state.stopped_alike = likeness;
                }
                if self.is_left(&error, outcome.billed, outcome.attempts) {
                    return;
                }
                self.record_failure(row, &record, error, likeness);
            }
        }
        self.index.ended(row.id);
        if self.state.results.len() + self.state.errors.len() >= MOST_BUFFERED {
            self.flush();
            self.report();
        }
    }

    /// Writes the record of a row that has failed.
    fn record_failure(
        &mut self,
        row: &Row,
        record: &Record<'_>,
        error: Error,
        likeness: Option<Likeness>,
    ) {
        if let (Some(likeness), Some(id)) = (likeness, row.id)
            && !is_nearly_answered(&error)
        {
            let last = &mut self.state.last_failed;
            last.truncate(self.client.settings().window());
            last.push_front((id, likeness));
        }
        let message = error.to_string();
        let status = error.status();
        // A success without a usable answer needs its reason beside the status.
        let needs_reason = status.is_none_or(|status| status.is_success());
        let record = Record {
            response: Response::of_error(&error),
            failure: needs_reason.then(|| Failure {
                code: record_code(error.kind(), status.is_some()),
                message: &message,
            }),
            code: error.code(),
            ..*record
        };
        self.records.write(&mut self.state.errors, &record);
        let failure = RowFailure {
            error,
            line: row.number,
            custom_id: row.custom_id.clone(),
        };
        self.state.tell(row, &failure);
        self.state.failed.push(failure);
    }

    /// Whether a failed row is left for a rerun, without a record: one that was never attempted,
    /// cancelled, cut by the end of the run, or answered by what stopped it.
    fn is_left(&mut self, error: &Error, billed: Billed, attempts: u32) -> bool {
        if error.stopped_run() {
            self.state.stopped.get_or_insert_with(|| error.clone());
        }
        let is_out_of_time = error.kind() == ErrorKind::Deadline && self.ends.is_some();
        if is_out_of_time {
            if self.state.stopped.is_none() {
                self.state.stopped = Some(self.out_of_time());
            }
            // There is no time for a row that has not begun, so there is none for any other.
            if attempts == 0 {
                self.cancel.cancel();
            }
        }
        let left = error.stopped_run() || is_out_of_time || error.kind() == ErrorKind::Cancelled;
        // One that was sent twice is counted already.
        if billed == Billed::Possibly && (left || error.kind().is_transient()) {
            self.tally.possibly_billed(1);
        }
        left
    }

    /// Writes what is ready, and lets the journal do what is due.
    fn flush(&mut self) {
        if self.state.broken.is_none()
            && let Err(error) = self.write()
        {
            self.give_up(error);
        }
        let state = &mut self.state;
        if state.broken.is_some() {
            self.tally
                .possibly_billed(records_in(&state.results) as u64);
        }
        state.results.clear();
        state.errors.clear();
        state.failed.clear();
    }

    fn give_up(&mut self, error: Error) {
        // Answers that cannot be written are not worth paying for.
        self.cancel.cancel();
        self.state.broken = Some(error);
        if let Some(left) = self.journal.answers_left() {
            self.tally.lose(self.index.done(), left);
        }
    }

    fn write(&mut self) -> Result<()> {
        let (journal, state, now) = (&mut self.journal, &mut self.state, Instant::now());
        if !(state.results.is_empty() && state.errors.is_empty()) {
            let (kept, written) = journal.write_results(&state.results, now);
            let answered = records_in(&state.results[..kept]) as u64;
            self.tally.count(|shown| shown.succeeded += answered);
            state.results.drain(..kept);
            written?;
            let (kept, written) = journal.write_errors(&state.errors, now);
            let failed = records_in(&state.errors[..kept]);
            self.tally.gave_up(&state.failed[..failed]);
            written?;
        }
        journal.tick(now)
    }

    /// Calls `on_progress` with the progress of the run.
    pub(super) fn report(&mut self) -> FileProgress {
        let (engine, limiter) = (self.client.monitor(), self.client.limiter());
        let mut progress = self.tally.progress(engine);
        progress.note_limits(engine, limiter, self.ends);
        progress.is_stopping = self.cancel.is_cancelled();
        (self.on_progress)(&progress);
        progress
    }

    pub(super) fn finish(mut self) -> Result<Summary> {
        self.record_out_of_order();
        self.record_interrupted();
        self.flush();
        if self.state.broken.is_none()
            && let Err(error) = self.journal.finish()
        {
            self.give_up(error);
        }
        let again = Again {
            rows: self.state.failed_alike(),
            no_mark: self.records.strict,
        };
        if self.journal.keeps_errors() {
            let passes = (self.state.stopped.as_ref()).is_some_and(Error::is_transient);
            self.tally.take_back(&again, passes);
        }
        let progress = self.report();
        if let Some(error) = self.state.broken {
            // The files hold whole records. Another write might break that.
            return Err(error);
        }
        let outside = self.outside;
        if self.state.stopped.is_none() && outside.is_cancelled() {
            self.state.stopped = Some(Error::new(ErrorKind::Cancelled, "the run was interrupted"));
        }
        let input = self.tally.input(mem::take);
        let mut summary = self.tally.summary(progress, &input, self.state.stopped);
        // An output that is not complete is put in order by the next run.
        let order = input.order.filter(|_| summary.stopped.is_none());
        // The cancel that has ended the run does not stop this last step. A later one does.
        let cancel = Some(outside).filter(|cancel| !cancel.is_cancelled());
        let cancel = cancel.unwrap_or_default();
        let closed = self
            .journal
            .close(&self.index, input.at_end, order.as_ref(), &again, &cancel);
        if let Some(error) = input.failure {
            return Err(error);
        }
        if let Err(error) = closed {
            if error.kind() != ErrorKind::Cancelled {
                return Err(error);
            }
            summary.stopped.get_or_insert(error);
        }
        summary.wall = self.tally.elapsed();
        Ok(summary)
    }
}

fn records_in(bytes: &[u8]) -> usize {
    bytes.split_inclusive(|byte| *byte == b'\n').count()
}
