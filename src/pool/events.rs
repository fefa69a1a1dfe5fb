//! What happens in a run, one event at a time, for those who observe it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::binding::Binding;
use crate::limit::Learned;

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
    /// The concurrency has changed. It is a [range](crate::Concurrency) and another number was
    /// found in it, or refusals say that fewer requests are possible at once.
    Concurrency {
        /// How many requests may be in flight at once now.
        at_once: usize,
    },
    /// The server asked for a pause. No run on the same limiter sends anything until it is over.
    Pause {
        /// How long the pause is.
        wait: Duration,
    },
    /// Another limit holds the run back than the event before said: the `binding` of
    /// [`Progress`](crate::Progress). It is told when an attempt begins, and once a second at most.
    Binding {
        /// What holds the run back.
        binding: Binding,
    },
    /// The limiter has learned something of the provider's limits, or forgotten it. A rate learned
    /// from refusals is told again when it has changed by a tenth. It is told when
    /// [`Binding`](Self::Binding) is.
    Learned {
        /// All that it knows now.
        learned: Learned,
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
/// [`Client::with_observer`](crate::Client::with_observer). For counts that are looked at now and
/// then, a [`Monitor`](crate::Monitor) is simpler.
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

/// What the observer has been told of how the run goes, and when it was looked at.
#[derive(Debug, Default)]
pub(super) struct Told {
    looked: Option<Instant>,
    binding: Option<Binding>,
    learned: Learned,
}

/// How often it is looked whether there is news.
const NEWS_EVERY: Duration = Duration::from_secs(1);

impl Told {
    /// Whether it is time to look again.
    pub(super) fn is_old(&mut self, now: Instant) -> bool {
        let is_old = self.looked.is_none_or(|at| now >= at + NEWS_EVERY);
        if is_old {
            self.looked = Some(now);
        }
        is_old
    }

    /// What of this is news.
    pub(super) fn news(
        &mut self,
        binding: Option<Binding>,
        learned: Learned,
    ) -> [Option<Event>; 2] {
        let binding = binding.filter(|_| binding != self.binding);
        self.binding = binding.or(self.binding);
        let is_news = !learned.is_close_to(&self.learned);
        if is_news {
            self.learned = learned;
        }
        [
            binding.map(|binding| Event::Binding { binding }),
            is_news.then_some(Event::Learned { learned }),
        ]
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Rate;

    #[test]
    fn what_has_not_changed_much_is_no_news_and_nothing_is_within_a_second() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(told.is_old(now) && !told.is_old(now + NEWS_EVERY / 2));
        assert!(told.is_old(now + NEWS_EVERY));
        let learned = |from_refusals, ignored| Learned {
            from_refusals: Some(Rate::per_second(from_refusals)),
            ignored,
            ..Learned::default()
        };
        assert_eq!(told.news(None, Learned::default()), [None; 2]);
        let [binding, news] = told.news(Some(Binding::Pause), learned(100, 0));
        assert_eq!(
            binding,
            Some(Event::Binding {
                binding: Binding::Pause
            })
        );
        assert_eq!(
            news,
            Some(Event::Learned {
                learned: learned(100, 0)
            })
        );
        // What binds may not be known for a moment.
        for (binding, learned) in [
            (None, learned(109, 5)),
            (Some(Binding::Pause), learned(91, 0)),
        ] {
            assert_eq!(told.news(binding, learned), [None; 2]);
        }
        let [binding, news] = told.news(Some(Binding::Wire), learned(89, 0));
        assert!(binding.is_some() && news.is_some());
        assert!(
            told.news(None, Learned::default())[1].is_some(),
            "forgotten"
        );
    }
}
