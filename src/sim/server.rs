//! The simulated provider on a socket: one small thread a connection, on 127.0.0.1 only.
//!
//! It reads requests (`http`), asks the model what becomes of them, waits on the clock and writes.
//! The server is owned by its handle: dropping it stops the listener, closes every connection,
//! whatever it waits for, and joins every thread.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::answer::{Answer, render};
use super::endpoints::{Draft, draft};
use super::http::{ReadError, RequestReader};
use super::model::{Fate, Model, Ruling};
use super::spec::SimSpec;
use super::stats::SimStats;
use crate::cancel::{Cancel, OnAbort};
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
    pub fn record_arrivals(mut self, record: bool) -> Self {
        self.record_arrivals = record;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the spec asks for what cannot be simulated, [`ErrorKind::Io`] if
    /// the port is taken or no thread can be started.
    pub fn start(self) -> Result<SimServer> {
        let model = Model::new(self.spec.checked()?, self.record_arrivals);
        let failed = |cause: io::Error| {
            let message = format!("the simulated provider cannot listen on port {}", self.port);
            Error::new(ErrorKind::Io, message).with_source(cause)
        };
        let listener = listen(self.port).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            spec: self.spec,
            started: self.clock.now(),
            clock: self.clock.clone(),
            model: Mutex::new(model),
            stop: Cancel::new(),
        });
        let theirs = Arc::clone(&shared);
        let acceptor = spawn(move || accept(&listener, &theirs)).map_err(failed)?;
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
        self.shared.model.lock().stats()
    }
}

impl Drop for SimServer {
    fn drop(&mut self) {
        self.shared.stop.abort();
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
    spec: SimSpec,
    started: Instant,
    clock: Clock,
    model: Mutex<Model>,
    /// Aborted at the end: closes every connection, and wakes its thread.
    stop: Cancel,
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

fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let thread = thread::Builder::new().name("tollgate-sim".into());
    thread.stack_size(STACK).spawn(run)
}

/// Takes connections until told to stop, and joins their threads.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let pause = Parker::new();
    loop {
        let accepted = listener.accept();
        if shared.stop.is_aborted() {
            break;
        }
        if let Ok((stream, _)) = accepted {
            shared.model.lock().connected();
            let theirs = Arc::clone(shared);
            let serving = spawn(move || {
                Connection {
                    shared: &theirs,
                    stream: Arc::new(stream),
                    parker: Parker::new(),
                }
                .serve();
                theirs.model.lock().disconnected();
            });
            match serving {
                Ok(thread) => threads.push(thread),
                // No thread to be had: the client sees its connection closed, as it would at a
                // server that is full.
                Err(_) => shared.model.lock().disconnected(),
            }
        } else {
            // Out of descriptors, most likely. Trying again at once would only burn the processor
            // that others need to close theirs.
            let soon = Instant::now() + Duration::from_millis(10);
            Clock::system().park(&pause, Some(soon));
        }
        threads.retain(|thread| !thread.is_finished());
    }
    for thread in threads {
        // As in `drop`: a panic has been printed by its thread.
        let _ = thread.join();
    }
}

/// One connection, on its own thread.
struct Connection<'a> {
    shared: &'a Shared,
    stream: Arc<TcpStream>,
    parker: Arc<Parker>,
}

impl OnAbort for TcpStream {
    fn aborted(&self, _: usize) {
        // Already closed by the other side, if it fails.
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Connection<'_> {
    /// Answers requests until either side is done with it.
    fn serve(&self) {
        // Without it an answer sent in two writes waits for the client's delayed acknowledgement.
        let _ = self.stream.set_nodelay(true);
        self.shared.stop.listen(&self.parker);
        self.shared.stop.on_abort(&self.stream);
        if self.shared.stop.is_aborted() {
            return;
        }
        let mut reader = RequestReader::new(&*self.stream);
        loop {
            let received = reader.next();
            let arrived = self.shared.clock.now();
            let refused = received.is_err();
            let (draft, head_only, close) = match received {
                Ok(request) => {
                    let draft = draft(self.shared.spec.seed, &request);
                    (draft, request.method == "HEAD", request.close)
                }
                Err(ReadError::Refused(error, anthropic)) => {
                    (Draft::free(Err(error), anthropic), false, true)
                }
                Err(ReadError::Closed) => return,
            };
            let since_start = arrived.saturating_duration_since(self.shared.started);
            let ruling = self.shared.model.lock().rule(since_start, &draft);
            let date = self.shared.clock.wall();
            let answer = render(draft, &ruling, date, &self.shared.spec, head_only, close);
            let sent = self.send(&answer, &ruling, arrived);
            if refused && sent.is_ok() {
                self.linger();
            }
            if close || sent.is_err() || matches!(ruling.fate, Fate::Reset | Fate::Cut) {
                return;
            }
        }
    }

    /// Sends an answer when its latency is over; a stream's events are spread over it.
    fn send(&self, answer: &Answer, ruling: &Ruling, arrived: Instant) -> io::Result<()> {
        let (fate, status) = (ruling.fate, answer.status);
        let before = answer.pieces.len().saturating_sub(1);
        let (before, last) = answer.pieces.split_at(before);
        let step = ruling.delay / u32::try_from(answer.pieces.len().max(1)).unwrap_or(u32::MAX);
        let begun = before.iter().zip(1..).try_for_each(|(piece, number)| {
            self.wait_until(arrived + step * number)?;
            (&*self.stream).write_all(piece)
        });
        let on_time = begun.and_then(|()| self.wait_until(arrived + ruling.delay));
        self.shared.model.lock().answered(ruling, status);
        let sent = on_time.and_then(|()| match fate {
            // With no time to linger, closing sends RST in place of FIN.
            Fate::Reset => SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO)),
            _ => (last.iter()).try_for_each(|piece| (&*self.stream).write_all(piece)),
        });
        if sent.is_err() {
            self.shared.model.lock().unsent(fate, status);
        }
        sent
    }

    /// Waits until `due`; an error if the server stops first.
    fn wait_until(&self, due: Instant) -> io::Result<()> {
        while self.shared.clock.now() < due {
            if self.shared.stop.is_aborted() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            self.shared.clock.park(&self.parker, Some(due));
        }
        Ok(())
    }

    /// Reads off some of what a refused client is still sending: closing with unread bytes resets
    /// the connection, and the reset may overtake the answer (RFC 9112, section 9.6).
    fn linger(&self) {
        const MOST: u64 = 1 << 20;
        let stream = &*self.stream;
        let timeout = Some(Duration::from_secs(1));
        if stream.set_read_timeout(timeout).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
            // It ends as the client does, or a second after it has fallen silent.
            let _ = io::copy(&mut stream.take(MOST), &mut io::sink());
        }
    }
}
