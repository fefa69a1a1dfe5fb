//! What a limiter's queue and its keeper have in common.

use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::clock::{Clock, Parker};
use crate::shared::Ask;
use crate::sync::Mutex;

/// The queue's end.
pub(super) struct KeeperLink {
    pub(super) parker: Arc<Parker>,
    last: Arc<Mutex<Last>>,
    /// Disconnects when the thread ends.
    ended: Receiver<()>,
    pub(super) thread: OnceLock<ThreadId>,
    /// The store, for messages.
    pub(super) store: Arc<str>,
}

/// The keeper's end.
pub(super) struct QueueLink {
    pub(super) parker: Arc<Parker>,
    last: Arc<Mutex<Last>>,
    pub(super) _ends: Sender<()>,
    pub(super) store: Arc<str>,
}

/// What is said to the store when the limiter is gone.
#[derive(Default)]
struct Last {
    is_known: bool,
    ask: Option<Ask>,
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
        *self.last.lock() = Last {
            is_known: true,
            ask: last,
        };
        self.parker.unpark();
        // Under loom there is no real time.
        if cfg!(not(loom)) && self.thread.get() != Some(&thread::current().id()) {
            // If the time is over, what was not given back lapses.
            let _in_time = self.ended.recv_timeout(LAST_WORDS);
        }
    }
}

impl QueueLink {
    /// The last ask to the store. The limiter can be gone a moment before its drop has handed that
    /// over, so this waits for it: what is leased would lapse otherwise.
    pub(super) fn last(&self, clock: &Clock) -> Option<Ask> {
        loop {
            {
                let mut last = self.last.lock();
                if last.is_known {
                    return last.ask.take();
                }
            }
            clock.park(&self.parker, None);
        }
    }
}
