//! A call as a request of HTTP/1.1: what its head says, and how it goes out.
//!
//! ureq-proto logs at `trace` whatever it writes, and a head holds keys. So it is shown only what
//! framing is made of; the request line and all other headers go around it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq_proto::Error;
use ureq_proto::client::state::{Await100, RecvResponse, SendBody, SendRequest};
use ureq_proto::client::{Await100Result, Call as Protocol, SendRequestResult};
use ureq_proto::http::uri::PathAndQuery;
use ureq_proto::http::{HeaderName, HeaderValue, Method, Request, Uri, header};

use super::answer::{ended, not_http};
use super::buffers::{BufferPool, Output};
use super::exchange::Exchange;
use super::fault::Failure;
use super::head::Head;
use super::link::Link;
use super::{HttpRequest, TransportErrorKind, TransportStage};

/// Who asks, as servers and proxies are told.
pub(super) const USER_AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
/// How long a server is given to answer `Expect: 100-continue` before the body goes out anyway.
const PATIENCE: Duration = Duration::from_secs(1);
/// Room made for a line of ureq-proto's, and doubled until it fits.
const LINE: usize = 256;
/// The headers that say how the body, the answer and the connection are dealt with, beside the
/// body's length: ureq-proto has to see them.
const FRAMING: [&str; 3] = ["host", "connection", "expect"];
/// What is said unless the caller's headers say it.
const OWN: [(&str, &str); 3] = [
    ("user-agent", USER_AGENT),
    ("accept", "*/*"),
    // Left unsaid, any coding would do (RFC 9110, 12.5.3).
    ("accept-encoding", "identity"),
];

/// The URL, or why it cannot be asked for, without a word of what it says.
pub(super) fn parse(url: &str) -> Result<Uri, &'static str> {
    const UNUSABLE: &str = "the URL is not an absolute http:// or https:// one";
    let uri: Uri = url.parse().map_err(|_| UNUSABLE)?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // ureq-proto would make a header of it, and log that.
    if authority.contains('@') {
        return Err("the URL holds a user name or password; send them in a header");
    }
    let spoken = matches!(uri.scheme_str(), Some("http" | "https"));
    let named = uri.host().is_some_and(|host| {
        // A port that is not a number below 65,536 is dropped silently by the parser.
        !host.is_empty() && (uri.port_u16().is_some() || authority.ends_with(host))
    });
    if spoken && named {
        Ok(uri)
    } else {
        Err(UNUSABLE)
    }
}

/// What ureq-proto is shown of the request that `call` makes of `uri`; or why there is none, without
/// a word of what it says.
///
/// The states of an exchange are half a kilobyte each, and moved from one to the next: boxed between
/// the functions that do so, they are on the stack only while they run, and not while they wait.
#[inline(never)]
pub(super) fn request(
    call: &HttpRequest<'_>,
    uri: &Uri,
) -> Result<Box<Protocol<SendRequest>>, &'static str> {
    let method = Method::from_bytes(call.method.as_bytes()).map_err(|_| "not a method of HTTP")?;
    let has_body =
        !call.body.is_empty() || matches!(method, Method::POST | Method::PUT | Method::PATCH);
    let mut origin = uri.clone().into_parts();
    origin.path_and_query = Some(PathAndQuery::from_static("/"));
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_parts(origin).map_err(|_| UNSENDABLE)?;
    let shown = request.headers_mut();
    if has_body {
        shown.insert(header::CONTENT_LENGTH, call.body.len().into());
    }
    for (name, value) in call.headers {
        if !is_name(name) {
            return Err("a header's name is bad");
        }
        if !is_value(value) {
            return Err("a header's value is bad");
        }
        // How long the body is, is said by whoever sends it.
        if is_any(name, &["content-length", "transfer-encoding"]) {
            return Err("the body's length is not for the caller's headers to say");
        }
        if is_any(name, &FRAMING) {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| UNSENDABLE)?;
            let value = HeaderValue::from_str(value).map_err(|_| UNSENDABLE)?;
            shown.append(name, value);
        }
    }
    let request = Protocol::new(request).map_err(|_| UNSENDABLE)?;
    Ok(Box::new(request.proceed()))
}

/// Whether `name` is a token (RFC 9110, 5.6.2).
fn is_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

fn is_value(value: &str) -> bool {
    let is_visible = |byte: u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
    value.bytes().all(is_visible)
}

/// Whether the caller's headers say something under `name`.
pub(super) fn says(call: &HttpRequest<'_>, name: &str) -> bool {
    call.headers.iter().any(|(other, _)| is_any(other, &[name]))
}

fn is_any(name: &str, names: &[&str]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other))
}

const UNSENDABLE: &str = "the request cannot be sent";

fn unsendable() -> Failure {
    Failure::new(TransportErrorKind::Unsendable, UNSENDABLE)
}

/// Sends what `call` asks of `uri`: in one go if head and body are small, and a large body from
/// where it lies.
pub(super) fn send(
    mut request: Box<Protocol<SendRequest>>,
    call: &HttpRequest<'_>,
    uri: &Uri,
    link: &mut dyn Link,
    exchange: &mut Exchange<'_>,
    buffers: &Arc<BufferPool>,
) -> Result<Awaited, Failure> {
    let mut output = Output::new(Arc::clone(buffers));
    write_head(&mut request, call, uri, &mut output)?;
    let next = after_the_head(request)?;
    if !matches!(next, Next::Body(_)) {
        link.send(output.bytes(), exchange)?;
        output.clear();
    }
    let upload = match next {
        Next::Body(upload) => upload,
        Next::HttpResponse(reply) => return Ok(reply),
        Next::Wait(waiting) => match await_100(waiting, link, exchange)? {
            ControlFlow::Continue(upload) => upload,
            ControlFlow::Break(reply) => return Ok(reply),
        },
    };
    let together = output.append(call.body);
    link.send(output.bytes(), exchange)?;
    output.clear();
    link.send(&call.body[together..], exchange)?;
    after_the_body(upload, call.body.len())
}

/// Writes the whole head: our request line, ureq-proto's headers and then all others.
fn write_head(
    request: &mut Protocol<SendRequest>,
    call: &HttpRequest<'_>,
    uri: &Uri,
    output: &mut Output,
) -> Result<(), Failure> {
    // ureq-proto begins with a line of its own, which fills this room and is forgotten.
    let line = call.method.len() + " / HTTP/1.1\r\n".len();
    request
        .write(&mut output.room_of(line)[..line])
        .map_err(|_| unsendable())?;
    let query = uri.query().map_or(["", ""], |query| ["?", query]);
    for part in [
        call.method,
        " ",
        uri.path(),
        query[0],
        query[1],
        " HTTP/1.1\r\n",
    ] {
        output.push(part.as_bytes());
    }
    let mut least = LINE;
    while !request.can_proceed() {
        let room = output.room_of(least);
        match request.write(room) {
            Ok(amount) => output.fill(amount),
            Err(Error::OutputOverflow) => least = 2 * room.len(),
            Err(_) => return Err(unsendable()),
        }
    }
    // The empty line that it ends with comes after all others.
    output.take_back(b"\r\n".len());
    let own = OWN.iter().filter(|(name, _)| !says(call, name));
    let others = call
        .headers
        .iter()
        .filter(|(name, _)| !is_any(name, &FRAMING));
    for (name, value) in own.chain(others) {
        for part in [name, ": ", value, "\r\n"] {
            output.push(part.as_bytes());
        }
    }
    output.push(b"\r\n");
    Ok(())
}

/// A request whose body is to go out, and one whose answer is to come.
type Upload = Box<Protocol<SendBody>>;
type Awaited = Box<Protocol<RecvResponse>>;

/// What follows the head of a request.
enum Next {
    Body(Upload),
    Wait(Box<Protocol<Await100>>),
    HttpResponse(Awaited),
}

#[inline(never)]
fn after_the_head(request: Box<Protocol<SendRequest>>) -> Result<Next, Failure> {
    match request.proceed() {
        Ok(Some(SendRequestResult::SendBody(upload))) => Ok(Next::Body(Box::new(upload))),
        Ok(Some(SendRequestResult::Await100(waiting))) => Ok(Next::Wait(Box::new(waiting))),
        Ok(Some(SendRequestResult::RecvResponse(reply))) => Ok(Next::HttpResponse(Box::new(reply))),
        Ok(None) | Err(_) => Err(unsendable()),
    }
}

#[inline(never)]
fn after_the_body(mut upload: Upload, length: usize) -> Result<Awaited, Failure> {
    upload
        .consume_direct_write(length)
        .map_err(|_| unsendable())?;
    upload.proceed().map(Box::new).ok_or_else(unsendable)
}

/// Waits for the interim answer that the caller's headers ask for, but not for long. Breaks off where
/// the answer itself has come.
#[inline(never)]
fn await_100(
    mut waiting: Box<Protocol<Await100>>,
    link: &mut dyn Link,
    exchange: &mut Exchange<'_>,
) -> Result<ControlFlow<Awaited, Upload>, Failure> {
    let patience = Instant::now() + PATIENCE;
    while waiting.can_keep_await_100() {
        let arrived = link.input();
        if let Some(head) = Head::parse(arrived.bytes())? {
            hint(&mut waiting, &head)?;
            if head.is_interim() {
                arrived.consume(head.length);
            }
            continue;
        }
        let (more, ran_out) = exchange.waiting_until(patience, |exchange| link.receive(exchange));
        match more {
            Ok(true) => exchange.stage = TransportStage::Answering,
            Ok(false) => return Err(ended(exchange)),
            Err(failure) if ran_out && failure.fault == TransportErrorKind::Timeout => break,
            Err(failure) => return Err(failure),
        }
    }
    match waiting.proceed().map_err(not_http)? {
        Await100Result::SendBody(upload) => Ok(ControlFlow::Continue(Box::new(upload))),
        Await100Result::RecvResponse(reply) => Ok(ControlFlow::Break(Box::new(reply))),
    }
}

/// Tells `waiting` of the answer that has come in place of the word it waits for, or of that.
#[inline(never)]
fn hint(waiting: &mut Protocol<Await100>, head: &Head) -> Result<(), Failure> {
    let told = waiting.try_read_100(head.bare().as_bytes());
    told.map(drop).map_err(not_http)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Cancel;

    fn head(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let (deadline, cancel) = (Instant::now(), Cancel::new());
        let mut call = HttpRequest::new(method, url, deadline, &cancel);
        (call.headers, call.body) = (headers, body);
        let uri = parse(url).unwrap();
        let mut request = request(&call, &uri).unwrap();
        let mut output = Output::new(Arc::default());
        write_head(&mut request, &call, &uri, &mut output).unwrap();
        let head = String::from_utf8(output.bytes().to_vec()).unwrap();
        let own =
            format!("user-agent: {USER_AGENT}\r\naccept: */*\r\naccept-encoding: identity\r\n");
        head.replacen(&own, "", 1)
    }

    #[test]
    fn a_head_says_who_is_meant_and_how_long_the_body_is() {
        for (method, url, body, expected) in [
            (
                "GET",
                "http://h:80",
                "",
                "GET / HTTP/1.1\r\nhost: h\r\n\r\n",
            ),
            (
                "POST",
                "http://[::1]:81?q",
                "",
                "POST /?q HTTP/1.1\r\nhost: [::1]:81\r\ncontent-length: 0\r\n\r\n",
            ),
            (
                "DELETE",
                "https://h/x%2f/y?a=/&b=?#c",
                "12",
                "DELETE /x%2f/y?a=/&b=? HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n",
            ),
        ] {
            assert_eq!(head(method, url, &[], body.as_bytes()), expected);
        }
    }

    #[test]
    fn every_header_of_the_callers_is_said_once_and_instead_of_our_own() {
        let headers = [
            ("Accept", "text/plain"),
            ("X-Key", "\tk"),
            ("user-agent", "x"),
            ("accept-Encoding", "br"),
            ("host", "y"),
            ("X-Key", "l"),
        ];
        let head = head("GET", "http://h/", &headers, b"");
        assert_eq!(
            head,
            "GET / HTTP/1.1\r\nhost: y\r\nAccept: text/plain\r\nX-Key: \tk\r\n\
             user-agent: x\r\naccept-Encoding: br\r\nX-Key: l\r\n\r\n"
        );
    }

    #[test]
    fn a_header_that_could_pass_for_another_line_is_refused() {
        let cancel = Cancel::new();
        for header in [
            ("", "v"),
            ("a b", "v"),
            ("a:", "v"),
            ("n\u{e9}", "v"),
            ("a", "v\r\nb: c"),
            ("a", "v\nb: c"),
            ("a", "\0"),
            ("a", "\u{7f}"),
            ("a", "\u{e9}"),
        ] {
            let headers = [header];
            let mut call = HttpRequest::new("GET", "http://h/", Instant::now(), &cancel);
            call.headers = &headers;
            assert!(
                request(&call, &parse(call.url).unwrap()).is_err(),
                "{header:?}"
            );
        }
    }
}
