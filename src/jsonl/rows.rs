//! The rows of a run: read lazily from the input, and the job that each of them is.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::budget::Budget;
use super::hash::LineHash;
use super::journal::{Past, Standing};
use super::line::{Dialect, Format, RequestLine};
use super::names::Place;
use super::problem::{BadLine, Problem};
use super::reader::Lines;
use crate::api::{Client, Failed, Reply, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::limit::Cost;
use crate::pool::{Attempt, Job};
use crate::retry::Verdict;
use crate::sync::Mutex;

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
}

/// Sends rows; those that are none never get to the gate.
pub(super) struct SendRows {
    pub(super) client: Client,
    pub(super) budget: Arc<Budget>,
}

impl Job for SendRows {
    type Input = Row;
    type Output = Reply;
    type Error = Failed;

    fn cost(&self, row: &Row) -> Result<Cost> {
        match &row.request {
            Ok(request) => Ok(self.client.reserve(request)),
            Err(error) => Err(error.clone()),
        }
    }

    fn attempt(&self, row: &Row, attempt: &Attempt<'_>) -> Result<Reply, Failed> {
        let request = row.request.as_ref().map_err(|error| Failed {
            error: error.clone(),
            verdict: Verdict::Fail,
            usage: None,
        })?;
        let outcome = self.client.attempt(request, attempt);
        let usage = match &outcome {
            Ok(reply) => reply.usage(),
            Err(failed) => failed.usage,
        };
        // Here and not where it is written down, while the place at the gate is still taken: nobody
        // is let through in between.
        if usage.is_some_and(|usage| self.budget.spend(&usage)) {
            attempt.cancel.cancel();
        }
        outcome
    }

    fn verdict(&self, failed: &Failed) -> Verdict {
        failed.verdict
    }

    fn maybe_paid(&self, failed: &Failed) -> bool {
        failed.error.maybe_billed()
    }

    fn shown(&self, failed: &Failed) -> Option<Error> {
        Some(failed.error.clone())
    }
}

/// What the reading side has to tell while it reads, and in the end.
#[derive(Debug, Default)]
pub(super) struct ReadSoFar {
    rows: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
    ended: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl ReadSoFar {
    /// Rows read, those skipped included.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Relaxed)
    }

    /// Rows that an earlier run has done.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Relaxed)
    }

    /// Rows that an earlier run has given up for good.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Whether there are no more rows.
    pub(super) fn ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// Why reading ended before the input did.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }
}

/// The input as an iterator of rows, for the thread that pulls it: opened at the first pull, since
/// a stream may block before it gives its first bytes.
pub(super) struct Rows {
    place: Place,
    source: Option<Box<dyn Read + Send>>,
    lines: Option<Lines<Box<dyn Read + Send>>>,
    format: Format,
    past: Arc<Past>,
    /// Ids seen so far, where nobody has looked through the whole input before.
    seen: Option<HashSet<LineHash>>,
    so_far: Arc<ReadSoFar>,
}

impl Rows {
    pub(super) fn new(
        place: Place,
        source: Box<dyn Read + Send>,
        format: Format,
        past: Arc<Past>,
        looked_through: bool,
    ) -> (Self, Arc<ReadSoFar>) {
        let so_far = Arc::new(ReadSoFar::default());
        let rows = Self {
            place,
            source: Some(source),
            lines: None,
            format,
            past,
            seen: (!looked_through).then(HashSet::new),
            so_far: Arc::clone(&so_far),
        };
        (rows, so_far)
    }

    fn pull(&mut self) -> Result<Option<Row>> {
        let unreadable = |error: io::Error, place: &Place| place.unreadable(error);
        if let Some(source) = self.source.take() {
            self.lines = Some(Lines::open(source).map_err(|error| unreadable(error, &self.place))?);
        }
        let Some(lines) = &mut self.lines else {
            return Ok(None);
        };
        loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(None),
                Err(error) => return Err(unreadable(error, &self.place)),
            };
            self.so_far.rows.fetch_add(1, Relaxed);
            let line = match self.format.parse(line) {
                Ok(line) => line,
                Err(bad) => return Ok(Some(Row::bad(*bad))),
            };
            let id = LineHash::of(line.custom_id.as_bytes());
            if let Some(seen) = &mut self.seen
                && !seen.insert(id)
            {
                return Ok(Some(Row::bad(BadLine {
                    number: line.number,
                    custom_id: Some(line.custom_id),
                    dialect: line.dialect,
                    hash: Some(line.hash),
                    problem: Problem::CustomId("stands in an earlier line, too"),
                })));
            }
            match self.past.standing(id, &line)? {
                Standing::ToDo => return Ok(Some(Row::of(line))),
                Standing::Done => &self.so_far.skipped,
                Standing::Failed => &self.so_far.failed,
            }
            .fetch_add(1, Relaxed);
        }
    }
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        match self.pull() {
            Ok(row) => {
                if row.is_none() {
                    self.so_far.ended.store(true, Relaxed);
                }
                row
            }
            Err(error) => {
                // The rows read so far are answered; the run says in the end why there were no more.
                *self.so_far.failure.lock() = Some(error);
                self.lines = None;
                None
            }
        }
    }
}
