//! Reading back what earlier runs left, before anything is touched.
//!
//! On all cores, as far as they go a stretch of lines at a time: what is kept of a line is its entry
//! in a [table](super::table). The files may be ours or a provider's own, with failures among the
//! results, ids more than once, and a tail that a kill has torn.

use std::fs::{self, File, Metadata};
use std::path::Path;

use super::super::cores::Cores;
use super::super::files::{Location, RunFiles};
use super::super::hash::LineHash;
use super::super::readback::ReadRecord;
use super::super::reader::Lines;
use super::super::sidecars::{REJECTED_SUFFIX, companion};
use super::super::sweep::{Stretch, Sweep};
use super::JournalOptions;
use super::repair::move_aside;
use super::resume_index::{FailedRow, RecordFile, RequestTag, ResumeIndex};
use super::table::{IdEntry, IdTable};
use super::target::failed;
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};

/// The longest record, in bytes: an answer and an id of 64 MiB each, and what stands around them.
/// What is longer is no record of ours.
pub(super) const MAX_RECORD: usize = 130 << 20;

/// How many lines that are moved aside are named.
const NAMED: usize = 20;

/// What earlier runs left in the files of a run.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) index: ResumeIndex,
    pub(crate) state: FileState,
}

/// What a run must know of the files themselves to go on with them.
#[derive(Debug, Default)]
pub(crate) struct FileState {
    /// Whether there is an output to carry on with, if only an empty one: of a run in which nothing
    /// succeeded.
    pub(crate) resumed: bool,
    /// How the output ends.
    pub(super) tail: Option<Tail>,
    /// Bytes of a torn record at its end.
    pub(crate) torn_bytes: u64,
    /// Lines that were no records, moved aside.
    pub(crate) rejected: u64,
    /// Whether it holds more than one success an id: failures, or an id again.
    pub(super) untidy: bool,
    /// The length of the errors file.
    pub(super) old_errors: u64,
}

/// How a results file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Whole,
    /// The last record is whole but for its newline.
    Unended,
    /// The last whole record ends here.
    Torn(u64),
}

impl Recovered {
    /// Looks into the files, and leaves them as they are, unless lines that are no records are to
    /// be moved out of the output.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the output must not be appended to or the errors file not be
    /// replaced, naming the line, [`ErrorKind::Io`] and [`ErrorKind::Cancelled`].
    pub(crate) fn read(
        places: &RunFiles,
        options: JournalOptions,
        cancel: &Cancel,
    ) -> Result<Self> {
        let mut state = FileState::default();
        let mut all = Records::default();
        if let Location::File(path) = &places.output
            && let Ok(metadata) = fs::metadata(path)
        {
            state.resumed = !options.overwrite;
            if options.overwrite {
                if options.simulated && holds_something(&metadata) {
                    check_trial(path, options, cancel)?;
                }
            } else if holds_something(&metadata) {
                let mut tail = all.read_results(path, options, cancel)?;
                if !all.faults.is_empty() {
                    state.rejected = all.move_faults(path, options)?;
                    // Everything behind them is at another place now.
                    all = Records::default();
                    tail = all.read_results(path, options, cancel)?;
                }
                state.torn_bytes = match tail {
                    Tail::Torn(end) => length(path)?.saturating_sub(end),
                    Tail::Whole | Tail::Unended => 0,
                };
                state.tail = Some(tail);
            }
        }
        let (successes, failures) = (all.done.len() as u64, all.failures);
        if let Location::File(path) = &places.errors
            && let Ok(metadata) = fs::metadata(path)
            && holds_something(&metadata)
        {
            all.read_errors(path, options, state.resumed, cancel)?;
            if state.resumed {
                state.old_errors = metadata.len();
            }
        }
        let index = ResumeIndex::new(all.done, all.failed, options.policy);
        state.untidy = failures > 0 || index.done() < successes;
        Ok(Self { index, state })
    }
}

/// A trial costs nothing, so what it empties must have cost nothing either.
fn check_trial(path: &Path, options: JournalOptions, cancel: &Cancel) -> Result<()> {
    let options = JournalOptions {
        repair: false,
        ..options
    };
    Records::default()
        .read_results(path, options, cancel)
        .map(|_tail| ())
}

/// How many rows a file answers: none, if it is not there or cannot be read.
pub(super) fn answers(path: &Path) -> u64 {
    let mut done = Vec::new();
    let look = |lines: Stretch<'_>| Records::of(RecordFile::Output, None, lines).done;
    let swept = sweep(path, look, |part| {
        done.extend(part);
        Ok(true)
    });
    swept.map_or(0, |()| IdTable::new(done).len() as u64)
}

fn length(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).map_err(|error| failed("read back", path, error))?;
    Ok(metadata.len())
}

fn holds_something(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.len() > 0
}

/// What the records of a file say, in its order.
#[derive(Default)]
struct Records {
    all: u64,
    /// Of these the failures.
    failures: u64,
    done: Vec<IdEntry<RequestTag>>,
    failed: Vec<IdEntry<FailedRow>>,
    faults: Vec<ForeignLine>,
    tail: Option<Unended>,
}

/// A line that is not to be there.
struct ForeignLine {
    number: u64,
    offset: u64,
    what: Foreign,
}

enum Foreign {
    /// It is no record.
    Other,
    /// A record, simulated or not, among those that must be the contrary.
    Mixed { simulated: bool },
}

/// A last line without its end.
struct Unended {
    number: u64,
    offset: u64,
    state: TailKind,
}

enum TailKind {
    Record,
    /// It may be what is left of one.
    Rest,
    Other,
}

impl Records {
    /// What one stretch of a file holds.
    fn of(file: RecordFile, simulated: Option<bool>, lines: Stretch<'_>) -> Self {
        let mut found = Self::default();
        for line in lines {
            let number = line.number;
            let text = line.text;
            let record = text.and_then(|text| ReadRecord::parse(text.trim_ascii()).ok());
            if !line.ended {
                let state = match (&record, text) {
                    (Some(_), _) => TailKind::Record,
                    (None, Some(text)) if may_begin_a_record(text) => TailKind::Rest,
                    (None, _) => TailKind::Other,
                };
                let offset = line.offset;
                found.tail = Some(Unended {
                    number,
                    offset,
                    state,
                });
            }
            match record {
                Some(record) if simulated.is_some_and(|now| now != record.simulated) => {
                    let simulated = record.simulated;
                    let what = Foreign::Mixed { simulated };
                    found.faults.push(ForeignLine {
                        number,
                        offset: line.offset,
                        what,
                    });
                }
                Some(record) => found.note(file, line.offset, &record),
                None if line.ended => {
                    found.faults.push(ForeignLine {
                        number,
                        offset: line.offset,
                        what: Foreign::Other,
                    });
                }
                None => {}
            }
        }
        found
    }

    fn note(&mut self, file: RecordFile, offset: u64, record: &ReadRecord) {
        self.all += 1;
        self.failures += u64::from(!record.done);
        let Some(id) = &record.custom_id else {
            return;
        };
        let id = LineHash::of(id.as_bytes());
        let request = RequestTag::of(record.hash);
        if !record.done {
            let failed = FailedRow {
                request,
                for_good: !record.passing,
                file,
                offset,
            };
            self.failed.push(IdEntry::new(id, failed));
        } else if file == RecordFile::Output {
            self.done.push(IdEntry::new(id, request));
        }
    }

    fn add(&mut self, next: Self) {
        self.all += next.all;
        self.failures += next.failures;
        self.done.extend(next.done);
        self.failed.extend(next.failed);
        self.faults.extend(next.faults);
        self.tail = next.tail;
    }

    /// Reads the output.
    fn read_results(
        &mut self,
        path: &Path,
        options: JournalOptions,
        cancel: &Cancel,
    ) -> Result<Tail> {
        let simulated = Some(options.simulated);
        let look = |lines: Stretch<'_>| Self::of(RecordFile::Output, simulated, lines);
        sweep(path, look, |part| {
            cancel.check()?;
            let stays =
                |fault: &&ForeignLine| !(options.repair && matches!(fault.what, Foreign::Other));
            if let Some(fault) = part.faults.iter().find(stays) {
                return Err(fault.refuse(path, options));
            }
            self.add(part);
            Ok(true)
        })?;
        match &self.tail {
            None => Ok(Tail::Whole),
            Some(last) => match last.state {
                TailKind::Record => Ok(Tail::Unended),
                // What no record precedes may be a file of another kind that has no newline.
                TailKind::Other if self.all == 0 || options.overwrite => {
                    let fault = ForeignLine {
                        number: last.number,
                        offset: last.offset,
                        what: Foreign::Other,
                    };
                    Err(fault.refuse(path, options))
                }
                TailKind::Rest | TailKind::Other => Ok(Tail::Torn(last.offset)),
            },
        }
    }

    /// Moves out of the output what is no record; how many lines. They are told by their numbers,
    /// which are soon those of others.
    fn move_faults(&self, path: &Path, options: JournalOptions) -> Result<u64> {
        if let (0, Some(fault)) = (self.all, self.faults.first()) {
            // A file of another kind altogether.
            return Err(fault.refuse(path, options));
        }
        let rejected = companion(path, REJECTED_SUFFIX);
        for fault in self.faults.iter().take(NAMED) {
            let number = fault.number;
            log::warn!("output {path:?}, line {number}: no record, so it goes to {rejected:?}");
        }
        let offsets: Vec<u64> = self.faults.iter().map(|fault| fault.offset).collect();
        move_aside(path, &offsets)?;
        Ok(offsets.len() as u64)
    }

    /// Reads the errors file. What is no record in it is no reason to refuse a run, since it is
    /// rewritten at its end, but a file that holds no record at all is not ours to rewrite.
    fn read_errors(
        &mut self,
        path: &Path,
        options: JournalOptions,
        resumed: bool,
        cancel: &Cancel,
    ) -> Result<()> {
        let (mut is_ours, mut is_other) = (false, false);
        // A fresh run replaces the failures of any other, but a trial only those of trials.
        let simulated = (resumed || options.simulated).then_some(options.simulated);
        let look = |lines: Stretch<'_>| Self::of(RecordFile::Errors, simulated, lines);
        sweep(path, look, |mut part| {
            cancel.check()?;
            // Answers, and those of a run that this one knows nothing of.
            if part.all > part.failures {
                return Err(other_errors(path));
            }
            let mixed = |fault: &&ForeignLine| matches!(fault.what, Foreign::Mixed { .. });
            if let Some(fault) = part.faults.iter().find(mixed) {
                return Err(mixed_errors(path, fault.number));
            }
            let last = part.tail.take().map(|last| last.state);
            is_ours |= part.all > 0 || matches!(last, Some(TailKind::Rest));
            is_other |= !part.faults.is_empty() || matches!(last, Some(TailKind::Other));
            if resumed {
                self.failed.append(&mut part.failed);
            }
            Ok(true)
        })?;
        if is_other && !is_ours {
            return Err(other_errors(path));
        }
        Ok(())
    }
}

/// Has `look` see a file on all cores, and gives what its parts hold to `take`, in order, for as
/// long as that answers `true`.
pub(super) fn sweep<T: Send>(
    path: &Path,
    look: impl Fn(Stretch<'_>) -> T + Sync,
    mut take: impl FnMut(T) -> Result<bool>,
) -> Result<()> {
    let unreadable = |error| failed("read back", path, error);
    let source = File::open(path).map_err(unreadable)?;
    let lines = Lines::of_anything(source, MAX_RECORD).map_err(unreadable)?;
    let cores = Cores::default();
    for part in Sweep::new(lines, &cores, look) {
        if !take(part.map_err(unreadable)?)? {
            break;
        }
    }
    Ok(())
}

/// Whether a torn line may be what is left of a record, ours or of a tool like us.
fn may_begin_a_record(line: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 2] = [b"{\"id\":\"", b"{\"custom_id\":"];
    line.iter().all(|byte| *byte == 0)
        || BEGINNINGS
            .iter()
            .any(|start| line.starts_with(start) || start.starts_with(line))
}

impl ForeignLine {
    #[cold]
    fn refuse(&self, path: &Path, options: JournalOptions) -> Error {
        let number = self.number;
        let (message, settings): (_, &[_]) = match self.what {
            _ if options.overwrite => (
                "not a simulated answer, and a simulated run writes over nothing else: name another \
                 output, or move this file away"
                    .to_owned(),
                &["output"],
            ),
            Foreign::Other => (
                format!(
                    "not a result record. If this is a results file all the same, repair it: such \
                     lines are moved to {:?}, and their rows are asked for again. Else name another \
                     output, or start anew",
                    companion(path, REJECTED_SUFFIX)
                ),
                &["repair", "output", "overwrite"],
            ),
            Foreign::Mixed { simulated: true } => (
                "a simulated answer, and paid ones are never mixed with those: name another output, \
                 or start anew"
                    .to_owned(),
                &["output", "overwrite"],
            ),
            Foreign::Mixed { simulated: false } => (
                "a paid answer, and simulated ones are never mixed with those: name another output"
                    .to_owned(),
                &["output"],
            ),
        };
        let message = format!("output {path:?}, line {number}: {message}");
        Error::new(ErrorKind::Config, message).with_settings(settings)
    }
}

#[cold]
fn mixed_errors(path: &Path, number: u64) -> Error {
    Error::new(
        ErrorKind::Config,
        format!(
            "errors file {path:?}, line {number}: simulated failures and paid ones are never mixed: \
             name another output or another errors file"
        ),
    )
    .with_settings(&["output", "errors"])
}

#[cold]
fn other_errors(path: &Path) -> Error {
    Error::new(
        ErrorKind::Config,
        format!(
            "errors file {path:?} exists and holds something else than failed rows: name another, \
             or move it away"
        ),
    )
    .with_settings(&["errors"])
}
