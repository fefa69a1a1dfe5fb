//! HTTP/1.1 requests read from a stream (RFC 9112): strict where laxness would hide a client's
//! fault, bounded in memory whatever comes, and never a panic.

use std::io::{Read, Write};

use httparse::{EMPTY_HEADER, Status};

use super::api_error::ApiError;

const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 64;
const MAX_LINE: usize = 8 << 10;
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
    /// The body's length; chunks say their own.
    pub(super) length: Option<usize>,
    pub(super) expects_continue: bool,
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

impl<S: Read + Write> RequestReader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Reads the next request.
    pub(super) fn next(&mut self) -> Result<ReceivedRequest, ReadError> {
        let mut request = self.parse(parse_head, MAX_HEAD, "The head is larger than 64 KiB.")?;
        if request.expects_continue && self.buffer.is_empty() {
            let sent = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            sent.map_err(|_| ReadError::Closed)?;
        }
        let body = match request.length {
            None => self.read_chunks(),
            Some(length) if length > MAX_BODY => Err(too_large()),
            Some(length) => self.take(length),
        };
        request.body = body.map_err(|error| match error {
            ReadError::Refused(error, _) => ReadError::Refused(error, request.is_anthropic()),
            ReadError::Closed => error,
        })?;
        Ok(request)
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut body = Vec::new();
        loop {
            let size = self.parse(parse_chunk_size, MAX_LINE, "A chunk's line is too long.")?;
            if size == 0 {
                break;
            }
            if size > MAX_BODY - body.len() {
                return Err(too_large());
            }
            let chunk = self.take(size + 2)?;
            let Some(chunk) = chunk.strip_suffix(b"\r\n") else {
                return Err(refused(400, "A chunk of the body is longer than it says."));
            };
            body.extend_from_slice(chunk);
        }
        self.parse(parse_trailers, MAX_HEAD, "The trailers are too large.")?;
        Ok(body)
    }

    /// Reads until `parse` finds a whole one of what it looks for, and takes that off the buffer.
    /// Beyond `most` bytes it is refused as `too_long`.
    fn parse<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, ReadError>,
        most: usize,
        too_long: &'static str,
    ) -> Result<T, ReadError> {
        loop {
            if let Some((found, length)) = parse(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(found);
            }
            if self.buffer.len() > most {
                return Err(refused(431, too_long));
            }
            self.fill()?;
        }
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

/// The request whose head `bytes` begin with, once that is whole, without its body; and the head's
/// length.
fn parse_head(bytes: &[u8]) -> Result<Option<(ReceivedRequest, usize)>, ReadError> {
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
    let (mut announced, mut chunked) = (None, false);
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
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(refused(501, "The only transfer-encoding taken is chunked."));
            }
            chunked = true;
        } else if is("connection") {
            let mut options = value.split(|byte| *byte == b',');
            request.close |=
                options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
        } else if is("expect") {
            request.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
        }
    }
    request.length = match announced {
        // RFC 9112, section 6.1: both is how requests are smuggled.
        Some(_) if chunked => return Err(refused(400, "Both content-length and chunked.")),
        None if chunked => None,
        announced => Some(announced.unwrap_or(0)),
    };
    Ok(Some((request, end)))
}

fn content_length(value: &[u8]) -> Result<usize, ReadError> {
    let digits = std::str::from_utf8(value).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused(400, "The content-length is not a number."));
    }
    // All digits: what does not parse is too long to be anything but too large.
    digits.parse().map_err(|_| too_large())
}

/// The size on the line that `bytes` begin with, and the line's length.
fn parse_chunk_size(bytes: &[u8]) -> Result<Option<(usize, usize)>, ReadError> {
    // An empty line would be read as a size of 0.
    let is_number = bytes.first().is_none_or(u8::is_ascii_hexdigit);
    match httparse::parse_chunk_size(bytes) {
        Ok(Status::Complete((end, size))) if is_number => {
            Ok(Some((usize::try_from(size).unwrap_or(usize::MAX), end)))
        }
        Ok(Status::Partial) if is_number => Ok(None),
        _ => Err(refused(400, "The size of a chunk is not a number.")),
    }
}

fn parse_trailers(bytes: &[u8]) -> Result<Option<((), usize)>, ReadError> {
    match httparse::parse_headers(bytes, &mut [EMPTY_HEADER; MAX_HEADERS]) {
        Ok(Status::Complete((end, _))) => Ok(Some(((), end))),
        Ok(Status::Partial) => Ok(None),
        Err(_) => Err(refused(400, "A trailer is not of the form name: value.")),
    }
}

fn too_large() -> ReadError {
    refused(413, "The body of the request is larger than 64 MiB.")
}

fn refused(status: u16, message: impl Into<String>) -> ReadError {
    ReadError::Refused(ApiError::invalid(status, message), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io;

    /// A stream that gives `bytes`, at most `step` at a time, and takes whatever is written.
    struct Slow<'a> {
        bytes: &'a [u8],
        step: usize,
        written: Vec<u8>,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let step = self.step.min(buffer.len());
            self.bytes.take(step as u64).read(buffer).inspect(|count| {
                self.bytes = &self.bytes[*count..];
            })
        }
    }

    impl Write for Slow<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn read(bytes: &[u8], step: usize) -> Vec<(String, String, Vec<u8>)> {
        let written = Vec::new();
        let mut reader = RequestReader::new(Slow {
            bytes,
            step,
            written,
        });
        let mut requests = Vec::new();
        while let Ok(request) = reader.next() {
            requests.push((request.method, request.target, request.body));
        }
        requests
    }

    const THREE: &[u8] = b"\r\nPOST /a?b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\
        POST /c HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n2;x\r\nhe\r\n3\r\nllo\r\n0\r\nt: v\r\n\r\n\
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
