//! HTTP/1.1 requests read from a stream (RFC 9112): strict where laxness would hide a client's
//! fault, bounded in memory whatever comes, and never a panic.

use std::io::{self, Read, Write};
use std::ops::Range;

use super::refusal::Refusal;

const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 64 << 20;
/// What one read asks for. Small, because thousands of connections keep a buffer each.
const READ: usize = 2 << 10;
/// A buffer that grew beyond this for one request is given back after it.
const KEEP: usize = 8 << 10;

/// One connection's incoming side.
#[derive(Debug)]
pub(super) struct Incoming<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Of a chunked body, with the chunks' framing taken off.
    unchunked: Vec<u8>,
}

/// A request read in full; its parts lie in the connection's buffers until it is let go.
#[derive(Debug)]
pub(super) struct Message {
    method: Range<usize>,
    target: Range<usize>,
    body: Body,
    /// Where the next request begins.
    end: usize,
    /// The client wants no other answer on this connection.
    pub(super) close: bool,
}

#[derive(Debug)]
enum Body {
    InPlace(Range<usize>),
    Unchunked,
}

#[derive(Debug)]
pub(super) enum Stop {
    /// The stream ended or broke.
    Closed,
    /// What came is not a request this server takes.
    Refused(Refusal),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

impl<S> Incoming<S>
where
    S: Read + Write,
{
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            unchunked: Vec::new(),
        }
    }

    /// Reads the next request, to the end of its body.
    pub(super) fn next(&mut self) -> Result<Message, Stop> {
        let head_end = self.read_head()?;
        let head = Head::parse(&self.buffer[..head_end])?;
        if head.expects_continue && self.buffer.len() == head_end {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let (body, end) = match head.length {
            Length::Bytes(length) if length > MAX_BODY => return Err(too_large()),
            Length::Bytes(length) => {
                let end = head_end + length;
                while self.buffer.len() < end {
                    self.fill(end - self.buffer.len())?;
                }
                (Body::InPlace(head_end..end), end)
            }
            Length::Chunked => (Body::Unchunked, self.read_chunks(head_end)?),
        };
        Ok(Message {
            method: head.method,
            target: head.target,
            body,
            end,
            close: head.close,
        })
    }

    pub(super) fn method(&self, message: &Message) -> &str {
        // Checked to be ASCII when the head was parsed, as the target was.
        std::str::from_utf8(&self.buffer[message.method.clone()]).unwrap_or_default()
    }

    pub(super) fn target(&self, message: &Message) -> &str {
        std::str::from_utf8(&self.buffer[message.target.clone()]).unwrap_or_default()
    }

    pub(super) fn body(&self, message: &Message) -> &[u8] {
        match &message.body {
            Body::InPlace(range) => &self.buffer[range.clone()],
            Body::Unchunked => &self.unchunked,
        }
    }

    /// Lets go of a request, so that nothing of it is held while its answer waits.
    pub(super) fn release(&mut self, message: &Message) {
        self.buffer.drain(..message.end);
        self.unchunked = Vec::new();
        if self.buffer.capacity() > KEEP {
            self.buffer.shrink_to(KEEP);
        }
    }

    fn read_head(&mut self) -> Result<usize, Stop> {
        let mut searched = 0;
        loop {
            // RFC 9112, section 2.2: an empty line before the request line is passed over.
            let blank = self
                .buffer
                .iter()
                .take_while(|b| matches!(b, b'\r' | b'\n'));
            let blank = blank.count();
            if searched == 0 && blank > 0 {
                self.buffer.drain(..blank);
            }
            if let Some(end) = end_of_head(&self.buffer, searched) {
                return Ok(end);
            }
            if self.buffer.len() > MAX_HEAD {
                let message = "The head of the request is larger than 64 KiB.";
                return Err(refused(431, message));
            }
            // The last three bytes may be the beginning of the end.
            searched = self.buffer.len().saturating_sub(3);
            self.fill(READ)?;
        }
    }

    /// Reads chunks from `at` on into `unchunked`; gives where the next request begins.
    fn read_chunks(&mut self, at: usize) -> Result<usize, Stop> {
        let mut at = at;
        self.unchunked = Vec::new();
        loop {
            let line = self.read_line(at)?;
            let size = chunk_size(&self.buffer[line.clone()])?;
            at = line.end;
            if size == 0 {
                break;
            }
            if self.unchunked.len() + size > MAX_BODY {
                return Err(too_large());
            }
            while self.buffer.len() < at + size + 2 {
                self.fill(at + size + 2 - self.buffer.len())?;
            }
            self.unchunked
                .extend_from_slice(&self.buffer[at..at + size]);
            if &self.buffer[at + size..at + size + 2] != b"\r\n" {
                return Err(refused(400, "A chunk of the body is longer than it says."));
            }
            // What has been copied is dropped, or a long body would be held twice.
            self.buffer.drain(at..at + size + 2);
        }
        let trailers = at;
        loop {
            let line = self.read_line(at)?;
            at = line.end;
            if matches!(&self.buffer[line], b"\r\n" | b"\n") {
                return Ok(at);
            }
            if at - trailers > MAX_HEAD {
                return Err(refused(431, "The trailers are larger than 64 KiB."));
            }
        }
    }

    /// The line that begins at `at`, its end of line included.
    fn read_line(&mut self, at: usize) -> Result<Range<usize>, Stop> {
        const MAX_LINE: usize = 8 << 10;
        loop {
            let seen = self.buffer.get(at..).unwrap_or_default();
            if let Some(length) = seen.iter().position(|byte| *byte == b'\n') {
                return Ok(at..at + length + 1);
            }
            if seen.len() > MAX_LINE {
                return Err(refused(400, "A line of the chunked body is too long."));
            }
            self.fill(READ)?;
        }
    }

    /// Reads once, up to `wanted` bytes and never more than 64 KiB: an announced length is not
    /// believed before the bytes are there.
    fn fill(&mut self, wanted: usize) -> Result<(), Stop> {
        let have = self.buffer.len();
        self.buffer.resize(have + wanted.clamp(READ, 64 << 10), 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[have..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(have + *read.as_ref().unwrap_or(&0));
        match read? {
            0 => Err(Stop::Closed),
            _ => Ok(()),
        }
    }
}

fn refused(status: u16, message: &'static str) -> Stop {
    Stop::Refused(Refusal::new(status, "invalid_request_error", message))
}

fn too_large() -> Stop {
    refused(413, "The body of the request is larger than 64 MiB.")
}

fn end_of_head(buffer: &[u8], from: usize) -> Option<usize> {
    let ends = buffer[from..].windows(4);
    let crlf = ends.clone().position(|window| window == b"\r\n\r\n");
    crlf.map(|position| from + position + 4)
}

struct Head {
    method: Range<usize>,
    target: Range<usize>,
    length: Length,
    close: bool,
    expects_continue: bool,
}

enum Length {
    Bytes(usize),
    Chunked,
}

impl Head {
    /// Parses a head that ends with an empty line.
    fn parse(head: &[u8]) -> Result<Self, Stop> {
        const NOT_HTTP: &str = "This is not an HTTP/1.1 request.";
        let mut lines = head.split(|byte| *byte == b'\n').map(without_return);
        let line = lines.next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(refused(400, NOT_HTTP));
        };
        if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
            return Err(refused(400, NOT_HTTP));
        }
        if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
            return Err(refused(400, NOT_HTTP));
        }
        let persistent = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ if version.starts_with(b"HTTP/") => {
                return Err(refused(505, "This server speaks HTTP/1.1."));
            }
            _ => return Err(refused(400, NOT_HTTP)),
        };
        let mut parsed = Self {
            method: 0..method.len(),
            target: method.len() + 1..method.len() + 1 + target.len(),
            length: Length::Bytes(0),
            close: !persistent,
            expects_continue: false,
        };
        let mut announced = None;
        let mut chunked = false;
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = split_field(line)?;
            if name.eq_ignore_ascii_case(b"content-length") {
                let length = content_length(value)?;
                if announced.is_some_and(|earlier| earlier != length) {
                    return Err(refused(400, "The content-length is given twice."));
                }
                announced = Some(length);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(refused(501, "The only transfer-encoding taken is chunked."));
                }
                chunked = true;
            } else if name.eq_ignore_ascii_case(b"connection") {
                let mut options = value.split(|byte| *byte == b',');
                parsed.close |=
                    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
            } else if name.eq_ignore_ascii_case(b"expect") {
                parsed.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
            }
        }
        parsed.length = match (announced, chunked) {
            // RFC 9112, section 6.1: both is how requests are smuggled.
            (Some(_), true) => return Err(refused(400, "Both content-length and chunked.")),
            (None, true) => Length::Chunked,
            (announced, false) => Length::Bytes(announced.unwrap_or(0)),
        };
        Ok(parsed)
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Stop> {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(refused(400, "A header is not of the form name: value."));
    }
    Ok((name, value[1..].trim_ascii()))
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn content_length(value: &[u8]) -> Result<usize, Stop> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(refused(400, "The content-length is not a number."));
    }
    let text = std::str::from_utf8(value).unwrap_or_default();
    // All digits: what does not parse is too long to be anything but too large.
    text.parse().map_err(|_| too_large())
}

fn chunk_size(line: &[u8]) -> Result<usize, Stop> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let text = std::str::from_utf8(digits.trim_ascii()).unwrap_or_default();
    let is_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let size = usize::from_str_radix(text, 16);
    match size {
        Ok(size) if is_hex && size <= MAX_BODY => Ok(size),
        _ if is_hex => Err(too_large()),
        _ => Err(refused(400, "The size of a chunk is not a number.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        let mut incoming = Incoming::new(Slow {
            bytes,
            step,
            written,
        });
        let mut requests = Vec::new();
        while let Ok(message) = incoming.next() {
            requests.push((
                incoming.method(&message).to_owned(),
                incoming.target(&message).to_owned(),
                incoming.body(&message).to_vec(),
            ));
            incoming.release(&message);
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
