//! The look through a file before anything is sent: what is to do, and what must not be done.
//!
//! Two rows of one id cannot be told apart in the results, and the answer of a row that has changed
//! since is not its own: finding out after a night of paid requests is too late.
//!
//! What grows with the file is the table of [ids](super::ids), which is freed before the run begins.

use std::io::Read;
use std::ops::Range;

use super::cores::Cores;
use super::files::Location;
use super::hash::LineHash;
use super::ids::{Duplicate, Ids};
use super::journal::{ResumeIndex, RowStatus};
use super::line::Format;
use super::reader::Lines;
use super::sweep::{Stretch, Sweep};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};

/// How many lines a message names.
const NAMED: usize = 20;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Lines that are requests.
    pub(crate) rows: u64,
    /// Lines that are none, blank ones not counted.
    pub(crate) bad: u64,
    /// Requests that are left.
    pub(crate) to_do: u64,
    /// Of all these, those that are answered.
    pub(crate) done: u64,
    /// Of all these, those that have failed for good.
    pub(crate) failed: u64,
    /// Of those, lines that are no requests.
    pub(crate) failed_bad: u64,
    pub(crate) changed: Changes,
    /// The numbers of the lines that are done or have failed for good, in stretches and in order.
    pub(crate) passed_over: Vec<Range<u64>>,
    /// Every line whose id an earlier line has, in the order of the file.
    pub(crate) duplicates: Vec<Duplicate>,
}

/// Lines that have been answered as another request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    all: u64,
    /// The first of them.
    named: Vec<(u64, String)>,
}

impl Changes {
    pub(crate) fn note(&mut self, line: u64, custom_id: &str) {
        self.all += 1;
        if self.named.len() < NAMED {
            self.named.push((line, custom_id.to_owned()));
        }
    }

    fn add(&mut self, later: Self) {
        self.all += later.all;
        let room = NAMED - self.named.len();
        self.named.extend(later.named.into_iter().take(room));
    }

    /// Why an input with changes is refused; `name` is the input's.
    #[cold]
    pub(crate) fn refusal(&self, name: &Location) -> Error {
        let named = self.named.iter();
        let lines = named.map(|(line, id)| format!("line {line}: {id:?}"));
        Error::new(
            ErrorKind::Config,
            format!(
                "input {name}: these requests have changed since they were answered:\n  {}\ngive them \
                 other ids, keep their old answers with `force_resume`, or start anew with \
                 `overwrite`",
                list(lines, self.all)
            ),
        )
    }
}

/// One below the other, and how many there are besides.
fn list(named: impl Iterator<Item = String>, all: u64) -> String {
    let mut lines: Vec<String> = named.take(NAMED).collect();
    let more = all - lines.len() as u64;
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n  ")
}

impl Survey {
    fn pass_over(&mut self, lines: Range<u64>) {
        match self.passed_over.last_mut() {
            Some(last) if last.end == lines.start => last.end = lines.end,
            _ => self.passed_over.push(lines),
        }
    }

    /// All rows, those included that are no requests.
    pub(crate) fn total(&self) -> u64 {
        self.rows + self.bad
    }

    /// Refuses a file with duplicate ids, or with rows that have changed since they were answered.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the lines; `name` is the file's.
    pub(crate) fn check(&self, name: &Location) -> Result<()> {
        if self.duplicates.is_empty() {
            return match self.changed.all {
                0 => Ok(()),
                _ => Err(self.changed.refusal(name)),
            };
        }
        let lines = self.duplicates.iter();
        let lines = lines.map(|Duplicate { first, again }| format!("lines {first} and {again}"));
        Err(Error::new(
            ErrorKind::Config,
            format!(
                "input {name}: each custom_id may stand in one line only; the same one is in\n  {}",
                list(lines, self.duplicates.len() as u64)
            ),
        ))
    }
}

/// Looks through a whole input, which `place` is the name of, for what `past` leaves to do.
///
/// # Errors
/// [`ErrorKind::Cancelled`], and those of [`Location::unreadable`].
pub(crate) fn scan<R: Read>(
    source: R,
    place: &Location,
    format: &Format,
    index: &ResumeIndex,
    cancel: &Cancel,
) -> Result<Survey> {
    let unreadable = |error| place.unreadable(error);
    let lines = Lines::open(source).map_err(unreadable)?;
    let cores = Cores::default();
    let mut whole = Part::default();
    for part in Sweep::new(lines, &cores, |lines| Part::of(format, index, lines)) {
        cancel.check()?;
        whole.add(part.map_err(unreadable)?);
    }
    Ok(Survey {
        duplicates: whole.ids.duplicates(&cores),
        ..whole.survey
    })
}

/// What some lines hold.
#[derive(Default)]
struct Part {
    survey: Survey,
    ids: Ids,
}

impl Part {
    fn of(format: &Format, index: &ResumeIndex, lines: Stretch<'_>) -> Self {
        let mut found = Self::default();
        let survey = &mut found.survey;
        for line in lines {
            let number = line.number;
            // Most lines of a rerun: to read them whole would be most of its work.
            if index.done() > 0
                && let Some((id, hash)) = format.name(&line)
                && index.has_answered(id, hash)
            {
                survey.rows += 1;
                survey.done += 1;
                survey.pass_over(number..number + 1);
                found.ids.note(id, number);
                continue;
            }
            let parsed = format.parse(line);
            let is_request = parsed.is_ok();
            let (custom_id, hash) = match parsed {
                Ok(request) => {
                    survey.rows += 1;
                    (Some(request.custom_id), Some(request.hash))
                }
                // Its failure will be told under the id it has, so that must be the only one, too.
                Err(bad) => {
                    survey.bad += 1;
                    (bad.custom_id, bad.hash)
                }
            };
            let Some(custom_id) = custom_id else {
                continue;
            };
            let id = LineHash::of(custom_id.as_bytes());
            match index.status(id, hash) {
                RowStatus::ToDo => survey.to_do += u64::from(is_request),
                RowStatus::Done => {
                    survey.done += 1;
                    survey.pass_over(number..number + 1);
                }
                RowStatus::Failed => {
                    survey.failed += 1;
                    survey.failed_bad += u64::from(!is_request);
                    survey.pass_over(number..number + 1);
                }
                RowStatus::Changed => survey.changed.note(number, &custom_id),
            }
            found.ids.note(id, number);
        }
        found
    }

    fn add(&mut self, later: Self) {
        let (survey, more) = (&mut self.survey, later.survey);
        survey.rows += more.rows;
        survey.bad += more.bad;
        survey.to_do += more.to_do;
        survey.done += more.done;
        survey.failed += more.failed;
        survey.failed_bad += more.failed_bad;
        survey.changed.add(more.changed);
        for lines in more.passed_over {
            survey.pass_over(lines);
        }
        self.ids.append(later.ids);
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::DEFAULT_ENDPOINT;
    use super::*;

    fn requests() -> Format {
        Format::Requests {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
        }
    }

    fn place() -> Location {
        Location::File("p.jsonl".into())
    }

    fn look(file: &str) -> Survey {
        let index = ResumeIndex::default();
        scan(
            file.as_bytes(),
            &place(),
            &requests(),
            &index,
            &Cancel::new(),
        )
        .unwrap()
    }

    fn row(id: &str) -> String {
        format!("{{\"custom_id\":\"{id}\",\"body\":{{}}}}\n")
    }

    #[test]
    fn duplicates_are_told_with_both_lines_in_the_order_of_the_file() {
        // The last two differ only in how Unicode spells them: two ids.
        let ids = ["a", "b", "a", "c", "b", "a", "\u{e9}", "e\u{301}"];
        let file: String = ids.iter().map(|id| row(id)).collect();
        let survey = look(&file);
        let pairs: Vec<_> = survey
            .duplicates
            .iter()
            .map(|duplicate| (duplicate.first, duplicate.again))
            .collect();
        assert_eq!(pairs, [(1, 3), (2, 5), (1, 6)]);
        let error = survey.check(&place()).unwrap_err();
        let told = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            told.contains("p.jsonl") && told.contains("lines 2 and 5"),
            "{told}"
        );
    }

    #[test]
    fn an_id_written_two_ways_is_one_and_bad_lines_have_theirs() {
        let file = "{\"custom_id\":\"a\",\"body\":{}}\n{\"custom_id\":\"\\u0061\",\"body\":7}\n";
        let survey = look(file);
        assert_eq!((survey.rows, survey.bad), (1, 1));
        assert_eq!(survey.duplicates, [Duplicate { first: 1, again: 2 }]);
    }

    #[test]
    fn a_clean_file_passes_and_a_message_stays_readable() {
        let survey = look("\n\n");
        assert_eq!(survey, Survey::default());
        survey.check(&place()).unwrap();
        let file = row("a").repeat(1_000);
        let survey = look(&file);
        let told = survey.check(&place()).unwrap_err().to_string();
        assert!(
            told.lines().count() < 30 && told.ends_with("and 979 more"),
            "{told}"
        );
    }

    #[test]
    fn a_file_large_enough_for_all_cores_is_told_line_by_line() {
        let mut file = String::new();
        let mut expected = Vec::new();
        for n in 0..50_000_u64 {
            match n % 97 {
                13 => file.push_str("no request\n"),
                14 => file.push_str("\r\n"),
                15 => {
                    file.push_str(&row("the same"));
                    expected.push(n + 1);
                }
                _ => file.push_str(&row(&n.to_string())),
            }
        }
        assert!(file.len() > 1 << 20, "too little for threads");
        let survey = look(&file);
        let each = expected.len() as u64;
        assert_eq!((survey.rows, survey.bad), (50_000 - 2 * each, each));
        let pairs = expected.iter().skip(1).map(|&again| (expected[0], again));
        let found = survey.duplicates.iter();
        assert!(found.map(|pair| (pair.first, pair.again)).eq(pairs));
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
            &requests(),
            &index,
            &cancel,
        );
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
