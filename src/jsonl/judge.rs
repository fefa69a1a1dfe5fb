//! An input of which no line, or nearly none, is a request: refused as a whole, with what it seems
//! to be. One sentence says more than a million failed rows.

use std::borrow::Cow;
use std::io::{self, Read};

use serde::de::IgnoredAny;

use super::files::Location;
use super::format::{Format, LineError};
use super::lines::{Line, Lines, MAX_LINE};
use crate::api::json::{fields, with_nulls};
use crate::error::{Result, config};

/// How many lines are looked at.
const MOST_LINES: u64 = 1_000;
/// From this many lines on, one request in [`ONE_IN`] lines is enough. A shorter input needs one in
/// all.
const FEW_LINES: u64 = 10;
const ONE_IN: u64 = 10;

/// How much of an input is looked at, in bytes: of a file, and of a stream, which may stall.
pub(super) const OF_FILE: usize = 8 << 20;
pub(super) const OF_STREAM: usize = 64 << 10;

/// Looks at the start of an input, of which `most` bytes are kept to be read.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for an input that is refused, and those of
/// [`Location::unreadable`].
pub(super) fn check<R: Read>(
    lines: &mut Lines<R>,
    format: &Format,
    most: usize,
    location: &Location,
) -> Result<()> {
    match refusal(lines, format, most).map_err(|error| location.unreadable(error))? {
        Some(refusal) => Err(config(format!("input {location} {refusal}"))),
        None => Ok(()),
    }
}

/// What an input seems to be that is to be refused, and what to do. An input that stalls is not
/// waited for once there are enough requests in what has come.
///
/// # Errors
/// Those of [`Lines::next`].
pub(super) fn refusal<R: Read>(
    lines: &mut Lines<R>,
    format: &Format,
    most: usize,
) -> io::Result<Option<String>> {
    let mut judge = Judge::default();
    let start = lines.preview(most, |start, at_end| {
        judge = Judge::of(start, at_end, format);
        !judge.wants_more(format) || (judge.lines > 0 && judge.has_enough())
    })?;
    // No line has ended: it is long, or its ends are none.
    if judge.lines == 0 && ends_in_cr(start) {
        return Ok(Some(format!("seems to be {OLD_MAC}")));
    }
    Ok(judge.refusal())
}

#[derive(Default)]
struct Judge {
    /// The lines are all there are.
    at_end: bool,
    lines: u64,
    requests: u64,
    /// Of the first line that is no request: its number, what is wrong, what the file seems to be.
    first: Option<(u64, Cow<'static, str>, Seems)>,
}

impl Judge {
    /// Looks at the whole lines that an input starts with, as far as it needs them.
    fn of(start: &[u8], at_end: bool, format: &Format) -> Self {
        let last_end = start.iter().rposition(|byte| *byte == b'\n');
        let ended = last_end.map_or(0, |last| last + 1);
        let whole = if at_end { start } else { &start[..ended] };
        let mut lines = Lines::of_anything(whole, MAX_LINE).of_table(format.record_ends());
        let mut judge = Self {
            at_end,
            ..Self::default()
        };
        while judge.wants_more(format)
            && let Ok(Some(line)) = lines.next()
        {
            judge.note(line, format);
        }
        judge
    }

    fn wants_more(&self, format: &Format) -> bool {
        // Any line is a prompt.
        let prompts = format.prompts.as_ref();
        let enough = prompts.map_or(MOST_LINES / ONE_IN, |_| 1);
        self.lines < MOST_LINES && self.requests < enough
    }

    fn note(&mut self, line: Line<&[u8]>, format: &Format) {
        let text = line.text.unwrap_or_default().trim_ascii();
        let (message, seems) = match format.parse(line).request {
            // A file of prompts that is one line in all.
            Ok(_) if format.prompts.is_some() && !line.ended && ends_in_cr(text) => {
                ("it has no LF".into(), OLD_MAC)
            }
            Ok(_) => {
                self.lines += 1;
                self.requests += 1;
                return;
            }
            // More of this row may be to come.
            Err(error) if error.kind == "open_quote" => return,
            Err(error) => {
                let seems = match error.kind {
                    "cells" => MISFIT,
                    "template" | "custom_id" if format.rows.is_some() => UNFIT,
                    _ => seems(text, &error),
                };
                (error.message, seems)
            }
        };
        self.lines += 1;
        self.first.get_or_insert((line.number, message, seems));
    }

    /// Whether there are enough requests for so many lines.
    fn has_enough(&self) -> bool {
        let least = match (self.lines, &self.first) {
            (_, None) => 0,
            // Behind the last line no comma is needed.
            (lines, Some((.., seems))) if *seems == COMMAS => 2.max(lines.div_ceil(ONE_IN)),
            (..FEW_LINES, _) => 1,
            (lines, _) => lines.div_ceil(ONE_IN),
        };
        self.requests >= least
    }

    fn refusal(&self) -> Option<String> {
        let (requests, lines) = (self.requests, self.lines);
        let (number, message, seems) = self.first.as_ref()?;
        // A few long lines say nothing of those behind them.
        let says_nothing = lines < FEW_LINES && !self.at_end;
        if self.has_enough() || says_nothing {
            return None;
        }
        let few = match requests {
            0 if lines == 1 => "its first line is no request".to_owned(),
            0 => format!("none of its first {lines} lines is a request"),
            _ => format!("of its first {lines} lines only {requests} can be sent"),
        };
        Some(format!(
            "seems to be {seems} ({few}; line {number}: {message})"
        ))
    }
}

/// What an input seems to be, and what to do then.
type Seems = &'static str;

const OLD_MAC: Seems = "lines that end in CR alone, as old Macs wrote them: end them in LF, as \
                        `tr '\\r' '\\n'` does";
const PRETTY: Seems = "pretty-printed JSON, with objects over several lines: put each object on one \
                       line, as `jq -c .` does";
const COMMAS: Seems = "JSON lines with a comma at the end of each: remove the commas";

const CSV: Seems = "CSV: say what to ask of each row (`prompt`)";

const MISFIT: Seems = "a table whose rows do not fit its header: correct it, or name what separates \
                       the cells (`delimiter`)";
const UNFIT: Seems = "rows that the template does not fit: correct the template or the rows";

/// What a file seems to be whose first line that is no request is this.
fn seems(line: &[u8], error: &LineError) -> Seems {
    let text = &*String::from_utf8_lossy(line);
    let text = &*with_nulls(text).map_or(Cow::Borrowed(text), Cow::Owned);
    let is_json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
    match serde_json::from_str::<IgnoredAny>(text) {
        _ if error.kind == "not_utf8" => {
            "text in another encoding than UTF-8: convert it, as `iconv` does"
        }
        Ok(_) => seems_json(text, error.kind),
        Err(_) if ends_in_cr(line) => OLD_MAC,
        Err(error) if text.starts_with(['{', '[']) && error.is_eof() => PRETTY,
        Err(_) if text.strip_suffix(',').is_some_and(is_json) => COMMAS,
        Err(_) if text.starts_with("{'") => "Python dictionaries: write JSON, as `json.dumps` does",
        // Quoted cells, and not the fields of an object.
        Err(_) if text.starts_with('"') && has_columns(line) && !text.contains("\":") => CSV,
        Err(_) if text.starts_with(['{', '}', '[', ']', '"']) => {
            "JSON with mistakes: write one JSON object a line"
        }
        Err(_) if text.starts_with('<') => "HTML or XML: write one JSON object a line",
        Err(_) if has_columns(line) => CSV,
        Err(_) => "plain text: if each line is a prompt, say so (`prompts`)",
    }
}

/// The same for a line of JSON, of whose mistake this is the kind.
fn seems_json(text: &str, mistake: &str) -> Seems {
    if has(text, &["response", "result", "error"]) {
        "results, not requests: give the file that they answer"
    } else if !["missing_field", "custom_id", "not_an_object"].contains(&mistake) {
        "requests that cannot be sent: correct them"
    } else if has(text, &["messages", "prompt", "input", "contents"]) {
        "bodies of requests alone: put each into {\"custom_id\": .., \"body\": ..}"
    } else {
        "JSON of another kind: each line needs a \"custom_id\" and a \"body\", or else say what to \
         ask of each (`prompt`)"
    }
}

fn has<const N: usize>(text: &str, names: &[&'static str; N]) -> bool {
    fields(text, names).is_ok_and(|found| found.values.iter().any(Option::is_some))
}

/// Whether there is a CR between objects or lines of text, and no LF where there could be one.
fn ends_in_cr(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    text.contains(&b'\r') && !text.contains(&b'\n')
}

/// Whether there is a separator without a blank behind it, as in no sentence.
fn has_columns(line: &[u8]) -> bool {
    let is_separator = |pair: &[u8]| matches!(pair[0], b',' | b';' | b'|') && pair[1] != b' ';
    line.contains(&b'\t') || line.windows(2).any(is_separator)
}
