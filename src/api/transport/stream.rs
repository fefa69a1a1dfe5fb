//! Blocking reads and writes that end at the call's deadline.
//!
//! The deadline of the whole call is kept without a thread, without a timer and, mostly, without a
//! system call: the socket's own time-out is set coarsely and seldom, and the clock is read after
//! every wake. A peer that sends one byte a second for ever is therefore bounded like a silent one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::abort::Socket;
use super::context::{self, Sent, fail};

/// How often an upload that is stuck looks whether it has been answered.
const STUCK: Duration = Duration::from_secs(1);

/// A socket and the time-outs it is set to.
pub(super) struct Stream {
    pub(super) socket: Arc<Socket>,
    read_armed: Option<Duration>,
    write_armed: Option<Duration>,
}

/// What there is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    Nothing,
    Bytes,
    /// The end of the stream, or an error.
    End,
}

/// Why a blocking operation returned with nothing done.
enum Wait {
    /// The socket's time-out went off, which may be early: look at the clock.
    Woken,
    Failed(io::Error),
}

impl Stream {
    pub(super) fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            read_armed: None,
            write_armed: None,
        }
    }

    /// Waits until some of `bytes` are taken and says how many.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(Sent, usize), ureq::Error> {
        let limit = limit();
        let mut woken = false;
        loop {
            let left = left(limit)?.min(STUCK);
            arm(&mut self.write_armed, left, woken, |time| {
                self.socket.stream.set_write_timeout(time)
            })?;
            match wait((&self.socket.stream).write(bytes)) {
                Ok(count) => return Ok((Sent::Some, count)),
                Err(Wait::Woken) if self.look() == Arrived::Bytes => return Ok((Sent::Stuck, 0)),
                Err(Wait::Woken) => woken = true,
                // A server that refuses an upload answers and closes; what is still under way then
                // resets the connection, but the answer has arrived before the reset.
                Err(Wait::Failed(_)) if self.look() == Arrived::Bytes => {
                    return Ok((Sent::Never, 0));
                }
                Err(Wait::Failed(error)) => return Err(broken(error)),
            }
        }
    }

    /// Waits until something is read into `room`; 0 at the end of the stream.
    pub(super) fn read(&mut self, room: &mut [u8]) -> Result<usize, ureq::Error> {
        let limit = limit();
        let mut woken = false;
        loop {
            let left = left(limit)?;
            arm(&mut self.read_armed, left, woken, |time| {
                self.socket.stream.set_read_timeout(time)
            })?;
            match wait((&self.socket.stream).read(room)) {
                Ok(count) => return Ok(count),
                Err(Wait::Woken) => woken = true,
                Err(Wait::Failed(error)) => return Err(broken(error)),
            }
        }
    }

    /// Looks at what has arrived without waiting for it.
    pub(super) fn look(&self) -> Arrived {
        match peek_now(&self.socket.stream) {
            Ok(0) => Arrived::End,
            Ok(_) => Arrived::Bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Arrived::Nothing,
            Err(_) => Arrived::End,
        }
    }
}

/// How many bytes have arrived, 1 at most, without waiting for them: one system call, of which a
/// reuse pays for one.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn peek_now(stream: &TcpStream) -> io::Result<usize> {
    use socket2::SockRef;
    use std::mem::MaybeUninit;

    // Linux has given these the same numbers on all architectures.
    const MSG_PEEK: i32 = 0x02;
    const MSG_DONTWAIT: i32 = 0x40;
    SockRef::from(stream).recv_with_flags(&mut [MaybeUninit::uninit()], MSG_PEEK | MSG_DONTWAIT)
}

/// As above, in three: elsewhere the flag has other numbers, or there is none.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn peek_now(stream: &TcpStream) -> io::Result<usize> {
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    peeked
}

/// When an operation that starts now must be over.
fn limit() -> Instant {
    context::with(|context| context.limit(Instant::now()))
}

/// The time left until `limit`, never zero.
fn left(limit: Instant) -> Result<Duration, ureq::Error> {
    let left = limit.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(fail(context::with(|context| context.timed_out())));
    }
    Ok(left)
}

fn broken(error: io::Error) -> ureq::Error {
    fail(context::with(|context| context.broken(error)))
}

/// Sets a socket's time-out, if the one it has would be too late or much too early.
///
/// The deadline moves with every call, so an exact time-out would be set anew for each read. A
/// coarse one, the power of two milliseconds below what is left, goes off early at worst; whoever
/// is woken by it has waited long, and then sets the exact one.
fn arm(
    armed: &mut Option<Duration>,
    left: Duration,
    woken: bool,
    set: impl FnOnce(Option<Duration>) -> io::Result<()>,
) -> Result<(), ureq::Error> {
    let wanted = if woken { left } else { coarse(left) };
    if armed.is_some_and(|armed| armed >= wanted && armed <= left) {
        return Ok(());
    }
    match set(Some(wanted)) {
        Ok(()) => *armed = Some(wanted),
        // macOS refuses it once the peer has closed; what it sent may still be read.
        Err(error) if error.kind() == ErrorKind::InvalidInput => {}
        Err(error) => return Err(broken(error)),
    }
    Ok(())
}

/// The largest power of two milliseconds that is not above `left`, and at least one.
fn coarse(left: Duration) -> Duration {
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(1 << millis.ilog2())
}

fn wait(result: io::Result<usize>) -> Result<usize, Wait> {
    result.map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Wait::Woken,
        // Windows' word for the socket's time-out; elsewhere the connection itself timed out.
        ErrorKind::TimedOut if cfg!(windows) => Wait::Woken,
        _ => Wait::Failed(error),
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_time_out_is_early_and_not_by_much() {
        for millis in [1, 2, 3, 99, 100, 60_000, 600_000, u64::MAX] {
            let left = Duration::from_millis(millis);
            assert!(coarse(left) <= left && coarse(left) > left / 2, "{millis}");
        }
        assert_eq!(coarse(Duration::from_nanos(1)), Duration::from_millis(1));
    }

    #[test]
    fn a_time_out_that_serves_is_left_alone() {
        let mut armed = None;
        let mut sets = 0;
        for millis in [600_000, 599_999, 590_000, 600_000] {
            arm(&mut armed, Duration::from_millis(millis), false, |_| {
                sets += 1;
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(sets, 1);
        // Woken early: now to the point.
        let left = Duration::from_millis(75_712);
        arm(&mut armed, left, true, |_| Ok(())).unwrap();
        assert_eq!(armed, Some(left));
        // Too late for the next call, so it is set again.
        arm(&mut armed, Duration::from_secs(10), false, |_| Ok(())).unwrap();
        assert!(armed.unwrap() <= Duration::from_secs(10));
    }
}
