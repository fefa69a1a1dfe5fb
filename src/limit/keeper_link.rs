//! What a limiter's queue and its keeper have in common.

use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::clock::Parker;
use crate::shared::Ask;
use crate::sync::Mutex;

/// The queue's end.
pub(super) struct KeeperLink {
    pub(super) parker: Arc<Parker>,
    /// The last ask to the store.
    last: Arc<Mutex<Option<Ask>>>,
    /// Disconnects when the thread ends.
    ended: Receiver<()>,
    pub(super) thread: OnceLock<ThreadId>,
    /// The store, for messages.
    pub(super) store: Arc<str>,
}

/// The keeper's end.
pub(super) struct QueueLink {
    pub(super) parker: Arc<Parker>,
    pub(super) last: Arc<Mutex<Option<Ask>>>,
    pub(super) _ends: Sender<()>,
    pub(super) store: Arc<str>,
}

/// How long the drop of the last limiter waits, in real time, until its lease is given back.
const LAST_WORDS: Duration = Duration::from_millis(250);

pub(super) fn link(store: Arc<str>) -> (KeeperLink, QueueLink) {
    let (ends, ended) = bounded(0);
    let (parker, last) = (Parker::new(), Arc::default());
    let queue = QueueLink {
        parker: Arc::clone(&parker),
        last: Arc::clone(&last),
        _ends: ends,
        store: Arc::clone(&store),
    };
    let keeper = KeeperLink {
        parker,
        last,
        ended,
        thread: OnceLock::new(),
        store,
    };
    (keeper, queue)
}

impl KeeperLink {
    /// Called when the limiter is gone. Hands over the last ask, and waits a little until it is
    /// sent.
    pub(super) fn end(&self, last: Option<Ask>) {
        *self.last.lock() = last;
        self.parker.unpark();
        // Under loom there is no real time.
        if cfg!(not(loom)) && self.thread.get() != Some(&thread::current().id()) {
            // If the time is over, what was not given back lapses.
            let _in_time = self.ended.recv_timeout(LAST_WORDS);
        }
    }
}
