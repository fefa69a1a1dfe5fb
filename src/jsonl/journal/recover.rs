//! Reading what earlier runs left, on all cores, before anything is changed.
//!
//! A file may be ours or a provider's own, with failures among the results, ids more than once, and
//! a last line that a kill has torn. Lines that are no records are kept in a file beside the
//! output, since somebody may know what they were.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::super::files::{Location, RunFiles};
use super::super::hash::LineHash;
use super::super::io::{LineSource, failed, sync_folder};
use super::super::lines::{Line, Lines};
use super::super::parallel::fold;
use super::super::readback::ReadRecord;
use super::super::sidecars::{REJECTED_SUFFIX, sidecar};
use super::JournalOptions;
use super::record_file::Tail;
use super::resume_index::{KnownRow, ResumeIndex};
use crate::api::classify::RecordState;
use crate::cancel::Cancel;
use crate::error::{Error, Result, config};

/// The largest answer that the tool can be told to accept, in bytes: 1 GiB.
pub(crate) const MAX_BODY: usize = 1 << 30;

/// The longest record, in bytes: such an answer, an id of 64 MiB, and what surrounds them. A longer
/// line is no record of ours.
const MAX_RECORD: usize = MAX_BODY + (66 << 20);

/// How many lines that are moved aside are named.
const NAMED: usize = 20;

/// What the files themselves are like.
#[derive(Default)]
pub(crate) struct FileState {
    /// Records in the output: more than it answers rows if there are failures or repeated ids.
    pub(super) records: u64,
    /// Lines of the output that are no records, and are to be moved out of it.
    pub(super) foreign: Vec<OddLine>,
    pub(super) output: Tail,
    /// `None` where there is no errors file to carry on with.
    pub(super) errors: Option<Tail>,
    /// Bytes of a torn record at the end of the output.
    pub(crate) torn_bytes: u64,
}

impl FileState {
    /// Lines of the output that are no records, and are moved aside.
    pub(crate) fn rejected(&self) -> u64 {
        self.foreign.len() as u64
    }
}

/// Reads the files, and changes nothing.
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
    let mut rows = Vec::new();
    if let Some(path) = regular(&files.output) {
        if resumed {
            let output = read_output(path, options, cancel)?;
            state.output = output.tail();
            state.records = output.count;
            if let Tail::Torn(end) = state.output {
                let length = fs::metadata(path).map_or(end, |there| there.len());
                state.torn_bytes = length.saturating_sub(end);
            }
            state.foreign = output.foreign;
            rows = output.rows;
        } else {
            if options.simulated {
                // A trial costs nothing, so it must only overwrite what cost nothing.
                read_output(path, options, cancel)?;
            }
            state.output = Tail::Torn(0);
        }
    }
    if let Some(path) = regular(&files.errors) {
        let errors = read_errors(path, options, resumed, cancel)?;
        if resumed {
            state.errors = Some(errors.tail());
            rows.extend(errors.rows.into_iter().filter(|(_, row)| row.has_failed()));
        }
    }
    Ok((ResumeIndex::new(rows, options), state))
}

/// How many rows a file answers: none if it is not there or cannot be read.
pub(super) fn answers(path: &Path) -> u64 {
    let records = Records::read(path, None, &Cancel::new(), |_| Ok(()));
    records.map_or(0, |records| {
        ResumeIndex::new(records.rows, JournalOptions::default()).done()
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

/// What the lines of a file say, in its order.
#[derive(Default)]
struct Records {
    count: u64,
    /// How many of them are not surely answers.
    failures: u64,
    rows: Vec<(LineHash, KnownRow)>,
    /// Lines that do not belong into the file.
    foreign: Vec<OddLine>,
    /// The last line, if it has no newline.
    unended: Option<OddLine>,
}

/// A line that needs a second look.
#[derive(Clone, Copy)]
pub(super) struct OddLine {
    number: u64,
    offset: u64,
    /// Whether it is a simulated record; `None` if it is no record.
    simulated: Option<bool>,
    ended: bool,
    /// It has no newline, and may be what is left of a record.
    may_be_torn: bool,
}

impl Records {
    /// Reads a file. `simulated` says whether its records must be simulated or must not be; `None`
    /// takes both. `check_foreign` refuses or accepts a line that does not belong into the file.
    fn read(
        path: &Path,
        simulated: Option<bool>,
        cancel: &Cancel,
        check_foreign: impl Fn(&OddLine) -> Result<()>,
    ) -> Result<Self> {
        let mut all = Self::default();
        fold_file(path, cancel, OddLine::read, |(odd, record)| {
            all.unended = Some(odd).filter(|last| !last.ended);
            let fits = |record: &ReadRecord| simulated.is_none_or(|now| now == record.simulated);
            match record.filter(fits) {
                Some(record) => all.add(&record),
                // What is left of a record is no line yet.
                None if !odd.ended && odd.simulated.is_none() => {}
                None => {
                    all.foreign.push(odd);
                    check_foreign(&odd)?;
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    fn add(&mut self, record: &ReadRecord) {
        self.count += 1;
        self.failures += u64::from(record.state != RecordState::Done);
        self.rows
            .extend(record.id.map(|id| (id, KnownRow::new(record))));
    }

    /// A last line that is no record.
    fn torn(&self) -> Option<OddLine> {
        self.unended.filter(|last| last.simulated.is_none())
    }

    fn tail(&self) -> Tail {
        match (self.torn(), self.unended) {
            (Some(torn), _) => Tail::Torn(torn.offset),
            (None, Some(_)) => Tail::Unended,
            (None, None) => Tail::Whole,
        }
    }
}

impl OddLine {
    fn read(line: Line<&[u8]>) -> (Self, Option<ReadRecord>) {
        let record = line.text.and_then(ReadRecord::parse);
        let odd = Self {
            number: line.number,
            offset: line.offset,
            simulated: record.as_ref().map(|record| record.simulated),
            ended: line.ended,
            may_be_torn: !line.ended && line.text.is_some_and(may_begin_a_record),
        };
        (odd, record)
    }
}

/// As [`fold`], over the lines of a file of records.
pub(crate) fn fold_file<F: Send>(
    path: &Path,
    cancel: &Cancel,
    read: impl Fn(Line<&[u8]>) -> F + Sync,
    add: impl FnMut(F) -> Result<()>,
) -> Result<()> {
    let unreadable = |error| failed("read back", path, error);
    let source = File::open(path).map_err(unreadable)?;
    let mut lines = Lines::of_anything(source, MAX_RECORD);
    fold(&mut lines, cancel, unreadable, read, add)
}

/// Whether a torn line may be what is left of a record, ours or of a tool like us.
fn may_begin_a_record(line: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 2] = [b"{\"id\":\"", b"{\"custom_id\":"];
    let begins = |start: &&[u8]| line.starts_with(start) || start.starts_with(line);
    BEGINNINGS.iter().any(begins) || line.iter().all(|byte| *byte == 0)
}

/// Appends lines to the file's `.rejected`. Their numbers, by which they are named, are soon those
/// of other lines. They are on disk there before the output is rewritten without them, so a kill in
/// between leaves them in both files, never in neither.
pub(super) fn copy_aside(path: &Path, lines: &[OddLine]) -> Result<()> {
    let rejected = sidecar(path, REJECTED_SUFFIX);
    for line in lines.iter().take(NAMED) {
        let number = line.number;
        log::warn!("output {path:?}, line {number}: not a record, moved to {rejected:?}");
    }
    let offsets = lines.iter().map(|line| line.offset);
    copy(path, offsets, &rejected).map_err(|error| failed("write to", &rejected, error))
}

fn copy(path: &Path, offsets: impl Iterator<Item = u64>, rejected: &Path) -> io::Result<()> {
    let mut source = LineSource::open(path)?;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(rejected)?;
    let is_new = file.metadata()?.len() == 0;
    let mut target = BufWriter::new(file);
    if !is_new {
        // A repair that was killed may have torn the last line.
        target.write_all(b"\n")?;
    }
    for offset in offsets {
        let end = source.line_end(offset)?;
        source.copy(offset, end, &mut target)?;
    }
    target.flush()?;
    target.get_ref().sync_all()?;
    sync_folder(rejected);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    #[test]
    fn lines_go_aside_whole_and_in_order() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("o.jsonl");
        let rejected = folder.path().join("o.jsonl.rejected");
        let long = "x".repeat(100_000);
        fs::write(&path, format!("bad 1\ngood 1\n{long}\nbad 3\r\ngood 2\n")).unwrap();
        // Of a repair that was killed.
        fs::write(&rejected, "old\nto").unwrap();
        copy(&path, [0, 13, 100_014].into_iter(), &rejected).unwrap();
        assert_eq!(
            fs::read_to_string(&rejected).unwrap(),
            format!("old\nto\nbad 1\n{long}\nbad 3\r\n")
        );
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 2);
    }
}
