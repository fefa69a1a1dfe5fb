//! An answer as it comes in: its head, then its body as far as it is wanted.

use std::error::Error;
use std::time::Duration;

use ureq_proto::BodyMode;
use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{Call as Protocol, RecvBodyResult, RecvResponseResult};

use super::exchange::Exchange;
use super::fault::Failure;
use super::head::Head;
use super::link::Link;
use super::{HttpRequest, HttpResponse, TransportErrorKind, TransportStage, request};

/// What is kept of an error's body.
const ERROR_BODY: usize = 64 * 1024;
/// How long it is waited for: the status is known, and so is what to do.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);
/// How much more of it is read, and for how long, to keep the connection.
const DRAINED: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// The longest line between chunks, where a few characters are usual.
const LINE: usize = 16 * 1024;
/// Memory reserved for a body on the server's word alone.
const TRUSTED_LENGTH: usize = 256 * 1024;

/// Waits for the whole `answer` to `call` and says whether the connection, as far as HTTP goes, may
/// carry another.
pub(super) fn receive(
    mut reply: Box<Protocol<RecvResponse>>,
    call: &HttpRequest<'_>,
    answer: &mut HttpResponse,
    link: &mut dyn Link,
    exchange: &mut Exchange<'_>,
) -> Result<bool, Failure> {
    let head = receive_head(link, exchange)?;
    show(&mut reply, &head)?;
    let has_asked = request::says(call, "accept-encoding");
    let (readable, is_sound) = (head.readable(has_asked), head.is_sound());
    answer.status = http::StatusCode::from_u16(head.status).unwrap_or_default();
    answer.headers = head.headers.to_map();
    let is_open = receive_body(reply, readable, answer, link, exchange, call.max_body)?;
    Ok(is_open && is_sound)
}

/// Waits for the head of the answer; interim ones are passed over.
fn receive_head(link: &mut dyn Link, exchange: &mut Exchange<'_>) -> Result<Head, Failure> {
    loop {
        let arrived = link.input();
        if !arrived.is_empty() {
            // Some of it may have come while the request was still going out.
            exchange.stage = TransportStage::Answering;
        }
        if let Some(head) = Head::parse(arrived.bytes())? {
            arrived.consume(head.length);
            if !head.is_interim() {
                return Ok(head);
            }
        } else if !link.receive(exchange)? {
            return Err(ended(exchange));
        }
    }
}

/// Tells `reply` what framing the answer has.
#[inline(never)]
fn show(reply: &mut Protocol<RecvResponse>, head: &Head) -> Result<(), Failure> {
    let shown = reply.try_response(head.framing().as_bytes(), false);
    shown.map(drop).map_err(not_http)
}

/// Waits for the body of `answer`, unless it is not `readable`; whether the connection may be used
/// again.
#[inline(never)]
fn receive_body(
    reply: Box<Protocol<RecvResponse>>,
    readable: Result<(), Failure>,
    answer: &mut HttpResponse,
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
    let is_success = answer.status.is_success();
    if let Err(failure) = readable {
        // The status of a refusal says enough.
        return if is_success { Err(failure) } else { Ok(false) };
    }
    let mut body = Body {
        state,
        link,
        exchange,
    };
    let is_over = if is_success {
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
            Failure::new(TransportErrorKind::TooLarge, why)
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
        self.exchange.hurry(ERROR_BODY_TIME);
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
            if stuck && arrived.bytes().len() > LINE {
                return self.end_of_line();
            }
        }
    }

    /// Whether the body is over where a line has no end: behind the last chunk it is.
    fn end_of_line(&self) -> Result<bool, Failure> {
        if self.state.is_ended_chunked() {
            return Ok(true);
        }
        let why = "a line of the answer is too long";
        Err(Failure::new(TransportErrorKind::Protocol, why))
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
            return Err(Failure::new(TransportErrorKind::Truncated, why));
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
    if exchange.stage == TransportStage::Answering {
        Failure::new(
            TransportErrorKind::Truncated,
            "the answer ended before its end",
        )
    } else {
        let why = "the server closed the connection without an answer";
        Failure::new(TransportErrorKind::Broken, why)
    }
}

pub(super) fn not_http(error: impl Error + Send + Sync + 'static) -> Failure {
    Failure::new(TransportErrorKind::Protocol, "the answer is not HTTP/1.1").because(error)
}
