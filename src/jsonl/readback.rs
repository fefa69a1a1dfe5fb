//! A result line, read back.
//!
//! Asks little: which row, is it done, is it the same request, may a failure pass. Takes the lines
//! of other tools as they are: vLLM writes `error` as a string or a nested object, and `body` as
//! null.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::hash::LineHash;
use crate::api::classify::{RecordState, is_answered, judge_error, judge_message, judge_record};
use crate::api::json::{fields, members, says_something, string, with_nulls};

/// What a resume needs to know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadRecord {
    /// The hash of its id; `None` if it has none.
    pub(crate) id: Option<LineHash>,
    pub(crate) state: RecordState,
    /// It failed as all others did when its run stopped: it is tried again, after all other rows.
    pub(crate) again: bool,
    pub(crate) hash: Option<LineHash>,
    pub(crate) simulated: bool,
}

/// The `custom_id`, `response`, `error`, `result` and `tollgate` of a record.
pub(super) type Parts<'a> = [Option<&'a RawValue>; 5];

impl ReadRecord {
    /// Reads one line of a results or errors file, ours or another tool's. `None` if it is not a
    /// JSON object, or is neither a result nor an error. A number may be `NaN`, as Python writes
    /// it.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        Self::parse_with(line, |read, _| read)
    }

    /// As [`parse`](Self::parse), with what `more` makes of it and the members of the record.
    pub(super) fn parse_with<T>(line: &[u8], more: impl Fn(Self, Parts<'_>) -> T) -> Option<T> {
        let line = str::from_utf8(line.trim_ascii()).ok()?;
        Self::of_json(line, &more).or_else(|| Self::of_json(&with_nulls(line)?, &more))
    }

    fn of_json<T>(line: &str, more: impl Fn(Self, Parts<'_>) -> T) -> Option<T> {
        const NAMES: [&str; 5] = ["custom_id", "response", "error", "result", "tollgate"];
        let found = fields(line, &NAMES).ok()?;
        let [custom_id, response, error, result, extras] = found.values;
        if found.twice.is_some() || (response.is_none() && error.is_none() && result.is_none()) {
            return None;
        }
        let mut custom_id: Option<String> = match custom_id {
            Some(id) => serde_json::from_str(id.get()).ok()?,
            None => None,
        };
        let [status, simulated, hash, again] =
            members(extras, &["status", "simulated", "hash", "again"]);
        let (state, error) = match result {
            Some(result) => read_result(result, status.and_then(http_status)),
            None => read_response(response, error),
        };
        let is_failure = matches!(state, RecordState::Transient | RecordState::Permanent);
        let again = is_failure && is_true(again);
        let state = if again { RecordState::Transient } else { state };
        // The id was made of the line's number, for a row that has none or must not use its own.
        if let Some(line) = custom_id.as_deref().and_then(|id| id.strip_prefix("line-"))
            && let [Some(message)] = members(error, &["message"])
            && message.get().starts_with(&format!("\"line {line}: "))
        {
            custom_id = None;
        }
        let read = Self {
            id: custom_id.map(LineHash::of),
            again,
            state,
            hash: plain(hash).and_then(LineHash::parse),
            simulated: is_true(simulated),
        };
        Some(more(read, found.values))
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, RecordState::Done | RecordState::Unsure)
    }
}

/// `OpenAI`'s form: what has become of the row, and the error, if there is one.
fn read_response<'a>(
    response: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
) -> (RecordState, Option<&'a RawValue>) {
    let error = error.filter(|error| says_something(error.get()));
    let [status] = members(response, &["status_code"]);
    let status = status.and_then(http_status);
    let is_success = status.is_none_or(|status| (200..300).contains(&status));
    if is_success && error.is_none() && response.is_some_and(|response| is_answered(response.get()))
    {
        return (RecordState::Done, None);
    }
    let [body] = members(response, &["body"]);
    let [cut] = members(body, &["cut"]);
    let kept = if is_success && error.is_some() && is_true(cut) {
        // Of a part of an answer the error says all.
        Cow::default()
    } else {
        kept_text(body, !is_success || error.is_some())
    };
    let [code] = members(error, &["code"]);
    let code = error.map(|_| plain(code).unwrap_or_default());
    (judge_record(status, kept.as_bytes(), code), error)
}

/// Anthropic's form. A failed row there has no status; ours stands beside the result.
fn read_result(result: &RawValue, status: Option<u16>) -> (RecordState, Option<&RawValue>) {
    let [kind, message, error] = members(Some(result), &["type", "message", "error"]);
    match kind.map_or("", RawValue::get) {
        "\"succeeded\"" => (
            judge_message(message.map_or("", RawValue::get).as_bytes()),
            None,
        ),
        "\"errored\"" => {
            let [inner] = members(error, &["error"]);
            let json = error.map_or("", RawValue::get).as_bytes();
            let state = match status.filter(|status| !(200..300).contains(status)) {
                Some(status) => judge_record(Some(status), json, None),
                None => judge_error(json),
            };
            (state, inner.or(error))
        }
        _ => (RecordState::Transient, None),
    }
}

fn is_true(mark: Option<&RawValue>) -> bool {
    mark.is_some_and(|mark| mark.get() == "true")
}

/// A status as HTTP has them. Some tools write 0 where there was no answer.
pub(super) fn http_status(json: &RawValue) -> Option<u16> {
    let status = json.get().trim_matches('"').parse().ok()?;
    (100..1000).contains(&status).then_some(status)
}

/// The body itself of one that is kept as text: in a string or, in the record of a failure, in an
/// object of ours.
pub(super) fn kept_text(body: Option<&RawValue>, is_failure: bool) -> Cow<'_, str> {
    let json = body.map_or("", RawValue::get);
    let text = if json.starts_with('"') {
        body
    } else {
        members(body, &["text"])[0].filter(|_| is_failure)
    };
    text.and_then(string)
        .map_or(Cow::Borrowed(json), Cow::Owned)
}

/// A number, or a string without escapes, as codes and hashes are.
pub(super) fn plain<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(value?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_tools_lines_are_read() {
        for (line, custom_id, done) in [
            (
                r#"{"id":"vllm-1","custom_id":"a","response":{"status_code":200,"request_id":"r","body":{}},"error":null}"#,
                Some("a"),
                true,
            ),
            (
                r#"{"id":"vllm-1","custom_id":"a","response":{"status_code":400,"request_id":"r","body":null},"error":"bad"}"#,
                Some("a"),
                false,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":200,"body":null},"error":{"error":{"code":1}}}"#,
                Some("a"),
                false,
            ),
            (
                r#"{"custom_id":null,"response":null,"error":{}}"#,
                None,
                false,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":200,"body":{}}}"#,
                Some("a"),
                true,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":"200"},"error":null}"#,
                Some("a"),
                false,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":200},"error":null}"#,
                Some("a"),
                false,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":200,"body":null},"error":null}"#,
                Some("a"),
                false,
            ),
            (
                r#"{"custom_id":"a","response":{"body":{"choices":[{}]}},"error":{}}"#,
                Some("a"),
                true,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":"200","body":{"choices":[{}]}},"error":""}"#,
                Some("a"),
                true,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":0,"body":{"choices":[{}]}},"error":{"code":null,"message":""}}"#,
                Some("a"),
                true,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":200,"body":"{\"choices\":[{}]}"}}"#,
                Some("a"),
                true,
            ),
            (
                r#"{"custom_id":"a","result":{"type":"succeeded","message":{"content":[{}]}}}"#,
                Some("a"),
                true,
            ),
            (
                r#"{"custom_id":"a","result":{"type":"succeeded","message":{}}}"#,
                Some("a"),
                false,
            ),
            (
                r#"{"custom_id":"a","result":{"type":"succeeded"}}"#,
                Some("a"),
                false,
            ),
            // An id that was made of a number is no id; the message tells.
            (
                r#"{"custom_id":"line-3","response":null,"error":{"code":"x","message":"line 3: not JSON"}}"#,
                None,
                false,
            ),
            (
                r#"{"custom_id":"line-3","response":null,"error":{"code":"x","message":"line 30: x"}}"#,
                Some("line-3"),
                false,
            ),
            (
                r#"{"custom_id":"line-3","result":{"type":"errored","error":{"type":"error","error":{"message":"line 3: x"}}}}"#,
                None,
                false,
            ),
        ] {
            let read = ReadRecord::parse(line.as_bytes()).unwrap();
            assert_eq!(read.id, custom_id.map(LineHash::of), "{line}");
            assert_eq!(read.is_done(), done, "{line}");
        }
    }

    #[test]
    fn what_is_no_record_is_told() {
        for line in [
            &b""[..],
            b"\0\0\0",
            b"{\"custom_id\":\"a\",\"response\":{\"status",
            b"[]",
            b"{\"custom_id\":\"a\",\"body\":{}}",
            b"{\"custom_id\":7,\"error\":null}",
            b"{\"custom_id\":\"\xff\",\"error\":null}",
        ] {
            assert_eq!(ReadRecord::parse(line), None);
        }
    }

    #[test]
    fn a_failure_that_may_pass_is_told_from_one_that_will_not() {
        for (line, transient) in [
            (
                r#"{"custom_id":"a","response":{"status_code":503,"body":{}},"error":null}"#,
                true,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":429,"body":{}},"error":null}"#,
                true,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":400,"body":{}},"error":null}"#,
                false,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":401,"body":{}},"error":null}"#,
                true,
            ),
            (
                r#"{"custom_id":"a","response":null,"error":{"code":"timeout","message":""}}"#,
                true,
            ),
            (
                r#"{"custom_id":"a","response":null,"error":{"code":"batch_expired","message":""}}"#,
                true,
            ),
            (
                r#"{"custom_id":"a","response":null,"error":{"code":"invalid_request_line"}}"#,
                false,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":0,"body":null},"error":null}"#,
                true,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":200,"body":{"text":"<html>"}},"error":{"code":"invalid_response"}}"#,
                true,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":200,"body":{"text":"{\"choices\":[{\"x\":NaN}]}"}},"error":{"code":"x"}}"#,
                false,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":200,"body":{"text":"{\"choices\":[{\"x\":NaN}]}","cut":true}},"error":{"code":"timeout"}}"#,
                true,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":200,"body":{"text":"{\"choices\":[{}]}","cut":true}},"error":{"code":"rejected"}}"#,
                false,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":429,"body":{"text":"Request too large: Limit 1, Requested 2","cut":true}},"error":null}"#,
                false,
            ),
            (r#"{"custom_id":"a","result":{"type":"expired"}}"#, true),
            (
                r#"{"custom_id":"a","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}}}"#,
                true,
            ),
            (
                r#"{"custom_id":"a","result":{"type":"errored","error":{"type":"error","error":{"type":"overloaded_error"}}}}"#,
                true,
            ),
            (
                r#"{"custom_id":"a","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error"}}}}"#,
                false,
            ),
        ] {
            let read = ReadRecord::parse(line.as_bytes()).unwrap();
            let state = if transient {
                RecordState::Transient
            } else {
                RecordState::Permanent
            };
            assert_eq!(read.state, state, "{line}");
        }
    }

    #[test]
    fn a_failure_with_the_mark_is_tried_again_and_an_answer_is_one_all_the_same() {
        let refused = r#"{"custom_id":"a","response":{"status_code":404,"body":{}},"error":null"#;
        let answered = r#"{"custom_id":"a","response":{"status_code":200,"body":{"choices":[{"message":{}}]}},"error":null"#;
        for (record, mark, state, again) in [
            (
                refused,
                r#","tollgate":{"again":true}}"#,
                RecordState::Transient,
                true,
            ),
            (
                refused,
                r#","tollgate":{"again":false}}"#,
                RecordState::Permanent,
                false,
            ),
            (refused, "}", RecordState::Permanent, false),
            (
                answered,
                r#","tollgate":{"again":true}}"#,
                RecordState::Done,
                false,
            ),
        ] {
            let line = format!("{record}{mark}");
            let read = ReadRecord::parse(line.as_bytes()).unwrap();
            assert_eq!((read.state, read.again), (state, again), "{line}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(line in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = ReadRecord::parse(&line);
        }
    }
}
