//! What a request's body says of how many model tokens it will take.
//!
//! It need not be exact: OpenAI's own limiter is reported to guess from characters
//! (community.openai.com/t/360359), [`super::estimate`] corrects it by what answers have taken, and
//! the limiter settles every request with the usage in its answer. It is a quarter of the text's
//! bytes, a flat sum for what is not text, and the output that the request allows or, without a
//! limit, a guess.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json::whole;

/// Bytes of text a token stands for; English is a little above, most other text below.
const BYTES_PER_TOKEN: usize = 4;
/// The frame around each message, and around the reply (the OpenAI cookbook's figures).
const PER_MESSAGE: u64 = 4;
const PER_REPLY: u64 = 2;
/// An image, or another attachment, in OpenAI's and in Anthropic's format. Its base64 has nothing
/// to do with its cost, so its bytes are never counted.
const PER_ATTACHMENT: u64 = 85;
const PER_ANTHROPIC_SOURCE: u64 = 1_200;

/// What a request says of its size, in model tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Those of its prompt, estimated.
    pub(crate) prompt: u64,
    /// The most that each reply may have, where the body sets a limit.
    pub(crate) max_output: Option<u64>,
    /// How many replies it asks for; 1 unless the body says otherwise.
    pub(crate) replies: u64,
    /// Tells models apart.
    pub(super) model: u64,
}

impl Size {
    /// The tokens of a reply without a limit: a few paragraphs, the length of a usual chat answer.
    pub(super) const GUESS: u64 = 500;

    /// Reads a body. One in no known format counts as text.
    pub(crate) fn of(body: &[u8]) -> Self {
        let mut size = Self {
            prompt: 0,
            max_output: None,
            replies: 1,
            model: 0,
        };
        let mut json = serde_json::Deserializer::from_slice(body);
        let place = Place::Top;
        let reader = Reader {
            size: &mut size,
            place,
        };
        let is_read = reader.deserialize(&mut json).and_then(|()| json.end());
        if is_read.is_err() || size.prompt == 0 {
            size.prompt = text_tokens(body.len());
        }
        size
    }

    /// That of a chat of one message, without writing its body.
    pub(super) fn of_chat(model: u64, prompt: &str) -> Self {
        Self {
            prompt: PER_REPLY + PER_MESSAGE + text_tokens(prompt.len()),
            max_output: None,
            replies: 1,
            model,
        }
    }

    /// A request for one reply whose prompt has so many tokens.
    #[cfg(feature = "cli")]
    pub(crate) fn of_tokens(prompt: u64, max_output: Option<u64>) -> Self {
        Self {
            prompt,
            max_output,
            replies: 1,
            model: 0,
        }
    }

    /// The output of all replies together, each as long as it may be or, where it has no limit,
    /// `typical`.
    pub(crate) fn output(self, typical: u64) -> u64 {
        let each = self.max_output.unwrap_or(typical);
        each.saturating_mul(self.replies)
    }
}

/// What tells a model from others.
pub(super) fn model_key(name: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}

/// Whether a model writes text at this endpoint; for embeddings and moderations it does not.
pub(crate) fn writes(path: &str) -> bool {
    !["/embeddings", "/moderations"]
        .iter()
        .any(|silent| path.ends_with(silent))
}

fn text_tokens(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN) as u64
}

#[derive(Clone, Copy)]
enum Place {
    Top,
    Model,
    /// A prompt or a part of one: a text, a list, a message, or the number of a token.
    Prompt,
    /// JSON that a model reads about as it is: a schema, or a tool's arguments.
    Json,
    Replies,
    MaxOutput,
}

/// Reads a size in one pass and without a tree, as every request is read.
struct Reader<'s> {
    size: &'s mut Size,
    place: Place,
}

impl Reader<'_> {
    fn number(self, number: f64) {
        let (size, count) = (self.size, whole(number));
        match self.place {
            // A prompt may be a list of token numbers.
            Place::Prompt => size.prompt += 1,
            Place::Replies => size.replies = size.replies.max(count.unwrap_or(1)),
            Place::MaxOutput => size.max_output = size.max_output.max(count),
            Place::Top | Place::Model | Place::Json => {}
        }
    }
}

/// What a member counts, and what is in it where that counts as well.
fn member(place: Place, name: &str) -> (u64, Option<Place>) {
    match (place, name) {
        (Place::Top, "model") => (0, Some(Place::Model)),
        (Place::Top, "messages") => (PER_REPLY, Some(Place::Prompt)),
        (Place::Top, "input" | "prompt" | "suffix" | "system" | "instructions")
        | (
            Place::Prompt,
            "content" | "text" | "name" | "refusal" | "thinking" | "reasoning_content" | "summary"
            | "tool_calls" | "function" | "function_call" | "arguments" | "output",
        ) => (0, Some(Place::Prompt)),
        (Place::Top, "tools" | "functions" | "response_format" | "text")
        | (Place::Prompt, "input") => (0, Some(Place::Json)),
        (Place::Top, "n" | "best_of") => (0, Some(Place::Replies)),
        (Place::Top, "max_tokens" | "max_completion_tokens" | "max_output_tokens") => {
            (0, Some(Place::MaxOutput))
        }
        // Messages have a role, their parts do not.
        (Place::Prompt, "role") => (PER_MESSAGE, None),
        (
            Place::Prompt,
            "image_url" | "image" | "video_url" | "input_audio" | "file" | "file_data",
        ) => (PER_ATTACHMENT, None),
        (Place::Prompt, "source") => (PER_ANTHROPIC_SOURCE, None),
        _ => (0, None),
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let size = self.size;
        while let Some(name) = map.next_key::<&str>()? {
            let (tokens, inside) = member(self.place, name);
            size.prompt += tokens;
            match inside {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(Place::Json) => {
                    size.prompt += text_tokens(map.next_value::<&RawValue>()?.get().len());
                }
                Some(place) => map.next_value_seed(Reader { size, place })?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { size, place } = self;
        while let Some(()) = seq.next_element_seed(Reader { size, place })? {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        match self.place {
            Place::Prompt => self.size.prompt += text_tokens(text.len()),
            Place::Model => self.size.model = model_key(text),
            _ => {}
        }
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.number(number);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.number(number as f64);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.number(number as f64);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All tokens of a body, with so many for a reply without a limit.
    fn estimate(body: &[u8], typical: u64) -> u64 {
        let size = Size::of(body);
        size.prompt.saturating_add(size.output(typical))
    }

    #[test]
    fn a_chat_is_estimated_as_its_body_would_be() {
        let long = "x".repeat(100_001);
        for prompt in ["", "a", "12345", "\u{1f980}\n\"\\", &long] {
            let chat: crate::Request = crate::Request::chat("m", prompt).into();
            let alone = Size::of_chat(model_key("m"), prompt);
            assert_eq!(alone, Size::of(chat.body()), "{prompt:.20}");
            assert_ne!(alone, Size::of_chat(model_key("n"), prompt));
        }
    }

    #[test]
    fn every_format_is_counted_by_its_text() {
        for (body, expected) in [
            // 2 + 4 + 2 (8 bytes), then the typical output.
            (
                r#"{"model":"m","messages":[{"role":"user","content":"12345678"}]}"#,
                8 + 100,
            ),
            (
                r#"{"messages":[{"role":"system","content":"1234"},{"role":"user","content":"12345"}]}"#,
                2 + 5 + 6 + 100,
            ),
            // Escapes are counted as what they stand for.
            (
                r#"{"messages":[{"role":"user","content":"\u0061\n\"b"}]}"#,
                2 + 4 + 1 + 100,
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"1234"},
                   {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAAAAAAAAAAAAAAAAAAAA"}}]}]}"#,
                2 + 4 + 1 + 85 + 100,
            ),
            (
                r#"{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"call_123456789",
                   "type":"function","function":{"name":"1234","arguments":"12345678"}}]}]}"#,
                2 + 4 + 3 + 100,
            ),
            // Anthropic.
            (
                r#"{"system":[{"type":"text","text":"1234"}],"max_tokens":10,"messages":[{"role":"user",
                   "content":[{"type":"image","source":{"type":"base64","data":"AAAAAAAAAAAAAAAAAAA"}},
                   {"type":"tool_use","input":{"a":12}},
                   {"type":"tool_result","content":[{"type":"text","text":"1234"}]}]}]}"#,
                1 + 2 + 4 + 1_200 + 2 + 1 + 10,
            ),
            (
                r#"{"system":"12345678","messages":[],"max_tokens":1}"#,
                2 + 2 + 1,
            ),
            // Responses.
            (
                r#"{"instructions":"1234","input":"1234","max_output_tokens":7}"#,
                9,
            ),
            (
                r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"1234"},
                   {"type":"input_image","image_url":"data:AAAAAAAAAAAA"}]},
                   {"type":"function_call_output","call_id":"c","output":"1234"}]}"#,
                4 + 1 + 85 + 1 + 100,
            ),
            // Completions and embeddings.
            (
                r#"{"prompt":["1234","12345678"],"n":3,"max_tokens":10}"#,
                3 + 30,
            ),
            (
                r#"{"prompt":"1234","n":2,"best_of":5,"max_tokens":10}"#,
                1 + 50,
            ),
            (r#"{"input":["1234","1234"]}"#, 2 + 100),
            (r#"{"input":[[1,2,3],[4,5]]}"#, 5 + 100),
            // The larger of two limits, and limits that are none.
            (
                r#"{"prompt":"1234","max_tokens":10,"max_completion_tokens":20}"#,
                21,
            ),
            (
                r#"{"prompt":"1234","max_completion_tokens":20,"max_tokens":10}"#,
                21,
            ),
            (r#"{"prompt":"1234","max_tokens":0}"#, 1),
            (r#"{"prompt":"1234","max_tokens":null,"n":null}"#, 101),
            (r#"{"prompt":"1234","max_tokens":-5,"n":0}"#, 101),
            (r#"{"prompt":"1234","max_tokens":"9"}"#, 101),
            // A schema, by its bytes.
            (r#"{"prompt":"1234","tools":[{"a":"1234"}]}"#, 1 + 4 + 100),
            // No known format: text.
            (r#"{"query":"12345678"}"#, 5 + 100),
            (r#"["12345678"]"#, 3 + 100),
            ("not json, 16 byt", 4 + 100),
            (r#"{"messages":["#, 4 + 100),
            ("", 100),
        ] {
            assert_eq!(estimate(body.as_bytes(), 100), expected, "{body}");
        }
    }

    #[test]
    fn the_bytes_of_an_image_cost_nothing() {
        let body = |image: &str| {
            format!(
                r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{image}"}}}}]}}]}}"#
            )
        };
        let (small, large) = (
            body("data:,A"),
            body(&("data:,".to_owned() + &"A".repeat(1 << 20))),
        );
        assert_eq!(estimate(small.as_bytes(), 0), estimate(large.as_bytes(), 0));
    }

    #[test]
    fn a_prompt_too_deep_to_walk_is_taken_for_text() {
        let body = format!(
            r#"{{"input":{}{}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        assert_eq!(estimate(body.as_bytes(), 0), text_tokens(body.len()));
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(bytes in any::<Vec<u8>>(), json in "[\\{\\}\\[\\]\",:a-z0-9e+-]{0,80}", typical in any::<u64>()) {
            estimate(&bytes, typical);
            estimate(json.as_bytes(), typical);
            for name in ["messages", "input", "tools", "n", "max_tokens"] {
                estimate(format!(r#"{{"{name}":{json},"n":1000000000000}}"#).as_bytes(), typical);
            }
        }
    }
}
