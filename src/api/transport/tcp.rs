//! The TCP layer under ureq: connecting, and moving bytes through borrowed buffers.
//!
//! It stands in place of ureq's own because of what thousands of waiting exchanges cost there. Here
//! a waiting connection holds no buffer (it blocks in a `peek` and only then borrows one), and head
//! and body of a small request leave in one `send`.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport,
};

use super::Fault;
use super::buffers::{BufferPool, PooledBuffers};
use super::exchange::{current, note};
use super::fault::origin;
use super::sockets::Sockets;
use super::stream::{Stream, aborted};

/// Well under the 350 s after which common NAT gateways forget a silent connection; a completion
/// may take ten minutes to its first byte.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// A connection used this recently is taken to be open without asking.
const FRESH: Duration = Duration::from_secs(1);

/// Opens TCP connections.
#[derive(Debug)]
pub(super) struct TcpConnector {
    pub(super) sockets: Arc<Sockets>,
    pub(super) buffers: Arc<BufferPool>,
}

impl<In: Transport> Connector<In> for TcpConnector {
    type Out = Either<In, TcpTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(tunnel) = chained {
            return Ok(Some(Either::A(tunnel)));
        }
        let stream = connect_to_any(&details.addrs).inspect_err(|error| {
            let out_of_time = error.kind() == ErrorKind::TimedOut
                && current(|exchange| exchange.is_over(Instant::now())) == Some(true);
            let fault = if out_of_time {
                Fault::Timeout
            } else {
                Fault::Connect
            };
            note(fault, || {
                format!("cannot connect to {}", origin(details.uri))
            });
        })?;
        // Neither is worth failing for: a socket that refuses them fails at its first use.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(KEEPALIVE)
                .with_interval(KEEPALIVE_INTERVAL),
        );
        let mut transport = TcpTransport {
            stream: Stream::new(self.sockets.adopt(stream)),
            sockets: Arc::clone(&self.sockets),
            buffers: PooledBuffers::new(Arc::clone(&self.buffers)),
            exchanges: 0,
            last_read: Instant::now(),
            more: false,
            deaf: false,
        };
        transport.occupy()?;
        Ok(Some(Either::B(transport)))
    }
}

/// Tries each address in turn: each gets half of the time that is left, and the last all of it, so
/// that a dead first address (IPv6 without a route to it) leaves time for a living second.
fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(ErrorKind::AddrNotAvailable);
    for (tried, address) in addresses.iter().enumerate() {
        let left = current(|exchange| exchange.connect_by()).map_or(Duration::ZERO, |by| {
            by.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let is_last = tried + 1 == addresses.len();
        let share = if is_last { left } else { left / 2 };
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// One TCP connection.
pub(super) struct TcpTransport {
    stream: Stream,
    sockets: Arc<Sockets>,
    buffers: PooledBuffers,
    exchanges: u64,
    last_read: Instant,
    /// The last read filled the buffer, so there is no need to wait for the next.
    more: bool,
    /// The peer has answered without reading the request to its end and takes no more of it.
    deaf: bool,
}

impl TcpTransport {
    /// Has the present exchange's `Cancel` shut this socket down from now on.
    fn occupy(&mut self) -> Result<(), Error> {
        if !self.stream.socket.is_resting() {
            return Ok(());
        }
        self.exchanges += 1;
        let taken = current(|exchange| self.stream.socket.work_for(&exchange.cancel));
        if taken == Some(true) {
            return Ok(());
        }
        note(Fault::Aborted, || "aborted".into());
        Err(Error::Io(ErrorKind::NotConnected.into()))
    }

    /// Sends what is held, unless the peer no longer takes it.
    fn flush(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        let mut written = 0;
        while written < self.buffers.held().len() && !self.deaf {
            match self
                .stream
                .write(&self.buffers.held()[written..], timeout)?
            {
                Some(count) => {
                    written += count;
                    current(|exchange| exchange.sent(self.exchanges > 1));
                }
                None => self.deaf = true,
            }
        }
        self.buffers.sent();
        Ok(())
    }
}

impl Transport for TcpTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.occupy()?;
        // Held back until the buffer is full or an answer is waited for: ureq hands over the head
        // and the body one after the other, and TLS its records. TLS has an alert before it hangs up,
        // and no answer to wait for: it says so by adding nothing.
        if self.buffers.hold(amount) || amount == 0 {
            self.flush(timeout)?;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.occupy()?;
        self.flush(timeout)?;
        self.buffers.release_output();
        if !self.more && !self.buffers.has_input() {
            self.stream.wait_readable(timeout)?;
        }
        let room = self.buffers.input_append_buf();
        let capacity = room.len();
        let count = self.stream.read(room, timeout)?;
        self.buffers.input_appended(count);
        self.more = count == capacity;
        self.last_read = Instant::now();
        if count == 0 {
            if aborted() {
                return Err(Error::Io(ErrorKind::NotConnected.into()));
            }
            current(|exchange| exchange.peer_closed = true);
            if current(|exchange| exchange.is_connecting()) == Some(true) {
                note(Fault::Connect, || {
                    "the peer closed the connection while it was being made".into()
                });
            }
        }
        Ok(count > 0)
    }

    /// Asked when an exchange is over, and again before the next.
    fn is_open(&mut self) -> bool {
        self.more = false;
        self.buffers.release_output();
        self.buffers.release_input();
        if !self.stream.socket.rest() || self.deaf || self.buffers.has_input() {
            return false;
        }
        let fresh = self.last_read.elapsed() < FRESH;
        (fresh && !self.sockets.distrust.load(Ordering::Relaxed)) || self.stream.is_quiet()
    }
}

impl fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpTransport")
            .field("exchanges", &self.exchanges)
            .finish_non_exhaustive()
    }
}
