//! As much of HTTP/1.1 as the server and the raw client need: where a message's head ends and how
//! long its body is.

use crate::Result;

/// The head of a request or an answer.
#[derive(Debug)]
pub struct Head<'a> {
    /// The request or status line.
    pub first_line: &'a [u8],
    /// Bytes of the whole message: head, blank line and body.
    pub message: usize,
}

/// Reads the head at the start of `bytes`; `None` while it is not all there.
///
/// # Errors
/// A body whose length is not given up front.
pub fn head(bytes: &[u8]) -> Result<Option<Head<'_>>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let mut lines = bytes[..end]
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii_end);
    let first_line = lines.next().unwrap_or_default();
    let mut body = 0;
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            body = std::str::from_utf8(value)?.parse()?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Err("a body in chunks: this server wants a content-length".into());
        }
    }
    Ok(Some(Head {
        first_line,
        message: end + 4 + body,
    }))
}

#[cfg(test)]
mod tests {
    use super::head;

    #[test]
    fn a_message_is_its_head_and_its_body() {
        let bytes = b"POST /v1 HTTP/1.1\r\nHost: a\r\nCONTENT-Length: 3\r\n\r\nabcPOST";
        let head = head(bytes).unwrap().unwrap();
        assert_eq!(head.first_line, b"POST /v1 HTTP/1.1");
        assert_eq!(&bytes[head.message..], b"POST");
    }

    #[test]
    fn half_a_head_is_none_and_chunks_are_refused() {
        assert!(head(b"POST /v1 HTTP/1.1\r\nHost: a\r\n").unwrap().is_none());
        assert!(head(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
