//! What the files are brought to at the end of a run: in the output each success once, in the order
//! of the input if that is asked for, and in the errors file the rows that are failed now.
//!
//! A run only appends, and what it carries on with may come from elsewhere, so a file may have to
//! be replaced at the end. That takes an index of the lines that stay: 32 bytes for each.

use std::io::{self, Write};
use std::path::Path;

use super::super::hash::LineHash;
use super::super::ids::keep_best;
use super::super::io::{AtomicFile, LineSource, failed};
use super::super::lines::Line;
use super::super::readback::ReadRecord;
use super::recover::fold_file;
use crate::cancel::Cancel;
use crate::error::Result;

/// A file, and which of its lines stay. `stays` is told the record, if the line is one, and where
/// the line starts.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) stays: &'a (dyn Fn(Option<&ReadRecord>, u64) -> bool + Sync),
}

/// How a record of ours ends, and how it ends with the mark.
const END: &str = "}}";
const MARKED_END: &str = ",\"again\":true}}";

/// Leaves in `path` the lines of `sources` that stay; of several with one id, the last. They are
/// sorted by the rank of their ids, and lines of one rank stay in their order. Returns how many
/// lines there are. A file that holds just these lines already is not touched. The records of rows
/// for which `is_again` holds get a mark: they are tried again, after all others.
///
/// # Errors
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), with the file as it was, and
/// [`ErrorKind::Io`](crate::ErrorKind::Io).
pub(super) fn compact(
    path: &Path,
    sources: &[Source<'_>],
    rank: impl Fn(LineHash) -> u64,
    is_again: impl Fn(LineHash) -> bool + Sync,
    cancel: &Cancel,
) -> Result<usize> {
    let mut lines = Vec::new();
    let mut changes = false;
    for (number, source) in (0..).zip(sources) {
        let (before, mut left_out) = (lines.len(), false);
        let read = |line: Line<&[u8]>| StayingLine::read(number, source, &is_again, line);
        fold_file(source.path, cancel, read, |staying| {
            left_out |= staying.is_none();
            lines.extend(staying);
            Ok(())
        })?;
        changes |= if source.path == path {
            left_out
        } else {
            lines.len() > before
        };
    }
    let all = lines.len();
    keep_best(&mut lines, |_| 0);
    let ranked = lines.into_iter().map(|(id, line)| (rank(id), line));
    let mut lines: Vec<_> = ranked.collect();
    lines.sort_unstable();
    let in_place = lines.is_sorted_by_key(|(_, line)| (line.source, line.offset));
    let marks = lines.iter().any(|(_, line)| line.marked);
    changes |= lines.len() < all || !in_place || marks;
    if changes {
        let rewritten = rewrite(path, sources, lines.iter().map(|(_, line)| line), cancel);
        let fresh = rewritten.map_err(|error| failed("rewrite", path, error))?;
        cancel.check()?;
        fresh
            .commit()
            .map_err(|error| failed("rewrite", path, error))?;
    }
    Ok(lines.len())
}

fn rewrite<'l>(
    path: &Path,
    sources: &[Source<'_>],
    lines: impl Iterator<Item = &'l StayingLine>,
    cancel: &Cancel,
) -> io::Result<AtomicFile> {
    let opened = sources.iter().map(|source| LineSource::open(source.path));
    let mut sources: Vec<LineSource> = opened.collect::<io::Result<_>>()?;
    let mut fresh = AtomicFile::create(path)?;
    for line in lines.take_while(|_| !cancel.is_cancelled()) {
        let mut end = line.offset + u64::from(line.length);
        if line.marked {
            end -= END.len() as u64;
        }
        sources[usize::from(line.source)].copy(line.offset, end, &mut fresh.file)?;
        if line.marked {
            fresh.file.write_all(MARKED_END.as_bytes())?;
        }
        fresh.file.write_all(b"\n")?;
    }
    Ok(fresh)
}

/// A line by its place, in the order of the sources and their lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StayingLine {
    /// The number of its source.
    source: u16,
    offset: u64,
    /// In bytes, without the newline.
    length: u32,
    marked: bool,
}

impl StayingLine {
    /// The line and its id, if it stays.
    fn read(
        number: u16,
        source: &Source<'_>,
        is_again: impl Fn(LineHash) -> bool,
        line: Line<&[u8]>,
    ) -> Option<(LineHash, Self)> {
        let text = line.text?;
        let record = ReadRecord::parse(text);
        if !(source.stays)(record.as_ref(), line.offset) {
            return None;
        }
        let has_mark = record.as_ref().is_some_and(|record| record.again);
        // Known by its place, behind a byte that no id has.
        let own = || LineHash::of([&[0xff], &line.offset.to_le_bytes()[..]].concat());
        let id = record.and_then(|record| record.id).unwrap_or_else(own);
        let place = Self {
            source: number,
            offset: line.offset,
            length: u32::try_from(text.len()).ok()?,
            marked: is_again(id) && !has_mark && text.trim_ascii().ends_with(END.as_bytes()),
        };
        Some((id, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::fs;
    use tempfile::TempDir;

    #[test]
    fn a_cancel_leaves_the_file_as_it_was_and_nothing_beside_it() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("o");
        let record = |id| {
            format!(
                "{{\"custom_id\":\"{id}\",\"response\":{{\"status_code\":200,\"body\":{{\"choices\":[1]}}}},\"error\":null}}\n"
            )
        };
        let (a, b) = (record("a"), record("b"));
        fs::write(&path, b.clone() + &a).unwrap();
        let rank = |id| u64::from(id == LineHash::of(b"b"));
        let source = Source {
            path: &path,
            stays: &|_, _| true,
        };
        let sources = [source];
        let cancel = Cancel::new();
        cancel.cancel();
        let error = compact(&path, &sources, rank, |_| false, &cancel).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(fs::read_to_string(&path).unwrap(), b.clone() + &a);
        compact(&path, &sources, rank, |_| false, &Cancel::new()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), a + &b);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
