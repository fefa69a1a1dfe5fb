//! A few threads with deep stacks, for the steps of handshakes.
//!
//! Key exchange and certificates go deeper than all else a request does, and what a thread's stack
//! has once touched it keeps: 12 KiB more for each of thousands of workers. So a worker waits for
//! its peer itself, as many at once as there are, and has only what is to be computed done here. As
//! many threads as there are cores do that; more could not compute at once anyway.
//!
//! They are started as they are needed and end with their owner.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Instant;

use super::super::exchange::Exchange;
use super::super::fault::Failure;
use crate::sync::{Condvar, Mutex};

/// Room for the deepest handshake many times over; what is not touched costs nothing.
const STACK: usize = 512 * 1024;

static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// The threads of one owner, and what waits for them.
pub(super) struct DeepStacks {
    shared: Arc<Shared>,
    stack: usize,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is a step, or no more will come.
    news: Condvar,
}

#[derive(Default)]
struct Queue {
    steps: VecDeque<Step>,
    threads: usize,
    idle: usize,
    is_closed: bool,
}

type Step = Box<dyn FnOnce() + Send>;

/// Where a step leaves what came of it for the thread that waits for it.
struct Place<T> {
    done: Mutex<Option<Done<T>>>,
    filled: Condvar,
}

/// Nothing, for a step that was not begun because it was too late.
type Done<T> = Option<thread::Result<T>>;

impl DeepStacks {
    pub(super) fn new() -> Self {
        Self::of(STACK)
    }

    fn of(stack: usize) -> Self {
        Self {
            shared: Arc::default(),
            stack,
        }
    }

    /// Has `step` done and waits for it, for no longer than a connection may take to stand. A step
    /// that panics does so here.
    ///
    /// An abort does not reach into the queue. A step whose exchange is aborted is passed over in
    /// its turn, and so are those of the same run before it: what is waited for is the end of the
    /// steps under way, and the steps of other runs.
    pub(super) fn run<T: Send + 'static>(
        &self,
        exchange: &Exchange<'_>,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let by = exchange.connect_by();
        let cancel = exchange.cancel.clone();
        let place = Arc::new(Place {
            done: Mutex::new(None),
            filled: Condvar::default(),
        });
        let filling = Arc::clone(&place);
        self.queue(Box::new(move || {
            let is_late = cancel.is_aborted() || Instant::now() >= by;
            filling.fill((!is_late).then(|| catch_unwind(AssertUnwindSafe(step))));
        }));
        match place.wait(by) {
            Some(Ok(done)) => Ok(done),
            Some(Err(panic)) => resume_unwind(panic),
            None if exchange.cancel.is_aborted() => Err(Failure::aborted()),
            None => Err(exchange.timed_out()),
        }
    }

    fn queue(&self, step: Step) {
        let most = *CORES;
        let wants_thread = {
            let mut queue = self.shared.queue.lock();
            queue.steps.push_back(step);
            let wants_thread = queue.steps.len() > queue.idle && queue.threads < most;
            queue.threads += usize::from(wants_thread);
            wants_thread
        };
        self.shared.news.notify_one();
        if wants_thread && self.start().is_err() && self.shared.is_left_alone() {
            // No thread to be had: the caller's own will do, for others that count on one as well.
            while let Some(step) = self.shared.take() {
                step();
            }
        }
    }

    fn start(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        thread::Builder::new()
            .name("tollgate-tls".into())
            .stack_size(self.stack)
            .spawn(move || {
                while let Some(step) = shared.wait() {
                    step();
                }
            })
            .map(drop)
    }
}

impl Drop for DeepStacks {
    fn drop(&mut self) {
        self.shared.queue.lock().is_closed = true;
        self.shared.news.notify_all();
    }
}

impl Shared {
    /// The next step, once there is one; `None` when no more will come.
    fn wait(&self) -> Option<Step> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(step) = queue.steps.pop_front() {
                return Some(step);
            }
            if queue.is_closed {
                return None;
            }
            queue.idle += 1;
            queue = self.news.wait(queue);
            queue.idle -= 1;
        }
    }

    /// The next step, if there is one.
    fn take(&self) -> Option<Step> {
        self.queue.lock().steps.pop_front()
    }

    /// A thread counted on did not start. Whether there is no other.
    fn is_left_alone(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.threads -= 1;
        queue.threads == 0
    }
}

impl<T> Place<T> {
    fn fill(&self, done: Done<T>) {
        *self.done.lock() = Some(done);
        self.filled.notify_one();
    }

    fn wait(&self, by: Instant) -> Done<T> {
        let mut done = self.done.lock();
        while done.is_none() && Instant::now() < by {
            done = self.filled.wait_until(done, by);
        }
        done.take().flatten()
    }
}

impl fmt::Debug for DeepStacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeepStacks").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::super::{HttpRequest, TransportErrorKind};
    use super::*;
    use crate::Cancel;
    use std::collections::HashSet;
    use std::sync::mpsc;
    use std::time::Duration;

    const AMPLE: Duration = Duration::from_secs(60);
    /// More than any machine has.
    const NO_STACK: usize = 1 << 60;

    /// Runs `step` for an exchange under `cancel` whose connection must stand within `connect`.
    fn run<T: Send + 'static>(
        stacks: &DeepStacks,
        cancel: &Cancel,
        connect: Duration,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let call = HttpRequest::new("GET", "https://host/", Instant::now() + AMPLE, cancel);
        let mut exchange = Exchange::new(&call, connect, None);
        exchange.connecting(|exchange| stacks.run(exchange, step))
    }

    fn here() -> thread::ThreadId {
        thread::current().id()
    }

    /// Keeps all threads there can be busy while `meanwhile` runs.
    fn with_all_busy<T>(stacks: &DeepStacks, meanwhile: impl FnOnce() -> T) -> T {
        let (begun, begins) = mpsc::channel();
        let mut held = Vec::new();
        thread::scope(|scope| {
            for _ in 0..*CORES {
                let begun = begun.clone();
                let (release, until) = mpsc::channel::<()>();
                held.push(release);
                scope.spawn(move || {
                    run(stacks, &Cancel::new(), AMPLE, move || {
                        begun.send(()).unwrap();
                        // Ends when the test drops its side.
                        let _ = until.recv();
                    })
                });
            }
            for _ in 0..*CORES {
                begins.recv().unwrap();
            }
            let done = meanwhile();
            drop(held);
            done
        })
    }

    #[test]
    fn steps_of_many_callers_share_a_few_threads_that_are_not_theirs() {
        let stacks = DeepStacks::new();
        let cancel = Cancel::new();
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..8 * *CORES {
                scope.spawn(|| {
                    let there = run(&stacks, &cancel, AMPLE, here).unwrap();
                    tell.send((here(), there)).unwrap();
                });
            }
        });
        drop(tell);
        let (callers, deep): (HashSet<_>, HashSet<_>) = told.iter().unzip();
        assert!(deep.is_disjoint(&callers));
        assert!((1..=*CORES).contains(&deep.len()), "{}", deep.len());
    }

    #[test]
    fn one_caller_after_the_other_needs_one_thread() {
        let stacks = DeepStacks::new();
        let cancel = Cancel::new();
        let deep: HashSet<_> = (0..20)
            .map(|_| {
                let there = run(&stacks, &cancel, AMPLE, here).unwrap();
                while stacks.shared.queue.lock().idle == 0 {
                    thread::yield_now();
                }
                there
            })
            .collect();
        assert_eq!(deep.len(), 1);
    }

    #[test]
    fn a_panic_is_its_callers_alone() {
        let stacks = DeepStacks::new();
        let cancel = Cancel::new();
        for _ in 0..2 * *CORES {
            let step = || -> () { panic!("in the step") };
            let call = AssertUnwindSafe(|| run(&stacks, &cancel, AMPLE, step));
            let panic = catch_unwind(call).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"in the step"));
        }
        assert_eq!(run(&stacks, &cancel, AMPLE, || 7).unwrap(), 7);
        assert!(stacks.shared.queue.lock().threads <= *CORES);
    }

    #[test]
    fn where_no_thread_is_to_be_had_the_callers_do_it() {
        let stacks = DeepStacks::of(NO_STACK);
        let cancel = Cancel::new();
        assert_eq!(run(&stacks, &cancel, AMPLE, here).unwrap(), here());
        thread::scope(|scope| {
            for number in 0..64 {
                let (stacks, cancel) = (&stacks, &cancel);
                scope.spawn(move || {
                    let done = run(stacks, cancel, AMPLE, move || number).unwrap();
                    assert_eq!(done, number);
                });
            }
        });
        assert_eq!(stacks.shared.queue.lock().threads, 0);
    }

    #[test]
    fn a_deadline_does_not_wait_for_the_queue() {
        let stacks = DeepStacks::new();
        let (tell, told) = mpsc::channel();
        with_all_busy(&stacks, || {
            let soon = Duration::from_millis(5);
            let step = move || tell.send(()).unwrap();
            let failure = run(&stacks, &Cancel::new(), soon, step).unwrap_err();
            assert_eq!(failure.fault, TransportErrorKind::Connect);
            assert_eq!(
                stacks.shared.queue.lock().threads,
                *CORES,
                "and none was started for it"
            );
        });
        assert!(
            told.recv().is_err(),
            "it was not begun, and its end of the channel is gone"
        );
    }

    #[test]
    fn what_is_aborted_in_the_queue_is_not_begun() {
        let stacks = DeepStacks::new();
        let cancel = Cancel::new();
        let (tell, told) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let waiting = with_all_busy(&stacks, || {
                let waiting = scope.spawn(|| {
                    let step = move || tell.send(()).unwrap();
                    run(&stacks, &cancel, AMPLE, step)
                });
                while stacks.shared.queue.lock().steps.is_empty() && !waiting.is_finished() {
                    thread::yield_now();
                }
                cancel.abort();
                waiting
            });
            let failure = waiting.join().unwrap().unwrap_err();
            assert_eq!(failure.fault, TransportErrorKind::Aborted);
        });
        assert!(told.recv().is_err());
    }

    #[test]
    fn the_threads_end_with_their_owner() {
        let stacks = DeepStacks::new();
        with_all_busy(&stacks, || ());
        let shared = Arc::downgrade(&stacks.shared);
        drop(stacks);
        let by = Instant::now() + AMPLE;
        while shared.strong_count() > 0 && Instant::now() < by {
            thread::yield_now();
        }
        assert_eq!(shared.strong_count(), 0);
    }
}
