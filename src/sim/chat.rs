//! Chat completions, whole or as a stream.

use serde_json::{Value, json};

use super::api_error::ApiError;
use super::content::{CREATED, Content};
use super::fields::Fields;
use super::generate::Text;

pub(super) fn chat(fields: &mut Fields) -> Result<Content, ApiError> {
    fields.conversation("messages")?;
    fields.form()?;
    let limit = fields.count("max_completion_tokens", u64::MAX)?;
    let limit = limit.or(fields.count("max_tokens", u64::MAX)?);
    let limit = limit.unwrap_or(u64::MAX);
    let count = fields.count("n", 128)?.unwrap_or(1);
    let texts: Vec<Text> = (0..count).map(|n| fields.answer(n, limit)).collect();
    Ok(if fields.is_set("stream") {
        Content::Events(chat_events(fields, &texts))
    } else {
        chat_body(fields, &texts)
    })
}

fn chat_body(fields: &Fields, texts: &[Text]) -> Content {
    let choice = |(index, text): (usize, &Text)| {
        let mut message = json!({"role": "assistant", "content": text.words, "refusal": null});
        if let Some(name) = fields.tool() {
            let function = json!({"name": name, "arguments": text.words});
            let call = json!({"id": fields.id("call"), "type": "function", "function": function});
            message["content"] = Value::Null;
            message["tool_calls"] = json!([call]);
        }
        let finish = fields.finish_reason(text);
        json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish})
    };
    let choices: Vec<Value> = texts.iter().enumerate().map(choice).collect();
    Content::of(&json!({
        "id": fields.id("chatcmpl"),
        "object": "chat.completion",
        "created": CREATED,
        "model": fields.model,
        "choices": choices,
        "usage": fields.usage(),
        "system_fingerprint": "fp_simulated",
    }))
}

/// The chunks of a streamed chat answer: for each choice its role, its text in pieces of a few
/// words, and why it ended; then the usage if it was asked for, and `[DONE]`.
fn chat_events(fields: &Fields, texts: &[Text]) -> Vec<String> {
    const WORDS_A_PIECE: usize = 8;
    let options = fields.get("stream_options");
    let with_usage = options.is_some_and(|options| options["include_usage"] == true);
    let id = fields.id("chatcmpl");
    let event = |choices: &[Value], usage: Value| {
        let mut chunk = json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": fields.model,
            "choices": choices,
            "system_fingerprint": "fp_simulated",
        });
        if with_usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n")
    };
    let mut events = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let mut choice = json!({"index": index, "logprobs": null, "finish_reason": null});
        let mut push = |delta: Value, finish: Option<&str>| {
            choice["delta"] = delta;
            choice["finish_reason"] = json!(finish);
            events.push(event(std::slice::from_ref(&choice), Value::Null));
        };
        let arguments = |piece| json!({"index": 0, "function": {"arguments": piece}});
        let mut first = json!({"role": "assistant", "content": ""});
        if let Some(name) = fields.tool() {
            let mut call = arguments(String::new());
            call["id"] = json!(fields.id("call"));
            call["type"] = json!("function");
            call["function"]["name"] = json!(name);
            first = json!({"role": "assistant", "content": null, "tool_calls": [call]});
        }
        push(first, None);
        let words: Vec<&str> = text.words.split_inclusive(' ').collect();
        for piece in words.chunks(WORDS_A_PIECE) {
            let piece = piece.concat();
            let delta = match fields.tool() {
                Some(_) => json!({"tool_calls": [arguments(piece)]}),
                None => json!({"content": piece}),
            };
            push(delta, None);
        }
        push(json!({}), Some(fields.finish_reason(text)));
    }
    if with_usage {
        events.push(event(&[], fields.usage()));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}
