//! A successful answer: its bytes, and what most callers want of them.

use http::StatusCode;
use serde::Deserialize;

use super::content::Content;
use super::headers::{Head, request_id};
use super::usage::Usage;
use crate::binding::Times;
use crate::error::{Error, ErrorKind, Result};
use crate::opaque::opaque;

/// A successful answer.
///
/// The body is kept as the bytes that came; [`text`](Reply::text) and [`json`](Reply::json) parse
/// it when they are asked.
#[derive(Clone)]
pub struct Reply {
    pub(super) status: StatusCode,
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    pub(super) usage: Option<Usage>,
    pub(super) attempts: u32,
    pub(super) times: Times,
}

impl Reply {
    /// The text of the answer: the first choice's message of a chat, the text of a completion, a
    /// response's output text, or the text blocks of an Anthropic message.
    ///
    /// `None` if it has none, as with a tool call or an embedding.
    ///
    /// ```no_run
    /// # fn main() -> tollgate::Result<()> {
    /// let client = tollgate::Client::from_env()?;
    /// let reply = client.chat("gpt-4o-mini", "Say hi").send()?;
    /// println!("{}", reply.text().unwrap_or_default());
    /// # Ok(())
    /// # }
    /// ```
    pub fn text(&self) -> Option<String> {
        Content::read(&self.body).text
    }

    /// Why the model stopped writing (`stop`, `length`, `content_filter`, ...), of the first
    /// choice.
    pub fn finish_reason(&self) -> Option<String> {
        Content::read(&self.body).finish_reason
    }

    /// The body as a value of any type that serde can read, such as [`serde_json::Value`].
    ///
    /// ```no_run
    /// # fn main() -> tollgate::Result<()> {
    /// # let client = tollgate::Client::from_env()?;
    /// let reply = client.send(tollgate::Request::get("/v1/models"))?;
    /// let models: serde_json::Value = reply.json()?;
    /// println!("{}", models["data"][0]["id"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::WrongType`] if the body is not of this type, or nested deeper than 127. Its
    /// [`source`](std::error::Error::source) says which field, and where.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::new(
                ErrorKind::WrongType,
                "the answer's body is not of the type asked for",
            )
            .with_source(error)
        })
    }

    /// The body as it came.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as it came, taken out.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The model tokens that the provider counted, if the answer tells.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The HTTP status, 200 to 299.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The first value of the response header `name`, in any case, if it is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// The provider's id of this answer, to quote to its support. If it repeats the key, that is
    /// taken out.
    pub fn request_id(&self) -> Option<&str> {
        request_id(|name| self.head.get(name))
    }

    /// Where its time went: what it waited for, and the wire. All its attempts and the waits
    /// between them count.
    ///
    /// ```
    /// # let echo = tollgate::MemoryTransport::new(|_| Ok(tollgate::HttpResponse {
    /// #     body: br#"{"choices":[{"text":"yes"}]}"#.to_vec(), ..Default::default() }));
    /// # let client = tollgate::Client::builder().no_auth().transport(echo).build()?;
    /// use tollgate::Binding;
    ///
    /// let times = client.chat("a-model", "Say hi").send()?.times();
    /// assert_eq!(times.total(), times.of(Binding::Wire), "it did not wait");
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    pub fn times(&self) -> Times {
        self.times
    }

    /// How many requests were sent for it, this one included.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

opaque!(Reply, "Reply",
    |it| status: it.status, body_bytes: it.body.len(), usage: it.usage, attempts: it.attempts);
