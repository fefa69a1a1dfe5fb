//! Where outcomes go: into the slots of a vector, or through a bounded channel.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::job::{Done, Failure};
use crate::clock::{Clock, Parker};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Takes outcomes from a run's threads. May block: the thread then holds no permit.
pub(crate) trait Sink<I, T, E>: Sync {
    /// `false` if nobody wants any more.
    fn deliver(&self, done: Done<I, T, E>) -> bool;

    /// Every outcome has been delivered.
    fn end(&self);
}

/// A slot for each index: no order to restore, no thread to wake.
#[derive(Debug)]
pub(crate) struct Slots<T, E>(Vec<Mutex<Option<Outcome<T, E>>>>);

/// A [`Done`] of a slice, whose place and item the caller knows.
#[derive(Debug)]
pub(crate) struct Outcome<T, E> {
    pub(crate) result: Result<T, Failure<E>>,
    pub(crate) attempts: u32,
    pub(crate) stopped_run: bool,
}

impl<T, E> Slots<T, E> {
    pub(crate) fn new(len: usize) -> Self {
        Self((0..len).map(|_| Mutex::new(None)).collect())
    }

    /// All outcomes by index; `missing` stands for what was never delivered.
    pub(crate) fn into_outcomes(
        self,
        missing: impl Fn() -> Failure<E>,
    ) -> impl Iterator<Item = Outcome<T, E>> {
        self.0.into_iter().map(move |slot| {
            slot.into_inner().unwrap_or_else(|| Outcome {
                result: Err(missing()),
                attempts: 0,
                stopped_run: false,
            })
        })
    }
}

impl<I, T: Send, E: Send> Sink<I, T, E> for Slots<T, E> {
    fn deliver(&self, done: Done<I, T, E>) -> bool {
        // A slice's indices are those of the slots.
        let slot = usize::try_from(done.index)
            .ok()
            .and_then(|index| self.0.get(index));
        let outcome = Outcome {
            result: done.result,
            attempts: done.attempts,
            stopped_run: done.stopped_run,
        };
        let replaced = slot.and_then(|slot| slot.lock().replace(outcome));
        debug_assert!(replaced.is_none(), "one outcome an item");
        true
    }

    fn end(&self) {}
}

/// The sending side of a run whose consumer takes outcomes as they come.
#[derive(Debug)]
pub(crate) struct Channel<I, T, E> {
    sender: Sender<Option<Delivery<I, T, E>>>,
    /// Whether a thread waits until its outcome is settled.
    held: bool,
    gone: Arc<AtomicBool>,
}

/// An outcome on its way to the consumer.
#[derive(Debug)]
pub(crate) struct Delivery<I, T, E> {
    pub(crate) done: Done<I, T, E>,
    pub(crate) hold: Option<Hold>,
}

/// Holds the thread that delivered an outcome, until this is dropped: what has finished and is not
/// settled then never is more than there are threads, and a consumer that writes it down loses no
/// more than that when the process is killed.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Parker>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct Outcomes<I, T, E> {
    /// `None` is the end.
    pub(crate) receiver: Receiver<Option<Delivery<I, T, E>>>,
    gone: Arc<AtomicBool>,
}

/// What nobody takes any more stays in a channel for as long as somebody may send, and with it the
/// holds: whoever leaves lets go of them.
impl<I, T, E> Drop for Outcomes<I, T, E> {
    fn drop(&mut self) {
        // First: a thread that sends after the last look must not begin to wait.
        self.gone.store(true, Ordering::SeqCst);
        self.receiver.try_iter().for_each(drop);
    }
}

/// With `held`, each delivery comes with a [`Hold`].
pub(crate) fn channel<I, T, E>(
    capacity: usize,
    held: bool,
) -> (Channel<I, T, E>, Outcomes<I, T, E>) {
    let (sender, receiver) = bounded(capacity);
    let gone = Arc::new(AtomicBool::new(false));
    let channel = Channel {
        sender,
        held,
        gone: Arc::clone(&gone),
    };
    (channel, Outcomes { receiver, gone })
}

impl<I: Send, T: Send, E: Send> Sink<I, T, E> for Channel<I, T, E> {
    fn deliver(&self, done: Done<I, T, E>) -> bool {
        if !self.held {
            return self
                .sender
                .send(Some(Delivery { done, hold: None }))
                .is_ok();
        }
        let parker = Parker::new();
        let hold = Some(Hold(Arc::clone(&parker)));
        let wanted = self.sender.send(Some(Delivery { done, hold })).is_ok();
        if wanted && !self.gone.load(Ordering::SeqCst) {
            // Not for a time to come, so whatever clock the run goes by.
            Clock::system().park(&parker, None);
        }
        wanted
    }

    fn end(&self) {
        // A consumer that has gone needs no word of the end.
        let _gone = self.sender.send(None);
    }
}
