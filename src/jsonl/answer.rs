//! What a record says of its row to a person: the answer, or why there is none.

use std::fmt;

use serde_json::value::RawValue;

use super::readback::{Parts, ReadRecord, http_status, kept_text};
use super::record::{beginning, is_success};
use crate::api::classify::usage_of_failure;
use crate::api::json::{count, first_fields, members, says_something, string};
use crate::api::{Content, ErrorBody, Usage};

/// The most to keep of a code and of a message, in bytes.
const LONGEST_CODE: usize = 64;
const LONGEST_MESSAGE: usize = 2 << 10;

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
    /// Reads a record.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        ReadRecord::parse_with(line, |read, parts| Self::of(&read, parts))
    }

    fn of(read: &ReadRecord, parts: Parts<'_>) -> Self {
        let [custom_id, response, _, result, _] = parts;
        let custom_id = custom_id.and_then(string);
        if !read.is_done() {
            return Self {
                custom_id,
                error: Some(Failed::read(parts).to_string()),
                ..Self::default()
            };
        }
        // Some tools keep it as a string.
        let body = kept_text(answer_body(response, result), false);
        let content = Content::read(body.as_bytes());
        let is_written = content.text.is_some();
        let text = content
            .text
            .unwrap_or_else(|| without_text(&body).to_owned());
        Self {
            custom_id,
            text: Some(text),
            is_written,
            finish_reason: content.finish_reason,
            usage: usage(parts, true),
            error: None,
        }
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

/// Why a row failed.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// The status, or the code where there is none: `HTTP 429`, `timeout`.
    pub(crate) kind: String,
    /// The start of what was said. It is not safe to show.
    pub(crate) message: String,
}

impl Failed {
    /// Reads the record of a failed row.
    pub(super) fn read([_, response, error, result, extras]: Parts<'_>) -> Self {
        let [status, body] = members(response, &["status_code", "body"]);
        let [became, errored] = members(result, &["type", "error"]);
        let [own_status, own_code] = members(extras, &["status", "code"]);
        let words = match errored.or(error.filter(|error| says_something(error.get()))) {
            // Anthropic's is in an object that says that it is one.
            Some(said) => {
                let [inner] = members(Some(said), &["error"]);
                ErrorBody::read_error(inner.unwrap_or(said).get())
            }
            None => ErrorBody::read(kept_text(body, true).as_bytes()),
        };
        // A batch says of a row without an answer what became of it: `expired`, `canceled`.
        let became = became.filter(|became| became.get() != "\"succeeded\"");
        let code = words.code.or_else(|| own_code.and_then(string));
        let code = code.or(words.codes.into_iter().next());
        let code = code.or_else(|| became.and_then(string));
        let status = status.or(own_status).and_then(http_status);
        Self {
            kind: kind(status, code.as_deref()),
            message: beginning(&words.message, LONGEST_MESSAGE).to_owned(),
        }
    }
}

/// In a line or two: `HTTP 400: no such model`.
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.kind, &*self.message) {
            (kind, "") => f.write_str(kind),
            (kind, message) if kind.starts_with("HTTP ") => write!(f, "{kind}: {message}"),
            (_, message) => f.write_str(message),
        }
    }
}

/// The status or the code of a failure.
pub(super) fn kind(status: Option<u16>, code: Option<&str>) -> String {
    match (status, code) {
        (Some(status), _) if !is_success(status) => format!("HTTP {status}"),
        (_, Some(code)) if !code.is_empty() => beginning(code, LONGEST_CODE).to_owned(),
        _ => "no answer".to_owned(),
    }
}

/// The model tokens of a row: those that the record counts, or else those of its answer.
pub(super) fn usage([_, response, _, result, extras]: Parts<'_>, is_done: bool) -> Option<Usage> {
    let [prompt, completion] = members(extras, &["prompt_tokens", "completion_tokens"]);
    match (prompt.and_then(count), completion.and_then(count)) {
        (None, None) => {
            let body = answer_body(response, result).filter(|_| is_done);
            usage_of_failure(kept_text(body, false).as_bytes())
        }
        (prompt, completion) => {
            let (prompt_tokens, completion_tokens) = (prompt.unwrap_or(0), completion.unwrap_or(0));
            Some(Usage {
                prompt_tokens,
                completion_tokens,
                total_tokens: prompt_tokens + completion_tokens,
                ..Usage::default()
            })
        }
    }
}

/// The body of an answer.
pub(super) fn answer_body<'a>(
    response: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
) -> Option<&'a RawValue> {
    members(result, &["message"])[0].or(members(response, &["body"])[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(line: &str) -> Answer {
        Answer::parse(line.as_bytes()).unwrap()
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
}
