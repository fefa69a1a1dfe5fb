//! A chat answer as a stream: the events that say the same as the whole one.

use serde_json::{Value, json};

const WORDS_A_PIECE: usize = 8;

/// The chunks of `whole`: for each choice its role, its text or a call's arguments in pieces of a
/// few words, and why it ended; then the usage if it was asked for, and `[DONE]`.
pub(super) fn events(mut whole: Value, with_usage: bool) -> Vec<String> {
    let (choices, usage) = (whole["choices"].take(), whole["usage"].take());
    if let Some(fields) = whole.as_object_mut().filter(|_| !with_usage) {
        fields.remove("usage");
    }
    whole["object"] = json!("chat.completion.chunk");
    let mut events = Vec::new();
    let mut push = |choices: Value, usage: Value| {
        whole["choices"] = choices;
        if with_usage {
            whole["usage"] = usage;
        }
        events.push(format!("data: {whole}\n\n"));
    };
    for choice in choices.as_array().into_iter().flatten() {
        let message = &choice["message"];
        let call = &message["tool_calls"][0];
        let mut first = json!({"role": "assistant", "content": ""});
        if !call.is_null() {
            let mut call = call.clone();
            call["index"] = json!(0);
            call["function"]["arguments"] = json!("");
            first = json!({"role": "assistant", "content": null, "tool_calls": [call]});
        }
        let text = message["content"].as_str();
        let text = text.or(call["function"]["arguments"].as_str());
        let words: Vec<&str> = text.unwrap_or_default().split_inclusive(' ').collect();
        let pieces = words.chunks(WORDS_A_PIECE).map(<[&str]>::concat);
        let pieces = pieces.map(|piece| match call {
            Value::Null => json!({"content": piece}),
            _ => json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}),
        });
        let mut delta = |delta: Value, finish: &Value| {
            let index = &choice["index"];
            let choice =
                json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish});
            push(json!([choice]), Value::Null);
        };
        delta(first, &Value::Null);
        pieces.for_each(|piece| delta(piece, &Value::Null));
        delta(json!({}), &choice["finish_reason"]);
    }
    if with_usage {
        push(json!([]), usage);
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}
