//! The little that is known of an answer's head before ureq reads it.
//!
//! ureq parses heads. But it takes an interim answer with headers for a fault or, before a body, for
//! the answer itself, and it logs what it parses: so interim answers are passed over below it, and
//! cookies hidden where a log would show them. And whether an upload is refused must be known while
//! ureq is still sending it.

use http::HeaderValue;

use super::buffers::Input;

/// `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;
/// What ureq waits for before it sends a body.
const CONTINUE: &[u8] = b"HTTP/1.1 100\r\n\r\n";
const COOKIE: &[u8] = b"set-cookie:";

/// The status of the answer whose whole head `bytes` begin with.
pub(super) fn status(bytes: &[u8]) -> Option<u16> {
    length(bytes)?;
    begun_status(bytes)
}

/// Takes interim answers off the front of `input`, but for the word to go on if it is awaited; `false`
/// if nothing is left to be shown.
pub(super) fn skip_interim(input: &mut Input, awaits_100: bool) -> bool {
    loop {
        let bytes = input.bytes();
        let Some(status) = begun_status(bytes) else {
            // Too short to say, or no HTTP, which is for ureq to say.
            return without_newlines(bytes).len() >= STATUS_LINE;
        };
        // What follows a 101 is another protocol.
        if !matches!(status, 100..=199) || status == 101 {
            return true;
        }
        let Some(length) = length(bytes) else {
            return false;
        };
        if status != 100 || !awaits_100 {
            input.consume(length);
            continue;
        }
        // Bare, as it is awaited; a shorter one is bare already.
        if let Some(surplus) = length.checked_sub(CONTINUE.len()) {
            input.consume(surplus);
            input.bytes_mut()[..CONTINUE.len()].copy_from_slice(CONTINUE);
        }
        return true;
    }
}

/// Blanks out the cookies that the head at the front of `bytes` sets, and adds what they were to
/// `hidden`.
pub(super) fn hide_cookies(bytes: &mut [u8], hidden: &mut Vec<HeaderValue>) {
    let Some(length) = length(bytes) else {
        return;
    };
    for line in bytes[..length].split_mut(|byte| *byte == b'\n') {
        if let Some((name, value)) = line.split_at_mut_checked(COOKIE.len())
            && name.eq_ignore_ascii_case(COOKIE)
            && let Ok(cookie) = HeaderValue::from_bytes(value.trim_ascii())
        {
            hidden.push(cookie);
            value.fill(b' ');
        }
    }
}

/// The bytes up to the end of the first head.
fn length(bytes: &[u8]) -> Option<usize> {
    let start = bytes.len() - without_newlines(bytes).len();
    let mut lines = bytes[start..].split_inclusive(|byte| *byte == b'\n');
    let mut length = start;
    lines.find_map(|line| {
        length += line.len();
        matches!(line, b"\r\n" | b"\n").then_some(length)
    })
}

fn begun_status(bytes: &[u8]) -> Option<u16> {
    let line = without_newlines(bytes).get(..STATUS_LINE)?;
    let status = line.strip_prefix(b"HTTP/1.")?.get(2..)?;
    str::from_utf8(status).ok()?.parse().ok()
}

/// Some servers end a body with a line too many.
fn without_newlines(bytes: &[u8]) -> &[u8] {
    let newlines = bytes.iter().take_while(|byte| b"\r\n".contains(byte));
    &bytes[newlines.count()..]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_status_is_that_of_a_whole_head() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\nok", Some(200)),
            ("HTTP/1.0 302 Found\r\n\r\n", Some(302)),
            ("HTTP/1.0 302\n\n", Some(302)),
            ("\r\n\nHTTP/1.1 413 No\r\nx: y\r\n\r\n", Some(413)),
            ("HTTP/1.1 200 OK\r\n", None),
            ("HTTP/1.1 ", None),
            ("\r\n", None),
            ("", None),
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", None),
        ] {
            assert_eq!(status(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn interim_answers_are_skipped_but_for_the_word_to_go_on() {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let last = "HTTP/1.1 200 OK\r\n\r\nok";
        let go_on = str::from_utf8(CONTINUE).unwrap();
        for (bytes, shown) in [
            (last.to_owned(), Some(last)),
            (format!("{interim}{interim}{last}"), Some(last)),
            (format!("{interim}HTTP/1.1 2"), None),
            (interim[..30].to_owned(), None),
            (interim.to_owned(), None),
            ("HTTP/1.1 100\n\n".to_owned(), Some("HTTP/1.1 100\n\n")),
            (
                format!("{interim}HTTP/1.1 100 Go on\r\ndate: d\r\n\r\n"),
                Some(go_on),
            ),
            (
                "HTTP/1.1 101 No\r\n\r\n".to_owned(),
                Some("HTTP/1.1 101 No\r\n\r\n"),
            ),
            (
                "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
                Some("SSH-2.0-OpenSSH_9.2\r\n"),
            ),
        ] {
            let mut input = Input::new(Arc::default());
            assert!(input.append(bytes.as_bytes()));
            let is_ready = skip_interim(&mut input, true);
            let left = is_ready.then(|| String::from_utf8(input.bytes().to_vec()).unwrap());
            assert_eq!(left.as_deref(), shown, "{bytes:?}");
        }
    }

    #[test]
    fn cookies_are_hidden_in_the_head_and_kept() {
        let head = "HTTP/1.1 200 OK\r\nSet-Cookie: a=b \r\ndate: d\r\n\r\nset-cookie: c\r\n";
        let mut bytes = head.as_bytes().to_vec();
        let mut hidden = Vec::new();
        hide_cookies(&mut bytes, &mut hidden);
        let shown = String::from_utf8(bytes).unwrap();
        assert!(!shown.contains("a=b") && shown.ends_with("set-cookie: c\r\n"));
        assert_eq!(hidden, ["a=b"]);
    }
}
