//! A request's fields as the endpoints read them: each look at one checks it, adds it to the digest
//! of what was asked, and counts its tokens.

use serde_json::{Map, Value, json};

use super::chance::Digest;
use super::refusal::Refusal;
use super::text::{Text, compose, tokens_in};

/// A request's fields, and what has been learnt from them so far.
pub(super) struct Asked {
    pub(super) fields: Map<String, Value>,
    pub(super) model: String,
    pub(super) digest: Digest,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
}

impl Asked {
    /// Nothing read yet; `digest` knows the seed and the endpoint.
    pub(super) fn new(digest: Digest) -> Self {
        Self {
            fields: Map::new(),
            model: String::new(),
            digest,
            prompt_tokens: 0,
            completion_tokens: 0,
        }
    }

    /// Reads the body and the one field that every endpoint has; `default` is for those that do not
    /// ask for it.
    pub(super) fn read(
        &mut self,
        body: &[u8],
        default: Option<&'static str>,
    ) -> Result<(), Refusal> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => self.fields = fields,
            Ok(_) => return Err(Refusal::invalid("The body must be a JSON object.")),
            Err(error) => {
                // What does not parse still has an identity, so that errors can be drawn for it.
                self.digest.part(body);
                return Err(Refusal::invalid(format!(
                    "We could not parse the JSON body of your request: {error}."
                )));
            }
        }
        match self.fields.remove("model") {
            Some(Value::String(model)) if !model.is_empty() => self.model = model,
            None | Some(Value::Null) => match default {
                Some(model) => model.clone_into(&mut self.model),
                None => return Err(Refusal::missing("model")),
            },
            Some(_) => return Err(wrong_type("model", "a name")),
        }
        self.digest.part(self.model.as_bytes());
        Ok(())
    }

    /// Adds a prompt's text to what the answer depends on and to the tokens it costs.
    pub(super) fn text(&mut self, text: &str) {
        self.digest.part(text.as_bytes());
        self.prompt_tokens += tokens_in(text);
    }

    /// A message's content: text, parts of text and media, or nothing (a tool call's message).
    pub(super) fn content(
        &mut self,
        content: Option<&Value>,
        param: &'static str,
    ) -> Result<(), Refusal> {
        match content {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(text)) => {
                self.text(text);
                Ok(())
            }
            Some(Value::Array(parts)) => {
                for part in parts {
                    if let Some(Value::String(text)) = part.get("text") {
                        self.text(text);
                    } else {
                        // An image costs OpenAI's flat price for one in low detail.
                        self.digest.part(part.to_string().as_bytes());
                        self.prompt_tokens += 85;
                    }
                }
                Ok(())
            }
            Some(_) => Err(wrong_type(param, "text or parts")),
        }
    }

    /// The messages of a conversation.
    pub(super) fn messages(
        &mut self,
        messages: &[Value],
        param: &'static str,
    ) -> Result<(), Refusal> {
        if messages.is_empty() {
            return Err(wrong_type(param, "at least one message"));
        }
        for message in messages {
            let Some(message) = message.as_object() else {
                return Err(wrong_type(param, "objects"));
            };
            if let Some(Value::String(role)) = message.get("role") {
                self.digest.part(role.as_bytes());
            }
            self.prompt_tokens += 4;
            self.content(message.get("content"), param)?;
        }
        self.prompt_tokens += 2;
        Ok(())
    }

    /// Reads one text, several, one array of tokens or several; gives the digest of each, which
    /// depends on the model and that input alone.
    pub(super) fn inputs(&mut self, param: &'static str) -> Result<Vec<u64>, Refusal> {
        let start = self.digest;
        let one = |asked: &mut Asked, input: &Value| {
            let mut own = start;
            match input {
                Value::String(text) => {
                    own.part(text.as_bytes());
                    asked.text(text);
                }
                Value::Array(tokens) if !tokens.is_empty() => {
                    for token in tokens {
                        let token = token
                            .as_u64()
                            .ok_or_else(|| wrong_type(param, "text or whole numbers"))?;
                        own.number(token);
                        asked.digest.number(token);
                    }
                    asked.prompt_tokens += tokens.len() as u64;
                }
                _ => return Err(wrong_type(param, "text or tokens, one or several")),
            }
            Ok(own.finish())
        };
        match self.fields.remove(param) {
            None | Some(Value::Null) => Err(Refusal::missing(param)),
            // OpenAI's own limit on the inputs of one request.
            Some(Value::Array(many)) if many.len() > 2048 && !many[0].is_number() => {
                Err(wrong_type(param, "at most 2048 inputs"))
            }
            Some(Value::Array(many)) if many.first().is_some_and(|first| !first.is_number()) => {
                many.iter().map(|input| one(self, input)).collect()
            }
            Some(input) => Ok(vec![one(self, &input)?]),
        }
    }

    /// A whole number that may be left out.
    pub(super) fn count(
        &self,
        name: &'static str,
        least: u64,
        most: u64,
    ) -> Result<Option<u64>, Refusal> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(count) if (least..=most).contains(&count) => Ok(Some(count)),
                _ => Err(wrong_type(name, "a whole number in its range")),
            },
        }
    }

    /// Whether a flag is there and true.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.fields.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// For the endpoints whose answers are only ever whole.
    pub(super) fn refuse_stream(&self) -> Result<(), Refusal> {
        if self.is_set("stream") {
            let message = "Only chat completions are simulated as a stream.";
            return Err(Refusal::invalid(message).param("stream"));
        }
        Ok(())
    }

    /// Writes the choices, and counts their tokens.
    pub(super) fn choices(&mut self, count: u64, limit: u64) -> Vec<Text> {
        let identity = self.digest.finish();
        let texts: Vec<Text> = (0..count)
            .map(|choice| compose(identity, choice, limit))
            .collect();
        self.completion_tokens += texts.iter().map(|text| text.tokens).sum::<u64>();
        texts
    }

    /// An id that equal requests share.
    pub(super) fn id(&self, prefix: &str) -> String {
        format!("{prefix}-sim{:016x}", self.digest.finish())
    }

    /// The usage in the terms of chat and completions.
    pub(super) fn usage(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        })
    }
}

/// A field is there, and is not what it should be.
pub(super) fn wrong_type(param: &'static str, takes: &str) -> Refusal {
    Refusal::invalid(format!("Invalid value for '{param}': it takes {takes}."))
        .param(param)
        .code("invalid_value")
}
