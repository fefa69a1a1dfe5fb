//! What happens in a run, one event at a time, for those who observe it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Something that happened to an item, or to the whole run.
///
/// An item is named by its place in the input, from 0.
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
    /// An attempt failed, and the item is tried again.
    Retry {
        /// The item.
        index: u64,
        /// The attempt that failed.
        attempt: u32,
        /// How long the item waits at least.
        wait: Duration,
    },
    /// The server asked for a pause. No run on the same limiter sends anything until it is over.
    Pause {
        /// How long the pause is.
        wait: Duration,
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
/// [`Client::with_observer`](crate::Client::with_observer). A [`Monitor`](crate::Monitor) has counts
/// to look at now and then, and what holds the run back;
/// [`Limiter::learned`](crate::Limiter::learned) tells what was learned.
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
pub(crate) struct Events(pub(super) Option<Arc<dyn Observer>>);

impl Events {
    /// Tells the observer. No lock may be held here: it is the user's code.
    #[inline]
    pub(super) fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(observer) = &self.0 {
            tell(&**observer, event());
        }
    }
}

#[inline(never)]
fn tell(observer: &dyn Observer, event: Event) {
    if catch_unwind(AssertUnwindSafe(|| observer.on_event(&event))).is_err() {
        log::error!("an observer panicked at {event:?}; the run goes on");
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Events").field(&self.0.is_some()).finish()
    }
}
