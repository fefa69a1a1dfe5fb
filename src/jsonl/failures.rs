//! Why rows failed, in groups: failures that are alike but for numbers have one reason.

use std::fmt;

use serde_json::{Value, json};

use super::record::{beginning, is_success};
use crate::api::pattern;
use crate::error::{Error, ErrorKind};
use crate::escape::printable;

/// So many reasons are told apart. A failure for yet another is counted by kind and status alone,
/// so that memory stays bounded and every row is counted.
const MOST: usize = 100;
const LONGEST_MESSAGE: usize = 400;
const LONGEST_ID: usize = 256;

/// One reason for which rows of a run failed, from
/// [`FileProgress::failures`](crate::FileProgress::failures).
///
/// Its rows failed with the same kind, status, code and message. Messages that differ in numbers
/// and ids only are the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailureGroup {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The provider's code, if it gave one.
    pub code: Option<String>,
    /// How many rows failed so.
    pub count: u64,
    /// The provider's words about the first of them, or what came in their place.
    pub message: String,
    /// The line of the first of them in the input, from 1.
    pub line: u64,
    /// The id of the first of them, if the line has one. At most 256 bytes of it.
    pub custom_id: Option<String>,
    is_quote: bool,
    /// Their messages, numbers aside. `None` for the rows whose reasons are not told apart.
    pattern: Option<String>,
}

/// A row that has failed.
pub(super) struct RowFailure {
    pub(super) error: Error,
    pub(super) line: u64,
    pub(super) custom_id: Option<String>,
}

impl RowFailure {
    /// Counts it in its group, or in a new one.
    pub(super) fn count_in(&self, groups: &mut Vec<FailureGroup>) {
        let mut group = self.group();
        let place = |group: &FailureGroup| groups.iter().position(|known| known.is_as(group));
        let mut same = place(&group);
        if same.is_none() && groups.len() >= MOST {
            group = FailureGroup {
                code: None,
                message: "other messages".to_owned(),
                is_quote: false,
                pattern: None,
                ..group
            };
            same = place(&group);
        }
        match same {
            Some(at) => groups[at].add(group),
            None => groups.push(group),
        }
    }

    /// What went wrong, without the number that the message of a bad line begins with.
    pub(super) fn words(&self) -> String {
        let message = self.error.to_string();
        let behind = message.strip_prefix(&format!("line {}: ", self.line));
        behind.map(str::to_owned).unwrap_or(message)
    }

    /// The group that it is the only row of.
    fn group(&self) -> FailureGroup {
        let error = &self.error;
        let status = error.status().map(|status| status.as_u16());
        // What is wrong with a success is in our own words alone.
        let is_refusal = status.is_some_and(|status| !is_success(status));
        let quote = error.quote().filter(|_| is_refusal);
        let message = quote.map_or_else(|| self.words(), str::to_owned);
        let custom_id = self.custom_id.as_deref();
        FailureGroup {
            kind: error.kind(),
            status,
            code: error.code().map(str::to_owned),
            count: 1,
            message: printable(&message, LONGEST_MESSAGE),
            line: self.line,
            custom_id: custom_id.map(|id| beginning(id, LONGEST_ID).to_owned()),
            is_quote: quote.is_some(),
            pattern: Some(pattern(error)),
        }
    }
}

impl FailureGroup {
    /// Rows fail in any order. The first of a group is the one whose line comes first.
    fn add(&mut self, other: Self) {
        let count = self.count + other.count;
        if other.line < self.line {
            *self = other;
        }
        self.count = count;
    }

    fn is_as(&self, other: &Self) -> bool {
        (self.kind, self.status, &self.code, &self.pattern)
            == (other.kind, other.status, &other.code, &other.pattern)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "kind": snake_case(&format!("{:?}", self.kind)),
            "status": self.status,
            "code": self.code,
            "count": self.count,
            "message": self.message,
            "line": self.line,
            "custom_id": self.custom_id,
        })
    }
}

/// `10 x HTTP 400 "no such model" (first: line 3, "r-3")`.
impl fmt::Display for FailureGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x ", self.count)?;
        match self.status {
            Some(status) if self.is_quote => write!(f, "HTTP {status} \"{}\"", self.message)?,
            Some(status) if self.pattern.is_none() => write!(f, "HTTP {status}, {}", self.message)?,
            _ => f.write_str(&self.message)?,
        }
        write!(f, " (first: line {}", self.line)?;
        if let Some(id) = &self.custom_id {
            write!(f, ", {id:?}")?;
        }
        f.write_str(")")
    }
}

/// `RateLimited` as `rate_limited`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: u64, status: u16, quote: &str) -> RowFailure {
        let message = format!("the request is wrong (HTTP {status}): {quote:?}; correct it");
        let error = Error::new(ErrorKind::Invalid, message).with_facts(|facts| {
            facts.status = http::StatusCode::from_u16(status).ok();
            facts.quote = Some(quote.to_owned());
        });
        let custom_id = Some(format!("r-{line}"));
        RowFailure {
            error,
            line,
            custom_id,
        }
    }

    fn groups(rows: impl IntoIterator<Item = RowFailure>) -> Vec<FailureGroup> {
        let mut groups = Vec::new();
        for row in rows {
            row.count_in(&mut groups);
        }
        groups
    }

    fn told(rows: impl IntoIterator<Item = RowFailure>) -> Vec<String> {
        groups(rows).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn messages_that_differ_in_numbers_and_ids_are_one_reason() {
        for (messages, reasons) in [
            (["row 7 of 10 is bad", "row 12 of 10 is bad"], 1),
            (["Invalid model name", "Invalid model name"], 1),
            (["no model gpt-4o", "no model llama"], 2),
            (
                [
                    "(request 8d1f0c77-12ab-4cde-9f00-0123456789ab)",
                    "(request 00c0ffee-99ff-4aaa-8bbb-fedcba987654)",
                ],
                1,
            ),
            (
                [
                    "see req_011CQxYzAbCdEfGhIjKlMn.",
                    "see req_99ZZaaBBccDDeeFFggHHii.",
                ],
                1,
            ),
            (["", "no"], 2),
        ] {
            let rows = messages
                .iter()
                .zip(1..)
                .map(|(message, line)| row(line, 400, message));
            assert_eq!(told(rows).len(), reasons, "{messages:?}");
        }
        let other_status = [row(1, 400, "no"), row(2, 422, "no")];
        assert_eq!(told(other_status).len(), 2);
    }

    #[test]
    fn a_group_is_told_by_its_first_row() {
        let rows = [row(3, 400, "bad value 5"), row(4, 400, "bad value 6")];
        assert_eq!(
            told(rows),
            ["2 x HTTP 400 \"bad value 5\" (first: line 3, \"r-3\")"]
        );
        let rows = [row(3, 400, "bad value 5"), row(2, 400, "bad value 6")];
        assert_eq!(
            told(rows),
            ["2 x HTTP 400 \"bad value 6\" (first: line 2, \"r-2\")"]
        );
        let line = |line| RowFailure {
            error: Error::new(ErrorKind::InvalidLine, format!("line {line}: not JSON")),
            line,
            custom_id: None,
        };
        assert_eq!(told([line(9), line(10)]), ["2 x not JSON (first: line 9)"]);
    }

    #[test]
    fn what_came_in_place_of_an_answer_is_one_reason_whatever_it_says() {
        let page = |line: u64, text: &str| {
            let message =
                format!("the answer is not JSON (HTTP 200): {text:?}; check the base URL");
            let error = Error::new(ErrorKind::Malformed, message).with_facts(|facts| {
                facts.status = Some(http::StatusCode::OK);
                facts.quote = Some(text.to_owned());
            });
            RowFailure {
                error,
                line,
                custom_id: None,
            }
        };
        let rows = [page(1, "Paris."), page(2, "It is London")];
        let expected = "2 x the answer is not JSON (HTTP 200): \"Paris.\"; check the base URL \
                        (first: line 1)";
        assert_eq!(told(rows), [expected]);
    }

    #[test]
    fn however_many_reasons_there_are_memory_is_bounded_and_every_row_is_counted() {
        let letters = |number: u64| format!("{number}").replace(|_: char| true, "x");
        let word = |number: u64| {
            let word: String = number
                .to_string()
                .bytes()
                .map(|digit| char::from(digit + 55))
                .collect();
            format!("bad word {word} {}", letters(number))
        };
        let rows = (0..5_000).map(|line| row(line, 400 + (line % 3) as u16, &word(line)));
        let groups = groups(rows.chain([row(9_000, 400, &word(0))]));
        assert_eq!(groups.len(), MOST + 3);
        assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), 5_001);
        assert_eq!(groups[0].count, 2, "a known reason stays one");
        let told = groups[MOST].to_string();
        assert!(
            told.contains("x HTTP 401, other messages (first: line 100, "),
            "{told}"
        );
    }

    #[test]
    fn kinds_are_written_as_programs_write_them() {
        let json = groups([row(3, 400, "no")])[0].to_json();
        assert_eq!(json["kind"], "invalid");
        assert_eq!(snake_case("RateLimited"), "rate_limited");
    }
}
