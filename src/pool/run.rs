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

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};

use super::input::InputQueue;
use super::job::{Failure, Job};
use super::leader::{RunShared, Spawner};
use super::order::Reorder;
use super::outcomes::{Delivery, JobOutcome, Outcomes, Sink, sending};
use super::settings::Settings;
use super::worker::work;
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;

/// The stack of a worker. Only what is touched is resident; debug builds and build scripts touch a
/// good deal (a TLS handshake at opt-level 0: 150 kB), and the job may be anything.
const STACK: usize = 512 << 10;

impl Settings {
    /// Runs everything that `input` gives, and returns when `sink` has all of its outcomes. The
    /// calling thread is the first worker. These are the settings of this run alone: it stops when
    /// their flag is raised, and may raise it.
    fn start<J: Job>(
        self,
        job: J,
        input: Arc<InputQueue<J::Input>>,
        sink: &Sink<'_, J::Input, J::Output, J::Error>,
    ) {
        let run = RunShared::new(self, job, input, sink);
        thread::scope(|scope| work(&run, scope, 0));
    }

    /// Runs the whole slice and gives the outcomes in its order; the calling thread is the first
    /// worker. Each outcome has a slot of its own: no order to restore, no thread to wake.
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
        let slots: Vec<_> = items.iter().map(|_| Mutex::new(None)).collect();
        let deliver = |outcome: JobOutcome<_, _, _>| {
            // A slice's indices are those of the slots.
            let slot = usize::try_from(outcome.index).ok();
            let slot = slot.and_then(|index| slots.get(index));
            let replaced = slot.and_then(|slot| slot.lock().replace(outcome));
            debug_assert!(replaced.is_none(), "one outcome an item");
            true
        };
        settings.start(job, InputQueue::filled(items), &deliver);
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
        let acknowledged = consumer.idle_interval().is_some();
        let queue = thread::scope(|scope| -> Result<_> {
            // However this scope is left, its threads must find the end: a consumer that panics,
            // too, would otherwise wait for them for ever.
            let (run, mut here) = self.begin(job, feed, scope, acknowledged, true)?;
            let queue = Arc::clone(&run.queue);
            let mut refill = || {
                if let Some(items) = &mut here
                    && !queue.fill(items)
                {
                    here = None;
                }
            };
            refill();
            let mut unacknowledged = Vec::new();
            while let Some(Delivery { outcome, ack }) =
                next_outcome(&run.inbox, consumer, || unacknowledged.clear())
            {
                unacknowledged.extend(ack);
                queue.delivered(consumer.take(outcome));
                refill();
            }
            Ok(queue)
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
        // When it is dropped, new work stops at once. What is in flight ends by itself and is
        // thrown away.
        let (run, _) = self.begin(job, Feed::scoped(items), Detached, false, false)?;
        // Holds back what came before its turn.
        let mut reorder = in_order.then(Reorder::new);
        let next = move || {
            let next = loop {
                if let Some(next) = reorder.as_mut().and_then(Reorder::pop) {
                    break next;
                }
                let Delivery { outcome, .. } = run.inbox.recv().ok()?;
                match &mut reorder {
                    None => break outcome,
                    Some(reorder) => reorder.insert(outcome.index, outcome),
                }
            };
            run.queue.delivered(1);
            Some(next)
        };
        Ok(Outcomes(Box::new(iter::from_fn(next))))
    }

    /// Starts a run on other threads than this one.
    fn begin<'s, J: Job + 's>(
        &self,
        job: J,
        feed: Feed<'s, J::Input>,
        threads: impl Spawner<'s>,
        acknowledged: bool,
        abort: bool,
    ) -> Result<Begun<'s, J>> {
        let settings = self.for_one_run()?;
        let queue = InputQueue::new(self.window(), self.limiter.clock().clone());
        let (sender, inbox) = if acknowledged {
            unbounded()
        } else {
            bounded(self.backlog())
        };
        let sink = sending(sender, acknowledged);
        let run = Running {
            inbox,
            cancel: settings.cancel.clone(),
            queue: Arc::clone(&queue),
            abort,
        };
        let here = feed.begin(threads, &queue).map_err(no_thread)?;
        let body = move || settings.start(job, queue, &sink);
        threads.start("tollgate-0", body).map_err(no_thread)?;
        Ok((run, here))
    }
}

/// A run, and the items that the thread which began it is to pull, if it is.
type Begun<'s, J> = (Running<J>, Option<Items<'s, <J as Job>::Input>>);
type JobFailure<J> = Failure<<J as Job>::Error>;
type Items<'f, I> = Box<dyn Iterator<Item = I> + 'f>;
type Feeder<'f, I> = dyn FnOnce(&InputQueue<I>) + Send + 'f;

/// A run on other threads, as whoever takes its outcomes has it. The run stops when this is
/// dropped.
struct Running<J: Job> {
    inbox: Receiver<Delivery<J::Input, J::Output, J::Error>>,
    cancel: Cancel,
    queue: Arc<InputQueue<J::Input>>,
    /// What is in flight is ended, too.
    abort: bool,
}

impl<J: Job> Drop for Running<J> {
    fn drop(&mut self) {
        if self.abort {
            self.cancel.abort();
        } else {
            self.cancel.cancel();
        }
        self.queue.close();
    }
}

/// Who pulls the items of a lazy input.
pub(crate) enum Feed<'f, I> {
    /// A thread of the run.
    Thread(Box<Feeder<'f, I>>),
    /// A thread that the run does not wait for.
    Detached(Box<dyn FnOnce(Arc<InputQueue<I>>) -> io::Result<()> + 'f>),
    /// The consumer's thread, between outcomes: for items that are quickly had, such as the lines
    /// of a regular file.
    Here(Items<'f, I>),
}

impl<'f, I: Send> Feed<'f, I> {
    /// For an iterator that may borrow: a thread of its own pulls it, and a run whose threads are
    /// scoped waits for that.
    pub(crate) fn scoped(items: impl IntoIterator<Item = I> + Send + 'f) -> Self {
        Self::Thread(Box::new(move |queue| queue.feed(items)))
    }

    /// For an iterator that may block for ever in a read: its thread is not waited for.
    pub(crate) fn detached(items: impl IntoIterator<Item = I> + Send + 'static) -> Self
    where
        I: 'static,
    {
        Self::Detached(Box::new(move |queue| {
            Detached.start(FEEDER, move || queue.feed(items))
        }))
    }

    /// Starts the thread that pulls, or gives back what is to be pulled here.
    fn begin(
        self,
        threads: impl Spawner<'f>,
        queue: &Arc<InputQueue<I>>,
    ) -> io::Result<Option<Items<'f, I>>>
    where
        I: 'f,
    {
        let queue = Arc::clone(queue);
        match self {
            Self::Thread(feed) => threads.start(FEEDER, move || feed(&queue))?,
            Self::Detached(start) => start(queue)?,
            Self::Here(items) => return Ok(Some(items)),
        }
        Ok(None)
    }
}

const FEEDER: &str = "tollgate-feed";

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
    inbox: &Receiver<Delivery<I, T, E>>,
    consumer: &mut impl Consumer<I, T, E>,
    mut acknowledge: impl FnMut(),
) -> Option<Delivery<I, T, E>> {
    let Some(interval) = consumer.idle_interval() else {
        return inbox.recv().ok();
    };
    if let Ok(next) = inbox.try_recv() {
        return Some(next);
    }
    loop {
        consumer.on_idle();
        acknowledge();
        match inbox.recv_timeout(interval) {
            Ok(next) => return Some(next),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

impl<'s> Spawner<'s> for &'s Scope<'s, '_> {
    fn start(self, name: &str, body: impl FnOnce() + Send + 's) -> io::Result<()> {
        named(name).spawn_scoped(self, body).map(drop)
    }
}

/// Starts threads that nobody waits for.
#[derive(Clone, Copy)]
struct Detached;

impl Spawner<'static> for Detached {
    fn start(self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        named(name).spawn(body).map(drop)
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
