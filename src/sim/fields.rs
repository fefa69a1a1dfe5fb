//! A request's fields as the endpoints read them: each look at one checks it, adds it to the digest
//! of what was asked, and counts its tokens.

use serde_json::{Map, Value, json};

use super::api_error::ApiError;
use super::form::Form;
use super::generate::{Digest, Text, compose, tokens_in};

/// A request's fields, and what has been learnt from them so far.
#[derive(Default)]
pub(super) struct Fields {
    values: Map<String, Value>,
    pub(super) model: String,
    /// Begins with the seed and the endpoint.
    pub(super) digest: Digest,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    /// The form of the answers, if they are not to be plain text.
    form: Option<Form>,
}

impl Fields {
    /// Nothing read yet.
    pub(super) fn new(digest: Digest) -> Self {
        Self {
            digest,
            ..Self::default()
        }
    }

    /// Reads the body and the one field that every endpoint has; `default` is the model of an
    /// endpoint that does not ask for it.
    pub(super) fn read(&mut self, body: &[u8], default: Option<&str>) -> Result<(), ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(values)) => self.values = values,
            Ok(_) => return Err(ApiError::invalid(400, "The body must be a JSON object.")),
            Err(error) => {
                // What does not parse still has an identity, so that errors can be drawn for it.
                self.digest.part(body);
                let message = format!("We could not parse the JSON body of your request: {error}.");
                return Err(ApiError::invalid(400, message));
            }
        }
        self.model = match (self.required("model"), default) {
            (Ok(Value::String(model)), _) if !model.is_empty() => model,
            (Ok(_), _) => return Err(ApiError::wrong_value("model", "a name")),
            (Err(_), Some(default)) => default.to_owned(),
            (Err(missing), None) => return Err(missing),
        };
        self.digest.part(self.model.as_bytes());
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// Takes out a field that must be there.
    pub(super) fn required(&mut self, name: &'static str) -> Result<Value, ApiError> {
        match self.values.remove(name) {
            None | Some(Value::Null) => Err(ApiError::missing(name)),
            Some(value) => Ok(value),
        }
    }

    /// A whole number from 1 to `most` that may be left out.
    pub(super) fn count(&self, name: &'static str, most: u64) -> Result<Option<u64>, ApiError> {
        match self.get(name).map(Value::as_u64) {
            None => Ok(None),
            Some(Some(count)) if (1..=most).contains(&count) => Ok(Some(count)),
            Some(_) => Err(ApiError::wrong_value(name, "a whole number in its range")),
        }
    }

    /// Adds a prompt's text to what the answer depends on and to the tokens it costs.
    pub(super) fn text(&mut self, text: &str) {
        self.digest.part(text.as_bytes());
        self.prompt_tokens += tokens_in(text);
    }

    /// A message's content: text, parts of text and media, or nothing (a tool call's message).
    pub(super) fn content(&mut self, content: &Value, param: &'static str) -> Result<(), ApiError> {
        match content {
            Value::Null => {}
            Value::String(text) => self.text(text),
            Value::Array(parts) => {
                for part in parts {
                    if let Value::String(text) = &part["text"] {
                        self.text(text);
                    } else {
                        // An image costs OpenAI's flat price for one in low detail.
                        self.digest.part(part.to_string().as_bytes());
                        self.prompt_tokens += 85;
                    }
                }
            }
            _ => return Err(ApiError::wrong_value(param, "text or parts")),
        }
        Ok(())
    }

    /// Reads a conversation: messages, at least one, or for `input` text alone.
    pub(super) fn conversation(&mut self, name: &'static str) -> Result<(), ApiError> {
        let messages = match self.required(name)? {
            Value::Array(messages) if !messages.is_empty() => messages,
            text @ Value::String(_) if name == "input" => return self.content(&text, name),
            _ => return Err(ApiError::wrong_value(name, "at least one message")),
        };
        for message in &messages {
            if !message.is_object() {
                return Err(ApiError::wrong_value(name, "objects"));
            }
            if let Value::String(role) = &message["role"] {
                self.digest.part(role.as_bytes());
            }
            self.prompt_tokens += 4;
            self.content(&message["content"], name)?;
        }
        self.prompt_tokens += 2;
        Ok(())
    }

    /// Reads one text, several, one array of tokens or several; gives the digest of each, which
    /// depends on the model and that input alone.
    pub(super) fn inputs(&mut self, param: &'static str) -> Result<Vec<u64>, ApiError> {
        let start = self.digest;
        let inputs = match self.required(param)? {
            Value::Array(many) if many.first().is_some_and(|first| !first.is_number()) => many,
            one => vec![one],
        };
        // OpenAI's own limit on the inputs of one request.
        if inputs.len() > 2048 {
            return Err(ApiError::wrong_value(param, "at most 2048 inputs"));
        }
        let mut digests = Vec::with_capacity(inputs.len());
        for input in &inputs {
            let mut own = start;
            match input {
                Value::String(text) => {
                    own.part(text.as_bytes());
                    self.text(text);
                }
                Value::Array(tokens) if !tokens.is_empty() => {
                    for token in tokens {
                        let Some(token) = token.as_u64() else {
                            return Err(ApiError::wrong_value(param, "text or whole numbers"));
                        };
                        own.number(token);
                        self.digest.number(token);
                    }
                    self.prompt_tokens += tokens.len() as u64;
                }
                _ => return Err(ApiError::wrong_value(param, "text or tokens")),
            }
            digests.push(own.finish());
        }
        Ok(digests)
    }

    /// Reads which form the answers are to have.
    pub(super) fn form(&mut self) -> Result<(), ApiError> {
        self.form = Form::asked(&self.values)?;
        Ok(())
    }

    /// The tool that the answers call, if they are to call one.
    pub(super) fn tool(&self) -> Option<&str> {
        self.form.as_ref()?.tool.as_deref()
    }

    /// Writes an answer's text, and counts its tokens. For a call of a tool it is the arguments.
    pub(super) fn answer(&mut self, choice: u64, limit: u64) -> Text {
        let identity = self.digest.finish();
        let text = match &self.form {
            None => compose(identity, choice, limit),
            Some(form) => Text::within(form.write(identity.wrapping_add(choice)), limit),
        };
        self.completion_tokens += text.tokens;
        text
    }

    /// Why an answer ends, in the terms of chat and completions.
    pub(super) fn finish_reason(&self, text: &Text) -> &'static str {
        match self.tool() {
            _ if text.cut => "length",
            Some(_) => "tool_calls",
            None => "stop",
        }
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
