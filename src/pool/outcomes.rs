//! How an item ended, and where outcomes go: into the slots of a vector, or through a bounded
//! channel, at whose other end is the caller or an iterator.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::job::{Billed, Failure, run_over};
use crate::binding::Times;
use crate::clock::{Clock, Parker};
use crate::error::ErrorKind;

/// How one item ended.
///
/// Of a [`Pool`](crate::Pool) the error is a [`Failure`] around the closure's own error; of a
/// [`Client`](crate::Client) the item is a [`Request`](crate::Request) and the error an
/// [`Error`](crate::Error).
///
/// The outcome has the item, so what belongs to an item can be a part of it. With a request goes
/// its [id](crate::Request::with_id).
///
/// ```
/// use tollgate::Pool;
///
/// let cities = [("fr", "Paris"), ("pe", "Lima")];
/// let task = Pool::new(4)?.task(|(_, name): &(&str, &str), _| Ok::<_, std::io::Error>(name.len()));
/// task.for_each(cities, |done| {
///     let Some((country, city)) = done.input else { return };
///     match done.result {
///         Ok(letters) => println!("{country}: {city} has {letters} letters"),
///         Err(error) => println!("{country}: {error} after {} attempts", done.attempts),
///     }
/// })?;
/// # Ok::<(), tollgate::Error>(())
/// ```
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
    /// The attempts that were sent.
    pub(crate) spans: Spans,
}

/// The attempts at one item. The last is the one that decided about it; one that ran beside it
/// stands before it.
pub(crate) type Spans = Vec<Span>;

/// An attempt that was sent: when it was under way, and how it failed, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// Its kind, and the status of its answer.
    pub(crate) failure: Option<(ErrorKind, Option<u16>)>,
    /// It was cut off, as another attempt beside it had decided.
    pub(crate) is_cut: bool,
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

    /// The same outcome with another result.
    pub(crate) fn map<U, F>(
        self,
        change: impl FnOnce(Result<T, E>) -> Result<U, F>,
    ) -> Outcome<I, U, F> {
        Outcome {
            index: self.index,
            input: self.input,
            result: change(self.result),
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

/// Takes outcomes from a run's threads, and returns `false` if nobody wants any more. May block:
/// the thread then holds no permit.
pub(super) type Sink<'a, I, T, E> = dyn Fn(JobOutcome<I, T, E>) -> bool + Sync + 'a;

/// An outcome on its way to the consumer.
pub(super) struct Delivery<I, T, E> {
    pub(super) outcome: JobOutcome<I, T, E>,
    pub(super) ack: Option<AckGuard>,
}

/// Holds the thread that delivered an outcome until this is dropped. What has finished and is not
/// acknowledged is then never more than there are threads, and a consumer that writes outcomes down
/// loses no more than that when the process is killed.
pub(super) struct AckGuard(Arc<Parker>);

impl Drop for AckGuard {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// Sends outcomes to whoever takes them as they finish. The end is when all threads of the run have
/// dropped this.
///
/// With `acknowledged`, each delivery comes with an [`AckGuard`]. The channel is then to be one
/// without a bound. No more can be in it than there are threads; and when its receiver is dropped
/// it drops what it holds, guards and all, which a bounded one does not.
pub(super) fn sending<I: Send, T: Send, E: Send>(
    sender: Sender<Delivery<I, T, E>>,
    acknowledged: bool,
) -> impl Fn(JobOutcome<I, T, E>) -> bool + Send + Sync {
    move |outcome| {
        let parker = acknowledged.then(Parker::new);
        let ack = parker.clone().map(AckGuard);
        let wanted = sender.send(Delivery { outcome, ack }).is_ok();
        if let Some(parker) = parker {
            // Nothing is waited for but the guard's drop, so the system's clock will do.
            Clock::system().park(&parker, None);
        }
        wanted
    }
}
