//! A result line, read back.
//!
//! Asks little: which row, is it done, is it the same request, may a failure pass. Takes the lines of
//! other tools as they are: vLLM writes `error` as a string or a nested object, and `body` as null.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::hash::LineHash;
use super::record::is_success;
use crate::api::classify::is_transient_record;
use crate::api::json::{fields, first_fields};

/// What a resume needs to know of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadRecord {
    pub(crate) custom_id: Option<String>,
    /// Answered with success, and nothing wrong with the answer.
    pub(crate) done: bool,
    /// Failed for a reason that may pass: worth another attempt.
    pub(crate) transient: bool,
    pub(crate) hash: Option<LineHash>,
    pub(crate) simulated: bool,
}

impl ReadRecord {
    /// Reads one line of a results or errors file, ours or another tool's. `None` if it is not a JSON
    /// object, or is neither a result nor an error.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        const NAMES: [&str; 5] = ["custom_id", "response", "error", "result", "tollgate"];
        let found = fields(str::from_utf8(line).ok()?, &NAMES).ok()?;
        let [custom_id, response, error, result, extras] = found.values;
        if found.twice.is_some() || (response.is_none() && error.is_none() && result.is_none()) {
            return None;
        }
        let custom_id = match custom_id {
            Some(id) => serde_json::from_str(id.get()).ok()?,
            None => None,
        };
        let [status, simulated, hash] = nested(extras, &["status", "simulated", "hash"]);
        let (done, transient) = match result {
            Some(result) => read_result(result, plain(status)),
            None => read_response(response, error.filter(|error| error.get() != "null")),
        };
        Some(Self {
            custom_id,
            done,
            transient: transient && !done,
            hash: plain(hash).and_then(LineHash::parse),
            simulated: simulated.is_some_and(|mark| mark.get() == "true"),
        })
    }
}

/// `OpenAI`'s form: whether the row is done, and whether it may be.
fn read_response(response: Option<&RawValue>, error: Option<&RawValue>) -> (bool, bool) {
    let [status] = response.map_or([None], |response| {
        first_fields(response.get(), &["status_code"])
    });
    let status = plain(status);
    if status.is_some_and(is_success) && error.is_none() {
        return (true, false);
    }
    let [code] = nested(error, &["code"]);
    let [body] = nested(response, &["body"]);
    let body = body.map_or("", RawValue::get).as_bytes();
    // A success that is not done is an answer that was of no use; another may be.
    let status = status.filter(|&status| !is_success(status));
    (false, is_transient_record(status, body, plain(code)))
}

/// Anthropic's form. A failed row there has no status; ours stands beside the result.
fn read_result(result: &RawValue, status: Option<u16>) -> (bool, bool) {
    const PERMANENT: [&str; 4] = [
        "invalid_request_error",
        "not_found_error",
        "permission_error",
        "request_too_large",
    ];
    let [kind] = first_fields(result.get(), &["type"]);
    match kind.map_or("", RawValue::get) {
        "\"succeeded\"" => (true, false),
        "\"errored\"" => {
            let [error] = nested(Some(result), &["error"]);
            let Some(error) = error else {
                return (false, true);
            };
            if status.is_some() {
                return (
                    false,
                    is_transient_record(status, error.get().as_bytes(), None),
                );
            }
            let [inner] = nested(Some(error), &["error"]);
            let [kind] = nested(inner.or(Some(error)), &["type"]);
            let permanent = plain(kind).is_some_and(|kind| PERMANENT.contains(&kind));
            (false, !permanent)
        }
        _ => (false, true),
    }
}

/// The fields of a value, none if it is no object.
fn nested<'a, const N: usize>(
    value: Option<&'a RawValue>,
    names: &[&'static str; N],
) -> [Option<&'a RawValue>; N] {
    let found = value.and_then(|value| fields(value.get(), names).ok());
    found.map_or([None; N], |found| found.values)
}

/// A number, or a string without escapes, as codes and hashes are.
fn plain<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Option<T> {
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
        ] {
            let read = ReadRecord::parse(line.as_bytes()).unwrap();
            assert_eq!(read.custom_id.as_deref(), custom_id, "{line}");
            assert_eq!(read.done, done, "{line}");
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
            (r#"{"custom_id":"a","result":{"type":"expired"}}"#, true),
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
            assert_eq!((read.done, read.transient), (false, transient), "{line}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(line in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = ReadRecord::parse(&line);
        }
    }
}
