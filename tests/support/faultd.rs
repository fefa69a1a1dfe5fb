//! faultd: a loopback HTTP server that misbehaves as told.
//!
//! A script looks at each request and says what comes back, byte for byte if need be: any status,
//! half a body, a lie about its length, one byte a second, a reset, nothing at all. Every request
//! is kept as it came, with its time and its connection, for the test to look at afterwards.
//!
//! ```ignore
//! let server = Faultd::replies([
//!     Reply::status(429).header("retry-after", "2"),
//!     Reply::ok_chat("hello"),
//! ]);
//! // ... point a client at server.url() ...
//! let seen = server.requests();
//! assert!(seen[1].at - seen[0].at >= Duration::from_secs(2));
//! ```

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::listener::Listener;
use super::reply::End;
pub use super::reply::Reply;
use super::wire::header;

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its number among all requests, from 0.
    pub index: usize,
    /// The number of its connection, from 0.
    pub connection: usize,
    pub method: String,
    /// As in the request line, query included.
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// Empty when the script answers at the head.
    pub body: Vec<u8>,
    /// When it had been read.
    pub at: Instant,
}

impl Seen {
    /// The first value under `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the client sent JSON")
    }
}

/// A scripted server on 127.0.0.1, running until dropped.
pub struct Faultd {
    shared: Arc<Shared>,
    listener: Listener,
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    /// The script answers when the head has come, and the body is never read.
    at_head: bool,
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    requests: Vec<Seen>,
    in_flight: usize,
    in_flight_peak: usize,
}

impl Faultd {
    /// Answers each request as `script` says.
    pub fn script(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Box::new(script), false)
    }

    /// Answers with these replies in the order the requests arrive; the last one from then on.
    pub fn replies(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies: Vec<Reply> = replies.into_iter().collect();
        assert!(!replies.is_empty(), "no replies to answer with");
        Self::script(move |seen| replies[seen.index.min(replies.len() - 1)].clone())
    }

    /// Answers when a request's head has come, while its body may still be on its way. The body is
    /// never read, so the connection ends with the reply, and with a reset if bytes were waiting.
    pub fn at_head(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Box::new(script), true)
    }

    fn start(script: Box<Script>, at_head: bool) -> Self {
        let shared = Arc::new(Shared {
            script,
            at_head,
            state: Mutex::default(),
            stopped: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let listener = Listener::start(move |connection, stream| {
            // What a broken connection ends with is for the client to notice.
            let _ = serve(&theirs, stream, connection);
        });
        Self { shared, listener }
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// `http://127.0.0.1:PORT`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Every request so far, in the order they had been read.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.lock().requests.clone()
    }

    /// How many requests have come.
    pub fn count(&self) -> usize {
        self.shared.lock().requests.len()
    }

    /// How many connections have been accepted.
    pub fn connections(&self) -> usize {
        self.listener.accepted()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.listener.open()
    }

    /// The most connections open at once.
    pub fn open_peak(&self) -> usize {
        self.listener.open_peak()
    }

    /// The most requests being answered at once.
    pub fn in_flight_peak(&self) -> usize {
        self.shared.lock().in_flight_peak
    }
}

impl Drop for Faultd {
    fn drop(&mut self) {
        // Ends the waits of scripted delays. The listener then ends the connections.
        self.shared.lock().stopping = true;
        self.shared.stopped.notify_all();
    }
}

/// A port on 127.0.0.1 where nobody listens: connections are refused.
pub fn refused_addr() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
}

fn serve(shared: &Shared, stream: &TcpStream, connection: usize) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(mut seen) = read_request(stream, &mut buffer, shared.at_head)? {
        seen.connection = connection;
        {
            let mut state = shared.lock();
            seen.index = state.requests.len();
            // Under the lock, so that times are in order.
            seen.at = Instant::now();
            state.requests.push(seen.clone());
            state.in_flight += 1;
            state.in_flight_peak = state.in_flight_peak.max(state.in_flight);
        }
        let reply = (shared.script)(&seen);
        let sent = send(shared, stream, &reply);
        shared.lock().in_flight -= 1;
        sent?;
        match reply.end {
            End::Keep if !shared.at_head => {}
            End::Keep | End::Close => break,
            // With no time to linger, closing sends RST in place of FIN.
            End::Reset => return SockRef::from(stream).set_linger(Some(Duration::ZERO)),
        }
    }
    Ok(())
}

fn send(shared: &Shared, stream: &TcpStream, reply: &Reply) -> io::Result<()> {
    let mut stream = stream;
    if !reply.delay.is_zero() {
        shared.wait(reply.delay)?;
    }
    let bytes = reply.bytes();
    match reply.drip {
        None => stream.write_all(&bytes)?,
        Some((size, every)) => {
            for piece in bytes.chunks(size) {
                stream.write_all(piece)?;
                shared.wait(every)?;
            }
        }
    }
    if reply.hold {
        // Whatever else the client sends is read and dropped, until it or the server ends it.
        io::copy(&mut stream, &mut io::sink())?;
    }
    Ok(())
}

impl Shared {
    /// The state, whatever a panicking script left of it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, unless the server stops first.
    fn wait(&self, span: Duration) -> io::Result<()> {
        let waited = self
            .stopped
            .wait_timeout_while(self.lock(), span, |state| !state.stopping);
        let (_state, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
        if outcome.timed_out() {
            Ok(())
        } else {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }
}

/// Reads one request; `None` at the connection's end.
fn read_request(
    stream: &TcpStream,
    buffer: &mut Vec<u8>,
    at_head: bool,
) -> io::Result<Option<Seen>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if read_more(stream, buffer)? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let fields = lines.filter_map(|line| line.split_once(':'));
    let mut seen = Seen {
        index: 0,
        connection: 0,
        method: word(),
        path: word(),
        headers: fields
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect(),
        body: Vec::new(),
        at: Instant::now(),
    };
    if at_head {
        return Ok(Some(seen));
    }
    if seen.header("expect").is_some() {
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    seen.body = if seen.header("transfer-encoding").is_some() {
        read_chunks(stream, buffer)?
    } else {
        let length = seen.header("content-length").unwrap_or("0");
        let length = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        take(stream, buffer, length)?
    };
    Ok(Some(seen))
}

fn read_chunks(stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        while !buffer.contains(&b'\n') {
            if read_more(stream, buffer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let line = buffer.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        let size = String::from_utf8_lossy(&take(stream, buffer, line + 1)?).into_owned();
        let size =
            usize::from_str_radix(size.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let chunk = take(stream, buffer, size + 2)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

/// Takes `count` bytes off the front of what the client sends.
fn take(stream: &TcpStream, buffer: &mut Vec<u8>, count: usize) -> io::Result<Vec<u8>> {
    while buffer.len() < count {
        if read_more(stream, buffer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let rest = buffer.split_off(count);
    Ok(std::mem::replace(buffer, rest))
}

fn read_more(mut stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; 16 << 10];
    let read = stream.read(&mut piece)?;
    buffer.extend_from_slice(&piece[..read]);
    Ok(read)
}
