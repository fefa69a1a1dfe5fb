//! What every layer of a connection has to know of the call it serves.
//!
//! ureq gives its layers bytes to move and nothing else. A call stays on one thread from its
//! beginning to its end, so its context is kept beside the thread: until when bytes may move, for
//! whom, and how far the call has come. Whether a failed call may have been billed is decided by
//! its stage, which only the layer that moves the bytes knows.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use http::header::CONTENT_LENGTH;

use super::error::{fail, fail_for, ours, proxy_status};
use super::proxy::NamedProxy;
use super::{
    HttpConfig, HttpRequest, HttpResponse, TransportError, TransportErrorKind, TransportStage,
    request,
};
use crate::Cancel;

thread_local! {
    static CURRENT: RefCell<Option<Box<CallContext>>> = const { RefCell::new(None) };
}

/// One call under way. Boxed, for it is moved while the stack is deep.
pub(super) struct CallContext {
    pub(super) cancel: Cancel,
    pub(super) uri: Uri,
    pub(super) stage: TransportStage,
    /// The head of the request, until it is put before the body; ureq is not shown it.
    pub(super) head: String,
    /// Whether nothing more is sent on the connection, neither of this call nor of another.
    pub(super) is_spoiled: bool,
    /// Whether the connection ended without the `close_notify` of the TLS on it.
    pub(super) is_cut_short: bool,
    /// How many connections are being made, one through the other. Until none is, the bytes that
    /// move are not the request's.
    pub(super) connecting: u8,
    pub(super) deadline: Instant,
    /// When the connection must be ready: address, TCP, proxy and TLS together.
    pub(super) connect_by: Instant,
}

/// Puts a context in the place of this thread's, and takes that one out.
pub(super) fn swap(context: Option<Box<CallContext>>) -> Option<Box<CallContext>> {
    CURRENT.replace(context)
}

/// Looks at the context of this thread's call, or changes it.
pub(super) fn with<T>(look: impl FnOnce(&mut CallContext) -> T) -> T {
    CURRENT.with_borrow_mut(|context| look(context.get_or_insert_with(CallContext::expired)))
}

/// How long bytes may still be waited for; an error if no longer.
pub(super) fn time_left() -> Result<Duration, ureq::Error> {
    use TransportErrorKind::{Connect, Timeout};
    let (is_connecting, by, deadline) =
        with(|context| (context.connecting > 0, context.connect_by, context.deadline));
    let by = if is_connecting { by } else { deadline };
    let now = Instant::now();
    if now < by {
        Ok(by - now)
    } else if now < deadline {
        Err(fail(Connect, "the connection was not ready in time"))
    } else {
        Err(fail(Timeout, "the answer was not complete in time"))
    }
}

/// The connection is gone.
pub(super) fn broken(error: impl StdError + Send + Sync + 'static) -> ureq::Error {
    use TransportErrorKind::{Broken, Connect, Truncated};
    let (kind, why) = match with(|context| (context.connecting, context.stage)) {
        (0, TransportStage::Answering) => (Truncated, "the connection broke within the answer"),
        (0, _) => (Broken, "the connection broke"),
        // A connection that is never ready has carried nothing, however it failed.
        _ => (Connect, "the connection broke"),
    };
    fail_for(kind, why, error)
}

impl CallContext {
    /// The context of `request`, whose parsed URL is `uri`.
    pub(super) fn new(request: &HttpRequest<'_>, uri: Uri, config: &HttpConfig) -> Box<Self> {
        let connect_by = Instant::now()
            .checked_add(config.connect_timeout)
            .map_or(request.deadline, |by| by.min(request.deadline));
        Box::new(Self {
            cancel: request.cancel.clone(),
            head: request::head(request, &uri),
            uri,
            stage: TransportStage::NothingSent,
            is_spoiled: false,
            is_cut_short: false,
            connecting: 0,
            deadline: request.deadline,
            connect_by,
        })
    }

    /// For a connection that is used outside any call: nothing moves on it.
    pub(super) fn expired() -> Box<Self> {
        let cancel = Cancel::new();
        let request = HttpRequest::new("", "", Instant::now(), &cancel);
        Self::new(&request, Uri::default(), &HttpConfig::new())
    }

    /// Bytes went out: the request's, unless the connection is still being made.
    pub(super) fn note_bytes_sent(&mut self) {
        if self.connecting == 0 && self.stage == TransportStage::NothingSent {
            self.stage = TransportStage::Sent;
        }
    }

    /// The failure of a call that ureq ends with `error`, after this part of the `answer`. The call
    /// went through the `proxy`, if there is one.
    #[inline(never)]
    pub(super) fn explain(
        self,
        error: ureq::Error,
        proxy: Option<&NamedProxy>,
        answer: Box<HttpResponse>,
    ) -> TransportError {
        let mut failure = if self.cancel.is_aborted() {
            // An abort makes anything fail in any way.
            TransportError::new(TransportErrorKind::Aborted, self.stage, "aborted")
        } else {
            ours(error).unwrap_or_else(|error| self.explain_ureq(error, &answer))
        };
        failure.partial = (!answer.body.is_empty()).then_some(answer);
        failure.at(self.stage, &self.uri, proxy.map_or("", |(_, shown)| shown))
    }

    /// What `error` means if it is ureq's own, and not one of [`fail`], and came after so much of
    /// the `answer`. Its own words are in the cause.
    fn explain_ureq(&self, error: ureq::Error, answer: &HttpResponse) -> TransportError {
        use TransportErrorKind::{Broken, Protocol, Proxy, ProxyRefused, Truncated, Unsendable};
        use ureq::Error::{ConnectProxyFailed, Io};
        if let ConnectProxyFailed(why) = &error
            && let Some(status) = proxy_status(why)
        {
            let why = "the proxy refused the connection";
            return TransportError::new(ProxyRefused(status), self.stage, why);
        }
        let is_answering = self.stage == TransportStage::Answering;
        let has_head = !answer.headers.is_empty();
        let said = error.to_string();
        let said = said.trim_start_matches("protocol: ");
        let unparsed = said.strip_prefix("http parse fail: ");
        let (kind, why) = match &error {
            _ if self.connecting > 0 => (
                Proxy,
                "the proxy's answer to CONNECT is not HTTP/1.1, or it closed the connection".into(),
            ),
            Io(_) if is_answering => (Truncated, broke_off(answer)),
            Io(_) => (
                Broken,
                "the server closed the connection before it answered".into(),
            ),
            _ if is_answering && !has_head => (
                Protocol,
                unparsed.map_or_else(
                    || format!("the answer's head cannot be read: {said}"),
                    |why| format!("the answer is not HTTP: {why}"),
                ),
            ),
            _ if is_answering => (
                Protocol,
                format!("the answer's body cannot be read: {said}"),
            ),
            _ => (Unsendable, format!("the request cannot be sent: {said}")),
        };
        let mut failure = TransportError::new(kind, self.stage, why);
        failure.source = Some(Arc::new(error));
        failure
    }
}

/// Where an answer broke off that came so far.
fn broke_off(answer: &HttpResponse) -> String {
    if answer.headers.is_empty() {
        return "the answer broke off within its head".to_owned();
    }
    let length = answer.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok());
    let of = length.map_or_else(String::new, |length| format!(" of {length}"));
    format!("the answer broke off after {}{of} bytes", answer.body.len())
}
