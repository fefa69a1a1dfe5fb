//! Live progress as data: counters that a run's threads add to, and snapshots of them.

use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::track::BindingTrack;
use crate::binding::{Binding, Times};
use crate::error::{AnnouncedLimit, Error};
use crate::limit::Limiter;
use crate::sync::Mutex;

/// Watches the runs it is given to, from any thread, at any time.
///
/// Clones watch the same. Give one to [`Pool::with_monitor`](crate::Pool::with_monitor) or
/// [`Client::with_monitor`](crate::Client::with_monitor); one monitor over several runs adds them
/// up.
///
/// ```
/// use tollgate::{Monitor, Pool, Verdict};
///
/// let monitor = Monitor::new();
/// let pool = Pool::new(4)?.with_monitor(&monitor);
/// let squares = pool.map(&[1, 2, 3], |n| n * n);
/// assert_eq!(monitor.snapshot().succeeded, 3);
/// # assert_eq!(squares.len(), 3);
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Monitor(Arc<Counters>);

/// What a [`Monitor`] saw at one moment.
///
/// ```
/// use std::{thread, time::Duration};
/// use tollgate::{Monitor, Pool};
///
/// let monitor = Monitor::new();
/// let pool = Pool::new(4)?.with_monitor(&monitor);
/// thread::scope(|scope| {
///     let run = scope.spawn(|| pool.map(&[1, 2, 3], |n| n * n));
///     while !run.is_finished() {
///         let now = monitor.snapshot();
///         println!("{} done, {} in flight", now.succeeded, now.in_flight);
///         thread::sleep(Duration::from_millis(5));
///     }
/// });
/// assert_eq!(monitor.snapshot().succeeded, 3);
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Items that succeeded.
    pub succeeded: u64,
    /// Items that were given up.
    pub failed: u64,
    /// Items neither succeeded nor given up when their run was stopped.
    pub abandoned: u64,
    /// Requests sent, retries included.
    pub attempts: u64,
    /// Of the attempts, those after an item's first.
    pub retries: u64,
    /// Of the attempts, copies of an attempt that took too long
    /// ([`ClientBuilder::hedge`](crate::ClientBuilder::hedge)). They are no retries.
    pub hedges: u64,
    /// Of these copies, those whose answer came first and was taken.
    pub hedges_won: u64,
    /// Attempts that were cut off because the other attempt at their item was answered first: a
    /// copy, or the attempt that it is a copy of. Each of them may have been billed.
    pub hedges_cut: u64,
    /// Answers that asked for a slower pace.
    pub throttled: u64,
    /// Requests on the wire now.
    pub in_flight: u64,
    /// The most requests on the wire at once.
    pub in_flight_peak: u64,
    /// The concurrency when the last request was sent. Of a [range](crate::Concurrency) it is the
    /// number that was found.
    pub concurrency: usize,
    /// Items that wait for a permit of the limiter now.
    pub waiting: u64,
    /// Items that wait for their next attempt now.
    pub backing_off: u64,
    /// When the last of the items that wait so far is to be tried again.
    pub(crate) last_retry: Option<Instant>,
    /// Threads that send requests or wait to, now.
    pub threads: u64,
    /// The most threads at once.
    pub threads_peak: u64,
    /// Model tokens that answers have used, prompts and answers together. Attempts that do not say
    /// what they used are not counted.
    pub tokens: u64,
    /// Model tokens as the limiter counts them: of the requests in flight those that are reserved,
    /// and of the attempts that have ended those they used, as far as they said so.
    pub counted_tokens: u64,
    /// Items that may have been paid for more than once: they were sent again after an attempt
    /// whose answer was lost on the way.
    pub possibly_billed: u64,
    /// How long runs waited for a permit, by reason. One item of a run waits at a time, so this is
    /// run time and not summed over items.
    pub limiter_wait: Times,
    /// Time between attempts, that of an outage included and that of a pause for all left out,
    /// summed over items. Each wait is added at its end.
    pub backoff: Duration,
    /// Time in attempts, summed over them.
    pub wire: Duration,
    /// How long each limit held runs back. If the monitor watches several runs at once, a moment
    /// counts for the limit that was noted last.
    pub bound: Times,
    /// What has held runs back most of the last second or so: the binding limit at the moment.
    pub binding: Option<Binding>,
    /// What holds the run back, by the clock of the limiter of the first run.
    pub(crate) track: BindingTrack,
}

/// Why a run sends nothing at the moment. See [retries](crate::_guide::retries).
///
/// In an *outage* one request now and then asks whether the server is back. A *pause* is what the
/// server asked for: at its end the run goes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hold {
    /// Whether it is a pause, and no outage.
    pub is_pause: bool,
    /// How the last attempt failed, or what asked for the pause, as far as that can be told.
    pub error: Option<Error>,
    /// How long until the next request is sent; zero while one asks. `None` if the run's time is
    /// over before that.
    pub next_try: Option<Duration>,
}

impl Progress {
    /// Items that are through: succeeded + failed + abandoned.
    pub fn done(&self) -> u64 {
        self.succeeded + self.failed + self.abandoned
    }

    /// How long until every item has been tried again that waits for it.
    pub(crate) fn retried_in(&self, now: Instant) -> Duration {
        let last = self.last_retry.filter(|_| self.backing_off > 0);
        last.map_or(Duration::ZERO, |last| last.saturating_duration_since(now))
    }
}

impl Monitor {
    /// A monitor that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counters, all of the same moment.
    pub fn snapshot(&self) -> Progress {
        let now = self.limiter().map(|limiter| limiter.clock().now());
        self.update(|progress| {
            if let Some(now) = now {
                (progress.bound, progress.binding) = progress.track.settle(now);
            }
            *progress
        })
    }

    /// A run with this limiter begins.
    pub(super) fn run_begins(&self, limiter: &Limiter) {
        self.0.limiter.get_or_init(|| limiter.clone());
    }

    /// The limiter of the first run.
    pub(crate) fn limiter(&self) -> Option<&Limiter> {
        self.0.limiter.get()
    }

    /// From now on it is this that holds the run back.
    pub(super) fn set_binding(&self, binding: Option<Binding>) {
        if let Some(limiter) = self.limiter() {
            let now = limiter.clock().now();
            self.update(|progress| progress.track.set(binding, now));
        }
    }

    /// What keeps the run waiting now, if something does. `ends` is when the run's time is over.
    pub(crate) fn hold(&self, now: Instant, ends: Option<Instant>) -> Option<Hold> {
        let pause = || self.0.pause.lock().clone().filter(|(_, end)| *end > now);
        let down = self.0.down.lock().clone();
        let is_pause = down.is_none();
        let (error, until) = down.or_else(pause)?;
        Some(Hold {
            is_pause,
            error,
            next_try: ends
                .is_none_or(|ends| until < ends)
                .then(|| until.saturating_duration_since(now)),
        })
    }

    /// The limit that the server named when it last asked for a pause.
    pub(crate) fn announced_limit(&self) -> Option<AnnouncedLimit> {
        self.0.pause.lock().as_ref()?.0.as_ref()?.announced_limit()
    }

    /// Something has asked for a pause. A longer one is not replaced by a shorter one.
    pub(super) fn set_pause(&self, end: Instant, error: Option<Error>) {
        let _dropped_outside_the_lock = {
            let mut pause = self.0.pause.lock();
            match &*pause {
                Some((_, longer)) if *longer >= end => return,
                _ => pause.replace((error, end)),
            }
        };
    }

    /// Changes the counters. `change` is never the user's code.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut Progress) -> R) -> R {
        let progress = self.0.progress.lock();
        change(&mut progress.unwrap_or_else(PoisonError::into_inner))
    }

    /// The breaker keeps attempts back until the next probe, or no longer does. Without an error,
    /// what is known already stands. Returns what is no longer true, to be dropped outside every
    /// lock.
    #[must_use]
    pub(super) fn set_outage(&self, probe: Option<Instant>, error: Option<Error>) -> Option<Down> {
        let mut down = self.0.down.lock();
        match probe {
            None => down.take(),
            Some(_) if error.is_none() => None,
            Some(next_probe) => down.replace((error, next_probe)),
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    /// The standard library's lock: it is held for a few additions, and need not be a part of what
    /// the model checker explores.
    progress: std::sync::Mutex<Progress>,
    down: Mutex<Option<Down>>,
    /// The last pause and its end, which may have passed.
    pause: Mutex<Option<Down>>,
    limiter: OnceLock<Limiter>,
}

/// The other side is down: why, as far as that can be told, and when the next probe may go.
type Down = (Option<Error>, Instant);
