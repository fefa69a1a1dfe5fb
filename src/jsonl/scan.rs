//! One pass over an input file before anything is sent: what is to do, and what must not be done.
//!
//! Results of two rows with one id could not be told apart, and a row that has changed since it was
//! answered needs another answer. Both are errors before the first paid request, not after the
//! last.
//!
//! What grows with the file is the table of [ids](super::ids). It is freed before the run begins.

use std::fs::File;
use std::io::Read;
use std::ops::Range;

use super::files::Location;
use super::format::{Format, InputRow};
use super::hash::LineHash;
use super::ids::{NAMED, Occurrences, duplicates, listed, quoted};
use super::journal::{ResumeIndex, RowStatus};
use super::judge;
use super::lines::{Line, Lines};
use super::parallel::fold;
use crate::api::classify::Promise;
use crate::cancel::Cancel;
use crate::error::{Error, Result, config};

/// What an input file holds, or the shard of it that is run. A row is a line that is not blank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InputScan {
    /// All rows, those included that are no requests.
    pub(crate) rows: u64,
    /// Requests that are left to send.
    pub(crate) to_do: u64,
    /// Rows that are answered.
    pub(crate) done: u64,
    /// Rows that have failed for good.
    pub(crate) failed: u64,
    /// Of the failed rows, those that are no requests.
    pub(crate) failed_bad: u64,
    /// The line numbers of the rows that are done or have failed for good, in order.
    pub(crate) passed_over: Vec<Range<u64>>,
    /// Where rows are named by their requests: those that come more than once.
    pub(super) occurrences: Option<Occurrences>,
}

/// Scans a whole input, whose name is `location`, for what `index` leaves to do.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for duplicate ids and for rows that have changed
/// since they were answered, and for an output with records of other shards, naming the lines;
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), and those of [`Location::unreadable`].
pub(crate) fn scan<R: Read>(
    source: R,
    location: &Location,
    format: &Format,
    index: &ResumeIndex,
    cancel: &Cancel,
) -> Result<InputScan> {
    let mut lines = format.lines(source);
    judge::check(&mut lines, format, judge::OF_FILE, location)?;
    let mut found = InputScan::default();
    // The ids, with their lines, the lines of rows that have been answered as another request, and
    // of those that have a record and are in another shard.
    let (mut ids, mut changed, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    // The row before, as between the two there may be lines that are none.
    let mut was_passed = false;
    let read = |line: Line<&[u8]>| {
        let answered = RowFacts::of_answered(&line, format, index);
        let facts = answered.unwrap_or_else(|| RowFacts::of(&format.parse(line), format, index));
        (facts, ())
    };
    let add = |facts: RowFacts, ()| {
        let number = facts.number;
        if facts.is_elsewhere {
            if facts.status != RowStatus::ToDo {
                elsewhere.push(number);
            }
            was_passed = false;
            return;
        }
        found.rows += 1;
        let Some(id) = facts.id else {
            was_passed = false;
            return;
        };
        // Those that have been made are unique.
        if !format.names_rows() {
            ids.push((id, number));
        }
        match facts.status {
            RowStatus::ToDo | RowStatus::ToDoLast => found.to_do += u64::from(facts.is_request),
            RowStatus::Changed => changed.push(number),
            RowStatus::Done => found.done += 1,
            RowStatus::Failed => {
                found.failed += 1;
                found.failed_bad += u64::from(!facts.is_request);
            }
        }
        let is_passed = matches!(facts.status, RowStatus::Done | RowStatus::Failed);
        if is_passed {
            match found.passed_over.last_mut().filter(|_| was_passed) {
                Some(last) => last.end = number + 1,
                None => found.passed_over.push(number..number + 1),
            }
        }
        was_passed = is_passed;
    };
    let occurrences = fold_rows(&mut lines, location, format, index, cancel, read, add)?;
    found.occurrences = occurrences.map(Occurrences::again);
    let repeated = repeated_ids(location, format, ids);
    let all = repeated.len() as u64;
    if all > 0 {
        let lines = repeated.map(|(first, again, id)| format!("lines {first} and {again}{id}"));
        let what = match format.rows {
            Some(_) => "each row needs an id of its own in the column that names the rows",
            None => "each line needs a custom_id of its own",
        };
        return Err(config(format!(
            "input {location}: {what}. The same one is in\n  {}",
            listed(lines, all)
        )));
    }
    if !elsewhere.is_empty() {
        let lines = listed_lines(elsewhere, location, format);
        return Err(strangers(location, format, &lines));
    }
    if !changed.is_empty() {
        let message = format!(
            "input {location}: these requests have changed since they were answered:\n  {}\ngive them \
             other ids, keep their old answers, or start anew",
            listed_lines(changed, location, format)
        );
        return Err(config(message).with_settings(&["force_resume", "overwrite"]));
    }
    Ok(found)
}

/// The error for an output with records of rows that are in other shards.
pub(super) fn strangers(location: &Location, format: &Format, lines: &str) -> Error {
    let shard = format.shard.map(|shard| shard.to_string());
    let message = format!(
        "input {location}: the output has records of rows that are not in {}:\n  {lines}\ngive this \
         shard an output of its own, or run the shard that this output was begun with",
        shard.unwrap_or_default()
    );
    config(message).with_settings(&["output", "shard"])
}

/// Shows the lines of an input to `read`, on all cores, and what it makes of each to `add`, in the
/// order of the file. Rows that are named by their requests have their names by then, whose counts
/// are returned.
///
/// # Errors
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), and those of [`Location::unreadable`].
pub(super) fn fold_rows<R: Read, M: Send>(
    lines: &mut Lines<R>,
    location: &Location,
    format: &Format,
    index: &ResumeIndex,
    cancel: &Cancel,
    read: impl Fn(Line<&[u8]>) -> (RowFacts, M) + Sync,
    mut add: impl FnMut(RowFacts, M),
) -> Result<Option<Occurrences>> {
    let mut occurrences = format.names_rows().then(Occurrences::default);
    let unreadable = |error| location.unreadable(error);
    fold(lines, cancel, unreadable, read, |(mut facts, more)| {
        let again = occurrences.as_mut().zip(facts.hash);
        if let Some(id) = again.and_then(|(occurrences, hash)| occurrences.id(hash)) {
            facts.name(Some(&id), format, index);
        }
        add(facts, more);
        Ok(())
    })?;
    Ok(occurrences)
}

/// What a line says of its row.
pub(super) struct RowFacts {
    pub(super) number: u64,
    /// The failure of a bad line is recorded under the id that it has, so that is unique, too.
    pub(super) id: Option<LineHash>,
    hash: Option<LineHash>,
    promise: Promise,
    /// Without an id it is to do.
    pub(super) status: RowStatus,
    pub(super) is_request: bool,
    /// It is in another shard.
    pub(super) is_elsewhere: bool,
}

impl RowFacts {
    pub(super) fn of(row: &InputRow<'_>, format: &Format, index: &ResumeIndex) -> Self {
        let mut facts = Self {
            number: row.number,
            id: None,
            hash: row.hash,
            promise: row.promise(),
            status: RowStatus::ToDo,
            is_request: row.request.is_ok(),
            is_elsewhere: false,
        };
        facts.name(row.custom_id.as_deref(), format, index);
        facts
    }

    /// Of a line that has been answered as it stands. Those are most lines of a rerun, and to parse
    /// them to their end would take most of its time.
    fn of_answered(line: &Line<&[u8]>, format: &Format, index: &ResumeIndex) -> Option<Self> {
        if index.is_empty() {
            return None;
        }
        let (name, hash) = format.name(line)?;
        let id = LineHash::of(&name);
        index.has_answered(id, hash).then(|| Self {
            number: line.number,
            id: Some(id),
            hash: Some(hash),
            promise: Promise::Anything,
            status: RowStatus::Done,
            is_request: true,
            is_elsewhere: !format.takes(Some(&name), line.number),
        })
    }

    /// Names the row.
    fn name(&mut self, name: Option<&str>, format: &Format, index: &ResumeIndex) {
        self.id = name.map(LineHash::of);
        self.is_elsewhere = !format.takes(name, self.number);
        let status = |id| index.status(id, self.hash, self.promise);
        self.status = self.id.map_or(RowStatus::ToDo, status);
    }
}

/// Every line whose id an earlier line has: that line, this one, and the id behind a colon, as
/// [`ids_of_lines`] shows it.
pub(super) fn repeated_ids(
    location: &Location,
    format: &Format,
    ids: Vec<(LineHash, u64)>,
) -> impl ExactSizeIterator<Item = (u64, u64, String)> {
    let mut id_of = ids_of_lines(location, format);
    let repeated = duplicates(ids).into_iter();
    repeated.map(move |(first, again)| (first, again, id_of(again)))
}

/// Shows the ids of lines that are asked for in the order of the file, each behind a colon. They
/// are read once more, as only hashes have been kept. For all but the first lines, and where that
/// cannot be done, there is an empty text.
fn ids_of_lines(location: &Location, format: &Format) -> impl FnMut(u64) -> String {
    let path = location.path().filter(|path| path.is_file());
    let file = path.and_then(|path| File::open(path).ok());
    let mut lines = file.map(|file| format.lines(file));
    let mut asked = 0;
    let mut id_of = move |number| {
        asked += 1;
        while let Some(line) = lines.as_mut().filter(|_| asked <= NAMED)?.next().ok()? {
            if line.number == number {
                return format.parse(line).custom_id;
            }
        }
        None
    };
    move |number| {
        let id = id_of(number).map(|id| format!(": {}", quoted(&id)));
        id.unwrap_or_default()
    }
}

/// Lines in the order of the file, with their ids, as a message lists them.
fn listed_lines(lines: Vec<u64>, location: &Location, format: &Format) -> String {
    let mut id_of = ids_of_lines(location, format);
    let all = lines.len() as u64;
    let named = lines.into_iter();
    listed(named.map(|line| format!("line {line}{}", id_of(line))), all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn location() -> Location {
        Location::File("p.jsonl".into())
    }

    fn look(file: &str) -> Result<InputScan> {
        let index = ResumeIndex::default();
        scan(
            file.as_bytes(),
            &location(),
            &Format::default(),
            &index,
            &Cancel::new(),
        )
    }

    fn refused(file: &str) -> String {
        let error = look(file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    fn row(id: &str) -> String {
        format!("{{\"custom_id\":\"{id}\",\"body\":{{}}}}\n")
    }

    #[test]
    fn duplicates_are_told_with_both_lines_in_the_order_of_the_file() {
        // The last two differ only in how Unicode spells them: two ids.
        let ids = ["a", "b", "a", "c", "b", "a", "\u{e9}", "e\u{301}"];
        let file: String = ids.iter().map(|id| row(id)).collect();
        let told = refused(&file);
        let lines: Vec<_> = told.lines().map(str::trim).collect();
        assert!(lines[0].contains("p.jsonl"), "{told}");
        assert_eq!(
            lines[1..],
            ["lines 1 and 3", "lines 2 and 5", "lines 1 and 6"]
        );
    }

    #[test]
    fn an_id_written_two_ways_is_one_and_bad_lines_have_theirs() {
        let file = "{\"custom_id\":\"a\",\"body\":{}}\n{\"custom_id\":\"\\u0061\",\"body\":7}\n";
        assert!(refused(file).ends_with("lines 1 and 2"));
    }

    #[test]
    fn a_clean_file_passes_and_a_message_stays_readable() {
        assert_eq!(look("\n\n").unwrap(), InputScan::default());
        let told = refused(&row("a").repeat(1_000));
        assert!(
            told.lines().count() < 30 && told.ends_with("and 979 more"),
            "{told}"
        );
    }

    #[test]
    fn a_file_large_enough_for_all_cores_is_told_line_by_line() {
        let (mut file, mut bad, mut blank) = (String::new(), 0, 0);
        for n in 0..50_000_u64 {
            match n % 97 {
                13 => {
                    file.push_str("no request\n");
                    bad += 1;
                }
                14 => {
                    file.push_str("\r\n");
                    blank += 1;
                }
                _ => file.push_str(&row(&n.to_string())),
            }
        }
        assert!(file.len() > 1 << 20, "too little for threads");
        let found = look(&file).unwrap();
        assert_eq!(
            (found.rows, found.to_do),
            (50_000 - blank, 50_000 - blank - bad)
        );
        for line in [7, 20_000, 49_000] {
            file.push_str(&row(&line.to_string()));
        }
        let told = refused(&file);
        let lines: Vec<_> = told.lines().skip(1).map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "lines 8 and 50001",
                "lines 20001 and 50002",
                "lines 49001 and 50003"
            ]
        );
    }

    #[test]
    fn a_look_that_is_cancelled_ends() {
        let cancel = Cancel::new();
        cancel.cancel();
        let file = row("a").repeat(2);
        let index = ResumeIndex::default();
        let ended = scan(
            file.as_bytes(),
            &Location::Stream,
            &Format::default(),
            &index,
            &cancel,
        );
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
