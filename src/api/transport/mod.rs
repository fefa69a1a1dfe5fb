//! The seam between the client and the wire.
//!
//! A [`Transport`] carries one HTTP exchange on the calling thread. The real one is carried by ureq
//! (this folder is the only place that names it); the in-memory one answers from a closure.
//!
//! Above ureq: `http_transport` gives a request to one of the `agents`, shows ureq what `request` says of
//! it, and has `response` read the answer. Below ureq, plugged into it: `resolver`, and connections.
//! A connection is `tcp`, perhaps with `tls` on it, on `stream` (waiting until a deadline), `buffers`
//! (borrowed while bytes move) and `abort` (sockets that an abort finds). `layer` is what TCP and TLS do
//! alike, with `head` to know an answer when it sees one. `context` is what all of them know of the
//! present call, and `error` how they say that it failed.

mod abort;
mod agents;
mod buffers;
mod config;
mod context;
mod error;
mod head;
mod http_transport;
mod layer;
mod memory;
mod proxy;
mod request;
mod resolver;
mod response;
mod stream;
mod tcp;
mod tls;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::Cancel;
use http::{HeaderMap, StatusCode};

pub use config::HttpConfig;
pub use http_transport::HttpTransport;
pub use memory::MemoryTransport;
pub use proxy::ProxyPolicy;

/// Carries one HTTP exchange, blocking the calling thread.
///
/// Implement it to put something else under the client: a recording, a unix socket, a test double.
/// Called from many threads at once.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends `call` and reads the whole answer. Any status is an answer; redirects are not followed.
    ///
    /// # Errors
    /// [`TransportError`] when there is no complete answer, with the stage it broke at.
    fn send(&self, call: &HttpRequest<'_>) -> Result<HttpResponse, TransportError>;
}

/// One request, as it goes on the wire.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct HttpRequest<'a> {
    /// `GET`, `POST`, ...
    pub method: &'a str,
    /// The absolute URL.
    pub url: &'a str,
    /// Names and values; may hold keys, so they are never printed.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, sent byte for byte; empty for none.
    pub body: &'a [u8],
    /// When the whole exchange must be over, the connect included.
    pub deadline: Instant,
    /// The most decoded bytes of a 2xx body to accept, in bytes.
    pub max_body: usize,
    /// An abort of this flag shuts the exchange's socket down.
    pub cancel: &'a Cancel,
}

impl<'a> HttpRequest<'a> {
    /// A call without headers or body, accepting 64 MiB, for tests of a transport.
    pub fn new(method: &'a str, url: &'a str, deadline: Instant, cancel: &'a Cancel) -> Self {
        Self {
            method,
            url,
            headers: &[],
            body: &[],
            deadline,
            max_body: 64 << 20,
            cancel,
        }
    }
}

impl fmt::Debug for HttpRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A complete answer.
#[derive(Clone, Debug, Default)]
pub struct HttpResponse {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The decoded body; of an error answer at most its first 64 KiB.
    pub body: Vec<u8>,
}

/// How far an exchange got before it broke: what decides whether it may have been billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportStage {
    /// Not one byte of the request was sent.
    NothingSent,
    /// Something was sent and nothing came back, on a connection that had been used before: most
    /// likely the server closed it as the request went out.
    SentOnReused,
    /// Something was sent and nothing came back, on a fresh connection.
    Sent,
    /// The answer had begun.
    Answering,
}

/// What went wrong in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// The host name has no address.
    Resolve,
    /// Refused, no route, no free port, or no answer to the connect in time.
    Connect,
    /// The certificate, or the TLS handshake of a transport that never had one succeed; later ones that
    /// fail for other reasons are [`Connect`](Self::Connect). Once the handshake is over, a connection
    /// that TLS gives up on is [`Broken`](Self::Broken) or [`Truncated`](Self::Truncated) like any other.
    Tls,
    /// The deadline came, or the peer was silent for too long.
    Timeout,
    /// The connection was reset or closed, or what came on it was not what the server had sealed.
    Broken,
    /// The answer ended before its announced end.
    Truncated,
    /// Not HTTP/1.1.
    Protocol,
    /// The body is above [`HttpRequest::max_body`].
    TooLarge,
    /// [`HttpRequest::cancel`] was aborted.
    Aborted,
    /// The request cannot be put on the wire (a bad URL or header).
    Unsendable,
    /// The proxy refused.
    Proxy,
}

/// An exchange without a complete answer.
#[derive(Clone, Debug)]
pub struct TransportError {
    /// What went wrong.
    pub fault: TransportErrorKind,
    /// How far it got.
    pub stage: TransportStage,
    /// What happened, in words, without keys, paths or queries.
    pub message: String,
    /// The cause, if there is one.
    pub source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl TransportError {
    /// An exchange that failed so, at that stage; `message` without keys, paths or queries.
    pub fn new(
        fault: TransportErrorKind,
        stage: TransportStage,
        message: impl Into<String>,
    ) -> Self {
        Self {
            fault,
            stage,
            message: message.into(),
            source: None,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn StdError + 'static))
    }
}
