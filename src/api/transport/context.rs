//! What every layer of a connection has to know of the call it serves.
//!
//! ureq gives its layers bytes to move and nothing else. A call stays on one thread from its beginning
//! to its end, so its context is kept beside the thread: until when bytes may move, for whom, and how
//! far the call has come. Whether a failed call may have been billed is decided by its stage, which
//! only the layer that moves the bytes knows.

use std::cell::RefCell;
use std::error::Error as StdError;

use std::mem;
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::error::Failure;
use super::{HttpRequest, TransportErrorKind, TransportStage, request};
use crate::Cancel;

thread_local! {
    static CURRENT: RefCell<Option<CallContext>> = const { RefCell::new(None) };
}

/// What became of bytes that were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Some have gone.
    Some,
    /// The peer takes none for the moment, and something has arrived from it.
    Stuck,
    /// The peer takes no more at all, and something had arrived from it before.
    Never,
}

/// One call under way.
#[derive(Debug)]
pub(super) struct CallContext {
    pub(super) cancel: Cancel,
    pub(super) stage: TransportStage,
    /// The head of the request, until it is put before the body; ureq is not shown it.
    pub(super) head: Vec<u8>,
    /// Whether the head of the answer is still to come.
    pub(super) awaits_head: bool,
    /// Whether ureq waits for `100 Continue` before it sends the body.
    pub(super) awaits_100: bool,
    /// Values of the answer's head that ureq is not shown, for it would log them.
    pub(super) hidden: Vec<HeaderValue>,
    /// Whether the connection must not carry another call.
    pub(super) is_spoiled: bool,
    /// Whether the peer has answered without reading the request to its end, and takes no more of it.
    pub(super) is_refused: bool,
    /// Whether the connection ended without the `close_notify` of the TLS on it.
    pub(super) is_cut_short: bool,
    /// Whether a proxy is being asked for a tunnel.
    pub(super) is_tunnelling: bool,
    /// Why the call cannot go on: what ureq is told instead says less.
    pub(super) failure: Option<Failure>,
    /// Whether its connection has carried a call before this one.
    is_on_reused: bool,
    /// How many connections are being made, one through the other.
    connecting: u8,
    /// Whether the layer that is called serves another one above it.
    is_beneath: bool,
    blocked: Option<Sent>,
    deadline: Instant,
    connect_by: Instant,
    silence: Option<Duration>,
    patience: Option<Instant>,
}

/// Makes `context` the one of this thread until the answer is ended or dropped.
pub(super) fn begin(context: CallContext) -> Running {
    CURRENT.set(Some(context));
    Running(())
}

/// A call whose context is in place.
pub(super) struct Running(());

impl Running {
    /// Takes the context out.
    pub(super) fn end(self) -> CallContext {
        CURRENT.take().unwrap_or_else(CallContext::expired)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Looks at the context of this thread's call, or changes it.
pub(super) fn with<T>(look: impl FnOnce(&mut CallContext) -> T) -> T {
    CURRENT.with_borrow_mut(|context| look(context.get_or_insert_with(CallContext::expired)))
}

/// Ends the call with `failure`, unless it has failed before; for ureq to hand up.
pub(super) fn fail(failure: Failure) -> ureq::Error {
    with(|context| context.failure.get_or_insert(failure).kind);
    ureq::Error::ConnectionFailed
}

/// Bytes belong to the making of a connection while `connect` runs, not to the request.
pub(super) fn connecting<T>(connect: impl FnOnce() -> T) -> T {
    with(|context| {
        context.connecting += 1;
        context.is_on_reused = false;
    });
    let made = connect();
    with(|context| context.connecting -= 1);
    made
}

/// What `serve` calls serves the layer that calls this.
pub(super) fn beneath<T>(serve: impl FnOnce() -> T) -> T {
    let was = with(|context| mem::replace(&mut context.is_beneath, true));
    let served = serve();
    with(|context| context.is_beneath = was);
    served
}

/// Waits only until `patience`, if there is one, while `wait` runs.
pub(super) fn waiting_until<T>(patience: Option<Instant>, wait: impl FnOnce() -> T) -> T {
    with(|context| context.patience = patience);
    let waited = wait();
    with(|context| context.patience = None);
    waited
}

impl CallContext {
    pub(super) fn new(
        request: &HttpRequest<'_>,
        head: Vec<u8>,
        connect: Duration,
        silence: Option<Duration>,
    ) -> Self {
        let connect_by = Instant::now()
            .checked_add(connect)
            .map_or(request.deadline, |by| by.min(request.deadline));
        Self {
            cancel: request.cancel.clone(),
            stage: TransportStage::NothingSent,
            head,
            awaits_head: true,
            awaits_100: request::says(request, "expect"),
            hidden: Vec::new(),
            is_spoiled: false,
            is_refused: false,
            is_cut_short: false,
            is_tunnelling: false,
            failure: None,
            is_on_reused: true,
            connecting: 0,
            is_beneath: false,
            blocked: None,
            deadline: request.deadline,
            connect_by,
            silence,
            patience: None,
        }
    }

    /// For a connection that is used outside any call: nothing moves on it.
    fn expired() -> Self {
        let cancel = Cancel::new();
        let request = HttpRequest::new("", "", Instant::now(), &cancel);
        Self::new(&request, Vec::new(), Duration::ZERO, None)
    }

    /// The head, for the first bytes of the request.
    pub(super) fn take_head(&mut self) -> Option<Vec<u8>> {
        let is_first = !self.is_connecting() && !self.head.is_empty();
        is_first.then(|| mem::take(&mut self.head))
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.connecting > 0
    }

    pub(super) fn is_beneath(&self) -> bool {
        self.is_beneath
    }

    /// When an I/O operation that starts at `now` must be over.
    pub(super) fn limit(&self, now: Instant) -> Instant {
        let phase = if self.is_connecting() {
            self.connect_by
        } else {
            self.deadline
        };
        let silent_until = self.silence.and_then(|silence| now.checked_add(silence));
        [silent_until, self.patience]
            .into_iter()
            .flatten()
            .fold(phase, Instant::min)
    }

    /// When the connection must stand: address, TCP, proxy and TLS together.
    pub(super) fn connect_by(&self) -> Instant {
        self.connect_by
    }

    /// Whether the call itself is out of time, not only a part of it.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Bytes went out: the request's, unless the connection is still being made.
    pub(super) fn sent(&mut self) {
        if !self.is_connecting() && self.stage == TransportStage::NothingSent {
            self.stage = if self.is_on_reused {
                TransportStage::SentOnReused
            } else {
                TransportStage::Sent
            };
        }
    }

    /// Bytes came in at the uppermost layer: the answer's, unless the connection is still being made.
    pub(super) fn received(&mut self) {
        if !self.is_connecting() {
            self.stage = TransportStage::Answering;
        }
    }

    /// Tells the layer above that the peer takes no more for now.
    pub(super) fn block(&mut self, how: Sent) -> ureq::Error {
        self.blocked = Some(how);
        ureq::Error::ConnectionFailed
    }

    pub(super) fn take_blocked(&mut self) -> Option<Sent> {
        self.blocked.take()
    }

    /// The peer has answered and takes no more of the request: there is an answer to be read.
    pub(super) fn refuse(&mut self) {
        (self.is_refused, self.is_spoiled) = (true, true);
        self.failure = None;
    }

    /// Leaves at most `time` for the rest.
    pub(super) fn hurry(&mut self, time: Duration) {
        if let Some(by) = Instant::now().checked_add(time) {
            self.deadline = self.deadline.min(by);
        }
    }

    /// An I/O operation ran into its limit.
    pub(super) fn timed_out(&self) -> Failure {
        use TransportErrorKind::{Connect, Timeout};
        let over = self.is_over(Instant::now());
        let (kind, why) = match (over, self.is_connecting()) {
            (true, _) => (Timeout, "the answer was not complete in time"),
            (false, true) => (Connect, "the connection was not ready in time"),
            (false, false) => (Timeout, "the server was silent for too long"),
        };
        Failure::new(kind, why)
    }

    /// Whether only the wait until `patience` has run out; then that was no failure.
    pub(super) fn outlives(&mut self, patience: Instant) -> bool {
        let now = Instant::now();
        let is_patience = now >= patience && !self.is_over(now);
        if is_patience {
            self.failure = None;
        }
        is_patience
    }

    /// The connection is gone.
    pub(super) fn broken(&self, error: impl StdError + Send + Sync + 'static) -> Failure {
        // A connection that is never ready has carried nothing, however it failed.
        let kind = if self.is_connecting() {
            TransportErrorKind::Connect
        } else {
            TransportErrorKind::Broken
        };
        Failure::new(kind, "the connection broke").because(error)
    }
}
