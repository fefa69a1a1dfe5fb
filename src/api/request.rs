//! Requests: any endpoint, with any bytes as the body; and chat, the common case.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::cost::Size;
use crate::error::{Error, ErrorKind, Result};

/// The path of chat completions under an API root.
const CHAT_PATH: &str = "/v1/chat/completions";

/// One request: a path under the base URL, and a body that is sent byte for byte.
///
/// A leading `/v1` of the path stands for the API root: it is replaced by the base URL's own path
/// where that has one. A path with a scheme, `//`, `..`, a fragment or a control byte is refused.
/// It may have a query.
///
/// ```
/// use std::collections::BTreeMap;
/// use serde_json::json;
/// use tollgate::Request;
///
/// let models = Request::get("/v1/models");
/// let from_text = Request::post("/v1/embeddings", r#"{"model":"m","input":"a text"}"#);
/// let from_value = Request::post("/v1/embeddings", json!({"model": "m", "input": "a text"}));
/// let from_any_type = Request::json("/v1/embeddings", &BTreeMap::from([("model", "m")]))?;
/// assert_eq!(from_any_type.body(), br#"{"model":"m"}"#);
///
/// let chat: Request = Request::chat("m", "Say hi").max_tokens(20).set("temperature", 0.2).into();
/// assert_eq!(
///     chat.body(),
///     br#"{"max_tokens":20,"messages":[{"content":"Say hi","role":"user"}],"model":"m","temperature":0.2}"#,
/// );
/// # let _ = (models, from_text, from_value);
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) method: &'static str,
    pub(super) path: Cow<'static, str>,
    pub(super) body: Body,
    pub(super) tokens: Option<u64>,
    pub(super) timeout: Option<Duration>,
    pub(super) any_answer: bool,
    pub(super) id: Option<Box<str>>,
    /// What the body says of its size, once it is asked for: reading a body takes time.
    pub(super) size: OnceLock<Size>,
}

impl Request {
    /// A POST of `body` (JSON, as a rule): bytes or text, sent as they are, or a
    /// [`serde_json::Value`]. A path that cannot be used is an error of the call that sends it.
    pub fn post(path: impl Into<Cow<'static, str>>, body: impl Into<Body>) -> Self {
        Self {
            method: "POST",
            path: path.into(),
            body: body.into(),
            tokens: None,
            timeout: None,
            any_answer: false,
            id: None,
            size: OnceLock::new(),
        }
    }

    /// A POST of `value` as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if `value` has no form in JSON, such as a map whose keys are lists.
    pub fn json<T: Serialize + ?Sized>(
        path: impl Into<Cow<'static, str>>,
        value: &T,
    ) -> Result<Self> {
        let body = serde_json::to_vec(value).map_err(|error| {
            Error::new(ErrorKind::Invalid, "the value has no form in JSON").with_source(error)
        })?;
        Ok(Self::post(path, body))
    }

    /// A GET.
    pub fn get(path: impl Into<Cow<'static, str>>) -> Self {
        Self {
            method: "GET",
            ..Self::post(path, Body::default())
        }
    }

    /// A chat completion with one user message; its methods add to it. It becomes a `Request` by
    /// `into`, and the calls that send requests take it as it is.
    pub fn chat(model: impl Into<String>, prompt: impl Into<String>) -> Chat {
        Chat::new((), model).message("user", prompt)
    }

    /// How many model tokens to take from the limit before it is sent, prompt and answer together.
    /// The usage in the answer replaces them. Default: an estimate from the body.
    pub fn reserve_tokens(mut self, tokens: u64) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// The longest that one attempt may take. Default: the client's
    /// [`timeout`](crate::ClientBuilder::timeout).
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

    /// Notes `id` with the request, which is not sent. It is there again where the request comes
    /// back, as the `input` of an [`Outcome`](crate::Outcome).
    ///
    /// ```
    /// # let echo = tollgate::MemoryTransport::new(|_| Ok(tollgate::HttpResponse {
    /// #     body: br#"{"choices":[{"text":"yes"}]}"#.to_vec(), ..Default::default() }));
    /// # let client = tollgate::Client::builder().no_auth().transport(echo).build()?;
    /// use std::time::Duration;
    /// use tollgate::Request;
    ///
    /// let reviews = [("review-7", "Great!"), ("review-9", "Never again.")];
    /// let ask = |(id, text)| {
    ///     let chat = Request::chat("a-model", format!("Is this praise? {text}"));
    ///     chat.with_id(id).timeout(Duration::from_secs(30))
    /// };
    /// for outcome in client.as_completed(reviews.map(ask))? {
    ///     let Some(request) = outcome.input else { continue };
    ///     match outcome.result {
    ///         Ok(reply) => println!("{:?}: {:?}", request.id(), reply.text()),
    ///         Err(error) => eprintln!("{:?}: {error}", request.id()),
    ///     }
    /// }
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into().into());
        self
    }

    /// What [`with_id`](Request::with_id) has noted.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// What its body says of its size.
    pub(super) fn size(&self) -> &Size {
        self.size.get_or_init(|| Size::of(self.body()))
    }

    /// The path as given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The body as it is sent.
    pub fn body(&self) -> &[u8] {
        &self.body.0
    }
}

/// The same request again; the body is shared.
impl From<&Request> for Request {
    fn from(request: &Request) -> Self {
        request.clone()
    }
}

/// The body of a [`Request`]; clones share its bytes.
#[derive(Clone, Default)]
pub struct Body(Arc<Vec<u8>>);

impl From<Vec<u8>> for Body {
    fn from(mut bytes: Vec<u8>) -> Self {
        // Written out piece by piece, it may have room for twice as much, and many bodies wait at
        // once.
        bytes.shrink_to_fit();
        Self(Arc::new(bytes))
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

// As `b".."` is of this type.
impl<const N: usize> From<&[u8; N]> for Body {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.to_vec().into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

/// The value written out as JSON.
impl From<Value> for Body {
    fn from(value: Value) -> Self {
        // A value always has a form in JSON.
        serde_json::to_vec(&value).unwrap_or_default().into()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

/// A chat completion that is being put together. [`Request::chat`] begins one on its own,
/// [`Client::chat`](crate::Client::chat) one that `send` sends by that client.
///
/// It is sent to `/v1/chat/completions`, in `OpenAI`'s format. Anthropic's own messages are a
/// [`Request::post`] to `/v1/messages`. Each method adds to the body; [`set`](Chat::set) takes any
/// field that the provider knows, except `stream`: streams are not read.
///
/// ```no_run
/// # fn main() -> tollgate::Result<()> {
/// # let client = tollgate::Client::from_env()?;
/// use std::time::Duration;
/// use tollgate::Request;
///
/// let chat = client.chat("a-model", "Why is the sky blue?").system("Answer in one sentence.");
/// let reply = chat.max_tokens(100).set("temperature", 0.2).send()?;
///
/// // What belongs to any request, such as a timeout, is set in the same way.
/// let chat = Request::chat("a-model", "Say hi").max_tokens(20).timeout(Duration::from_secs(20));
/// let reply = client.send(chat)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a chat is sent with `send`, or turned into a `Request`"]
pub struct Chat<C = ()> {
    pub(super) client: C,
    model: String,
    /// A role and a content for each message.
    messages: Vec<(String, String)>,
    fields: Map<String, Value>,
    /// What it becomes, as yet without a body.
    request: Request,
}

impl<C> Chat<C> {
    pub(crate) fn new(client: C, model: impl Into<String>) -> Self {
        Self {
            client,
            model: model.into(),
            messages: Vec::new(),
            fields: Map::new(),
            request: Request::post(CHAT_PATH, Body::default()),
        }
    }

    /// Adds a system message in front.
    pub fn system(mut self, text: impl Into<String>) -> Self {
        self.messages.insert(0, ("system".to_owned(), text.into()));
        self
    }

    /// Adds a message: `role` is `user`, `assistant`, `system`, ...
    pub fn message(mut self, role: &str, content: impl Into<String>) -> Self {
        self.messages.push((role.to_owned(), content.into()));
        self
    }

    /// The most tokens to write. Default: the provider's.
    pub fn max_tokens(self, tokens: u64) -> Self {
        self.set("max_tokens", tokens)
    }

    /// Any field of the body, such as `temperature` or `response_format`; the last one wins. Set
    /// `messages` for contents that are more than text.
    pub fn set(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.insert(field.into(), value.into());
        self
    }

    /// As [`Request::reserve_tokens`].
    pub fn reserve_tokens(mut self, tokens: u64) -> Self {
        self.request = self.request.reserve_tokens(tokens);
        self
    }

    /// As [`Request::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request = self.request.timeout(timeout);
        self
    }

    /// As [`Request::with_id`].
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.request = self.request.with_id(id);
        self
    }

    pub(crate) fn to_body(&self) -> Value {
        let message =
            |(role, content): &(String, String)| json!({"role": role, "content": content});
        let mut body = self.fields.clone();
        body.entry("model").or_insert_with(|| json!(self.model));
        body.entry("messages")
            .or_insert_with(|| self.messages.iter().map(message).collect());
        body.into()
    }

    pub(super) fn to_request(&self) -> Request {
        Request {
            body: self.to_body().into(),
            ..self.request.clone()
        }
    }
}

impl Chat {
    /// What a template adds to all prompts: the names of the fields that have been set, and the
    /// roles of its messages.
    pub(crate) fn additions(&self) -> impl Iterator<Item = &str> + Clone {
        let roles = self.messages.iter().map(|(role, _)| role);
        self.fields.keys().chain(roles).map(String::as_str)
    }
}

impl From<Chat> for Request {
    fn from(chat: Chat) -> Self {
        chat.to_request()
    }
}

impl From<&Chat> for Request {
    fn from(chat: &Chat) -> Self {
        chat.to_request()
    }
}
