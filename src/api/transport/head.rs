//! Where an answer's head begins and ends, before ureq reads it.
//!
//! ureq takes an interim answer with headers for a fault, so all of them are passed over below it.

use memchr::memchr_iter;

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
    /// A whole head, or what is none and is for ureq to refuse.
    Whole,
}

/// What `bytes` begin with.
pub(super) fn read(bytes: &[u8]) -> Head {
    let head = without_empty_lines(bytes);
    let is_http = head.starts_with(PROTOCOL) || PROTOCOL.starts_with(head);
    match length(head) {
        None if is_http && head.len() <= LARGEST_HEAD => Head::Part,
        Some(length) if status(head).is_some_and(is_interim) => {
            Head::Interim(bytes.len() - head.len() + length)
        }
        _ => Head::Whole,
    }
}

/// The status of the answer that `bytes` begin with, behind interim ones. Its head may be a part.
pub(super) fn answer_status(mut bytes: &[u8]) -> Option<u16> {
    while let Head::Interim(length) = read(bytes) {
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
            ("HTTP/1.1 200 OK\r\n\r\nok", Head::Whole),
            ("HTTP/1.0 302\n\n", Head::Whole),
            ("\r\n\nHTTP/1.1 413 No\r\nx: y\r\n\r\n", Head::Whole),
            ("HTTP/1.1 101 Other\r\n\r\n", Head::Whole),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP", Head::Interim(25)),
            ("\nHTTP/1.1 103 E\r\nlink: a\r\n\r\n", Head::Interim(28)),
            ("HTTP/1.1 100 Continue\r\n", Head::Part),
            ("HTTP/1.1 200 OK\r\nx-a : b\r\n", Head::Part),
            ("HTTP/1.1 ", Head::Part),
            ("\r\n", Head::Part),
            ("", Head::Part),
            ("SSH-2.0-OpenSSH_9.2\r\n", Head::Whole),
            ("\0", Head::Whole),
        ] {
            assert_eq!(read(bytes.as_bytes()), expected, "{bytes:?}");
        }
        let long = "HTTP/1.1 200 OK\r\nx: ".to_owned() + &"y".repeat(LARGEST_HEAD);
        assert_eq!(read(long.as_bytes()), Head::Whole);
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
                Head::Interim(length) => {
                    if let Ok(httparse::Status::Complete(other)) = parsed {
                        proptest::prop_assert_eq!(length, other, "{:?}", bytes);
                    }
                }
                Head::Whole => {
                    proptest::prop_assert_ne!(parsed, Ok(httparse::Status::Partial), "{:?}", bytes);
                }
                Head::Part => {}
            }
        }
    }
}
