//! Where a run's items come from: a slice, or a queue that a feeder thread fills.
//!
//! A slice needs only an index. Any other iterator is the user's code and may block (a stalled
//! stdin) or panic, so it is pulled by one thread of its own into an [`InputQueue`]; what has been
//! pulled and not yet been handed to the consumer is bounded by the queue's window.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::clock::{Clock, Parker, unpark};
use crate::sync::Mutex;

/// The next item of a run, asked for under the run's lock: never blocks, never calls user code.
pub(crate) trait Source<I>: Send {
    /// `stopped`: the run takes nothing new; what was pulled already is still given out.
    /// `waiter` is unparked at the next arrival, or at the end, if the answer is [`Pull::Empty`].
    fn pull(&mut self, stopped: bool, waiter: &Arc<Parker>) -> Pull<I>;

    /// Whether it is certain that nothing more will come.
    fn is_spent(&self) -> bool;
}

#[derive(Debug)]
pub(crate) enum Pull<I> {
    Item(u64, I),
    /// The input's iterator panicked here.
    Broken(u64, String),
    /// Nothing now.
    Empty,
    End,
}

/// The items of a slice, by reference, in order.
#[derive(Debug)]
pub(crate) struct SliceSource<'a, T> {
    items: std::iter::Enumerate<std::slice::Iter<'a, T>>,
}

impl<'a, T> SliceSource<'a, T> {
    pub(crate) fn new(items: &'a [T]) -> Self {
        Self {
            items: items.iter().enumerate(),
        }
    }
}

impl<'a, T: Sync> Source<&'a T> for SliceSource<'a, T> {
    fn pull(&mut self, _stopped: bool, _waiter: &Arc<Parker>) -> Pull<&'a T> {
        match self.items.next() {
            Some((index, item)) => Pull::Item(index as u64, item),
            None => Pull::End,
        }
    }

    fn is_spent(&self) -> bool {
        self.items.len() == 0
    }
}

/// The queue between a feeder and a run.
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
    /// How many items may be in the queue: two for each permit, so that there is still one each when the
    /// feeder is woken, should all permits be free in the same moment. More would only take memory; with
    /// one each, threads were seen to wait for the feeder.
    fn most_ready(&self) -> usize {
        self.window.div_ceil(2)
    }

    fn has_room(&self) -> bool {
        !self.closed && self.outstanding < self.window && self.ready.len() < self.most_ready()
    }

    /// Not at every free place: to wake the feeder for a single item would cost more than the item.
    fn runs_low(&self) -> bool {
        self.has_room() && self.ready.len() <= self.most_ready() / 2
    }

    fn feeder_if_low(&mut self) -> Option<Arc<Parker>> {
        if self.runs_low() {
            self.feeder.take()
        } else {
            None
        }
    }
}

impl<I: Send> InputQueue<I> {
    pub(crate) fn new(window: usize, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            state: Mutex::new(Queue {
                window: window.max(1),
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

    /// Pulls items on the calling thread, as long as there is room; `false` once that is all.
    pub(crate) fn fill(&self, items: &mut impl Iterator<Item = I>) -> bool {
        !self.pull_caught(|| {
            while self.state.lock().has_room() {
                if !self.pull_one(items) {
                    return true;
                }
            }
            false
        })
    }

    /// Whether it is time to [`fill`](Self::fill) it again.
    pub(crate) fn runs_low(&self) -> bool {
        self.state.lock().runs_low()
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
}

impl<I: Send> Source<I> for Arc<InputQueue<I>> {
    fn pull(&mut self, stopped: bool, waiter: &Arc<Parker>) -> Pull<I> {
        let mut queue = self.state.lock();
        queue.closed |= stopped;
        if let Some(item) = queue.ready.pop_front() {
            let index = queue.next_index;
            queue.next_index += 1;
            let feeder = queue.feeder_if_low();
            drop(queue);
            unpark(feeder);
            return Pull::Item(index, item);
        }
        if let Some(message) = queue.panicked.take() {
            return Pull::Broken(queue.next_index, message);
        }
        // A feeder that is blocked in its iterator cannot be waited for: a stalled stdin must not hold up
        // the end of a run that was stopped.
        if queue.ended || queue.closed {
            return Pull::End;
        }
        queue.leader = Some(Arc::clone(waiter));
        Pull::Empty
    }

    fn is_spent(&self) -> bool {
        let queue = self.state.lock();
        queue.ready.is_empty() && queue.ended && queue.panicked.is_none()
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
    fn the_feeder_rests_while_half_a_window_lies_ready_and_goes_on_below_a_quarter() {
        let time = VirtualClock::new();
        let queue = InputQueue::new(8, time.clock());
        let pulled = AtomicUsize::new(0);
        let endless = (0..).inspect(|_: &u64| {
            pulled.fetch_add(1, Ordering::SeqCst);
        });
        let mut seen = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| queue.feed(endless));
            let mut source = Arc::clone(&queue);
            for _ in 0..3 {
                time.wait_parked(1);
                seen.push(pulled.load(Ordering::SeqCst));
                source.pull(false, &Parker::new());
            }
            // Whatever went wrong, the thread must end.
            queue.close();
        });
        assert_eq!(seen, [4, 4, 6]);
    }
}
