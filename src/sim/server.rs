//! The simulated provider on a socket: one small thread a connection, on 127.0.0.1 only.
//!
//! A thin shell. It reads requests (`http`), asks the model what becomes of them, waits on the
//! clock and writes. The server is owned by its handle: dropping it stops the listener, closes
//! every connection, whatever it waits for, and joins every thread.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::answer::{Answer, Framing, not_a_request, render};
use super::endpoints::{Request, draft};
use super::http::{Incoming, Stop};
use super::model::{Fate, Model, Ruling};
use super::spec::SimSpec;
use super::stats::SimStats;
use crate::clock::{Clock, Parker};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;

/// A connection's thread parses JSON of any shape: `serde_json` stops at 128 levels, which in a
/// debug build take more than 256 KiB of stack. What is not touched costs nothing resident.
const STACK: usize = 512 << 10;

/// Linux's own default of 128 makes a thousand clients that connect at once wait a second for their
/// SYN to be sent again.
const BACKLOG: i32 = 4096;

/// A simulated provider, running until dropped.
///
/// ```
/// use tollgate::sim::{SimServer, SimSpec};
///
/// let server = SimServer::start(SimSpec::default().seed(42))?;
/// assert!(server.base_url().starts_with("http://127.0.0.1:"));
/// assert!(server.base_url().ends_with("/v1"));
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the server stops when it is dropped"]
pub struct SimServer {
    shared: Arc<Shared>,
    addr: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

/// Settings of a [`SimServer`] that are not the provider's behaviour; see [`SimServer::builder`].
#[derive(Clone, Debug)]
pub struct SimServerBuilder {
    spec: SimSpec,
    port: u16,
    clock: Clock,
    record_arrivals: bool,
}

impl SimServerBuilder {
    /// The port to listen on; a free one unless set.
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The clock that arrivals are read from and latencies waited on; the machine's unless set.
    ///
    /// On a [`VirtualClock`](crate::VirtualClock) an answer comes when the test has moved the clock
    /// over its latency; each waiting connection counts as one parked thread.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Whether to keep the time of every arrival for [`SimStats::arrivals`] (16 bytes each); off
    /// unless set.
    pub fn record_arrivals(self, record: bool) -> Self {
        Self {
            record_arrivals: record,
            ..self
        }
    }

    /// Starts the server.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the spec asks for what cannot be simulated, [`ErrorKind::Io`] if the
    /// port is taken or no thread can be started.
    pub fn start(self) -> Result<SimServer> {
        let model = Model::new(self.spec.checked()?, self.record_arrivals);
        let failed = |cause: io::Error| {
            let message = format!("the simulated provider cannot listen on port {}", self.port);
            Error::new(ErrorKind::Io, message).with_source(cause)
        };
        let listener = listen(self.port).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            seed: self.spec.seed,
            started: self.clock.now(),
            clock: self.clock.clone(),
            model: Mutex::new(model),
            open: Mutex::new(Open::default()),
        });
        let theirs = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("tollgate-sim".into())
            .stack_size(STACK)
            .spawn(move || accept(&listener, &theirs))
            .map_err(failed)?;
        Ok(SimServer {
            shared,
            addr,
            acceptor: Some(acceptor),
        })
    }
}

impl SimServer {
    /// Starts a server on a free port.
    ///
    /// # Errors
    /// As [`SimServerBuilder::start`].
    pub fn start(spec: SimSpec) -> Result<Self> {
        Self::builder(spec).start()
    }

    /// A server with settings of its own: its port, its clock, whether arrivals are recorded.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate::VirtualClock;
    /// use tollgate::sim::{SimServer, SimSpec};
    ///
    /// let time = VirtualClock::new();
    /// let server = SimServer::builder(SimSpec::default().latency(Duration::from_secs(60)))
    ///     .clock(time.clock())
    ///     .record_arrivals(true)
    ///     .start()?;
    /// assert!(server.stats().arrivals.is_empty());
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    pub fn builder(spec: SimSpec) -> SimServerBuilder {
        SimServerBuilder {
            spec,
            port: 0,
            clock: Clock::system(),
            record_arrivals: false,
        }
    }

    /// The address it listens on: 127.0.0.1 and its port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What to give a client as its base URL: `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// What it has seen up to now.
    pub fn stats(&self) -> SimStats {
        self.shared.model.lock().stats().clone()
    }
}

impl Drop for SimServer {
    fn drop(&mut self) {
        let open = {
            let mut open = self.shared.open.lock();
            open.stopping = true;
            std::mem::take(&mut open.connections)
        };
        for connection in open.values() {
            // Already closed by the other side, if it fails.
            let _ = connection.stream.shutdown(Shutdown::Both);
            connection.parker.unpark();
        }
        drop(open);
        // Nothing in std ends an accept: a last connection does. It fails only where the acceptor
        // is busy with others, and it then sees the flag.
        let _ = TcpStream::connect_timeout(&self.addr, Duration::from_secs(1));
        if let Some(acceptor) = self.acceptor.take() {
            // A panic has been printed by its thread; a drop must not add another.
            let _ = acceptor.join();
        }
    }
}

#[derive(Debug)]
struct Shared {
    seed: u64,
    started: Instant,
    clock: Clock,
    model: Mutex<Model>,
    open: Mutex<Open>,
}

/// The connections to be closed at the end.
#[derive(Debug, Default)]
struct Open {
    stopping: bool,
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    parker: Arc<Parker>,
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // On Windows it means that another process may take the port over.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Takes connections until told to stop, and joins their threads.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut sweep_at = 64;
    let pause = Parker::new();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let Some((id, connection)) = shared.open(stream) else {
                    break;
                };
                let theirs = Arc::clone(shared);
                let spawned = thread::Builder::new()
                    .name("tollgate-sim".into())
                    .stack_size(STACK)
                    .spawn(move || {
                        serve(&theirs, &connection);
                        theirs.close(id);
                    });
                match spawned {
                    Ok(thread) => threads.push(thread),
                    // No thread to be had: the client sees its connection closed, as it would at
                    // a server that is full.
                    Err(_) => shared.close(id),
                }
            }
            Err(_) if shared.open.lock().stopping => break,
            // Out of descriptors, most likely. Trying again at once would only burn the processor
            // that others need to close theirs.
            Err(_) => {
                let soon = Instant::now() + Duration::from_millis(10);
                Clock::system().park(&pause, Some(soon));
            }
        }
        if threads.len() >= sweep_at {
            threads.retain(|thread| !thread.is_finished());
            sweep_at = threads.len() * 2 + 64;
        }
    }
    for thread in threads {
        // As in `drop`: a panic has been printed by its thread.
        let _ = thread.join();
    }
}

impl Shared {
    /// Enters a connection, unless the server is stopping.
    fn open(&self, stream: TcpStream) -> Option<(u64, Arc<Connection>)> {
        // Without it an answer sent in two writes waits for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let connection = Arc::new(Connection {
            stream,
            parker: Parker::new(),
        });
        let (id, count) = {
            let mut open = self.open.lock();
            if open.stopping {
                return None;
            }
            let id = open.next;
            open.next += 1;
            open.connections.insert(id, Arc::clone(&connection));
            (id, open.connections.len())
        };
        self.model.lock().opened(count);
        Some((id, connection))
    }

    fn close(&self, id: u64) {
        let gone = self.open.lock().connections.remove(&id);
        drop(gone);
    }

    /// Waits until `due`; false if the server stops first.
    fn wait_until(&self, due: Instant, parker: &Arc<Parker>) -> bool {
        while self.clock.now() < due {
            if self.open.lock().stopping {
                return false;
            }
            self.clock.park(parker, Some(due));
        }
        true
    }
}

/// Answers one connection's requests until either side is done with it.
fn serve(shared: &Shared, connection: &Connection) {
    let mut incoming = Incoming::new(&connection.stream);
    loop {
        match incoming.next() {
            Ok(message) => {
                let request = Request {
                    method: incoming.method(&message),
                    path: incoming.target(&message),
                    body: incoming.body(&message),
                };
                let arrived = shared.clock.now();
                let head_only = request.method == "HEAD";
                let draft = draft(shared.seed, &request);
                incoming.release(&message);
                let since_start = arrived.saturating_duration_since(shared.started);
                let ruling = shared.model.lock().rule(since_start, &draft);
                let framing = Framing {
                    head_only,
                    close: message.close,
                    date: shared.clock.wall(),
                };
                let answer = render(draft, &ruling, framing);
                let sent = send(shared, connection, &answer, &ruling, arrived);
                let broken = matches!(ruling.fate, Fate::Reset | Fate::Cut);
                if message.close || broken || sent.is_err() {
                    return;
                }
            }
            Err(Stop::Closed) => return,
            Err(Stop::Refused(refusal)) => {
                shared.model.lock().not_a_request();
                let answer = not_a_request(&refusal, shared.clock.wall());
                if (&connection.stream).write_all(&answer.bytes).is_ok() {
                    linger(&connection.stream);
                }
                return;
            }
        }
    }
}

/// Sends an answer at its time: whole when its latency is over, a stream's chunks spread over it.
fn send(
    shared: &Shared,
    connection: &Connection,
    answer: &Answer,
    ruling: &Ruling,
    arrived: Instant,
) -> io::Result<()> {
    let (fate, status) = (ruling.fate, answer.status);
    let write = |piece: &Piece<'_>| {
        if shared.wait_until(arrived + piece.after, &connection.parker) {
            (&connection.stream).write_all(piece.bytes)
        } else {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    };
    let pieces = pieces(answer, ruling);
    let (before, last) = pieces.split_at(pieces.len().saturating_sub(1));
    let due = arrived + ruling.delay;
    if before.iter().try_for_each(write).is_err() || !shared.wait_until(due, &connection.parker) {
        shared.model.lock().unsent();
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    shared.model.lock().answered(fate, status);
    let sent = match fate {
        // With no time to linger, closing sends RST in place of FIN.
        Fate::Reset => SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO)),
        _ => last.iter().try_for_each(write),
    };
    if sent.is_err() {
        shared.model.lock().recant(fate, status);
    }
    sent
}

/// Bytes to write at once, and how long after the request's arrival.
struct Piece<'a> {
    after: Duration,
    bytes: &'a [u8],
}

fn pieces<'a>(answer: &'a Answer, ruling: &Ruling) -> Vec<Piece<'a>> {
    let delay = ruling.delay;
    let cut = ruling.fate == Fate::Cut;
    if ruling.fate == Fate::Reset {
        return Vec::new();
    }
    if answer.chunks.is_empty() {
        let end = if cut { answer.half } else { answer.bytes.len() };
        let bytes = &answer.bytes[..end];
        return vec![Piece {
            after: delay,
            bytes,
        }];
    }
    let step = delay / u32::try_from(answer.chunks.len()).unwrap_or(u32::MAX);
    let end = if cut {
        answer.half
    } else {
        answer.chunks.len()
    };
    let head = Piece {
        after: step,
        bytes: &answer.bytes,
    };
    let chunks = answer.chunks[..end]
        .iter()
        .zip(1..)
        .map(|(chunk, count)| Piece {
            after: step * count,
            bytes: chunk,
        });
    std::iter::once(head).chain(chunks).collect()
}

/// Reads off some of what a refused client is still sending: closing with unread bytes resets the
/// connection, and the reset may overtake the answer (RFC 9112, section 9.6).
fn linger(stream: &TcpStream) {
    const MOST: usize = 1 << 20;
    let mut stream = stream;
    if stream.shutdown(Shutdown::Write).is_err()
        || stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .is_err()
    {
        return;
    }
    let mut scrap = [0; 4096];
    let mut read = 0;
    while read < MOST {
        match stream.read(&mut scrap) {
            Ok(0) | Err(_) => return,
            Ok(count) => read += count,
        }
    }
}
