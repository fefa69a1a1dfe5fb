//! The endpoints: what would be answered, were there no limits and nothing ever went wrong.
//!
//! Pure functions of the seed and the request, so the same request always gets the same bytes.
//! Whether the answer is given, when, and what it costs against the limits is `model`'s to say.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::fields::Fields;
use super::generate::{Digest, embed};
use super::http::ReceivedRequest;
use super::stream::events;

/// What an answer holds.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    Json(Value),
    /// Server-sent events, one after the other over the answer's latency.
    Events(Vec<String>),
}

/// An answer not given yet.
#[derive(Debug, PartialEq)]
pub(crate) struct Draft {
    pub(super) outcome: Result<Content, ApiError>,
    /// Whether it is one of the requests that limits, latency and errors are for.
    pub(super) metered: bool,
    /// Whether an error has the shape of Anthropic's.
    pub(super) anthropic: bool,
    /// What the answer's usage says, in model tokens.
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    /// The digest of what was asked: equal requests have equal ones.
    pub(super) identity: u64,
}

impl Draft {
    /// The answer to what limits, latency and errors are not for.
    pub(super) fn free(outcome: Result<Content, ApiError>, anthropic: bool) -> Self {
        Self {
            outcome,
            metered: false,
            anthropic,
            prompt_tokens: 0,
            completion_tokens: 0,
            identity: 0,
        }
    }
}

/// Constant, so that equal requests get equal bytes: 2026-01-01 00:00:00 UTC.
const CREATED: u64 = 1_767_225_600;

/// The models that the list names; any other name is taken as well.
const LISTED: [&str; 3] = ["gpt-4o-mini", "gpt-4o", "text-embedding-3-small"];

/// What OpenAI's moderation judges by (`omni-moderation`).
const CATEGORIES: &str = "harassment harassment/threatening hate hate/threatening illicit \
    illicit/violent self-harm self-harm/instructions self-harm/intent sexual sexual/minors violence \
    violence/graphic";

type Endpoint = fn(&mut Fields) -> Result<Value, ApiError>;

/// What would be answered to `request`.
pub(super) fn draft(seed: u64, request: &ReceivedRequest) -> Draft {
    let path = request.path();
    let (method, anthropic) = (request.method.as_str(), request.is_anthropic());
    let endpoint: Endpoint = match path {
        "/chat/completions" => chat,
        "/completions" => completions,
        "/embeddings" => embeddings,
        "/responses" => responses,
        "/moderations" => moderations,
        "/messages" => messages,
        _ => return Draft::free(models(method, path).map(Content::Json), anthropic),
    };
    if method != "POST" {
        return Draft::free(Err(ApiError::method(method, path, "POST")), anthropic);
    }
    let mut digest = Digest::new(seed);
    digest.part(path.as_bytes());
    let mut fields = Fields::new(digest);
    let default_model = (path == "/moderations").then_some("omni-moderation-latest");
    let outcome = fields
        .read(&request.body, default_model)
        .and_then(|()| content(path, endpoint, &mut fields));
    let mut draft = Draft::free(outcome, anthropic);
    draft.metered = true;
    draft.identity = fields.digest.finish();
    if draft.outcome.is_ok() {
        draft.prompt_tokens = fields.prompt_tokens;
        draft.completion_tokens = fields.completion_tokens;
    }
    draft
}

/// The endpoint's answer, whole or as a stream.
fn content(path: &str, endpoint: Endpoint, fields: &mut Fields) -> Result<Content, ApiError> {
    if fields.get("stream") != Some(&Value::Bool(true)) {
        return endpoint(fields).map(Content::Json);
    }
    if path != "/chat/completions" {
        let message = "Only chat completions are simulated as a stream.";
        return Err(ApiError::invalid(400, message).param("stream"));
    }
    let whole = endpoint(fields)?;
    let options = fields.get("stream_options");
    let with_usage = options.is_some_and(|options| options["include_usage"] == true);
    Ok(Content::Events(events(whole, with_usage)))
}

fn chat(fields: &mut Fields) -> Result<Value, ApiError> {
    fields.conversation("messages")?;
    fields.form()?;
    let limit = fields.count("max_completion_tokens", u64::MAX)?;
    let limit = limit.or(fields.count("max_tokens", u64::MAX)?);
    let limit = limit.unwrap_or(u64::MAX);
    let count = fields.count("n", 128)?.unwrap_or(1);
    let choice = |index| {
        let text = fields.answer(index, limit);
        let finish = fields.finish_reason(&text);
        let mut message = json!({"role": "assistant", "content": text.words, "refusal": null});
        if let Some(name) = fields.tool() {
            let function = json!({"name": name, "arguments": text.words});
            let call = json!({"id": fields.id("call"), "type": "function", "function": function});
            message["content"] = Value::Null;
            message["tool_calls"] = json!([call]);
        }
        json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish})
    };
    let choices: Vec<Value> = (0..count).map(choice).collect();
    Ok(json!({
        "id": fields.id("chatcmpl"),
        "object": "chat.completion",
        "created": CREATED,
        "model": fields.model,
        "choices": choices,
        "usage": fields.usage(),
        "system_fingerprint": "fp_simulated",
    }))
}

fn completions(fields: &mut Fields) -> Result<Value, ApiError> {
    let prompts = fields.inputs("prompt")?;
    let limit = fields.count("max_tokens", u64::MAX)?.unwrap_or(16);
    let each = fields.count("n", 128)?.unwrap_or(1);
    let count = each * prompts.len() as u64;
    if count > 2048 {
        return Err(ApiError::wrong_value("n", "at most 2048 choices in all"));
    }
    let choice = |index| {
        let text = fields.answer(index, limit);
        let finish = fields.finish_reason(&text);
        json!({"index": index, "text": text.words, "logprobs": null, "finish_reason": finish})
    };
    let choices: Vec<Value> = (0..count).map(choice).collect();
    Ok(json!({
        "id": fields.id("cmpl"),
        "object": "text_completion",
        "created": CREATED,
        "model": fields.model,
        "choices": choices,
        "usage": fields.usage(),
    }))
}

fn embeddings(fields: &mut Fields) -> Result<Value, ApiError> {
    let inputs = fields.inputs("input")?;
    // The size of OpenAI's small model; 4096 bounds what one request can make the server write.
    let dimensions = fields.count("dimensions", 4096)?.unwrap_or(1536);
    let packed = match fields.get("encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => true,
        Some(_) => return Err(ApiError::wrong_value("encoding_format", "float or base64")),
    };
    let one = |(index, identity): (usize, &u64)| {
        let vector = embed(*identity, dimensions);
        let embedding = if packed {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            json!(BASE64_STANDARD.encode(&bytes))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let data: Vec<Value> = inputs.iter().enumerate().map(one).collect();
    Ok(json!({
        "object": "list",
        "data": data,
        "model": fields.model,
        "usage": {"prompt_tokens": fields.prompt_tokens, "total_tokens": fields.prompt_tokens},
    }))
}

fn responses(fields: &mut Fields) -> Result<Value, ApiError> {
    if let Ok(Value::String(instructions)) = fields.required("instructions") {
        fields.text(&instructions);
    }
    fields.conversation("input")?;
    fields.form()?;
    let limit = fields.count("max_output_tokens", u64::MAX)?;
    let text = fields.answer(0, limit.unwrap_or(u64::MAX));
    let status = if text.cut { "incomplete" } else { "completed" };
    let output = match fields.tool() {
        Some(name) => json!({
            "id": fields.id("fc"),
            "type": "function_call",
            "status": status,
            "call_id": fields.id("call"),
            "name": name,
            "arguments": text.words,
        }),
        None => json!({
            "id": fields.id("msg"),
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [{"type": "output_text", "text": text.words, "annotations": []}],
        }),
    };
    Ok(json!({
        "id": fields.id("resp"),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": null,
        "incomplete_details": text.cut.then(|| json!({"reason": "max_output_tokens"})),
        "instructions": null,
        "max_output_tokens": limit,
        "metadata": {},
        "model": fields.model,
        "output": [output],
        "parallel_tool_calls": true,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": fields.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": fields.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": fields.prompt_tokens + fields.completion_tokens,
        },
    }))
}

/// Nothing is ever flagged: what is simulated is a judge without an opinion. There is no usage, as
/// OpenAI counts none for it.
fn moderations(fields: &mut Fields) -> Result<Value, ApiError> {
    let inputs = fields.inputs("input")?;
    let each = |value: &Value| -> Value {
        let named = CATEGORIES.split(' ');
        named.map(|name| (name, value.clone())).collect()
    };
    let result = json!({
        "flagged": false,
        "categories": each(&json!(false)),
        "category_scores": each(&json!(0.0)),
        "category_applied_input_types": each(&json!(["text"])),
    });
    Ok(json!({
        "id": fields.id("modr"),
        "model": fields.model,
        "results": vec![result; inputs.len()],
    }))
}

/// Anthropic's messages.
fn messages(fields: &mut Fields) -> Result<Value, ApiError> {
    if let Ok(system) = fields.required("system") {
        fields.content(&system, "system")?;
    }
    fields.conversation("messages")?;
    fields.form()?;
    let Some(limit) = fields.count("max_tokens", u64::MAX)? else {
        return Err(ApiError::missing("max_tokens"));
    };
    let text = fields.answer(0, limit);
    let (part, end) = match fields.tool() {
        Some(name) => {
            // Arguments that were cut are no object.
            let input: Value = serde_json::from_str(&text.words).unwrap_or(json!({}));
            let id = fields.id("toolu");
            let call = json!({"type": "tool_use", "id": id, "name": name, "input": input});
            (call, "tool_use")
        }
        None => (json!({"type": "text", "text": text.words}), "end_turn"),
    };
    Ok(json!({
        "id": fields.id("msg"),
        "type": "message",
        "role": "assistant",
        "model": fields.model,
        "content": [part],
        "stop_reason": if text.cut { "max_tokens" } else { end },
        "stop_sequence": null,
        "usage": {
            "input_tokens": fields.prompt_tokens,
            "output_tokens": fields.completion_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }))
}

/// The list of models, one model, or no such path.
fn models(method: &str, path: &str) -> Result<Value, ApiError> {
    let model =
        |id: &str| json!({"id": id, "object": "model", "created": CREATED, "owned_by": "tollgate"});
    let one = path.strip_prefix("/models/").filter(|id| !id.is_empty());
    if path != "/models" && one.is_none() {
        let message = format!("Invalid URL ({method} {path})");
        return Err(ApiError::invalid(404, message));
    }
    if !matches!(method, "GET" | "HEAD") {
        return Err(ApiError::method(method, path, "GET, HEAD"));
    }
    match one {
        None => Ok(json!({"object": "list", "data": LISTED.map(model)})),
        Some(id) if LISTED.contains(&id) => Ok(model(id)),
        Some(id) => {
            let error = ApiError::invalid(404, format!("The model '{id}' does not exist."));
            Err(error.param("model").code("model_not_found"))
        }
    }
}
