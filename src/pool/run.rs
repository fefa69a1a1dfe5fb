//! Putting a run together: its shared state, its first thread, and the ways to take its outcomes.

use std::io;
use std::sync::Arc;
use std::thread::{self, Builder, Scope};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::job::{Done, Failure, Job};
use super::lead::{Core, Crew, Lead, Run};
use super::progress::{Ending, Monitor};
use super::results::{Delivery, Outcome, Outcomes, Sink, Slots, channel};
use super::schedule::Schedule;
use super::source::{Intake, SliceSource, Source};
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
    ) -> Run<'env, J, S> {
        Run {
            job,
            sink,
            limiter: self.limiter.clone(),
            retry: self.retry,
            cancel: self.cancel.child(),
            monitor: self.monitor.clone(),
            trying: AtomicUsize::new(0),
            core: Mutex::new(Core::new(Schedule::new(
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
    ) -> Result<impl Iterator<Item = Outcome<J::Output, J::Error>> + use<J, T>>
    where
        J: Job<Input = &'a T>,
        T: Sync,
    {
        self.limiter.check_nested()?;
        let slots = Slots::new(items.len());
        let run = self.run(job, slots, Box::new(SliceSource::new(items)));
        if !items.is_empty() {
            thread::scope(|scope| {
                let crew = Scoped { scope, run: &run };
                work(Lead::taken(crew), 0);
            });
        }
        Ok(run.sink.into_outcomes(broke_off))
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
        let intake = self.intake();
        let feed = || intake.feed(items);
        self.consume(job, &intake, Some(feed), || {}, consumer)?;
        // What the iterator gave in the moment in which the run was stopped.
        for (index, input) in intake.take_rest() {
            self.monitor.counters().ended(Ending::Abandoned);
            consumer.take(Done {
                index,
                input: Some(input),
                result: Err(broke_off()),
                attempts: 0,
                waited: Duration::ZERO,
                stopped_run: false,
            });
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
        let intake = self.intake();
        let feeder = Arc::clone(&intake);
        named("tollgate-feed")
            .spawn(move || feeder.feed(items))
            .map_err(no_thread)?;
        self.consume(job, &intake, None::<fn()>, || {}, consumer)
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
        let intake = self.intake();
        let mut items = items.into_iter();
        let mut more = true;
        let refill = || {
            if more && intake.runs_low() {
                more = intake.fill(&mut items);
            }
        };
        self.consume(job, &intake, None::<fn()>, refill, consumer)
    }

    /// Runs what comes through `intake`: from `feed`, on a thread of its own, or from `refill`,
    /// called here whenever an outcome has been taken.
    fn consume<J: Job>(
        &self,
        job: J,
        intake: &Arc<Intake<J::Input>>,
        feed: Option<impl FnOnce() + Send>,
        mut refill: impl FnMut(),
        consumer: &mut impl Consumer<J::Input, J::Output, J::Error>,
    ) -> Result<()> {
        self.limiter.check_nested()?;
        let (sink, outcomes) = channel(self.backlog(), consumer.patience().is_some());
        let run = self.run(job, sink, Box::new(Arc::clone(intake)));
        thread::scope(|scope| {
            // Whatever way this scope is left, its threads must find the end: a consumer that
            // panics, too, would otherwise be joined for ever. Declared before the outcomes, which
            // must be gone for a worker that still has one.
            let _abort = AbortOnDrop {
                cancel: &run.cancel,
                intake,
            };
            let outcomes = outcomes;
            if let Some(feed) = feed {
                named("tollgate-feed")
                    .spawn_scoped(scope, feed)
                    .map_err(no_thread)?;
            }
            refill();
            let crew = Scoped { scope, run: &run };
            crew.start(Lead::taken(crew), 0).map_err(no_thread)?;
            let mut holds = Vec::new();
            while let Some(Delivery { done, hold }) =
                next_outcome(&outcomes, consumer, || holds.clear())
            {
                holds.extend(hold);
                intake.delivered(consumer.take(done));
                refill();
            }
            Ok(())
        })
    }

    /// Outcomes as they come, from a run that owns everything it needs.
    pub(crate) fn as_completed<J, I>(&self, job: J, items: I) -> Result<Stream<J>>
    where
        J: Job + Send + 'static,
        J::Input: 'static,
        J::Output: 'static,
        J::Error: 'static,
        I: IntoIterator<Item = J::Input> + Send + 'static,
    {
        self.limiter.check_nested()?;
        let intake = self.intake();
        let (sink, outcomes) = channel(self.backlog(), false);
        let run = Arc::new(self.run::<J, _>(job, sink, Box::new(Arc::clone(&intake))));
        let cancel = run.cancel.clone();
        let feeder = Arc::clone(&intake);
        named("tollgate-feed")
            .spawn(move || feeder.feed(items))
            .map_err(no_thread)?;
        let crew = Detached(run);
        if let Err(error) = crew.start(Lead::taken(crew.clone()), 0) {
            intake.close();
            return Err(no_thread(error));
        }
        Ok(Stream {
            outcomes,
            intake,
            cancel,
            ended: false,
        })
    }

    fn intake<I: Send>(&self) -> Arc<Intake<I>> {
        Intake::new(self.window(), self.limiter.clock().clone())
    }
}

/// Takes the outcomes of a run on the thread that started it.
pub(crate) trait Consumer<I, T, E> {
    /// Takes an outcome; the answer is how many it has let go of. One that it holds back, for those
    /// before it, stays in the window of the input until then: memory is bounded by that.
    fn take(&mut self, done: Done<I, T, E>) -> usize;

    /// How long to wait for an outcome before [`lull`](Self::lull) is called again; `None` for
    /// consumers that have nothing to do between outcomes. Where there is a lull, the threads whose
    /// outcomes have been taken are held until it is over.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Nothing more is ready at this moment.
    fn lull(&mut self) {}
}

impl<I, T, E, F: FnMut(Done<I, T, E>)> Consumer<I, T, E> for F {
    fn take(&mut self, done: Done<I, T, E>) -> usize {
        self(done);
        1
    }
}

fn next_outcome<I, T, E>(
    outcomes: &Outcomes<I, T, E>,
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
    outcomes: Outcomes<J::Input, J::Output, J::Error>,
    intake: Arc<Intake<J::Input>>,
    cancel: Cancel,
    ended: bool,
}

impl<J: Job> Iterator for Stream<J> {
    type Item = Done<J::Input, J::Output, J::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if let Ok(Some(Delivery { done, .. })) = self.outcomes.receiver.recv() {
            self.intake.delivered(1);
            return Some(done);
        }
        self.ended = true;
        None
    }
}

impl<J: Job> Drop for Stream<J> {
    fn drop(&mut self) {
        // New work stops at once; what is in flight ends by itself and is thrown away.
        self.cancel.cancel();
        self.intake.close();
    }
}

struct AbortOnDrop<'a, I: Send> {
    cancel: &'a Cancel,
    intake: &'a Intake<I>,
}

impl<I: Send> Drop for AbortOnDrop<'_, I> {
    fn drop(&mut self) {
        self.cancel.abort();
        self.intake.close();
    }
}

/// Threads within a scope, over a run that is borrowed.
struct Scoped<'scope, 'env, 'run, J: Job, S> {
    scope: &'scope Scope<'scope, 'env>,
    run: &'env Run<'run, J, S>,
}

impl<J: Job, S> Clone for Scoped<'_, '_, '_, J, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<J: Job, S> Copy for Scoped<'_, '_, '_, J, S> {}

impl<'run, J, S> Crew<'run> for Scoped<'_, '_, 'run, J, S>
where
    J: Job + 'run,
    J::Input: 'run,
    S: Sink<J::Input, J::Output, J::Error> + 'run,
{
    type Job = J;
    type Sink = S;

    fn run(&self) -> &Run<'run, J, S> {
        self.run
    }

    fn start(&self, lead: Lead<'run, Self>, number: usize) -> io::Result<()> {
        named(&format!("tollgate-{number}"))
            .spawn_scoped(self.scope, move || work(lead, number))
            .map(drop)
    }
}

/// Threads that outlive whoever started them, over a run that is counted.
struct Detached<J: Job, S>(Arc<Run<'static, J, S>>);

impl<J: Job, S> Clone for Detached<J, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<J, S> Crew<'static> for Detached<J, S>
where
    J: Job + Send + 'static,
    J::Input: 'static,
    J::Error: 'static,
    S: Sink<J::Input, J::Output, J::Error> + Send + 'static,
{
    type Job = J;
    type Sink = S;

    fn run(&self) -> &Run<'static, J, S> {
        &self.0
    }

    fn start(&self, lead: Lead<'static, Self>, number: usize) -> io::Result<()> {
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
