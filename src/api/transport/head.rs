//! An answer's head, before ureq reads it.
//!
//! ureq takes an interim answer with headers for a fault, so all of them are passed over below it.
//! It also refuses odd lines that curl reads. Those with one meaning are put right before it sees
//! them: a line that is folded, and a blank before the colon. A line whose name is none counts for
//! nothing. A blank before the colon of what frames an answer is refused: somebody on the way may
//! not have seen the line, and taken the body to end elsewhere (RFC 9112, 5.1 and 11.2).

use std::mem;

use http::HeaderName;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use memchr::{memchr, memchr_iter};

/// The largest head that is waited for, in bytes: ureq takes none above it.
const LARGEST_HEAD: usize = 64 * 1024;
const PROTOCOL: &[u8] = b"HTTP/1.";

/// What arrived bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A part of a head.
    Part,
    /// An interim answer of this length. What follows a 101 is another protocol, so it is none.
    Interim(usize),
    /// What ureq can be shown: the bytes as they are, or these in their place.
    Whole(Option<Vec<u8>>),
}

/// What `bytes` begin with. What is no head at all is for ureq to refuse.
///
/// # Errors
/// What is wrong with a head that is to be refused.
pub(super) fn read(bytes: &[u8]) -> Result<Head, String> {
    let head = without_empty_lines(bytes);
    let is_http = head.starts_with(PROTOCOL) || PROTOCOL.starts_with(head);
    match length(head) {
        None if is_http && head.len() <= LARGEST_HEAD => Ok(Head::Part),
        Some(length) if is_http => {
            let (head, rest) = head.split_at(length);
            if status(head).is_some_and(is_interim) {
                return Ok(Head::Interim(bytes.len() - rest.len()));
            }
            let mended = mend(head)?;
            Ok(Head::Whole(mended.map(|head| [&head, rest].concat())))
        }
        _ => Ok(Head::Whole(None)),
    }
}

/// The status of the answer that `bytes` begin with, behind interim ones. Its head may be a part.
pub(super) fn answer_status(mut bytes: &[u8]) -> Option<u16> {
    while let Ok(Head::Interim(length)) = read(bytes) {
        bytes = &bytes[length..];
    }
    status(without_empty_lines(bytes)).filter(|status| !is_interim(*status))
}

/// Some servers end a body with a line too many.
fn without_empty_lines(bytes: &[u8]) -> &[u8] {
    let is_end = |byte: &&u8| matches!(byte, b'\r' | b'\n');
    &bytes[bytes.iter().take_while(is_end).count()..]
}

fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(PROTOCOL)?.get(2..5)?;
    str::from_utf8(digits).ok()?.parse().ok()
}

fn is_interim(status: u16) -> bool {
    matches!(status, 100 | 102..200)
}

/// How long the head is, up to the empty line that ends it, if that has come.
fn length(head: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', head).find_map(|end| match head[end + 1..] {
        [b'\n', ..] => Some(end + 2),
        [b'\r', b'\n', ..] => Some(end + 3),
        _ => None,
    })
}

/// A whole head whose odd lines are put right, if it has any.
///
/// # Errors
/// What is wrong with a line that can be read in two ways.
fn mend(head: &[u8]) -> Result<Option<Vec<u8>>, String> {
    if lines(head).skip(1).all(is_plain) {
        return Ok(None);
    }
    let mut unfolded = head.to_vec();
    for end in memchr_iter(b'\n', head) {
        if let Some(b' ' | b'\t') = head.get(end + 1) {
            let start = end - usize::from(head[end - 1] == b'\r');
            unfolded[start..=end].fill(b' ');
        }
    }
    let mut mended = Vec::with_capacity(head.len());
    for (number, line) in lines(&unfolded).enumerate() {
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        if number == 0 || is_plain(line) || line.iter().any(is_control) {
            // What holds a NUL or a lone CR is for ureq to refuse.
            mended.extend([line, b"\r\n"].concat());
            continue;
        }
        let colon = memchr(b':', line).ok_or("a line has no colon")?;
        let (name, value) = line.split_at(colon);
        let name = name.trim_ascii_end();
        let is_same = |known: &&HeaderName| name.eq_ignore_ascii_case(known.as_str().as_bytes());
        if let Some(known) = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().find(is_same) {
            return Err(format!("there is a blank between {known} and its colon"));
        }
        let line = [name, value, b"\r\n"].concat();
        if is_plain(&line) {
            mended.extend(line);
        }
    }
    Ok(Some(mended))
}

/// The lines of a whole head, without their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr_iter(b'\n', head).map(move |end| {
        let line = &head[mem::replace(&mut start, end + 1)..end];
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

/// Whether a line has a name that a header can have (RFC 9110, 5.6.2) and a colon right behind it,
/// or is the empty line at the end. Its value is for ureq to judge.
fn is_plain(line: &[u8]) -> bool {
    let is_fit = |byte: &u8| {
        byte.is_ascii_alphanumeric() || *byte == b'-' || b"!#$%&'*+.^_`|~".contains(byte)
    };
    match line.iter().position(|byte| !is_fit(byte)) {
        Some(end) => end > 0 && line[end] == b':',
        None => line.is_empty(),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_interim_ones() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\nok", Some(200)),
            ("HTTP/1.0 302", Some(302)),
            ("\r\n\nHTTP/1.1 413 No\r\nx: y\r\n\r\n", Some(413)),
            ("HTTP/1.1 101 Other\r\n\r\n", Some(101)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP", None),
            (
                "HTTP/1.1 103 E\r\nlink: a\r\n\r\nHTTP/1.1 503 No",
                Some(503),
            ),
            ("HTTP/1.1 100 Continue\r\n", None),
            ("HTTP/1.1 20", None),
            ("", None),
            ("SSH-2.0-OpenSSH_9.2\r\n", None),
        ] {
            assert_eq!(answer_status(bytes.as_bytes()), expected, "{bytes:?}");
        }
        let many = "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000) + "HTTP/1.1 400 No";
        assert_eq!(answer_status(many.as_bytes()), Some(400));
    }

    #[test]
    fn ureq_is_shown_whole_heads_and_what_is_none() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\nok", Head::Whole(None)),
            ("HTTP/1.0 302\n\n", Head::Whole(None)),
            ("\r\n\nHTTP/1.1 413 No\r\nx: y\r\n\r\n", Head::Whole(None)),
            ("HTTP/1.1 101 Other\r\n\r\n", Head::Whole(None)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP", Head::Interim(25)),
            ("\nHTTP/1.1 103 E\r\nlink: a\r\n\r\n", Head::Interim(28)),
            ("HTTP/1.1 100 Continue\r\n", Head::Part),
            ("HTTP/1.1 200 OK\r\nx-a : b\r\n", Head::Part),
            ("HTTP/1.1 ", Head::Part),
            ("\r\n", Head::Part),
            ("", Head::Part),
            ("SSH-2.0-OpenSSH_9.2\r\n", Head::Whole(None)),
            ("\0", Head::Whole(None)),
        ] {
            assert_eq!(read(bytes.as_bytes()), Ok(expected), "{bytes:?}");
        }
        let long = "HTTP/1.1 200 OK\r\nx: ".to_owned() + &"y".repeat(LARGEST_HEAD);
        assert_eq!(read(long.as_bytes()), Ok(Head::Whole(None)));
    }

    #[test]
    fn odd_lines_are_put_right_if_there_is_one_way_to_read_them() {
        for (lines, expected) in [
            ("x-a: b\r\n\t c\r\ny: z\r\n", "x-a: b  \t c\r\ny: z\r\n"),
            ("x-a: b\n c\n", "x-a: b  c\r\n"),
            ("x-a: b\r\n \r\ny: z\r\n", "x-a: b   \r\ny: z\r\n"),
            ("x-a \t: b\r\nx b: c\r\n", "x-a: b\r\n"),
            (": c\r\nx-a: b\r\n", "x-a: b\r\n"),
            ("content length: 5\r\n", ""),
            (
                "transfer-encoding:\r\n chunked\r\n",
                "transfer-encoding:   chunked\r\n",
            ),
        ] {
            let head = format!("\r\nHTTP/1.1 200\r\n{lines}\r\n x y: z\r\n\r\n");
            let expected = format!("HTTP/1.1 200\r\n{expected}\r\n x y: z\r\n\r\n").into_bytes();
            let expected = Ok(Head::Whole(Some(expected)));
            assert_eq!(read(head.as_bytes()), expected, "{lines:?}");
        }
        for line in [
            "content-length : 2",
            "Transfer-Encoding\t: chunked",
            "no colon",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
            assert!(read(head.as_bytes()).is_err(), "{line:?}");
        }
    }

    // What is whole here must not be a part there: ureq would wait for more of it.
    #[cfg(feature = "sim")]
    proptest::proptest! {
        #[test]
        fn what_is_whole_here_is_whole_for_the_parser(parts in proptest::collection::vec(0usize..17, 0..12)) {
            const PARTS: [&str; 17] = [
                "HTTP/1.1 ", "200", "103", " OK", "\r\n", "\n", "\r", " ", "a: b", "a", ":", "\t", "\0",
                "HTTP/1.0 404 x\r\n", "\r\n\r\n", "content-length", "\r\ncontent-length: 1\r\n",
            ];
            let parts = parts.iter().map(|part| PARTS[*part]);
            let bytes: String = ["HTTP/1.1 ", "200"].into_iter().chain(parts).collect();
            let parse = |bytes: &[u8]| {
                let mut headers = [httparse::EMPTY_HEADER; 16];
                httparse::Response::new(&mut headers).parse(bytes)
            };
            let parsed = parse(bytes.as_bytes());
            match read(bytes.as_bytes()) {
                Ok(Head::Interim(length)) => {
                    if let Ok(httparse::Status::Complete(other)) = parsed {
                        proptest::prop_assert_eq!(length, other, "{:?}", bytes);
                    }
                }
                Ok(Head::Whole(None)) => {
                    proptest::prop_assert_ne!(parsed, Ok(httparse::Status::Partial), "{:?}", bytes);
                }
                Ok(Head::Whole(Some(mended))) => {
                    // Only what was refused is mended.
                    proptest::prop_assert!(parsed.is_err(), "{bytes:?}");
                    proptest::prop_assert_ne!(parse(&mended), Ok(httparse::Status::Partial), "{:?}", bytes);
                }
                Ok(Head::Part) | Err(_) => {}
            }
        }
    }
}
