//! The little that is known of an answer's head before ureq reads it.
//!
//! ureq parses heads. But it takes an interim answer with headers for a fault or, before a body, for
//! the answer itself: so interim answers are passed over below it. And whether an upload is refused
//! must be known while ureq is still sending it.

use std::io::BufRead;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The largest head that ureq takes.
const LARGEST: usize = 64 * 1024;
/// The most headers that ureq takes.
const MOST: usize = 128;
/// As many as most answers have.
const TYPICAL: usize = 24;
/// All that ureq and the reading of the body go by.
const FRAMING: [HeaderName; 4] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
];
/// `HTTP/1.1 200`.
const STATUS: usize = 12;

/// What arrived bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// An interim answer of this status and length. What follows a 101 is not one: another protocol.
    Interim(u16, usize),
    /// The whole head of an answer of this status.
    Answer(u16),
    /// A part of a head.
    Part,
    /// Nothing that is understood here; it is for ureq to say what is wrong with it.
    Other,
}

/// What `bytes` begin with.
pub(super) fn parse(bytes: &[u8]) -> Head {
    // Some servers end a body with a line too many.
    let start = bytes.iter().take_while(|byte| is_newline(**byte)).count();
    let Some(line) = bytes[start..].get(..STATUS) else {
        return Head::Part;
    };
    let digits = line.strip_prefix(b"HTTP/1.").map(|rest| &rest[2..]);
    let status = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    match (status, length(&bytes[start..])) {
        (Some(status @ (100 | 102..200)), Some(length)) => Head::Interim(status, start + length),
        (Some(status), Some(_)) => Head::Answer(status),
        (Some(_), None) if bytes.len() <= LARGEST => Head::Part,
        _ => Head::Other,
    }
}

/// The whole head that `bytes` begin with, and what ureq is to be shown in the place of `bytes`: only
/// the lines that say how the answer is framed. `None` for a head that is not well-formed or too large,
/// for ureq to refuse.
///
/// ureq would allocate memory for each name and value, twice, and log them all.
pub(super) fn divide(bytes: &[u8]) -> Option<(Bytes, Vec<u8>)> {
    let start = bytes.iter().take_while(|byte| is_newline(**byte)).count();
    let length = length(&bytes[start..])?;
    let (head, rest) = bytes[start..].split_at(length);
    let head = (length <= LARGEST).then(|| Bytes::copy_from_slice(head))?;
    let mut shown = Vec::with_capacity(rest.len() + 256);
    shown.extend(head.split_inclusive(|byte| *byte == b'\n').next()?);
    let mut count = 0;
    for line in lines(&head) {
        if FRAMING.contains(&field(&head, line)?.0) {
            shown.extend(line);
        }
        count += 1;
    }
    shown.extend(b"\r\n");
    shown.extend(rest);
    (count <= MOST).then_some((head, shown))
}

/// The headers in a whole head. The map is made when the body has been read: one that is made before
/// leaves a hole of its size in front of each body that is kept.
pub(super) fn headers(head: &Bytes) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(TYPICAL);
    for (name, value) in lines(head).filter_map(|line| field(head, line)) {
        headers.append(name, value);
    }
    headers
}

/// The lines between the status and the empty line.
fn lines(head: &Bytes) -> impl Iterator<Item = &[u8]> {
    let lines = head.split_inclusive(|byte| *byte == b'\n').skip(1);
    lines.filter(|line| !matches!(*line, b"\r\n" | b"\n"))
}

fn field(head: &Bytes, line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = head.slice_ref(line[colon + 1..].trim_ascii());
    Some((name, HeaderValue::from_maybe_shared(value).ok()?))
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The bytes up to the end of the first head.
fn length(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    loop {
        let line = rest;
        let length = rest.skip_until(b'\n').ok()?;
        match &line[..length] {
            b"\r\n" | b"\n" => return Some(bytes.len() - rest.len()),
            line if line.ends_with(b"\n") => {}
            _ => return None,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_whole_head_that_is_not_an_interim_one() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\nok", Head::Answer(200)),
            ("HTTP/1.0 302 Found\r\n\r\n", Head::Answer(302)),
            ("HTTP/1.0 302\n\n", Head::Answer(302)),
            ("\r\n\nHTTP/1.1 413 No\r\nx: y\r\n\r\n", Head::Answer(413)),
            ("HTTP/1.1 101 Other\r\n\r\n", Head::Answer(101)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP", Head::Interim(100, 25)),
            (
                "\nHTTP/1.1 103 E\r\nlink: a\r\n\r\n",
                Head::Interim(103, 28),
            ),
            ("HTTP/1.1 100 Continue\r\n", Head::Part),
            ("HTTP/1.1 200 OK\r\n", Head::Part),
            ("HTTP/1.1 ", Head::Part),
            ("\r\n", Head::Part),
            ("", Head::Part),
            ("SSH-2.0-OpenSSH_9.2\r\n", Head::Other),
        ] {
            assert_eq!(parse(bytes.as_bytes()), expected, "{bytes:?}");
        }
        let long = "HTTP/1.1 200 OK\r\nx: ".to_owned() + &"y".repeat(LARGEST);
        assert_eq!(parse(long.as_bytes()), Head::Other);
    }

    #[test]
    fn ureq_is_shown_the_lines_that_frame_an_answer_and_all_of_a_bad_head() {
        let head =
            "\r\nHTTP/1.1 200 OK\r\nset-cookie: a=b\r\nContent-Length:2\r\nset-cookie:\tc \n\r\nok";
        let (head, shown) = divide(head.as_bytes()).unwrap();
        let headers = headers(&head);
        assert_eq!(shown, b"HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\nok");
        assert_eq!(headers["content-length"], "2");
        let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=b", "c"]);
        for line in [
            "content-length : 2",
            " folded: x",
            "no colon",
            ": x",
            "a: \0",
            "a: b\rc: d",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
            assert!(divide(head.as_bytes()).is_none(), "{line:?}");
        }
    }

    // What is whole here must not be a part there: ureq would be shown it for ever.
    #[cfg(feature = "sim")]
    proptest::proptest! {
        #[test]
        fn what_is_whole_here_is_whole_for_the_parser(parts in proptest::collection::vec(0usize..14, 0..9)) {
            const PARTS: [&str; 14] = [
                "HTTP/1.1 ", "200", "103", " OK", "\r\n", "\n", "\r", " ", "a: b", "a", ":", "\t", "HTTP/1.0 404 x\r\n", "\r\n\r\n",
            ];
            let parts = parts.iter().map(|part| PARTS[*part]);
            let bytes: String = ["HTTP/1.1 ", "200"].into_iter().chain(parts).collect();
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let parsed = httparse::Response::new(&mut headers).parse(bytes.as_bytes());
            let is_part = matches!(parsed, Ok(httparse::Status::Partial));
            let found = parse(bytes.as_bytes());
            if matches!(found, Head::Answer(_) | Head::Interim(..)) {
                proptest::prop_assert!(!is_part, "{bytes:?}");
            }
            if let (Head::Interim(_, length), Ok(httparse::Status::Complete(other))) = (found, parsed) {
                proptest::prop_assert_eq!(length, other, "{:?}", bytes);
            }
        }
    }
}
