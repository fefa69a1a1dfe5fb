//! The rows of a run: read lazily from the input, and the job that each of them is.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Read;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::vec;

use super::budget::Budget;
use super::files::Location;
use super::hash::LineHash;
use super::journal::{IdEntry, IdTable, ResumeIndex, RowStatus};
use super::line::{Dialect, Format, RequestLine};
use super::problem::{BadLine, Problem};
use super::reader::Lines;
use super::scan::InputScan;
use crate::api::{ApiJob, AttemptError, Endpoint, Reply, Request};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::Job;
use crate::sync::Mutex;

const CHANGED: &str = "was answered as another request: give it another, or keep the old answer with \
                       force_resume (--force-resume of the tool)";

/// One row of the input, on its way through the engine.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) custom_id: Option<String>,
    pub(super) dialect: Dialect,
    pub(super) hash: Option<LineHash>,
    /// What to send, or why there is nothing to send.
    request: Result<Request>,
}

impl Row {
    fn of(line: RequestLine) -> Self {
        let body: Box<str> = line.body.into();
        Self {
            number: line.number,
            custom_id: Some(line.custom_id),
            dialect: line.dialect,
            hash: Some(line.hash),
            request: Ok(Request::post(line.path, String::from(body))),
        }
    }

    fn bad(line: BadLine) -> Self {
        let error = Error::new(ErrorKind::InvalidLine, line.to_string());
        Self {
            number: line.number,
            custom_id: line.custom_id,
            dialect: line.dialect,
            hash: line.hash,
            request: Err(error),
        }
    }

    fn request(&self) -> Result<Cow<'_, Request>> {
        match &self.request {
            Ok(request) => Ok(Cow::Borrowed(request)),
            Err(error) => Err(error.clone()),
        }
    }

    /// The same row, with an id by which it cannot be sent. Its record goes without the id, or it
    /// would say of the row that has it rightly how that one stands.
    fn refused(self, why: &'static str) -> Self {
        let id = self.custom_id.unwrap_or_default();
        Self::bad(BadLine {
            number: self.number,
            custom_id: None,
            dialect: self.dialect,
            hash: None,
            problem: Problem::TakenId { id, why },
        })
    }
}

/// Sends rows; those that are none never pass the limiter.
pub(super) fn send_rows(
    endpoint: &Arc<Endpoint>,
    budget: Arc<Budget>,
) -> impl Job<Input = Row, Output = Reply, Error = AttemptError> + use<> {
    // Counted here and not where it is written down, while the permit is still held: nobody is let
    // through in between.
    ApiJob::new(
        endpoint,
        |endpoint: &Endpoint, row: &Row| row.request().map(|request| endpoint.reserve(&request)),
        Row::request,
    )
    .on_attempt(move |outcome, attempt| {
        let usage = match outcome {
            Ok(reply) => reply.usage().or_else(|| {
                budget.uncounted();
                None
            }),
            Err(failed) => failed.usage,
        };
        if usage.is_some_and(|usage| budget.spend(&usage)) {
            attempt.cancel.cancel();
        }
    })
}

/// What the reading side has to tell while it reads, and in the end.
#[derive(Debug, Default)]
pub(super) struct ReadSoFar {
    rows: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
    failed_bad: AtomicU64,
    reached_end: AtomicBool,
    /// The places of the rows in the input, by their ids, once all are known.
    order: Mutex<Option<IdTable<u64>>>,
    failure: Mutex<Option<Error>>,
}

impl ReadSoFar {
    /// Rows read, those skipped included.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Relaxed)
    }

    /// Whether those are all.
    pub(super) fn reached_end(&self) -> bool {
        self.reached_end.load(Relaxed)
    }

    /// Rows that an earlier run has done.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Relaxed)
    }

    /// Rows that an earlier run has given up for good.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Of those, lines that are no requests.
    pub(super) fn failed_bad(&self) -> u64 {
        self.failed_bad.load(Relaxed)
    }

    /// The places of all rows in the input, if they were asked for and the end was reached.
    pub(super) fn take_order(&self) -> Option<IdTable<u64>> {
        self.order.lock().take()
    }

    /// The rows read so far are answered; the run says in the end why there were no more.
    pub(super) fn fail(&self, why: Error) {
        *self.failure.lock() = Some(why);
    }

    /// Why reading ended before the input did.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }
}

/// The input as an iterator of rows, for the thread that pulls it: opened at the first pull, since
/// a stream may block before it gives its first bytes.
pub(super) struct Rows {
    with: Reading,
    lines: Option<Lines<Box<dyn Read + Send>>>,
    /// Ids seen so far, where nobody has looked through the whole input before.
    seen: Option<HashSet<LineHash>>,
    /// Lines that need not be read, as somebody has.
    passed_over: Peekable<vec::IntoIter<Range<u64>>>,
    /// The rows' places so far, where they are asked for.
    order: Option<Vec<IdEntry<u64>>>,
    so_far: Arc<ReadSoFar>,
}

/// What an input is read with.
pub(super) struct Reading {
    pub(super) place: Location,
    pub(super) source: Option<Box<dyn Read + Send>>,
    pub(super) format: Format,
    pub(super) index: Arc<ResumeIndex>,
    /// Asked a line: a million rows that are done are passed over in one pull.
    pub(super) cancel: Cancel,
    /// Remember the order of all rows.
    pub(super) note_order: bool,
}

impl Rows {
    /// `scan`: what the whole input holds, if it can be read twice.
    pub(super) fn new(with: Reading, scan: Option<InputScan>) -> (Self, Arc<ReadSoFar>) {
        let so_far = Arc::new(ReadSoFar::default());
        let seen = scan.is_none().then(HashSet::new);
        let scan = scan.unwrap_or_default();
        so_far.skipped.store(scan.done, Relaxed);
        so_far.failed.store(scan.failed, Relaxed);
        so_far.failed_bad.store(scan.failed_bad, Relaxed);
        let rows = Self {
            order: with.note_order.then(Vec::new),
            with,
            lines: None,
            seen,
            passed_over: scan.passed_over.into_iter().peekable(),
            so_far: Arc::clone(&so_far),
        };
        (rows, so_far)
    }

    fn pull(&mut self) -> Result<Option<Row>> {
        let with = &mut self.with;
        let unreadable = |error| with.place.unreadable(error);
        if let Some(source) = with.source.take() {
            self.lines = Some(Lines::open(source).map_err(unreadable)?);
        }
        let Some(lines) = &mut self.lines else {
            return Ok(None);
        };
        while !with.cancel.is_cancelled() {
            let Some(line) = lines.next().map_err(unreadable)? else {
                let order = self.order.take().map(IdTable::new);
                *self.so_far.order.lock() = order;
                self.so_far.reached_end.store(true, Relaxed);
                return Ok(None);
            };
            self.so_far.rows.fetch_add(1, Relaxed);
            let number = line.number;
            let passed = &mut self.passed_over;
            while passed.next_if(|lines| lines.end <= number).is_some() {}
            // Its id is wanted for the order, if for nothing else.
            if self.order.is_none() && passed.peek().is_some_and(|lines| lines.contains(&number)) {
                continue;
            }
            let row = match with.format.parse(line) {
                Ok(line) => Row::of(line),
                Err(bad) => Row::bad(*bad),
            };
            let Some(custom_id) = &row.custom_id else {
                return Ok(Some(row));
            };
            let id = LineHash::of(custom_id.as_bytes());
            if let Some(seen) = &mut self.seen
                && !seen.insert(id)
            {
                return Ok(Some(row.refused("stands in an earlier line, too")));
            }
            if let Some(order) = &mut self.order {
                order.push(IdEntry::new(id, row.number));
            }
            let passed_over = match with.index.status(id, row.hash) {
                RowStatus::ToDo => return Ok(Some(row)),
                RowStatus::Done => &self.so_far.skipped,
                RowStatus::Failed => {
                    if self.seen.is_some() && row.request.is_err() {
                        self.so_far.failed_bad.fetch_add(1, Relaxed);
                    }
                    &self.so_far.failed
                }
                // Of a stream: a file has been refused for it. The rows before it are paid for.
                RowStatus::Changed => return Ok(Some(row.refused(CHANGED))),
            };
            // After a look through the input they are counted already.
            if self.seen.is_some() {
                passed_over.fetch_add(1, Relaxed);
            }
        }
        Ok(None)
    }
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        match self.pull() {
            Ok(row) => row,
            Err(error) => {
                self.so_far.fail(error);
                self.lines = None;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonl::line::DEFAULT_ENDPOINT;

    fn rows(
        input: &'static str,
        cancel: &Cancel,
        scan: Option<InputScan>,
    ) -> (Rows, Arc<ReadSoFar>) {
        let with = Reading {
            place: Location::Stream,
            source: Some(Box::new(input.as_bytes())),
            format: Format::Requests {
                endpoint: DEFAULT_ENDPOINT.to_owned(),
            },
            index: Arc::new(ResumeIndex::default()),
            cancel: cancel.clone(),
            note_order: false,
        };
        Rows::new(with, scan)
    }

    const THREE: &str = "{\"custom_id\":\"a\",\"body\":{}}\n\n{\"custom_id\":\"b\",\"body\":{}}\n{\"custom_id\":\"a\",\"body\":{}}\n";

    #[test]
    fn no_line_is_read_after_a_cancel() {
        let cancel = Cancel::new();
        let (mut rows, so_far) = rows(THREE, &cancel, None);
        assert!(rows.next().is_some());
        cancel.cancel();
        assert!(rows.next().is_none());
        assert_eq!((so_far.rows(), so_far.reached_end()), (1, false));
        assert!(so_far.failure().is_none());
    }

    #[test]
    fn lines_that_somebody_has_looked_at_are_counted_and_not_read_again() {
        let scan = InputScan {
            done: 2,
            passed_over: vec![1..2, 4..5],
            ..InputScan::default()
        };
        let (rows, so_far) = rows(THREE, &Cancel::new(), Some(scan));
        let ids: Vec<_> = rows.filter_map(|row| row.custom_id).collect();
        assert_eq!(ids, ["b"]);
        assert_eq!((so_far.rows(), so_far.skipped()), (3, 2));
        assert!(so_far.reached_end());
    }

    #[test]
    fn on_a_stream_the_later_line_of_an_id_is_no_request() {
        let (rows, _) = rows(THREE, &Cancel::new(), None);
        let wrong: Vec<_> = rows.map(|row| row.request.is_err()).collect();
        assert_eq!(wrong, [false, false, true]);
    }
}
