//! What every layer under the seam has to know of the call it serves.
//!
//! Until when bytes may move, for whom, and how far it has come: whether a failed call may have been
//! billed is decided by the stage it had reached, which only the layer that moves the bytes knows.

use std::error::Error as StdError;
use std::time::{Duration, Instant};

use super::fault::Failure;
use super::{HttpRequest, TransportErrorKind, TransportStage};
use crate::Cancel;

/// One call under way.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) cancel: &'a Cancel,
    pub(super) stage: TransportStage,
    /// Whether its connection has carried a request before this one.
    pub(super) on_reused: bool,
    /// Whether the connection ended without the farewell of the TLS on it.
    pub(super) cut_short: bool,
    /// Whether the peer has answered without reading the request to its end, and takes no more of it.
    pub(super) deaf: bool,
    deadline: Instant,
    connect_by: Instant,
    silence: Option<Duration>,
    patience: Option<Instant>,
    connecting: bool,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        call: &HttpRequest<'a>,
        connect: Duration,
        silence: Option<Duration>,
    ) -> Self {
        let connect_by = Instant::now()
            .checked_add(connect)
            .map_or(call.deadline, |by| by.min(call.deadline));
        Self {
            cancel: call.cancel,
            stage: TransportStage::NothingSent,
            on_reused: false,
            cut_short: false,
            deaf: false,
            deadline: call.deadline,
            connect_by,
            silence,
            patience: None,
            connecting: false,
        }
    }

    /// Bytes belong to the making of a connection while `connect` runs, not to the request.
    pub(super) fn connecting<T>(&mut self, connect: impl FnOnce(&mut Self) -> T) -> T {
        self.connecting = true;
        let made = connect(self);
        self.connecting = false;
        made
    }

    /// Waits only until `patience` while `wait` runs, and says whether it ran out.
    pub(super) fn waiting_until<T>(
        &mut self,
        patience: Instant,
        wait: impl FnOnce(&mut Self) -> T,
    ) -> (T, bool) {
        self.patience = Some(patience);
        let waited = wait(self);
        self.patience = None;
        let now = Instant::now();
        (waited, now >= patience && !self.is_over(now))
    }

    /// When an I/O operation that starts at `now` must be over.
    pub(super) fn limit(&self, now: Instant) -> Instant {
        let phase = if self.connecting {
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
        if !self.connecting && self.stage == TransportStage::NothingSent {
            self.stage = if self.on_reused {
                TransportStage::SentOnReused
            } else {
                TransportStage::Sent
            };
        }
    }

    /// Leaves at most `time` for the rest.
    pub(super) fn hurry(&mut self, time: Duration) {
        if let Some(by) = Instant::now().checked_add(time) {
            self.deadline = self.deadline.min(by);
        }
    }

    /// An I/O operation ran into its limit.
    pub(super) fn timed_out(&self) -> Failure {
        let over = self.is_over(Instant::now());
        let (fault, why) = match (over, self.connecting) {
            (true, _) => (TransportErrorKind::Timeout, "no whole answer in time"),
            (false, true) => (
                TransportErrorKind::Connect,
                "the connection did not stand in time",
            ),
            (false, false) => (
                TransportErrorKind::Timeout,
                "the peer was silent for too long",
            ),
        };
        Failure::new(fault, why)
    }

    /// The connection is gone.
    pub(super) fn broken(&self, error: impl StdError + Send + Sync + 'static) -> Failure {
        // A connection that does not come to stand has carried nothing, however it failed.
        let fault = if self.connecting {
            TransportErrorKind::Connect
        } else {
            TransportErrorKind::Broken
        };
        Failure::new(fault, "the connection broke").because(error)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn begin(cancel: &Cancel) -> Exchange<'_> {
        let deadline = Instant::now() + Duration::from_secs(600);
        let call = HttpRequest::new("GET", "http://host/", deadline, cancel);
        Exchange::new(&call, Duration::from_secs(10), None)
    }

    #[test]
    fn a_handshake_is_not_a_request() {
        let cancel = Cancel::new();
        let mut exchange = begin(&cancel);
        exchange.on_reused = true;
        exchange.connecting(Exchange::sent);
        assert_eq!(exchange.stage, TransportStage::NothingSent);
        exchange.sent();
        assert_eq!(exchange.stage, TransportStage::SentOnReused);
    }

    #[test]
    fn connecting_and_waiting_have_limits_of_their_own_that_leak_into_nothing() {
        let cancel = Cancel::new();
        let mut exchange = begin(&cancel);
        let now = Instant::now();
        let limit = exchange.connecting(|exchange| exchange.limit(now));
        assert!(limit <= now + Duration::from_secs(10));
        let (limit, ran_out) = exchange.waiting_until(now, |exchange| exchange.limit(now));
        assert!(limit == now && ran_out);
        assert!(exchange.limit(now) > now + Duration::from_secs(500));
    }

    #[test]
    fn what_ends_a_connect_is_not_what_ends_a_call() {
        let cancel = Cancel::new();
        let mut exchange = begin(&cancel);
        let fault = exchange.connecting(|exchange| exchange.timed_out().fault);
        assert_eq!(fault, TransportErrorKind::Connect);
        assert_eq!(exchange.timed_out().fault, TransportErrorKind::Timeout);
        exchange.hurry(Duration::ZERO);
        let fault = exchange.connecting(|exchange| exchange.timed_out().fault);
        assert_eq!(
            fault,
            TransportErrorKind::Timeout,
            "the call is over, not only the connect"
        );
    }
}
