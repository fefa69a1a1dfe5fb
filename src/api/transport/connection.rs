//! The top of every connection, with which ureq deals: it puts the head of the request before its
//! body, shows ureq whole heads of answers, and hears an answer to an upload that nobody reads.
//!
//! A server that refuses a request may answer before it has read it, and read no more of it. ureq
//! would fail to send the rest, or wait for ever to do so, and the answer would be lost. So when
//! sending fails or is stuck, what has arrived is looked at; if it is an answer, ureq is told that
//! all is sent, reads the answer, and the connection is not used again.

use std::io::Write;
use std::mem;

use ureq::Timeout;
use ureq::unversioned::transport::time::Duration;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

use super::TransportStage;
use super::context;
use super::head::{self, Head};

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
    /// Whether the head of the answer has not been shown to ureq yet.
    pub(super) awaits_head: bool,
}

impl Connection {
    /// Sends `amount` bytes of the output, unless the server has answered and takes no more. An
    /// answer says so if it is no success, for then nobody reads on; or if nothing can be sent any
    /// more, or not for long.
    fn send(&mut self, mut amount: usize, limit: NextTimeout) -> Result<(), ureq::Error> {
        for stalls in 1.. {
            if context::with(|context| context.is_spoiled) {
                break;
            }
            let Err(error) = self.inner.transmit_output(amount, limit) else {
                break;
            };
            amount = 0;
            let is_stuck = matches!(error, ureq::Error::Timeout(Timeout::PerWrite));
            match self.early_answer() {
                Some(200..300) if is_stuck && stalls < MAX_STALLS_OF_A_SUCCESS => {}
                Some(_) => context::with(|context| context.is_spoiled = true),
                None if is_stuck => {}
                None => return Err(error),
            }
        }
        Ok(())
    }

    /// The status of the answer that has come, if one has. A connection that is reset gives out
    /// what came before.
    fn early_answer(&mut self) -> Option<u16> {
        let _ = self.inner.await_input(without_waiting());
        head::answer_status(self.inner.buffers().input())
    }

    /// Waits for the whole head of the answer; interim ones are passed over.
    fn await_head(&mut self, limit: NextTimeout) -> Result<bool, ureq::Error> {
        while self.awaits_head {
            let input = self.inner.buffers().input();
            if !input.is_empty() {
                context::with(|context| context.stage = TransportStage::Answering);
            }
            match head::read(input) {
                Head::Interim(length) => self.inner.buffers().input_consume(length),
                Head::Part if self.inner.await_input(limit)? => {}
                Head::Part => return Ok(false),
                Head::Whole => self.awaits_head = false,
            }
        }
        Ok(true)
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, limit: NextTimeout) -> Result<(), ureq::Error> {
        let head = context::with(|context| mem::take(&mut context.head));
        if head.is_empty() {
            return self.send(amount, limit);
        }
        self.awaits_head = true;
        // So that ureq asks for the answer even if it comes before the request is sent.
        self.inner.buffers().input_consume(0);
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
        self.send(0, limit)?;
        if self.awaits_head {
            return self.await_head(limit);
        }
        self.inner.await_input(limit)
    }

    fn is_open(&mut self) -> bool {
        // Asked in any case: it is also told by this that the call is over.
        self.inner.is_open() && !context::with(|context| context.is_spoiled)
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
