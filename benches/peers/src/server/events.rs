//! An event loop of the server: one thread that waits for sockets and for answers to become due.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use peers::Result;

use super::connection::{Connection, Step};

/// Where accepted connections are handed in.
pub(super) struct Door {
    connections: Sender<Connection>,
    waker: Arc<Waker>,
}

impl Door {
    pub(super) fn enter(&self, connection: Connection) -> Result<()> {
        self.connections
            .send(connection)
            .map_err(|_| "an event loop of the server has ended")?;
        Ok(self.waker.wake()?)
    }

    pub(super) fn another(&self) -> Self {
        Self {
            connections: self.connections.clone(),
            waker: Arc::clone(&self.waker),
        }
    }
}

/// Starts a loop on a thread of its own.
///
/// # Errors
/// The system gives no event queue or no thread.
pub(super) fn start(answer: Arc<[u8]>, requests: Arc<AtomicU64>) -> Result<Door> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), NEWCOMERS)?);
    let (connections, newcomers) = channel();
    let mut events = EventLoop {
        poll,
        newcomers,
        connections: HashMap::new(),
        next: NEWCOMERS.0 + 1,
        due: BinaryHeap::new(),
        scratch: vec![0; 64 << 10],
        answer,
        requests,
    };
    thread::Builder::new().spawn(move || {
        if let Err(error) = events.run() {
            eprintln!("the server's event loop: {error}");
            std::process::exit(1);
        }
    })?;
    Ok(Door { connections, waker })
}

const NEWCOMERS: Token = Token(0);

struct EventLoop {
    poll: Poll,
    newcomers: Receiver<Connection>,
    /// By tokens that are never used again, so that nothing due for an old connection reaches a new.
    connections: HashMap<usize, Connection>,
    next: usize,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    scratch: Vec<u8>,
    answer: Arc<[u8]>,
    requests: Arc<AtomicU64>,
}

impl EventLoop {
    fn run(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            self.send_due();
            let timeout = self.until_due();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    NEWCOMERS => self.take_newcomers()?,
                    Token(token) => {
                        if event.is_writable() {
                            self.step(token, |connection, _| connection.writable());
                        }
                        if event.is_readable() {
                            self.step(token, Connection::readable);
                        }
                    }
                }
            }
        }
    }

    fn until_due(&self) -> Option<Duration> {
        let Reverse((due, _)) = self.due.peek()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((due, token))) = self.due.peek() {
            if due > now {
                break;
            }
            self.due.pop();
            self.step(token, |connection, step| connection.due(step.answer));
        }
    }

    fn take_newcomers(&mut self) -> Result<()> {
        while let Ok(mut connection) = self.newcomers.try_recv() {
            let token = self.next;
            self.next += 1;
            self.poll.registry().register(
                &mut connection.socket,
                Token(token),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            self.connections.insert(token, connection);
        }
        Ok(())
    }

    /// One step of one connection; it is gone when that fails.
    fn step(
        &mut self,
        token: usize,
        step: impl FnOnce(&mut Connection, &mut Step<'_>) -> Result<()>,
    ) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let mut due = Vec::new();
        let outcome = step(
            connection,
            &mut Step {
                now: Instant::now(),
                scratch: &mut self.scratch,
                answer: &self.answer,
                requests: &self.requests,
                due: &mut due,
            },
        );
        if outcome.is_err() {
            self.connections.remove(&token);
            return;
        }
        self.due
            .extend(due.into_iter().map(|due| Reverse((due, token))));
    }
}
