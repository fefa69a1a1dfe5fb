//! The seam between the client and the wire.
//!
//! A [`Transport`] carries one HTTP exchange on the calling thread. The real one is carried by ureq
//! (this folder is the only place that names it); the in-memory one answers from a closure.
//!
//! Above ureq: `http_transport` gives a request to one of ureq's agents, shows it what `request`
//! says of it, and has `response` read the answer. Below ureq, plugged into it: `resolver`, and
//! connections, which `connector` makes. A connection is `tcp`, perhaps with `tls` on it, with
//! `buffers` borrowed while bytes move, and `connection` on top, which puts the head of the request
//! before its body, has `head` look at the answer's, and hears one that comes too early. `context`
//! is what all of them know of the present call, `abort` how an abort finds its socket, and `error`
//! how they say that it failed.
//! `proxy` chooses a proxy, and `login` keeps a wrong password from being tried many times.

mod abort;
mod buffers;
mod config;
mod connection;
mod connector;
mod context;
mod decode;
mod error;
mod head;
mod http_transport;
mod login;
mod memory;
mod proxy;
mod request;
mod resolver;
mod response;
mod tcp;
mod tls;

use std::fmt;
use std::time::Instant;

use crate::Cancel;
use crate::opaque::opaque;
use http::{HeaderMap, StatusCode};

pub use config::HttpConfig;
pub use error::{TransportError, TransportErrorKind, TransportStage};
pub use http_transport::HttpTransport;
pub use memory::MemoryTransport;
pub use proxy::ProxyPolicy;

/// Carries one HTTP exchange: a request to the server, and its answer back. It blocks the calling
/// thread.
///
/// Implement it to put something else under the client: a recording, a unix socket, a test double.
/// It is called from many threads at once. This one counts what it passes on:
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use tollgate::{HttpRequest, HttpResponse, Transport, TransportError};
///
/// #[derive(Debug)]
/// struct Counted<T> {
///     inner: T,
///     sent: AtomicU64,
/// }
///
/// impl<T: Transport> Transport for Counted<T> {
///     fn send(&self, call: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
///         self.sent.fetch_add(1, Ordering::Relaxed);
///         self.inner.send(call)
///     }
/// }
/// ```
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends `call` and reads the whole answer. Any status is an answer; redirects are not
    /// followed.
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

opaque!(HttpRequest<'_>, "HttpRequest", |it| method: it.method, body_bytes: it.body.len());

/// An answer.
#[derive(Clone, Default)]
pub struct HttpResponse {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The decoded body; of an error answer at most its first 64 KiB.
    pub body: Vec<u8>,
}

// Without the headers and the body, which may be anything.
opaque!(HttpResponse, "HttpResponse", |it| status: it.status, body_bytes: it.body.len());
