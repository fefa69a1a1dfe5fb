//! One pass over an input file before anything is sent: what is to do, and what must not be done.
//!
//! Results of two rows with one id could not be told apart, and a row that has changed since it was
//! answered needs another answer. Both are errors before the first paid request, not after the last.
//!
//! What grows with the file is the table of [ids](super::ids). It is freed before the run begins.

use std::fs::File;
use std::io::Read;
use std::ops::Range;

use super::files::Location;
use super::format::Format;
use super::hash::LineHash;
use super::ids::duplicates;
use super::journal::{ResumeIndex, RowStatus};
use super::lines::Line;
use super::parallel::{LineFold, fold};
use crate::cancel::Cancel;
use crate::error::{Result, config};
use crate::escape::printable;

/// How much of an id is shown, in characters.
const LONGEST_ID: usize = 100;

/// How many lines a message names.
const NAMED: usize = 20;

/// What an input file holds. A row is a line that is not blank.
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
}

impl InputScan {
    fn pass_over(&mut self, lines: Range<u64>) {
        match self.passed_over.last_mut() {
            Some(last) if last.end == lines.start => last.end = lines.end,
            _ => self.passed_over.push(lines),
        }
    }
}

/// Scans a whole input, whose name is `location`, for what `index` leaves to do.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for duplicate ids and for rows that have changed
/// since they were answered, naming the lines;
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), and those of [`Location::unreadable`].
pub(crate) fn scan<R: Read>(
    source: R,
    location: &Location,
    format: &Format,
    index: &ResumeIndex,
    cancel: &Cancel,
) -> Result<InputScan> {
    let unreadable = |error| location.unreadable(error);
    let mut lines = format.lines(source);
    let all = Part::default();
    let mut pass = Pass { format, index, all };
    fold(&mut lines, &mut pass, cancel, unreadable)?;
    let (found, changed) = (pass.all.found, pass.all.changed);
    let duplicates = duplicates(pass.all.ids);
    if !duplicates.is_empty() {
        let mut ids = ids_again(location, format, &duplicates).into_iter();
        let mut repeated = Listed::default();
        for (first, again) in duplicates {
            let id = ids.next().unwrap_or_default();
            repeated.add(|| format!("lines {first} and {again}{id}"));
        }
        return Err(config(format!(
            "input {location}: each line needs a custom_id of its own. The same one is in\n  {}",
            repeated.lines()
        )));
    }
    if changed.count > 0 {
        let message = format!(
            "input {location}: these requests have changed since they were answered:\n  {}\ngive them \
             other ids, keep their old answers, or start anew",
            changed.lines()
        );
        return Err(config(message).with_settings(&["force_resume", "overwrite"]));
    }
    Ok(found)
}

/// The ids of the first lines that have those of earlier ones, each behind a colon. They are read
/// once more, as only their hashes have been kept; there are none where that cannot be done.
pub(super) fn ids_again(
    location: &Location,
    format: &Format,
    duplicates: &[(u64, u64)],
) -> Vec<String> {
    let Some(Ok(file)) = location
        .path()
        .filter(|path| path.is_file())
        .map(File::open)
    else {
        return Vec::new();
    };
    let (mut lines, mut ids) = (format.lines(file), Vec::new());
    for (_, again) in duplicates.iter().take(NAMED) {
        while let Ok(Some(line)) = lines.next() {
            if line.number == *again {
                let id = format.parse(line).custom_id.unwrap_or_default();
                ids.push(format!(": \"{}\"", printable(&id, LONGEST_ID)));
                break;
            }
        }
    }
    ids
}

struct Pass<'a> {
    format: &'a Format,
    index: &'a ResumeIndex,
    all: Part,
}

/// What some lines hold.
#[derive(Default)]
struct Part {
    found: InputScan,
    /// Rows that have been answered as another request.
    changed: Listed,
    /// The ids, with their lines.
    ids: Vec<(LineHash, u64)>,
}

impl LineFold for Pass<'_> {
    type Part = Part;

    fn add_line(&self, part: &mut Part, line: Line<&[u8]>) {
        let (found, number) = (&mut part.found, line.number);
        found.rows += 1;
        // Most lines of a rerun. Parsing them to their end would take most of its time.
        if self.index.done() > 0
            && let Some((id, hash)) = self.format.name(&line)
            && self.index.has_answered(id, hash)
        {
            found.done += 1;
            found.pass_over(number..number + 1);
            part.ids.push((id, number));
            return;
        }
        let row = self.format.parse(line);
        let (is_request, promise) = (row.request.is_ok(), row.promise());
        // The failure of a bad line is recorded under the id that it has, so that is unique, too.
        let Some(custom_id) = row.custom_id else {
            return;
        };
        let id = LineHash::of(custom_id.as_bytes());
        part.ids.push((id, number));
        match self.index.status(id, row.hash, promise) {
            RowStatus::ToDo | RowStatus::ToDoLast => {
                found.to_do += u64::from(is_request);
                return;
            }
            RowStatus::Changed => {
                let changed = || format!("line {number}: {custom_id:?}");
                part.changed.add(changed);
                return;
            }
            RowStatus::Done => found.done += 1,
            RowStatus::Failed => {
                found.failed += 1;
                found.failed_bad += u64::from(!is_request);
            }
        }
        found.pass_over(number..number + 1);
    }

    fn add_part(&mut self, later: Part) -> Result<()> {
        let (found, more) = (&mut self.all.found, later.found);
        found.rows += more.rows;
        found.to_do += more.to_do;
        found.done += more.done;
        found.failed += more.failed;
        found.failed_bad += more.failed_bad;
        for lines in more.passed_over {
            found.pass_over(lines);
        }
        self.all.changed.append(later.changed);
        self.all.ids.extend(later.ids);
        Ok(())
    }
}

/// What a message lists: the first few by name, the others by their number.
#[derive(Default)]
struct Listed {
    count: u64,
    named: Vec<String>,
}

impl Listed {
    fn add(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(name());
        }
    }

    fn append(&mut self, later: Self) {
        self.count += later.count;
        self.named.extend(later.named);
        self.named.truncate(NAMED);
    }

    fn lines(mut self) -> String {
        let more = self.count - self.named.len() as u64;
        if more > 0 {
            self.named.push(format!("and {more} more"));
        }
        self.named.join("\n  ")
    }
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
