//! The live sockets, and how an abort finds the ones it is meant for.
//!
//! A thread blocked in a read can only be woken by shutting its socket down. Signing every request
//! on and off a [`Cancel`] would cost each of them an allocation and two locks, so it is turned
//! around: a `Cancel` knows the transport, and each socket says in one atomic word for whom it
//! works.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::Cancel;
use crate::cancel::OnAbort;
use crate::sync::Mutex;

/// A connection's socket, and the `Cancel` it works for at the moment.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    user: AtomicUsize,
}

/// Not one of these is the id of a `Cancel`, which is an aligned address.
const NOBODY: usize = 0;
const SHUT: usize = 1;

impl Socket {
    /// Works for `cancel` from now on; `false` if the socket is shut, or the flag is raised.
    pub(super) fn attach(&self, cancel: &Cancel) -> bool {
        let order = Ordering::SeqCst;
        let unless_shut = |user| (user != SHUT).then_some(cancel.id());
        let user = self.user.fetch_update(order, order, unless_shut);
        // The flag is looked at after the word is written, and an abort raises the flag before it
        // reads the word: one of the two sees the other.
        user.is_ok() && !cancel.is_aborted()
    }

    /// Whether it works for nobody.
    pub(super) fn is_idle(&self) -> bool {
        self.user.load(Ordering::SeqCst) == NOBODY
    }

    /// Works for nobody; `false` if the socket is shut.
    pub(super) fn detach(&self) -> bool {
        self.user.swap(NOBODY, Ordering::SeqCst) != SHUT
    }
}

/// All sockets of one transport.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    live: Mutex<Vec<Weak<Socket>>>,
}

impl Sockets {
    pub(super) fn adopt(&self, stream: TcpStream) -> Arc<Socket> {
        let socket = Arc::new(Socket {
            stream,
            user: AtomicUsize::new(NOBODY),
        });
        let mut live = self.live.lock();
        if live.len() == live.capacity() {
            // Before it grows, so the list stays within twice the most ever alive.
            live.retain(|socket| socket.strong_count() > 0);
        }
        live.push(Arc::downgrade(&socket));
        socket
    }
}

impl OnAbort for Sockets {
    /// Shuts down the sockets that work for `cancel`.
    fn aborted(&self, cancel: usize) {
        let live: Vec<_> = self.live.lock().iter().filter_map(Weak::upgrade).collect();
        let order = Ordering::SeqCst;
        for socket in live {
            let user = socket.user.compare_exchange(cancel, SHUT, order, order);
            if user.is_ok() {
                // Fails only on a socket that is closed already.
                let _ = socket.stream.shutdown(Shutdown::Both);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn socket(sockets: &Sockets) -> Arc<Socket> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        sockets.adopt(TcpStream::connect(listener.local_addr().unwrap()).unwrap())
    }

    #[test]
    fn an_abort_reaches_its_own_sockets_only() {
        let sockets = Arc::new(Sockets::default());
        let (mine, yours) = (Cancel::new(), Cancel::new());
        mine.on_abort(&sockets);
        yours.on_abort(&sockets);
        let (a, b, idle) = (socket(&sockets), socket(&sockets), socket(&sockets));
        assert!(a.attach(&mine) && b.attach(&yours));
        mine.abort();
        assert!(!a.detach(), "shut");
        assert!(b.detach() && idle.detach());
        assert!(!idle.attach(&mine), "nothing starts under a raised flag");
    }

    #[test]
    fn closed_sockets_are_forgotten() {
        let sockets = Sockets::default();
        for _ in 0..100 {
            drop(socket(&sockets));
        }
        assert!(sockets.live.lock().len() < 10);
    }
}
