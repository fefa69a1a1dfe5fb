//! Whether the body of a 2xx answer is what its endpoint promises.

use serde::de::{Error as _, IgnoredAny};
use serde_json::value::RawValue;

use crate::api::error_body::ErrorBody;
use crate::api::json::{
    LONGEST_PARSED, fields, fields_at_start, first_fields, mended, says_something, with_nulls,
};
use crate::api::response::Promise;
use crate::api::usage::Usage;

/// A 2xx body that is JSON in UTF-8, read in one pass.
#[derive(Debug)]
pub(super) struct AnswerBody<'b> {
    text: &'b str,
    /// The byte that its JSON begins with.
    opening: Option<u8>,
    /// The members [`NAMES`] of an object, as text, so that no depth and no odd number inside them
    /// is an error of the body.
    members: [Option<&'b RawValue>; NAMES.len()],
}

/// Why a model's choice ended that is not whole: the server failed in its midst. The second word
/// says that it was short of capacity.
const BROKEN_OFF: [&str; 4] = [
    "error",
    "insufficient_system_resource",
    "network_error",
    "abort",
];

const NAMES: [&str; 9] = [
    "usage",
    "error",
    "choices",
    "data",
    "embedding",
    "content",
    "stop_reason",
    "output",
    "status",
];

impl<'b> AnswerBody<'b> {
    /// Reads a body.
    ///
    /// # Errors
    /// If it is not exactly one JSON value in UTF-8.
    pub(super) fn read(body: &'b [u8]) -> serde_json::Result<Self> {
        // The JSON parser does not check the encoding of strings that it skips, and a results file
        // must be UTF-8.
        let text = std::str::from_utf8(body).map_err(serde_json::Error::custom)?;
        let opening = text.bytes().find(|byte| !byte.is_ascii_whitespace());
        let members = if opening == Some(b'{') {
            fields(text, &NAMES)?.values
        } else {
            serde_json::from_str::<IgnoredAny>(text)?;
            Default::default()
        };
        Ok(Self {
            text,
            opening,
            members,
        })
    }

    /// Reads the first member `body` of a record's response, if it is an object.
    pub(super) fn of_response(response: &'b str) -> Option<Self> {
        let (_, body) = response.split_once("\"body\"")?;
        Self::at_start(body.trim_ascii_start().strip_prefix(':')?)
    }

    /// Reads the object that `text` begins with, whatever follows it.
    fn at_start(text: &'b str) -> Option<Self> {
        Some(Self {
            text,
            opening: Some(b'{'),
            members: fields_at_start(text, &NAMES).ok()?,
        })
    }

    fn get(&self, name: &str) -> Option<&'b str> {
        let index = NAMES.iter().position(|known| *known == name)?;
        let json = self.members[index].map(RawValue::get);
        json.filter(|json| *json != "null")
    }

    /// Whether it is an object or an array: no endpoint answers with less.
    pub(super) fn is_composite(&self) -> bool {
        matches!(self.opening, Some(b'{' | b'['))
    }

    /// The usage, where the body has a plausible one.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.get("usage").and_then(Usage::read)
    }

    /// Whether it is the answer that is promised.
    ///
    /// # Errors
    /// The error that it is, if it says that something failed; `None` if it lacks what is promised.
    pub(super) fn keeps(&self, promise: Promise) -> Result<(), Option<Box<ErrorBody>>> {
        let has_choices = self.get("choices").is_some_and(has_elements);
        // What an endpoint that nobody knows says beside its choices is its own business.
        if self.get("error").is_some_and(says_something)
            && !(promise == Promise::Anything && has_choices)
        {
            return Err(Some(self.says().into()));
        }
        let is_there = match promise {
            Promise::Choices => {
                if let Some(error) = self.get("choices").and_then(broken_off) {
                    return Err(Some(error.into()));
                }
                has_choices
            }
            // Ollama's own embeddings have no data.
            Promise::Embeddings => [self.get("data"), self.get("embedding")]
                .into_iter()
                .flatten()
                .any(has_elements),
            Promise::Message => self.get("content").is_some_and(|content| {
                has_elements(content)
                    || (content.starts_with('[') && self.get("stop_reason").is_some())
            }),
            Promise::Response => match self.get("status") {
                Some("\"failed\"") => return Err(Some(Box::default())),
                // A response may be asked for before it is written, or end before its first word.
                Some("\"queued\"" | "\"in_progress\"" | "\"incomplete\"" | "\"cancelled\"") => {
                    self.get("output").is_some()
                }
                _ => self.get("output").is_some_and(has_elements),
            },
            Promise::Anything => self.is_composite(),
        };
        is_there.then_some(()).ok_or(None)
    }

    /// The body, read like that of an error.
    pub(super) fn says(&self) -> ErrorBody {
        if self.text.len() > LONGEST_PARSED {
            return ErrorBody::default();
        }
        ErrorBody::read(self.text.as_bytes())
    }
}

/// Whether a body that is no answer holds one all the same: in JSON that is not quite JSON, in a
/// string, in a list, or with something before or behind it.
pub(super) fn holds_answer(body: &[u8], promise: Promise) -> bool {
    let body = unwrapped(body);
    let answer = match promise {
        // Of an unknown endpoint any object is an answer, even one that is part of a text.
        Promise::Anything => AnswerBody::read(body.as_bytes()).ok(),
        _ => body
            .find('{')
            .and_then(|start| AnswerBody::at_start(&body[start..])),
    };
    answer.is_some_and(|answer| answer.keeps(promise).is_ok())
}

/// What an answer of no use says that it took.
pub(crate) fn usage_of_failure(body: &[u8]) -> Option<Usage> {
    match AnswerBody::read(body) {
        Ok(answer) if answer.opening == Some(b'{') => answer.usage(),
        _ => {
            let body = unwrapped(body);
            AnswerBody::at_start(&body[body.find('{')?..])?.usage()
        }
    }
}

/// A body mended, and taken out of a string.
fn unwrapped(body: &[u8]) -> String {
    let text = mended(&String::from_utf8_lossy(body));
    let text = with_nulls(&text).unwrap_or(text);
    serde_json::from_str(&text).unwrap_or(text)
}

/// Whether an array's first element is there, and is not null.
fn has_elements(json: &str) -> bool {
    let first = json.strip_prefix('[').map(str::trim_ascii_start);
    first.is_some_and(|rest| !rest.starts_with([']', 'n']))
}

/// The error of the first choice that has one, or that ended with one.
fn broken_off(choices: &str) -> Option<ErrorBody> {
    // Most choices speak of none of it, and need no second look.
    if !BROKEN_OFF.iter().any(|word| choices.contains(word)) {
        return None;
    }
    let choices: Vec<&RawValue> = serde_json::from_str(choices).ok()?;
    choices.into_iter().find_map(|choice| {
        let [error, reason] = first_fields(choice.get(), &["error", "finish_reason"]);
        let reason: Option<&str> =
            reason.and_then(|reason| serde_json::from_str(reason.get()).ok());
        let reason = reason.filter(|reason| BROKEN_OFF.contains(reason));
        let error = error
            .map(RawValue::get)
            .filter(|error| says_something(error));
        match error {
            Some(error) => Some(ErrorBody::read_error(error)),
            None => reason.map(ErrorBody::of_code),
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> AnswerBody<'_> {
        AnswerBody::read(body.as_bytes()).expect(body)
    }

    #[test]
    fn each_endpoint_keeps_its_promise_or_not() {
        use Promise as P;
        for (promise, answers, others) in [
            (
                P::Choices,
                &[
                    r#"{"choices":[{"message":{"content":"hi"}}]}"#,
                    r#"{"choices":[ {"message":{"content":null,"tool_calls":[{}]}}]}"#,
                    r#"{"choices":[{"finish_reason":"content_filter"}]}"#,
                    r#"{"choices":[{"message":{"content":"error, abort"},"finish_reason":"stop"}]}"#,
                    r#"{"choices":[{"error":null,"finish_reason":"length"}]}"#,
                    r#"{"choices":[{"content_filter_results":{"error":{"code":"content_filter_error"}}}]}"#,
                    r#"{"error":{"code":null,"message":""},"choices":[{}]}"#,
                    r#"{"error":"","choices":[{}],"base_resp":{"status_code":0}}"#,
                ][..],
                &[
                    "{}",
                    "[]",
                    r#"{"choices":[]}"#,
                    r#"{"choices":[ ]}"#,
                    r#"{"choices":null}"#,
                    r#"{"choices":[null]}"#,
                    r#"{"choices":"x"}"#,
                    r#"{"choices":{}}"#,
                    r#"{"output":[{}],"data":[{}],"content":[{}]}"#,
                    r#"{"error":{"code":502},"choices":[{}]}"#,
                    r#"{"choices":[{"index":0},{"error":{"code":502}}]}"#,
                    r#"{"choices":[{"message":{},"finish_reason":"error"}]}"#,
                    r#"{"choices":[{"message":{},"finish_reason":"insufficient_system_resource"}]}"#,
                    r#"{"data":{"choices":[1]}}"#,
                ][..],
            ),
            (
                P::Embeddings,
                &[
                    r#"{"data":[{"embedding":[0.1]}]}"#,
                    r#"{"embedding":[0.1]}"#,
                ],
                &[
                    "{}",
                    r#"{"data":[]}"#,
                    r#"{"data":null}"#,
                    r#"{"data":[{}],"error":{"message":"m"}}"#,
                ],
            ),
            (
                P::Message,
                &[
                    r#"{"content":[{"type":"text","text":"hi"}]}"#,
                    r#"{"content":[],"stop_reason":"end_turn"}"#,
                ],
                &[
                    r#"{"content":[],"stop_reason":null}"#,
                    r#"{"content":"hi","stop_reason":"end_turn"}"#,
                    r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
                    r#"{"type":"message"}"#,
                ],
            ),
            (
                P::Response,
                &[
                    r#"{"output":[{"type":"message"}],"status":"completed","error":null}"#,
                    r#"{"output":[{}]}"#,
                    r#"{"output":[],"status":"incomplete"}"#,
                    r#"{"output":[],"status":"queued"}"#,
                ],
                &[
                    r#"{"output":[],"status":"completed"}"#,
                    r#"{"status":"completed"}"#,
                    r#"{"output":[{}],"status":"failed"}"#,
                    r#"{"output":[{}],"error":{"code":"server_error"}}"#,
                    r#"{"output":null,"status":"queued"}"#,
                ],
            ),
            (
                P::Anything,
                &[
                    "{}",
                    "[]",
                    r#"{"detail":"m"}"#,
                    r#"{"choices":[{}],"error":{"code":502}}"#,
                    r#"{"choices":[{"error":{"code":502}}]}"#,
                    r#"{"data":{"error":1}}"#,
                ],
                &[
                    "null",
                    "1",
                    r#""ok""#,
                    r#"{"error":{"code":502}}"#,
                    r#"{"err\u006fr":1}"#,
                    r#"{"error":"busy","choices":[]}"#,
                ],
            ),
        ] {
            for body in answers {
                assert!(read(body).keeps(promise).is_ok(), "{promise:?} {body}");
            }
            for body in others {
                assert!(read(body).keeps(promise).is_err(), "{promise:?} {body}");
            }
        }
    }

    #[test]
    fn only_whole_json_in_utf8_is_read() {
        let wrong: [&[u8]; 10] = [
            b"",
            b"  ",
            b"<html></html>",
            b"{\"a\":1",
            b"{\"a\":1}{}",
            b"{'a':1}",
            b"[1,]",
            b"{\"a\":\"\xff\"}",
            b"[\"\xc0\xaf\"]",
            b"\xef\xbb\xbf{}",
        ];
        for body in wrong {
            let shown = String::from_utf8_lossy(body);
            assert!(AnswerBody::read(body).is_err(), "{shown}");
        }
        for body in [" [1,2] ", "{}", "null", "\"ok\"", "1"] {
            read(body);
        }
    }

    #[test]
    fn depth_and_odd_numbers_do_not_fail_a_body() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for name in ["usage", "error", "choices", "other"] {
            for value in [&*deep, "1e400"] {
                let body = format!(r#"{{"{name}":{value}}}"#);
                assert!(AnswerBody::read(body.as_bytes()).is_ok(), "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in any::<Vec<u8>>(), choices in "[\\{\\}\\[\\]\",:a-z]{0,60}") {
            let _ = AnswerBody::read(&body);
            let body = format!(r#"{{"choices":[{{"error":{choices}}}]}}"#);
            if let Ok(body) = AnswerBody::read(body.as_bytes()) {
                let _ = body.keeps(Promise::Choices);
            }
        }
    }
}
