//! An answer as it comes in: its head, then its body as far as it is wanted.

use std::io::Read;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderName, Response, StatusCode, Version};
use ureq::Body;

use super::context::{self, fail};
use super::head::headers;
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
/// How many characters of a value are quoted.
const QUOTED: usize = 40;

/// Reads the rest of the answer to `request`, whose head has come, into `answer`.
#[inline(never)]
pub(super) fn receive(
    response: Response<Body>,
    request: &HttpRequest<'_>,
    answer: &mut HttpResponse,
) -> Result<(), ureq::Error> {
    let (head, mut body) = response.into_parts();
    context::with(|context| {
        context.awaits_head = false;
        // With two lengths a gateway may have seen the end elsewhere (RFC 9112, 6.3 and 11.2).
        let says = |name| head.headers.contains_key(name);
        context.is_spoiled |= says(TRANSFER_ENCODING) && says(CONTENT_LENGTH);
    });
    let unreadable = unreadable(&head, request::says(request, "accept-encoding"));
    match unreadable {
        _ if has_no_body(request, &head) => {}
        None if head.status.is_success() => read_whole(&mut body, &mut answer.body, request)?,
        None => read_start(&mut body, &mut answer.body)?,
        Some(why) if head.status.is_success() => {
            return Err(fail(TransportErrorKind::Protocol, why));
        }
        // The status of a refusal says enough.
        Some(_) => {}
    }
    let whole = context::with(|context| context.answer_head.take());
    answer.status = head.status;
    answer.headers = whole.map_or(head.headers, |whole| headers(&whole));
    Ok(())
}

/// A 205 has no body (RFC 9110, 15.3.6), and not every server says so.
fn has_no_body(request: &HttpRequest<'_>, head: &Parts) -> bool {
    let says = |name| head.headers.contains_key(name);
    match head.status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => true,
        StatusCode::RESET_CONTENT => !says(CONTENT_LENGTH) && !says(TRANSFER_ENCODING),
        _ => request.method == "HEAD",
    }
}

/// Why the body cannot be read, if it cannot. A caller who `has_asked` for codings undoes them.
fn unreadable(head: &Parts, has_asked: bool) -> Option<String> {
    let transfer = all(&head.headers, TRANSFER_ENCODING);
    let is_understood =
        head.version == Version::HTTP_11 && transfer.eq_ignore_ascii_case("chunked");
    if head.headers.contains_key(TRANSFER_ENCODING) && !is_understood {
        let (version, coding) = (head.version, printable(&transfer, QUOTED));
        return Some(format!(
            "the transfer-encoding of the answer, {version:?}, is \"{coding}\": only chunked is \
             understood, in HTTP/1.1"
        ));
    }
    // Some servers name the charset here, or "none", and mean no coding.
    let is_coding = |coding: &str| match coding.trim().to_ascii_lowercase().as_str() {
        // RFC 9110, 8.4.1, and IANA's list.
        "gzip" | "x-gzip" | "deflate" | "br" | "zstd" | "compress" | "x-compress" => true,
        _ => false,
    };
    let codings = all(&head.headers, CONTENT_ENCODING);
    let is_coded = !has_asked && codings.split(',').any(is_coding);
    is_coded.then(|| {
        let codings = printable(&codings, QUOTED);
        format!("the answer is encoded as \"{codings}\", which was not asked for")
    })
}

/// All values under `name`, as one list.
fn all(headers: &HeaderMap, name: HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let values: Vec<_> = values
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    values.join(", ")
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
