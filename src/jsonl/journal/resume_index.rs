//! What is known of the rows before a run begins.
//!
//! It is kept for the whole run: 24 bytes for each row that has a record.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::super::hash::LineHash;
use super::super::ids::IdTable;
use super::super::readback::ReadRecord;
use super::JournalOptions;
use crate::api::classify::{Promise, RecordState};

/// What earlier runs made of the rows, and what this run does about it.
#[derive(Debug, Default)]
pub(crate) struct ResumeIndex {
    rows: IdTable<KnownRow>,
    options: JournalOptions,
}

/// A row by the record that counts.
#[derive(Debug)]
pub(super) struct KnownRow {
    request: RequestTag,
    state: RecordState,
    /// It is tried again after all other rows.
    goes_last: bool,
    /// The input of this run has the row, and the record is no answer to it.
    open: AtomicBool,
    /// This run has answered the row, or failed it anew.
    ended: AtomicBool,
}

/// Tells a row's request from another with the same id: a quarter of its line's hash, or zero where
/// the record has none. By chance it is the same for one change in four thousand million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RequestTag(u32);

impl RequestTag {
    fn of(hash: Option<LineHash>) -> Self {
        let [.., a, b, c, d] = hash.map_or(0, |hash| hash.low).to_be_bytes();
        Self(u32::from_be_bytes([a, b, c, d]))
    }

    /// Where one is unknown, the id decides.
    fn is(self, other: Self) -> bool {
        self == other || self.0 == 0 || other.0 == 0
    }
}

impl KnownRow {
    pub(super) fn new(record: &ReadRecord) -> Self {
        Self {
            request: RequestTag::of(record.hash),
            state: record.state,
            goes_last: record.again,
            open: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// Whether the record answers a row whose endpoint has this `promise`.
    fn answers(&self, promise: Promise) -> bool {
        match self.state {
            RecordState::Done => true,
            RecordState::Unsure => promise == Promise::Anything,
            RecordState::Transient | RecordState::Permanent => false,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        !self.answers(Promise::Anything)
    }
}

/// What a row is when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowStatus {
    ToDo,
    /// To do after all other rows, as it failed with all others when a run stopped.
    ToDoLast,
    Done,
    /// Failed for a permanent reason, and not to be tried again.
    Failed,
    /// Answered when it was another request: the answer on file is not its own.
    Changed,
}

impl ResumeIndex {
    /// Takes records in the order in which they were written. A row once answered stays answered,
    /// whatever was tried later; of several failures the last counts.
    pub(super) fn new(rows: Vec<(LineHash, KnownRow)>, options: JournalOptions) -> Self {
        let rank = |row: &KnownRow| match row.state {
            RecordState::Done => 2,
            RecordState::Unsure => 1,
            RecordState::Transient | RecordState::Permanent => 0,
        };
        Self {
            rows: IdTable::of_best(rows, rank),
            options,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether rows are tried out of their order.
    pub(crate) fn puts_rows_last(&self) -> bool {
        self.rows.values().any(|row| row.goes_last)
    }

    /// Answered rows.
    pub(crate) fn done(&self) -> u64 {
        let open = |row: &&KnownRow| row.has_failed() || row.open.load(Relaxed);
        self.rows.values().filter(|row| !open(row)).count() as u64
    }

    /// Whether a line has been answered as it stands, to the letter. Then it is also a request.
    pub(crate) fn has_answered(&self, id: LineHash, line: LineHash) -> bool {
        let tag = RequestTag::of(Some(line));
        let is_same = |row: &KnownRow| row.state == RecordState::Done && row.request == tag;
        self.rows.get(id).is_some_and(is_same)
    }

    /// What has become of a row of the input, whose endpoint has this `promise`. A row that failed
    /// with another request under its id is to do.
    pub(crate) fn status(
        &self,
        id: LineHash,
        line: Option<LineHash>,
        promise: Promise,
    ) -> RowStatus {
        let Some(row) = self.rows.get(id) else {
            return RowStatus::ToDo;
        };
        let is_same = row.request.is(RequestTag::of(line));
        if row.answers(promise) {
            return if is_same || self.options.force_resume {
                RowStatus::Done
            } else {
                RowStatus::Changed
            };
        }
        row.open.store(true, Relaxed);
        match row.state {
            RecordState::Permanent if is_same && !self.options.retry_failed => RowStatus::Failed,
            _ if row.goes_last => RowStatus::ToDoLast,
            _ => RowStatus::ToDo,
        }
    }

    /// Whether the record of this row, which is not surely an answer, does not count: there is a
    /// better one, or its endpoint is known and answers otherwise.
    pub(super) fn overrules(&self, id: LineHash) -> bool {
        let better = |row: &KnownRow| row.state == RecordState::Done || row.open.load(Relaxed);
        self.rows.get(id).is_some_and(better)
    }

    /// Notes that this run has answered a row, or failed it.
    pub(crate) fn ended(&self, id: Option<LineHash>) {
        if let Some(row) = id.and_then(|id| self.rows.get(id)) {
            row.ended.store(true, Relaxed);
        }
    }

    /// How many failed rows the input does not have, as far as it has been read.
    pub(super) fn not_met(&self) -> usize {
        let met = |row: &&KnownRow| !row.has_failed() || row.open.load(Relaxed);
        self.rows.values().filter(|row| !met(row)).count()
    }

    /// Whether the last record of an earlier run's failure still counts. `whole_input` says that a
    /// row this run has not met is no longer in the input.
    pub(super) fn still_failed(&self, id: LineHash, whole_input: bool) -> bool {
        self.rows.get(id).is_some_and(|row| {
            let is_there = row.open.load(Relaxed) || !whole_input;
            row.has_failed() && !row.ended.load(Relaxed) && is_there
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> LineHash {
        LineHash::of(text)
    }

    fn row(id: &str, state: RecordState, line: Option<&str>) -> (LineHash, KnownRow) {
        let record = ReadRecord {
            id: Some(hash(id)),
            state,
            again: false,
            hash: line.map(hash),
            simulated: false,
        };
        (hash(id), KnownRow::new(&record))
    }

    fn done(id: &str, line: Option<&str>) -> (LineHash, KnownRow) {
        row(id, RecordState::Done, line)
    }

    fn failed(id: &str, permanent: bool) -> (LineHash, KnownRow) {
        let states = [RecordState::Transient, RecordState::Permanent];
        row(id, states[usize::from(permanent)], Some("line"))
    }

    fn index(rows: impl Into<Vec<(LineHash, KnownRow)>>) -> ResumeIndex {
        ResumeIndex::new(rows.into(), JournalOptions::default())
    }

    fn status(index: &ResumeIndex, id: &str) -> RowStatus {
        index.status(hash(id), Some(hash("line")), Promise::Choices)
    }

    #[test]
    fn the_size_is_the_one_that_is_stated() {
        assert_eq!(size_of::<(LineHash, KnownRow)>(), 24);
    }

    #[test]
    fn a_row_once_answered_stays_so_and_of_failures_the_last_counts() {
        let index = index([
            done("both", Some("line")),
            failed("both", true),
            failed("passed", true),
            failed("passed", false),
            failed("did not", false),
            failed("did not", true),
        ]);
        assert_eq!(index.done(), 1);
        for (id, expected) in [
            ("both", RowStatus::Done),
            ("passed", RowStatus::ToDo),
            ("did not", RowStatus::Failed),
            ("new", RowStatus::ToDo),
        ] {
            assert_eq!(status(&index, id), expected, "{id}");
        }
    }

    #[test]
    fn a_changed_request_is_told_unless_there_is_nothing_to_tell_it_by() {
        let rows = || vec![done("a", Some("another")), done("b", None)];
        let index = index(
            [rows(), vec![failed("c", true)]]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>(),
        );
        assert_eq!(status(&index, "a"), RowStatus::Changed);
        assert_eq!(status(&index, "b"), RowStatus::Done);
        assert_eq!(
            index.status(hash("a"), None, Promise::Choices),
            RowStatus::Done
        );
        // An answer is lost with a change; a failure is not worth keeping.
        let changed = index.status(hash("c"), Some(hash("another")), Promise::Choices);
        assert_eq!(changed, RowStatus::ToDo);
        let forced = JournalOptions {
            force_resume: true,
            ..JournalOptions::default()
        };
        let index = ResumeIndex::new(rows(), forced);
        assert_eq!(status(&index, "a"), RowStatus::Done);
    }

    #[test]
    fn what_only_an_unknown_endpoint_answers_is_done_for_such_an_endpoint_alone() {
        let unsure = |id| row(id, RecordState::Unsure, Some("line"));
        let index = index([
            done("sure", Some("line")),
            unsure("a"),
            unsure("b"),
            unsure("sure"),
        ]);
        assert_eq!(index.done(), 3);
        let anything = |id| index.status(hash(id), Some(hash("line")), Promise::Anything);
        assert_eq!(anything("a"), RowStatus::Done);
        assert_eq!(
            index.status(hash("a"), Some(hash("x")), Promise::Anything),
            RowStatus::Changed
        );
        for _ in 0..2 {
            assert_eq!(status(&index, "b"), RowStatus::ToDo);
        }
        assert_eq!(status(&index, "sure"), RowStatus::Done);
        assert_eq!(index.done(), 2);
        let overruled = ["a", "b", "sure"].map(|id| index.overrules(hash(id)));
        assert_eq!(overruled, [false, true, true]);
    }

    #[test]
    fn rows_that_go_last_are_told_from_the_others() {
        let mut last = failed("last", false);
        last.1.goes_last = true;
        let index = index([failed("first", false), last]);
        assert_eq!(status(&index, "first"), RowStatus::ToDo);
        assert_eq!(status(&index, "last"), RowStatus::ToDoLast);
        assert!(index.puts_rows_last());
        assert!(!ResumeIndex::default().puts_rows_last());
    }

    #[test]
    fn failures_are_repeated_if_that_is_asked_for() {
        let again = JournalOptions {
            retry_failed: true,
            ..JournalOptions::default()
        };
        let index = ResumeIndex::new(vec![failed("a", true)], again);
        assert_eq!(status(&index, "a"), RowStatus::ToDo);
        assert!(index.still_failed(hash("a"), true));
    }

    #[test]
    fn a_failure_counts_while_its_row_is_in_the_input_and_was_not_tried_again() {
        let index = index(["old", "tried", "gone"].map(|id| failed(id, id != "tried")));
        status(&index, "old");
        status(&index, "tried");
        index.ended(Some(hash("tried")));
        index.ended(Some(hash("never heard of")));
        index.ended(None);
        let still = |id, whole_input| index.still_failed(hash(id), whole_input);
        assert!(still("old", true) && still("old", false));
        assert!(!still("tried", true) && !still("tried", false));
        assert_eq!(index.not_met(), 1);
        // A row that was not met may be in the part of the input that was not read.
        assert!(!still("gone", true) && still("gone", false));
    }
}
