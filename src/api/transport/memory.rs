//! A transport without a network, for tests.

use super::{HttpRequest, HttpResponse, Transport, TransportError};
use crate::opaque::opaque;

/// A [`Transport`] that answers from a closure, for tests without a server.
///
/// The closure sees each [`HttpRequest`] as it would go on the wire and runs on the thread that
/// sends it, from many threads at once in a pool.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tollgate::http::{HeaderValue, StatusCode, header};
/// use tollgate::{HttpResponse, HttpRequest, Cancel, MemoryTransport, Transport};
///
/// let transport = MemoryTransport::new(|call| {
///     assert!(call.url.ends_with("/v1/chat/completions"));
///     Ok(HttpResponse {
///         status: StatusCode::TOO_MANY_REQUESTS,
///         headers: [(header::RETRY_AFTER, HeaderValue::from_static("2"))].into_iter().collect(),
///         body: br#"{"error":{"message":"slow down"}}"#.to_vec(),
///     })
/// });
///
/// let (cancel, deadline) = (Cancel::new(), Instant::now() + Duration::from_secs(60));
/// let call = HttpRequest::new("POST", "http://api.test/v1/chat/completions", deadline, &cancel);
/// assert_eq!(transport.send(&call).unwrap().status, 429);
/// ```
pub struct MemoryTransport {
    answer: Box<dyn Fn(&HttpRequest<'_>) -> Answer + Send + Sync>,
}

type Answer = Result<HttpResponse, TransportError>;

impl MemoryTransport {
    /// A transport that answers every call with what `answer` returns.
    pub fn new(answer: impl Fn(&HttpRequest<'_>) -> Answer + Send + Sync + 'static) -> Self {
        let answer = Box::new(answer);
        Self { answer }
    }
}

impl Transport for MemoryTransport {
    fn send(&self, call: &HttpRequest<'_>) -> Answer {
        (self.answer)(call)
    }
}

opaque!(MemoryTransport, "MemoryTransport", |_it|);
