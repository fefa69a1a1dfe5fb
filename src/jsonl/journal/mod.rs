//! The results and errors files: appended to as rows finish, and read back by the next run.
//!
//! The results file is its own resume record: it holds successes only, each id once, and what it
//! holds is done. A record is whole when its newline is there. A killed run leaves at most one torn
//! line, which the next one cuts off. The errors file holds the rows failed now: it grows during a
//! run and at its end is [compacted](compact), as is an output that holds something else than each
//! success once, or is to be in the order of the input.

mod compact;
mod lock;
mod record_file;
mod recover;
mod resume_index;

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use self::compact::{Source, compact};
use self::record_file::{RecordFile, Tail};
use self::recover::copy_aside;
use super::files::{Location, RunFiles};
use super::hash::LineHash;
use super::ids::IdTable;
use super::io::remove;
use super::readback::ReadRecord;
use crate::api::classify::RecordState;
use crate::cancel::Cancel;
use crate::error::Result;

pub(crate) use self::lock::{Locks, writer_of};
pub use self::record_file::Fsync;
pub(super) use self::recover::{FileState, recover};
pub(crate) use self::recover::{MAX_BODY, fold_file};
pub(super) use self::resume_index::{ResumeIndex, RowStatus};

/// How a run treats what it finds in its output.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JournalOptions {
    /// Start anew, whatever is there.
    pub(super) overwrite: bool,
    /// What is there must have been simulated, or must not.
    pub(super) simulated: bool,
    /// Lines that are no records are moved aside.
    pub(super) repair: bool,
    /// Rows that failed for a permanent reason are tried again.
    pub(super) retry_failed: bool,
    /// An answer counts even if the request of its row has changed since.
    pub(super) force_resume: bool,
    pub(super) fsync: Fsync,
}

/// Failed rows of this run that the next one tries again, after all others.
#[derive(Debug, Default)]
pub(super) struct Again {
    pub(super) rows: HashSet<LineHash>,
    /// Their records have no place for a mark, so they go: the rows are tried again in their turn.
    pub(super) no_mark: bool,
}

/// Both files of a run, open.
pub(super) struct Journal {
    output: RecordFile,
    /// `None` where failures go to the output.
    errors: Option<RecordFile>,
    /// Records that earlier runs left in the output.
    old_records: u64,
    /// Lines of the output that are no records have been copied aside, and are to leave it.
    repairs: bool,
}

impl Journal {
    /// Opens the files, cuts off what a killed run left torn, and takes records that are no answers
    /// out of the output.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a file that cannot be opened,
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), and
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
    pub(super) fn open(
        files: &RunFiles,
        options: JournalOptions,
        state: &FileState,
        index: &ResumeIndex,
        cancel: &Cancel,
    ) -> Result<Self> {
        let now = Instant::now();
        let mut output = RecordFile::new(&files.output, "output", options.fsync);
        output.open(state.output, now)?;
        let new_errors = || RecordFile::new(&files.errors, "errors file", options.fsync);
        let mut errors = new_errors();
        if let Some(tail) = state.errors {
            errors.open(tail, now)?;
        } else if let Location::File(path) = &files.errors
            && path.is_file()
        {
            // What an older run left says nothing about this one.
            if !options.overwrite {
                log::warn!(
                    "errors file {path:?} was left by a run with another output, and starts anew"
                );
            }
            remove(path)?;
        }
        let one_stream = files.output == Location::Stream && files.errors == Location::Stream;
        let mut journal = Self {
            output,
            errors: (!one_stream).then_some(errors),
            old_records: state.records,
            repairs: !state.foreign.is_empty(),
        };
        if let Some(output) = files.output.path().filter(|_| journal.repairs) {
            copy_aside(output, &state.foreign)?;
        }
        if journal.is_mixed(index) {
            journal.old_records = journal.tidy(index, false, None, &Again::default(), cancel)?;
            journal.repairs = false;
            // They may be other files now.
            journal.output.open(Tail::Whole, now)?;
            if let Some(errors) = &mut journal.errors {
                *errors = new_errors();
                if errors.regular().is_some_and(Path::exists) {
                    errors.open(Tail::Whole, now)?;
                }
            }
        }
        Ok(journal)
    }

    /// Whether the output holds something else than each success once.
    fn is_mixed(&self, index: &ResumeIndex) -> bool {
        self.repairs || self.old_records > index.done()
    }

    /// Appends whole records of successes. Returns how many bytes of them are in the file now, and
    /// how it went.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), after which nothing more is written.
    pub(super) fn write_results(&mut self, records: &[u8], now: Instant) -> (usize, Result<()>) {
        self.output.append(records, now)
    }

    /// Appends whole records of failures, as [`write_results`](Self::write_results) does.
    pub(super) fn write_errors(&mut self, records: &[u8], now: Instant) -> (usize, Result<()>) {
        let errors = self.errors.as_mut().unwrap_or(&mut self.output);
        errors.append(records, now)
    }

    /// What is due now and then: to flush what was written, and to check that the files are where
    /// they were.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), after which nothing more is written.
    pub(super) fn tick(&mut self, now: Instant) -> Result<()> {
        self.files().try_for_each(|file| file.tick(now))
    }

    /// Flushes what was written, and checks once more that it is where it was.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), after which nothing more is written.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.files().try_for_each(RecordFile::finish)
    }

    /// Whether failures are in a file that can be rewritten.
    pub(super) fn keeps_errors(&self) -> bool {
        self.errors.as_ref().and_then(RecordFile::regular).is_some()
    }

    fn files(&mut self) -> impl Iterator<Item = &mut RecordFile> {
        [&mut self.output].into_iter().chain(&mut self.errors)
    }

    /// How many rows are answered by the file that has the output's name now, after another program
    /// has meddled with it.
    pub(super) fn answers_left(&self) -> Option<u64> {
        let path = self.output.regular()?;
        self.output.meddled_with.then(|| recover::answers(path))
    }

    /// Leaves in the output each success once, and in the errors file exactly the rows failed now.
    ///
    /// `whole_input` says that all rows of the input have been met: failures of other rows are
    /// forgotten. The records of the rows in `again` get a mark. `order` has the lines of all rows,
    /// for an output that is to be in their order.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), and
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) for an output that is left as it was;
    /// the records themselves are written by then.
    pub(super) fn close(
        mut self,
        index: &ResumeIndex,
        whole_input: bool,
        order: Option<&IdTable<u64>>,
        again: &Again,
        cancel: &Cancel,
    ) -> Result<()> {
        // What the disk did not take is for the next run to put right.
        if self.files().any(|file| file.is_broken) {
            return Ok(());
        }
        self.tidy(index, whole_input, order, again, cancel)
            .map(drop)
    }

    /// See [`close`](Self::close). Returns how many records are in the output now.
    fn tidy(
        &self,
        index: &ResumeIndex,
        whole_input: bool,
        order: Option<&IdTable<u64>>,
        again: &Again,
        cancel: &Cancel,
    ) -> Result<u64> {
        let output = self.output.regular();
        let errors = self.errors.as_ref();
        let errors = errors.and_then(|file| Some((file.regular()?, file.start)));
        let (is_mixed, repairs) = (self.is_mixed(index), self.repairs);
        let still_failed = |record: &ReadRecord| {
            // A row without an id cannot be known again: this run reads its line, too.
            let id = record.id.filter(|_| !record.is_done());
            id.is_some_and(|id| index.still_failed(id, whole_input))
        };
        if let Some((path, start)) = errors
            && (start.is_some() || is_mixed || !again.rows.is_empty())
        {
            let is_again = |id| again.rows.contains(&id);
            let in_output = |record: Option<&ReadRecord>, _| record.is_some_and(still_failed);
            let in_errors = |record: Option<&ReadRecord>, offset| {
                let is_new = start.is_none_or(|start| offset >= start);
                let id = record.and_then(|record| record.id);
                let goes = again.no_mark && id.is_some_and(is_again);
                (is_new && !goes) || record.is_some_and(still_failed)
            };
            let mut sources = Vec::new();
            if let Some(path) = output.filter(|_| is_mixed) {
                let stays = &in_output;
                sources.push(Source { path, stays });
            }
            if path.exists() {
                let stays = &in_errors;
                sources.push(Source { path, stays });
            }
            if compact(path, &sources, |_| 0, is_again, &Cancel::new())? == 0 {
                remove(path)?;
            }
            let gone = index.not_met();
            if whole_input && gone > 0 {
                let rows = if gone == 1 { "row" } else { "rows" };
                let are = if gone == 1 { "is" } else { "are" };
                log::warn!(
                    "errors file {path:?} is for the rows of this input: {gone} {rows} that failed before \
                     {are} not in it any more. Give another input an output of its own"
                );
            }
        }
        if let Some(output) = output
            && (is_mixed || order.is_some())
        {
            // By now each failure that counts is in the errors file, if there is one.
            let stays = |record: Option<&ReadRecord>, _| match record {
                None => !repairs,
                Some(unsure) if unsure.state == RecordState::Unsure => {
                    !unsure.id.is_some_and(|id| index.overrules(id))
                }
                Some(record) => record.is_done() || (errors.is_none() && still_failed(record)),
            };
            let source = Source {
                path: output,
                stays: &stays,
            };
            let line_of = |id| match order {
                Some(order) => order.get(id).copied().unwrap_or(u64::MAX),
                None => 0,
            };
            return Ok(compact(output, &[source], line_of, |_| false, cancel)? as u64);
        }
        Ok(self.old_records)
    }
}
