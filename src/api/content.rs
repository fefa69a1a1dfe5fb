//! What an answer says and why it ends there, under every provider's names for it.

use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::walk::{self, Sink};

/// The text of an answer, and why the model stopped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) text: Option<String>,
    pub(super) finish_reason: Option<String>,
}

impl Content {
    /// Reads a chat completion, a completion, a response of OpenAI's or a message of Anthropic's.
    /// What is none of them, or no JSON, says nothing.
    ///
    /// Of a body that answers to several of the names, the first choice's message goes first, then
    /// the first choice's text, a message's content, and the output of a response.
    pub(super) fn read(body: &[u8]) -> Self {
        let mut named = Named::default();
        let read = std::str::from_utf8(body).map(|json| walk::read(json, &mut named));
        if !matches!(read, Ok(Ok(()))) {
            return Self::default();
        }
        let Named {
            choice,
            content,
            output,
            stop_reason,
        } = named;
        Self {
            text: choice.message.or(choice.text).or(content).or(output),
            finish_reason: choice.finish_reason.or(stop_reason),
        }
    }
}

/// An answer's members, by their names; of two under one name, the last.
#[derive(Default)]
struct Named {
    choice: Choice,
    content: Option<String>,
    output: Option<String>,
    stop_reason: Option<String>,
}

impl Sink for Named {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "choices" => self.choice = taken(map, Choices::default())?.first,
            "content" => self.content = taken(map, Text::default())?.0,
            "output" => self.output = taken(map, Each::new("content"))?.text.0,
            "stop_reason" => self.stop_reason = taken(map, Text::default())?.0,
            _ => walk::skip(map)?,
        }
        Ok(())
    }
}

/// What `sink` makes of a member's value.
fn taken<'de, S: Sink, A: MapAccess<'de>>(map: &mut A, mut sink: S) -> Result<S, A::Error> {
    walk::into(map, &mut sink)?;
    Ok(sink)
}

/// The first of an array; there are more where several answers were asked for.
#[derive(Default)]
struct Choices {
    first: Choice,
    is_past: bool,
}

impl Sink for Choices {
    fn element<'de, A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<bool, A::Error> {
        if std::mem::replace(&mut self.is_past, true) {
            return Ok(seq.next_element::<IgnoredAny>()?.is_some());
        }
        walk::next(seq, &mut self.first)
    }
}

/// One choice, of a chat or of a plain completion.
#[derive(Default)]
struct Choice {
    message: Option<String>,
    text: Option<String>,
    finish_reason: Option<String>,
}

impl Sink for Choice {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "message" => self.message = taken(map, Member::new("content"))?.text,
            "text" => self.text = taken(map, Text::default())?.0,
            "finish_reason" => self.finish_reason = taken(map, Text::default())?.0,
            _ => walk::skip(map)?,
        }
        Ok(())
    }
}

/// An object's member of this name, as text.
struct Member {
    name: &'static str,
    text: Option<String>,
}

impl Member {
    fn new(name: &'static str) -> Self {
        Self { name, text: None }
    }
}

impl Sink for Member {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        if name != self.name {
            return walk::skip(map);
        }
        self.text = taken(map, Text::default())?.0;
        Ok(())
    }
}

/// The members of this name of an array's objects, one after the other.
struct Each {
    name: &'static str,
    text: Text,
}

impl Each {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            text: Text::default(),
        }
    }
}

impl Sink for Each {
    fn element<'de, A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<bool, A::Error> {
        self.text.add(seq, self.name)
    }
}

/// A string, or blocks of which some have a text: those of a tool's call or of reasoning have none.
#[derive(Default)]
struct Text(Option<String>);

impl Text {
    /// Adds the member `name` of the next object; false if there is none.
    fn add<'de, A: SeqAccess<'de>>(
        &mut self,
        seq: &mut A,
        name: &'static str,
    ) -> Result<bool, A::Error> {
        let mut member = Member::new(name);
        let is_there = walk::next(seq, &mut member)?;
        if let Some(text) = member.text {
            self.text(&text);
        }
        Ok(is_there)
    }
}

impl Sink for Text {
    fn text(&mut self, text: &str) {
        self.0.get_or_insert_default().push_str(text);
    }

    fn element<'de, A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<bool, A::Error> {
        self.add(seq, "text")
    }
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
            // Doubled names: the last counts, as in other parsers.
            (
                r#"{"choices":[{"message":{"content":"no"}}],"choices":[{"text":"a"}]}"#,
                Some("a"),
                None,
            ),
            (
                r#"{"choices":[{"message":{"content":"a","content":"b"},"finish_reason":"length",
                   "finish_reason":"stop"}]}"#,
                Some("b"),
                Some("stop"),
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
