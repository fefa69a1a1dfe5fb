//! An answer as it comes in: its head, then its body as far as it is wanted.

use std::io::Read;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Response, StatusCode, Version};
use ureq::Body;

use super::context::{self, fail};
use super::decode::decode;
use super::{HttpRequest, HttpResponse, TransportErrorKind, request};
use crate::escape::printable;

/// What is kept of an error's body, in bytes.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// How long it is waited for: the status is known, and so is what to do.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How much more of it is read, and for how long, to keep the connection.
const MAX_DRAINED: u64 = 64 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Memory reserved for a body on the server's word alone, and where nothing is said of its length.
const MAX_RESERVED: usize = 256 * 1024;
const RESERVED_WITHOUT_LENGTH: usize = 2 * 1024;
/// How many characters of a value are quoted.
const MAX_QUOTED: usize = 40;

/// Reads the rest of the answer to `request`, whose head has come, into `answer`.
#[inline(never)]
pub(super) fn receive(
    response: Response<Body>,
    request: &HttpRequest<'_>,
    answer: &mut HttpResponse,
) -> Result<(), ureq::Error> {
    let (shown, mut body) = response.into_parts();
    let head = context::with(|context| {
        context.awaits_head = false;
        // With two lengths a gateway may have seen the end elsewhere (RFC 9112, 6.3 and 11.2).
        let says = |name| shown.headers.contains_key(name);
        context.is_spoiled |= says(TRANSFER_ENCODING) && says(CONTENT_LENGTH);
        context.answer_head.take().unwrap_or_default()
    });
    let is_success = shown.status.is_success();
    let most = if is_success {
        request.max_body
    } else {
        MAX_ERROR_BODY
    };
    answer.status = shown.status;
    let bytes = &mut answer.body;
    let came = match unreadable(&shown) {
        _ if has_no_body(request, &shown) => Ok(()),
        None if is_success => read_whole(&mut body, bytes, most),
        None => read_start(&mut body, bytes),
        Some(why) if is_success => Err(fail(TransportErrorKind::Protocol, why)),
        // The status of a refusal says enough.
        Some(_) => Ok(()),
    };
    // Not before: the body that is kept would have a hole of its size in front of it.
    answer.headers = head.headers();
    // A caller who has asked for codings undoes them.
    if !request::says(request, "accept-encoding") {
        let codings = head.all(&CONTENT_ENCODING);
        match decode(bytes, &codings, most) {
            _ if came.is_err() => {}
            Ok(()) if bytes.len() > most && is_success => return Err(too_large(most)),
            Ok(()) => bytes.truncate(most),
            Err(()) if is_success => {
                let codings = printable(&codings, MAX_QUOTED);
                let why = format!(
                    "the answer is compressed as \"{codings}\", which is not understood here"
                );
                return Err(fail(TransportErrorKind::Encoded, why));
            }
            Err(()) => bytes.clear(),
        }
    }
    came?;
    // TLS says when the stream is over; without that, anybody on the way may have cut it. An object
    // or an array says so itself.
    let is_cut_short = context::with(|context| context.is_cut_short);
    if is_success && is_cut_short && !shown.headers.contains_key(CONTENT_LENGTH) && !is_whole(bytes)
    {
        let why = "the answer ended without the end of the TLS connection";
        return Err(fail(TransportErrorKind::Truncated, why));
    }
    Ok(())
}

/// Whether a text ends as it closes the last of the brackets that it opened, be it JSON or nearly
/// so.
fn is_whole(text: &[u8]) -> bool {
    let (mut open, mut quote, mut bytes) = (0_i64, None, text.iter());
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\\', Some(_)) => drop(bytes.next()),
            (_, Some(end)) if byte == end => quote = None,
            (b'"' | b'\'', None) if open > 0 => quote = Some(byte),
            (b'{' | b'[', None) => open += 1,
            (b'}' | b']', None) => open -= 1,
            _ => {}
        }
    }
    open == 0 && matches!(text.trim_ascii_end(), [.., b'}' | b']'])
}

/// A 205 has no body (RFC 9110, 15.3.6), and not every server says so.
fn has_no_body(request: &HttpRequest<'_>, shown: &Parts) -> bool {
    let says = |name| shown.headers.contains_key(name);
    match shown.status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => true,
        StatusCode::RESET_CONTENT => !says(CONTENT_LENGTH) && !says(TRANSFER_ENCODING),
        _ => request.method == "HEAD",
    }
}

/// Why it cannot be known where the body ends, if it cannot.
fn unreadable(shown: &Parts) -> Option<String> {
    let coding = shown.headers.get(TRANSFER_ENCODING)?;
    let is_understood =
        shown.version == Version::HTTP_11 && coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    (!is_understood).then(|| {
        let coding = String::from_utf8_lossy(coding.as_bytes());
        let (version, coding) = (shown.version, printable(&coding, MAX_QUOTED));
        format!(
            "the transfer-encoding of the answer, {version:?}, is \"{coding}\": only chunked is \
             understood, in HTTP/1.1"
        )
    })
}

/// All of the body, or an error.
fn read_whole(body: &mut Body, bytes: &mut Vec<u8>, most: usize) -> Result<(), ureq::Error> {
    let length = body.content_length();
    let length = length.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if length.is_some_and(|length| length > most) {
        let error = too_large(most);
        read_start(body, bytes)?;
        return Err(error);
    }
    // One more than allowed, to tell a body that is just as long from one that is longer.
    let more = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    bytes.reserve_exact(length.unwrap_or(RESERVED_WITHOUT_LENGTH).min(MAX_RESERVED));
    body.as_reader().take(more).read_to_end(bytes)?;
    if bytes.len() > most {
        return Err(too_large(most));
    }
    Ok(())
}

fn too_large(most: usize) -> ureq::Error {
    let why = format!("the answer's body is larger than {most} bytes");
    fail(TransportErrorKind::TooLarge, why)
}

/// The start of an error answer's body. Its status has been read, so whatever cuts the body short,
/// but an abort, takes nothing away from what is known.
fn read_start(body: &mut Body, bytes: &mut Vec<u8>) -> Result<(), ureq::Error> {
    context::with(|context| context.end_within(ERROR_BODY_TIMEOUT));
    let mut reader = body.as_reader();
    let mut start = reader.by_ref().take(MAX_ERROR_BODY as u64);
    let read = start.read_to_end(bytes);
    if context::with(|context| context.cancel.is_aborted()) {
        return Err(ureq::Error::ConnectionFailed);
    }
    if read.is_ok() && bytes.len() == MAX_ERROR_BODY {
        context::with(|context| context.end_within(DRAIN_TIMEOUT));
        // A connection that cannot be drained is not used again; nothing else depends on it.
        let _ = reader.take(MAX_DRAINED).read_to_end(&mut Vec::new());
    }
    Ok(())
}
