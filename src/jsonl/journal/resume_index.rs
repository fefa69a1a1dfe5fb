//! What is known of the rows before a run begins.
//!
//! It is kept for the whole run: 24 bytes for each answered row, 32 for each failed one.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::super::hash::LineHash;
use super::super::ids::IdTable;
use crate::api::classify::Promise;

/// What earlier runs made of the rows, and what this run does about it.
#[derive(Debug, Default)]
pub(crate) struct ResumeIndex {
    done: IdTable<RequestTag>,
    unsure: IdTable<UnsureRow>,
    failed: IdTable<FailedRow>,
    policy: ResumePolicy,
}

/// What a run does about rows that earlier ones left failed or changed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResumePolicy {
    /// Rows that failed for a permanent reason are tried again.
    pub(crate) retry_failed: bool,
    /// An answer counts even if the request of its row has changed since.
    pub(crate) force_resume: bool,
}

/// Tells a row's request from another with the same id: half of its line's hash, or zero where the
/// record has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestTag(u64);

impl RequestTag {
    pub(super) fn of(hash: Option<LineHash>) -> Self {
        Self(hash.map_or(0, |hash| hash.low))
    }

    /// Where one is unknown, the id decides.
    fn is(self, other: Self) -> bool {
        self == other || self.0 == 0 || other.0 == 0
    }
}

/// A row with a record that is an answer only if its endpoint is not known.
#[derive(Debug, Default)]
struct UnsureRow {
    request: RequestTag,
    /// The endpoint is known, so it is none.
    overruled: AtomicBool,
}

/// A row that is not answered, by its last record.
#[derive(Debug, Default)]
pub(super) struct FailedRow {
    request: RequestTag,
    permanent: bool,
    /// It is tried again after all other rows.
    goes_last: bool,
    /// The input of this run has the row.
    met: AtomicBool,
    /// This run has answered the row, or failed it anew.
    ended: AtomicBool,
}

impl FailedRow {
    pub(super) fn new(request: RequestTag, permanent: bool, goes_last: bool) -> Self {
        Self {
            request,
            permanent,
            goes_last,
            ..Self::default()
        }
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
    pub(super) fn new(
        done: Vec<(LineHash, RequestTag)>,
        mut unsure: Vec<(LineHash, RequestTag)>,
        mut failed: Vec<(LineHash, FailedRow)>,
        policy: ResumePolicy,
    ) -> Self {
        let done = IdTable::new(done);
        unsure.retain(|(id, _)| done.get(*id).is_none());
        failed.retain(|(id, _)| done.get(*id).is_none());
        let unsure = unsure.into_iter().map(|(id, request)| {
            let overruled = AtomicBool::default();
            (id, UnsureRow { request, overruled })
        });
        Self {
            done,
            unsure: IdTable::new(unsure.collect()),
            failed: IdTable::new(failed),
            policy,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.unsure.is_empty() && self.failed.is_empty()
    }

    /// Whether rows are tried out of their order.
    pub(crate) fn puts_rows_last(&self) -> bool {
        self.failed.values().any(|failed| failed.goes_last)
    }

    /// Answered rows.
    pub(crate) fn done(&self) -> u64 {
        let unsure = self
            .unsure
            .values()
            .filter(|row| !row.overruled.load(Relaxed));
        (self.done.len() + unsure.count()) as u64
    }

    /// Whether a line has been answered as it stands, to the letter. Then it is also a request.
    pub(crate) fn has_answered(&self, id: LineHash, line: LineHash) -> bool {
        self.done.get(id) == Some(&RequestTag::of(Some(line)))
    }

    /// What has become of a row of the input, whose endpoint has this `promise`. A row that failed
    /// with another request under its id is to do.
    pub(crate) fn status(
        &self,
        id: LineHash,
        line: Option<LineHash>,
        promise: Promise,
    ) -> RowStatus {
        let now = RequestTag::of(line);
        let answered = self.done.get(id);
        if let Some(answered) = answered.or_else(|| self.unsure_answer(id, promise)) {
            return if answered.is(now) || self.policy.force_resume {
                RowStatus::Done
            } else {
                RowStatus::Changed
            };
        }
        let Some(failed) = self.failed.get(id) else {
            return RowStatus::ToDo;
        };
        failed.met.store(true, Relaxed);
        if failed.permanent && failed.request.is(now) && !self.policy.retry_failed {
            RowStatus::Failed
        } else if failed.goes_last {
            RowStatus::ToDoLast
        } else {
            RowStatus::ToDo
        }
    }

    fn unsure_answer(&self, id: LineHash, promise: Promise) -> Option<&RequestTag> {
        let row = self.unsure.get(id)?;
        if promise == Promise::Anything {
            return Some(&row.request);
        }
        row.overruled.store(true, Relaxed);
        None
    }

    /// Whether the record of this row, which is not surely an answer, does not count: there is a
    /// better one, or its endpoint is known and answers otherwise.
    pub(super) fn overrules(&self, id: LineHash) -> bool {
        let row = self.unsure.get(id);
        row.is_some_and(|row| row.overruled.load(Relaxed)) || self.done.get(id).is_some()
    }

    /// Notes that this run has answered a row, or failed it.
    pub(crate) fn ended(&self, id: Option<LineHash>) {
        if let Some(failed) = id.and_then(|id| self.failed.get(id)) {
            failed.ended.store(true, Relaxed);
        }
    }

    /// How many failed rows the input does not have, as far as it has been read.
    pub(super) fn not_met(&self) -> usize {
        let all = self.failed.values();
        all.filter(|failed| !failed.met.load(Relaxed)).count()
    }

    /// Whether the last record of an earlier run's failure still counts. `whole_input` says that a
    /// row this run has not met is no longer in the input.
    pub(super) fn still_failed(&self, id: LineHash, whole_input: bool) -> bool {
        self.failed.get(id).is_some_and(|failed| {
            !failed.ended.load(Relaxed) && (failed.met.load(Relaxed) || !whole_input)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> LineHash {
        LineHash::of(text)
    }

    fn done(id: &str, line: Option<&str>) -> (LineHash, RequestTag) {
        (hash(id), RequestTag::of(line.map(hash)))
    }

    fn failed(id: &str, permanent: bool) -> (LineHash, FailedRow) {
        let request = RequestTag::of(Some(hash("line")));
        (hash(id), FailedRow::new(request, permanent, false))
    }

    fn status(index: &ResumeIndex, id: &str) -> RowStatus {
        index.status(hash(id), Some(hash("line")), Promise::Choices)
    }

    #[test]
    fn the_sizes_are_those_that_are_stated() {
        assert_eq!(size_of::<(LineHash, RequestTag)>(), 24);
        assert_eq!(size_of::<(LineHash, FailedRow)>(), 32);
    }

    #[test]
    fn a_row_once_answered_stays_so_and_of_failures_the_last_counts() {
        let index = ResumeIndex::new(
            vec![done("both", Some("line"))],
            Vec::new(),
            vec![
                failed("both", true),
                failed("passed", true),
                failed("passed", false),
                failed("did not", false),
                failed("did not", true),
            ],
            ResumePolicy::default(),
        );
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
        let index = ResumeIndex::new(
            rows(),
            Vec::new(),
            vec![failed("c", true)],
            ResumePolicy::default(),
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
        let forced = ResumePolicy {
            force_resume: true,
            ..ResumePolicy::default()
        };
        let index = ResumeIndex::new(rows(), Vec::new(), Vec::new(), forced);
        assert_eq!(status(&index, "a"), RowStatus::Done);
    }

    #[test]
    fn what_only_an_unknown_endpoint_answers_is_done_for_such_an_endpoint_alone() {
        let rows = ["a", "b", "sure"].map(|id| done(id, Some("line")));
        let sure = vec![done("sure", Some("line"))];
        let index = ResumeIndex::new(sure, rows.into(), Vec::new(), ResumePolicy::default());
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
        let row = |id: &str, last| {
            let request = RequestTag::of(Some(hash("line")));
            (hash(id), FailedRow::new(request, false, last))
        };
        let index = ResumeIndex::new(
            Vec::new(),
            Vec::new(),
            vec![row("first", false), row("last", true)],
            ResumePolicy::default(),
        );
        assert_eq!(status(&index, "first"), RowStatus::ToDo);
        assert_eq!(status(&index, "last"), RowStatus::ToDoLast);
        assert!(index.puts_rows_last());
        assert!(!ResumeIndex::default().puts_rows_last());
    }

    #[test]
    fn failures_are_repeated_if_that_is_asked_for() {
        let again = ResumePolicy {
            retry_failed: true,
            ..ResumePolicy::default()
        };
        let index = ResumeIndex::new(Vec::new(), Vec::new(), vec![failed("a", true)], again);
        assert_eq!(status(&index, "a"), RowStatus::ToDo);
        assert!(index.still_failed(hash("a"), true));
    }

    #[test]
    fn a_failure_counts_while_its_row_is_in_the_input_and_was_not_tried_again() {
        let rows = ["old", "tried", "gone"].map(|id| failed(id, id != "tried"));
        let index = ResumeIndex::new(Vec::new(), Vec::new(), rows.into(), ResumePolicy::default());
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
