//! One connection of the server: requests in, answers out when they are due. It never waits; the
//! event loop tells it when there is something to read, room to write, or an answer due.

use std::collections::VecDeque;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use peers::{Result, wire};
use rustls::ServerConnection;

pub(super) struct Connection {
    pub(super) socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
    /// How far away the server plays to be: whatever it says is held back so long.
    round_trip: Duration,
    spoken: bool,
    unread: Vec<u8>,
    later: VecDeque<Later>,
    unsent: Vec<u8>,
}

/// What goes out when its time has come.
enum Later {
    Answer,
    /// A flight of TLS.
    Bytes(Vec<u8>),
}

/// What a connection needs of its loop for one step.
pub(super) struct Step<'a> {
    pub(super) now: Instant,
    pub(super) scratch: &'a mut [u8],
    pub(super) answer: &'a [u8],
    pub(super) requests: &'a AtomicU64,
    /// When [`Connection::due`] is to be called, once for each instant added here.
    pub(super) due: &'a mut Vec<Instant>,
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        tls: Option<Box<ServerConnection>>,
        round_trip: Duration,
    ) -> Self {
        Self {
            socket,
            tls,
            round_trip,
            spoken: false,
            unread: Vec::new(),
            later: VecDeque::new(),
            unsent: Vec::new(),
        }
    }

    /// Reads what is there and answers the requests in it.
    ///
    /// # Errors
    /// The connection has ended, as they all do.
    pub(super) fn readable(&mut self, step: &mut Step<'_>) -> Result<()> {
        loop {
            match self.socket.read(step.scratch) {
                Ok(0) => return Err("closed by the client".into()),
                Ok(read) => {
                    self.take_in(&step.scratch[..read])?;
                    if read < step.scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.hand_over_tls(step)?;
        self.answer_requests(step)
    }

    /// Sends what did not fit before.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn writable(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends the first of what was held back.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn due(&mut self, answer: &[u8]) -> Result<()> {
        match self.later.pop_front() {
            Some(Later::Answer) => self.answer(answer),
            Some(Later::Bytes(bytes)) => {
                self.unsent.extend_from_slice(&bytes);
                self.writable()
            }
            None => Ok(()),
        }
    }

    fn take_in(&mut self, mut bytes: &[u8]) -> Result<()> {
        let Some(tls) = &mut self.tls else {
            self.unread.extend_from_slice(bytes);
            return Ok(());
        };
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            tls.process_new_packets()?;
            let mut plain = tls.reader();
            loop {
                let read = match plain.fill_buf() {
                    Ok(read) if !read.is_empty() => read,
                    Ok(_) => break,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                };
                self.unread.extend_from_slice(read);
                let read = read.len();
                plain.consume(read);
            }
        }
        Ok(())
    }

    /// What TLS itself has to say: handshake flights and tickets.
    fn hand_over_tls(&mut self, step: &mut Step<'_>) -> Result<()> {
        let Some(tls) = self.tls.as_mut().filter(|tls| tls.wants_write()) else {
            return Ok(());
        };
        if self.round_trip.is_zero() {
            drain(tls, &mut self.unsent)?;
            return self.writable();
        }
        let mut flight = Vec::new();
        drain(tls, &mut flight)?;
        // The kernel accepts at once, so the first flight also pays for the connect.
        let trips = if self.spoken { 1 } else { 2 };
        self.spoken = true;
        step.due.push(step.now + self.round_trip * trips);
        self.later.push_back(Later::Bytes(flight));
        Ok(())
    }

    fn answer_requests(&mut self, step: &mut Step<'_>) -> Result<()> {
        while let Some(head) = wire::head(&self.unread)? {
            let (message, delay) = (head.message, delay(head.first_line)?);
            if self.unread.len() < message {
                break;
            }
            self.unread.drain(..message);
            step.requests.fetch_add(1, Ordering::Relaxed);
            let delay = delay + self.round_trip;
            if delay.is_zero() {
                self.answer(step.answer)?;
            } else {
                step.due.push(step.now + delay);
                self.later.push_back(Later::Answer);
            }
        }
        Ok(())
    }

    fn answer(&mut self, answer: &[u8]) -> Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(answer)?;
            drain(tls, &mut self.unsent)?;
        } else {
            self.unsent.extend_from_slice(answer);
        }
        self.writable()
    }
}

fn drain(tls: &mut ServerConnection, into: &mut Vec<u8>) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(into)?;
    }
    Ok(())
}

/// The first segment of the path says how long to think: `POST /delay-1000/v1/chat/completions`.
fn delay(request_line: &[u8]) -> Result<Duration> {
    let line = std::str::from_utf8(request_line)?;
    let millis = line
        .split_once(" /delay-")
        .and_then(|(_, rest)| rest.split_once('/'))
        .ok_or_else(|| format!("no delay in {line:?}"))?
        .0;
    Ok(Duration::from_millis(millis.parse()?))
}

#[cfg(test)]
mod tests {
    use super::{Duration, delay};

    #[test]
    fn the_path_says_how_long_to_think() {
        let second = delay(b"POST /delay-1000/v1/chat/completions HTTP/1.1").unwrap();
        assert_eq!(second, Duration::from_secs(1));
        assert!(delay(b"POST /v1/chat/completions HTTP/1.1").is_err());
    }
}
