//! Reading what earlier runs left, before anything is changed.

use std::fs;
use std::path::Path;

use super::super::files::{Location, RunFiles};
use super::super::ids::IdTable;
use super::super::sidecars::{REJECTED_SUFFIX, sidecar};
use super::JournalOptions;
use super::record_file::Tail;
use super::records::{OddLine, Records};
use super::repair::move_aside;
use super::resume_index::ResumeIndex;
use crate::cancel::Cancel;
use crate::error::{Error, Result, config};

/// How many lines that are moved aside are named.
const NAMED: usize = 20;

/// What the files themselves are like.
#[derive(Debug, Default)]
pub(crate) struct FileState {
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

/// Reads the files, and changes nothing, unless lines that are no records are to be moved out of
/// the output.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) where the output must not be appended to or the
/// errors file not be replaced, naming the line; [`ErrorKind::Io`](crate::ErrorKind::Io) and
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
pub(crate) fn recover(
    files: &RunFiles,
    options: JournalOptions,
    cancel: &Cancel,
) -> Result<(ResumeIndex, FileState)> {
    // An output without a record is one to carry on with, too: nothing succeeded.
    let resumed = !options.overwrite && files.output.path().is_some_and(Path::exists);
    let mut state = FileState::default();
    let mut output = Records::default();
    if let Some(path) = regular(&files.output) {
        if resumed {
            output = read_output(path, options, cancel)?;
            if !output.foreign.is_empty() {
                state.rejected = move_foreign(&output.foreign, path)?;
                output = read_output(path, options, cancel)?;
            }
            state.output = output.tail();
            state.records = output.count;
            if let Tail::Torn(end) = state.output {
                let length = fs::metadata(path).map_or(end, |there| there.len());
                state.torn_bytes = length.saturating_sub(end);
            }
        } else {
            if options.simulated {
                // A trial costs nothing, so it must only overwrite what cost nothing.
                read_output(path, options, cancel)?;
            }
            state.output = Tail::Torn(0);
        }
    }
    let mut failures = output.failed;
    if let Some(path) = regular(&files.errors) {
        let errors = read_errors(path, options, resumed, cancel)?;
        if resumed {
            state.errors = Some(errors.tail());
            failures.extend(errors.failed);
        }
    }
    let index = ResumeIndex::new(output.done, output.unsure, failures, options.policy);
    Ok((index, state))
}

/// How many rows a file answers: none if it is not there or cannot be read.
pub(super) fn answers(path: &Path) -> u64 {
    let records = Records::read(path, None, &Cancel::new(), |_| Ok(()));
    records.map_or(0, |records| {
        IdTable::new([records.done, records.unsure].concat()).len() as u64
    })
}

/// The path of a regular file that is there.
fn regular(location: &Location) -> Option<&Path> {
    location.path().filter(|path| path.is_file())
}

fn read_output(path: &Path, options: JournalOptions, cancel: &Cancel) -> Result<Records> {
    let repair = options.repair && !options.overwrite;
    let records = Records::read(path, Some(options.simulated), cancel, |line| {
        if repair && line.simulated.is_none() {
            return Ok(());
        }
        Err(refused(line, path, options))
    })?;
    let other = records.torn().filter(|last| !last.may_be_torn);
    // A file without a single record is of another kind altogether; it may have no newline.
    let wrong = match records.count {
        0 => records.foreign.first().copied().or(other),
        _ => other.filter(|_| options.overwrite),
    };
    wrong.map_or(Ok(records), |line| Err(refused(&line, path, options)))
}

/// Moves lines that are no records out of the output; returns how many. Their numbers, by which
/// they are named, are soon those of other lines.
fn move_foreign(lines: &[OddLine], path: &Path) -> Result<u64> {
    let rejected = sidecar(path, REJECTED_SUFFIX);
    for line in lines.iter().take(NAMED) {
        let number = line.number;
        log::warn!("output {path:?}, line {number}: not a record, moved to {rejected:?}");
    }
    let offsets: Vec<u64> = lines.iter().map(|line| line.offset).collect();
    move_aside(path, &offsets)?;
    Ok(offsets.len() as u64)
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
    let records = Records::read(path, simulated, cancel, |line| {
        if line.simulated.is_none() {
            return Ok(());
        }
        let message = format!(
            "errors file {path:?}, line {}: simulated failures and paid ones are never mixed: name \
             another output or another errors file",
            line.number
        );
        Err(config(message).with_settings(&["output", "errors"]))
    })?;
    let may_be_torn = records.torn().map(|last| last.may_be_torn);
    let is_other = may_be_torn == Some(false) || !records.foreign.is_empty();
    let has_none = is_other && records.count == 0 && may_be_torn != Some(true);
    // Answers in it are those of a run that this one knows nothing of.
    if has_none || records.count > records.failures {
        let message = format!(
            "errors file {path:?} exists and holds something else than failed rows: name another, or \
             move it away"
        );
        return Err(config(message).with_settings(&["errors"]));
    }
    Ok(records)
}

fn refused(line: &OddLine, path: &Path, options: JournalOptions) -> Error {
    let (why, settings): (_, &[_]) = match line.simulated {
        _ if options.overwrite => (
            "not a simulated answer, and a simulated run overwrites nothing else: name another \
             output, or move this file away",
            &["output"],
        ),
        None => (
            "not a result record. If this is a results file all the same, repair it: such lines are \
             moved to a file beside it whose name ends in .rejected, and their requests are sent \
             again. Else name another output, or start anew",
            &["repair", "output", "overwrite"],
        ),
        Some(true) => (
            "a simulated answer, and paid ones are never mixed with those: name another output, or \
             start anew",
            &["output", "overwrite"],
        ),
        Some(false) => (
            "a paid answer, and simulated ones are never mixed with those: name another output",
            &["output"],
        ),
    };
    let message = format!("output {path:?}, line {}: {why}", line.number);
    config(message).with_settings(settings)
}
