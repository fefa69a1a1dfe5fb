//! A request as it goes on the wire.
//!
//! ureq logs what it writes, and a head holds keys. So ureq is shown no more than its framing
//! needs, a request for `/` with the length of the body, and below it a connection puts the whole
//! head, made here, in the place of what ureq wrote.

use http::uri::PathAndQuery;
use http::{HeaderName, Method, Request, Uri};

use super::HttpRequest;
use super::error::is_https;

/// Who asks, as servers and proxies are told.
pub(super) const USER_AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
/// What a host name has at most, in bytes.
const LONGEST_HOST: usize = 255;

/// The URL, or why it cannot be asked for, without a word of what it says.
pub(super) fn parse(url: &str) -> Result<Uri, &'static str> {
    const UNUSABLE: &str = "the URL is not an absolute http:// or https:// one";
    let uri: Uri = url.parse().map_err(|_| UNUSABLE)?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // ureq would make a header of it.
    if authority.contains('@') {
        return Err("the URL holds a user name or password; send them in a header");
    }
    if is_https(&uri) && !cfg!(feature = "rustls") {
        return Err("https needs TLS: build with the feature `rustls`, or use an http URL");
    }
    let host = uri.host().unwrap_or_default();
    let is_spoken = matches!(uri.scheme_str(), Some("http" | "https"));
    // A port that is not a number below 65,536 is dropped silently by the parser.
    let has_port = uri.port_u16().is_some() || authority.ends_with(host);
    if is_spoken && has_port && (1..=LONGEST_HOST).contains(&host.len()) {
        Ok(uri)
    } else {
        Err(UNUSABLE)
    }
}

/// What ureq is shown of `request` to `uri`; or why there is none, without a word of what it says.
#[inline(never)]
pub(super) fn shown<'a>(
    request: &HttpRequest<'a>,
    uri: &Uri,
) -> Result<Box<Request<&'a [u8]>>, &'static str> {
    // Other characters are read in many ways.
    let is_visible = |byte: u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
    for (name, value) in request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "a header's name is bad")?;
        if !value.bytes().all(is_visible) {
            return Err("a header's value is bad");
        }
        // The body follows its head at once, and its length is said by whoever sends it.
        if ["content-length", "transfer-encoding", "expect"].contains(&name.as_str()) {
            return Err(
                "the headers `content-length`, `transfer-encoding` and `expect` are not for the \
                 caller to set: leave them out",
            );
        }
    }
    let mut origin = uri.clone().into_parts();
    origin.path_and_query = Some(PathAndQuery::from_static("/"));
    let mut shown = Box::new(Request::new(request.body));
    *shown.method_mut() =
        Method::from_bytes(request.method.as_bytes()).map_err(|_| "not a method of HTTP")?;
    *shown.uri_mut() = Uri::from_parts(origin).map_err(|_| "the URL cannot be asked for")?;
    Ok(shown)
}

/// The whole head of `request`, which [`shown`] has found fit to be sent.
pub(super) fn head(request: &HttpRequest<'_>, uri: &Uri) -> String {
    let length = request.body.len().to_string();
    let own = [
        ("host", uri.authority().map_or("", |host| host.as_str())),
        ("content-length", &*length),
        ("user-agent", USER_AGENT),
        ("accept", "*/*"),
        // Left unsaid, any coding would do (RFC 9110, 12.5.3).
        ("accept-encoding", "identity"),
    ];
    let has_body = !request.body.is_empty() || ["POST", "PUT", "PATCH"].contains(&request.method);
    let is_due = |name: &str| name != "content-length" || has_body;
    let own = own
        .iter()
        .filter(|(name, _)| is_due(name) && !says(request, name));
    let mut head = String::with_capacity(512);
    head.extend([request.method, " ", uri.path()]);
    if let Some(query) = uri.query() {
        head.extend(["?", query]);
    }
    head.push_str(" HTTP/1.1\r\n");
    for (name, value) in own.chain(request.headers) {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head + "\r\n"
}

/// Whether the caller's headers say something under `name`.
pub(super) fn says(request: &HttpRequest<'_>, name: &str) -> bool {
    let is_said = |(other, _): &(&str, &str)| other.eq_ignore_ascii_case(name);
    request.headers.iter().any(is_said)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::Cancel;

    fn head(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let (deadline, cancel) = (Instant::now(), Cancel::new());
        let mut call = HttpRequest::new(method, url, deadline, &cancel);
        (call.headers, call.body) = (headers, body);
        let uri = url.parse().unwrap();
        shown(&call, &uri).unwrap();
        let head = super::head(&call, &uri);
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
                "GET / HTTP/1.1\r\nhost: h:80\r\n\r\n",
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
            "GET / HTTP/1.1\r\nAccept: text/plain\r\nX-Key: \tk\r\nuser-agent: x\r\n\
             accept-Encoding: br\r\nhost: y\r\nX-Key: l\r\n\r\n"
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
                shown(&call, &parse(call.url).unwrap()).is_err(),
                "{header:?}"
            );
        }
    }
}
