//! A loopback HTTP server that keeps no record and costs little, for tests with very many requests
//! and for benches: a thread a connection, the connection kept, an answer from a closure.
//!
//! It understands what the tool sends (a head, `content-length`, a body) and nothing else; what
//! misbehaves is `faultd`'s work.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::listener::Listener;

/// What comes back, and when.
#[derive(Clone, Debug)]
pub struct Quick {
    /// The whole answer, head included.
    pub bytes: Cow<'static, [u8]>,
    pub after: Duration,
}

impl Quick {
    /// This status with a JSON body, at once.
    pub fn json(status: u16, body: &str) -> Self {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Quick\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        Self {
            bytes: Cow::Owned([head.as_bytes(), body.as_bytes()].concat()),
            after: Duration::ZERO,
        }
    }

    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

/// A server on 127.0.0.1, running until dropped.
pub struct QuickServer(Listener);

impl QuickServer {
    /// Answers each request body as `answer` says, called on the connection's own thread.
    pub fn start(answer: impl Fn(&[u8]) -> Quick + Send + Sync + 'static) -> Self {
        Self(Listener::start(move |_, stream| {
            // A client that is gone is what many of these tests are about.
            let _ = serve(&answer, stream);
        }))
    }

    /// `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.0.addr())
    }
}

fn serve(answer: &impl Fn(&[u8]) -> Quick, mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut filled = 0;
    loop {
        let (head, length) = loop {
            if let Some(request) = head(&buffer[..filled]) {
                break request;
            }
            filled += read(stream, &mut buffer, filled)?;
        };
        while filled < head + length {
            filled += read(stream, &mut buffer, filled)?;
        }
        let answer = answer(&buffer[head..head + length]);
        if !answer.after.is_zero() {
            thread::sleep(answer.after);
        }
        stream.write_all(&answer.bytes)?;
        buffer.copy_within(head + length..filled, 0);
        filled -= head + length;
    }
}

fn read(mut stream: &TcpStream, buffer: &mut Vec<u8>, filled: usize) -> io::Result<usize> {
    if filled == buffer.len() {
        buffer.resize(2 * filled, 0);
    }
    match stream.read(&mut buffer[filled..])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => Ok(read),
    }
}

/// The lengths of a head that is whole, and of its body.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    const NAME: &[u8] = b"\r\ncontent-length:";
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let mut lines = bytes[..end].windows(NAME.len());
    let at = lines.position(|name| name.eq_ignore_ascii_case(NAME));
    let length = at.map_or(0, |at| {
        let digits = bytes[at + NAME.len()..].trim_ascii_start();
        let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |sum, digit| 10 * sum + usize::from(digit - b'0'))
    });
    Some((end, length))
}
