//! The top of every connection, with which ureq deals: it puts the head of the request before its
//! body, passes over interim answers, and hears an answer to an upload that nobody reads.
//!
//! A server that refuses a request may answer before it has read it, and read no more of it. ureq
//! would fail to send the rest, or wait for ever to do so, and the answer would be lost. So when
//! sending fails or is stuck, what has arrived is looked at; if it is an answer, ureq is told that
//! all is sent, reads the answer, and the connection is not used again.

use std::io::Write;

use ureq::Timeout;
use ureq::unversioned::transport::time::Duration;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

use super::context::{self, CallContext, fail};
use super::head::{AnswerHead, Head, parse};
use super::{TransportErrorKind, TransportStage};

/// How often sending may stall, each time for [`WRITE_TIMEOUT`](super::tcp), while a server that
/// has begun a success leaves the rest of the request unread. Some servers answer while they read,
/// but one that means to read on does not pause for so long.
const MAX_STALLS_OF_A_SUCCESS: usize = 20;

/// Receiving with this limit takes in what has arrived, and neither sends nor waits.
pub(super) fn without_waiting() -> NextTimeout {
    NextTimeout {
        after: Duration::from_secs(0),
        ..NextTimeout::default()
    }
}

/// A connection that is ready for requests.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) inner: Box<dyn Transport>,
}

impl Connection {
    fn send(&mut self, mut amount: usize, limit: NextTimeout) -> Result<(), ureq::Error> {
        while !context::with(|context| context.is_refused) {
            match self.inner.transmit_output(amount, limit) {
                Ok(()) => break,
                Err(error) => self.go_on_if_answered(error)?,
            }
            amount = 0;
        }
        Ok(())
    }

    /// Goes on after sending has failed or is stuck, unless that is the end. An answer is one if it
    /// is no success, for then nobody reads on; or if nothing can be sent any more, or not for
    /// long.
    fn go_on_if_answered(&mut self, error: ureq::Error) -> Result<(), ureq::Error> {
        let is_stuck = matches!(error, ureq::Error::Timeout(Timeout::PerWrite));
        if is_stuck {
            self.receive_what_has_arrived();
        }
        let stalls = context::with(|context| {
            context.stalls += 1;
            context.stalls
        });
        match parse(self.inner.buffers().input()) {
            Head::Answer(200..300) if is_stuck && stalls < MAX_STALLS_OF_A_SUCCESS => {}
            Head::Answer(_) => context::with(CallContext::note_refusal),
            _ if is_stuck => {}
            _ => return Err(error),
        }
        Ok(())
    }

    /// Takes in what has arrived. Whether the connection is still open, the next attempt will say.
    fn receive_what_has_arrived(&mut self) {
        while let Ok(true) = self.inner.await_input(without_waiting()) {
            while let Head::Interim(length) = parse(self.inner.buffers().input()) {
                self.pass_over(length);
            }
        }
    }

    /// Takes an interim answer out. ureq is to ask for what follows, be it there already.
    fn pass_over(&mut self, length: usize) {
        let buffers = self.inner.buffers();
        buffers.input_consume(length);
        buffers.input_consume(0);
    }

    /// Keeps the head of the answer in the context, and leaves ureq only the lines that frame it.
    #[inline(never)]
    fn divide_head(&mut self) -> Result<(), ureq::Error> {
        let buffers = self.inner.buffers();
        let input = buffers.input();
        if context::with(|context| context.answer_head.is_some()) {
            return Ok(());
        }
        let count = input.len();
        let divided = AnswerHead::divide(input).map_err(|wrong| {
            let why = format!("the answer's head cannot be trusted: {wrong}");
            fail(TransportErrorKind::Protocol, why)
        })?;
        if let Some((head, shown)) = divided {
            context::with(|context| context.answer_head = Some(head));
            buffers.input_consume(count);
            let mut rest = &*shown;
            // A slice takes what fits.
            while let Ok(count @ 1..) = buffers.input_append_buf().write(rest) {
                buffers.input_appended(count);
                rest = &rest[count..];
            }
        }
        Ok(())
    }

    /// Waits for the head of the answer: ureq is shown none or a whole one.
    fn await_head(&mut self, limit: NextTimeout) -> Result<bool, ureq::Error> {
        let begun = || context::with(|context| context.stage = TransportStage::Answering);
        loop {
            match parse(self.inner.buffers().input()) {
                Head::Interim(length) => {
                    begun();
                    self.pass_over(length);
                }
                Head::Answer(_) | Head::Other => {
                    begun();
                    self.divide_head()?;
                    return Ok(true);
                }
                Head::Part => match self.inner.await_input(limit) {
                    Ok(true) => begun(),
                    Ok(false) => return Ok(false),
                    Err(error) => self.go_on_if_answered(error)?,
                },
            }
        }
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, limit: NextTimeout) -> Result<(), ureq::Error> {
        let Some(head) = context::with(CallContext::take_head) else {
            return self.send(amount, limit);
        };
        // What ureq wrote in its place is not counted, and so overwritten.
        let mut rest = head.as_bytes();
        while !rest.is_empty() {
            let count = self.inner.buffers().output().write(rest)?;
            self.send(count, limit)?;
            rest = &rest[count..];
        }
        Ok(())
    }

    fn await_input(&mut self, limit: NextTimeout) -> Result<bool, ureq::Error> {
        if context::with(|context| context.awaits_head) {
            self.await_head(limit)
        } else {
            self.inner.await_input(limit)
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
