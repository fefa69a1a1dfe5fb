//! The head of an answer, read once: all of it for the caller, and the framing for ureq-proto.
//!
//! Servers send some thirty headers. ureq-proto would make a map of them and log them all, so it is
//! shown only those that say where the body ends and whether the connection lasts.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Response, Status};

use super::TransportErrorKind;
use super::answer::not_http;
use super::fault::Failure;
use super::headers::Headers;
use crate::escape::printable;

/// The largest head that is taken, in bytes and in headers.
const LARGEST: usize = 64 * 1024;
const MOST: usize = 128;
/// What is shown of it takes less, mostly.
const SHOWN: usize = 128;
const TRANSFER: &str = "transfer-encoding";
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

/// A whole head.
#[derive(Debug)]
pub(super) struct Head {
    /// How many bytes it took.
    pub(super) length: usize,
    pub(super) status: u16,
    pub(super) headers: Headers,
    /// The `x` of `HTTP/1.x`.
    minor: u8,
}

impl Head {
    /// The head that `bytes` begin with, unless they end before it does.
    ///
    /// The table in here is the largest thing an exchange puts on its stack: it is gone before
    /// ureq-proto puts one of its own there, and before anything waits.
    #[inline(never)]
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Failure> {
        let mut table = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST];
        let mut head = Response::new(&mut []);
        let parsed = ParserConfig::default()
            .parse_response_with_uninit_headers(&mut head, bytes, &mut table)
            .map_err(not_http)?;
        let length = match parsed {
            Status::Complete(length) => length,
            Status::Partial => bytes.len(),
        };
        if length > LARGEST {
            let why = "the answer's head is too large";
            return Err(Failure::new(TransportErrorKind::Protocol, why));
        }
        let (Status::Complete(_), Some(status), Some(minor)) = (parsed, head.code, head.version)
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            length,
            status,
            headers: copied(head.headers),
            minor,
        }))
    }

    /// Whether another answer to the same request follows. What follows a 101 is another protocol.
    pub(super) fn is_interim(&self) -> bool {
        matches!(self.status, 100..=199) && self.status != 101
    }

    /// The head without its headers, as ureq-proto wants to see one that comes before the body has
    /// gone out.
    pub(super) fn bare(&self) -> String {
        format!("HTTP/1.{} {:03}\r\n\r\n", self.minor, self.status)
    }

    /// The head with no other headers than ureq-proto has to see.
    pub(super) fn framing(&self) -> String {
        let mut shown = String::with_capacity(SHOWN);
        shown.push_str(self.bare().trim_end());
        let has_known_end = self.unknown_transfer().is_none();
        let mut has_length = false;
        for (name, value) in self.headers.iter() {
            let is = |other| name.eq_ignore_ascii_case(other);
            let is_length = is("content-length") || is(TRANSFER);
            has_length |= is_length;
            if is("connection") || is_length && has_known_end {
                for part in ["\r\n", name, ": ", value] {
                    shown.push_str(part);
                }
            }
        }
        // A 205 has no body (RFC 9110, 15.3.6), and not every server says so.
        if self.status == 205 && !has_length {
            shown.push_str("\r\ncontent-length: 0");
        }
        shown.push_str("\r\n\r\n");
        shown
    }

    /// Whether there is no doubt where the answer ends. With two lengths, or an encoding that is not
    /// understood, a gateway may have seen its end elsewhere (RFC 9112, 6.3 and 11.2).
    pub(super) fn is_sound(&self) -> bool {
        self.headers.get(TRANSFER).is_none()
            || self.unknown_transfer().is_none() && self.headers.get("content-length").is_none()
    }

    /// Why the body cannot be read, if it cannot. A caller who `has_asked` for codings undoes them.
    pub(super) fn readable(&self, has_asked: bool) -> Result<(), Failure> {
        let why = if let Some(coding) = self.unknown_transfer() {
            format!(
                "the transfer-encoding of the answer, HTTP/1.{}, is \"{}\": only chunked is \
                 understood, in HTTP/1.1",
                self.minor,
                printable(coding, QUOTED)
            )
        } else if let Some(coding) = self.content_coding().filter(|_| !has_asked) {
            format!(
                "the answer is encoded as \"{}\", which was not asked for",
                printable(coding, QUOTED)
            )
        } else {
            return Ok(());
        };
        Err(Failure::new(TransportErrorKind::Protocol, why))
    }

    /// How the contents themselves are encoded, if they are: by one of the codings there are (RFC 9110,
    /// 8.4.1, and IANA's list). Some servers name the charset here, or "none", and mean no coding.
    fn content_coding(&self) -> Option<&str> {
        let is_coding = |coding: &str| {
            CODINGS
                .iter()
                .any(|known| coding.trim().eq_ignore_ascii_case(known))
        };
        self.headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("content-encoding"))
            .map(|(_, value)| value)
            .find(|value| value.split(',').any(is_coding))
    }

    /// The transfer-encoding, unless there is none or it is the one that is understood.
    fn unknown_transfer(&self) -> Option<&str> {
        let coding = self.headers.get(TRANSFER)?;
        let is_single = self.headers.only(TRANSFER).is_some();
        let is_known = is_single && coding.eq_ignore_ascii_case("chunked") && self.minor == 1;
        (!is_known).then_some(coding)
    }
}

/// The `headers` in as much memory as they need.
fn copied(headers: &[Header<'_>]) -> Headers {
    let size = |header: &Header<'_>| header.name.len() + header.value.len();
    let mut copies = Headers::with_capacity(headers.len(), headers.iter().map(size).sum());
    for Header { name, value } in headers {
        match str::from_utf8(value) {
            Ok(value) => copies.push(name, value),
            Err(_) => copies.push(name, &String::from_utf8_lossy(value)),
        }
    }
    copies
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        let head = Head::parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(head.length, text.len());
        head
    }

    #[test]
    fn a_head_is_whole_or_none() {
        let text = "HTTP/1.0 429 Too Many\r\nRetry-After:  7 \r\nempty:\r\n\r\n";
        for end in 0..text.len() {
            assert!(Head::parse(&text.as_bytes()[..end]).unwrap().is_none());
        }
        let Head {
            length,
            status,
            headers,
            minor,
        } = Head::parse(format!("{text}body").as_bytes())
            .unwrap()
            .unwrap();
        assert_eq!((length, status, minor), (text.len(), 429, 0));
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("Retry-After", "7"), ("empty", "")]);
    }

    #[test]
    fn what_is_not_utf_8_is_replaced_and_the_rest_is_kept() {
        let head = Head::parse(b"HTTP/1.1 200 OK\r\na: caf\xe9!\r\nb: c\r\n\r\n");
        let headers = head.unwrap().unwrap().headers;
        assert_eq!(headers.get("a"), Some("caf\u{fffd}!"));
        assert_eq!(headers.get("b"), Some("c"));
    }

    #[test]
    fn only_what_frames_the_body_is_shown() {
        for (text, shown) in [
            (
                "HTTP/1.1 200 Fine\r\ndate: d\r\nContent-Length: 2\r\nset-cookie: secret\r\n\
                 connection: a\r\ncontent-length: 3\r\nConnection: close\r\n\r\n",
                "HTTP/1.1 200\r\nContent-Length: 2\r\nconnection: a\r\ncontent-length: 3\r\n\
                 Connection: close\r\n\r\n",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n",
                "HTTP/1.1 200\r\ntransfer-encoding: Chunked\r\n\r\n",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ncontent-length: 2\r\n\r\n",
                "HTTP/1.1 200\r\n\r\n",
            ),
            ("HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.0 200\r\n\r\n"),
            (
                "HTTP/1.1 205 Reset\r\n\r\n",
                "HTTP/1.1 205\r\ncontent-length: 0\r\n\r\n",
            ),
            (
                "HTTP/1.1 205 Reset\r\ncontent-length: 2\r\n\r\n",
                "HTTP/1.1 205\r\ncontent-length: 2\r\n\r\n",
            ),
        ] {
            assert_eq!(head(text).framing(), shown, "{text:?}");
        }
    }

    #[test]
    fn one_length_or_one_encoding_is_sound_and_nothing_else_is() {
        for (version, headers, is_sound, is_readable) in [
            (1, "", true, true),
            (1, "content-length: 2\r\n", true, true),
            (1, "transfer-encoding: CHUNKED\r\n", true, true),
            (
                1,
                "transfer-encoding: chunked\r\ncontent-length: 2\r\n",
                false,
                true,
            ),
            (1, "transfer-encoding: gzip\r\n", false, false),
            (1, "transfer-encoding: gzip, chunked\r\n", false, false),
            (1, "transfer-encoding: chunked, gzip\r\n", false, false),
            (
                1,
                "transfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n",
                false,
                false,
            ),
            (
                1,
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
                false,
                false,
            ),
            (1, "transfer-encoding:\r\n", false, false),
            (0, "transfer-encoding: chunked\r\n", false, false),
        ] {
            let head = head(&format!("HTTP/1.{version} 200 OK\r\n{headers}\r\n"));
            assert_eq!(head.is_sound(), is_sound, "{headers:?}");
            for has_asked in [false, true] {
                let readable = head.readable(has_asked).is_ok();
                assert_eq!(readable, is_readable, "{headers:?}");
            }
        }
    }

    #[test]
    fn a_content_coding_is_for_those_who_asked() {
        for (headers, is_readable) in [
            ("content-encoding: identity\r\n", true),
            ("Content-Encoding:\r\n", true),
            ("Content-Encoding: utf-8\r\n", true),
            ("Content-Encoding: none\r\n", true),
            ("Content-Encoding: identity, identity\r\n", true),
            ("Content-Encoding: GZIP\r\n", false),
            ("Content-Encoding: identity,zstd\r\n", false),
            (
                "content-encoding: identity\r\ncontent-encoding: br\r\n",
                false,
            ),
        ] {
            let head = head(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n"));
            assert_eq!(head.readable(false).is_ok(), is_readable, "{headers:?}");
            assert!(head.readable(true).is_ok(), "{headers:?}");
            assert!(head.is_sound(), "{headers:?}");
        }
    }
}
