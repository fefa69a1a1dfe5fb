//! What every layer of a connection has to know of the call it serves.
//!
//! ureq gives its layers bytes to move and nothing else. A call stays on one thread from its
//! beginning to its end, so its context is kept beside the thread: until when bytes may move, for
//! whom, and how far the call has come. Whether a failed call may have been billed is decided by
//! its stage, which only the layer that moves the bytes knows.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::mem;
use std::time::{Duration, Instant};

use http::Uri;

use super::error::proxy_status;
use super::head::AnswerHead;
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
    head: String,
    /// Whether the head of the answer is still to come.
    pub(super) awaits_head: bool,
    /// The head of the answer, of which ureq is shown a few lines.
    pub(super) answer_head: Option<AnswerHead>,
    /// Whether the connection must not carry another call.
    pub(super) is_spoiled: bool,
    /// Whether the peer has answered without reading the request to its end, and takes no more of
    /// it.
    pub(super) is_refused: bool,
    /// How often sending has been stuck.
    pub(super) stalls: usize,
    /// Whether the connection ended without the `close_notify` of the TLS on it.
    pub(super) is_cut_short: bool,
    /// Why the call cannot go on: what ureq is told instead says less.
    pub(super) failure: Option<TransportError>,
    /// The stage from the first byte of the request on. It tells whether the connection has carried
    /// a call before this one.
    stage_once_sent: TransportStage,
    /// How many connections are being made, one through the other.
    connecting: u8,
    deadline: Instant,
    /// When the connection must be ready: address, TCP, proxy and TLS together.
    pub(super) connect_by: Instant,
    /// How long the peer may be silent.
    max_silence: Option<Duration>,
    /// When bytes moved last.
    last_moved: Instant,
}

/// Makes `context` the one of this thread while `call` runs, and takes it out again.
pub(super) fn during<T>(
    context: Box<CallContext>,
    call: impl FnOnce() -> T,
) -> (T, Box<CallContext>) {
    CURRENT.set(Some(context));
    let called = call();
    (called, CURRENT.take().unwrap_or_else(CallContext::expired))
}

/// Puts a context in the place of this thread's: a part of a call may have a thread of its own.
#[cfg(feature = "rustls")]
pub(super) fn swap(context: Option<Box<CallContext>>) -> Option<Box<CallContext>> {
    CURRENT.replace(context)
}

/// Looks at the context of this thread's call, or changes it.
pub(super) fn with<T>(look: impl FnOnce(&mut CallContext) -> T) -> T {
    CURRENT.with_borrow_mut(|context| look(context.get_or_insert_with(CallContext::expired)))
}

/// Ends the call, unless it has failed before; for ureq to hand up.
pub(super) fn fail(kind: TransportErrorKind, why: impl Into<String>) -> ureq::Error {
    end(TransportError::new(kind, TransportStage::NothingSent, why))
}

/// As [`fail`], with the cause, which must not hold anything secret.
pub(super) fn fail_for(
    kind: TransportErrorKind,
    why: impl Into<String>,
    cause: impl StdError + Send + Sync + 'static,
) -> ureq::Error {
    end(TransportError::new(kind, TransportStage::NothingSent, why).because(cause))
}

fn end(failure: TransportError) -> ureq::Error {
    with(|context| context.failure.get_or_insert(failure).kind);
    ureq::Error::ConnectionFailed
}

/// How long bytes may still be waited for; an error if no longer.
pub(super) fn time_left() -> Result<Duration, ureq::Error> {
    use TransportErrorKind::{Connect, Timeout};
    let left = with(|context| context.left());
    if !left.is_zero() {
        return Ok(left);
    }
    let (kind, why) = match with(|context| (context.is_over(), context.is_connecting())) {
        (true, _) => (Timeout, "the answer was not complete in time"),
        (false, true) => (Connect, "the connection was not ready in time"),
        (false, false) => (Timeout, "the server was silent for too long"),
    };
    Err(fail(kind, why))
}

/// The connection is gone.
pub(super) fn broken(error: impl StdError + Send + Sync + 'static) -> ureq::Error {
    use TransportErrorKind::{Broken, Connect, Truncated};
    let (kind, why) = match with(|context| (context.is_connecting(), context.awaits_head)) {
        // A connection that is never ready has carried nothing, however it failed.
        (true, _) => (Connect, "the connection broke"),
        (false, true) => (Broken, "the connection broke"),
        (false, false) => (Truncated, "the connection broke within the answer"),
    };
    fail_for(kind, why, error)
}

/// Runs `connect`, which makes a connection. Until that has succeeded, the bytes that move are not
/// the request's. Beside the connection, it says whether another one is being made through it.
pub(super) fn connecting<T, E>(connect: impl FnOnce() -> Result<T, E>) -> Result<(T, bool), E> {
    with(|context| {
        context.connecting += 1;
        context.stage_once_sent = TransportStage::Sent;
    });
    let made = connect()?;
    let is_within = with(|context| {
        context.connecting -= 1;
        context.is_connecting()
    });
    Ok((made, is_within))
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
            awaits_head: true,
            answer_head: None,
            is_spoiled: false,
            is_refused: false,
            stalls: 0,
            is_cut_short: false,
            failure: None,
            stage_once_sent: TransportStage::SentOnReused,
            connecting: 0,
            deadline: request.deadline,
            connect_by,
            max_silence: config.idle_timeout,
            last_moved: Instant::now(),
        })
    }

    /// For a connection that is used outside any call: nothing moves on it.
    fn expired() -> Box<Self> {
        let cancel = Cancel::new();
        let request = HttpRequest::new("", "", Instant::now(), &cancel);
        Self::new(&request, Uri::default(), &HttpConfig::new())
    }

    /// The head, for the first bytes of the request.
    pub(super) fn take_head(&mut self) -> Option<String> {
        let head = mem::take(&mut self.head);
        (!head.is_empty()).then_some(head)
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.connecting > 0
    }

    /// The failure of a call that ureq ends with `error`, after this part of the `answer`. The call
    /// went `through` a proxy if that is not empty.
    #[inline(never)]
    pub(super) fn explain(
        mut self,
        error: ureq::Error,
        through: &str,
        answer: Box<HttpResponse>,
    ) -> TransportError {
        use TransportErrorKind::{Aborted, Resolve};
        let mut failure = match self.failure.take() {
            // An abort makes anything fail in any way.
            _ if self.cancel.is_aborted() => TransportError::new(Aborted, self.stage, "aborted"),
            Some(failure) => failure,
            None => self.explain_ureq(error),
        };
        // Through a proxy, no address but its own is looked up here.
        let is_lost = failure.kind == Resolve && !through.is_empty();
        // The connection that was being made is the proxy's own.
        if self.connecting > 1 || is_lost {
            failure.blame_proxy();
        }
        failure.partial = (!answer.body.is_empty()).then_some(answer);
        failure.at(self.stage, &self.uri, through)
    }

    /// What `error` means if it is ureq's own, and not one of [`fail`].
    fn explain_ureq(&self, error: ureq::Error) -> TransportError {
        use TransportErrorKind::{Broken, Protocol, Proxy, ProxyRefused, Truncated, Unsendable};
        use ureq::Error::{ConnectProxyFailed, Io, LargeResponseHeader};
        let is_answering = self.stage == TransportStage::Answering;
        let (kind, why) = match &error {
            ConnectProxyFailed(why) => {
                let refused = |status| (ProxyRefused(status), "the proxy refused the connection");
                let silent = (Proxy, "the proxy closed the connection without an answer");
                proxy_status(why).map_or(silent, refused)
            }
            _ if self.is_connecting() => {
                (Proxy, "the answer of the proxy to CONNECT is not HTTP/1.1")
            }
            Io(_) if is_answering => (Truncated, "the answer ended before its end"),
            Io(_) => (Broken, "the server closed the connection without an answer"),
            LargeResponseHeader(..) => (Protocol, "the answer's head is too large"),
            _ if is_answering => (Protocol, "the answer is not HTTP/1.1"),
            _ => (Unsendable, "the request cannot be sent"),
        };
        let failure = TransportError::new(kind, self.stage, why);
        match kind {
            // All of it has been said.
            ProxyRefused(_) => failure,
            _ => failure.because(error),
        }
    }

    /// How long bytes may still be waited for.
    fn left(&self) -> Duration {
        let phase = if self.is_connecting() {
            self.connect_by
        } else {
            self.deadline
        };
        let left = phase.saturating_duration_since(Instant::now());
        let silence = self.max_silence.unwrap_or(Duration::MAX);
        left.min(silence.saturating_sub(self.last_moved.elapsed()))
    }

    /// Whether the call itself is out of time, not only a part of it.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Bytes moved, so that the peer is not silent.
    pub(super) fn note_bytes_moved(&mut self) {
        self.last_moved = Instant::now();
    }

    /// Bytes went out: the request's, unless the connection is still being made.
    pub(super) fn note_bytes_sent(&mut self) {
        self.note_bytes_moved();
        if !self.is_connecting() && self.stage == TransportStage::NothingSent {
            self.stage = self.stage_once_sent;
        }
    }

    /// The peer has answered and takes no more of the request: there is an answer to be read.
    pub(super) fn note_refusal(&mut self) {
        (self.is_refused, self.is_spoiled) = (true, true);
        self.failure = None;
    }

    /// Leaves at most `time` for the rest.
    pub(super) fn end_within(&mut self, time: Duration) {
        if let Some(by) = Instant::now().checked_add(time) {
            self.deadline = self.deadline.min(by);
        }
    }
}
