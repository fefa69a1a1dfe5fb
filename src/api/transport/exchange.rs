//! What the layers under ureq know about the call they serve.
//!
//! ureq's connectors and transports see sockets and buffers, and its errors do not say whether
//! anything was sent. An exchange stays on its thread from first to last, so the deadline, the
//! [`Cancel`] and the stage it has reached are kept with the thread, where every layer finds them
//! without a lock, and where the layer that fails leaves word of what really happened.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::{Call, Fault, Stage};
use crate::Cancel;

/// One call under way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) cancel: Cancel,
    pub(super) stage: Stage,
    /// What the failing layer said, if it knew better than ureq's error does.
    pub(super) noted: Option<(Fault, String)>,
    /// Whether the peer closed its side of the TCP connection.
    pub(super) peer_closed: bool,
    deadline: Instant,
    connect_by: Instant,
    silence: Option<Duration>,
    connecting: bool,
}

thread_local! {
    static CURRENT: RefCell<Option<Exchange>> = const { RefCell::new(None) };
}

/// Runs `f` on this thread's exchange; `None` outside of one.
pub(super) fn current<R>(f: impl FnOnce(&mut Exchange) -> R) -> Option<R> {
    CURRENT.with_borrow_mut(|current| current.as_mut().map(f))
}

/// Leaves word of what went wrong; the first word stands.
pub(super) fn note(fault: Fault, message: impl FnOnce() -> String) {
    current(|exchange| {
        if exchange.noted.is_some() {
            return;
        }
        let fault = match fault {
            // A connection that does not come to stand has carried nothing, however it failed.
            Fault::Broken if exchange.connecting => Fault::Connect,
            Fault::Timeout if exchange.connecting && !exchange.is_over(Instant::now()) => {
                Fault::Connect
            }
            fault => fault,
        };
        exchange.noted = Some((fault, message()));
    });
}

impl Exchange {
    /// When an I/O operation that starts at `now` must be over.
    pub(super) fn limit(&self, now: Instant) -> Instant {
        let phase = if self.connecting {
            self.connect_by
        } else {
            self.deadline
        };
        match self.silence.and_then(|silence| now.checked_add(silence)) {
            Some(silent_until) => phase.min(silent_until),
            None => phase,
        }
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.connecting
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
    pub(super) fn sent(&mut self, on_reused: bool) {
        if !self.connecting && self.stage == Stage::NothingSent {
            self.stage = if on_reused {
                Stage::SentOnReused
            } else {
                Stage::Sent
            };
        }
    }

    /// Bytes came in: the answer's, unless the connection is still being made.
    pub(super) fn answered(&mut self) {
        if !self.connecting {
            self.stage = Stage::Answering;
        }
    }

    /// Leaves at most `time` for the rest.
    pub(super) fn hurry(&mut self, time: Duration) {
        if let Some(by) = Instant::now().checked_add(time) {
            self.deadline = self.deadline.min(by);
        }
    }
}

/// The exchange of this thread, until it is finished or dropped.
#[must_use]
pub(super) struct Running(());

impl Running {
    pub(super) fn begin(call: &Call<'_>, connect: Duration, silence: Option<Duration>) -> Self {
        let connect_by = Instant::now()
            .checked_add(connect)
            .map_or(call.deadline, |by| by.min(call.deadline));
        CURRENT.set(Some(Exchange {
            cancel: call.cancel.clone(),
            stage: Stage::NothingSent,
            noted: None,
            peer_closed: false,
            deadline: call.deadline,
            connect_by,
            silence,
            connecting: false,
        }));
        Self(())
    }

    /// Ends the exchange and says how it went; `None` only if another was begun on top of it.
    pub(super) fn finish(self) -> Option<Exchange> {
        let exchange = CURRENT.take();
        drop(self);
        exchange
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// While it lives, bytes belong to the making of a connection, not to the request.
#[must_use]
pub(super) struct Connecting(bool);

impl Connecting {
    pub(super) fn begin() -> Self {
        Self::set(true)
    }

    fn set(connecting: bool) -> Self {
        let before = current(|exchange| std::mem::replace(&mut exchange.connecting, connecting));
        Self(before.unwrap_or(false))
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        // Connections nest: the one to a proxy is made while making the one through it.
        current(|exchange| exchange.connecting = self.0);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn begin(cancel: &Cancel) -> Running {
        let deadline = Instant::now() + Duration::from_secs(600);
        let call = Call::new("GET", "http://host/", deadline, cancel);
        Running::begin(&call, Duration::from_secs(10), None)
    }

    #[test]
    fn a_handshake_is_not_a_request() {
        let cancel = Cancel::new();
        let running = begin(&cancel);
        {
            let _tunnel = Connecting::begin();
            {
                let _proxy = Connecting::begin();
            }
            current(|exchange| exchange.sent(false));
        }
        assert_eq!(current(|exchange| exchange.stage), Some(Stage::NothingSent));
        current(|exchange| exchange.sent(true));
        assert_eq!(running.finish().unwrap().stage, Stage::SentOnReused);
        assert!(current(|_| ()).is_none());
    }

    #[test]
    fn the_first_word_stands() {
        let cancel = Cancel::new();
        let running = begin(&cancel);
        note(Fault::Timeout, || "first".into());
        note(Fault::Broken, || "second".into());
        assert_eq!(running.finish().unwrap().noted.unwrap().0, Fault::Timeout);
    }

    #[test]
    fn connecting_has_a_limit_of_its_own_and_leaks_into_nothing() {
        let cancel = Cancel::new();
        let running = begin(&cancel);
        let now = Instant::now();
        let limit = |now| current(|exchange| exchange.limit(now)).unwrap() - now;
        {
            let _connecting = Connecting::begin();
            assert!(limit(now) <= Duration::from_secs(10));
        }
        assert!(limit(now) > Duration::from_secs(500));
        drop(running);
    }
}
