//! How an item ended, and where outcomes go: into the slots of a vector, or through a bounded
//! channel, at whose other end is the caller or an iterator.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::input::InputQueue;
use super::job::{Billed, Failure, run_over};
use crate::binding::Times;
use crate::cancel::Cancel;
use crate::clock::{Clock, Parker};
use crate::error::{Error, ErrorKind};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// How one item ended.
///
/// Of a [`Pool`](crate::Pool) the error is a [`Failure`] around the closure's own error; of a
/// [`Client`](crate::Client) the item is a [`Request`](crate::Request) and the error an
/// [`Error`](crate::Error).
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<I, T, E> {
    /// The item's place in the input, from 0.
    pub index: u64,
    /// The item; `None` only where the input's iterator itself panicked.
    pub input: Option<I>,
    /// Its result, or why there is none.
    pub result: Result<T, E>,
    /// How many attempts it took, not counting those in which nothing was sent.
    pub attempts: u32,
    /// Where its time went: to each wait, and to the wire.
    pub times: Times,
    /// Whether this failure stopped the run.
    pub stopped_run: bool,
    /// If it did because answers were alike: how many in a row.
    pub(crate) alike: u32,
    pub(crate) billed: Billed,
    /// Its answer is that of a copy of the first attempt.
    pub(crate) by_copy: bool,
    /// The attempts that were sent, in their order.
    pub(crate) spans: Spans,
}

/// The attempts at one item. The last is the one that decided about it. One that ran beside it and
/// did not is left out.
pub(crate) type Spans = Vec<Span>;

/// So many attempts at an item are kept, those that came first and the latest.
const MOST_SPANS: usize = 100;

/// An attempt that was sent: when it was under way, and how it failed, if it did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// Its kind, and the status of its answer.
    pub(crate) failure: Option<(ErrorKind, Option<u16>)>,
}

impl Span {
    pub(super) fn new(began: Instant, ended: Instant, error: Option<Error>) -> Self {
        let status = |error: &Error| error.status().map(|status| status.as_u16());
        Self {
            began,
            ended,
            failure: error.map(|error| (error.kind(), status(&error))),
        }
    }

    pub(super) fn note_in(self, spans: &mut Spans) {
        spans.truncate(MOST_SPANS - 1);
        spans.push(self);
    }
}

impl<I, T, E> Outcome<I, T, E> {
    /// The outcome of an item that was never attempted.
    pub(super) fn not_attempted(index: u64, input: Option<I>, result: Result<T, E>) -> Self {
        Self {
            index,
            input,
            result,
            attempts: 0,
            times: Times::default(),
            stopped_run: false,
            alike: 0,
            billed: Billed::No,
            by_copy: false,
            spans: Spans::new(),
        }
    }

    /// The same outcome with another error, made of the error, the attempts, whether it stopped the
    /// run, and after how many answers alike.
    pub(crate) fn map_err<F>(
        self,
        change: impl FnOnce(E, u32, bool, u32) -> F,
    ) -> Outcome<I, T, F> {
        Outcome {
            index: self.index,
            input: self.input,
            result: self
                .result
                .map_err(|error| change(error, self.attempts, self.stopped_run, self.alike)),
            attempts: self.attempts,
            times: self.times,
            stopped_run: self.stopped_run,
            alike: self.alike,
            billed: self.billed,
            by_copy: self.by_copy,
            spans: self.spans,
        }
    }
}

/// The outcomes of a run that goes on by itself, one for each item.
///
/// [`Client::as_completed`](crate::Client::as_completed) and
/// [`Task::as_completed`](crate::Task::as_completed) give them as they finish,
/// [`Client::in_order`](crate::Client::in_order) and [`Task::in_order`](crate::Task::in_order) in
/// the order of the input. Dropping the iterator stops new work at once; what is in flight ends by
/// itself.
#[must_use = "dropping it stops the run"]
pub struct Outcomes<I, T, E>(pub(crate) Box<dyn Iterator<Item = Outcome<I, T, E>> + Send>);

impl<I, T, E> Iterator for Outcomes<I, T, E> {
    type Item = Outcome<I, T, E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl<I, T, E> fmt::Debug for Outcomes<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes").finish_non_exhaustive()
    }
}

/// The outcome of an item as the engine knows it.
pub(crate) type JobOutcome<I, T, E> = Outcome<I, T, Failure<E>>;

impl<I, T, E> JobOutcome<I, T, E> {
    /// The outcome of an item that its run never came to.
    pub(super) fn run_over(index: u64, input: I) -> Self {
        let (reason, last) = (run_over(), None);
        let failure = Failure::NotCompleted { reason, last };
        Self::not_attempted(index, Some(input), Err(failure))
    }
}

/// Takes outcomes from a run's threads. May block: the thread then holds no permit.
pub(crate) trait Sink<I, T, E>: Sync {
    /// `false` if nobody wants any more.
    fn deliver(&self, outcome: JobOutcome<I, T, E>) -> bool;

    /// Every outcome has been delivered.
    fn end(&self);
}

/// A slot for each index: no order to restore, no thread to wake.
pub(super) type Slots<I, T, E> = Vec<Mutex<Option<JobOutcome<I, T, E>>>>;

impl<I: Send, T: Send, E: Send> Sink<I, T, E> for Slots<I, T, E> {
    fn deliver(&self, outcome: JobOutcome<I, T, E>) -> bool {
        // A slice's indices are those of the slots.
        let slot = usize::try_from(outcome.index)
            .ok()
            .and_then(|index| self.get(index));
        let replaced = slot.and_then(|slot| slot.lock().replace(outcome));
        debug_assert!(replaced.is_none(), "one outcome an item");
        true
    }

    fn end(&self) {}
}

/// The sending side of a run whose consumer takes outcomes as they finish.
pub(crate) struct Channel<I, T, E> {
    sender: Sender<Option<Delivery<I, T, E>>>,
    /// Whether a thread waits until its outcome is acknowledged.
    acknowledged: bool,
    gone: Arc<AtomicBool>,
}

/// An outcome on its way to the consumer.
pub(crate) struct Delivery<I, T, E> {
    pub(crate) outcome: JobOutcome<I, T, E>,
    pub(crate) ack: Option<AckGuard>,
}

/// Holds the thread that delivered an outcome until this is dropped. What has finished and is not
/// acknowledged is then never more than there are threads, and a consumer that writes outcomes down
/// loses no more than that when the process is killed.
pub(crate) struct AckGuard(Arc<Parker>);

impl Drop for AckGuard {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// The receiving side.
pub(crate) struct Inbox<I, T, E> {
    /// `None` is the end.
    pub(crate) receiver: Receiver<Option<Delivery<I, T, E>>>,
    gone: Arc<AtomicBool>,
}

/// What nobody receives stays in a channel for as long as somebody may send, and its guards with
/// it: whoever leaves drops them.
impl<I, T, E> Drop for Inbox<I, T, E> {
    fn drop(&mut self) {
        // First: a thread that sends after the last look must not begin to wait.
        self.gone.store(true, Ordering::SeqCst);
        self.receiver.try_iter().for_each(drop);
    }
}

/// With `acknowledged`, each delivery comes with an [`AckGuard`].
pub(crate) fn channel<I, T, E>(
    capacity: usize,
    acknowledged: bool,
) -> (Channel<I, T, E>, Inbox<I, T, E>) {
    let (sender, receiver) = bounded(capacity);
    let gone = Arc::new(AtomicBool::new(false));
    let channel = Channel {
        sender,
        acknowledged,
        gone: Arc::clone(&gone),
    };
    (channel, Inbox { receiver, gone })
}

impl<I: Send, T: Send, E: Send> Sink<I, T, E> for Channel<I, T, E> {
    fn deliver(&self, outcome: JobOutcome<I, T, E>) -> bool {
        let parker = self.acknowledged.then(Parker::new);
        let ack = parker.clone().map(AckGuard);
        let wanted = self.sender.send(Some(Delivery { outcome, ack })).is_ok();
        if let Some(parker) = parker
            && wanted
            && !self.gone.load(Ordering::SeqCst)
        {
            // Nothing is waited for but the guard's drop, so the system's clock will do.
            Clock::system().park(&parker, None);
        }
        wanted
    }

    fn end(&self) {
        // A consumer that has gone needs no word of the end.
        let _gone = self.sender.send(None);
    }
}

/// Ends a run whose consumer leaves.
pub(super) struct StopOnDrop<I: Send> {
    pub(super) cancel: Cancel,
    pub(super) queue: Arc<InputQueue<I>>,
    /// What is in flight is ended, too.
    pub(super) abort: bool,
}

impl<I: Send> Drop for StopOnDrop<I> {
    fn drop(&mut self) {
        if self.abort {
            self.cancel.abort();
        } else {
            self.cancel.cancel();
        }
        self.queue.close();
    }
}
