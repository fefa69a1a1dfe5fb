//! A result line, read back.
//!
//! Asks little: which row, is it done, is it the same request, was it paid for. Takes the lines of
//! other tools as they are: vLLM writes `error` as a string or a nested object, and `body` as null.

use serde_json::value::RawValue;

use super::hash::LineHash;
use super::object::fields;
use super::record::is_success;

/// What a resume needs to know of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadRecord {
    pub(crate) custom_id: Option<String>,
    /// Answered with success, and nothing wrong with the answer.
    pub(crate) done: bool,
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
            status: status.and_then(number),
            hash: hash
                .and_then(|hash| serde_json::from_str(hash.get()).ok())
                .and_then(LineHash::parse),
            simulated: simulated.is_some_and(|mark| mark.get() == "true"),
        };
        if let Some(result) = result {
            let [kind] = nested(result, &["type"]);
            read.done = kind.is_some_and(|kind| kind.get() == "\"succeeded\"");
        } else if let Some(response) = response {
            let [status] = nested(response, &["status_code"]);
            read.status = status.and_then(number);
            read.done = read.status.is_some_and(is_success)
                && error.is_none_or(|error| error.get() == "null");
        }
        Ok(read)
    }
}

/// A line of a results file that is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotARecord;

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

    proptest! {
        #[test]
        fn reading_never_panics(line in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = ReadRecord::parse(&line);
        }
    }
}
