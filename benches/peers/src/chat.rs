//! The one question that every client asks and the one answer it gets: about 1 kB up and 1.5 kB
//! down, as a short chat has it.

use serde::{Deserialize, Serialize};

pub const MODEL: &str = "a-model";
pub const KEY: &str = "a-key-that-opens-nothing";
/// Under the base URL.
pub const PATH: &str = "/chat/completions";

/// About 900 bytes of plain prose.
pub fn prompt() -> String {
    prose(900)
}

fn prose(bytes: usize) -> String {
    const SENTENCE: &str =
        "A toll gate lets one cart through at a time, and nobody waits in vain. ";
    SENTENCE.chars().cycle().take(bytes).collect()
}

/// What a program by hand sends.
#[derive(Debug, Serialize)]
pub struct Question<'a> {
    pub model: &'a str,
    pub messages: [Message<&'a str>; 1],
}

impl<'a> Question<'a> {
    pub fn new(prompt: &'a str) -> Self {
        Self {
            model: MODEL,
            messages: [Message {
                role: "user",
                content: prompt,
            }],
        }
    }
}

/// What a program by hand reads: the fields it wants and no others, the quickest way there is.
#[derive(Debug, Deserialize)]
pub struct Completion {
    choices: Vec<Choice>,
    usage: Usage,
}

#[derive(Debug, Deserialize)]
struct Choice {
    message: Message<String>,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct Message<S> {
    pub role: S,
    pub content: S,
}

#[derive(Debug, Deserialize)]
struct Usage {
    total_tokens: u64,
}

/// What a program keeps of an answer.
#[derive(Debug)]
pub struct Said {
    pub text: String,
    pub total_tokens: u64,
}

impl Said {
    /// Whether it is the whole answer.
    pub fn is_whole(&self) -> bool {
        self.text.len() == TEXT_BYTES && self.total_tokens == TOTAL_TOKENS
    }
}

impl From<Completion> for Said {
    fn from(mut completion: Completion) -> Self {
        Self {
            text: completion
                .choices
                .pop()
                .map(|choice| choice.message.content)
                .unwrap_or_default(),
            total_tokens: completion.usage.total_tokens,
        }
    }
}

const TEXT_BYTES: usize = 1_100;
const TOTAL_TOKENS: u64 = 500;

/// The body of every answer, with the fields of a real one.
pub fn answer() -> String {
    serde_json::json!({
        "id": "chatcmpl-0123456789abcdefghijklmnopqrs",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": MODEL,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": prose(TEXT_BYTES), "refusal": null },
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": 225,
            "completion_tokens": TOTAL_TOKENS - 225,
            "total_tokens": TOTAL_TOKENS,
            "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    })
    .to_string()
}
