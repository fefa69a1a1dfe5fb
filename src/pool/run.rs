//! Puts a run together: its threads and its two ends.
//!
//! Every run is [`start`](Settings::start)ed in the same way, from a queue into a sink. What
//! differs is who fills the queue (a slice at once, or a [`Feed`]) and where its outcomes go
//! (slots, or a channel that is read here or by an iterator).

use std::io;
use std::iter;
use std::sync::Arc;
use std::thread::{self, Builder, Scope};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use super::input::InputQueue;
use super::job::{Failure, Job};
use super::leader::{RunShared, Spawner};
use super::order::Reorder;
use super::outcomes::{Delivery, Inbox, JobOutcome, Outcomes, Sink, Slots, StopOnDrop, channel};
use super::settings::Settings;
use super::worker::work;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;

/// The stack of a worker. Only what is touched is resident; debug builds and build scripts touch a
/// good deal (a TLS handshake at opt-level 0: 150 kB), and the job may be anything.
const STACK: usize = 512 << 10;

impl Settings {
    /// Runs everything that `input` gives, and returns when all of its outcomes are in `sink`. The
    /// calling thread is the first worker. These are the settings of this run alone: it stops when
    /// their flag is raised, and may raise it.
    fn start<J: Job>(
        self,
        job: J,
        input: Arc<InputQueue<J::Input>>,
        sink: &dyn Sink<J::Input, J::Output, J::Error>,
    ) {
        let run = RunShared::new(self, job, input, sink);
        thread::scope(|scope| work(&run, scope, 0));
    }

    /// Runs the whole slice and gives the outcomes in its order; the calling thread is the first
    /// worker.
    pub(crate) fn collect<'a, J, T>(
        &self,
        job: J,
        items: &'a [T],
    ) -> Result<impl Iterator<Item = JobOutcome<&'a T, J::Output, J::Error>> + use<'a, J, T>>
    where
        J: Job<Input = &'a T>,
        T: Sync,
    {
        let settings = self.for_one_run()?;
        let slots: Slots<_, _, _> = items.iter().map(|_| Mutex::new(None)).collect();
        settings.start(job, InputQueue::filled(items), &slots);
        let outcomes = (0..).zip(items).zip(slots);
        Ok(outcomes.map(|((index, item), slot)| {
            slot.into_inner()
                .unwrap_or_else(|| JobOutcome::run_over(index, item))
        }))
    }

    /// Runs what `feed` gives, and hands each outcome to `consumer` on this thread.
    pub(crate) fn for_each<J: Job>(
        &self,
        job: J,
        feed: Feed<'_, J::Input>,
        consumer: &mut impl Consumer<J::Input, J::Output, J::Error>,
    ) -> Result<()> {
        let settings = self.for_one_run()?;
        let queue = new_queue(self);
        let (sink, inbox) = channel(self.backlog(), consumer.idle_interval().is_some());
        thread::scope(|scope| -> Result<()> {
            // However this scope is left, its threads must find the end: a consumer that panics,
            // too, would otherwise wait for them for ever. Declared before the inbox, which a
            // worker that still has an outcome must find gone.
            let _stop = StopOnDrop {
                cancel: settings.cancel.clone(),
                queue: Arc::clone(&queue),
                abort: true,
            };
            let inbox = inbox;
            let mut here = feed.begin(scope, &queue).map_err(no_thread)?;
            let mut refill = || {
                if let Some(items) = &mut here
                    && !queue.fill(items)
                {
                    here = None;
                }
            };
            refill();
            let input = Arc::clone(&queue);
            named("tollgate-0")
                .spawn_scoped(scope, move || settings.start(job, input, &sink))
                .map_err(no_thread)?;
            let mut unacknowledged = Vec::new();
            while let Some(Delivery { outcome, ack }) =
                next_outcome(&inbox, consumer, || unacknowledged.clear())
            {
                unacknowledged.extend(ack);
                queue.delivered(consumer.take(outcome));
                refill();
            }
            Ok(())
        })?;
        // What the iterator gave in the moment in which the run was stopped.
        for (index, input) in queue.take_rest() {
            self.monitor.update(|progress| progress.abandoned += 1);
            consumer.take(JobOutcome::run_over(index, input));
        }
        Ok(())
    }

    /// Outcomes as an iterator, as they finish or in the order of the input, from a run that owns
    /// everything it needs.
    pub(crate) fn stream<J, I>(
        &self,
        job: J,
        items: I,
        in_order: bool,
    ) -> Result<Outcomes<J::Input, J::Output, JobFailure<J>>>
    where
        J: Job + Send + 'static,
        J::Input: 'static,
        J::Output: 'static,
        J::Error: 'static,
        I: IntoIterator<Item = J::Input> + Send + 'static,
    {
        let settings = self.for_one_run()?;
        let queue = new_queue(self);
        let (sink, inbox) = channel(self.backlog(), false);
        // New work stops at once when it is dropped, as on every way out of here that has no thread
        // to go on with; what is in flight ends by itself and is thrown away.
        let stop = StopOnDrop {
            cancel: settings.cancel.clone(),
            queue: Arc::clone(&queue),
            abort: false,
        };
        feed_detached(items, Arc::clone(&queue)).map_err(no_thread)?;
        named("tollgate-0")
            .spawn(move || settings.start(job, queue, &sink))
            .map_err(no_thread)?;
        // Holds back what came before its turn.
        let mut reorder = in_order.then(Reorder::new);
        let next = move || {
            let next = loop {
                if let Some(next) = reorder.as_mut().and_then(Reorder::pop) {
                    break next;
                }
                // After the end nobody sends, and nothing is received any more.
                match (inbox.receiver.recv(), &mut reorder) {
                    (Ok(Some(Delivery { outcome, .. })), None) => break outcome,
                    (Ok(Some(Delivery { outcome, .. })), Some(reorder)) => {
                        reorder.insert(outcome.index, outcome);
                    }
                    (_, reorder) => break reorder.as_mut()?.pop_any()?,
                }
            };
            stop.queue.delivered(1);
            Some(next)
        };
        Ok(Outcomes(Box::new(iter::from_fn(next))))
    }
}

fn new_queue<I: Send>(settings: &Settings) -> Arc<InputQueue<I>> {
    InputQueue::new(settings.window(), settings.limiter.clock().clone())
}

type JobFailure<J> = Failure<<J as Job>::Error>;
type Feeder<'f, I> = dyn FnOnce(&InputQueue<I>) + Send + 'f;

/// Who pulls the items of a lazy input.
pub(crate) enum Feed<'f, I> {
    /// A thread that the run waits for.
    Scoped(Box<Feeder<'f, I>>),
    /// A thread that the run does not wait for.
    Detached(Box<dyn FnOnce(Arc<InputQueue<I>>) -> io::Result<()> + 'f>),
    /// The consumer's thread, between outcomes: for items that are quickly had, such as the lines
    /// of a regular file.
    Here(Box<dyn Iterator<Item = I> + 'f>),
}

impl<'f, I: Send> Feed<'f, I> {
    /// For an iterator that may borrow: a thread of its own pulls it, and the run waits for that.
    pub(crate) fn scoped(items: impl IntoIterator<Item = I> + Send + 'f) -> Self {
        Self::Scoped(Box::new(move |queue| queue.feed(items)))
    }

    /// For an iterator that may block for ever in a read: its thread is not waited for.
    pub(crate) fn detached(items: impl IntoIterator<Item = I> + Send + 'static) -> Self
    where
        I: 'static,
    {
        Self::Detached(Box::new(move |queue| feed_detached(items, queue)))
    }

    /// Starts the thread that pulls, or gives back what is to be pulled here.
    fn begin<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        queue: &Arc<InputQueue<I>>,
    ) -> io::Result<Option<Box<dyn Iterator<Item = I> + 'f>>>
    where
        'f: 'scope,
        I: 'scope,
    {
        let queue = Arc::clone(queue);
        match self {
            Self::Scoped(feed) => {
                named("tollgate-feed").spawn_scoped(scope, move || feed(&queue))?;
                Ok(None)
            }
            Self::Detached(start) => start(queue).map(|()| None),
            Self::Here(items) => Ok(Some(items)),
        }
    }
}

fn feed_detached<I: Send + 'static>(
    items: impl IntoIterator<Item = I> + Send + 'static,
    queue: Arc<InputQueue<I>>,
) -> io::Result<()> {
    named("tollgate-feed")
        .spawn(move || queue.feed(items))
        .map(drop)
}

/// Takes the outcomes of a run on the thread that started it.
pub(crate) trait Consumer<I, T, E> {
    /// Takes an outcome, and returns how many it has let go of. One that it holds back, for those
    /// before it, stays in the window of the input until then: memory is bounded by that.
    fn take(&mut self, outcome: JobOutcome<I, T, E>) -> usize;

    /// How long to wait for an outcome before [`on_idle`](Self::on_idle) is called again; `None`
    /// for consumers that have nothing to do between outcomes. Where there is an interval, the
    /// threads whose outcomes have been taken are held until the next [`on_idle`](Self::on_idle) is
    /// over.
    fn idle_interval(&self) -> Option<Duration> {
        None
    }

    /// Nothing more is ready at this moment.
    fn on_idle(&mut self) {}
}

impl<I, T, E, F: FnMut(JobOutcome<I, T, E>)> Consumer<I, T, E> for F {
    fn take(&mut self, outcome: JobOutcome<I, T, E>) -> usize {
        self(outcome);
        1
    }
}

fn next_outcome<I, T, E>(
    inbox: &Inbox<I, T, E>,
    consumer: &mut impl Consumer<I, T, E>,
    mut acknowledge: impl FnMut(),
) -> Option<Delivery<I, T, E>> {
    let Some(interval) = consumer.idle_interval() else {
        return inbox.receiver.recv().ok().flatten();
    };
    if let Ok(next) = inbox.receiver.try_recv() {
        return next;
    }
    loop {
        consumer.on_idle();
        acknowledge();
        match inbox.receiver.recv_timeout(interval) {
            Ok(next) => return next,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

impl<'s> Spawner<'s> for &'s Scope<'s, '_> {
    fn start(self, number: usize, body: impl FnOnce() + Send + 's) -> io::Result<()> {
        named(&format!("tollgate-{number}"))
            .spawn_scoped(self, body)
            .map(drop)
    }
}

fn named(name: &str) -> Builder {
    Builder::new().name(name.to_string()).stack_size(STACK)
}

#[cold]
fn no_thread(error: io::Error) -> Error {
    let why = "cannot start a thread: the system's limit on threads or memory is reached";
    Error::new(ErrorKind::Io, why).with_source(error)
}
