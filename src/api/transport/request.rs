//! A call as a request of HTTP/1.1: what its head says, and how it goes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq_proto::Error;
use ureq_proto::client::state::{Await100, RecvResponse, SendBody, SendRequest};
use ureq_proto::client::{Await100Result, Call as Protocol, SendRequestResult};
use ureq_proto::http::{HeaderName, HeaderValue, Method, Request, Uri, header};

use super::answer::{ended, not_http};
use super::buffers::{BufferPool, Output};
use super::exchange::Exchange;
use super::fault::Failure;
use super::link::Link;
use super::{Call, Fault, Stage};

/// Who asks, as servers and proxies are told.
pub(super) const USER_AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
/// How long a server is given to answer `Expect: 100-continue` before the body goes out anyway.
const PATIENCE: Duration = Duration::from_secs(1);
/// Room made for a line of the head, and doubled until it fits.
const LINE: usize = 256;

/// The URL, if it is one that can be asked for.
pub(super) fn parse(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let spoken = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority()?.as_str();
    let named = uri.host().is_some_and(|host| {
        // A port that is not a number below 65,536 is dropped silently by the parser.
        !host.is_empty() && (uri.port_u16().is_some() || authority.ends_with(host))
    });
    (spoken && named).then_some(uri)
}

/// The request that `call` makes of `uri`, or why there is none, without a word of what it says.
///
/// The states of an exchange are half a kilobyte each, and moved from one to the next: boxed between
/// the functions that do so, they are on the stack only while they run, and not while they wait.
#[inline(never)]
pub(super) fn request(
    call: &Call<'_>,
    uri: &Uri,
) -> Result<Box<Protocol<SendRequest>>, &'static str> {
    let method = Method::from_bytes(call.method.as_bytes()).map_err(|_| "not a method of HTTP")?;
    let has_body =
        !call.body.is_empty() || matches!(method, Method::POST | Method::PUT | Method::PATCH);
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    for (name, value) in call.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "a header's name is bad")?;
        // How long the body is, is said by whoever sends it.
        if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING {
            return Err("the body's length is not for the caller's headers to say");
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| "a header's value is bad")?;
        value.set_sensitive(true);
        request.headers_mut().append(name, value);
    }
    let mut own = Vec::with_capacity(3);
    if has_body {
        own.push((header::CONTENT_LENGTH, call.body.len().into()));
    }
    for (name, value) in [(header::USER_AGENT, USER_AGENT), (header::ACCEPT, "*/*")] {
        if !request.headers().contains_key(&name) {
            own.push((name, HeaderValue::from_static(value)));
        }
    }
    let mut request = Protocol::new(request).map_err(|_| UNSENDABLE)?;
    for (name, value) in own {
        request.header(name, value).map_err(|_| UNSENDABLE)?;
    }
    Ok(Box::new(request.proceed()))
}

const UNSENDABLE: &str = "the request cannot be sent";

fn unsendable() -> Failure {
    Failure::new(Fault::Unsendable, UNSENDABLE)
}

/// Sends `request` with `body`: in one go if both are small, and a large body from where it lies.
pub(super) fn send(
    mut request: Box<Protocol<SendRequest>>,
    body: &[u8],
    link: &mut dyn Link,
    exchange: &mut Exchange<'_>,
    buffers: &Arc<BufferPool>,
) -> Result<Box<Protocol<RecvResponse>>, Failure> {
    let mut output = Output::new(Arc::clone(buffers));
    let mut least = LINE;
    while !request.can_proceed() {
        let room = output.room_of(least);
        match request.write(room) {
            Ok(amount) => output.fill(amount),
            Err(Error::OutputOverflow) => least = 2 * room.len(),
            Err(_) => return Err(unsendable()),
        }
    }
    let mut next = after_the_head(request)?;
    if !matches!(next, Next::Body(_)) {
        link.send(output.bytes(), exchange)?;
        output.clear();
    }
    if let Next::Wait(waiting) = next {
        next = await_100(waiting, link, exchange)?;
    }
    let upload = match next {
        Next::Body(upload) => upload,
        Next::Answer(reply) => return Ok(reply),
        Next::Wait(_) => return Err(unsendable()),
    };
    let together = output.append(body);
    link.send(output.bytes(), exchange)?;
    output.clear();
    link.send(&body[together..], exchange)?;
    after_the_body(upload, body.len())
}
/// What follows the head of a request.
enum Next {
    Body(Box<Protocol<SendBody>>),
    Wait(Box<Protocol<Await100>>),
    Answer(Box<Protocol<RecvResponse>>),
}

#[inline(never)]
fn after_the_head(request: Box<Protocol<SendRequest>>) -> Result<Next, Failure> {
    match request.proceed() {
        Ok(Some(SendRequestResult::SendBody(upload))) => Ok(Next::Body(Box::new(upload))),
        Ok(Some(SendRequestResult::Await100(waiting))) => Ok(Next::Wait(Box::new(waiting))),
        Ok(Some(SendRequestResult::RecvResponse(reply))) => Ok(Next::Answer(Box::new(reply))),
        Ok(None) | Err(_) => Err(unsendable()),
    }
}

#[inline(never)]
fn after_the_body(
    mut upload: Box<Protocol<SendBody>>,
    length: usize,
) -> Result<Box<Protocol<RecvResponse>>, Failure> {
    upload
        .consume_direct_write(length)
        .map_err(|_| unsendable())?;
    upload.proceed().map(Box::new).ok_or_else(unsendable)
}

/// Waits for the interim answer that the caller's headers ask for, but not for long.
#[inline(never)]
fn await_100(
    mut waiting: Box<Protocol<Await100>>,
    link: &mut dyn Link,
    exchange: &mut Exchange<'_>,
) -> Result<Next, Failure> {
    let patience = Instant::now() + PATIENCE;
    while waiting.can_keep_await_100() {
        let arrived = link.input();
        let used = waiting.try_read_100(arrived.bytes()).map_err(not_http)?;
        arrived.consume(used);
        if used > 0 || !waiting.can_keep_await_100() {
            continue;
        }
        let (more, ran_out) = exchange.waiting_until(patience, |exchange| link.receive(exchange));
        match more {
            Ok(true) => exchange.stage = Stage::Answering,
            Ok(false) => return Err(ended(exchange)),
            Err(failure) if ran_out && failure.fault == Fault::Timeout => break,
            Err(failure) => return Err(failure),
        }
    }
    match waiting.proceed().map_err(not_http)? {
        Await100Result::SendBody(upload) => Ok(Next::Body(Box::new(upload))),
        Await100Result::RecvResponse(reply) => Ok(Next::Answer(Box::new(reply))),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Cancel;

    fn head(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let (deadline, cancel) = (Instant::now(), Cancel::new());
        let mut call = Call::new(method, url, deadline, &cancel);
        (call.headers, call.body) = (headers, body);
        let mut request = request(&call, &parse(url).unwrap()).unwrap();
        let mut bytes = vec![0; 1024];
        let length = request.write(&mut bytes).unwrap();
        bytes.truncate(length);
        let own = format!("user-agent: {USER_AGENT}\r\naccept: */*\r\n");
        String::from_utf8(bytes).unwrap().replacen(&own, "", 1)
    }

    #[test]
    fn a_head_says_who_is_meant_and_how_long_the_body_is() {
        for (method, url, body, expected) in [
            (
                "GET",
                "http://h:80/",
                "",
                "GET / HTTP/1.1\r\nhost: h\r\n\r\n",
            ),
            (
                "POST",
                "http://[::1]:81?q",
                "",
                "POST /?q HTTP/1.1\r\ncontent-length: 0\r\nhost: [::1]:81\r\n\r\n",
            ),
            (
                "DELETE",
                "https://a:b@h/x",
                "12",
                "DELETE /x HTTP/1.1\r\ncontent-length: 2\r\nhost: h\r\n\
                 authorization: Basic YTpi\r\n\r\n",
            ),
        ] {
            assert_eq!(head(method, url, &[], body.as_bytes()), expected);
        }
    }

    #[test]
    fn the_callers_headers_come_before_our_own() {
        let headers = [("Accept", "text/plain"), ("user-agent", "x"), ("host", "y")];
        let head = head("GET", "http://h/", &headers, b"");
        for (name, value) in headers {
            let line = format!("{}: {value}\r\n", name.to_ascii_lowercase());
            assert_eq!(head.matches(&line).count(), 1, "{head}");
        }
        assert_eq!(head.lines().count(), 5, "{head}");
    }
}
