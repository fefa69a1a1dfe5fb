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
    window: usize,
    state: Mutex<Queue<I>>,
}

struct Queue<I> {
    ready: VecDeque<I>,
    /// Index of the first item in `ready`.
    next_index: u64,
    /// Pulled from the iterator and not yet handed to the consumer.
    outstanding: usize,
    end: Option<End>,
    closed: bool,
    /// The feeder, lying down because the queue or the window is full.
    feeder: Option<Arc<Parker>>,
    /// The run's leader, lying down because the queue is empty.
    leader: Option<Arc<Parker>>,
}

/// How many items may lie in the queue: two for each place in flight, so that there is still one
/// each when the feeder is woken, should all places be free in the same moment. More would only
/// take memory; with one each, threads were seen to wait for the feeder.
const fn most_ready(window: usize) -> usize {
    window.div_ceil(2)
}

impl<I> Queue<I> {
    fn has_room(&self, window: usize) -> bool {
        !self.closed && self.outstanding < window && self.ready.len() < most_ready(window)
    }

    /// Not at every free place: waking the feeder for a single item each would cost more than the
    /// item.
    fn runs_low(&self, window: usize) -> bool {
        self.has_room(window) && self.ready.len() <= most_ready(window) / 2
    }

    fn feeder_if_low(&mut self, window: usize) -> Option<Arc<Parker>> {
        if self.runs_low(window) {
            self.feeder.take()
        } else {
            None
        }
    }
}

enum End {
    Clean,
    Panicked(String),
    Reported,
}

impl<I: Send> InputQueue<I> {
    pub(crate) fn new(window: usize, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            window: window.max(1),
            state: Mutex::new(Queue {
                ready: VecDeque::new(),
                next_index: 0,
                outstanding: 0,
                end: None,
                closed: false,
                feeder: None,
                leader: None,
            }),
        })
    }

    /// Pulls the whole iterator through the window. This is the feeder thread.
    pub(crate) fn feed(&self, items: impl IntoIterator<Item = I>) {
        let parker = Parker::new();
        let end = catch_unwind(AssertUnwindSafe(|| {
            let mut items = items.into_iter();
            // Room first: what has been pulled must have a place.
            while self.wait_for_room(&parker) {
                match items.next() {
                    Some(item) => self.push(item),
                    None => break,
                }
            }
            // The iterator is the user's too: its drop may panic, and must not hold a lock.
            drop(items);
        }));
        self.end(match end {
            Ok(()) => End::Clean,
            Err(panic) => End::Panicked(panic_message(&*panic)),
        });
    }

    /// Pulls items on the calling thread, as long as there is room; `false` once that is all.
    pub(crate) fn fill(&self, items: &mut impl Iterator<Item = I>) -> bool {
        while self.state.lock().has_room(self.window) {
            match catch_unwind(AssertUnwindSafe(|| items.next())) {
                Ok(Some(item)) => self.push(item),
                Ok(None) => {
                    self.end(End::Clean);
                    return false;
                }
                Err(panic) => {
                    self.end(End::Panicked(panic_message(&*panic)));
                    return false;
                }
            }
        }
        true
    }

    /// Whether it is time to [`fill`](Self::fill) it again.
    pub(crate) fn runs_low(&self) -> bool {
        self.state.lock().runs_low(self.window)
    }

    fn end(&self, end: End) {
        let leader = {
            let mut state = self.state.lock();
            state.end = Some(end);
            state.leader.take()
        };
        unpark(leader);
    }

    fn wait_for_room(&self, parker: &Arc<Parker>) -> bool {
        loop {
            {
                let mut state = self.state.lock();
                if state.closed {
                    return false;
                }
                if state.has_room(self.window) {
                    return true;
                }
                state.feeder = Some(Arc::clone(parker));
            }
            self.clock.park(parker, None);
        }
    }

    fn push(&self, item: I) {
        let leader = {
            let mut state = self.state.lock();
            state.outstanding += 1;
            state.ready.push_back(item);
            state.leader.take()
        };
        unpark(leader);
    }

    /// The consumer has taken over `count` outcomes.
    pub(crate) fn delivered(&self, count: usize) {
        let feeder = {
            let mut state = self.state.lock();
            state.outstanding = state.outstanding.saturating_sub(count);
            state.feeder_if_low(self.window)
        };
        unpark(feeder);
    }

    /// Pulls nothing more.
    pub(crate) fn close(&self) {
        let (feeder, leader) = {
            let mut state = self.state.lock();
            state.closed = true;
            (state.feeder.take(), state.leader.take())
        };
        unpark(feeder);
        unpark(leader);
    }

    /// Takes what nobody will attempt any more, with its indices.
    pub(crate) fn take_rest(&self) -> Vec<(u64, I)> {
        let mut state = self.state.lock();
        let first = state.next_index;
        let rest = std::mem::take(&mut state.ready);
        drop(state);
        (first..).zip(rest).collect()
    }
}

impl<I: Send> Source<I> for Arc<InputQueue<I>> {
    fn pull(&mut self, stopped: bool, waiter: &Arc<Parker>) -> Pull<I> {
        let mut state = self.state.lock();
        state.closed |= stopped;
        if let Some(item) = state.ready.pop_front() {
            let index = state.next_index;
            state.next_index += 1;
            let feeder = state.feeder_if_low(self.window);
            drop(state);
            unpark(feeder);
            return Pull::Item(index, item);
        }
        match state.end.take() {
            // A feeder that is blocked in its iterator cannot be waited for: a stalled stdin must
            // not hold up the end of a run that was stopped.
            None if state.closed => Pull::End,
            None => {
                state.leader = Some(Arc::clone(waiter));
                Pull::Empty
            }
            Some(End::Panicked(message)) => {
                state.end = Some(End::Reported);
                Pull::Broken(state.next_index, message)
            }
            Some(end) => {
                state.end = Some(end);
                Pull::End
            }
        }
    }

    fn is_spent(&self) -> bool {
        let state = self.state.lock();
        state.ready.is_empty() && matches!(state.end, Some(End::Clean | End::Reported))
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
