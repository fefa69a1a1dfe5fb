//! The rows of a run: read lazily from the input, and the job that each of them is.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::Read;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::vec;

use http::StatusCode;

use super::array::ArrayAsLines;
use super::files::Location;
use super::format::{Dialect, Format, InputRow};
use super::hash::LineHash;
use super::ids::{IdTable, Occurrences, quoted};
use super::journal::{ResumeIndex, RowStatus};
use super::judge;
use super::lines::Lines;
use super::scan::{RowFacts, strangers};
use super::tally::Tally;
use crate::api::{ApiJob, AttemptError, Endpoint, Reply, Request};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::Job;
use crate::retry::Verdict;

const CHANGED: &str = "was answered as another request: give it another id, or keep the old answer \
                       (`force_resume`)";

/// So many rows at most are put off to the end.
const MOST_LATER: usize = 1024;

/// One row of the input, on its way through the engine.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) custom_id: Option<String>,
    /// The hash of its id.
    pub(super) id: Option<LineHash>,
    pub(super) dialect: Dialect,
    pub(super) hash: Option<LineHash>,
    /// What to send, or why there is nothing to send.
    request: Result<Request>,
}

/// `line 3 ("r-3")`, as messages and the log name a row.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.number)?;
        match &self.custom_id {
            Some(id) => write!(f, " ({})", quoted(id)),
            None => Ok(()),
        }
    }
}

impl Row {
    fn new(row: InputRow<'_>, id: Option<LineHash>) -> Self {
        let number = row.number;
        Self {
            number,
            id,
            custom_id: row.custom_id,
            dialect: row.dialect,
            hash: row.hash,
            request: (row.request)
                .map(|request| Request::post(request.path.into_owned(), request.body.into_owned()))
                .map_err(|error| bad_line(number, &error.message)),
        }
    }

    fn request(&self) -> Result<Cow<'_, Request>> {
        let request = self.request.as_ref();
        request.map(Cow::Borrowed).map_err(Error::clone)
    }

    /// The same row, which cannot be sent as its id is taken. Its record goes without the id: under
    /// it, the record would be taken for that of the other row.
    fn refused(self, why: &str) -> Self {
        let id = self.custom_id.unwrap_or_default();
        Self {
            custom_id: None,
            id: None,
            hash: None,
            request: Err(bad_line(
                self.number,
                &format!("\"custom_id\" {id:?} {why}"),
            )),
            ..self
        }
    }
}

fn bad_line(number: u64, why: &str) -> Error {
    Error::new(ErrorKind::InvalidLine, format!("line {number}: {why}"))
}

/// Sends rows. A bad line fails before the limiter.
pub(super) fn send_rows(
    endpoint: &Arc<Endpoint>,
    tally: Arc<Tally>,
    additions: Vec<String>,
) -> impl Job<Input = Row, Output = Reply, Error = AttemptError> + use<> {
    let has_succeeded = AtomicBool::new(false);
    if tally.needs_estimates() {
        endpoint.always_learn();
    }
    let estimates = Arc::clone(endpoint);
    // Spending is counted while the permit is still held, so no further request is sent before.
    ApiJob::new(
        endpoint,
        |endpoint: &Endpoint, row: &Row| row.request().map(|request| endpoint.reserve(&request)),
        Row::request,
    )
    .named(|row: &Row| format!("{row}, "))
    .on_attempt(move |row, outcome, attempt| {
        let is_spent = match outcome {
            Ok(reply) => {
                has_succeeded.store(true, Ordering::Relaxed);
                tally.spend(reply.usage())
            }
            Err(failed) => {
                if !has_succeeded.load(Ordering::Relaxed) {
                    stop_if_refused(&additions, failed);
                }
                if failed.usage.is_some() {
                    tally.spend(failed.usage)
                } else if failed.error.possibly_billed() {
                    let request = row.request();
                    request.is_ok_and(|request| tally.may_have_spent(&estimates.expected(&request)))
                } else {
                    false
                }
            }
        };
        if is_spent {
            attempt.cancel.cancel();
        }
    })
}

/// The input as an iterator of rows, for the thread that pulls it.
pub(super) struct Rows {
    pub(super) location: Location,
    pub(super) lines: Lines<ArrayAsLines<Box<dyn Read + Send>>>,
    pub(super) format: Format,
    pub(super) index: Arc<ResumeIndex>,
    /// Checked once a line: one pull may skip a million rows that are done.
    pub(super) cancel: Cancel,
    /// The line numbers of the rows so far, where the order of all rows is asked for.
    pub(super) order: Option<Vec<(LineHash, u64)>>,
    pub(super) tally: Arc<Tally>,
    /// Ids read so far of a stream, with their lines. A file has been scanned for duplicates.
    pub(super) seen: Option<HashMap<LineHash, u64>>,
    /// Rows that are sent when all others have been.
    pub(super) later: VecDeque<Row>,
    /// Lines that the scan has found to be done, which need not be parsed.
    pub(super) passed_over: Peekable<vec::IntoIter<Range<u64>>>,
    /// Names the rows, where they are named by their requests.
    pub(super) occurrences: Option<Occurrences>,
}

impl Rows {
    fn pull(&mut self) -> Result<Option<Row>> {
        let unreadable = |error| self.location.unreadable(error);
        let is_stream = self.seen.is_some();
        // Of a stream nobody has seen yet that it holds requests.
        if is_stream && self.lines.number == 0 {
            judge::check(
                &mut self.lines,
                &self.format,
                judge::OF_STREAM,
                &self.location,
            )?;
        }
        while !self.cancel.is_cancelled() {
            let Some(line) = self.lines.next().map_err(unreadable)? else {
                let order = self.order.take().map(IdTable::new);
                self.tally.input(|input| {
                    input.order = order.or_else(|| input.order.take());
                    input.at_end = true;
                });
                return Ok(self.later.pop_front());
            };
            let number = line.number;
            let passed = &mut self.passed_over;
            while passed.next_if(|lines| lines.end <= number).is_some() {}
            // The order needs the id of every row, and so does the name of one that comes again.
            let no_id_counts = self.occurrences.as_ref().is_none_or(Occurrences::are_none);
            let count = || self.tally.count(|shown| shown.read += 1);
            if self.order.is_none()
                && no_id_counts
                && passed.peek().is_some_and(|lines| lines.contains(&number))
            {
                count();
                continue;
            }
            let mut row = self.format.parse(line);
            if let Some(occurrences) = &mut self.occurrences {
                occurrences.name(&mut row);
            }
            let facts = RowFacts::of(&row, &self.format, &self.index);
            let row = Row::new(row, facts.id);
            if facts.is_elsewhere {
                // Of a file, the scan has said it.
                if is_stream && facts.status != RowStatus::ToDo {
                    return Err(strangers(&self.location, &self.format, &row.to_string()));
                }
                continue;
            }
            count();
            let Some(id) = row.id else {
                return Ok(Some(row));
            };
            if let Some(seen) = &mut self.seen
                && let first = *seen.entry(id).or_insert(number)
                && first != number
            {
                let why = format!("is that of line {first}, too");
                return Ok(Some(row.refused(&why)));
            }
            if let Some(order) = &mut self.order {
                order.push((id, row.number));
            }
            match facts.status {
                // Of more than this, the others are sent in their turn: memory stays bounded.
                RowStatus::ToDoLast if self.later.len() < MOST_LATER => self.later.push_back(row),
                RowStatus::ToDo | RowStatus::ToDoLast => return Ok(Some(row)),
                // A file is refused for it. Of a stream, the rows before it are already paid for.
                RowStatus::Changed => return Ok(Some(row.refused(CHANGED))),
                RowStatus::Done if is_stream => self.tally.count(|shown| shown.skipped += 1),
                RowStatus::Failed if is_stream => self.tally.failed_before(row.request.is_ok()),
                // The scan has counted them.
                RowStatus::Done | RowStatus::Failed => {}
            }
        }
        Ok(None)
    }
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.pull().unwrap_or_else(|error| {
            self.tally.input(|input| input.failure = Some(error));
            None
        })
    }
}

/// Makes a failure stop the run if the answer refuses one of `additions`, the fields that all
/// requests are sent with: no other row would fare better.
fn stop_if_refused(additions: &[String], failed: &mut AttemptError) {
    let error = &failed.error;
    let body = String::from_utf8_lossy(error.body().unwrap_or_default()).to_lowercase();
    let is_refusal = matches!(
        error.status(),
        Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
    );
    let fields = additions.iter().map(String::as_str);
    let Some(field) = refused(&body, fields).filter(|_| is_refusal) else {
        return;
    };
    let message = format!("the model refuses {field}, which all requests are sent with: {error}");
    let settings: &[_] = match field {
        "max_tokens" => &["max_tokens", "param"],
        "system" => &["system"],
        _ => &["param"],
    };
    failed.verdict = Verdict::Stop;
    failed.error = Error::new(error.kind(), message)
        .with_source(error.clone())
        .with_settings(settings);
}

/// The one of `fields` that a refusal in lower case is about: the `param` it names, or else the
/// first in its text if that says of something that it is not taken. What one row alone is refused
/// for is neither.
fn refused<'f>(refusal: &str, fields: impl Iterator<Item = &'f str> + Clone) -> Option<&'f str> {
    const NOT_TAKEN: &str = "unsupported|not support|n't support|unknown|unrecognized|unexpected|\
                             not permitted|not allowed|not accept|invalid param";
    let refusal = refusal.replace(r"\n", " ");
    let words = refusal.split(|c: char| !c.is_alphanumeric() && c != '_');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    // How long an answer may be depends on the prompt as well.
    if words.contains(&"context") {
        return None;
    }
    let is_param = |field: &&str| {
        let named = ["param", &field.to_lowercase()];
        words.windows(2).any(|pair| pair == named)
    };
    let is_refusal = NOT_TAKEN.split('|').any(|words| refusal.contains(words));
    let place = |field: &str| words.iter().position(|word| *word == field.to_lowercase());
    fields.clone().find(is_param).or_else(|| {
        let named = fields.filter_map(|field| Some((place(field)?, field)));
        named.filter(|_| is_refusal).min().map(|(_, field)| field)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonl::scan::InputScan;
    use crate::jsonl::tally::SpendLimits;
    use std::mem;
    use std::time::Instant;

    fn rows(input: &'static str, cancel: &Cancel, scan: Option<InputScan>) -> (Rows, Arc<Tally>) {
        let limits = SpendLimits::default();
        let tally = Arc::new(Tally::new(limits, scan.as_ref(), None, Instant::now()));
        let rows = Rows {
            location: Location::Stream,
            lines: Format::default().lines(Box::new(input.as_bytes())),
            format: Format::default(),
            index: Arc::new(ResumeIndex::default()),
            cancel: cancel.clone(),
            order: None,
            tally: Arc::clone(&tally),
            seen: scan.is_none().then(HashMap::new),
            later: VecDeque::new(),
            passed_over: scan.unwrap_or_default().passed_over.into_iter().peekable(),
            occurrences: None,
        };
        (rows, tally)
    }

    const THREE: &str = "{\"custom_id\":\"a\",\"body\":{}}\n\n{\"custom_id\":\"b\",\"body\":{}}\n{\"custom_id\":\"a\",\"body\":{}}\n";

    fn read(tally: &Tally) -> u64 {
        let mut read = 0;
        tally.count(|shown| read = shown.read);
        read
    }

    #[test]
    fn no_line_is_read_after_a_cancel() {
        let cancel = Cancel::new();
        let (mut rows, tally) = rows(THREE, &cancel, None);
        assert!(rows.next().is_some());
        cancel.cancel();
        assert!(rows.next().is_none());
        let input = tally.input(mem::take);
        assert_eq!((read(&tally), input.at_end), (1, false));
        assert!(input.failure.is_none());
    }

    #[test]
    fn lines_that_somebody_has_looked_at_are_counted_and_not_read_again() {
        let scan = InputScan {
            done: 2,
            passed_over: vec![1..2, 4..5],
            ..InputScan::default()
        };
        let (rows, tally) = rows(THREE, &Cancel::new(), Some(scan));
        let ids: Vec<_> = rows.filter_map(|row| row.custom_id).collect();
        assert_eq!(ids, ["b"]);
        let input = tally.input(mem::take);
        assert_eq!((read(&tally), input.at_end), (3, true));
    }

    #[test]
    fn on_a_stream_the_later_line_of_an_id_is_no_request() {
        let (rows, _) = rows(THREE, &Cancel::new(), None);
        let wrong: Vec<_> = rows.map(|row| row.request.err()).collect();
        let [None, None, Some(error)] = &wrong[..] else {
            panic!("{wrong:?}");
        };
        let told = error.to_string();
        assert!(
            told.contains("line 4: \"custom_id\" \"a\" is that of line 1"),
            "{told}"
        );
    }

    #[test]
    fn a_refused_field_is_found_and_nothing_else() {
        let fields = ["max_tokens", "n", "temperature"];
        for (refusal, field) in [
            (
                "unsupported parameter: 'max_tokens' is not supported with this model. use \
                 'max_completion_tokens' instead.",
                Some("max_tokens"),
            ),
            (
                "unsupported value: 'temperature' does not support 0.2 with this model.",
                Some("temperature"),
            ),
            ("unknown parameter: 'n'", Some("n")),
            (
                "body.temperature: extra inputs are not permitted",
                Some("temperature"),
            ),
            ("unknown parameter: 'top_k'", None),
            ("'max_completion_tokens' is not supported", None),
            ("max_tokens is too large", None),
            (
                r#"{"error":{"message":"invalid value: 'x'", "param": "n"}}"#,
                Some("n"),
            ),
            (
                r#"{"message":"the maximum context length is 4096, unsupported","param":"max_tokens"}"#,
                None,
            ),
            (
                "gpt-5 models don't support temperature=0.2",
                Some("temperature"),
            ),
            // What one prompt is refused for, with the fields of each of OpenAI's errors.
            (
                r#"{"error":{"message":"this prompt is too long for this model: shorten it or lower max_tokens","type":"invalid_request_error","param":null,"code":null}}"#,
                None,
            ),
            (
                r#"{"error":{"message":"the n may not be asked about this","param":"messages[1].content"}}"#,
                None,
            ),
            (r#"{"message":"unsupported image.\n\nuse png."}"#, None),
            ("", None),
        ] {
            assert_eq!(refused(refusal, fields.into_iter()), field, "{refusal}");
        }
    }
}
