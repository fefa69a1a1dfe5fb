//! What both test servers stand on: a loopback listener, a small thread a connection, and an end
//! that closes every connection and joins every thread.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Socket, Type};

/// A server on 127.0.0.1, running until dropped.
pub struct Listener {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

type Serve = dyn Fn(usize, &TcpStream) + Send + Sync;

struct Shared {
    serve: Box<Serve>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    stopping: bool,
    accepted: usize,
    open: Vec<Arc<TcpStream>>,
    open_peak: usize,
}

impl Listener {
    /// Calls `serve` with each connection and its number, from 0, on a thread of the connection's
    /// own; closes it when `serve` returns.
    pub fn start(serve: impl Fn(usize, &TcpStream) + Send + Sync + 'static) -> Self {
        // The backlog of std's listeners is 128: a thousand clients at once would wait for SYNs.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a free port on 127.0.0.1");
        socket.listen(4096).expect("a listening socket");
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared {
            serve: Box::new(serve),
            connections: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &theirs));
        Self {
            addr,
            shared,
            acceptor: Some(acceptor),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections have been accepted.
    pub fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// The most open at once.
    pub fn open_peak(&self) -> usize {
        self.shared.lock().open_peak
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let open = {
            let mut connections = self.shared.lock();
            connections.stopping = true;
            connections.open.clone()
        };
        for stream in open {
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
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        let number = {
            let mut connections = shared.lock();
            if connections.stopping {
                break;
            }
            connections.open.push(Arc::clone(&stream));
            connections.open_peak = connections.open_peak.max(connections.open.len());
            connections.accepted += 1;
            connections.accepted - 1
        };
        let theirs = Arc::clone(shared);
        let serving = move || {
            (theirs.serve)(number, &stream);
            let is_other = |other: &Arc<TcpStream>| !Arc::ptr_eq(other, &stream);
            theirs.lock().open.retain(is_other);
        };
        let small = thread::Builder::new().stack_size(256 << 10);
        threads.push(small.spawn(serving).expect("a thread for the connection"));
        threads.retain(|thread| !thread.is_finished());
    }
    for thread in threads {
        let _ = thread.join();
    }
}
