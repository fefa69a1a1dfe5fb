//! HTTP/1.1 requests read from a stream (RFC 9112): strict where laxness would hide a client's
//! fault, bounded in memory whatever comes, and never a panic.

use std::io::Read;

use httparse::{EMPTY_HEADER, Status};

use super::api_error::ApiError;

const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 64;
const MAX_BODY: usize = 64 << 20;
/// What one read asks for. It lies on the stack of each of thousands of connections.
const READ: usize = 2 << 10;

/// A request, read to the end of its body.
#[derive(Debug, Default)]
pub(super) struct ReceivedRequest {
    pub(super) method: String,
    /// As in the request line, query included.
    pub(super) target: String,
    pub(super) body: Vec<u8>,
    /// The client wants no other answer on this connection.
    pub(super) close: bool,
}

impl ReceivedRequest {
    /// The target without its query, and without the version in front.
    pub(super) fn path(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.strip_prefix("/v1").unwrap_or(path)
    }

    /// Whether the path is Anthropic's.
    pub(super) fn is_anthropic(&self) -> bool {
        let rest = self.path().strip_prefix("/messages");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Why there is no further request.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The stream ended or broke.
    Closed,
    /// What came is not a request this server takes; and whether its path is Anthropic's.
    Refused(ApiError, bool),
}

/// Reads one connection's requests, one after the other.
#[derive(Debug)]
pub(super) struct RequestReader<S> {
    stream: S,
    /// What has come and is not taken yet: nothing, without pipelining, while an answer waits.
    buffer: Vec<u8>,
}

impl<S: Read> RequestReader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Reads the next request.
    pub(super) fn next(&mut self) -> Result<ReceivedRequest, ReadError> {
        let (mut request, length) = loop {
            if let Some((request, length, end)) = parse_head(&self.buffer)? {
                self.buffer.drain(..end);
                break (request, length);
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(refused(431, "The head is larger than 64 KiB."));
            }
            self.fill()?;
        };
        if length > MAX_BODY {
            return Err(ReadError::Refused(too_large(), request.is_anthropic()));
        }
        request.body = self.take(length)?;
        Ok(request)
    }

    /// Takes the next `length` bytes.
    fn take(&mut self, length: usize) -> Result<Vec<u8>, ReadError> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Reads once.
    fn fill(&mut self) -> Result<(), ReadError> {
        let mut bytes = [0; READ];
        match self.stream.read(&mut bytes) {
            Ok(0) | Err(_) => Err(ReadError::Closed),
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }
}

/// The request whose head `bytes` begin with, once that is whole, without its body; and the lengths
/// of body and head.
fn parse_head(bytes: &[u8]) -> Result<Option<(ReceivedRequest, usize, usize)>, ReadError> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let end = match parsed.parse(bytes) {
        Ok(Status::Complete(end)) => end,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::Version) => return Err(refused(505, "This server speaks HTTP/1.1.")),
        Err(error) => return Err(refused(400, format!("This is not HTTP/1.1: {error}."))),
    };
    let target = parsed.path.unwrap_or_default();
    if !target.is_ascii() {
        return Err(refused(400, "The request's target is not ASCII."));
    }
    let mut request = ReceivedRequest {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: target.to_owned(),
        close: parsed.version == Some(0),
        ..ReceivedRequest::default()
    };
    let mut announced = None;
    for header in parsed.headers {
        let value = header.value.trim_ascii();
        let is = |name| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let length = content_length(value)?;
            if announced.is_some_and(|earlier| earlier != length) {
                return Err(refused(400, "The content-length is given twice."));
            }
            announced = Some(length);
        } else if is("transfer-encoding") {
            return Err(refused(411, "A body must have a content-length here."));
        } else if is("connection") {
            let mut options = value.split(|byte| *byte == b',');
            request.close |=
                options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
        }
    }
    Ok(Some((request, announced.unwrap_or(0), end)))
}

fn content_length(value: &[u8]) -> Result<usize, ReadError> {
    let digits = std::str::from_utf8(value).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused(400, "The content-length is not a number."));
    }
    // All digits: what does not parse is too long to be anything but too large.
    Ok(digits.parse().unwrap_or(usize::MAX))
}

fn too_large() -> ApiError {
    ApiError::invalid(413, "The body of the request is larger than 64 MiB.")
}

fn refused(status: u16, message: impl Into<String>) -> ReadError {
    ReadError::Refused(ApiError::invalid(status, message), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io;

    /// A stream that gives `bytes`, at most `step` at a time.
    struct Slow<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let step = self.step.min(buffer.len());
            self.bytes.take(step as u64).read(buffer).inspect(|count| {
                self.bytes = &self.bytes[*count..];
            })
        }
    }

    fn read(bytes: &[u8], step: usize) -> Vec<(String, String, Vec<u8>)> {
        let mut reader = RequestReader::new(Slow { bytes, step });
        let mut requests = Vec::new();
        while let Ok(request) = reader.next() {
            requests.push((request.method, request.target, request.body));
        }
        requests
    }

    const THREE: &[u8] = b"\r\nPOST /a?b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\
        POST /c HTTP/1.1\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello\
        GET /d HTTP/1.1\r\n\r\n";

    #[test]
    fn requests_are_the_same_however_their_bytes_arrive() {
        let all = read(THREE, usize::MAX);
        let hello = |method: &str, target: &str, body: &str| {
            (
                method.to_owned(),
                target.to_owned(),
                body.as_bytes().to_vec(),
            )
        };
        let expected = [
            hello("POST", "/a?b", "hello"),
            hello("POST", "/c", "hello"),
            hello("GET", "/d", ""),
        ];
        assert_eq!(all, expected);
        for step in 1..20 {
            assert_eq!(read(THREE, step), expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_request_cut_short_is_no_request() {
        for end in 0..THREE.len() {
            let whole = read(&THREE[..end], 7);
            assert!(whole.len() < 3, "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1_usize..64) {
            read(&bytes, step);
        }

        #[test]
        fn no_change_to_a_request_makes_it_panic(at in 0..THREE.len(), byte: u8, step in 1_usize..64) {
            let mut bytes = THREE.to_vec();
            bytes[at] = byte;
            read(&bytes, step);
        }
    }
}
