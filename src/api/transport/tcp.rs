//! A TCP connection: how it is opened, and bytes moved through borrowed buffers.
//!
//! A waiting connection holds no buffer: it blocks in a read of a few bytes on the stack, and only
//! then borrows one.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use socket2::{SockRef, TcpKeepalive};
use ureq::Timeout;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

use super::TransportErrorKind;
use super::abort::{Socket, Sockets};
use super::buffers::{BufferPool, LentBuffers};
use super::context::{self, Sent, fail};
use super::error::{Failure, origin};
use super::layer::{self, Layer};
use super::stream::{Arrived, Stream};

/// Well under the 350 s after which common NAT gateways forget a silent connection; a completion
/// may take ten minutes to its first byte.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// What an address is given before the next is tried: long enough for the one segment that is lost to
/// be sent again, after a second (RFC 6298).
const TRY: Duration = Duration::from_secs(2);
/// What is read at first, without a buffer: most short chats whole, with some 1.5 kB of head. It is on
/// the stack of a thread that waits, and less than what reading the head takes there later.
const FIRST: usize = 4096;

/// Opens a connection to the first of `addresses` that takes one; `uri` is whose they are, and
/// `avoid` is told of those that are silent.
pub(super) fn open(
    addresses: &[SocketAddr],
    avoid: impl FnMut(SocketAddr),
    uri: &Uri,
    sockets: &Sockets,
    buffers: &Arc<BufferPool>,
) -> Result<Tcp, ureq::Error> {
    let by = context::with(|context| context.connect_by());
    let stream = connect_to_any(addresses, avoid, by).map_err(|error| {
        let is_over = context::with(|context| context.is_over(Instant::now()));
        let kind = if error.kind() == ErrorKind::TimedOut && is_over {
            TransportErrorKind::Timeout
        } else {
            TransportErrorKind::Connect
        };
        fail(Failure::new(kind, format!("cannot connect to {}", origin(uri))).because(error))
    })?;
    // Neither is worth failing for: a socket that refuses them fails at its first use.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE_INTERVAL),
    );
    Ok(Tcp {
        stream: Stream::new(sockets.adopt(stream)),
        lent: LentBuffers::new(buffers),
        has_more: false,
    })
}

/// Tries each address in turn: each gets half of the time that is left, [`TRY`] at the most, and the
/// last all of it, so that a dead first address (IPv6 without a route to it) leaves time for a living
/// second. Not two at once, as RFC 8305 has it: a thread waits for one.
fn connect_to_any(
    addresses: &[SocketAddr],
    mut avoid: impl FnMut(SocketAddr),
    by: Instant,
) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(ErrorKind::AddrNotAvailable);
    for (tried, &address) in addresses.iter().enumerate() {
        let left = by.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let is_last = tried + 1 == addresses.len();
        let share = if is_last { left } else { TRY.min(left / 2) };
        match TcpStream::connect_timeout(&address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                if error.kind() == ErrorKind::TimedOut {
                    avoid(address);
                }
                failure = error;
            }
        }
    }
    Err(failure)
}

/// One TCP connection.
pub(super) struct Tcp {
    stream: Stream,
    lent: LentBuffers,
    /// The last read filled its room, so there is no need to wait for the next.
    has_more: bool,
}

impl Tcp {
    fn socket(&self) -> &Socket {
        &self.stream.socket
    }

    fn read(&mut self) -> Result<usize, ureq::Error> {
        let input = &mut self.lent.input;
        if self.has_more || !input.is_empty() {
            let room = input.room();
            let capacity = room.len();
            if capacity == 0 {
                let why = "a line of the answer is too long";
                fail(Failure::new(TransportErrorKind::Protocol, why));
                // ureq makes nothing of it behind the last chunk.
                return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
            }
            let count = self.stream.read(room)?;
            input.fill(count);
            self.has_more = count == capacity;
            return Ok(count);
        }
        let mut first = [0; FIRST];
        let count = self.stream.read(&mut first)?;
        self.has_more = count == FIRST;
        // There is always room in an empty one.
        let _ = input.append(&first[..count]);
        Ok(count)
    }
}

impl Layer for Tcp {
    fn lent(&mut self) -> &mut LentBuffers {
        &mut self.lent
    }

    fn has_unsent(&self) -> bool {
        !self.lent.output.is_empty()
    }

    fn send_some(&mut self) -> Result<Sent, ureq::Error> {
        if !context::with(|context| self.socket().attach(&context.cancel)) {
            return Err(fail(Failure::aborted()));
        }
        let (sent, count) = self.stream.write(self.lent.output.bytes())?;
        self.lent.output.consume(count);
        if sent == Sent::Some {
            context::with(|context| context.sent());
        }
        Ok(sent)
    }

    fn receive_some(&mut self, limit: NextTimeout) -> Result<bool, ureq::Error> {
        if limit.after.is_zero() {
            match self.stream.look() {
                Arrived::Nothing => return Err(ureq::Error::Timeout(limit.reason)),
                Arrived::End => return Ok(false),
                Arrived::Bytes => {}
            }
        }
        // The one limit that ureq sets: how long to wait for the word to go on.
        let until = (limit.reason == Timeout::Await100).then(|| Instant::now() + *limit.after);
        let count = match context::waiting_until(until, || self.read()) {
            Err(_)
                if until.is_some_and(|until| context::with(|context| context.outlives(until))) =>
            {
                return Err(ureq::Error::Timeout(limit.reason));
            }
            read => read?,
        };
        // An abort shuts the socket down, which reads like the end of the stream.
        if count == 0 && context::with(|context| context.cancel.is_aborted()) {
            return Err(fail(Failure::aborted()));
        }
        Ok(count > 0)
    }
}

impl Transport for Tcp {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.lent
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        layer::transmit(self, amount)
    }

    fn await_input(&mut self, limit: NextTimeout) -> Result<bool, ureq::Error> {
        layer::receive(self, limit)
    }

    /// Whether it will carry another call as far as can be known. Whatever has arrived unasked would
    /// be read as the answer to the next request: the end of the connection, a second answer, a
    /// complaint of having waited too long. So only silence will do.
    fn is_open(&mut self) -> bool {
        self.has_more = false;
        let is_spoiled = context::with(|context| context.is_spoiled);
        let is_free = self.socket().detach();
        is_free && !is_spoiled && self.lent.is_empty() && self.stream.look() == Arrived::Nothing
    }
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp").finish_non_exhaustive()
    }
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
    fn a_silent_address_leaves_time_for_the_next_and_is_told_of() {
        let (dead, _listener, _queue) = silent();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let living = listener.local_addr().unwrap();
        let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let refusing = closed.local_addr().unwrap();
        drop(closed);

        let mut avoided = Vec::new();
        let stream = connect_to_any(
            &[refusing, dead, living],
            |address| avoided.push(address),
            Instant::now() + Duration::from_secs(60),
        );
        assert_eq!(stream.unwrap().peer_addr().unwrap(), living);
        assert_eq!(avoided, [dead]);
    }
}
