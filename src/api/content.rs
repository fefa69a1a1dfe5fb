//! The text of an answer and why it ended, under every provider's names.

use super::json::{self, JsonVisitor, Take};

/// The text of an answer, and why the model stopped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) text: Option<String>,
    pub(super) finish_reason: Option<String>,
}

impl Content {
    /// Reads a chat completion, a completion, a response of OpenAI's or a message of Anthropic's.
    /// Empty for anything else.
    ///
    /// Where a body has several of them, the first of these counts: the message of the first choice,
    /// its text, the content of a message, the output of a response.
    pub(super) fn read(body: &[u8]) -> Self {
        let mut texts = Texts::default();
        let read = std::str::from_utf8(body).map(|json| json::visit(json, &mut texts, Place::Top));
        if !matches!(read, Ok(Ok(()))) {
            return Self::default();
        }
        let [message, choice, content, output, finish, stop] = texts.0;
        Self {
            text: message.or(choice).or(content).or(output),
            finish_reason: finish.or(stop),
        }
    }
}

/// The texts found so far, by where they were found. Of two members with one name the last counts.
#[derive(Default)]
struct Texts([Option<String>; 6]);

/// An index into [`Texts`].
type Slot = usize;
const MESSAGE: Slot = 0;
const CHOICE: Slot = 1;
const CONTENT: Slot = 2;
const OUTPUT: Slot = 3;
const FINISH_REASON: Slot = 4;
const STOP_REASON: Slot = 5;

#[derive(Clone, Copy)]
enum Place {
    Top,
    Choices,
    /// The first choice, of a chat or of a plain completion.
    Choice,
    /// The items of a response.
    Output,
    /// A string, or blocks of which some have a text; tool calls and reasoning have none.
    Text(Slot),
    /// An object whose member `holder` is a text, added to the first `before` bytes of the slot.
    Object {
        slot: Slot,
        holder: &'static str,
        before: Option<usize>,
    },
}

impl Texts {
    /// Wants a text, to be added to the first `before` bytes of `slot`.
    fn text_behind(&mut self, slot: Slot, before: Option<usize>) -> Take<Place> {
        match (&mut self.0[slot], before) {
            (Some(text), Some(before)) => text.truncate(before),
            (text, _) => *text = None,
        }
        Take::Inside(Place::Text(slot))
    }

    /// An object whose member `holder` is added to `slot`.
    fn object(&self, slot: Slot, holder: &'static str) -> Place {
        Place::Object {
            slot,
            holder,
            before: self.0[slot].as_ref().map(String::len),
        }
    }
}

impl JsonVisitor<'_> for Texts {
    type Place = Place;

    fn member(&mut self, place: Place, name: &str) -> Take<Place> {
        match (place, name) {
            (Place::Top, "choices") => {
                for slot in [MESSAGE, CHOICE, FINISH_REASON] {
                    self.0[slot] = None;
                }
                Take::Inside(Place::Choices)
            }
            (Place::Top, "content") => self.text_behind(CONTENT, None),
            (Place::Top, "output") => {
                self.0[OUTPUT] = None;
                Take::Inside(Place::Output)
            }
            (Place::Top, "stop_reason") => self.text_behind(STOP_REASON, None),
            (Place::Choice, "message") => {
                self.0[MESSAGE] = None;
                Take::Inside(self.object(MESSAGE, "content"))
            }
            (Place::Choice, "text") => self.text_behind(CHOICE, None),
            (Place::Choice, "finish_reason") => self.text_behind(FINISH_REASON, None),
            (
                Place::Object {
                    slot,
                    holder,
                    before,
                },
                _,
            ) if name == holder => self.text_behind(slot, before),
            _ => Take::Nothing,
        }
    }

    fn element(&mut self, place: Place, index: usize) -> Option<Place> {
        match place {
            // There are more if several answers were asked for.
            Place::Choices if index == 0 => Some(Place::Choice),
            Place::Output => Some(self.object(OUTPUT, "content")),
            Place::Text(slot) => Some(self.object(slot, "text")),
            _ => None,
        }
    }

    fn text(&mut self, place: Place, text: &str) {
        if let Place::Text(slot) = place {
            self.0[slot].get_or_insert_default().push_str(text);
        }
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
            (
                r#"{"content":[{"text":"a"},{"text":"no","text":"b"},{"text":"no","text":null}]}"#,
                Some("ab"),
                None,
            ),
            (
                r#"{"content":[{"text":"no","text":null}],"output":[{"content":"no","content":"x"}]}"#,
                Some("x"),
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
