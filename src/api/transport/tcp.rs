//! A TCP connection: how it is opened, and bytes moved through borrowed buffers.
//!
//! A waiting connection holds no buffer: it blocks in a read of a few bytes on the stack, and only
//! then borrows one.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use ureq_proto::http::Uri;

use super::TransportErrorKind;
use super::buffers::{BufferPool, Input};
use super::exchange::Exchange;
use super::fault::{Failure, origin};
use super::link::Link;
use super::sockets::Sockets;
use super::stream::{Arrived, Stream};
use crate::Cancel;

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
    sockets: &Arc<Sockets>,
    buffers: &Arc<BufferPool>,
    exchange: &Exchange<'_>,
) -> Result<Tcp, Failure> {
    let stream = connect_to_any(addresses, avoid, exchange).map_err(|error| {
        let out_of_time = error.kind() == ErrorKind::TimedOut && exchange.is_over(Instant::now());
        let fault = if out_of_time {
            TransportErrorKind::Timeout
        } else {
            TransportErrorKind::Connect
        };
        Failure::new(fault, format!("cannot connect to {}", origin(uri))).because(error)
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
        input: Input::new(Arc::clone(buffers)),
        more: false,
    })
}

/// Tries each address in turn: each gets half of the time that is left, [`TRY`] at the most, and the
/// last all of it, so that a dead first address (IPv6 without a route to it) leaves time for a living
/// second. Not two at once, as RFC 8305 has it: a thread waits for one.
fn connect_to_any(
    addresses: &[SocketAddr],
    mut avoid: impl FnMut(SocketAddr),
    exchange: &Exchange<'_>,
) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(ErrorKind::AddrNotAvailable);
    for (tried, &address) in addresses.iter().enumerate() {
        let left = exchange
            .connect_by()
            .saturating_duration_since(Instant::now());
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
    input: Input,
    /// The last read filled its room, so there is no need to wait for the next.
    more: bool,
}

impl Tcp {
    fn read(&mut self, exchange: &Exchange<'_>) -> Result<usize, Failure> {
        if self.more || !self.input.is_empty() {
            let room = self.input.room();
            let capacity = room.len();
            let count = self.stream.read(room, exchange)?;
            self.input.fill(count);
            self.more = count == capacity;
            return Ok(count);
        }
        let mut first = [0; FIRST];
        let count = self.stream.read(&mut first, exchange)?;
        self.more = count == FIRST;
        // There is always room in an empty one.
        let _ = self.input.append(&first[..count]);
        Ok(count)
    }
}

impl Link for Tcp {
    fn send_some(&mut self, bytes: &[u8], exchange: &mut Exchange<'_>) -> Result<usize, Failure> {
        let count = self.stream.write(bytes, exchange)?;
        if count > 0 {
            exchange.sent();
        }
        Ok(count)
    }

    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Result<bool, Failure> {
        let count = self.read(exchange)?;
        if count == 0 {
            // An abort shuts the socket down, which reads like the end of the stream.
            if exchange.cancel.is_aborted() {
                return Err(Failure::aborted());
            }
        }
        Ok(count > 0)
    }

    fn input(&mut self) -> &mut Input {
        &mut self.input
    }

    fn work_for(&mut self, cancel: &Cancel) -> bool {
        self.stream.socket.work_for(cancel)
    }

    fn rest(&mut self) -> bool {
        self.more = false;
        self.stream.socket.rest()
    }

    fn take_in(&mut self) -> bool {
        loop {
            match self.stream.look() {
                Arrived::Nothing => return true,
                Arrived::End => return false,
                Arrived::Bytes => {}
            }
            let room = self.input.room();
            match (&self.stream.socket.stream).read(room) {
                // No room is left, or no bytes are, which the look has ruled out.
                Ok(0) | Err(_) => return false,
                Ok(count) => self.input.fill(count),
            }
        }
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
    use crate::api::transport::HttpRequest;

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

        let (cancel, soon) = (Cancel::new(), Instant::now() + Duration::from_secs(60));
        let call = HttpRequest::new("GET", "http://h/", soon, &cancel);
        let exchange = Exchange::new(&call, Duration::from_secs(60), None);
        let mut avoided = Vec::new();
        let stream = connect_to_any(
            &[refusing, dead, living],
            |address| avoided.push(address),
            &exchange,
        );
        assert_eq!(stream.unwrap().peer_addr().unwrap(), living);
        assert_eq!(avoided, [dead]);
    }
}
