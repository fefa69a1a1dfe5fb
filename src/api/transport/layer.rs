//! What all layers of a connection do alike, TCP or TLS: hold a head back until its body or the wait
//! for the answer, send, and receive. And what is done with an upload that nobody reads.
//!
//! A server that refuses a request may answer before it has read it, and read no more of it. ureq would
//! fail to send the rest, or wait for ever to do so, and the answer would be lost. So a layer that
//! cannot send looks whether an answer has come; if it has, ureq is told that all is sent, reads the
//! answer, and the connection is not used again.

use std::time::{Duration, Instant};

use log::{Level, log_enabled};
use ureq::Timeout;
use ureq::unversioned::transport::time::Duration as Limit;
use ureq::unversioned::transport::{Buffers, NextTimeout};

use super::buffers::LentBuffers;
use super::context::{self, Sent, fail};
use super::error::Failure;
use super::{TransportErrorKind, head};

/// How long a server that has begun a success may leave the rest of the request unread. Some answer
/// while they read; but nobody who means to read does nothing for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// For an operation that the context alone bounds.
pub(super) const UNLIMITED: NextTimeout = timeout(Limit::NotHappening);
/// For one that does not wait.
pub(super) const AT_ONCE: NextTimeout = timeout(Limit::from_secs(0));

const fn timeout(after: Limit) -> NextTimeout {
    NextTimeout {
        after,
        reason: Timeout::Global,
        per_read: None,
        per_write: None,
    }
}

/// A layer of a connection.
pub(super) trait Layer {
    fn lent(&mut self) -> &mut LentBuffers;

    /// Whether anything waits to be sent.
    fn has_unsent(&self) -> bool;

    /// Sends some of what waits to be sent.
    fn send_some(&mut self) -> Result<Sent, ureq::Error>;

    /// Waits until more has arrived in the input; `false` at the end of the stream. A limit of no time
    /// means not to wait: its end is then no failure.
    fn receive_some(&mut self, limit: NextTimeout) -> Result<bool, ureq::Error>;
}

/// As ureq's `Transport::transmit_output`.
pub(super) fn transmit(layer: &mut dyn Layer, amount: usize) -> Result<(), ureq::Error> {
    if let Some(head) = context::with(|context| context.take_head()) {
        // What ureq wrote in its place is not counted, and so overwritten.
        layer.lent().output.push(&head);
        return Ok(());
    }
    let lent = layer.lent();
    lent.output.fill(amount);
    if lent.can_use_input() {
        // More has come with the word to go on.
        lent.is_fresh = present(lent);
    }
    // A request to a proxy comes word by word.
    let is_held = context::with(|context| context.is_tunnelling && !context.is_beneath());
    if is_held { Ok(()) } else { send(layer) }
}

/// As ureq's `Transport::await_input`.
pub(super) fn receive(layer: &mut dyn Layer, limit: NextTimeout) -> Result<bool, ureq::Error> {
    if layer.has_unsent() && !context::with(|context| context.is_beneath()) {
        send(layer)?;
        if layer.lent().can_use_input() {
            return Ok(true);
        }
    }
    loop {
        if !layer.receive_some(limit)? {
            if context::with(|context| context.is_tunnelling && !context.is_beneath()) {
                let why = "the proxy closed the connection without an answer";
                return Err(fail(Failure::new(TransportErrorKind::Connect, why)));
            }
            return Ok(false);
        }
        if present(layer.lent()) {
            return Ok(true);
        }
    }
}

/// Prepares what has arrived for ureq; `false` if there is nothing to be shown of it yet.
fn present(lent: &mut LentBuffers) -> bool {
    context::with(|context| {
        if context.is_beneath() {
            return true;
        }
        context.received();
        if !context.awaits_head {
            return true;
        }
        let is_ready = head::skip_interim(&mut lent.input, context.awaits_100);
        if context.awaits_100 && is_ready {
            // ureq would wait for more before it looks at an answer in place of the word to go on.
            let status = head::status(lent.input.bytes());
            lent.is_fresh = status.is_some();
            context.awaits_100 = status.is_none();
        }
        if is_ready && log_enabled!(target: "ureq_proto::util", Level::Trace) {
            head::hide_cookies(lent.input.bytes_mut(), &mut context.hidden);
        }
        is_ready
    })
}

/// Takes in what has arrived, without waiting; `false` if the connection is no longer open.
pub(super) fn take_in(layer: &mut dyn Layer) -> bool {
    loop {
        match layer.receive_some(AT_ONCE) {
            Ok(true) => {
                let lent = layer.lent();
                let is_ready = present(lent);
                lent.is_fresh |= is_ready;
            }
            Err(ureq::Error::Timeout(_)) => return true,
            Ok(false) | Err(_) => return false,
        }
    }
}

/// Sends all that waits, unless the peer answers instead of reading it.
fn send(layer: &mut dyn Layer) -> Result<(), ureq::Error> {
    if context::with(|context| context.is_beneath()) {
        return send_beneath(layer);
    }
    let mut patience = None;
    while layer.has_unsent() && !context::with(|context| context.is_refused) {
        let begun = head::status(layer.lent().input.bytes());
        let until = matches!(begun, Some(200..300))
            .then(|| *patience.get_or_insert_with(|| Instant::now() + PATIENCE));
        let sent = context::waiting_until(until, || layer.send_some());
        if let Ok(Sent::Some) = sent {
            patience = None;
            continue;
        }
        // Whether the connection is still open, the next attempt will say.
        take_in(layer);
        match (sent, head::status(layer.lent().input.bytes())) {
            (Ok(Sent::Never), _) | (Ok(_), Some(300..)) | (Err(_), Some(200..)) => {
                context::with(|context| context.refuse());
            }
            (Ok(_), _) => {}
            (Err(error), _) => return Err(error),
        }
    }
    if context::with(|context| context.is_refused) {
        layer.lent().output.clear();
    }
    Ok(())
}

/// As above, where the layer above is told of what goes wrong.
fn send_beneath(layer: &mut dyn Layer) -> Result<(), ureq::Error> {
    while layer.has_unsent() {
        match layer.send_some()? {
            Sent::Some => {}
            blocked => return Err(context::with(|context| context.block(blocked))),
        }
    }
    Ok(())
}
