//! What happens in a run, one event at a time, for those who observe it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::monitor::Monitor;
use crate::binding::Binding;
use crate::error::ErrorKind;
use crate::limit::{Learned, Limiter};
use crate::sync::Mutex;

/// Something that happened to an item, or to the whole run.
///
/// An item is named by its place in the input, from 0. An observer is told of a new
/// [`Binding`](Self::Binding), of what was [`Learned`](Self::Learned) and of a new
/// [`Concurrency`](Self::Concurrency) right before the next event of an item or the next pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An attempt begins: it has its permit.
    AttemptStarted {
        /// The item.
        index: u64,
        /// 1 for the first attempt. One in which nothing was sent is not counted.
        attempt: u32,
    },
    /// An attempt failed, and the item is tried again. Of a client, the whole reason is a
    /// [record of the log](crate::_guide::batch_files#the-summary), with the level `info` and the
    /// target `tollgate::attempt`.
    Retry {
        /// The item.
        index: u64,
        /// The attempt that failed.
        attempt: u32,
        /// What kind of failure it was; `None` if a job's error is none of this library's.
        kind: Option<ErrorKind>,
        /// How long the item waits at least.
        wait: Duration,
    },
    /// The server asked for a pause. No run on the same limiter sends anything until it is over.
    Pause {
        /// How long the pause is.
        wait: Duration,
    },
    /// Another limit holds the run back than before: the `binding` of
    /// [`Progress`](crate::Progress).
    Binding {
        /// What holds the run back.
        binding: Binding,
    },
    /// The limiter has learned something of the provider's limits, or forgotten it. A rate learned
    /// from refusals is told again when it has changed by a tenth.
    Learned {
        /// All that it knows now.
        learned: Learned,
    },
    /// The concurrency has changed. It is a [range](crate::Concurrency) and another number was
    /// found in it, it was set, or refusals say that fewer requests are possible at once.
    Concurrency {
        /// How many requests may be in flight at once now.
        at_once: usize,
    },
    /// An item has its outcome, which is handed over next.
    Done {
        /// The item.
        index: u64,
        /// How many attempts it took.
        attempts: u32,
        /// Whether its result is `Ok`.
        succeeded: bool,
    },
}

/// Is told of each [`Event`] of the runs it is given to.
///
/// Any closure over `&Event` is an observer. Give one to
/// [`Pool::with_observer`](crate::Pool::with_observer) or
/// [`Client::with_observer`](crate::Client::with_observer). For counts that are looked at
/// now and then, a [`Monitor`](crate::Monitor) is simpler.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::sync::Arc;
/// use tollgate::{Event, Pool};
///
/// let done = Arc::new(AtomicU32::new(0));
/// let counter = Arc::clone(&done);
/// let pool = Pool::new(4)?.with_observer(move |event: &Event| {
///     if let Event::Done { succeeded: true, .. } = event {
///         counter.fetch_add(1, Ordering::Relaxed);
///     }
/// });
/// pool.map(&[1, 2, 3], |n| n * n);
/// assert_eq!(done.load(Ordering::Relaxed), 3);
/// # Ok::<(), tollgate::Error>(())
/// ```
pub trait Observer: Send + Sync {
    /// Called on the thread that the event happened on: a worker of the pool, or the caller of a
    /// run over a slice. No lock is held, so it may ask a limiter or a monitor; but the run waits
    /// for it, so it should be quick. Several threads may call it at once. A panic in it is logged
    /// and changes nothing else.
    fn on_event(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn on_event(&self, event: &Event) {
        self(event);
    }
}

/// The observer of a run, if it has one.
#[derive(Clone, Default)]
pub(crate) struct Events(Option<Arc<Observed>>);

/// An observer, and what it was told last of what is no event of an item.
struct Observed {
    told: Mutex<Told>,
    observer: Box<dyn Observer>,
}

#[derive(Default)]
struct Told {
    binding: Option<Binding>,
    learned: Learned,
    at_once: Option<usize>,
}

impl Events {
    pub(super) fn new(observer: impl Observer + 'static) -> Self {
        Self(Some(Arc::new(Observed {
            told: Mutex::default(),
            observer: Box::new(observer),
        })))
    }

    /// Tells the observer. No lock may be held here: it is the user's code.
    #[inline]
    pub(super) fn emit(&self, limiter: &Limiter, monitor: &Monitor, event: impl FnOnce() -> Event) {
        if let Some(observed) = &self.0 {
            observed.tell(limiter, monitor, event());
        }
    }
}

impl Observed {
    #[inline(never)]
    fn tell(&self, limiter: &Limiter, monitor: &Monitor, event: Event) {
        let news = self.told.lock().news(limiter, monitor);
        for event in news.into_iter().flatten().chain([event]) {
            if catch_unwind(AssertUnwindSafe(|| self.observer.on_event(&event))).is_err() {
                log::error!("an observer panicked at {event:?}; the run goes on");
            }
        }
    }
}

impl Told {
    /// What has changed since it was looked last. What was so from the start is no change.
    fn news(&mut self, limiter: &Limiter, monitor: &Monitor) -> [Option<Event>; 3] {
        let (learned, at_once) = (limiter.learned(), limiter.most_in_flight());
        let binding = monitor.snapshot().binding;
        let binding = binding.filter(|_| binding != self.binding);
        self.binding = binding.or(self.binding);
        let has_learned = !is_close(learned, self.learned);
        if has_learned {
            self.learned = learned;
        }
        let before = self.at_once.replace(at_once);
        let changes = before.is_some_and(|before| before != at_once);
        [
            binding.map(|binding| Event::Binding { binding }),
            has_learned.then_some(Event::Learned { learned }),
            changes.then_some(Event::Concurrency { at_once }),
        ]
    }
}

/// Whether all is the same but for what changes all the time: a rate that refusals tell, by less
/// than a tenth, and the count of what made no sense.
fn is_close(one: Learned, other: Learned) -> bool {
    let is_near = match (one.from_refusals, other.from_refusals) {
        (Some(one), Some(other)) => {
            (one.units_per_second() / other.units_per_second() - 1.0).abs() < 0.1
        }
        (one, other) => one == other,
    };
    let but_for_that = Learned {
        from_refusals: other.from_refusals,
        ignored: other.ignored,
        ..one
    };
    is_near && but_for_that == other
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Events").field(&self.0.is_some()).finish()
    }
}
