//! Reading what earlier runs left, before anything is changed.
//!
//! The files may be ours or a provider's own, with failures among the results, ids more than once,
//! and a last line that a kill has torn. What is kept of a record is its entry in a
//! [`ResumeIndex`].

use std::fs::{self, File, Metadata};
use std::path::Path;

use super::super::files::{Location, RunFiles};
use super::super::hash::LineHash;
use super::super::ids::IdTable;
use super::super::io::failed;
use super::super::lines::{Line, Lines};
use super::super::parallel::{LineFold, fold};
use super::super::readback::ReadRecord;
use super::super::sidecars::{REJECTED_SUFFIX, sidecar};
use super::JournalOptions;
use super::repair::move_aside;
use super::resume_index::{FailedRow, RequestTag, ResumeIndex};
use crate::cancel::Cancel;
use crate::error::{Error, Result, config};

/// The longest record, in bytes: an answer and an id of 64 MiB each, and what surrounds them. A
/// longer line is no record of ours.
const MAX_RECORD: usize = 130 << 20;

/// How many lines that are moved aside are named.
const NAMED: usize = 20;

/// What earlier runs left in the files of a run.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) index: ResumeIndex,
    pub(crate) state: FileState,
}

/// What the files themselves are like.
#[derive(Debug, Default)]
pub(crate) struct FileState {
    /// There is an output to carry on with. It is empty if nothing succeeded.
    pub(super) resumed: bool,
    /// Records in the output: more than it answers rows if there are failures or repeated ids.
    pub(super) records: u64,
    pub(super) output: Tail,
    /// `None` where there is no errors file to carry on with.
    pub(super) errors: Option<Tail>,
    /// Bytes of a torn record at the end of the output.
    pub(crate) torn_bytes: u64,
    /// Lines of the output that were no records, moved aside.
    pub(crate) rejected: u64,
}

/// How a file of records ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tail {
    #[default]
    Whole,
    /// The last record is whole but for its newline.
    Unended,
    /// The last whole record ends here.
    Torn(u64),
}

/// Reads the files, and changes nothing, unless lines that are no records are to be moved out of
/// the output.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) where the output must not be appended to or the errors file not be
/// replaced, naming the line; [`ErrorKind::Io`](crate::ErrorKind::Io) and
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
pub(crate) fn recover(
    files: &RunFiles,
    options: JournalOptions,
    cancel: &Cancel,
) -> Result<Recovered> {
    let mut state = FileState::default();
    let mut output = Records::default();
    if let Location::File(path) = &files.output
        && let Ok(metadata) = fs::metadata(path)
    {
        state.resumed = !options.overwrite;
        let has_content = has_content(&metadata);
        if has_content && state.resumed {
            output = read_output(path, options, cancel)?;
            if !output.foreign.is_empty() {
                state.rejected = output.move_foreign(path)?;
                output = read_output(path, options, cancel)?;
            }
            state.output = output.tail();
            state.records = output.count;
            if let Tail::Torn(end) = state.output {
                let metadata = fs::metadata(path).map_err(|error| unreadable(path, error))?;
                state.torn_bytes = metadata.len().saturating_sub(end);
            }
        } else if has_content && options.simulated {
            // A trial costs nothing, so it must only overwrite what cost nothing.
            read_output(path, options, cancel)?;
        }
    }
    let mut failures = output.failed;
    if let Location::File(path) = &files.errors
        && let Ok(metadata) = fs::metadata(path)
        && has_content(&metadata)
    {
        let errors = read_errors(path, options, state.resumed, cancel)?;
        if state.resumed {
            state.errors = Some(errors.tail());
            failures.extend(errors.failed);
        }
    }
    let index = ResumeIndex::new(output.done, failures, options.policy);
    Ok(Recovered { index, state })
}

/// How many rows a file answers: none if it is not there or cannot be read.
pub(super) fn answers(path: &Path) -> u64 {
    let records = read(path, None, &Cancel::new(), |_| Ok(()));
    records.map_or(0, |records| IdTable::new(records.done).len() as u64)
}

/// Shows the lines of a file of records to `to`, on all cores.
pub(super) fn fold_file(path: &Path, to: &mut impl LineFold, cancel: &Cancel) -> Result<()> {
    let unreadable = |error| unreadable(path, error);
    let source = File::open(path).map_err(unreadable)?;
    let mut lines = Lines::of_anything(source, MAX_RECORD);
    fold(&mut lines, to, cancel, unreadable)
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    failed("read back", path, error)
}

fn has_content(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.len() > 0
}

/// What some lines of a file say, in its order.
#[derive(Default)]
struct Records {
    count: u64,
    /// How many of them are failures.
    failures: u64,
    done: Vec<(LineHash, RequestTag)>,
    failed: Vec<(LineHash, FailedRow)>,
    foreign: Vec<OddLine>,
    /// The last line, if it has no newline.
    unended: Option<OddLine>,
}

/// A line that does not belong into the file, or is the last one without a newline.
#[derive(Clone, Copy)]
struct OddLine {
    number: u64,
    offset: u64,
    /// Whether it is a simulated record; `None` if it is no record.
    simulated: Option<bool>,
    /// It may be what is left of a record.
    may_be_torn: bool,
}

impl Records {
    fn tail(&self) -> Tail {
        match &self.unended {
            None => Tail::Whole,
            Some(last) if last.simulated.is_some() => Tail::Unended,
            Some(last) => Tail::Torn(last.offset),
        }
    }

    /// Moves lines that are no records out of the output; returns how many. Their numbers, by which
    /// they are named, are soon those of other lines.
    fn move_foreign(&self, path: &Path) -> Result<u64> {
        let rejected = sidecar(path, REJECTED_SUFFIX);
        for line in self.foreign.iter().take(NAMED) {
            let number = line.number;
            log::warn!("output {path:?}, line {number}: no record, so it goes to {rejected:?}");
        }
        let offsets: Vec<u64> = self.foreign.iter().map(|line| line.offset).collect();
        move_aside(path, &offsets)?;
        Ok(offsets.len() as u64)
    }
}

/// Reads the records of one file.
struct ReadRecords<C> {
    records: Records,
    /// What records must be, simulated or paid, if that matters.
    simulated: Option<bool>,
    /// Refuses a file as soon as that can be told.
    check: C,
}

impl<C: Fn(&Records) -> Result<()> + Sync> LineFold for ReadRecords<C> {
    type Part = Records;

    fn add_line(&self, part: &mut Records, line: Line<'_>) {
        let text = line.text.map(<[u8]>::trim_ascii);
        let record = text.and_then(ReadRecord::parse);
        let odd = OddLine {
            number: line.number,
            offset: line.offset,
            simulated: record.as_ref().map(|record| record.simulated),
            may_be_torn: !line.ended && line.text.is_some_and(may_begin_a_record),
        };
        if !line.ended {
            part.unended = Some(odd);
        }
        let is_wanted =
            |record: &ReadRecord| self.simulated.is_none_or(|now| now == record.simulated);
        let Some(record) = record.filter(is_wanted) else {
            if line.ended || odd.simulated.is_some() {
                part.foreign.push(odd);
            }
            return;
        };
        part.count += 1;
        part.failures += u64::from(!record.done);
        if let Some(id) = &record.custom_id {
            let id = LineHash::of(id.as_bytes());
            let request = RequestTag::of(record.hash);
            if record.done {
                part.done.push((id, request));
            } else {
                let failed = FailedRow::new(request, !record.transient);
                part.failed.push((id, failed));
            }
        }
    }

    fn add_part(&mut self, later: Records) -> Result<()> {
        let all = &mut self.records;
        all.count += later.count;
        all.failures += later.failures;
        all.done.extend(later.done);
        all.failed.extend(later.failed);
        all.foreign.extend(later.foreign);
        all.unended = later.unended;
        (self.check)(all)
    }
}

fn read(
    path: &Path,
    simulated: Option<bool>,
    cancel: &Cancel,
    check: impl Fn(&Records) -> Result<()> + Sync,
) -> Result<Records> {
    let mut reading = ReadRecords {
        records: Records::default(),
        simulated,
        check,
    };
    fold_file(path, &mut reading, cancel)?;
    Ok(reading.records)
}

fn read_output(path: &Path, options: JournalOptions, cancel: &Cancel) -> Result<Records> {
    let repair = options.repair && !options.overwrite;
    let records = read(path, Some(options.simulated), cancel, |records| {
        let mut foreign = records.foreign.iter();
        match foreign.find(|line| !repair || line.simulated.is_some()) {
            Some(line) => Err(line.refuse(path, options)),
            None => Ok(()),
        }
    })?;
    let torn = records.unended.filter(|last| last.simulated.is_none());
    let other = torn.filter(|last| !last.may_be_torn);
    // A file without a single record is of another kind altogether; it may have no newline.
    let refused = match records.count {
        0 => records.foreign.first().copied().or(other),
        _ => other.filter(|_| options.overwrite),
    };
    refused.map_or(Ok(records), |line| Err(line.refuse(path, options)))
}

/// Lines that are no records are no reason to refuse a run, since the file is rewritten at its end.
/// A file that holds no record at all is not ours to rewrite.
fn read_errors(
    path: &Path,
    options: JournalOptions,
    resumed: bool,
    cancel: &Cancel,
) -> Result<Records> {
    // A fresh run replaces the failures of any run, but a trial only those of trials.
    let simulated = (resumed || options.simulated).then_some(options.simulated);
    let records = read(path, simulated, cancel, |records| {
        // It holds answers, and of a run that this one knows nothing of.
        if records.count > records.failures {
            return Err(other_errors(path));
        }
        let mut foreign = records.foreign.iter();
        match foreign.find(|line| line.simulated.is_some()) {
            Some(line) => Err(mixed_errors(path, line.number)),
            None => Ok(()),
        }
    })?;
    let torn = records.unended.filter(|last| last.simulated.is_none());
    let is_ours = records.count > 0 || torn.is_some_and(|last| last.may_be_torn);
    if is_ours || (records.foreign.is_empty() && torn.is_none()) {
        Ok(records)
    } else {
        Err(other_errors(path))
    }
}

/// Whether a torn line may be what is left of a record, ours or of a tool like us.
fn may_begin_a_record(line: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 2] = [b"{\"id\":\"", b"{\"custom_id\":"];
    line.iter().all(|byte| *byte == 0)
        || BEGINNINGS
            .iter()
            .any(|start| line.starts_with(start) || start.starts_with(line))
}

impl OddLine {
    #[cold]
    fn refuse(&self, path: &Path, options: JournalOptions) -> Error {
        let (why, settings): (_, &[_]) = match self.simulated {
            _ if options.overwrite => (
                "not a simulated answer, and a simulated run overwrites nothing else: name another \
                 output, or move this file away"
                    .to_owned(),
                &["output"],
            ),
            None => (
                format!(
                    "not a result record. If this is a results file all the same, repair it: such \
                     lines are moved to {:?}, and their rows are asked for again. Else name another \
                     output, or start anew",
                    sidecar(path, REJECTED_SUFFIX)
                ),
                &["repair", "output", "overwrite"],
            ),
            Some(true) => (
                "a simulated answer, and paid ones are never mixed with those: name another output, \
                 or start anew"
                    .to_owned(),
                &["output", "overwrite"],
            ),
            Some(false) => (
                "a paid answer, and simulated ones are never mixed with those: name another output"
                    .to_owned(),
                &["output"],
            ),
        };
        let message = format!("output {path:?}, line {}: {why}", self.number);
        config(message).with_settings(settings)
    }
}

#[cold]
fn mixed_errors(path: &Path, number: u64) -> Error {
    config(format!(
        "errors file {path:?}, line {number}: simulated failures and paid ones are never mixed: name \
         another output or another errors file"
    ))
    .with_settings(&["output", "errors"])
}

#[cold]
fn other_errors(path: &Path) -> Error {
    config(format!(
        "errors file {path:?} exists and holds something else than failed rows: name another, or \
         move it away"
    ))
    .with_settings(&["errors"])
}
