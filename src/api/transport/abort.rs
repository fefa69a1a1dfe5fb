//! How an abort finds the socket that a call waits on.
//!
//! A thread blocked in a read can only be woken by shutting its socket down. ureq has a handle for
//! that, of all calls of an agent and for good; an abort is for the calls of one run.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use crate::Cancel;
use crate::cancel::AbortHook;
use crate::sync::Mutex;

/// Shuts down the socket of one call when its [`Cancel`] is aborted.
pub(super) struct AbortHandle {
    socket: Arc<Mutex<Option<Arc<TcpStream>>>>,
    _hook: AbortHook,
}

impl AbortHandle {
    pub(super) fn new(cancel: &Cancel) -> Self {
        let socket: Arc<Mutex<Option<Arc<TcpStream>>>> = Arc::default();
        let attached = Arc::clone(&socket);
        let hook = cancel.hook_abort(move || {
            if let Some(socket) = &*attached.lock() {
                // Fails only on a socket that is closed already.
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
        Self {
            socket,
            _hook: hook,
        }
    }

    /// From now on an abort shuts `socket` down. Whether there has been one is to be asked after this.
    pub(super) fn attach(&self, socket: &Arc<TcpStream>) {
        self.socket.lock().get_or_insert_with(|| Arc::clone(socket));
    }

    /// The call is over, and the connection may serve another: an abort that is under way finds no
    /// socket any more.
    pub(super) fn detach(&self) {
        *self.socket.lock() = None;
    }
}

impl Drop for AbortHandle {
    fn drop(&mut self) {
        self.detach();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_abort_shuts_down_what_is_attached_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = || {
            let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(1)))
                .unwrap();
            Arc::new(socket)
        };
        let is_shut = |socket: &TcpStream| matches!((&*socket).read(&mut [0]), Ok(0));
        let (mine, yours) = (Cancel::new(), Cancel::new());
        let (attached, other, idle) = (socket(), socket(), socket());
        let handles = [
            AbortHandle::new(&mine),
            AbortHandle::new(&yours),
            AbortHandle::new(&mine),
        ];
        for (handle, socket) in handles.iter().zip([&attached, &other, &idle]) {
            handle.attach(socket);
        }
        handles[2].detach();
        mine.abort();
        assert!(is_shut(&attached));
        assert!(!is_shut(&other) && !is_shut(&idle));
    }
}
