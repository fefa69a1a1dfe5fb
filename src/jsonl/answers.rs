//! The answers in the files of runs, or in batch outputs of other tools, found by their ids.
//!
//! The files are read once for an index of 32 bytes a row, then line by line as rows are asked for.

use std::path::{Path, PathBuf};

use super::answer::Answer;
use super::hash::LineHash;
use super::ids::IdTable;
use super::io::{LineSource, failed};
use super::journal::fold_file;
use super::lines::Line;
use super::readback::ReadRecord;
use crate::api::json::string;
use crate::cancel::Cancel;
use crate::error::Result;

/// How many ids that have several answers are kept.
const REPEATED_KEPT: usize = 5;

/// Where a record is, and what it is. Of an id the highest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordPosition {
    pub(super) is_answer: bool,
    /// The number of its file.
    file: u32,
    offset: u64,
    /// It has been written by a merge.
    pub(super) is_taken: bool,
}

/// A file of records, and what its lines are.
pub(crate) struct RecordSource {
    pub(crate) path: PathBuf,
    lines: LineSource,
    pub(crate) records: u64,
    /// Records that say that no provider has answered.
    pub(crate) simulated: u64,
    /// Lines that are no records, and the first of them.
    pub(crate) damaged: u64,
    pub(crate) first_damaged: Option<u64>,
    /// The last line, if it is no record and has no end: a run was killed while it wrote.
    pub(crate) torn: Option<u64>,
}

/// Ids that have several answers.
#[derive(Default)]
pub(crate) struct Repeated {
    pub(crate) ids: u64,
    /// The answers that count, of the first few.
    pub(crate) first: Vec<RecordPosition>,
}

/// The records that count: of each id the last answer, or the last failure if there is none.
pub(crate) struct Answers {
    pub(crate) files: Vec<RecordSource>,
    places: IdTable<RecordPosition>,
    pub(crate) repeated: Repeated,
    line: Vec<u8>,
}

impl Answers {
    /// Reads files of records, such as an output and the errors file beside it, as far as they are
    /// there.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) and
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
    pub(crate) fn index<'a>(
        files: impl IntoIterator<Item = &'a Path>,
        cancel: &Cancel,
    ) -> Result<Self> {
        let (mut sources, mut entries) = (Vec::new(), Vec::new());
        let there = files.into_iter().filter(|path| path.exists());
        for (number, path) in (0..).zip(there) {
            let lines = LineSource::open(path).map_err(|error| failed("read", path, error))?;
            let mut source = RecordSource {
                path: path.to_owned(),
                lines,
                records: 0,
                simulated: 0,
                damaged: 0,
                first_damaged: None,
                torn: None,
            };
            let read = |line: Line<&[u8]>| (line.number, line.ended, indexed(&line, number));
            fold_file(path, cancel, read, |(line, ended, record)| {
                if let Some((id, place, simulated)) = record {
                    source.records += 1;
                    source.simulated += u64::from(simulated);
                    entries.push((id, place));
                } else if ended {
                    source.damaged += 1;
                    source.first_damaged.get_or_insert(line);
                } else {
                    source.torn = Some(line);
                }
                Ok(())
            })?;
            sources.push(source);
        }
        // The one that counts comes first.
        entries.sort_unstable_by(|(id, place), (other, than)| id.cmp(other).then(than.cmp(place)));
        let mut repeated = Repeated::default();
        for same in entries.chunk_by(|one, other| one.0 == other.0) {
            if same.iter().filter(|(_, place)| place.is_answer).count() > 1 {
                repeated.ids += 1;
                repeated.first.push(same[0].1);
                repeated.first.sort_unstable();
                repeated.first.truncate(REPEATED_KEPT);
            }
        }
        entries.dedup_by_key(|(id, _)| *id);
        Ok(Self {
            files: sources,
            places: IdTable::sorted(entries),
            repeated,
            line: Vec::new(),
        })
    }

    /// How many lines are no records, those included that are torn, and the first of them.
    pub(crate) fn left_out(&self) -> Option<(u64, &Path, u64)> {
        let lines = |file: &RecordSource| file.damaged + u64::from(file.torn.is_some());
        let first = |file: &'_ RecordSource| file.first_damaged.or(file.torn);
        let mut files = self.files.iter();
        let (path, line) = files.find_map(|file| Some((&*file.path, first(file)?)))?;
        Some((self.files.iter().map(lines).sum(), path, line))
    }

    /// Rows that have a record.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// All that count, in the order of the files.
    pub(crate) fn in_order(&self) -> Vec<RecordPosition> {
        let mut places: Vec<_> = self.places.values().copied().collect();
        places.sort_unstable_by_key(|place| (place.file, place.offset));
        places
    }

    /// Takes the record of the row with this [key](row_key). Where it is says whether it had been
    /// taken before.
    pub(super) fn take(&mut self, key: LineHash) -> Option<RecordPosition> {
        let place = self.places.get_mut(key)?;
        let before = *place;
        place.is_taken = true;
        Some(before)
    }

    /// How many rows are answered here and not in `others`.
    pub(super) fn answered_beside(&self, others: &Self) -> usize {
        let is_answered = |place: Option<&RecordPosition>| place.is_some_and(|it| it.is_answer);
        let more = |(key, place): &&(LineHash, RecordPosition)| {
            place.is_answer && !is_answered(others.places.get(*key))
        };
        self.places.iter().filter(more).count()
    }

    /// The record of the row with this [key](row_key).
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub(crate) fn get(&mut self, key: LineHash) -> Result<Option<Answer>> {
        let place = self.places.get(key).copied();
        place.map(|place| self.read(place)).transpose()
    }

    /// Where a record is, as messages name it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub(super) fn place(&mut self, place: RecordPosition) -> Result<String> {
        let RecordSource { path, lines, .. } = &mut self.files[place.file as usize];
        let number = lines.number(place.offset);
        let number = number.map_err(|error| failed("read", path, error))?;
        Ok(format!("{path:?}, line {number}"))
    }

    /// The record at a place.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub(crate) fn read(&mut self, place: RecordPosition) -> Result<Answer> {
        Ok(Answer::parse(self.line(place)?).unwrap_or_default())
    }

    /// The line at a place, with its end if it has one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub(super) fn line(&mut self, place: RecordPosition) -> Result<&[u8]> {
        let RecordSource { path, lines, .. } = &mut self.files[place.file as usize];
        self.line.clear();
        lines
            .read_line(place.offset, &mut self.line)
            .map_err(|error| failed("read", path, error))?;
        Ok(&self.line)
    }
}

/// What a row is looked up by: the hash of its id, or for one without an id that of its line's
/// number, behind a byte that no id has.
pub(crate) fn row_key(id: Option<&str>, line: u64) -> LineHash {
    let unnamed = || LineHash::of([&[0xff], format!("line-{line}").as_bytes()].concat());
    id.map_or_else(unnamed, LineHash::of)
}

/// A line of the file with this number, if it is a record: its key, where it is, and whether it is
/// simulated.
fn indexed(line: &Line<&[u8]>, file: u32) -> Option<(LineHash, RecordPosition, bool)> {
    let offset = line.offset;
    ReadRecord::parse_with(line.text?, |read, [custom_id, ..]| {
        let place = RecordPosition {
            is_answer: read.is_done(),
            file,
            offset,
            is_taken: false,
        };
        // Known by the number that it was given, or by where it stands.
        let unnamed = || {
            let here = || format!("{file} {offset}");
            let name = custom_id.and_then(string).unwrap_or_else(here);
            LineHash::of([&[0xff], name.as_bytes()].concat())
        };
        (read.id.unwrap_or_else(unnamed), place, read.simulated)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    #[test]
    fn of_an_id_the_last_answer_counts_and_of_failures_the_last() {
        let folder = TempDir::new().unwrap();
        let record = |id: &str, text: &str| {
            format!(
                "{{\"custom_id\":\"{id}\",\"response\":{{\"status_code\":200,\"body\":{{\"choices\":[{{\"text\":\"{text}\"}}]}}}},\"error\":null}}\n"
            )
        };
        let failure = |id: &str, text: &str| {
            format!(
                "{{\"custom_id\":\"{id}\",\"response\":null,\"error\":{{\"code\":\"x\",\"message\":\"{text}\"}}}}\n"
            )
        };
        let (output, errors) = (folder.path().join("o"), folder.path().join("e"));
        let lines = [
            record("a", "one"),
            failure("a", "late"),
            record("b", "two"),
            "no record\n".to_owned(),
            record("b", "three"),
            failure("c", "first"),
            failure("line-9", "line 9: no template"),
            "{\"custom_id\":\"d\",\"resp".to_owned(),
        ];
        fs::write(&output, lines.concat()).unwrap();
        fs::write(&errors, failure("c", "last") + &failure("a", "never")).unwrap();
        let mut answers = Answers::index([&*output, &*errors], &Cancel::new()).unwrap();
        let mut told = |id: &str| {
            let found = answers.get(LineHash::of(id)).unwrap()?;
            found.text.or(found.error)
        };
        assert_eq!(told("a").as_deref(), Some("one"));
        assert_eq!(told("b").as_deref(), Some("three"));
        assert_eq!(told("c").as_deref(), Some("last"));
        assert_eq!(told("d"), None);
        assert_eq!(told("line-9"), None);
        let unnamed = answers.get(row_key(None, 9)).unwrap().unwrap();
        assert_eq!(unnamed.error.as_deref(), Some("line 9: no template"));
        assert_eq!(answers.places.len(), 4);
        let source = &answers.files[0];
        assert_eq!(
            (source.damaged, source.first_damaged, source.torn),
            (1, Some(4), Some(8))
        );
        let ids = answers
            .in_order()
            .into_iter()
            .map(|place| answers.read(place).unwrap().custom_id.unwrap());
        assert_eq!(ids.collect::<Vec<_>>(), ["a", "b", "line-9", "c"]);
    }

    #[test]
    fn an_entry_takes_32_bytes() {
        assert_eq!(size_of::<(LineHash, RecordPosition)>(), 32);
    }
}
