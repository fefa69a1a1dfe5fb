//! A TCP connection: how it is opened, and bytes moved through borrowed buffers until a deadline.
//!
//! A waiting connection holds no buffer: it blocks in a read of a few bytes on the stack, and only
//! then borrows one. What is to be sent is held back until the answer is waited for, or the buffer
//! is full: so a small request leaves in one piece.
//!
//! The deadline of the whole call is kept without a thread and without a timer: the socket's own
//! time-out is set to what is left before each read. A peer that sends one byte a second for ever
//! is therefore bounded like a silent one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use ureq::Timeout;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

use super::TransportErrorKind;
use super::abort::{Socket, Sockets};
use super::buffers::{LentBuffers, TLS_RECORD};
use super::context::{self, CallContext, broken, time_left};
use super::error::fail_for;

/// Well under the 350 s after which common NAT gateways forget a silent connection; a completion
/// may take ten minutes to its first byte.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// What an address is given before the next is tried: long enough for the one segment that is lost
/// to be sent again, after a second (RFC 6298).
const TIME_PER_ADDRESS: Duration = Duration::from_secs(2);
/// What is read at first, without a buffer: most short chats whole, with some 1.5 kB of head. It is
/// on the stack of a thread that waits, and less than what reading the head takes there later.
const FIRST_READ: usize = 4096;

/// How often an upload that is stuck looks whether it has been answered, and at the clock.
const WRITE_TIMEOUT: Duration = Duration::from_millis(250);

/// Connects to the first of `addresses` that can be.
pub(super) fn connect(addresses: &[SocketAddr], sockets: &Sockets) -> Result<Tcp, ureq::Error> {
    let by = context::with(|context| context.connect_by);
    let stream = connect_to_any(addresses, by)
        .map_err(|error| fail_for(TransportErrorKind::Connect, "cannot connect", error))?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    // None is worth failing for: a socket that refuses them fails at its first use.
    let _ = stream.set_nodelay(true);
    let _ = stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    Ok(Tcp {
        socket: sockets.adopt(stream),
        lent: LentBuffers::default(),
    })
}

/// Tries each address in turn: each gets half of the time that is left, [`TIME_PER_ADDRESS`] at the
/// most, and the last all of it, so that a dead first address (IPv6 without a route to it) leaves
/// time for a living second. Not two at once, as RFC 8305 has it: a thread waits for one.
fn connect_to_any(addresses: &[SocketAddr], by: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(ErrorKind::AddrNotAvailable);
    for (tried, address) in addresses.iter().enumerate() {
        let left = by.saturating_duration_since(Instant::now());
        let share = match addresses.len() - tried {
            1 => left,
            _ => TIME_PER_ADDRESS.min(left / 2),
        };
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// One TCP connection.
#[derive(Debug)]
pub(super) struct Tcp {
    socket: Arc<Socket>,
    lent: LentBuffers,
}

impl Tcp {
    /// The address that it is connected to.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        Some(self.socket.stream.peer_addr().ok()?.ip())
    }

    /// Sends all that is held back. A peer that takes nothing for [`WRITE_TIMEOUT`] makes this
    /// [`Timeout::PerWrite`]; the rest stays, and may be sent later.
    fn flush(&mut self) -> Result<(), ureq::Error> {
        let (stream, output) = (&self.socket.stream, &mut self.lent.output);
        if output.is_empty() || context::with(|context| context.is_spoiled) {
            return Ok(());
        }
        if !context::with(|context| self.socket.attach(&context.cancel)) {
            // Whoever looks sees that the call is aborted.
            return Err(ureq::Error::ConnectionFailed);
        }
        while !output.is_empty() {
            match (&*stream).write(output.bytes()) {
                Ok(count) => {
                    output.consume(count);
                    context::with(CallContext::note_bytes_sent);
                }
                Err(error) if is_wake(&error) => {
                    time_left()?;
                    return Err(ureq::Error::Timeout(Timeout::PerWrite));
                }
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }

    /// Waits until something has arrived; `false` at the end of the stream.
    fn receive(&mut self) -> Result<bool, ureq::Error> {
        let (stream, input) = (&self.socket.stream, &mut self.lent.input);
        let mut first = [0; FIRST_READ];
        let is_first = input.is_empty();
        let room = if is_first { &mut first } else { input.room(1) };
        let count = loop {
            // macOS refuses it once the peer has closed, and then no read waits.
            let _ = stream.set_read_timeout(Some(time_left()?));
            match (&*stream).read(room) {
                Ok(count) => break count,
                Err(error) if is_wake(&error) => {}
                Err(error) => return Err(broken(error)),
            }
        };
        if is_first {
            // There is always room in an empty one.
            input.room(FIRST_READ)[..count].copy_from_slice(&first[..count]);
        }
        input.fill(count);
        // An abort shuts the socket down, which reads like the end of the stream.
        if count == 0 && context::with(|context| context.cancel.is_aborted()) {
            return Err(ureq::Error::ConnectionFailed);
        }
        Ok(count > 0)
    }
}

impl Transport for Tcp {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.lent
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        self.lent.output.fill(amount);
        let is_held = amount > 0 && self.lent.output.left() >= TLS_RECORD;
        if is_held { Ok(()) } else { self.flush() }
    }

    /// A limit of no time means neither to send nor to wait; the context knows all other limits.
    fn await_input(&mut self, limit: NextTimeout) -> Result<bool, ureq::Error> {
        if limit.after.is_zero() {
            return match peek(&self.socket.stream) {
                None => Err(ureq::Error::Timeout(limit.reason)),
                Some(0) => Ok(false),
                Some(_) => self.receive(),
            };
        }
        self.flush()?;
        self.receive()
    }

    /// Whether it will carry another call as far as can be known. Whatever has arrived unasked
    /// would be read as the answer to the next request: the end of the connection, a second answer,
    /// a complaint of having waited too long. So only silence will do.
    ///
    /// Asked when a call ends, and again before the next one. What there is to be heard when a call
    /// ends is heard before the next, so it is not listened for twice.
    fn is_open(&mut self) -> bool {
        let call_ends = !self.socket.is_idle();
        self.socket.detach()
            && self.lent.input.is_empty()
            && (call_ends || peek(&self.socket.stream).is_none())
    }
}

/// How many bytes have arrived, 1 at most, or nothing; 0 is the end of the stream, or an error. It
/// does not wait.
fn peek(stream: &TcpStream) -> Option<usize> {
    let peeked = stream
        .set_nonblocking(true)
        .and_then(|()| stream.peek(&mut [0]));
    match stream.set_nonblocking(false).and(peeked) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        peeked => Some(peeked.unwrap_or(0)),
    }
}

/// Whether the socket's time-out went off, or the thread was woken otherwise: time to peek at the
/// clock.
fn is_wake(error: &io::Error) -> bool {
    let kind = error.kind();
    // Windows' word for the socket's time-out; elsewhere the connection itself timed out.
    let is_timeout = cfg!(windows) && kind == ErrorKind::TimedOut;
    is_timeout || matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// An address where nobody answers, while what is returned is alive: the queue is full.
    fn silent() -> (SocketAddr, Socket, Vec<TcpStream>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let short = Duration::from_millis(100);
        let queue = std::iter::from_fn(|| TcpStream::connect_timeout(&address, short).ok());
        let queue = queue.collect();
        (address, listener, queue)
    }

    #[test]
    fn a_silent_address_leaves_time_for_the_next() {
        let (dead, _listener, _queue) = silent();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let living = listener.local_addr().unwrap();
        let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let refusing = closed.local_addr().unwrap();
        drop(closed);

        let addresses = [refusing, dead, living];
        let stream = connect_to_any(&addresses, Instant::now() + Duration::from_secs(60));
        assert_eq!(stream.unwrap().peer_addr().unwrap(), living);
    }
}
