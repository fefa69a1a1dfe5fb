//! A result line, read back.
//!
//! Asks little: which row, is it done, is it the same request, was it paid for. Takes the lines of
//! other tools as they are: vLLM writes `error` as a string or a nested object, and `body` as null.

use serde_json::value::RawValue;

use super::hash::LineHash;
use super::record::is_success;
use crate::api::classify::passing;
use crate::api::json::{fields, first_fields};

/// What a resume needs to know of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadRecord {
    pub(crate) custom_id: Option<String>,
    /// Answered with success, and nothing wrong with the answer.
    pub(crate) done: bool,
    /// Failed, for a reason that may pass: worth another attempt.
    pub(crate) passing: bool,
    pub(crate) status: Option<u16>,
    pub(crate) hash: Option<LineHash>,
    pub(crate) simulated: bool,
}

impl ReadRecord {
    /// Reads one line of a results or errors file, ours or another tool's.
    ///
    /// # Errors
    /// It is not a JSON object, or it is one that is no record: neither a result nor an error.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, NotARecord> {
        const NAMES: [&str; 5] = ["custom_id", "response", "error", "result", "tollgate"];
        let text = str::from_utf8(line).map_err(|_| NotARecord)?;
        let found = fields(text, &NAMES).map_err(|_| NotARecord)?;
        let [custom_id, response, error, result, extras] = found.values;
        if found.twice.is_some() || (response.is_none() && error.is_none() && result.is_none()) {
            return Err(NotARecord);
        }
        let custom_id = match custom_id {
            Some(id) => serde_json::from_str(id.get()).map_err(|_| NotARecord)?,
            None => None,
        };
        let [status, simulated, hash] = match extras {
            Some(extras) => nested(extras, &["status", "simulated", "hash"]),
            None => [None; 3],
        };
        let mut read = Self {
            custom_id,
            done: false,
            passing: false,
            status: status.and_then(number),
            hash: hash
                .and_then(|hash| serde_json::from_str(hash.get()).ok())
                .and_then(LineHash::parse),
            simulated: simulated.is_some_and(|mark| mark.get() == "true"),
        };
        if let Some(result) = result {
            let [kind] = first_fields(result.get(), &["type"]);
            let kind = kind.map_or("", RawValue::get);
            read.done = kind == "\"succeeded\"";
            read.passing = !read.done
                && match nested(result, &["error"]) {
                    [Some(error)] if kind == "\"errored\"" => errored_passes(read.status, error),
                    _ => true,
                };
            return Ok(read);
        }
        let [status] = match response {
            Some(response) => first_fields(response.get(), &["status_code"]),
            None => [None],
        };
        read.status = status.and_then(number);
        let error = error.filter(|error| error.get() != "null");
        read.done = read.status.is_some_and(is_success) && error.is_none();
        if !read.done {
            let [code] = error.map_or([None], |error| nested(error, &["code"]));
            let code = code.and_then(|code| serde_json::from_str::<String>(code.get()).ok());
            let [body] = response.map_or([None], |response| nested(response, &["body"]));
            let body = body.map_or("", RawValue::get).as_bytes();
            // A success that is not done is an answer that was of no use; another may be.
            let status = read.status.filter(|&status| !is_success(status));
            read.passing = passing(status, body, code.as_deref());
        }
        Ok(read)
    }
}

/// A line of a results file that is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotARecord;

/// Anthropic's form of a failed row has no status of its own; ours says it beside the result.
fn errored_passes(status: Option<u16>, error: &RawValue) -> bool {
    const FOR_GOOD: [&str; 4] = [
        "invalid_request_error",
        "not_found_error",
        "permission_error",
        "request_too_large",
    ];
    if status.is_some() {
        return passing(status, error.get().as_bytes(), None);
    }
    let [inner] = nested(error, &["error"]);
    let [kind] = nested(inner.unwrap_or(error), &["type"]);
    let kind = kind.and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
    !kind.is_some_and(|kind| FOR_GOOD.contains(&kind.as_str()))
}

/// The fields of a value, none if it is no object.
fn nested<'a, const N: usize>(
    value: &'a RawValue,
    names: &[&'static str; N],
) -> [Option<&'a RawValue>; N] {
    fields(value.get(), names).map_or([None; N], |found| found.values)
}

fn number(value: &RawValue) -> Option<u16> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_tools_lines_are_read() {
        for (line, custom_id, done, status) in [
            (
                r#"{"id":"vllm-1","custom_id":"a","response":{"status_code":200,"request_id":"r","body":{}},"error":null}"#,
                Some("a"),
                true,
                Some(200),
            ),
            (
                r#"{"id":"vllm-1","custom_id":"a","response":{"status_code":400,"request_id":"r","body":null},"error":"bad"}"#,
                Some("a"),
                false,
                Some(400),
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":200,"body":null},"error":{"error":{"code":1}}}"#,
                Some("a"),
                false,
                Some(200),
            ),
            (
                r#"{"custom_id":null,"response":null,"error":{}}"#,
                None,
                false,
                None,
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":200,"body":{}}}"#,
                Some("a"),
                true,
                Some(200),
            ),
            (
                r#"{"custom_id":"a","response":{"status_code":"200"},"error":null}"#,
                Some("a"),
                false,
                None,
            ),
        ] {
            let read = ReadRecord::parse(line.as_bytes()).unwrap();
            assert_eq!(read.custom_id.as_deref(), custom_id, "{line}");
            assert_eq!((read.done, read.status), (done, status), "{line}");
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
            assert_eq!(ReadRecord::parse(line), Err(NotARecord));
        }
    }

    #[test]
    fn a_failure_that_may_pass_is_told_from_one_that_will_not() {
        for (line, passing) in [
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
            assert_eq!((read.done, read.passing), (false, passing), "{line}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(line in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = ReadRecord::parse(&line);
        }
    }
}
