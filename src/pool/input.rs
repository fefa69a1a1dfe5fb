//! Where a run's items come from: a queue that is filled at once or by a feeder thread.
//!
//! The items of a slice are all there from the start. Any other iterator is the user's code and may
//! block (a stalled stdin) or panic, so it is pulled by one thread of its own; what has been pulled
//! and not yet been handed to the consumer is bounded by the queue's window.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::clock::{Clock, Parker, unpark};
use crate::sync::Mutex;

/// The next item of a run.
pub(super) enum Pull<I> {
    /// With its index, and whether it is known to be the last.
    Item(u64, I, bool),
    /// The input's iterator panicked here.
    Broken(u64, String),
    /// Nothing now.
    Empty,
    End,
}

/// The queue that a run takes its items from: filled at once, or by a feeder.
pub(crate) struct InputQueue<I> {
    clock: Clock,
    state: Mutex<Queue<I>>,
}

struct Queue<I> {
    window: usize,
    ready: VecDeque<I>,
    /// Index of the first item in `ready`.
    next_index: u64,
    /// Pulled from the iterator and not yet handed to the consumer.
    outstanding: usize,
    /// The iterator has given all it had.
    ended: bool,
    /// What it panicked with, until that is reported.
    panicked: Option<String>,
    /// Nothing more is to be pulled.
    closed: bool,
    /// The feeder, parked because the queue or the window is full.
    feeder: Option<Arc<Parker>>,
    /// The run's leader, parked because the queue is empty.
    leader: Option<Arc<Parker>>,
}

impl<I> Queue<I> {
    /// How many items may be in the queue: two for each permit, so that there is still one each
    /// when the feeder is woken, should all permits be free in the same moment. More would only
    /// take memory; with one each, threads were seen to wait for the feeder.
    fn most_ready(&self) -> usize {
        self.window.div_ceil(2)
    }

    fn has_room(&self) -> bool {
        !self.closed && self.outstanding < self.window && self.ready.len() < self.most_ready()
    }

    fn is_spent(&self) -> bool {
        self.ready.is_empty() && self.ended && self.panicked.is_none()
    }

    /// Not at every free place: to wake the feeder for a single item would cost more than the item.
    fn runs_low(&self) -> bool {
        self.has_room() && self.ready.len() <= self.most_ready() / 2
    }

    fn feeder_if_low(&mut self) -> Option<Arc<Parker>> {
        let low = self.runs_low();
        self.feeder.take_if(|_| low)
    }
}

impl<I: Send> InputQueue<I> {
    /// An empty queue, with so many items at once between the iterator and the consumer.
    pub(crate) fn new(window: usize, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            state: Mutex::new(Queue {
                window,
                ready: VecDeque::new(),
                next_index: 0,
                outstanding: 0,
                ended: false,
                panicked: None,
                closed: false,
                feeder: None,
                leader: None,
            }),
        })
    }

    /// All the items there will be. Nobody waits for more, so any clock will do.
    pub(crate) fn filled(items: impl IntoIterator<Item = I>) -> Arc<Self> {
        let queue = Self::new(0, Clock::system());
        queue.update(|queue| {
            queue.ready = items.into_iter().collect();
            queue.ended = true;
            None
        });
        queue
    }

    /// Changes the queue under its lock, and then wakes who is to know of it.
    fn update(&self, change: impl FnOnce(&mut Queue<I>) -> Option<Arc<Parker>>) {
        let parker = change(&mut self.state.lock());
        unpark(parker);
    }

    /// Pulls the whole iterator through the window. This is the feeder thread.
    pub(crate) fn feed(&self, items: impl IntoIterator<Item = I>) {
        let parker = Parker::new();
        self.pull_caught(|| {
            let mut items = items.into_iter();
            // Room first: what has been pulled must have a place.
            while self.wait_for_room(&parker) && self.pull_one(&mut items) {}
            // The iterator is the user's too: its drop may panic, and must not hold a lock.
            drop(items);
            true
        });
    }

    /// Pulls items on the calling thread if few are left, as long as there is room; `false` once
    /// that is all.
    pub(super) fn fill(&self, items: &mut impl Iterator<Item = I>) -> bool {
        if !self.state.lock().runs_low() {
            return true;
        }
        !self.pull_caught(|| {
            while self.state.lock().has_room() {
                if !self.pull_one(items) {
                    return true;
                }
            }
            false
        })
    }

    /// Does `pull`, which says whether the input has ended. A panic ends it, too.
    fn pull_caught(&self, pull: impl FnOnce() -> bool) -> bool {
        let (ended, panicked) = match catch_unwind(AssertUnwindSafe(pull)) {
            Ok(ended) => (ended, None),
            Err(panic) => (true, Some(panic_message(&*panic))),
        };
        if ended {
            self.update(|queue| {
                queue.ended = true;
                queue.panicked = panicked;
                queue.leader.take()
            });
        }
        ended
    }

    /// Pulls an item, for which there is room; `false` if there was none.
    fn pull_one(&self, items: &mut impl Iterator<Item = I>) -> bool {
        let Some(item) = items.next() else {
            return false;
        };
        self.update(|queue| {
            queue.outstanding += 1;
            queue.ready.push_back(item);
            queue.leader.take()
        });
        true
    }

    fn wait_for_room(&self, parker: &Arc<Parker>) -> bool {
        loop {
            {
                let mut queue = self.state.lock();
                if queue.closed || queue.has_room() {
                    return !queue.closed;
                }
                queue.feeder = Some(Arc::clone(parker));
            }
            self.clock.park(parker, None);
        }
    }

    /// The consumer has taken over `count` outcomes.
    pub(crate) fn delivered(&self, count: usize) {
        self.update(|queue| {
            queue.outstanding = queue.outstanding.saturating_sub(count);
            queue.feeder_if_low()
        });
    }

    /// Pulls nothing more.
    pub(crate) fn close(&self) {
        self.update(|queue| {
            queue.closed = true;
            queue.feeder.take()
        });
        self.update(|queue| queue.leader.take());
    }

    /// Takes what nobody will attempt any more, with its indices.
    pub(crate) fn take_rest(&self) -> impl Iterator<Item = (u64, I)> {
        let mut queue = self.state.lock();
        (queue.next_index..).zip(std::mem::take(&mut queue.ready))
    }

    /// The next item. Never blocks and never calls user code: the run's lock is held. `stopped`:
    /// the run takes nothing new; what was pulled already is still given out. `waiter` is unparked
    /// at the next arrival, or at the end, if the answer is [`Pull::Empty`].
    pub(super) fn pull(&self, stopped: bool, waiter: &Arc<Parker>) -> Pull<I> {
        let mut queue = self.state.lock();
        queue.closed |= stopped;
        if let Some(item) = queue.ready.pop_front() {
            let index = queue.next_index;
            queue.next_index += 1;
            let feeder = queue.feeder_if_low();
            let is_last = queue.is_spent();
            drop(queue);
            unpark(feeder);
            return Pull::Item(index, item, is_last);
        }
        if let Some(message) = queue.panicked.take() {
            return Pull::Broken(queue.next_index, message);
        }
        // A feeder that is blocked in its iterator cannot be waited for: a stalled stdin must not
        // hold up the end of a run that was stopped.
        if queue.ended || queue.closed {
            return Pull::End;
        }
        queue.leader = Some(Arc::clone(waiter));
        Pull::Empty
    }

    /// Whether there is room for more than the iterator has given.
    pub(super) fn is_behind(&self) -> bool {
        let queue = self.state.lock();
        queue.ready.is_empty() && !queue.ended && queue.has_room()
    }

    /// Whether it is certain that nothing more will come.
    pub(super) fn is_spent(&self) -> bool {
        self.state.lock().is_spent()
    }
}

/// What a panic said, as far as it said it in text.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_string())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::clock::VirtualClock;

    #[test]
    fn the_feeder_waits_while_half_a_window_is_ready_and_goes_on_below_a_quarter() {
        let time = VirtualClock::new();
        let queue = InputQueue::new(8, time.clock());
        let pulled = AtomicUsize::new(0);
        let endless = (0..).inspect(|_: &u64| {
            pulled.fetch_add(1, Ordering::SeqCst);
        });
        let mut seen = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| queue.feed(endless));
            for _ in 0..3 {
                time.wait_parked(1);
                seen.push(pulled.load(Ordering::SeqCst));
                queue.pull(false, &Parker::new());
            }
            // Whatever went wrong, the thread must end.
            queue.close();
        });
        assert_eq!(seen, [4, 4, 6]);
    }
}
