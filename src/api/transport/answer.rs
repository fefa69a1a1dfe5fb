//! An answer as it comes in: its head, and its body as far as it is wanted.

use std::time::Duration;

use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{Call as Protocol, RecvBodyResult, RecvResponseResult};
use ureq_proto::{BodyMode, Error};

use super::exchange::Exchange;
use super::fault::Failure;
use super::link::Link;
use super::{Answer, Fault, Stage};

/// The largest head that is taken.
const HEAD: usize = 64 * 1024;
/// What is kept of an error's body.
const ERROR_BODY: usize = 64 * 1024;
/// How much more of it is read, and for how long, to keep the connection.
const DRAINED: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// Memory reserved for a body on the server's word alone.
const TRUSTED_LENGTH: usize = 256 * 1024;

/// Waits for the whole `answer`, whose body may have `most` bytes, and says whether the connection,
/// as far as HTTP goes, may carry another.
pub(super) fn receive(
    mut reply: Box<Protocol<RecvResponse>>,
    answer: &mut Answer,
    link: &mut dyn Link,
    exchange: &mut Exchange<'_>,
    most: usize,
) -> Result<bool, Failure> {
    receive_head(&mut reply, answer, link, exchange)?;
    receive_body(reply, answer, link, exchange, most)
}

/// Waits for the head of the answer; interim ones are passed over.
fn receive_head(
    reply: &mut Protocol<RecvResponse>,
    answer: &mut Answer,
    link: &mut dyn Link,
    exchange: &mut Exchange<'_>,
) -> Result<(), Failure> {
    loop {
        let arrived = link.input();
        if !arrived.is_empty() {
            let (used, is_final) = parse(reply, arrived.bytes(), answer)?;
            arrived.consume(used);
            if is_final {
                return Ok(());
            }
            if used > 0 {
                continue;
            }
        }
        if !link.receive(exchange)? {
            return Err(ended(exchange));
        }
        exchange.stage = Stage::Answering;
    }
}

/// Makes the head that `bytes` begin with that of `answer`, unless it is not whole or an interim one;
/// says how long it is, and whether it was the one.
#[inline(never)]
fn parse(
    reply: &mut Protocol<RecvResponse>,
    bytes: &[u8],
    answer: &mut Answer,
) -> Result<(usize, bool), Failure> {
    let (used, head) = reply.try_response(bytes, false).map_err(not_http)?;
    let size = if used > 0 { used } else { bytes.len() };
    if size > HEAD {
        let why = "the answer's head is too large";
        return Err(Failure::new(Fault::Protocol, why));
    }
    if let Some(head) = &head {
        answer.status = head.status().as_u16();
        for (name, value) in head.headers() {
            let value = String::from_utf8_lossy(value.as_bytes());
            answer.headers.push(name.as_str(), &value);
        }
    }
    Ok((used, head.is_some()))
}

/// Waits for the body of `answer`; whether the connection may be used again.
#[inline(never)]
fn receive_body(
    reply: Box<Protocol<RecvResponse>>,
    answer: &mut Answer,
    link: &mut dyn Link,
    exchange: &mut Exchange<'_>,
    most: usize,
) -> Result<bool, Failure> {
    let state = match reply.proceed() {
        Some(RecvResponseResult::RecvBody(state)) => state,
        Some(RecvResponseResult::Redirect(done)) => return Ok(!done.must_close_connection()),
        Some(RecvResponseResult::Cleanup(done)) => return Ok(!done.must_close_connection()),
        None => return Err(ended(exchange)),
    };
    let mut body = Body {
        state,
        link,
        exchange,
    };
    let is_over = if (200..300).contains(&answer.status) {
        body.read_whole(&mut answer.body, most)?;
        true
    } else {
        body.read_start(&mut answer.body)?
    };
    Ok(is_over && body.leaves_the_connection_open())
}

/// The body of an answer.
struct Body<'a, 'e> {
    state: Protocol<RecvBody>,
    link: &'a mut dyn Link,
    exchange: &'a mut Exchange<'e>,
}

impl Body<'_, '_> {
    /// All of it, or an error.
    fn read_whole(&mut self, body: &mut Vec<u8>, most: usize) -> Result<(), Failure> {
        let too_large = || {
            let why = format!("the answer's body is larger than {most} bytes");
            Failure::new(Fault::TooLarge, why)
        };
        if let BodyMode::LengthDelimited(length) = self.state.body_mode() {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > most {
                return Err(too_large());
            }
            body.reserve_exact(length.min(TRUSTED_LENGTH));
        }
        // One more than allowed, to tell a body that is just as long from one that is longer.
        self.read(body, most.saturating_add(1))?;
        if body.len() > most {
            return Err(too_large());
        }
        Ok(())
    }

    /// The start of an error answer's body; and whether the body is over. Its status has been read,
    /// so whatever cuts the body short, but an abort, takes nothing away from what is known.
    fn read_start(&mut self, body: &mut Vec<u8>) -> Result<bool, Failure> {
        match self.read(body, ERROR_BODY) {
            Err(failure) if self.exchange.cancel.is_aborted() => Err(failure),
            Err(_) => Ok(false),
            Ok(true) => Ok(true),
            Ok(false) => {
                self.exchange.hurry(DRAIN_TIME);
                // A connection that cannot be drained is not used again; nothing else depends on it.
                Ok(self.read(&mut Vec::new(), DRAINED).unwrap_or(false))
            }
        }
    }

    /// Reads until `body` holds `most` bytes or is over, and says whether it is over.
    fn read(&mut self, body: &mut Vec<u8>, most: usize) -> Result<bool, Failure> {
        let mut stuck = false;
        loop {
            let mode = self.state.body_mode();
            if mode != BodyMode::CloseDelimited && self.state.can_proceed() {
                return Ok(true);
            }
            if body.len() >= most {
                return Ok(false);
            }
            if stuck || self.link.input().is_empty() {
                let received = self.link.receive(self.exchange);
                if !received.map_err(Failure::within_the_answer)? {
                    return self.end_of_stream(mode);
                }
            }
            let arrived = self.link.input();
            let filled = body.len();
            let room = arrived.bytes().len().min(most - filled);
            body.resize(filled + room, 0);
            let read = self.state.read(arrived.bytes(), &mut body[filled..]);
            let (used, decoded) = *read.as_ref().unwrap_or(&(0, 0));
            body.truncate(filled + decoded);
            read.map_err(not_http)?;
            arrived.consume(used);
            // What has arrived is too little to be understood: part of a chunk's length.
            stuck = used == 0;
        }
    }

    /// Whether the body is over when the connection is.
    fn end_of_stream(&self, mode: BodyMode) -> Result<bool, Failure> {
        // The last chunk says that it is; some servers hang up on its last line.
        if self.state.is_ended_chunked() {
            return Ok(true);
        }
        if mode != BodyMode::CloseDelimited {
            return Err(ended(self.exchange));
        }
        // TLS says when the stream is over; without that, anybody on the way may have cut it.
        if self.exchange.cut_short {
            let why = "the answer ended without the end of the TLS connection";
            return Err(Failure::new(Fault::Truncated, why));
        }
        Ok(true)
    }

    fn leaves_the_connection_open(self) -> bool {
        match self.state.proceed() {
            Some(RecvBodyResult::Redirect(done)) => !done.must_close_connection(),
            Some(RecvBodyResult::Cleanup(done)) => !done.must_close_connection(),
            None => false,
        }
    }
}

/// The connection has ended and the answer has not.
pub(super) fn ended(exchange: &Exchange<'_>) -> Failure {
    if exchange.stage == Stage::Answering {
        Failure::new(Fault::Truncated, "the answer ended before its end")
    } else {
        let why = "the server closed the connection without an answer";
        Failure::new(Fault::Broken, why)
    }
}

pub(super) fn not_http(error: Error) -> Failure {
    Failure::new(Fault::Protocol, "the answer is not HTTP/1.1").because(error)
}
