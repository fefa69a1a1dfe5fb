//! The endpoints: what would be answered, were there no limits and nothing ever went wrong.
//!
//! Pure functions of the seed and the request, so the same request always gets the same bytes.
//! Whether the answer is given, when, and what it costs against the limits is `model`'s to say.

use std::io::Write as _;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::asked::{Asked, wrong_type};
use super::chance::Digest;
use super::refusal::Refusal;
use super::text::{Text, embed};

/// A request as far as the endpoints look at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// As in the request line, query included.
    pub(super) path: &'a str,
    pub(super) body: &'a [u8],
}

/// An answer not given yet.
#[derive(Debug, PartialEq)]
pub(super) struct Draft {
    pub(super) outcome: Result<Content, Refusal>,
    /// Whether it is one of the requests that limits, latency and errors are for.
    pub(super) metered: bool,
    /// What the answer's usage says, in model tokens.
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    /// The digest of what was asked: equal requests have equal ones.
    pub(super) identity: u64,
}

#[derive(Debug, PartialEq)]
pub(super) enum Content {
    Json(Vec<u8>),
    /// Server-sent events, one after the other over the answer's latency.
    Events(Vec<Vec<u8>>),
}

/// Constant, so that equal requests get equal bytes: 2026-01-01 00:00:00 UTC.
const CREATED: u64 = 1_767_225_600;

/// The models that the list names; any other name is taken as well.
const LISTED: [&str; 3] = ["gpt-4o-mini", "gpt-4o", "text-embedding-3-small"];

/// What OpenAI's moderation judges by (`omni-moderation`).
const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// What would be answered to `request`.
pub(super) fn draft(seed: u64, request: &Request<'_>) -> Draft {
    let path = request.path.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let endpoint: fn(&mut Asked) -> Result<Content, Refusal> = match path {
        "/chat/completions" => chat,
        "/completions" => completions,
        "/embeddings" => embeddings,
        "/responses" => responses,
        "/moderations" => moderations,
        "/messages" => messages,
        _ => return free(models(request, path)),
    };
    if request.method != "POST" {
        return free(Err(Refusal::method(request.method, path, "POST")));
    }
    let mut digest = Digest::new(seed);
    digest.part(path.as_bytes());
    let mut asked = Asked::new(digest);
    let outcome = asked
        .read(request.body, default_model(path))
        .and_then(|()| endpoint(&mut asked));
    let (prompt_tokens, completion_tokens) = match outcome {
        Ok(_) => (asked.prompt_tokens, asked.completion_tokens),
        Err(_) => (0, 0),
    };
    Draft {
        outcome,
        metered: true,
        prompt_tokens,
        completion_tokens,
        identity: asked.digest.finish(),
    }
}

/// The model of a request that may leave it out.
fn default_model(path: &str) -> Option<&'static str> {
    (path == "/moderations").then_some("omni-moderation-latest")
}

fn free(outcome: Result<Content, Refusal>) -> Draft {
    Draft {
        outcome,
        metered: false,
        prompt_tokens: 0,
        completion_tokens: 0,
        identity: 0,
    }
}

fn chat(asked: &mut Asked) -> Result<Content, Refusal> {
    match asked.fields.remove("messages") {
        Some(Value::Array(messages)) => asked.messages(&messages, "messages")?,
        None | Some(Value::Null) => return Err(Refusal::missing("messages")),
        Some(_) => return Err(wrong_type("messages", "an array")),
    }
    let limit = match asked.count("max_completion_tokens", 1, u64::MAX)? {
        Some(limit) => limit,
        None => asked.count("max_tokens", 1, u64::MAX)?.unwrap_or(u64::MAX),
    };
    let count = asked.count("n", 1, 128)?.unwrap_or(1);
    let texts = asked.choices(count, limit);
    if asked.is_set("stream") {
        return Ok(Content::Events(chat_events(asked, &texts)));
    }
    Ok(Content::Json(chat_body(asked, &texts)))
}

/// Written by hand: `json!` builds a tree of maps first, which on this one endpoint, the one that
/// clients are measured against, took a quarter of the server's time and most of its allocations.
fn chat_body(asked: &Asked, texts: &[Text]) -> Vec<u8> {
    // Writing to a Vec does not fail, and the texts are words without anything to escape.
    let mut body = Vec::with_capacity(1024);
    let (id, model) = (asked.id("chatcmpl"), json!(asked.model));
    let _ = write!(
        body,
        r#"{{"id":"{id}","object":"chat.completion","created":{CREATED},"model":{model},"choices":["#
    );
    for (index, text) in texts.iter().enumerate() {
        let (comma, finish) = (if index > 0 { "," } else { "" }, finish_reason(text));
        let _ = write!(
            body,
            r#"{comma}{{"index":{index},"message":{{"role":"assistant","content":"{}","refusal":null}},"#,
            text.words
        );
        let _ = write!(body, r#""logprobs":null,"finish_reason":"{finish}"}}"#);
    }
    let (prompt, completion) = (asked.prompt_tokens, asked.completion_tokens);
    let total = prompt + completion;
    let _ = write!(
        body,
        r#"],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total}}},"#
    );
    let _ = write!(body, r#""system_fingerprint":"fp_simulated"}}"#);
    body
}

/// The chunks of a streamed chat answer: for each choice its role, its text in pieces of a few
/// words, and why it ended; then the usage if it was asked for, and `[DONE]`.
fn chat_events(asked: &Asked, texts: &[Text]) -> Vec<Vec<u8>> {
    const WORDS_A_PIECE: usize = 8;
    let with_usage = asked
        .fields
        .get("stream_options")
        .and_then(|options| options.get("include_usage"))
        .and_then(Value::as_bool)
        == Some(true);
    let id = asked.id("chatcmpl");
    let event = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": asked.model,
            "choices": choices,
            "system_fingerprint": "fp_simulated",
        });
        if with_usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n").into_bytes()
    };
    let delta = |index: usize, delta: Value, finish: Option<&str>| {
        event(
            json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}]),
            Value::Null,
        )
    };
    let mut events = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        events.push(delta(
            index,
            json!({"role": "assistant", "content": ""}),
            None,
        ));
        let words: Vec<&str> = text.words.split_inclusive(' ').collect();
        for piece in words.chunks(WORDS_A_PIECE) {
            events.push(delta(index, json!({"content": piece.concat()}), None));
        }
        events.push(delta(index, json!({}), Some(finish_reason(text))));
    }
    if with_usage {
        events.push(event(json!([]), asked.usage()));
    }
    events.push(b"data: [DONE]\n\n".to_vec());
    events
}

fn completions(asked: &mut Asked) -> Result<Content, Refusal> {
    asked.refuse_stream()?;
    let prompts = asked.inputs("prompt")?;
    let limit = asked.count("max_tokens", 1, u64::MAX)?.unwrap_or(16);
    let each = asked.count("n", 1, 128)?.unwrap_or(1);
    let count = each * prompts.len() as u64;
    if count > 2048 {
        return Err(wrong_type("n", "at most 2048 choices over all prompts"));
    }
    let texts = asked.choices(count, limit);
    let choices: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({
                "index": index,
                "text": text.words,
                "logprobs": null,
                "finish_reason": finish_reason(text),
            })
        })
        .collect();
    Ok(body(&json!({
        "id": asked.id("cmpl"),
        "object": "text_completion",
        "created": CREATED,
        "model": asked.model,
        "choices": choices,
        "usage": asked.usage(),
    })))
}

fn embeddings(asked: &mut Asked) -> Result<Content, Refusal> {
    let inputs = asked.inputs("input")?;
    // The size of OpenAI's small model; 4096 bounds what one request can make the server write.
    let dimensions = asked.count("dimensions", 1, 4096)?.unwrap_or(1536);
    let dimensions = usize::try_from(dimensions).unwrap_or(1536);
    let packed = match asked.fields.get("encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => true,
        Some(_) => return Err(wrong_type("encoding_format", "float or base64")),
    };
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, identity)| {
            let vector = embed(*identity, dimensions);
            let embedding = if packed {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Value::String(BASE64_STANDARD.encode(&bytes))
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    Ok(body(&json!({
        "object": "list",
        "data": data,
        "model": asked.model,
        "usage": {"prompt_tokens": asked.prompt_tokens, "total_tokens": asked.prompt_tokens},
    })))
}

fn responses(asked: &mut Asked) -> Result<Content, Refusal> {
    asked.refuse_stream()?;
    if let Some(Value::String(instructions)) = asked.fields.remove("instructions") {
        asked.text(&instructions);
    }
    match asked.fields.remove("input") {
        Some(Value::String(text)) => asked.text(&text),
        Some(Value::Array(items)) => asked.messages(&items, "input")?,
        None | Some(Value::Null) => return Err(Refusal::missing("input")),
        Some(_) => return Err(wrong_type("input", "text or messages")),
    }
    let limit = asked.count("max_output_tokens", 1, u64::MAX)?;
    let texts = asked.choices(1, limit.unwrap_or(u64::MAX));
    let (words, cut) = only(&texts);
    let status = if cut { "incomplete" } else { "completed" };
    Ok(body(&json!({
        "id": asked.id("resp"),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": null,
        "incomplete_details": cut.then(|| json!({"reason": "max_output_tokens"})),
        "instructions": null,
        "max_output_tokens": limit,
        "metadata": {},
        "model": asked.model,
        "output": [{
            "id": asked.id("msg"),
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [{"type": "output_text", "text": words, "annotations": []}],
        }],
        "parallel_tool_calls": true,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": asked.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": asked.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked.prompt_tokens + asked.completion_tokens,
        },
    })))
}

/// Nothing is ever flagged: what is simulated is a judge without an opinion. There is no usage, as
/// OpenAI counts none for it.
fn moderations(asked: &mut Asked) -> Result<Content, Refusal> {
    let inputs = asked.inputs("input")?;
    let each = |value: &Value| -> Value {
        let named = CATEGORIES.map(|category| (category.to_owned(), value.clone()));
        Value::Object(named.into_iter().collect())
    };
    let result = json!({
        "flagged": false,
        "categories": each(&json!(false)),
        "category_scores": each(&json!(0.0)),
        "category_applied_input_types": each(&json!(["text"])),
    });
    Ok(body(&json!({
        "id": asked.id("modr"),
        "model": asked.model,
        "results": vec![result; inputs.len()],
    })))
}

/// Anthropic's messages.
fn messages(asked: &mut Asked) -> Result<Content, Refusal> {
    asked.refuse_stream()?;
    match asked.fields.remove("system") {
        None | Some(Value::Null) => {}
        system => asked.content(system.as_ref(), "system")?,
    }
    match asked.fields.remove("messages") {
        Some(Value::Array(messages)) => asked.messages(&messages, "messages")?,
        None | Some(Value::Null) => return Err(Refusal::missing("messages")),
        Some(_) => return Err(wrong_type("messages", "an array")),
    }
    let Some(limit) = asked.count("max_tokens", 1, u64::MAX)? else {
        return Err(Refusal::missing("max_tokens"));
    };
    let texts = asked.choices(1, limit);
    let (words, cut) = only(&texts);
    Ok(body(&json!({
        "id": asked.id("msg"),
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [{"type": "text", "text": words}],
        "stop_reason": if cut { "max_tokens" } else { "end_turn" },
        "stop_sequence": null,
        "usage": {
            "input_tokens": asked.prompt_tokens,
            "output_tokens": asked.completion_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    })))
}

/// The list of models, one model, or no such path.
fn models(request: &Request<'_>, path: &str) -> Result<Content, Refusal> {
    let model =
        |id: &str| json!({"id": id, "object": "model", "created": CREATED, "owned_by": "tollgate"});
    let one = path.strip_prefix("/models/").filter(|id| !id.is_empty());
    if path != "/models" && one.is_none() {
        let message = format!("Invalid URL ({} {path})", request.method);
        return Err(Refusal::new(404, "invalid_request_error", message));
    }
    if !matches!(request.method, "GET" | "HEAD") {
        return Err(Refusal::method(request.method, path, "GET, HEAD"));
    }
    Ok(body(&match one {
        Some(id) => model(id),
        None => json!({
            "object": "list",
            "data": LISTED.map(model),
        }),
    }))
}

/// The text of an answer that has one, and whether it was cut.
fn only(texts: &[Text]) -> (&str, bool) {
    texts
        .first()
        .map_or(("", false), |text| (&text.words, text.cut))
}

fn finish_reason(text: &Text) -> &'static str {
    if text.cut { "length" } else { "stop" }
}

fn body(value: &Value) -> Content {
    Content::Json(value.to_string().into_bytes())
}
