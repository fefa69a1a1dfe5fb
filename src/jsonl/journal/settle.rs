//! What the files are brought to at the end of a run: successes in the output, each row once and in
//! the order of the input if that is asked for, and in the errors file the rows that are failed now.
//!
//! A run only appends, and what it carries on with may come from elsewhere, so some of that is
//! written anew at its end. What takes memory is an index of the output's lines: 32 bytes each, and
//! for as long as there is one, the order of the input's rows, 24 bytes each.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use super::super::hash::LineHash;
use super::super::readback::ReadRecord;
use super::super::reader::Lines;
use super::super::sweep::Stretch;
use super::atomic_file::AtomicFile;
use super::recover::{MAX_RECORD, sweep};
use super::resume_index::{RecordFile, ResumeIndex};
use super::table::{IdEntry, IdTable};
use super::target::failed;
use crate::cancel::Cancel;
use crate::error::Result;

/// How much of the output is read at a time. Its lines are mostly near to where they belong; where
/// they are not, each costs a block, and with 1 MiB a shuffled file took twenty times as long.
const BLOCK: usize = 16 << 10;

/// Which records of failures say how things are, among those that were there before.
#[derive(Clone, Copy)]
pub(super) struct StillFailed<'p> {
    pub(super) index: &'p ResumeIndex,
    /// Whether all rows of the input have been met.
    pub(super) whole_input: bool,
}

impl StillFailed<'_> {
    fn holds(self, record: &ReadRecord, file: RecordFile, offset: u64) -> bool {
        // Without an id a row cannot be known again: its line is read by this run, too.
        record.custom_id.as_ref().is_some_and(|id| {
            let id = LineHash::of(id.as_bytes());
            self.index.stands(id, file, offset, self.whole_input)
        })
    }
}

/// Leaves in the errors file what this run has written behind its first `old` bytes, of the rest the
/// records that still stand, and before them those of the output that do, if it is given. Where
/// nothing is left there is no file.
pub(super) fn settle_errors(
    path: &Path,
    old: u64,
    output: Option<&Path>,
    still: StillFailed<'_>,
) -> Result<()> {
    let unwritable = |error| failed("rewrite the errors file", path, error);
    let mut fresh = AtomicFile::begin(path).map_err(unwritable)?;
    let mut kept = false;
    if let Some(output) = output {
        kept |= copy_failures(output, RecordFile::Output, u64::MAX, still, &mut fresh)
            .map_err(|error| failed("read back", output, error))?;
    }
    kept |= copy_failures(path, RecordFile::Errors, old, still, &mut fresh).map_err(unwritable)?;
    if kept {
        return fresh.put().map_err(unwritable);
    }
    drop(fresh);
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(error)),
        _ => Ok(()),
    }
}

/// Whether there were any.
fn copy_failures(
    path: &Path,
    file: RecordFile,
    old: u64,
    still: StillFailed<'_>,
    to: &mut AtomicFile,
) -> io::Result<bool> {
    let source = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        source => source?,
    };
    let mut lines = Lines::of_anything(source, MAX_RECORD)?;
    let mut kept = false;
    while let Some(line) = lines.next()? {
        let Some(text) = line.text else {
            continue;
        };
        let stands = |record: ReadRecord| !record.done && still.holds(&record, file, line.offset);
        // An old record that lacks nothing but its newline has counted as one.
        let is_left = if line.offset >= old {
            line.ended
        } else {
            ReadRecord::parse(text.trim_ascii()).is_ok_and(stands)
        };
        if is_left {
            to.write_all(text)?;
            to.write_all(b"\n")?;
            kept = true;
        }
    }
    Ok(kept)
}

/// Leaves in the output the last success of each row, in `order` if there is one: rows by their
/// place in the input, and what is none of them behind. Failures that still stand are left, too, if
/// they are to stay.
///
/// # Errors
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), with the file as it was, and
/// [`ErrorKind::Io`](crate::ErrorKind::Io).
pub(super) fn settle_output(
    path: &Path,
    order: Option<&IdTable<u64>>,
    staying: Option<StillFailed<'_>>,
    cancel: &Cancel,
) -> Result<()> {
    let mut lines = Vec::new();
    let mut settled = true;
    let look = |stretch: Stretch<'_>| lines_left(stretch, staying);
    sweep(path, look, |(left, all_of_them)| {
        cancel.check()?;
        lines.extend(left);
        settled &= all_of_them;
        Ok(true)
    })?;
    let all = lines.len();
    let lines = IdTable::new(lines);
    settled &= lines.len() == all;
    let place = |line: &IdEntry<LineSpan>| match order {
        Some(order) => order.value_of(line).unwrap_or(u64::MAX),
        None => 0,
    };
    let mut lines: Vec<(u64, LineSpan)> = lines
        .into_entries()
        .map(|entry| (place(&entry), entry.value))
        .collect();
    lines.sort_unstable();
    if settled && lines.is_sorted_by_key(|(_, line)| line.offset) {
        return Ok(());
    }
    let unwritable = |error| failed("rewrite", path, error);
    let wanted = lines.iter().take_while(|_| !cancel.is_cancelled());
    let fresh = copy_lines(path, wanted.map(|(_, line)| *line)).map_err(unwritable)?;
    cancel.check()?;
    fresh.put().map_err(unwritable)
}

/// A line of the output, by where it starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LineSpan {
    offset: u64,
    /// Without its end.
    length: u64,
}

/// The lines that may be left of some, and whether those are all.
fn lines_left(
    stretch: Stretch<'_>,
    staying: Option<StillFailed<'_>>,
) -> (Vec<IdEntry<LineSpan>>, bool) {
    let (mut left, mut all_of_them) = (Vec::new(), true);
    for line in stretch {
        let Some(text) = line.text else {
            all_of_them = false;
            continue;
        };
        let record = ReadRecord::parse(text.trim_ascii()).ok();
        let stays = record.as_ref().is_none_or(|record| {
            let holds =
                |still: StillFailed<'_>| still.holds(record, RecordFile::Output, line.offset);
            record.done || staying.is_some_and(holds)
        });
        if !stays {
            all_of_them = false;
            continue;
        }
        // What has no id is known by all that it says.
        let id = record.and_then(|record| record.custom_id);
        let id = LineHash::of(id.as_ref().map_or(text, |id| id.as_bytes()));
        let place = LineSpan {
            offset: line.offset,
            length: text.len() as u64,
        };
        left.push(IdEntry::new(id, place));
    }
    (left, all_of_them)
}

fn copy_lines(path: &Path, lines: impl Iterator<Item = LineSpan>) -> io::Result<AtomicFile> {
    let mut source = BufReader::with_capacity(BLOCK, File::open(path)?);
    let mut fresh = AtomicFile::begin(path)?;
    let mut at = 0_u64;
    for line in lines {
        // Keeps what is in the buffer, unlike a seek.
        source.seek_relative(line.offset.wrapping_sub(at).cast_signed())?;
        io::copy(&mut source.by_ref().take(line.length), &mut fresh)?;
        fresh.write_all(b"\n")?;
        at = line.offset + line.length;
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use tempfile::TempDir;

    #[test]
    fn a_cancel_leaves_the_file_as_it_was_and_nothing_beside_it() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("o");
        let record = |id| {
            format!(
                "{{\"custom_id\":\"{id}\",\"response\":{{\"status_code\":200}},\"error\":null}}\n"
            )
        };
        let (a, b) = (record("a"), record("b"));
        fs::write(&path, b.clone() + &a).unwrap();
        let place = |id: &str, place| IdEntry::new(LineHash::of(id.as_bytes()), place);
        let order = IdTable::new(vec![place("a", 1), place("b", 2)]);
        let cancel = Cancel::new();
        cancel.cancel();
        let error = settle_output(&path, Some(&order), None, &cancel).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(fs::read_to_string(&path).unwrap(), b.clone() + &a);
        settle_output(&path, Some(&order), None, &Cancel::new()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), a + &b);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
