//! Requests: any endpoint with bytes for a body, and chat as the common case.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};
use serde_json::{Map, Value};

/// The path of chat completions under an API root.
pub(crate) const CHAT_PATH: &str = "/v1/chat/completions";

/// One request: a path under the base URL, and a body that is sent byte for byte.
///
/// A leading `/v1` of the path stands for the API root: it is replaced by the base URL's own path
/// where that has one. A path with a scheme, `//`, `..`, a fragment or a control byte is refused.
///
/// ```
/// use tollgate::Request;
///
/// let embedding = Request::post("/v1/embeddings", r#"{"model":"m","input":"a text"}"#);
/// let models = Request::get("/v1/models");
/// let chat: Request = Request::chat("m", "Say hi").max_tokens(20).set("temperature", 0.2).into();
/// assert_eq!(
///     chat.body(),
///     br#"{"max_tokens":20,"messages":[{"content":"Say hi","role":"user"}],"model":"m","temperature":0.2}"#,
/// );
/// # let _ = (embedding, models);
/// ```
#[derive(Clone)]
pub struct Request {
    pub(super) method: &'static str,
    pub(super) path: Cow<'static, str>,
    pub(super) body: Vec<u8>,
    pub(super) tokens: Option<u64>,
    pub(super) timeout: Option<Duration>,
    pub(super) any_answer: bool,
}

impl Request {
    /// A POST of `body` (JSON, as a rule).
    pub fn post(path: impl Into<Cow<'static, str>>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: "POST",
            path: path.into(),
            body: body.into(),
            tokens: None,
            timeout: None,
            any_answer: false,
        }
    }

    /// A GET.
    pub fn get(path: impl Into<Cow<'static, str>>) -> Self {
        Self {
            method: "GET",
            ..Self::post(path, Vec::new())
        }
    }

    /// A chat completion with one user message; add to it.
    pub fn chat(model: impl Into<String>, prompt: impl Into<String>) -> Chat {
        Chat::new((), model).message("user", prompt)
    }

    /// How many model tokens to reserve at the gate, instead of an estimate from the body.
    pub fn reserve_tokens(mut self, tokens: u64) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// The longest one attempt may take, instead of the client's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Takes any 2xx answer, for endpoints that do not answer with JSON. By default an answer that
    /// is not JSON, or holds nothing but an error, is a failure.
    pub fn accept_any_answer(mut self) -> Self {
        self.any_answer = true;
        self
    }

    /// The path as given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The body as it is sent.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A chat completion in the making: unbound ([`Request::chat`]), or bound to the client that will
/// send it ([`Client::chat`](crate::Client::chat)).
///
/// Every setter adds to the body; [`set`](Chat::set) takes any field the provider knows.
#[derive(Clone, Debug)]
#[must_use = "a chat is sent with `send`, or turned into a `Request`"]
pub struct Chat<C = ()> {
    pub(super) client: C,
    model: String,
    messages: Vec<Message>,
    fields: Map<String, Value>,
}

impl<C> Chat<C> {
    pub(super) fn new(client: C, model: impl Into<String>) -> Self {
        Self {
            client,
            model: model.into(),
            messages: Vec::new(),
            fields: Map::new(),
        }
    }

    /// Adds a system message in front.
    pub fn system(mut self, text: impl Into<String>) -> Self {
        self.messages.insert(0, Message::new("system", text));
        self
    }

    /// Adds a message: `role` is `user`, `assistant`, `system`, ...
    pub fn message(mut self, role: &str, content: impl Into<String>) -> Self {
        self.messages.push(Message::new(role, content));
        self
    }

    /// The most tokens to write. Default: the provider's.
    pub fn max_tokens(self, tokens: u64) -> Self {
        self.set("max_tokens", tokens)
    }

    /// Any other field of the body, such as `temperature` or `response_format`; the last one wins.
    pub fn set(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.insert(field.into(), value.into());
        self
    }

    pub(super) fn into_request(self) -> Request {
        // Written into memory: it neither runs full nor refuses a string.
        let body = serde_json::to_vec(&self).expect("strings and JSON values are JSON");
        Request::post(CHAT_PATH, body)
    }
}

/// The body, its fields in the order of their names.
impl<C> Serialize for Chat<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = [MESSAGES, MODEL];
        let others = self.fields.keys().map(String::as_str);
        let mut names: Vec<&str> = others
            .filter(|name| !own.contains(name))
            .chain(own)
            .collect();
        names.sort_unstable();
        let mut body = serializer.serialize_map(Some(names.len()))?;
        for name in names {
            match name {
                MESSAGES => body.serialize_entry(name, &self.messages)?,
                MODEL => body.serialize_entry(name, &self.model)?,
                _ => body.serialize_entry(name, &self.fields[name])?,
            }
        }
        body.end()
    }
}

const MESSAGES: &str = "messages";
const MODEL: &str = "model";

#[derive(Clone, Debug)]
struct Message {
    role: String,
    content: String,
}

impl Message {
    fn new(role: &str, content: impl Into<String>) -> Self {
        Self {
            role: role.to_owned(),
            content: content.into(),
        }
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut message = serializer.serialize_struct("Message", 2)?;
        message.serialize_field("content", &self.content)?;
        message.serialize_field("role", &self.role)?;
        message.end()
    }
}

impl From<Chat> for Request {
    fn from(chat: Chat) -> Self {
        chat.into_request()
    }
}
