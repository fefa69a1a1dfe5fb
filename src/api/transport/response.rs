//! An answer as it comes in: its head, then its body as far as it is wanted.

use std::io::Read;
use std::time::{Duration, Instant};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Response, Version};
use serde::de::IgnoredAny;
use ureq::Body;

use super::context;
use super::decode::decode;
use super::error::fail;
use super::{HttpRequest, HttpResponse, TransportErrorKind, request};
use crate::escape::printable;

/// What is kept of an error's body, in bytes.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// How long it is waited for: the status is known, and so is what to do.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Memory reserved for a body on the server's word alone.
const MAX_RESERVED: usize = 256 * 1024;
/// How many characters of a value are quoted.
const MAX_QUOTED: usize = 40;

/// Reads the rest of the answer to `request`, whose head has come, into `answer`.
#[inline(never)]
pub(super) fn receive(
    response: Response<Body>,
    request: &HttpRequest<'_>,
    answer: &mut HttpResponse,
) -> Result<(), ureq::Error> {
    use TransportErrorKind::{Encoded, TooLarge, Truncated};
    let (parts, mut body) = response.into_parts();
    (answer.status, answer.headers) = (parts.status, parts.headers);
    let (headers, bytes) = (&answer.headers, &mut answer.body);
    let is_success = answer.status.is_success();
    let most = if is_success {
        request.max_body
    } else {
        MAX_ERROR_BODY
    };
    // Somebody on the way may have seen the end elsewhere, if there are two ways to find it (RFC
    // 9112, 6.1, 6.3 and 11.2).
    let framing = list(headers, &TRANSFER_ENCODING);
    let is_chunked = framing.eq_ignore_ascii_case("chunked") && parts.version == Version::HTTP_11;
    if !framing.is_empty() && (!is_chunked || headers.contains_key(CONTENT_LENGTH)) {
        context::with(|context| context.is_spoiled = true);
    }
    let length = usize::try_from(body.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
    let mut is_too_large = is_success && length > most;
    if is_success && !is_too_large {
        bytes.reserve_exact(length.min(MAX_RESERVED));
        // One more than allowed, to tell a body that is just as long from one that is longer.
        let more = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        body.as_reader().take(more).read_to_end(bytes)?;
        is_too_large = bytes.len() > most;
    } else {
        read_start(&mut body, bytes);
    }
    // A caller who has asked for codings undoes them.
    if !is_too_large && !request::says(request, "accept-encoding") {
        let codings = list(headers, &CONTENT_ENCODING);
        if !codings.is_empty() && decode(bytes, &codings, most).is_err() {
            if is_success {
                let codings = printable(&codings, MAX_QUOTED);
                let why = format!("the answer is compressed as \"{codings}\", unknown here");
                return Err(fail(Encoded, why));
            }
            bytes.clear();
        }
        is_too_large = is_success && bytes.len() > most;
        bytes.truncate(most);
    }
    if is_too_large {
        let why = format!("the answer's body is larger than {most} bytes");
        return Err(fail(TooLarge, why));
    }
    // TLS says when the stream is over; without that, anybody on the way may have cut it.
    if is_success && context::with(|context| context.is_cut_short) && !says_its_end(bytes) {
        let why = "the answer ended without the end of the TLS connection";
        return Err(fail(Truncated, why));
    }
    Ok(())
}

/// All values under `name`, as one list.
fn list(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
    values.collect::<Vec<_>>().join(", ")
}

/// Whether a body is a whole object or array of JSON. A number may be the start of a longer one.
fn says_its_end(body: &[u8]) -> bool {
    let json = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    matches!(json.trim_ascii_end(), [.., b'}' | b']'])
        && serde_json::from_slice::<IgnoredAny>(json).is_ok()
}

/// The start of an error answer's body. Its status has been read, so whatever cuts the body short
/// takes nothing away from what is known.
fn read_start(body: &mut Body, bytes: &mut Vec<u8>) {
    let by = Instant::now() + ERROR_BODY_TIMEOUT;
    context::with(|context| context.deadline = context.deadline.min(by));
    let mut start = body.as_reader().take(MAX_ERROR_BODY as u64);
    let _ = start.read_to_end(bytes);
}
