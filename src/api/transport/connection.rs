//! The top of every connection, with which ureq deals: it puts the head of the request before its
//! body, and hears an answer to an upload that nobody reads.
//!
//! A server that refuses a request may answer before it has read it, and read no more of it. ureq
//! would fail to send the rest, or wait for ever to do so, and the answer would be lost. So when
//! sending fails or is stuck, what has arrived is looked at; if it is an answer, ureq is told that
//! all is sent, reads the answer, and the connection is not used again.

use std::io::Write;
use std::mem;

use memchr::memmem;
use ureq::Timeout;
use ureq::unversioned::transport::time::Duration;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

use super::TransportStage;
use super::context;

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
    /// Whether something has arrived that ureq has not been told of.
    pub(super) has_news: bool,
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
        let has_come = self.inner.await_input(without_waiting());
        self.has_news |= matches!(has_come, Ok(true));
        answer_status(self.inner.buffers().input())
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
        let has_come = mem::take(&mut self.has_news) || self.inner.await_input(limit)?;
        if has_come {
            context::with(|context| context.stage = TransportStage::Answering);
        }
        Ok(has_come)
    }

    fn is_open(&mut self) -> bool {
        // Asked in any case: it is also told by this that the call is over.
        self.inner.is_open() && !context::with(|context| context.is_spoiled)
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// The status of the answer that `input` begins with, behind interim ones.
fn answer_status(mut input: &[u8]) -> Option<u16> {
    loop {
        // Some servers end a body with a line too many.
        let head = input.trim_ascii_start();
        let digits = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
        let status = str::from_utf8(digits).ok()?.parse().ok()?;
        // What follows a 101 is another protocol.
        if !matches!(status, 100 | 102..200) {
            return Some(status);
        }
        input = &head[memmem::find(head, b"\r\n\r\n")? + 4..];
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_interim_ones() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\nok", Some(200)),
            ("HTTP/1.0 302", Some(302)),
            ("\r\n\nHTTP/1.1 413 No\r\nx: y\r\n\r\n", Some(413)),
            ("HTTP/1.1 101 Other\r\n\r\n", Some(101)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP", None),
            (
                "HTTP/1.1 103 E\r\nlink: a\r\n\r\nHTTP/1.1 503 No",
                Some(503),
            ),
            ("HTTP/1.1 100 Continue\r\n", None),
            ("HTTP/1.1 20", None),
            ("", None),
            ("SSH-2.0-OpenSSH_9.2\r\n", None),
        ] {
            assert_eq!(answer_status(bytes.as_bytes()), expected, "{bytes:?}");
        }
        let many = "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000) + "HTTP/1.1 400 No";
        assert_eq!(answer_status(many.as_bytes()), Some(400));
    }
}
