//! The answers in the files of runs, or in batch outputs of other tools, found by their ids.
//!
//! The files are read once for an index of 24 bytes a row, then line by line as rows are asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use super::hash::LineHash;
use super::ids::IdTable;
use super::io::{LineSource, failed};
use super::journal::fold_file;
use super::lines::Line;
use super::readback::{ReadRecord, kept_text};
use super::record::beginning;
use crate::api::json::{first_fields, members, says_something, string, with_nulls};
use crate::api::{Content, ErrorBody, Usage};
use crate::cancel::Cancel;
use crate::error::Result;

/// The most of an error to tell, in bytes.
const LONGEST_ERROR: usize = 2 << 10;

/// What a record says to a person.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) custom_id: Option<String>,
    /// The answer's text. If it has none: its tool calls, or the JSON of the whole response, as
    /// with an embedding. `None` if the row has failed.
    pub(crate) text: Option<String>,
    /// The model has written the text, and not a provider the response around it.
    pub(crate) is_written: bool,
    pub(crate) finish_reason: Option<String>,
    pub(crate) usage: Option<Usage>,
    /// Why the row has failed.
    pub(crate) error: Option<String>,
}

impl Answer {
    /// Reads a line that has been [parsed](ReadRecord::parse), and was an answer or was none.
    fn read(line: &str, is_answer: bool) -> Self {
        const NAMES: [&str; 4] = ["custom_id", "response", "error", "result"];
        let mended = with_nulls(line);
        let line = mended.as_deref().unwrap_or(line);
        let [custom_id, response, error, result] = first_fields(line, &NAMES);
        let mut answer = Self {
            custom_id: custom_id.and_then(string),
            ..Self::default()
        };
        if !is_answer {
            answer.error = Some(why_failed(response, error, result));
            return answer;
        }
        let [message] = members(result, &["message"]);
        let body = message.or_else(|| members(response, &["body"])[0]);
        // Some tools keep it as a string.
        let body = kept_text(body, false);
        let [usage] = first_fields(&body, &["usage"]);
        answer.usage = usage.and_then(|usage| Usage::read(usage.get()));
        let content = Content::read(body.as_bytes());
        answer.finish_reason = content.finish_reason;
        answer.is_written = content.text.is_some();
        answer.text = content
            .text
            .or_else(|| Some(without_text(&body).to_owned()));
        answer
    }
}

/// What a response without a text holds: the tool calls of a chat, the blocks of a message, the
/// items of OpenAI's responses, and all of anything else.
fn without_text(body: &str) -> &str {
    let [choices, content, output] = first_fields(body, &["choices", "content", "output"]);
    let choices =
        choices.and_then(|choices| serde_json::from_str::<Vec<&RawValue>>(choices.get()).ok());
    let first = choices.and_then(|choices| choices.first().copied());
    let [message] = members(first, &["message"]);
    let [calls] = members(message, &["tool_calls"]);
    let parts = [calls, content, output]
        .into_iter()
        .flatten()
        .map(RawValue::get);
    let mut told = parts.filter(|part| part.starts_with('[') && *part != "[]");
    told.next().unwrap_or(body)
}

/// What the record of a failure says, in a line or two: `HTTP 400: no such model`.
fn why_failed(
    response: Option<&RawValue>,
    error: Option<&RawValue>,
    result: Option<&RawValue>,
) -> String {
    let [status, body] = members(response, &["status_code", "body"]);
    let [kind, failure] = members(result, &["type", "error"]);
    let told = match (error.filter(|error| says_something(error.get())), failure) {
        (Some(error), _) => ErrorBody::read_error(error.get()),
        (None, Some(failure)) => ErrorBody::read(failure.get().as_bytes()),
        (None, None) => ErrorBody::read(kept_text(body, true).as_bytes()),
    };
    let mut words = beginning(&told.message, LONGEST_ERROR).to_owned();
    if words.is_empty() {
        words = told
            .code
            .or_else(|| kind.and_then(string))
            .unwrap_or_default();
    }
    let status = status.map(|status| status.get().trim_matches('"'));
    match status.filter(|status| !matches!(*status, "200" | "0" | "null")) {
        Some(status) if words.is_empty() => format!("HTTP {status}"),
        Some(status) => format!("HTTP {status}: {words}"),
        None if words.is_empty() => "no answer".to_owned(),
        None => words,
    }
}

/// Where a record is, and what it is, from the highest bit to the lowest: whether it is an answer,
/// the number of its file (16 bits), the offset of its line, and whether it has been taken. Of an
/// id the highest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordPosition(u64);

impl RecordPosition {
    const ANSWER: u64 = 1 << 63;
    const FILE: u32 = 47;
    #[cfg(feature = "cli")]
    const TAKEN: u64 = 1;

    fn new(file: u64, offset: u64, is_answer: bool) -> Self {
        let answer = if is_answer { Self::ANSWER } else { 0 };
        Self(answer | file << Self::FILE | offset << 1)
    }

    pub(super) fn file(self) -> usize {
        usize::try_from(self.in_files() >> Self::FILE).unwrap_or(usize::MAX)
    }

    pub(super) fn offset(self) -> u64 {
        (self.0 & ((1 << Self::FILE) - 1)) >> 1
    }

    pub(super) fn is_answer(self) -> bool {
        self.0 & Self::ANSWER != 0
    }

    #[cfg(feature = "cli")]
    pub(super) fn is_taken(self) -> bool {
        self.0 & Self::TAKEN != 0
    }

    /// The order of the files and their lines.
    pub(super) fn in_files(self) -> u64 {
        self.0 & !Self::ANSWER
    }
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
    /// Where the answers of the first few are, in the order of the files.
    pub(crate) first: BTreeMap<u64, Vec<RecordPosition>>,
}

impl Repeated {
    /// How many ids are kept.
    const KEPT: usize = 5;

    fn note(&mut self, mut answers: Vec<RecordPosition>) {
        answers.sort_unstable();
        self.ids += 1;
        self.first.insert(answers[0].in_files(), answers);
        if self.first.len() > Self::KEPT {
            self.first.pop_last();
        }
    }
}

/// The records that count: of each id the last answer, or the last failure if there is none.
pub(crate) struct Answers {
    pub(crate) files: Vec<RecordSource>,
    places: IdTable<RecordPosition>,
    pub(crate) repeated: Repeated,
    line: Vec<u8>,
}

impl Answers {
    /// The most files.
    #[cfg(feature = "cli")]
    pub(crate) const MOST_FILES: usize = 1 << 16;

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
        let mut entries = Vec::new();
        let mut answers = Self {
            files: Vec::new(),
            places: IdTable::default(),
            repeated: Repeated::default(),
            line: Vec::new(),
        };
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
            let indexed = |line: Line<&[u8]>| Indexed::read(line, number);
            fold_file(path, cancel, indexed, |line| {
                let Some((id, place, simulated)) = line.record else {
                    if line.ended {
                        source.damaged += 1;
                        source.first_damaged.get_or_insert(line.number);
                    } else {
                        source.torn = Some(line.number);
                    }
                    return Ok(());
                };
                source.records += 1;
                source.simulated += u64::from(simulated);
                entries.push((id, place));
                Ok(())
            })?;
            answers.files.push(source);
        }
        // The one that counts comes first.
        entries.sort_unstable_by(|(id, place), (other, than)| id.cmp(other).then(than.cmp(place)));
        for same in entries.chunk_by(|one, other| one.0 == other.0) {
            let places = same.iter().map(|(_, place)| *place);
            let told: Vec<_> = places.take_while(|place| place.is_answer()).collect();
            if told.len() > 1 {
                answers.repeated.note(told);
            }
        }
        entries.dedup_by_key(|(id, _)| *id);
        answers.places = IdTable::sorted(entries);
        Ok(answers)
    }

    /// How many lines are no records, those included that are torn, and the first of them.
    #[cfg(feature = "cli")]
    pub(crate) fn left_out(&self) -> Option<(u64, &Path, u64)> {
        let lines = |file: &RecordSource| file.damaged + u64::from(file.torn.is_some());
        let first = |file: &'_ RecordSource| file.first_damaged.or(file.torn);
        let mut files = self.files.iter();
        let (path, line) = files.find_map(|file| Some((&*file.path, first(file)?)))?;
        Some((self.files.iter().map(lines).sum(), path, line))
    }

    /// Rows that have a record.
    #[cfg(feature = "cli")]
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// All that count, in the order of the files.
    pub(crate) fn in_order(&self) -> Vec<RecordPosition> {
        let mut places: Vec<_> = self.places.values().copied().collect();
        places.sort_unstable_by_key(|place| place.in_files());
        places
    }

    /// Takes the record of the row with this [key](row_key), and says where it is and whether it
    /// had been [taken](RecordPosition::is_taken) before.
    #[cfg(feature = "cli")]
    pub(super) fn take(&mut self, key: LineHash) -> Option<RecordPosition> {
        let place = self.places.get_mut(key)?;
        let before = *place;
        place.0 |= RecordPosition::TAKEN;
        Some(before)
    }

    /// Whether the row with this key is answered.
    #[cfg(feature = "cli")]
    pub(super) fn has_answer(&self, key: LineHash) -> bool {
        self.places.get(key).is_some_and(|place| place.is_answer())
    }

    /// The keys of all rows that are answered.
    #[cfg(feature = "cli")]
    pub(super) fn answered(&self) -> impl Iterator<Item = LineHash> {
        let answered = self.places.iter().filter(|(_, place)| place.is_answer());
        answered.map(|(id, _)| *id)
    }

    /// The record of the row with this [key](row_key).
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub(crate) fn get(&mut self, key: LineHash) -> Result<Option<Answer>> {
        let place = self.places.get(key).copied();
        place.map(|place| self.read(place)).transpose()
    }

    /// The record at a place.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub(crate) fn read(&mut self, place: RecordPosition) -> Result<Answer> {
        let line = String::from_utf8_lossy(self.line(place)?);
        Ok(Answer::read(&line, place.is_answer()))
    }

    /// The line at a place, with its end if it has one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub(super) fn line(&mut self, place: RecordPosition) -> Result<&[u8]> {
        let RecordSource { path, lines, .. } = &mut self.files[place.file()];
        self.line.clear();
        lines
            .read_line(place.offset(), &mut self.line)
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

/// What a line is.
struct Indexed {
    number: u64,
    ended: bool,
    /// If it is a record: its key, where it is, and whether it is simulated.
    record: Option<(LineHash, RecordPosition, bool)>,
}

impl Indexed {
    /// Reads a line of the file with this number.
    fn read(line: Line<&[u8]>, file: u64) -> Self {
        let record = line.text.and_then(|text| {
            let record = ReadRecord::parse(text.trim_ascii())?;
            let place = RecordPosition::new(file, line.offset, record.is_done());
            // Known by the number that it was given, or by where it stands.
            let unnamed = || {
                let text = str::from_utf8(text).unwrap_or_default();
                let name = first_fields(text, &["custom_id"])[0].and_then(string);
                let here = || place.in_files().to_le_bytes().to_vec();
                let name = name.map_or_else(here, String::into_bytes);
                LineHash::of([&[0xff], &name[..]].concat())
            };
            Some((record.id.unwrap_or_else(unnamed), place, record.simulated))
        });
        Self {
            number: line.number,
            ended: line.ended,
            record,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn answer(line: &str) -> Answer {
        let record = ReadRecord::parse(line.as_bytes()).unwrap();
        Answer::read(line, record.is_done())
    }

    #[test]
    fn the_answers_of_all_tools_are_read() {
        let chat = r#"{"choices":[{"message":{"content":"hé\n"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
        let quoted = serde_json::to_string(chat).unwrap();
        let nan = chat.replace("\"finish_reason\"", "\"x\":NaN,\"finish_reason\"");
        for body in [chat, &quoted, &nan] {
            let line = format!(
                r#"{{"custom_id":"a","response":{{"status_code":200,"body":{body}}},"error":null}}"#
            );
            let read = answer(&line);
            assert_eq!(read.custom_id.as_deref(), Some("a"));
            assert_eq!(read.text.as_deref(), Some("hé\n"), "{line}");
            assert_eq!(read.finish_reason.as_deref(), Some("stop"));
            let usage = read.usage.unwrap();
            assert_eq!((usage.prompt_tokens, usage.completion_tokens), (3, 2));
            assert_eq!(read.error, None);
        }
        let message = r#"{"custom_id":"b","result":{"type":"succeeded","message":{"type":"message","content":[{"type":"text","text":"yes"}],"stop_reason":"end_turn","usage":{"input_tokens":4,"output_tokens":1}}}}"#;
        let read = answer(message);
        assert_eq!(read.text.as_deref(), Some("yes"));
        assert_eq!(read.finish_reason.as_deref(), Some("end_turn"));
        assert_eq!(read.usage.unwrap().prompt_tokens, 4);
    }

    #[test]
    fn an_answer_without_a_text_is_its_json() {
        let body = r#"{"object":"list","data":[{"embedding":[0.25]}]}"#;
        let line = format!(
            r#"{{"custom_id":"a","response":{{"status_code":200,"body":{body}}},"error":null}}"#
        );
        assert_eq!(answer(&line).text.as_deref(), Some(body));
    }

    #[test]
    fn why_a_row_has_failed_is_told_in_the_providers_words() {
        for (rest, expected) in [
            (
                r#""response":{"status_code":400,"body":{"error":{"message":"no such model","code":"x"}}},"error":null"#,
                "HTTP 400: no such model",
            ),
            (
                r#""response":null,"error":{"code":"timeout","message":"no answer in 600 s"}"#,
                "no answer in 600 s",
            ),
            (
                r#""response":{"status_code":200,"body":{"text":"<html>"}},"error":{"code":"invalid_response","message":"a web page"}"#,
                "a web page",
            ),
            (
                r#""response":{"status_code":502,"body":{"text":"<html><title>Bad Gateway</title>"}},"error":null"#,
                "HTTP 502: Bad Gateway",
            ),
            (
                r#""response":{"status_code":500,"body":null},"error":null"#,
                "HTTP 500",
            ),
            (
                r#""response":{"status_code":400,"body":null},"error":"bad""#,
                "HTTP 400: bad",
            ),
            (
                r#""result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","message":"too long"}}}"#,
                "too long",
            ),
            (r#""result":{"type":"expired"}"#, "expired"),
            (
                r#""response":null,"error":{"code":"batch_expired"}"#,
                "batch_expired",
            ),
            (r#""response":null,"error":null"#, "no answer"),
        ] {
            let read = answer(&format!(r#"{{"custom_id":"a",{rest}}}"#));
            assert_eq!(read.error.as_deref(), Some(expected), "{rest}");
            assert_eq!(read.text, None);
        }
    }

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
    fn an_entry_takes_24_bytes_and_a_place_holds_what_it_was_given() {
        assert_eq!(size_of::<(LineHash, RecordPosition)>(), 24);
        for file in [0, 1, 65_535] {
            for offset in [0, 7, (1 << 46) - 1] {
                for is_answer in [false, true] {
                    let place = RecordPosition::new(file, offset, is_answer);
                    assert_eq!(
                        (place.file() as u64, place.offset(), place.is_answer()),
                        (file, offset, is_answer)
                    );
                }
            }
        }
    }
}
