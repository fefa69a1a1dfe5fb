//! The text of an answer and why it ended, under every provider's names.

use serde_json::value::RawValue;

use super::json::{fields, fields_at_start, members, string};

/// The text of an answer, and why the model stopped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) text: Option<String>,
    pub(crate) finish_reason: Option<String>,
}

impl Content {
    /// Reads a chat completion, a completion, a response of OpenAI's or a message of Anthropic's.
    /// Empty for anything else.
    ///
    /// Where a body has several of them, the first of these counts: the message of the first
    /// choice, its text, the content of a message, the output of a response.
    pub(crate) fn read(body: &[u8]) -> Self {
        let json = str::from_utf8(body).unwrap_or_default();
        let found = fields(json, &["choices", "content", "output", "stop_reason"]);
        let [choices, content, output, stop_reason] = found.map_or([None; 4], |it| it.values);
        // There are more if several answers were asked for.
        let first = choices.and_then(|choices| choices.get().strip_prefix('['));
        let names = ["message", "text", "finish_reason"];
        let first = fields_at_start(first.unwrap_or_default(), &names);
        let [message, choice, finish_reason] = first.unwrap_or_default();
        let [message] = members(message, &["content"]);
        let items = output.map(elements).unwrap_or_default().into_iter();
        let output = items.filter_map(|item| members(item.into(), &["content"])[0].and_then(text));
        Self {
            text: (message.and_then(text))
                .or_else(|| choice.and_then(text))
                .or_else(|| content.and_then(text))
                .or_else(|| joined(output)),
            finish_reason: finish_reason.or(stop_reason).and_then(string),
        }
    }
}

/// The elements of an array.
fn elements(json: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(json.get()).unwrap_or_default()
}

/// A string, or blocks of which some have a text; tool calls and reasoning have none.
fn text(json: &RawValue) -> Option<String> {
    let blocks = || elements(json).into_iter();
    let texts =
        || blocks().filter_map(|block| members(block.into(), &["text"])[0].and_then(string));
    string(json).or_else(|| joined(texts()))
}

fn joined(texts: impl Iterator<Item = String>) -> Option<String> {
    texts.reduce(|all, text| all + &text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(text: Option<&str>, finish_reason: Option<&str>) -> Content {
        Content {
            text: text.map(str::to_owned),
            finish_reason: finish_reason.map(str::to_owned),
        }
    }

    #[test]
    fn every_shape_is_read() {
        for (body, text, finish_reason) in [
            // A chat completion: of several choices, the first.
            (
                r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"caf\u00e9\n"},
                   "finish_reason":"stop"},{"message":{"content":"no"},"finish_reason":"length"}]}"#,
                Some("café\n"),
                Some("stop"),
            ),
            (
                r#"{"choices":[{"message":{"content":""},"finish_reason":"content_filter"}]}"#,
                Some(""),
                Some("content_filter"),
            ),
            // A call of a tool.
            (
                r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"t","function":
                   {"name":"f","arguments":"{\"content\":\"no\"}"}}]},"finish_reason":"tool_calls"}]}"#,
                None,
                Some("tool_calls"),
            ),
            // A message in blocks, as reasoning models of Mistral's send it.
            (
                r#"{"choices":[{"message":{"content":[{"type":"thinking","thinking":[{"type":"text",
                   "text":"no"}]},{"type":"text","text":"4"},{"type":"text","text":"2"}]}}]}"#,
                Some("42"),
                None,
            ),
            // A completion.
            (
                r#"{"choices":[{"text":"hi","index":0,"logprobs":null,"finish_reason":"length"}]}"#,
                Some("hi"),
                Some("length"),
            ),
            // Anthropic's message.
            (
                r#"{"type":"message","content":[{"type":"thinking","thinking":"no"},{"type":"text",
                   "text":"a"},{"type":"tool_use","input":{"text":"no"}},{"type":"text","text":"b"}],
                   "stop_reason":"end_turn"}"#,
                Some("ab"),
                Some("end_turn"),
            ),
            (
                r#"{"content":[{"type":"tool_use","input":{}}],"stop_reason":"tool_use"}"#,
                None,
                Some("tool_use"),
            ),
            // A response.
            (
                r#"{"object":"response","output":[{"type":"reasoning","summary":[]},{"type":"message",
                   "content":[{"type":"output_text","text":"x"},{"type":"refusal","refusal":"no"}]},
                   {"type":"message","content":[{"type":"output_text","text":"y"}]}]}"#,
                Some("xy"),
                None,
            ),
            // An embedding, and answers that are no such thing.
            (r#"{"data":[{"embedding":[0.1,0.2]}]}"#, None, None),
            (r#"{"choices":[]}"#, None, None),
            (r#"{"choices":{"message":{"content":"no"}}}"#, None, None),
            (r#"{"choices":[{"message":"no","text":7}]}"#, None, None),
            (r#"{"choices":null,"content":3,"output":"no"}"#, None, None),
            ("[1]", None, None),
            ("7", None, None),
            ("", None, None),
            (r#"{"choices":[{"text":"no"}]"#, None, None),
        ] {
            let read = Content::read(body.as_bytes());
            assert_eq!(read, content(text, finish_reason), "{body}");
        }
    }

    #[test]
    fn nothing_beside_it_hides_the_text() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for value in [&*deep, "1e999", "-0", "\"\\ud83d\\ude00\""] {
            let body = format!(
                r#"{{"other":{value},"choices":[{{"logprobs":{value},"message":{{"content":"hi",
                   "annotations":{value}}}}},{value}]}}"#
            );
            let read = Content::read(body.as_bytes());
            assert_eq!(read.text.as_deref(), Some("hi"), "{value:.20}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body: Vec<u8>, json in "[\\{\\}\\[\\]\",:a-z_0-9e+-]{0,60}") {
            let _ = Content::read(&body);
            for name in ["choices", "content", "output", "stop_reason"] {
                let _ = Content::read(format!(r#"{{"{name}":{json}}}"#).as_bytes());
            }
        }

        #[test]
        fn a_text_comes_out_as_it_went_in(text: String) {
            let body = serde_json::json!({"choices": [{"message": {"content": text}}]});
            let read = Content::read(body.to_string().as_bytes());
            prop_assert_eq!(read.text, Some(text));
        }
    }
}
