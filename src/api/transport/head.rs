//! An answer's head, before ureq sees it.
//!
//! ureq parses heads. But it takes an interim answer with headers for a fault or, before a body,
//! for the answer itself: so interim answers are passed over below it. Whether an upload is refused
//! must be known while ureq is still sending it. And ureq would allocate memory for each name and
//! value, twice, and log them all: so it is shown how the answer is framed, and nothing else.
//!
//! Some servers write odd heads. What cannot be read in two ways is taken, as curl takes it: a
//! header line that is folded, a repeated length or coding, the coding `identity`, a space before a
//! colon, a name that is none, no reason phrase. A space before the colon of what frames an answer
//! is refused: somebody on the way may not have seen the line, and taken the body to end elsewhere
//! (RFC 9112, 5.1 and 11.2).

use std::io::{BufRead, Write};
use std::ops::Range;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::{memchr, memchr_iter, memchr2};

use crate::escape::printable;

/// The largest head that is taken, in bytes.
const LARGEST_HEAD: usize = 64 * 1024;
/// As many headers as most answers have.
const TYPICAL_HEADERS: usize = 24;
/// How many characters of a value are quoted.
const MAX_QUOTED: usize = 40;
/// `HTTP/1.1 200`.
const STATUS_LENGTH: usize = 12;

/// What arrived bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// An interim answer of this length. What follows a 101 is not one: another protocol.
    Interim(usize),
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
    let Some(line) = bytes[start..].get(..STATUS_LENGTH) else {
        return Head::Part;
    };
    let digits = line.strip_prefix(b"HTTP/1.").map(|rest| &rest[2..]);
    let status = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    match (status, length(&bytes[start..])) {
        (Some(100 | 102..200), Some(length)) => Head::Interim(start + length),
        (Some(status), Some(length)) if length <= LARGEST_HEAD => Head::Answer(status),
        (Some(_), None) if bytes.len() <= LARGEST_HEAD => Head::Part,
        _ => Head::Other,
    }
}

/// The head of an answer, as it was sent but for folds, which are spaces, and where in it the names
/// and values are.
#[derive(Default)]
pub(super) struct AnswerHead {
    bytes: Bytes,
    fields: Vec<[Range<usize>; 2]>,
}

impl AnswerHead {
    /// The head that `bytes` begin with, and what ureq is to be shown in the place of `bytes`.
    /// `None` for what is no head, which ureq refuses.
    ///
    /// # Errors
    /// What is wrong with a head that is to be refused.
    pub(super) fn divide(bytes: &[u8]) -> Result<Option<(Self, Vec<u8>)>, String> {
        let start = bytes.iter().take_while(|byte| is_newline(**byte)).count();
        let is_http = bytes[start..].starts_with(b"HTTP/1.");
        let Some(length) = length(&bytes[start..]).filter(|_| is_http) else {
            return Ok(None);
        };
        let (head, rest) = bytes[start..].split_at(length);
        let bytes = unfold(head);
        let mut shown = Vec::with_capacity(rest.len() + 256);
        let mut fields = Vec::with_capacity(TYPICAL_HEADERS);
        let mut start = 0;
        for end in memchr_iter(b'\n', &bytes) {
            let line = &bytes[start..=end];
            if start == 0 {
                shown.extend(line);
            } else if !matches!(line, b"\r\n" | b"\n") {
                let colon = check(line)?;
                fields.push([start..start + colon, start + colon + 1..end]);
            }
            start = end + 1;
        }
        let head = Self {
            bytes: bytes.into(),
            fields,
        };
        for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            let all = head.all(&name);
            let mut values: Vec<_> = all.split(',').map(str::trim).collect();
            values.dedup_by_key(|value| value.to_ascii_lowercase());
            let is_length = |value: &&str| value.bytes().all(|byte| byte.is_ascii_digit());
            if name == CONTENT_LENGTH && (values.len() > 1 || !values.iter().all(is_length)) {
                let all = printable(&all, MAX_QUOTED);
                return Err(format!("its content-length is \"{all}\""));
            }
            let is_coded = !values[0].eq_ignore_ascii_case("identity") || name != TRANSFER_ENCODING;
            if values != [""] && (values.len() > 1 || is_coded) {
                // Writing to a `Vec` does not fail.
                let _ = write!(shown, "{name}: {}\r\n", values.join(", "));
            }
        }
        shown.extend(b"\r\n");
        shown.extend(rest);
        Ok(Some((head, shown)))
    }

    /// All values under `name`, as one list.
    pub(super) fn all(&self, name: &HeaderName) -> String {
        // Names are compared as bytes: a `HeaderName` of each would be allocated for most.
        let values = self
            .fields()
            .filter(|(other, _)| is_name(other, name))
            .map(|(_, value)| String::from_utf8_lossy(value));
        values.collect::<Vec<_>>().join(", ")
    }

    /// The headers as a map. It is made when the body has been read: one that is made before leaves
    /// a hole of its size in front of each body that is kept.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(TYPICAL_HEADERS);
        for (name, value) in self.fields() {
            let value = HeaderValue::from_maybe_shared(self.bytes.slice_ref(value));
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
                headers.append(name, value);
            }
        }
        headers
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let part = |range: &Range<usize>| self.bytes[range.clone()].trim_ascii();
        self.fields
            .iter()
            .map(move |[name, value]| (part(name), part(value)))
    }
}

/// Joins lines that begin with a blank to those before (RFC 9112, 5.2).
fn unfold(head: &[u8]) -> Vec<u8> {
    let mut unfolded = head.to_vec();
    for at in memchr_iter(b'\n', head) {
        if matches!(head.get(at + 1), Some(b' ' | b'\t')) {
            let from = if head[at - 1] == b'\r' { at - 1 } else { at };
            unfolded[from..=at].fill(b' ');
        }
    }
    unfolded
}

/// Where the colon of a line is.
///
/// # Errors
/// What is wrong with a line that cannot be read in one way only.
fn check(line: &[u8]) -> Result<usize, String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let colon = memchr(b':', line).ok_or("a line has no colon")?;
    let name = &line[..colon];
    if name.ends_with(b" ") || name.ends_with(b"\t") {
        let framing = [CONTENT_LENGTH, TRANSFER_ENCODING];
        if let Some(known) = framing.iter().find(|it| is_name(name.trim_ascii(), it)) {
            return Err(format!("there is a blank between {known} and its colon"));
        }
    }
    if memchr2(b'\0', b'\r', line).is_some() {
        return Err("a line holds a NUL or a lone CR".to_owned());
    }
    Ok(colon)
}

fn is_name(name: &[u8], known: &HeaderName) -> bool {
    name.eq_ignore_ascii_case(known.as_str().as_bytes())
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
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP", Head::Interim(25)),
            ("\nHTTP/1.1 103 E\r\nlink: a\r\n\r\n", Head::Interim(28)),
            ("HTTP/1.1 100 Continue\r\n", Head::Part),
            ("HTTP/1.1 200 OK\r\n", Head::Part),
            ("HTTP/1.1 ", Head::Part),
            ("\r\n", Head::Part),
            ("", Head::Part),
            ("SSH-2.0-OpenSSH_9.2\r\n", Head::Other),
        ] {
            assert_eq!(parse(bytes.as_bytes()), expected, "{bytes:?}");
        }
        let long = "HTTP/1.1 200 OK\r\nx: ".to_owned() + &"y".repeat(LARGEST_HEAD);
        assert_eq!(parse(long.as_bytes()), Head::Other);
    }

    #[test]
    fn ureq_is_shown_how_an_answer_is_framed_and_all_of_a_bad_head() {
        let head =
            "\r\nHTTP/1.1 200 OK\r\nset-cookie: a=b\r\nContent-Length:2\r\nset-cookie:\tc \n\r\nok";
        let (head, shown) = AnswerHead::divide(head.as_bytes()).unwrap().unwrap();
        let headers = head.headers();
        assert_eq!(shown, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert_eq!(headers["content-length"], "2");
        let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=b", "c"]);
        for line in [
            "content-length : 2",
            "Transfer-Encoding\t: chunked",
            "no colon",
            "content-length: 2\r\ncontent-length: 3",
            "content-length: 2x",
            "a: \0",
            "a: b\rc: d",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
            assert!(AnswerHead::divide(head.as_bytes()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn odd_lines_are_read_if_there_is_one_way_to_read_them() {
        for (lines, framed, headers) in [
            ("x-a: b\r\n\t c\r\n", "", &[("x-a", "b  \t c")][..]),
            ("x-a: b\n c\n", "", &[("x-a", "b  c")]),
            ("x-a : b\r\nx b: c\r\n", "", &[("x-a", "b")]),
            (
                "content-length: 2, 2\r\ncontent-length: 2\r\n",
                "content-length: 2\r\n",
                &[],
            ),
            (": c\r\nx-a: b\r\n", "", &[("x-a", "b")]),
            (
                "content-length: 2\r\nTransfer-Encoding: Identity\r\n",
                "content-length: 2\r\n",
                &[],
            ),
            (
                "transfer-encoding: chunked\r\nTransfer-Encoding: Chunked\r\n",
                "transfer-encoding: chunked\r\n",
                &[],
            ),
            (
                "transfer-encoding:\r\n chunked\r\n",
                "transfer-encoding: chunked\r\n",
                &[],
            ),
        ] {
            let bytes = format!("HTTP/1.1 200\r\n{lines}\r\n");
            let (head, shown) = AnswerHead::divide(bytes.as_bytes()).unwrap().unwrap();
            assert_eq!(
                shown,
                format!("HTTP/1.1 200\r\n{framed}\r\n").into_bytes(),
                "{lines:?}"
            );
            let map = head.headers();
            for (name, value) in headers {
                assert_eq!(map[*name], *value, "{lines:?}");
            }
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
            if let (Head::Interim(length), Ok(httparse::Status::Complete(other))) = (found, parsed) {
                proptest::prop_assert_eq!(length, other, "{:?}", bytes);
            }
        }
    }
}
