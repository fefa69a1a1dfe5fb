//! What is known of the rows before a run begins.
//!
//! It is kept for the whole run, in [tables](super::table): 24 bytes a row that is answered, 41 a
//! row that has failed.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::super::hash::LineHash;
use super::table::{IdEntry, IdTable};

/// What earlier runs made of the rows, and how this one takes it.
#[derive(Debug, Default)]
pub(crate) struct ResumeIndex {
    done: IdTable<RequestTag>,
    failed: IdTable<FailedRow>,
    /// What this run has seen of each failed row.
    seen: Vec<AtomicU8>,
    policy: ResumePolicy,
}

/// How a run takes what earlier ones left.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResumePolicy {
    /// Rows that failed for a reason that will not pass are tried again all the same.
    pub(crate) retry_failed: bool,
    /// An answer counts even if its row asks something else by now.
    pub(crate) force_resume: bool,
}

/// Tells a row's request from another under the same id: half of its line's hash, or zero where the
/// record has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestTag(u64);

impl RequestTag {
    pub(super) fn of(hash: Option<LineHash>) -> Self {
        Self(hash.map_or(0, |hash| hash.halves().1))
    }

    /// Where one is unknown, the id decides.
    fn is(self, other: Self) -> bool {
        self == other || self.0 == 0 || other.0 == 0
    }
}

/// A row that is not answered, by its last record.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailedRow {
    pub(super) request: RequestTag,
    /// For a reason that will not pass.
    pub(super) for_good: bool,
    /// Where the record stands.
    pub(super) file: RecordFile,
    pub(super) offset: u64,
}

/// A file that holds records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordFile {
    Output,
    Errors,
}

/// The row is in the input.
const MET: u8 = 1;
/// This run has answered it, or given it up anew.
const ENDED: u8 = 2;

/// Where a row stands when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowStatus {
    ToDo,
    Done,
    /// For good.
    Failed,
    /// Answered as another request: the answer on file is not its own.
    Changed,
}

impl ResumeIndex {
    /// Puts records in the order in which they were written together. A row once answered stays so,
    /// whatever was tried later; of several failures the last holds.
    pub(super) fn new(
        done: Vec<IdEntry<RequestTag>>,
        failed: Vec<IdEntry<FailedRow>>,
        policy: ResumePolicy,
    ) -> Self {
        let done = IdTable::new(done);
        let mut failed = IdTable::new(failed);
        failed.retain(|row| done.value_of(row).is_none());
        let seen = (0..failed.len()).map(|_| AtomicU8::new(0)).collect();
        Self {
            done,
            failed,
            seen,
            policy,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.failed.is_empty()
    }

    /// Answered rows.
    pub(crate) fn done(&self) -> u64 {
        self.done.len() as u64
    }

    /// Whether a line has been answered as it stands, to the letter: then it is a request, too.
    pub(crate) fn has_answered(&self, id: LineHash, line: LineHash) -> bool {
        let answered = self.done.get(id);
        answered.is_some_and(|answered| answered == RequestTag::of(Some(line)))
    }

    /// Where a row of the input stands. One that has failed as another request stands anew.
    pub(crate) fn status(&self, id: LineHash, line: Option<LineHash>) -> RowStatus {
        let now = RequestTag::of(line);
        if let Some(answered) = self.done.get(id) {
            return if answered.is(now) || self.policy.force_resume {
                RowStatus::Done
            } else {
                RowStatus::Changed
            };
        }
        let Some((place, failed)) = self.failed.find(id) else {
            return RowStatus::ToDo;
        };
        self.seen[place].fetch_or(MET, Relaxed);
        if failed.for_good && failed.request.is(now) && !self.policy.retry_failed {
            RowStatus::Failed
        } else {
            RowStatus::ToDo
        }
    }

    /// Notes that this run has answered a row, or given it up.
    pub(crate) fn ended(&self, custom_id: Option<&str>) {
        if !self.failed.is_empty()
            && let Some(id) = custom_id
            && let Some((place, _)) = self.failed.find(LineHash::of(id.as_bytes()))
        {
            self.seen[place].fetch_or(ENDED, Relaxed);
        }
    }

    /// Failed rows that are none of the input's, as far as it has been read.
    pub(super) fn not_met(&self) -> usize {
        let met = |seen: &&AtomicU8| seen.load(Relaxed) & MET != 0;
        self.seen.len() - self.seen.iter().filter(met).count()
    }

    /// Whether the record of a failure at this place still says how its row stands; `whole_input`
    /// says that a row this run has not met is none any more.
    pub(super) fn stands(
        &self,
        id: LineHash,
        file: RecordFile,
        offset: u64,
        whole_input: bool,
    ) -> bool {
        self.failed.find(id).is_some_and(|(place, failed)| {
            let seen = self.seen[place].load(Relaxed);
            let is_last = failed.file == file && failed.offset == offset;
            is_last && seen & ENDED == 0 && (seen & MET != 0 || !whole_input)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> LineHash {
        LineHash::of(text.as_bytes())
    }

    fn done(id: &str, line: Option<&str>) -> IdEntry<RequestTag> {
        IdEntry::new(hash(id), RequestTag::of(line.map(hash)))
    }

    fn failed(id: &str, for_good: bool, at: u64) -> IdEntry<FailedRow> {
        let failed = FailedRow {
            request: RequestTag::of(Some(hash("line"))),
            for_good,
            file: RecordFile::Errors,
            offset: at,
        };
        IdEntry::new(hash(id), failed)
    }

    fn status(index: &ResumeIndex, id: &str) -> RowStatus {
        index.status(hash(id), Some(hash("line")))
    }

    #[test]
    fn the_sizes_are_those_that_are_stated() {
        assert_eq!(size_of::<IdEntry<RequestTag>>(), 24);
        assert_eq!(size_of::<IdEntry<FailedRow>>(), 40);
    }

    #[test]
    fn a_row_once_answered_stays_so_and_of_failures_the_last_holds() {
        let index = ResumeIndex::new(
            vec![done("both", Some("line"))],
            vec![
                failed("both", true, 0),
                failed("passed", true, 1),
                failed("passed", false, 2),
                failed("did not", false, 3),
                failed("did not", true, 4),
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
        let index = ResumeIndex::new(rows(), vec![failed("c", true, 0)], ResumePolicy::default());
        assert_eq!(status(&index, "a"), RowStatus::Changed);
        assert_eq!(status(&index, "b"), RowStatus::Done);
        assert_eq!(index.status(hash("a"), None), RowStatus::Done);
        // An answer is lost with a change; a failure is not worth keeping.
        let changed = index.status(hash("c"), Some(hash("another")));
        assert_eq!(changed, RowStatus::ToDo);
        let forced = ResumePolicy {
            force_resume: true,
            ..ResumePolicy::default()
        };
        let index = ResumeIndex::new(rows(), Vec::new(), forced);
        assert_eq!(status(&index, "a"), RowStatus::Done);
    }

    #[test]
    fn failures_are_repeated_if_that_is_asked_for() {
        let again = ResumePolicy {
            retry_failed: true,
            ..ResumePolicy::default()
        };
        let index = ResumeIndex::new(Vec::new(), vec![failed("a", true, 0)], again);
        assert_eq!(status(&index, "a"), RowStatus::ToDo);
        assert!(index.stands(hash("a"), RecordFile::Errors, 0, true));
    }

    #[test]
    fn the_record_that_stands_is_the_last_of_a_row_of_the_input_that_was_not_tried_again() {
        let rows = vec![
            failed("old", true, 0),
            failed("old", true, 7),
            failed("tried", false, 14),
            failed("gone", true, 21),
        ];
        let index = ResumeIndex::new(Vec::new(), rows, ResumePolicy::default());
        status(&index, "old");
        status(&index, "tried");
        index.ended(Some("tried"));
        index.ended(Some("never heard of"));
        index.ended(None);
        for (id, at, stands) in [("old", 0, false), ("old", 7, true), ("tried", 14, false)] {
            let found = index.stands(hash(id), RecordFile::Errors, at, true);
            assert_eq!(found, stands, "{id} {at}");
        }
        assert!(!index.stands(hash("old"), RecordFile::Output, 7, true));
        assert_eq!(index.not_met(), 1);
        // What was not met may stand in the part of the input that was not read.
        assert!(!index.stands(hash("gone"), RecordFile::Errors, 21, true));
        assert!(index.stands(hash("gone"), RecordFile::Errors, 21, false));
    }
}
