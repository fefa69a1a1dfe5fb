//! Putting a run together: its shared state, its first thread, and the ways to take its outcomes.

use std::io;
use std::sync::Arc;
use std::thread::{self, Builder, Scope};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::input::{InputQueue, SliceSource, Source};
use super::job::{Failure, Job};
use super::leader::{LeaderGuard, RunShared, RunState, Spawner};
use super::monitor::{Ending, Monitor};
use super::outcomes::{Delivery, Inbox, JobOutcome, Outcome, Outcomes, Sink, Slots, channel};
use super::schedule::Schedule;
use super::worker::work;
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::Limiter;
use crate::retry::Retry;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicUsize;

/// What the stack of a worker may hold. Only what is touched is resident; debug builds and build
/// scripts touch a good deal (a TLS handshake at opt-level 0: 150 kB), and the job may be anything.
const STACK: usize = 512 << 10;

/// The settings of a run that are not its job or its input.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) limiter: Limiter,
    pub(crate) retry: Retry,
    pub(crate) cancel: Cancel,
    pub(crate) monitor: Monitor,
    pub(crate) deadline: Option<Duration>,
}

impl Settings {
    fn run<'env, J: Job, S>(
        &self,
        job: J,
        sink: S,
        source: Box<dyn Source<J::Input> + 'env>,
    ) -> RunShared<'env, J, S> {
        RunShared {
            job,
            sink,
            limiter: self.limiter.clone(),
            retry: self.retry,
            cancel: self.cancel.child(),
            monitor: self.monitor.clone(),
            trying: AtomicUsize::new(0),
            core: Mutex::new(RunState::new(Schedule::new(
                source,
                self.retry,
                self.run_deadline(),
            ))),
        }
    }

    fn run_deadline(&self) -> Option<Instant> {
        self.deadline
            .and_then(|deadline| self.limiter.clock().now().checked_add(deadline))
    }

    /// How much a lazy input may be ahead of its consumer: pulled, in flight, backing off, in the
    /// reorder window, and waiting for the consumer, all together.
    pub(crate) fn window(&self) -> usize {
        self.limiter.concurrency().saturating_mul(4).max(1024)
    }

    /// How many outcomes may wait for the consumer before threads do.
    fn backlog(&self) -> usize {
        self.limiter.concurrency().clamp(1, 512) * 2
    }

    /// Runs the whole slice and gives the outcomes by index; the calling thread is its first worker.
    pub(crate) fn collect<'a, J, T>(
        &self,
        job: J,
        items: &'a [T],
    ) -> Result<impl Iterator<Item = JobOutcome<&'a T, J::Output, J::Error>> + use<'a, J, T>>
    where
        J: Job<Input = &'a T>,
        T: Sync,
    {
        self.limiter.check_nested()?;
        let slots = Slots::new(items.len());
        let run = self.run(job, slots, Box::new(SliceSource::new(items)));
        if !items.is_empty() {
            thread::scope(|scope| {
                let spawner = Scoped { scope, run: &run };
                work(LeaderGuard::taken(spawner), 0);
            });
        }
        let outcomes = (0..).zip(items).zip(run.sink.into_outcomes());
        Ok(outcomes.map(|((index, item), outcome)| {
            outcome.unwrap_or_else(|| Outcome::not_attempted(index, Some(item), broke_off()))
        }))
    }

    /// Pulls `items` on a thread of its own, and hands each outcome to `consumer` on this one.
    pub(crate) fn for_each<J, I>(
        &self,
        job: J,
        items: I,
        consumer: &mut impl Consumer<J::Input, J::Output, J::Error>,
    ) -> Result<()>
    where
        J: Job,
        I: IntoIterator<Item = J::Input> + Send,
    {
        let queue = self.queue();
        let feed = || queue.feed(items);
        self.consume(job, &queue, Some(feed), || {}, consumer)?;
        // What the iterator gave in the moment in which the run was stopped.
        for (index, input) in queue.take_rest() {
            self.monitor.counters().ended(Ending::Abandoned);
            consumer.take(Outcome::not_attempted(index, Some(input), broke_off()));
        }
        Ok(())
    }

    /// As [`for_each`](Self::for_each), but the thread that pulls the input is not waited for: it
    /// may be blocked for ever in a read.
    pub(crate) fn for_each_detached<J, I>(
        &self,
        job: J,
        items: I,
        consumer: &mut impl Consumer<J::Input, J::Output, J::Error>,
    ) -> Result<()>
    where
        J: Job,
        J::Input: 'static,
        I: IntoIterator<Item = J::Input> + Send + 'static,
    {
        let queue = self.queue();
        let feeder = Arc::clone(&queue);
        named("tollgate-feed")
            .spawn(move || feeder.feed(items))
            .map_err(no_thread)?;
        self.consume(job, &queue, None::<fn()>, || {}, consumer)
    }

    /// As [`for_each`](Self::for_each), but the input is pulled on this thread, between outcomes:
    /// for items that are quickly had, such as the lines of a regular file.
    pub(crate) fn for_each_here<J, I>(
        &self,
        job: J,
        items: I,
        consumer: &mut impl Consumer<J::Input, J::Output, J::Error>,
    ) -> Result<()>
    where
        J: Job,
        I: IntoIterator<Item = J::Input>,
    {
        let queue = self.queue();
        let mut items = items.into_iter();
        let mut more = true;
        let refill = || {
            if more && queue.runs_low() {
                more = queue.fill(&mut items);
            }
        };
        self.consume(job, &queue, None::<fn()>, refill, consumer)
    }

    /// Runs what comes through `queue`: from `feed`, on a thread of its own, or from `refill`,
    /// called here whenever an outcome has been taken.
    fn consume<J: Job>(
        &self,
        job: J,
        queue: &Arc<InputQueue<J::Input>>,
        feed: Option<impl FnOnce() + Send>,
        mut refill: impl FnMut(),
        consumer: &mut impl Consumer<J::Input, J::Output, J::Error>,
    ) -> Result<()> {
        self.limiter.check_nested()?;
        let (sink, outcomes) = channel(self.backlog(), consumer.patience().is_some());
        let run = self.run(job, sink, Box::new(Arc::clone(queue)));
        thread::scope(|scope| {
            // Whatever way this scope is left, its threads must find the end: a consumer that
            // panics, too, would otherwise be joined for ever. Declared before the outcomes, which
            // must be gone for a worker that still has one.
            let _abort = AbortOnDrop {
                cancel: &run.cancel,
                queue,
            };
            let outcomes = outcomes;
            if let Some(feed) = feed {
                named("tollgate-feed")
                    .spawn_scoped(scope, feed)
                    .map_err(no_thread)?;
            }
            refill();
            let spawner = Scoped { scope, run: &run };
            spawner
                .start(LeaderGuard::taken(spawner), 0)
                .map_err(no_thread)?;
            let mut holds = Vec::new();
            while let Some(Delivery { outcome, hold }) =
                next_outcome(&outcomes, consumer, || holds.clear())
            {
                holds.extend(hold);
                queue.delivered(consumer.take(outcome));
                refill();
            }
            Ok(())
        })
    }

    /// Outcomes as they come, from a run that owns everything it needs.
    pub(crate) fn as_completed<J, I>(
        &self,
        job: J,
        items: I,
    ) -> Result<Outcomes<J::Input, J::Output, Failure<J::Error>>>
    where
        J: Job + Send + 'static,
        J::Input: 'static,
        J::Output: 'static,
        J::Error: 'static,
        I: IntoIterator<Item = J::Input> + Send + 'static,
    {
        self.limiter.check_nested()?;
        let queue = self.queue();
        let (sink, outcomes) = channel(self.backlog(), false);
        let run = Arc::new(self.run::<J, _>(job, sink, Box::new(Arc::clone(&queue))));
        let cancel = run.cancel.clone();
        let feeder = Arc::clone(&queue);
        named("tollgate-feed")
            .spawn(move || feeder.feed(items))
            .map_err(no_thread)?;
        let spawner = Detached(run);
        if let Err(error) = spawner.start(LeaderGuard::taken(spawner.clone()), 0) {
            queue.close();
            return Err(no_thread(error));
        }
        Ok(Outcomes::new(Stream::<J> {
            outcomes,
            queue,
            cancel,
            ended: false,
        }))
    }

    fn queue<I: Send>(&self) -> Arc<InputQueue<I>> {
        InputQueue::new(self.window(), self.limiter.clock().clone())
    }
}

/// Takes the outcomes of a run on the thread that started it.
pub(crate) trait Consumer<I, T, E> {
    /// Takes an outcome; the answer is how many it has let go of. One that it holds back, for those
    /// before it, stays in the window of the input until then: memory is bounded by that.
    fn take(&mut self, outcome: JobOutcome<I, T, E>) -> usize;

    /// How long to wait for an outcome before [`lull`](Self::lull) is called again; `None` for
    /// consumers that have nothing to do between outcomes. Where there is a lull, the threads whose
    /// outcomes have been taken are held until it is over.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Nothing more is ready at this moment.
    fn lull(&mut self) {}
}

impl<I, T, E, F: FnMut(JobOutcome<I, T, E>)> Consumer<I, T, E> for F {
    fn take(&mut self, outcome: JobOutcome<I, T, E>) -> usize {
        self(outcome);
        1
    }
}

fn next_outcome<I, T, E>(
    outcomes: &Inbox<I, T, E>,
    consumer: &mut impl Consumer<I, T, E>,
    mut settled: impl FnMut(),
) -> Option<Delivery<I, T, E>> {
    let Some(patience) = consumer.patience() else {
        return outcomes.receiver.recv().ok().flatten();
    };
    if let Ok(next) = outcomes.receiver.try_recv() {
        return next;
    }
    loop {
        consumer.lull();
        settled();
        match outcomes.receiver.recv_timeout(patience) {
            Ok(next) => return next,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// The outcomes of a run that goes on by itself, as they come.
pub(crate) struct Stream<J: Job> {
    outcomes: Inbox<J::Input, J::Output, J::Error>,
    queue: Arc<InputQueue<J::Input>>,
    cancel: Cancel,
    ended: bool,
}

impl<J: Job> Iterator for Stream<J> {
    type Item = JobOutcome<J::Input, J::Output, J::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if let Ok(Some(Delivery { outcome, .. })) = self.outcomes.receiver.recv() {
            self.queue.delivered(1);
            return Some(outcome);
        }
        self.ended = true;
        None
    }
}

impl<J: Job> Drop for Stream<J> {
    fn drop(&mut self) {
        // New work stops at once; what is in flight ends by itself and is thrown away.
        self.cancel.cancel();
        self.queue.close();
    }
}

struct AbortOnDrop<'a, I: Send> {
    cancel: &'a Cancel,
    queue: &'a InputQueue<I>,
}

impl<I: Send> Drop for AbortOnDrop<'_, I> {
    fn drop(&mut self) {
        self.cancel.abort();
        self.queue.close();
    }
}

/// Threads within a scope, over a run that is borrowed.
struct Scoped<'scope, 'env, 'run, J: Job, S> {
    scope: &'scope Scope<'scope, 'env>,
    run: &'env RunShared<'run, J, S>,
}

impl<J: Job, S> Clone for Scoped<'_, '_, '_, J, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<J: Job, S> Copy for Scoped<'_, '_, '_, J, S> {}

impl<'run, J, S> Spawner<'run> for Scoped<'_, '_, 'run, J, S>
where
    J: Job + 'run,
    J::Input: 'run,
    S: Sink<J::Input, J::Output, J::Error> + 'run,
{
    type Job = J;
    type Sink = S;

    fn run(&self) -> &RunShared<'run, J, S> {
        self.run
    }

    fn start(&self, lead: LeaderGuard<'run, Self>, number: usize) -> io::Result<()> {
        named(&format!("tollgate-{number}"))
            .spawn_scoped(self.scope, move || work(lead, number))
            .map(drop)
    }
}

/// Threads that outlive whoever started them, over a run that is counted.
struct Detached<J: Job, S>(Arc<RunShared<'static, J, S>>);

impl<J: Job, S> Clone for Detached<J, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<J, S> Spawner<'static> for Detached<J, S>
where
    J: Job + Send + 'static,
    J::Input: 'static,
    J::Error: 'static,
    S: Sink<J::Input, J::Output, J::Error> + Send + 'static,
{
    type Job = J;
    type Sink = S;

    fn run(&self) -> &RunShared<'static, J, S> {
        &self.0
    }

    fn start(&self, lead: LeaderGuard<'static, Self>, number: usize) -> io::Result<()> {
        named(&format!("tollgate-{number}"))
            .spawn(move || work(lead, number))
            .map(drop)
    }
}

fn named(name: &str) -> Builder {
    Builder::new().name(name.to_string()).stack_size(STACK)
}

#[cold]
fn broke_off<E>() -> Failure<E> {
    Failure::NotCompleted {
        reason: Error::new(
            ErrorKind::Cancelled,
            "the run broke off before this was done",
        ),
        last: None,
    }
}

#[cold]
fn no_thread(error: io::Error) -> Error {
    Error::new(
        ErrorKind::Io,
        "cannot start a thread: the system's limit on threads or memory is reached",
    )
    .with_source(error)
}
