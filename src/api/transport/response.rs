//! An answer as it comes in: its head, then its body as far as it is wanted.

use std::io::Read;
use std::time::Duration;

use http::response::Parts;
use http::{HeaderMap, Response, StatusCode, Version, header};
use ureq::Body;

use super::context::{self, fail};
use super::{HttpRequest, HttpResponse, TransportErrorKind, request};
use crate::escape::printable;

/// What is kept of an error's body.
const ERROR_BODY: usize = 64 * 1024;
/// How long it is waited for: the status is known, and so is what to do.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);
/// How much more of it is read, and for how long, to keep the connection.
const DRAINED: u64 = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// Memory reserved for a body on the server's word alone, and where nothing is said of its length.
const TRUSTED_LENGTH: usize = 256 * 1024;
const UNKNOWN_LENGTH: usize = 2 * 1024;
/// What contents may be encoded as.
const CODINGS: [&str; 7] = [
    "gzip",
    "x-gzip",
    "deflate",
    "br",
    "zstd",
    "compress",
    "x-compress",
];
/// How many characters of a value are quoted.
const QUOTED: usize = 40;

/// Reads the rest of the answer to `request`, whose head has come.
pub(super) fn receive(
    response: Response<Body>,
    request: &HttpRequest<'_>,
) -> Result<HttpResponse, ureq::Error> {
    let (head, mut body) = response.into_parts();
    context::with(|context| {
        context.awaits_head = false;
        context.is_spoiled |= !is_sound(&head);
    });
    let mut answer = HttpResponse {
        status: head.status,
        body: Vec::new(),
        ..HttpResponse::default()
    };
    let has_body = has_body(request, &head);
    let readable = readable(&head, request::says(request, "accept-encoding"));
    match readable {
        _ if !has_body => {}
        Ok(()) if head.status.is_success() => read_whole(&mut body, &mut answer.body, request)?,
        Ok(()) => read_start(&mut body, &mut answer.body)?,
        Err(why) if head.status.is_success() => {
            return Err(fail(TransportErrorKind::Protocol, why));
        }
        // The status of a refusal says enough.
        Err(_) => {}
    }
    answer.headers = head.headers;
    Ok(answer)
}

/// Whether there is a body to be read. A 205 has none (RFC 9110, 15.3.6), and not every server says so.
fn has_body(request: &HttpRequest<'_>, head: &Parts) -> bool {
    match head.status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => false,
        StatusCode::RESET_CONTENT => says_length(&head.headers),
        _ => request.method != "HEAD",
    }
}

fn says_length(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING)
}

/// Whether there is no doubt where the answer ends. With two lengths a gateway may have seen its end
/// elsewhere (RFC 9112, 6.3 and 11.2).
fn is_sound(head: &Parts) -> bool {
    !head.headers.contains_key(header::TRANSFER_ENCODING)
        || !head.headers.contains_key(header::CONTENT_LENGTH)
}

/// Why the body cannot be read, if it cannot. A caller who `has_asked` for codings undoes them.
fn readable(head: &Parts, has_asked: bool) -> Result<(), String> {
    Err(if let Some(coding) = unknown_transfer(head) {
        format!(
            "the transfer-encoding of the answer, {:?}, is \"{}\": only chunked is understood, in \
             HTTP/1.1",
            head.version,
            printable(&coding, QUOTED)
        )
    } else if let Some(coding) = content_coding(&head.headers).filter(|_| !has_asked) {
        format!(
            "the answer is encoded as \"{}\", which was not asked for",
            printable(coding, QUOTED)
        )
    } else {
        return Ok(());
    })
}

/// How the contents themselves are encoded, if they are: by one of the codings there are (RFC 9110,
/// 8.4.1, and IANA's list). Some servers name the charset here, or "none", and mean no coding.
fn content_coding(headers: &HeaderMap) -> Option<&str> {
    let is_coding = |coding: &str| {
        CODINGS
            .iter()
            .any(|known| coding.trim().eq_ignore_ascii_case(known))
    };
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find(|value| value.split(',').any(is_coding))
}

/// The transfer-encoding, unless there is none or it is the one that is understood.
fn unknown_transfer(head: &Parts) -> Option<String> {
    let codings = head.headers.get_all(header::TRANSFER_ENCODING);
    let all: Vec<_> = codings
        .iter()
        .map(|coding| String::from_utf8_lossy(coding.as_bytes()))
        .collect();
    let is_known = match &all[..] {
        [] => true,
        [only] => only.eq_ignore_ascii_case("chunked") && head.version == Version::HTTP_11,
        _ => false,
    };
    (!is_known).then(|| all.join(", "))
}

/// All of the body, or an error.
fn read_whole(
    body: &mut Body,
    bytes: &mut Vec<u8>,
    request: &HttpRequest<'_>,
) -> Result<(), ureq::Error> {
    let most = request.max_body;
    let too_large = || {
        let why = format!("the answer's body is larger than {most} bytes");
        fail(TransportErrorKind::TooLarge, why)
    };
    let length = body.content_length();
    let length = length.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if length.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    // One more than allowed, to tell a body that is just as long from one that is longer.
    let more = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    bytes.reserve_exact(length.unwrap_or(UNKNOWN_LENGTH).min(TRUSTED_LENGTH));
    body.as_reader().take(more).read_to_end(bytes)?;
    if bytes.len() > most {
        return Err(too_large());
    }
    let is_cut_short = context::with(|context| context.is_cut_short);
    // TLS says when the stream is over; without that, anybody on the way may have cut it.
    if is_cut_short && length.is_none() {
        let why = "the answer ended without the end of the TLS connection";
        return Err(fail(TransportErrorKind::Truncated, why));
    }
    Ok(())
}

/// The start of an error answer's body. Its status has been read, so whatever cuts the body short, but
/// an abort, takes nothing away from what is known.
fn read_start(body: &mut Body, bytes: &mut Vec<u8>) -> Result<(), ureq::Error> {
    context::with(|context| context.hurry(ERROR_BODY_TIME));
    let mut reader = body.as_reader();
    let read = reader.by_ref().take(ERROR_BODY as u64).read_to_end(bytes);
    if context::with(|context| context.cancel.is_aborted()) {
        return Err(ureq::Error::ConnectionFailed);
    }
    if read.is_ok() && bytes.len() == ERROR_BODY {
        context::with(|context| context.hurry(DRAIN_TIME));
        // A connection that cannot be drained is not used again; nothing else depends on it.
        let _ = reader.take(DRAINED).read_to_end(&mut Vec::new());
    }
    Ok(())
}
