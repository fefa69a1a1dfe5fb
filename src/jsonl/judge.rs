//! An input of which no line, or nearly none, is a request: refused as a whole, with what it seems
//! to be. One sentence says more than a million failed rows.

use std::io::{self, Read};

use serde::de::IgnoredAny;

use super::files::Location;
use super::format::{Format, LineError};
use super::lines::{Line, Lines, PREVIEW};
use crate::api::json::fields;
use crate::error::{Error, Result, config};

/// How many lines are looked at.
const MOST_LINES: u64 = 1_000;
/// From so many lines on, one request in [`ONE_IN`] lines is enough; of fewer, one at all.
const FEW_LINES: u64 = 10;
const ONE_IN: u64 = 10;

/// Why an input is refused.
pub(super) struct Refusal {
    /// What it seems to be, and what to do.
    message: String,
    settings: &'static [&'static str],
}

impl Refusal {
    /// For a report of the tool, without an input's name.
    #[cfg(feature = "cli")]
    pub(super) fn for_report(self) -> String {
        let flags = self
            .settings
            .iter()
            .map(|setting| format!(" (--{setting})"));
        self.message + &flags.collect::<String>()
    }

    fn of_input(self, location: &Location) -> Error {
        config(format!("input {location} {}", self.message)).with_settings(self.settings)
    }
}

/// Looks at the start of a file.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if it does not seem to hold requests, and those of
/// [`Location::unreadable`].
pub(super) fn judge_file<R: Read>(
    mut lines: Lines<R>,
    location: &Location,
    format: &Format,
) -> Result<()> {
    let mut judge = Judge::new(format);
    while judge.wants_more()
        && let Some(line) = lines.next().map_err(|error| location.unreadable(error))?
    {
        judge.note(line);
    }
    refuse(judge.refusal(), location)
}

/// Looks at the start of a stream, which is kept to be read. A stream that stalls is not waited for
/// once there are enough requests in what has come.
///
/// # Errors
/// Those of [`judge_file`].
pub(super) fn judge_stream<R: Read>(
    lines: &mut Lines<R>,
    location: &Location,
    format: &Format,
) -> Result<()> {
    let preview = preview(lines, format).map_err(|error| location.unreadable(error))?;
    refuse(preview, location)
}

fn refuse(refusal: Option<Refusal>, location: &Location) -> Result<()> {
    refusal.map_or(Ok(()), |refusal| Err(refusal.of_input(location)))
}

/// As [`judge_stream`], without an input's name.
pub(super) fn preview<R: Read>(
    lines: &mut Lines<R>,
    format: &Format,
) -> io::Result<Option<Refusal>> {
    let mut judge = Judge::new(format);
    if !judge.wants_more() {
        return Ok(None);
    }
    let (mut judged, mut before) = (0, 0);
    lines
        .preview(|start, at_end| {
            let whole = match start.iter().rposition(|byte| *byte == b'\n') {
                _ if at_end => start.len(),
                Some(last) => last + 1,
                None => 0,
            };
            if whole > judged {
                let mut more = Lines::of_anything(&start[judged..whole], 2 * PREVIEW);
                while judge.wants_more()
                    && let Ok(Some(line)) = more.next()
                {
                    let number = before + line.number;
                    judge.note(Line { number, ..line });
                }
                before += more.number;
                judged = whole;
            }
            !judge.wants_more() || (judge.lines > 0 && judge.refusal().is_none())
        })
        .map(|start| {
            // No line has ended: it is long, or its ends are none.
            if judge.lines == 0 && ends_in_cr(start) {
                return Some(told("", OLD_MAC));
            }
            judge.refusal()
        })
}

struct Judge<'f> {
    format: &'f Format,
    lines: u64,
    requests: u64,
    /// The first line that is no request: its number, what is wrong, and what the file seems to be.
    first: Option<(u64, LineError, Seems)>,
}

impl<'f> Judge<'f> {
    fn new(format: &'f Format) -> Self {
        Self {
            format,
            lines: 0,
            requests: 0,
            first: None,
        }
    }

    /// Any line is a prompt.
    fn wants_more(&self) -> bool {
        self.format.prompts.is_none()
            && self.lines < MOST_LINES
            && self.requests < MOST_LINES / ONE_IN
    }

    fn note(&mut self, line: Line<&[u8]>) {
        self.lines += 1;
        match self.format.parse(line).request {
            Ok(_) => self.requests += 1,
            Err(error) if self.first.is_none() => {
                let seems = seems(line.text.unwrap_or_default().trim_ascii(), &error);
                self.first = Some((line.number, error, seems));
            }
            Err(_) => {}
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        let (requests, lines) = (self.requests, self.lines);
        let are_enough = if lines < FEW_LINES {
            requests > 0
        } else {
            requests >= lines.div_ceil(ONE_IN)
        };
        let (number, error, seems) = self.first.as_ref().filter(|_| !are_enough)?;
        let of = match (requests, lines) {
            (0, 1) => "its first line is no request".to_owned(),
            (0, _) => format!("none of its first {lines} lines is a request"),
            (1, _) => format!("only one of its first {lines} lines is a request"),
            _ => format!("only {requests} of its first {lines} lines are requests"),
        };
        let why = format!(": {of} (line {number}: {})", error.message);
        Some(told(&why, *seems))
    }
}

fn told(why: &str, seems: Seems) -> Refusal {
    let Seems { what, next } = seems;
    Refusal {
        message: format!("seems to be {what}{why}; {next}"),
        settings: if next == PROMPTS { &["prompts"] } else { &[] },
    }
}

/// What an input seems to be, and what to do then.
#[derive(Clone, Copy)]
struct Seems {
    what: &'static str,
    next: &'static str,
}

const OLD_MAC: Seems = Seems {
    what: "lines that end in CR alone, as old Macs wrote them",
    next: "end them in LF, as `tr '\\r' '\\n'` does",
};
const PROMPTS: &str = "if each line is a prompt, say so";

/// What a file seems to be whose first line is this, which is no request.
fn seems(line: &[u8], error: &LineError) -> Seems {
    let text = &*String::from_utf8_lossy(line);
    let parsed = serde_json::from_str::<IgnoredAny>(text);
    let (what, next) = match &parsed {
        Ok(_) => return seems_json(text, error),
        Err(_) if ends_in_cr(line) => return OLD_MAC,
        Err(error) if text.starts_with(['{', '[']) && error.is_eof() => (
            "pretty-printed JSON, with objects over several lines",
            "put each object on one line, as `jq -c .` does",
        ),
        Err(_) if is_json(text.trim_end().trim_end_matches(',')) => (
            "JSON lines with a comma at the end of each",
            "remove the commas",
        ),
        Err(_) if text.starts_with("{'") => (
            "Python dictionaries",
            "write each as JSON, as `json.dumps` does",
        ),
        Err(_) if is_several(text) => (
            "several JSON objects in a line",
            "put each on a line of its own",
        ),
        Err(_) if text.starts_with(['{', '}', '[', ']', '"']) => {
            ("JSON with mistakes", "write one JSON object a line")
        }
        Err(_) if text.starts_with('<') => ("HTML or XML", "write one JSON object a line"),
        Err(_) if has_columns(line) => ("CSV", "write each row as one JSON object a line"),
        Err(_) => ("plain text", PROMPTS),
    };
    Seems { what, next }
}

/// The same for JSON.
fn seems_json(text: &str, error: &LineError) -> Seems {
    const RESULTS: [&str; 3] = ["response", "result", "error"];
    const BODIES: [&str; 4] = ["messages", "prompt", "input", "contents"];
    let has = |names: [Option<_>; 4]| names.iter().any(Option::is_some);
    let [response, result, failure] =
        fields(text, &RESULTS).map_or([None; 3], |found| found.values);
    let bodies = fields(text, &BODIES).map_or([None; 4], |found| found.values);
    let (what, next) = match error.kind {
        "missing_field" | "custom_id" if has([response, result, failure, None]) => (
            "results, not requests",
            "give the file of requests that they answer",
        ),
        "missing_field" | "custom_id" if has(bodies) => (
            "bodies of requests on their own",
            "put each into {\"custom_id\": .., \"body\": ..}",
        ),
        "missing_field" | "custom_id" | "not_an_object" => (
            "JSON of another kind",
            "each line needs a \"custom_id\" and a \"body\"",
        ),
        _ => ("requests that cannot be sent", "correct them"),
    };
    Seems { what, next }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn is_several(text: &str) -> bool {
    let values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.take(2).flatten().count() == 2
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
