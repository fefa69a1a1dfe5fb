//! The pool's public face: any blocking closure, through the same gate, retries and threads as an
//! API request.

use std::marker::PhantomData;
use std::time::Duration;

use super::job::{Attempt, Failure, Job, Panicked};
use super::monitor::Monitor;
use super::outcomes::{Outcome, Outcomes};
use super::run::Settings;
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::{Cost, Limiter};
use crate::retry::{Retry, Verdict};

/// Runs blocking closures over many items: so many at once, no faster than its limiter allows,
/// with retries, each item's failure its own.
///
/// The threads are the pool's, named `tollgate-N` with 512 KiB of stack, started as they are
/// needed and gone at the end of each run; never a rayon task. Closures may borrow. Cloning is
/// cheap; clones share the limiter. A closure that panics fails its own item only, provided the
/// program is built with `panic = "unwind"` (the default).
///
/// A run started from inside a job of the same pool would wait for a place it occupies itself; it
/// is refused at once ([`ErrorKind::Nested`]).
///
/// ```
/// use tollgate::{Pool, Retry, Verdict};
///
/// let words = ["one", "three", "five"];
/// let pool = Pool::new(8)?.with_retry(Retry::new().max_attempts(3))?;
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
    settings: Settings,
}

/// The most threads a pool will try to start: beyond it the system's own limits are met first.
const MOST_THREADS: usize = 10_000;

impl Pool {
    /// A pool of at most `concurrency` jobs at once, with the default [`Retry`] policy.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for 0, or for more than 10,000.
    pub fn new(concurrency: usize) -> Result<Self> {
        Self::from_limiter(Limiter::builder().concurrency(concurrency).build()?)
    }

    /// A pool behind `limiter`, whose concurrency is also the most threads a run will have.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the limiter has no concurrency, or one above 10,000.
    pub fn from_limiter(limiter: Limiter) -> Result<Self> {
        if limiter.concurrency() > MOST_THREADS {
            return Err(Error::new(
                ErrorKind::Config,
                "a pool has one thread for each request in flight: give a concurrency of at most \
                 10000",
            ));
        }
        Ok(Self {
            settings: Settings {
                limiter,
                retry: Retry::new(),
                cancel: Cancel::new(),
                monitor: Monitor::new(),
                deadline: None,
            },
        })
    }

    /// The same pool with another retry policy.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for `max_attempts(0)`.
    pub fn with_retry(mut self, retry: Retry) -> Result<Self> {
        self.settings.retry = retry.checked()?;
        Ok(self)
    }

    /// The same pool, stopped by `cancel`.
    pub fn with_cancel(mut self, cancel: &Cancel) -> Self {
        self.settings.cancel = cancel.clone();
        self
    }

    /// The same pool, watched by `monitor`.
    pub fn with_monitor(mut self, monitor: &Monitor) -> Self {
        self.settings.monitor = monitor.clone();
        self
    }

    /// The same pool, with so much time for each whole run; what is not done by then fails with
    /// [`ErrorKind::Deadline`]. A closure that runs already is not interrupted.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = Some(deadline);
        self
    }

    /// The gate of this pool.
    pub fn limiter(&self) -> &Limiter {
        &self.settings.limiter
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Applies `work` to every item once; the results are in the order of the items.
    ///
    /// There are no retries here, and a [`Cancel`] or a deadline of the pool does not apply: every
    /// item is worked on. Use [`try_map`](Pool::try_map) for those.
    ///
    /// # Panics
    /// Inside a job of the same pool: the panic is that job's failure.
    pub fn map<T, R>(&self, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<Result<R, Panicked>>
    where
        T: Sync,
        R: Send,
    {
        let job = Closures::new(
            |item: &&T| Ok::<R, std::convert::Infallible>(work(item)),
            |never: &std::convert::Infallible| match *never {},
        );
        let settings = Settings {
            cancel: Cancel::new(),
            deadline: None,
            ..self.settings.clone()
        };
        match settings.collect(job, items) {
            Ok(outcomes) => outcomes
                .map(|outcome| {
                    outcome.result.map_err(|failure| match failure {
                        Failure::Panicked(panicked) => panicked,
                        Failure::Job(never) => match never {},
                        Failure::NotCompleted { reason, .. } => Panicked::new(reason.to_string()),
                    })
                })
                .collect(),
            Err(nested) => panic!("Pool::map: {nested}"),
        }
    }

    /// Applies `work` to every item, again where `verdict` says so; the results are in the order of
    /// the items.
    ///
    /// Never fails as a whole: a run that cannot begin, or is stopped, has a
    /// [`Failure::NotCompleted`] for every item that was not done.
    pub fn try_map<T, R, E>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> Result<R, E> + Sync,
        verdict: impl Fn(&E) -> Verdict + Sync,
    ) -> Vec<Result<R, Failure<E>>>
    where
        T: Sync,
        R: Send,
        E: Send,
    {
        let job = Closures::new(|item: &&T| work(item), verdict);
        match self.settings.collect(job, items) {
            Ok(outcomes) => outcomes.map(|outcome| outcome.result).collect(),
            Err(error) => items
                .iter()
                .map(|_| {
                    Err(Failure::NotCompleted {
                        reason: error.clone(),
                        last: None,
                    })
                })
                .collect(),
        }
    }

    /// Applies `work` to items pulled lazily on a thread of their own, and calls `done` on this
    /// thread with each outcome as it comes; returns when all are through.
    ///
    /// At most max(1024, 4 × concurrency) items are pulled and not yet handed to `done`. A panic in
    /// the iterator becomes the last outcome; a panic in `done` ends the run and goes on here.
    ///
    /// ```
    /// use tollgate::{Pool, Verdict};
    ///
    /// let mut sum = 0;
    /// Pool::new(4)?.for_each(
    ///     1..=100_u64,
    ///     |n| Ok::<_, std::io::Error>(n * n),
    ///     |_| Verdict::Retry,
    ///     |done| sum += done.result.unwrap(),
    /// )?;
    /// assert_eq!(sum, 338_350);
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Nested`], or [`ErrorKind::Io`] if the system gives no thread at all.
    pub fn for_each<I, R, E>(
        &self,
        items: impl IntoIterator<Item = I> + Send,
        work: impl Fn(&I) -> Result<R, E> + Sync,
        verdict: impl Fn(&E) -> Verdict + Sync,
        mut done: impl FnMut(Outcome<I, R, Failure<E>>),
    ) -> Result<()>
    where
        I: Send,
        R: Send,
        E: Send,
    {
        self.settings
            .for_each(Closures::new(work, verdict), items, &mut done)
    }

    /// Applies `work` to items pulled lazily, and gives the outcomes as they come.
    ///
    /// Bounded as [`for_each`](Pool::for_each): a consumer that stops taking stops the input.
    /// Dropping the iterator stops new work at once; what is in flight ends by itself.
    ///
    /// # Errors
    /// [`ErrorKind::Nested`], or [`ErrorKind::Io`] if the system gives no thread at all.
    pub fn as_completed<I, R, E>(
        &self,
        items: impl IntoIterator<Item = I> + Send + 'static,
        work: impl Fn(&I) -> Result<R, E> + Send + Sync + 'static,
        verdict: impl Fn(&E) -> Verdict + Send + Sync + 'static,
    ) -> Result<Outcomes<I, R, Failure<E>>>
    where
        I: Send + 'static,
        R: Send + 'static,
        E: Send + 'static,
    {
        self.settings
            .as_completed(Closures::new(work, verdict), items)
    }
}

/// A job made of two closures.
struct Closures<I, R, E, W, V> {
    work: W,
    verdict: V,
    signature: PhantomData<fn(I) -> Result<R, E>>,
}

impl<I, R, E, W, V> Closures<I, R, E, W, V>
where
    W: Fn(&I) -> Result<R, E>,
    V: Fn(&E) -> Verdict,
{
    fn new(work: W, verdict: V) -> Self {
        Self {
            work,
            verdict,
            signature: PhantomData,
        }
    }
}

impl<I, R, E, W, V> Job for Closures<I, R, E, W, V>
where
    I: Send,
    R: Send,
    E: Send,
    W: Fn(&I) -> Result<R, E> + Sync,
    V: Fn(&E) -> Verdict + Sync,
{
    type Input = I;
    type Output = R;
    type Error = E;

    fn cost(&self, _input: &I) -> Result<Cost> {
        Ok(Cost::ONE)
    }

    fn attempt(&self, input: &I, _attempt: &Attempt<'_>) -> Result<R, E> {
        (self.work)(input)
    }

    fn verdict(&self, error: &E) -> Verdict {
        (self.verdict)(error)
    }
}
