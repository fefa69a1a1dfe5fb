//! The pool's public face: any blocking closure, with the same limits, retries and threads as an
//! API request.

use std::borrow::Borrow;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::events::{Events, Observer};
use super::job::{Attempt, Failure, Job, Panicked};
use super::monitor::Monitor;
use super::outcomes::{Outcome, Outcomes};
use super::run::Feed;
use super::settings::Settings;
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::{Concurrency, Cost, Limiter};
use crate::retry::{Retry, Verdict};

/// Calls a blocking closure for each of many items, several at once and no faster than its limiter
/// allows. It retries what may pass, and one item's failure takes no other down.
///
/// A *job* is the closure at work on one item. Jobs run on threads of the pool's own, named
/// `tollgate-N`, with 512 KiB of stack. They are started as they are needed and gone at the end of
/// each run. Closures may borrow. Cloning is cheap; clones share the limiter. A closure that panics
/// fails its own item only, provided the program is built with `panic = "unwind"` (the default).
///
/// | For | Call |
/// |---|---|
/// | a slice, and work that does not fail | [`map`](Pool::map) |
/// | a slice, and work that may be tried again | [`try_map`](Pool::try_map) |
/// | a lazy input, costs, attempts | [`task`](Pool::task) |
///
/// A run started from inside a job of the same pool would wait for a permit that it holds itself;
/// it is refused at once ([`ErrorKind::Nested`]).
///
/// ```
/// use tollgate::{Pool, Retry, Verdict};
///
/// let words = ["one", "three", "five"];
/// let pool = Pool::new(8)?.with_retry(Retry::new().max_attempts(3));
/// let lengths = pool.try_map(
///     &words,
///     |word| if word.len() > 4 { Err("too long") } else { Ok(word.len()) },
///     |_error| Verdict::Fail,
/// );
/// assert_eq!(*lengths[0].as_ref().unwrap(), 3);
/// assert!(lengths[1].is_err());
/// assert_eq!(lengths.len(), words.len(), "one result for each, in the input's order");
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pool {
    pub(crate) settings: Settings,
}

/// The most threads a pool will try to start: beyond it the system's own limits are met first.
const MOST_THREADS: usize = 10_000;

impl Pool {
    /// A pool of at most `concurrency` jobs at once, with the default [`Retry`] policy. Of a range
    /// such as `4..=200` it finds the number.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for 0, for an empty range, or for more than 10,000.
    pub fn new(concurrency: impl Into<Concurrency>) -> Result<Self> {
        Self::from_limiter(Limiter::builder().concurrency(concurrency).build()?)
    }

    /// A pool whose jobs each take a permit of `limiter`. The limiter's concurrency is also the
    /// most threads a run will have.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the limiter has no
    /// [`concurrency`](crate::LimiterBuilder::concurrency), or one above 10,000.
    pub fn from_limiter(limiter: Limiter) -> Result<Self> {
        if limiter.concurrency() > MOST_THREADS {
            let why = "each request in flight has a thread, of which a client or a pool starts at most \
                       10,000: allow no more at once";
            return Err(Error::new(ErrorKind::Config, why).with_settings(&["concurrency"]));
        }
        Ok(Self {
            settings: Settings {
                limiter,
                retry: Retry::new(),
                cancel: Cancel::new(),
                monitor: Monitor::new(),
                events: Events::default(),
                deadline: None,
                warmup: 0,
                hedge: false,
            },
        })
    }

    /// The same pool with another retry policy. One that allows no attempt at all is refused when a
    /// run starts, with [`ErrorKind::Config`].
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// The same pool, whose runs `cancel` stops.
    pub fn with_cancel(mut self, cancel: &Cancel) -> Self {
        self.settings.cancel = cancel.clone();
        self
    }

    /// The same pool, whose runs `monitor` counts.
    pub fn with_monitor(mut self, monitor: &Monitor) -> Self {
        self.settings.monitor = monitor.clone();
        self
    }

    /// The same pool, which tells `observer` of each [`Event`](crate::Event).
    pub fn with_observer(mut self, observer: impl Observer + 'static) -> Self {
        self.settings.events = Events::new(observer);
        self
    }

    /// The same pool, each of whose runs may take as long as `deadline`. Default: no limit. What is
    /// not done by then fails with [`ErrorKind::Deadline`]. A closure that runs already is not
    /// interrupted.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = Some(deadline);
        self
    }

    /// The limiter of this pool.
    pub fn limiter(&self) -> &Limiter {
        &self.settings.limiter
    }

    /// Applies `work` to every item once; the results are in the order of the items.
    ///
    /// There are no retries here, and a [`Cancel`] or a deadline of the pool does not apply: every
    /// item is worked on. Use [`try_map`](Pool::try_map) for those.
    ///
    /// # Panics
    /// Inside a job of the same pool: the panic is that job's failure.
    pub fn map<T, R>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> R + Send + Sync,
    ) -> Vec<Result<R, Panicked>>
    where
        T: Sync,
        R: Send,
    {
        let mut pool = self.clone();
        pool.settings.cancel = Cancel::new();
        pool.settings.deadline = None;
        pool.settings.retry = Retry::never();
        let task = pool.task(|item: &T, _| Ok::<R, Infallible>(work(item)));
        let panicked = |failure| match failure {
            Failure::Panicked(panicked) => panicked,
            Failure::Job(never) => match never {},
            Failure::NotCompleted { reason, .. } => {
                assert!(reason.kind() != ErrorKind::Nested, "Pool::map: {reason}");
                let message = reason.to_string();
                Panicked { message }
            }
        };
        let results = task.map(items).into_iter();
        results.map(|result| result.map_err(panicked)).collect()
    }

    /// Applies `work` to every item; the results are in the order of the items. `verdict` says of
    /// each failure whether the item is tried again.
    ///
    /// It is [`Task::map`] of a task with this `work` and this `verdict`.
    pub fn try_map<T, R, E>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> Result<R, E> + Send + Sync,
        verdict: impl Fn(&E) -> Verdict + Send + Sync,
    ) -> Vec<Result<R, Failure<E>>>
    where
        T: Sync,
        R: Send,
        E: Send,
    {
        self.task(|item, _| work(item)).verdict(verdict).map(items)
    }

    /// A task: a closure that may fail, and what this pool is to know of it. Say what an item
    /// [costs](Task::cost) and what a failure [means](Task::verdict), then run it.
    ///
    /// `work` gets the item and the [`Attempt`] that is being made. By [`Attempt::settle`] it tells
    /// the limiter how many model tokens it has really used.
    ///
    /// ```
    /// use tollgate::{Cost, Limiter, Pool, Rate, Verdict};
    ///
    /// // 90,000 model tokens a minute, for anything that takes them.
    /// let limiter = Limiter::builder().tokens(Rate::per_minute(90_000)).concurrency(8).build()?;
    /// let pool = Pool::from_limiter(limiter)?;
    /// let lengths = pool
    ///     .task(|text: &&str, attempt| {
    ///         // ... ask something, and read from its answer what it took ...
    ///         attempt.settle(5);
    ///         Ok::<_, std::io::Error>(text.len())
    ///     })
    ///     .cost(|text| Cost::tokens(text.len() as u64 / 3))
    ///     .verdict(|_error| Verdict::Retry)
    ///     .map(&["a question", "another one"]);
    /// assert_eq!(*lengths[0].as_ref().unwrap(), 10);
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    pub fn task<'a, I, T, E>(
        &self,
        work: impl Fn(&I, &Attempt<'_>) -> Result<T, E> + Send + Sync + 'a,
    ) -> Task<'a, I, T, E> {
        Task {
            pool: self.clone(),
            work: Arc::new(work),
            cost: Arc::new(|_| Cost::ONE),
            verdict: Arc::new(|_| Verdict::Fail),
        }
    }
}

type Work<'a, I, T, E> = dyn Fn(&I, &Attempt<'_>) -> Result<T, E> + Send + Sync + 'a;

/// A closure with what a [`Pool`] is to know of it; made by [`Pool::task`].
///
/// It may be run as often as one likes, over a slice or over any iterator.
#[must_use = "a task does nothing until it is given items"]
pub struct Task<'a, I, T, E> {
    pool: Pool,
    work: Arc<Work<'a, I, T, E>>,
    cost: Arc<dyn Fn(&I) -> Cost + Send + Sync + 'a>,
    verdict: Arc<dyn Fn(&E) -> Verdict + Send + Sync + 'a>,
}

impl<'a, I, T, E> Task<'a, I, T, E>
where
    T: Send,
    E: Send,
{
    /// What an attempt at an item reserves with the limiter. Default: [`Cost::ONE`], a request
    /// without model tokens. Called once for each attempt.
    pub fn cost(mut self, cost: impl Fn(&I) -> Cost + Send + Sync + 'a) -> Self {
        self.cost = Arc::new(cost);
        self
    }

    /// What to do about a failed attempt. Default: [`Verdict::Fail`], which fails the item.
    pub fn verdict(mut self, verdict: impl Fn(&E) -> Verdict + Send + Sync + 'a) -> Self {
        self.verdict = Arc::new(verdict);
        self
    }

    /// Runs it over a slice; the results are in the order of the items. The calling thread takes
    /// part.
    ///
    /// Never fails as a whole: a run that cannot begin, or is stopped, has a
    /// [`Failure::NotCompleted`] for every item that was not done.
    pub fn map(&self, items: &[I]) -> Vec<Result<T, Failure<E>>>
    where
        I: Sync,
    {
        match self.pool.settings.collect(self.job::<&I>(), items) {
            Ok(outcomes) => outcomes.map(|outcome| outcome.result).collect(),
            Err(error) => {
                let not_begun = |_: &I| {
                    let (reason, last) = (error.clone(), None);
                    Err(Failure::NotCompleted { reason, last })
                };
                items.iter().map(not_begun).collect()
            }
        }
    }

    /// Runs it over the items of an iterator, and calls `done` on this thread with each outcome as
    /// it comes. Returns when all are through. The iterator is pulled on a thread of its own, as
    /// items are needed.
    ///
    /// At most max(1024, 4 × concurrency) items are pulled and not yet handed to `done`. A panic in
    /// the iterator becomes the last outcome; a panic in `done` ends the run and goes on here.
    ///
    /// ```
    /// use tollgate::Pool;
    ///
    /// let mut sum = 0;
    /// Pool::new(4)?
    ///     .task(|n: &u64, _| Ok::<_, std::io::Error>(n * n))
    ///     .for_each(1..=100, |done| sum += done.result.unwrap())?;
    /// assert_eq!(sum, 338_350);
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Nested`] inside a job of the same pool, [`ErrorKind::Config`] for a retry
    /// policy without attempts, [`ErrorKind::Io`] if no thread can be started.
    pub fn for_each(
        &self,
        items: impl IntoIterator<Item = I> + Send,
        mut done: impl FnMut(Outcome<I, T, Failure<E>>),
    ) -> Result<()>
    where
        I: Send,
    {
        self.pool
            .settings
            .for_each(self.job::<I>(), Feed::scoped(items), &mut done)
    }
}

impl<I, T, E> Task<'static, I, T, E>
where
    I: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    /// Runs it over the items of an iterator, and gives the outcomes as they finish.
    ///
    /// At most max(1024, 4 × concurrency) items are pulled and not yet taken as outcomes, so a
    /// consumer that stops taking stops the input. Dropping the outcomes stops new work at once;
    /// what is in flight ends by itself.
    ///
    /// # Errors
    /// As [`for_each`](Task::for_each).
    pub fn as_completed(
        &self,
        items: impl IntoIterator<Item = I> + Send + 'static,
    ) -> Result<Outcomes<I, T, Failure<E>>> {
        self.pool.settings.stream(self.job::<I>(), items, false)
    }

    /// As [`as_completed`](Task::as_completed), with the outcomes in the order of the input. One
    /// that comes before its turn is held back, and counts as not yet taken.
    ///
    /// ```
    /// use tollgate::Pool;
    ///
    /// let task = Pool::new(8)?.task(|n: &u64, _| Ok::<_, std::io::Error>(n * n));
    /// let squares = task.in_order(1..)?.map(|outcome| outcome.result.unwrap());
    /// assert_eq!(squares.take(3).collect::<Vec<_>>(), [1, 4, 9]);
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`for_each`](Task::for_each).
    pub fn in_order(
        &self,
        items: impl IntoIterator<Item = I> + Send + 'static,
    ) -> Result<Outcomes<I, T, Failure<E>>> {
        self.pool.settings.stream(self.job::<I>(), items, true)
    }
}

impl<'a, I, T, E> Task<'a, I, T, E> {
    /// The job of a run whose items are `B`: the items themselves, or references to them.
    fn job<B>(&self) -> TaskJob<'a, B, I, T, E> {
        TaskJob {
            work: Arc::clone(&self.work),
            cost: Arc::clone(&self.cost),
            verdict: Arc::clone(&self.verdict),
            item: PhantomData,
        }
    }
}

impl<I, T, E> fmt::Debug for Task<'_, I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

struct TaskJob<'a, B, I, T, E> {
    work: Arc<Work<'a, I, T, E>>,
    cost: Arc<dyn Fn(&I) -> Cost + Send + Sync + 'a>,
    verdict: Arc<dyn Fn(&E) -> Verdict + Send + Sync + 'a>,
    item: PhantomData<fn(B)>,
}

impl<B, I, T, E> Job for TaskJob<'_, B, I, T, E>
where
    B: Borrow<I> + Send,
    T: Send,
    E: Send,
{
    type Input = B;
    type Output = T;
    type Error = E;

    fn cost(&self, item: &B) -> Result<Cost> {
        Ok((self.cost)(item.borrow()))
    }

    fn attempt(&self, item: &B, attempt: &Attempt<'_>) -> Result<T, E> {
        (self.work)(item.borrow(), attempt)
    }

    fn verdict(&self, error: &E) -> Verdict {
        (self.verdict)(error)
    }
}
