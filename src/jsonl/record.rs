//! One result, written as one line.
//!
//! The lines are `OpenAI`'s `BatchRequestOutput`
//! (<https://platform.openai.com/docs/api-reference/batch>), or Anthropic's result line for a row
//! that came in Anthropic's form, so that every reader of those reads ours. What goes beyond them
//! is under the one key `tollgate`. A body is copied, not rebuilt: only its line breaks go, with
//! the indentation behind them, since a record is one line.

use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::RawValue;

use super::format::Dialect;
use super::hash::LineHash;
use crate::api::classify::{anthropic_error_type, record_code};
use crate::api::json::fields;
use crate::api::{Reply, Usage, Usd};
use crate::binding::{Binding, Times};
use crate::clock::Clock;
use crate::error::Error;
use crate::pool::Span;

/// The most of a body that is no JSON object to keep, in bytes.
const KEPT: usize = 64 << 10;
/// The most of a body to keep in a message, in bytes.
const SNIPPET: usize = 2 << 10;
/// The shortest time that is told.
const SHORTEST: Duration = Duration::from_millis(1);

/// What became of one row. Strict records are without the line and what follows it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record<'a> {
    pub(crate) dialect: Dialect,
    /// `None` for a line whose id could not be read, or is that of another row. The record has one
    /// made of the line's number, as strict readers want a string.
    pub(crate) custom_id: Option<&'a str>,
    /// The last answer, of whatever status.
    pub(crate) response: Option<Response<'a>>,
    /// What failed other than by a status; with a response too where that was unusable.
    pub(crate) failure: Option<Failure<'a>>,
    /// The physical line of the input, for a row that has no id to go by.
    pub(crate) line: Option<u64>,
    pub(crate) hash: Option<LineHash>,
    /// Requests sent for this row.
    pub(crate) attempts: u32,
    /// The answer is that of a copy of the first attempt.
    pub(crate) by_copy: bool,
    /// Where its time went.
    pub(crate) times: Times,
    /// When it was sent, and answered.
    pub(crate) spans: &'a [Span],
    /// What the answer took, where it says.
    pub(crate) usage: Option<Usage>,
    /// Of the answer, where there is a price.
    pub(crate) cost: Option<Usd>,
    /// The provider's finer reason for a failed row, such as `rate_limit_exceeded`.
    pub(crate) code: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    /// The provider's id of the answer. Where it gave none, the record's own id is written.
    pub(crate) request_id: Option<&'a str>,
    /// An answer is embedded as it is, and so is a refusal that is a JSON object. Of anything else
    /// the first 64 KiB are kept in an object, `{"text": ".."}`, so that all bodies are objects.
    pub(crate) body: &'a [u8],
    /// The body was longer.
    pub(crate) is_cut: bool,
}

impl<'a> Response<'a> {
    pub(super) fn of_reply(reply: &'a Reply) -> Self {
        Self {
            status: reply.status().as_u16(),
            request_id: reply.request_id(),
            body: reply.body(),
            is_cut: false,
        }
    }

    /// The answer that a failure is about, if there was one.
    pub(super) fn of_error(error: &'a Error) -> Option<Self> {
        Some(Self {
            status: error.status()?.as_u16(),
            request_id: error.request_id(),
            body: error.body().unwrap_or_default(),
            is_cut: error.body_is_cut(),
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure<'a> {
    /// `timeout`, `connection_error`, `invalid_response`, `rejected` or `invalid_request_line`.
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
}

/// Writes the records of one run.
#[derive(Debug)]
pub(crate) struct RecordWriter {
    pub(super) strict: bool,
    simulated: bool,
    /// Ids are unique in a file that several runs append to: a random number a run, then a count.
    run: u64,
    written: u64,
    clock: Clock,
}

impl RecordWriter {
    /// `strict` leaves out all that is not the provider's own format, but for the mark on simulated
    /// answers: those must never pass for paid ones.
    pub(crate) fn new(strict: bool, simulated: bool, clock: Clock) -> Self {
        Self {
            strict,
            simulated,
            run: fastrand::u64(..),
            written: 0,
            clock,
        }
    }

    /// Appends `record` to `out` as one line, its end included.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        let id = format!("batch_req_{:016x}{:08x}", self.run, self.written);
        self.written += 1;
        Object::write(out, |object| {
            match record.dialect {
                Dialect::OpenAi => openai(object, &id, record),
                Dialect::Anthropic => anthropic(object, record),
            }
            if self.simulated || !self.strict {
                object.nested("tollgate", |object| self.extras(object, record));
            }
        });
        out.push(b'\n');
    }

    fn extras(&self, object: &mut Object<'_>, record: &Record<'_>) {
        if self.simulated {
            object.field("simulated", &true);
        }
        if self.strict {
            return;
        }
        object.field("attempts", &record.attempts);
        object.if_known("hedge_won", record.by_copy.then_some(true));
        object.raw("wait_s", &seconds(record.times.waited()));
        object.nested("time_s", |object| {
            // What is shorter than that is shown as nothing, and says nothing.
            for (binding, time) in record.times.iter().filter(|it| it.1 >= SHORTEST) {
                object.raw(binding.as_str(), &seconds(time));
            }
        });
        let binding = record.times.binding();
        object.if_known("binding", binding.map(Binding::as_str));
        if !record.spans.is_empty() {
            self.timeline(object, record.spans);
        }
        let mut code = record.code;
        // Anthropic's form has no place for the status, nor for the code of a failure.
        if record.dialect == Dialect::Anthropic {
            let status = record.response.map(|response| response.status);
            object.if_known("status", status);
            code = code.or(record.failure.map(|failure| failure.code));
            // Nor for an answer that is of no use.
            if let Some(response) = &record.response
                && record.failure.is_some()
            {
                object.kept("body", response);
            }
        }
        object.if_known("code", code);
        if let Some(usage) = record.usage {
            object.field("prompt_tokens", &usage.prompt_tokens);
            object.field("completion_tokens", &usage.completion_tokens);
        }
        if let Some(cost) = record.cost {
            object.raw("cost_usd", &cost.to_string());
        }
        object.if_known("line", record.line);
        object.if_known("hash", record.hash.map(|hash| hash.to_string()));
    }

    /// When the attempts were under way, by the time of day as it is now.
    fn timeline(&self, object: &mut Object<'_>, spans: &[Span]) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let epoch_ms = |at: Instant| {
            let ago = now.saturating_duration_since(at);
            let since = wall.checked_sub(ago)?.duration_since(UNIX_EPOCH).ok()?;
            Some(since.as_millis())
        };
        object.each("timeline", spans, |object, span| {
            object.if_known("start_ms", epoch_ms(span.began));
            object.if_known("end_ms", epoch_ms(span.ended));
            match span.failure {
                Some((_, Some(status))) if !is_success(status) => object.field("status", &status),
                Some((kind, status)) => object.field("code", record_code(kind, status.is_some())),
                None => object.if_known("cut", span.is_cut.then_some(true)),
            }
        });
    }
}

fn openai(object: &mut Object<'_>, id: &str, record: &Record<'_>) {
    object.field("id", id);
    object.id(record);
    match &record.response {
        None => object.raw("response", "null"),
        Some(response) => object.nested("response", |object| {
            object.field("status_code", &response.status);
            object.field("request_id", response.request_id.unwrap_or(id));
            let is_answer = record.failure.is_none() && is_success(response.status);
            match json(response.body).filter(|_| is_answer) {
                Some(body) => object.one_line("body", body),
                None => object.kept("body", response),
            }
        }),
    }
    match &record.failure {
        None => object.raw("error", "null"),
        Some(failure) => object.nested("error", |object| {
            object.field("code", failure.code);
            object.field("message", failure.message);
        }),
    }
}

/// `result` is tagged by `type`: `succeeded` with the message or `errored` with the error object
/// (anthropic-sdk-python, `types/messages/message_batch_*_result.py`). The other two, `canceled`
/// and `expired`, are of rows that have no record here.
fn anthropic(object: &mut Object<'_>, record: &Record<'_>) {
    object.id(record);
    let body = record.response.and_then(|response| json(response.body));
    object.nested("result", |object| {
        match (&record.response, &record.failure, body) {
            (Some(response), None, Some(body)) if is_success(response.status) => {
                object.field("type", "succeeded");
                object.one_line("message", body);
            }
            (Some(_), None, Some(body)) if is_anthropics_error(body) => {
                object.field("type", "errored");
                object.one_line("error", body);
            }
            (response, failure, _) => {
                let (kind, message) = match (failure, response) {
                    (Some(failure), _) => (kind_of_code(failure.code), failure.message.to_owned()),
                    (None, Some(response)) => (
                        anthropic_error_type(response.status),
                        snippet(response.body),
                    ),
                    (None, None) => ("api_error", String::new()),
                };
                object.field("type", "errored");
                object.nested("error", |object| {
                    object.field("type", "error");
                    object.nested("error", |object| {
                        object.field("type", kind);
                        object.field("message", &message);
                    });
                });
            }
        }
    });
}

fn is_anthropics_error(body: &str) -> bool {
    fields(body, &["type", "error"]).is_ok_and(|found| {
        let [kind, error] = found.values;
        let is_object = |error: &RawValue| error.get().starts_with('{');
        kind.is_some_and(|kind| kind.get() == "\"error\"") && error.is_some_and(is_object)
    })
}

/// Anthropic's type of an error, for a row that failed other than by a status.
fn kind_of_code(code: &str) -> &'static str {
    match code {
        "timeout" => "timeout_error",
        "invalid_request_line" | "rejected" => "invalid_request_error",
        _ => "api_error",
    }
}

pub(super) fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// One object, whose fields are written straight into the line.
struct Object<'o>(&'o mut Vec<u8>);

impl Object<'_> {
    fn write(out: &mut Vec<u8>, fields: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        fields(&mut Object(out));
        out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        if !self.0.ends_with(b"{") {
            self.0.push(b',');
        }
        write_json(self.0, key);
        self.0.push(b':');
    }

    fn raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.0.extend_from_slice(json.as_bytes());
    }

    fn field(&mut self, key: &str, value: &(impl Serialize + ?Sized)) {
        self.key(key);
        write_json(self.0, value);
    }

    fn if_known(&mut self, key: &str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.field(key, &value);
        }
    }

    fn id(&mut self, record: &Record<'_>) {
        match (record.custom_id, record.line) {
            (None, Some(line)) => self.field("custom_id", &format!("line-{line}")),
            (id, _) => self.field("custom_id", &id),
        }
    }

    /// A body that is no answer: an object that is whole, or the text of what is kept.
    fn kept(&mut self, key: &str, response: &Response<'_>) {
        if let Some(body) = json(response.body).filter(|body| body.starts_with('{'))
            && !response.is_cut
        {
            return self.one_line(key, body);
        }
        let text = String::from_utf8_lossy(response.body);
        // Every byte that is no UTF-8 has become three.
        let kept = beginning(&text, KEPT);
        self.nested(key, |object| {
            object.field("text", kept);
            if response.is_cut || kept.len() < text.len() {
                object.field("cut", &true);
            }
        });
    }

    /// An array of objects.
    fn each<T>(&mut self, key: &str, items: &[T], fields: impl Fn(&mut Object<'_>, &T)) {
        self.key(key);
        self.0.push(b'[');
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                self.0.push(b',');
            }
            Object::write(self.0, |object| fields(object, item));
        }
        self.0.push(b']');
    }

    fn nested(&mut self, key: &str, fields: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        Object::write(self.0, fields);
    }

    /// Copies JSON without its line breaks and the indentation behind them.
    ///
    /// In JSON a line break stands between tokens and never inside one (in a string it is written
    /// `\n`), and no two tokens are held apart by blanks alone: what is dropped means nothing.
    fn one_line(&mut self, key: &str, json: &str) {
        self.key(key);
        for line in json.split(['\n', '\r']) {
            self.0.extend_from_slice(line.trim_ascii_start().as_bytes());
        }
    }
}

/// A string, a number, or what else always is JSON.
fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("a vector takes what is written, and this is JSON");
}

/// The text of `body`, without the blanks around it, if it is one JSON value.
fn json(body: &[u8]) -> Option<&str> {
    serde_json::from_slice::<&RawValue>(body)
        .ok()
        .map(RawValue::get)
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

/// The start of a body, as text.
fn snippet(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SNIPPET)]);
    beginning(&text, SNIPPET).to_owned()
}

/// At most so many bytes of a text, in whole characters.
pub(super) fn beginning(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::super::readback::ReadRecord;
    use super::*;
    use crate::api::classify::RecordState;
    use crate::clock::VirtualClock;
    use crate::error::ErrorKind;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const ANSWER: &[u8] = br#"{"choices":[{}]}"#;

    fn record<'a>(custom_id: &'a str, status: u16, body: &'a [u8]) -> Record<'a> {
        Record {
            dialect: Dialect::OpenAi,
            custom_id: Some(custom_id),
            response: Some(Response {
                status,
                request_id: Some("req_1"),
                body,
                is_cut: false,
            }),
            failure: None,
            line: Some(3),
            hash: Some(LineHash::of(b"line")),
            attempts: 2,
            by_copy: true,
            times: times([
                (Binding::Pause, 1_250),
                (Binding::Requests, 0),
                (Binding::Wire, 520),
            ]),
            spans: &[],
            usage: Some(Usage {
                prompt_tokens: 5,
                completion_tokens: 7,
                ..Usage::default()
            }),
            cost: Some("0.0000125".parse().unwrap()),
            code: None,
        }
    }

    fn times<const N: usize>(parts: [(Binding, u64); N]) -> Times {
        let mut times = Times::default();
        for (binding, ms) in parts {
            times.add(binding, Duration::from_millis(ms));
        }
        times
    }

    fn failed<'a>(code: &'a str, message: &'a str) -> Record<'a> {
        Record {
            response: None,
            failure: Some(Failure { code, message }),
            ..record("a", 0, b"")
        }
    }

    fn write(writer: &mut RecordWriter, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        writer.write(&mut out, record);
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{line}");
        assert!(!line.contains('\r'), "{line}");
        line
    }

    fn written(strict: bool, record: &Record<'_>) -> (Value, ReadRecord) {
        let line = write(
            &mut RecordWriter::new(strict, false, Clock::system()),
            record,
        );
        (
            serde_json::from_str(&line).unwrap(),
            ReadRecord::parse(line.trim_end().as_bytes()).unwrap(),
        )
    }

    #[test]
    fn a_success_is_openais_line_with_the_extras_under_one_key() {
        let (mut value, read) = written(false, &record("a\"\n", 200, ANSWER));
        let id = value["id"].take();
        assert!(id.as_str().unwrap().starts_with("batch_req_"), "{id}");
        let hash = LineHash::of(b"line");
        let expected = json!({
            "id": null,
            "custom_id": "a\"\n",
            "response": {"status_code": 200, "request_id": "req_1", "body": {"choices": [{}]}},
            "error": null,
            "tollgate": {
                "attempts": 2, "hedge_won": true, "wait_s": 1.25, "time_s": {"pause": 1.25, "wire": 0.52},
                "binding": "pause", "prompt_tokens": 5, "completion_tokens": 7,
                "cost_usd": 0.000_012_5, "line": 3, "hash": hash.to_string(),
            },
        });
        assert_eq!(value, expected);
        // The binding limit is named even where it is the only one.
        let sent = Record {
            times: times([(Binding::Wire, 520)]),
            ..record("a", 200, ANSWER)
        };
        assert_eq!(written(false, &sent).0["tollgate"]["binding"], "wire");
        assert_eq!(
            read,
            ReadRecord {
                id: Some(LineHash::of("a\"\n")),
                state: RecordState::Done,
                again: false,
                hash: Some(hash),
                simulated: false,
            }
        );
    }

    #[test]
    fn a_record_says_by_the_time_of_day_when_its_attempts_were() {
        let time = VirtualClock::new();
        let clock = time.clock();
        let start = clock.now();
        let span = |began, ended, failure| Span {
            began: start + Duration::from_millis(began),
            ended: start + Duration::from_millis(ended),
            failure,
            is_cut: false,
        };
        let spans = [
            span(0, 250, Some((ErrorKind::RateLimited, Some(429)))),
            span(300, 900, Some((ErrorKind::Timeout, None))),
            span(1_000, 1_001, Some((ErrorKind::Malformed, Some(200)))),
            Span {
                is_cut: true,
                ..span(4_000, 6_500, None)
            },
            span(5_000, 6_500, None),
        ];
        // The record is written later, as that of a row that waits for its turn.
        time.advance(Duration::from_secs(60));
        let record = Record {
            spans: &spans,
            ..record("a", 200, ANSWER)
        };
        let mut writer = RecordWriter::new(false, false, clock.clone());
        let line = write(&mut writer, &record);
        let value: Value = serde_json::from_str(&line).unwrap();
        // A virtual clock starts with the year 2026.
        let at = |ms: u64| 1_767_225_600_000 + ms;
        let expected = json!([
            {"start_ms": at(0), "end_ms": at(250), "status": 429},
            {"start_ms": at(300), "end_ms": at(900), "code": "timeout"},
            {"start_ms": at(1_000), "end_ms": at(1_001), "code": "invalid_response"},
            {"start_ms": at(4_000), "end_ms": at(6_500), "cut": true},
            {"start_ms": at(5_000), "end_ms": at(6_500)},
        ]);
        assert_eq!(value["tollgate"]["timeline"], expected);
        let line = write(&mut RecordWriter::new(true, false, clock), &record);
        assert!(!line.contains("timeline"), "{line}");
    }

    #[test]
    fn strict_lines_hold_the_providers_fields_only() {
        let (value, read) = written(true, &record("a", 200, ANSWER));
        let keys: Vec<_> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["custom_id", "error", "id", "response"]);
        assert!(read.is_done() && read.hash.is_none());
    }

    #[test]
    fn a_simulated_answer_is_marked_even_in_strict_lines() {
        for (strict, dialect) in [
            (false, Dialect::OpenAi),
            (true, Dialect::OpenAi),
            (true, Dialect::Anthropic),
        ] {
            let record = Record {
                dialect,
                ..record("a", 200, ANSWER)
            };
            let line = write(
                &mut RecordWriter::new(strict, true, Clock::system()),
                &record,
            );
            assert!(ReadRecord::parse(line.as_bytes()).unwrap().simulated);
        }
    }

    #[test]
    fn a_body_is_kept_byte_for_byte_on_one_line() {
        let body =
            "\r\n{\n  \"n\": 9007199254740993,\r\n\t\"x\": [1e400 ,\n\n 2], \"s\": \"a\\n b\"\n}\n";
        let line = write(
            &mut RecordWriter::new(false, false, Clock::system()),
            &record("a", 200, body.as_bytes()),
        );
        let kept = r#""body":{"n": 9007199254740993,"x": [1e400 ,2], "s": "a\n b"}}"#;
        assert!(line.contains(kept), "{line}");
    }

    #[test]
    fn a_body_that_is_no_object_is_kept_in_one() {
        let garbage = vec![b'\xff'; KEPT];
        let long = format!("{{\"x\":\"{}\"}}", "é".repeat(KEPT));
        for (body, is_cut, kept, says_cut) in [
            (&b"<html>\nNo</html>"[..], false, "<html>\nNo</html>", false),
            (b"", false, "", false),
            (b"null", false, "null", false),
            (b"[1]", false, "[1]", false),
            (b"{\"half\":", true, "{\"half\":", true),
            (b"{}", true, "{}", true),
            (&garbage, false, "\u{fffd}", true),
            (&long.as_bytes()[..KEPT], true, "{\"x\":\"é", true),
        ] {
            let failure = Some(Failure {
                code: "invalid_response",
                message: "m",
            });
            let unusable = Record {
                failure,
                ..record("a", 200, body)
            };
            for mut record in [record("a", 502, body), unusable] {
                record.response.as_mut().unwrap().is_cut = is_cut;
                let (value, read) = written(true, &record);
                let body = value["response"]["body"].as_object().unwrap();
                let text = body["text"].as_str().unwrap();
                assert!(text.len() <= KEPT && text.starts_with(kept), "{body:?}");
                let cut = body.get("cut").and_then(Value::as_bool);
                assert_eq!(cut == Some(true), says_cut, "{body:?}");
                assert_eq!(read.state, RecordState::Transient);
            }
        }
        let (value, _) = written(false, &record("a", 400, br#"{"error":{"code":1}}"#));
        assert_eq!(value["response"]["body"], json!({"error": {"code": 1}}));
        let (value, _) = written(false, &record("a", 200, b"[1]"));
        assert_eq!(value["response"]["body"], json!([1]));
    }

    #[test]
    fn an_answer_that_is_of_no_use_is_kept_in_anthropics_form_too() {
        let unusable = Record {
            dialect: Dialect::Anthropic,
            failure: Some(Failure {
                code: "rejected",
                message: "m",
            }),
            ..record("a", 200, b"{\"content\":[NaN]}")
        };
        let (value, read) = written(false, &unusable);
        assert_eq!(value["tollgate"]["body"]["text"], "{\"content\":[NaN]}");
        assert_eq!(read.state, RecordState::Permanent);
    }

    #[test]
    fn failures_and_unusable_answers_are_not_done() {
        let (value, read) = written(false, &failed("timeout", "no answer in 600 s"));
        assert_eq!(value["response"], Value::Null);
        assert_eq!(
            value["error"],
            json!({"code": "timeout", "message": "no answer in 600 s"})
        );
        assert!(!read.is_done());
        let unusable = Record {
            failure: Some(Failure {
                code: "malformed_response",
                message: "not JSON",
            }),
            ..record("a", 200, b"<html>")
        };
        assert!(!written(true, &unusable).1.is_done());
    }

    #[test]
    fn rows_without_an_id_and_answers_without_one_are_written_too() {
        let mut record = record("a", 200, ANSWER);
        record.custom_id = None;
        record.response.as_mut().unwrap().request_id = None;
        let (value, read) = written(false, &record);
        assert_eq!(value["custom_id"], "line-3");
        assert_eq!(value["response"]["request_id"], value["id"]);
        assert!(read.is_done());
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            let bad = Record {
                custom_id: None,
                dialect,
                ..failed("invalid_request_line", "line 3: not JSON")
            };
            let (value, read) = written(true, &bad);
            assert_eq!(value["custom_id"], "line-3");
            assert_eq!(read.id, None);
        }
    }

    #[test]
    fn a_failure_passes_in_anthropics_form_as_it_does_in_openais() {
        for code in [
            "timeout",
            "connection_error",
            "invalid_response",
            "rejected",
            "invalid_request_line",
        ] {
            for strict in [false, true] {
                let failed = failed(code, "x");
                let (_, openai) = written(strict, &failed);
                let dialect = Dialect::Anthropic;
                let (value, anthropic) = written(strict, &Record { dialect, ..failed });
                assert_eq!(anthropic.state, openai.state, "{code}");
                assert_eq!(strict, value["tollgate"]["code"] != code);
            }
        }
    }

    #[test]
    fn anthropic_rows_get_anthropics_lines() {
        let error: &[u8] = br#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;
        let made = |kind: &str, message: &str| json!({"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": message}}});
        for (record, expected, done) in [
            (
                record("a", 200, br#"{"content":[{}]}"#),
                json!({"type": "succeeded", "message": {"content": [{}]}}),
                true,
            ),
            (
                record("a", 529, error),
                made("overloaded_error", "m"),
                false,
            ),
            (
                record("a", 502, b"<html>"),
                made("api_error", "<html>"),
                false,
            ),
            (
                record("a", 404, br#"{"detail":"no"}"#),
                made("not_found_error", r#"{"detail":"no"}"#),
                false,
            ),
            (
                failed("timeout", "late"),
                made("timeout_error", "late"),
                false,
            ),
        ] {
            let record = Record {
                dialect: Dialect::Anthropic,
                ..record
            };
            let (value, read) = written(false, &record);
            assert_eq!(value["result"], expected);
            assert_eq!(read.is_done(), done);
            let (value, _) = written(true, &record);
            assert_eq!(value, json!({"custom_id": "a", "result": expected}));
        }
    }

    #[test]
    fn ids_are_unique_across_the_runs_of_a_file() {
        let record = record("a", 200, ANSWER);
        let mut ids = std::collections::HashSet::new();
        for _ in 0..10 {
            let mut writer = RecordWriter::new(false, false, Clock::system());
            for _ in 0..10 {
                let value: Value = serde_json::from_str(&write(&mut writer, &record)).unwrap();
                assert!(ids.insert(value["id"].to_string()));
            }
        }
    }

    proptest! {
        #[test]
        fn any_id_and_any_body_come_back(
            id in any::<String>(),
            status in any::<u16>(),
            body in prop::collection::vec(any::<u8>(), 0..200),
            anthropic in any::<bool>(),
        ) {
            let dialect = if anthropic { Dialect::Anthropic } else { Dialect::OpenAi };
            let record = Record { dialect, ..record(&id, status, &body) };
            let line = write(&mut RecordWriter::new(false, false, Clock::system()), &record);
            let read = ReadRecord::parse(line.as_bytes()).unwrap();
            prop_assert_eq!(read.id, Some(LineHash::of(&id)));
            prop_assert_eq!(read.hash, record.hash);
        }
    }
}
