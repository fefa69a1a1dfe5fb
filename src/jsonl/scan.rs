//! The look through a file before anything is sent: duplicate ids, and how many rows there are.
//!
//! Two rows of one id cannot be told apart in the results, and finding out after a night of paid
//! requests is too late. Reading is serial, as the [line reader](super::reader) is the one authority
//! on lines and their numbers; parsing, the larger part by far, runs on all cores (feature
//! `parallel`) over a read-ahead of some 8 MiB, however long the file.
//!
//! What grows with the file is the table of ids, 24 bytes a row (twice that while it is being
//! extended): ids are kept as 128-bit hashes and sorted at the end, which takes less than half of
//! what a hash set does. It is freed before the run begins.

use std::io::{self, Read};

use super::hash::LineHash;
use super::line::Format;
use super::reader::{Line, Lines, Text};
use crate::error::{Error, ErrorKind, Result};

/// How much text is held at a time, in bytes; a longer line is held alone.
const READ_AHEAD: usize = 8 << 20;

/// Below so much text, in bytes, the threads cost more than they save.
#[cfg(feature = "parallel")]
const WORTH_THREADS: usize = 1 << 20;

/// Lines a task of the thread pool takes at a time.
#[cfg(feature = "parallel")]
const TASK: usize = 64;

/// How many duplicates a message names.
const NAMED: usize = 20;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Lines that are requests.
    pub(crate) rows: u64,
    /// Lines that are none, blank ones not counted.
    pub(crate) bad: u64,
    /// Every line whose id an earlier line has, in the order of the file.
    pub(crate) duplicates: Vec<Duplicate>,
}

/// Two physical lines with one `custom_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duplicate {
    /// Where the id stands for the first time.
    pub(crate) first: u64,
    pub(crate) again: u64,
}

impl Survey {
    /// Refuses a file with duplicate ids.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the lines; `name` is the file's.
    pub(crate) fn refuse_duplicates(&self, name: &str) -> Result<()> {
        if self.duplicates.is_empty() {
            return Ok(());
        }
        let named = self.duplicates.iter().take(NAMED);
        let mut lines: Vec<String> = named
            .map(|Duplicate { first, again }| format!("lines {first} and {again}"))
            .collect();
        let more = self.duplicates.len().saturating_sub(NAMED);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        Err(Error::new(
            ErrorKind::Config,
            format!(
                "{name}: each custom_id may stand in one line only; the same one is in\n  {}",
                lines.join("\n  ")
            ),
        ))
    }
}

/// Looks through a whole input.
///
/// # Errors
/// Those of [`Lines`].
pub(crate) fn scan<R: Read>(source: R, format: &Format) -> io::Result<Survey> {
    #[cfg(feature = "parallel")]
    let look = by_size;
    #[cfg(not(feature = "parallel"))]
    let look = serial;
    scan_with(source, format, READ_AHEAD, look)
}

type Look = fn(&Format, &Batch) -> Vec<Part>;

fn scan_with<R: Read>(
    source: R,
    format: &Format,
    read_ahead: usize,
    look: Look,
) -> io::Result<Survey> {
    let mut lines = Lines::open(source)?;
    let mut batch = Batch::default();
    let mut whole = Part::default();
    loop {
        let more = batch.fill(&mut lines, read_ahead)?;
        for part in look(format, &batch) {
            whole.rows += part.rows;
            whole.bad += part.bad;
            whole.ids.extend(part.ids);
        }
        whole.bad += batch.too_long;
        if !more {
            break;
        }
    }
    Ok(Survey {
        rows: whole.rows,
        bad: whole.bad,
        duplicates: duplicates(whole.ids),
    })
}

/// A stretch of the input, in lines.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    lines: Vec<Span>,
    too_long: u64,
}

struct Span {
    number: u64,
    start: usize,
    end: usize,
}

impl Batch {
    /// Takes the next lines in place of those it has; whether there may be more.
    fn fill<R: Read>(&mut self, lines: &mut Lines<R>, read_ahead: usize) -> io::Result<bool> {
        self.text.clear();
        self.text.shrink_to(2 * read_ahead);
        self.lines.clear();
        self.too_long = 0;
        while self.text.len() < read_ahead {
            let Some(line) = lines.next()? else {
                return Ok(false);
            };
            match line.text {
                Text::TooLong { .. } => self.too_long += 1,
                Text::Whole(text) => {
                    let start = self.text.len();
                    self.text.extend_from_slice(text);
                    self.lines.push(Span {
                        number: line.number,
                        start,
                        end: self.text.len(),
                    });
                }
            }
        }
        Ok(true)
    }
}

/// What some lines hold.
#[derive(Default)]
struct Part {
    rows: u64,
    bad: u64,
    ids: Vec<Id>,
}

/// Sorts by id, then by line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    hash: (u64, u64),
    line: u64,
}

#[cfg(feature = "parallel")]
fn by_size(format: &Format, batch: &Batch) -> Vec<Part> {
    if batch.text.len() < WORTH_THREADS {
        serial(format, batch)
    } else {
        parallel(format, batch)
    }
}

#[cfg(feature = "parallel")]
fn parallel(format: &Format, batch: &Batch) -> Vec<Part> {
    use rayon::prelude::*;

    batch
        .lines
        .par_chunks(TASK)
        .map(|lines| part(format, &batch.text, lines))
        .collect()
}

fn serial(format: &Format, batch: &Batch) -> Vec<Part> {
    vec![part(format, &batch.text, &batch.lines)]
}

fn part(format: &Format, text: &[u8], lines: &[Span]) -> Part {
    let mut part = Part::default();
    for &Span { number, start, end } in lines {
        let line = Line {
            number,
            text: Text::Whole(&text[start..end]),
        };
        let custom_id = match format.parse(line) {
            Ok(request) => {
                part.rows += 1;
                Some(request.custom_id)
            }
            // Its failure will be told under the id it has, so that must be the only one, too.
            Err(bad) => {
                part.bad += 1;
                bad.custom_id
            }
        };
        if let Some(id) = custom_id {
            part.ids.push(Id {
                hash: LineHash::of(id.as_bytes()).halves(),
                line: number,
            });
        }
    }
    part
}

fn duplicates(mut ids: Vec<Id>) -> Vec<Duplicate> {
    #[cfg(feature = "parallel")]
    rayon::slice::ParallelSliceMut::par_sort_unstable(ids.as_mut_slice());
    #[cfg(not(feature = "parallel"))]
    ids.sort_unstable();
    let mut duplicates: Vec<_> = ids
        .chunk_by(|one, other| one.hash == other.hash)
        .flat_map(|same| {
            same[1..].iter().map(|id| Duplicate {
                first: same[0].line,
                again: id.line,
            })
        })
        .collect();
    duplicates.sort_unstable_by_key(|duplicate| duplicate.again);
    duplicates
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

    fn row(id: &str) -> String {
        format!("{{\"custom_id\":\"{id}\",\"body\":{{}}}}\n")
    }

    #[test]
    fn duplicates_are_told_with_both_lines_in_the_order_of_the_file() {
        // The last two differ only in how Unicode spells them: two ids.
        let ids = ["a", "b", "a", "c", "b", "a", "\u{e9}", "e\u{301}"];
        let file: String = ids.iter().map(|id| row(id)).collect();
        let survey = scan(file.as_bytes(), &requests()).unwrap();
        let pairs: Vec<_> = survey
            .duplicates
            .iter()
            .map(|duplicate| (duplicate.first, duplicate.again))
            .collect();
        assert_eq!(pairs, [(1, 3), (2, 5), (1, 6)]);
        let error = survey.refuse_duplicates("p.jsonl").unwrap_err();
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
        let survey = scan(file.as_bytes(), &requests()).unwrap();
        assert_eq!((survey.rows, survey.bad), (1, 1));
        assert_eq!(survey.duplicates, [Duplicate { first: 1, again: 2 }]);
    }

    #[test]
    fn a_clean_file_passes_and_a_message_stays_readable() {
        let survey = scan(&b"\n\n"[..], &requests()).unwrap();
        assert_eq!(survey, Survey::default());
        survey.refuse_duplicates("p").unwrap();
        let file = row("a").repeat(1_000);
        let survey = scan(file.as_bytes(), &requests()).unwrap();
        let told = survey.refuse_duplicates("p").unwrap_err().to_string();
        assert!(
            told.lines().count() < 30 && told.ends_with("and 979 more"),
            "{told}"
        );
    }

    #[cfg(feature = "parallel")]
    #[test]
    fn all_cores_and_one_give_the_same_answer() {
        let mut file = String::new();
        for n in 0..5_000_u32 {
            match n % 97 {
                13 => file.push_str("no request\n"),
                14 => file.push_str("\n\r\n"),
                _ => file.push_str(&row(&(n % 4_900).to_string())),
            }
        }
        let answers = [
            (serial as Look, 1 << 20),
            (parallel, 1 << 20),
            (parallel, 1),
        ]
        .map(|(look, read_ahead)| {
            scan_with(file.as_bytes(), &requests(), read_ahead, look).unwrap()
        });
        assert!(answers[0].rows > 4_000 && answers[0].bad > 40);
        assert!(answers[0].duplicates.len() > 90);
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0], answers[2]);
    }
}
