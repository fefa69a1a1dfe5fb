//! A loopback HTTP server that keeps no record and costs little, for tests with very many requests
//! and for benches: a thread a connection, the connection kept, an answer from a closure.
//!
//! It understands what the tool sends (a head, `content-length`, a body) and nothing else; what
//! misbehaves is `faultd`'s work.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

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
pub struct QuickServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

type Answer = dyn Fn(&[u8]) -> Quick + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    /// `None` once the server is stopping.
    open: Mutex<Option<Vec<Arc<TcpStream>>>>,
}

impl QuickServer {
    /// Answers each request body as `answer` says, called on the connection's own thread.
    pub fn start(answer: impl Fn(&[u8]) -> Quick + Send + Sync + 'static) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a free port on 127.0.0.1");
        socket.listen(4096).expect("a listening socket");
        let listener = TcpListener::from(socket);
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            open: Mutex::new(Some(Vec::new())),
        });
        let theirs = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &theirs));
        Self {
            addr,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }
}

impl Drop for QuickServer {
    fn drop(&mut self) {
        for stream in self.shared.open().take().unwrap_or_default() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the acceptor out of its accept.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Option<Vec<Arc<TcpStream>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        match &mut *shared.open() {
            Some(open) => open.push(Arc::clone(&stream)),
            None => break,
        }
        let theirs = Arc::clone(shared);
        let serving = move || {
            // A client that is gone is what many of these tests are about.
            let _ = serve(&theirs, &stream);
            if let Some(open) = &mut *theirs.open() {
                open.retain(|other| !Arc::ptr_eq(other, &stream));
            }
        };
        let small = thread::Builder::new().stack_size(256 << 10);
        threads.push(small.spawn(serving).expect("a thread for the connection"));
        threads.retain(|thread| !thread.is_finished());
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn serve(shared: &Shared, mut stream: &TcpStream) -> io::Result<()> {
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
        let answer = (shared.answer)(&buffer[head..head + length]);
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
