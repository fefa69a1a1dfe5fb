//! Live progress as data: counters that a run's threads add to, and snapshots of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::limit::Waited;
use crate::sync::Mutex;

/// Watches the runs it is given to, from any thread, at any time.
///
/// Clones watch the same. Give one to [`Pool::with_monitor`](crate::Pool::with_monitor) or
/// [`Client::with_monitor`](crate::Client::with_monitor); one monitor over several runs adds them up.
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
#[derive(Clone, Default)]
pub struct Monitor(Arc<Counters>);

/// What a [`Monitor`] saw at one moment.
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
    /// Requests that failed and are tried again.
    pub retries: u64,
    /// Answers that asked for a slower pace.
    pub throttled: u64,
    /// Requests on the wire now.
    pub in_flight: u64,
    /// The most requests on the wire at once.
    pub in_flight_peak: u64,
    /// Items that stand at the gate now.
    pub at_gate: u64,
    /// Items that wait for their next attempt now.
    pub backing_off: u64,
    /// Threads running jobs or waiting to, now.
    pub threads: u64,
    /// The most threads at once.
    pub threads_peak: u64,
    /// Model tokens settled, prompt and completion together.
    pub tokens: u64,
    /// Requests made again although the one before may have been paid for: its answer was lost on
    /// the way, or of no use.
    pub possibly_billed: u64,
    /// How long the gate was closed, by reason, in run time (not summed over items).
    pub gate: Waited,
    /// Time between attempts, in an outage too, summed over items; each wait is added at its end.
    pub backoff: Duration,
    /// Time in attempts, summed over them.
    pub wire: Duration,
}

/// Why a run sends nothing: the other side is down, and is asked now and then by one request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outage {
    /// How the last attempt failed, as far as that can be told.
    pub error: Option<Error>,
    /// How long until the next request asks; zero while one does.
    pub next_try: Duration,
}

impl Progress {
    /// Items that are through, one way or the other.
    pub fn done(&self) -> u64 {
        self.succeeded + self.failed + self.abandoned
    }
}

impl Monitor {
    /// A monitor that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counters now. They are read one by one while the run goes on, so sums may be off by
    /// what happens in between.
    pub fn snapshot(&self) -> Progress {
        let counters = &*self.0;
        let nanos = |counter: &AtomicU64| Duration::from_nanos(counter.load(Relaxed));
        Progress {
            succeeded: counters.succeeded.load(Relaxed),
            failed: counters.failed.load(Relaxed),
            abandoned: counters.abandoned.load(Relaxed),
            attempts: counters.attempts.load(Relaxed),
            retries: counters.retries.load(Relaxed),
            throttled: counters.throttled.load(Relaxed),
            in_flight: counters.in_flight.load(Relaxed),
            in_flight_peak: counters.in_flight_peak.load(Relaxed),
            at_gate: counters.at_gate.load(Relaxed),
            backing_off: counters.backing_off.load(Relaxed),
            threads: counters.threads.load(Relaxed),
            threads_peak: counters.threads_peak.load(Relaxed),
            tokens: counters.tokens.load(Relaxed),
            possibly_billed: counters.possibly_billed.load(Relaxed),
            gate: Waited {
                requests: nanos(&counters.gate_requests),
                tokens: nanos(&counters.gate_tokens),
                pause: nanos(&counters.gate_pause),
                in_flight: nanos(&counters.gate_in_flight),
                queue: nanos(&counters.gate_queue),
            },
            backoff: nanos(&counters.backoff),
            wire: nanos(&counters.wire),
        }
    }

    /// The outage that keeps the run waiting now, if one does.
    pub(crate) fn outage(&self, now: Instant) -> Option<Outage> {
        let down = self.0.down.lock().clone()?;
        Some(Outage {
            error: down.error,
            next_try: down.next_probe.saturating_duration_since(now),
        })
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Monitor").field(&self.snapshot()).finish()
    }
}

/// Relaxed throughout: they are counts for people and reports, and order nothing.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    succeeded: AtomicU64,
    failed: AtomicU64,
    abandoned: AtomicU64,
    attempts: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    in_flight: AtomicU64,
    in_flight_peak: AtomicU64,
    at_gate: AtomicU64,
    backing_off: AtomicU64,
    threads: AtomicU64,
    threads_peak: AtomicU64,
    tokens: AtomicU64,
    possibly_billed: AtomicU64,
    gate_requests: AtomicU64,
    gate_tokens: AtomicU64,
    gate_pause: AtomicU64,
    gate_in_flight: AtomicU64,
    gate_queue: AtomicU64,
    backoff: AtomicU64,
    wire: AtomicU64,
    down: Mutex<Option<Down>>,
}

/// The other side is down.
#[derive(Clone, Debug)]
pub(crate) struct Down {
    pub(crate) error: Option<Error>,
    pub(crate) next_probe: Instant,
}

/// How an item ended, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Succeeded,
    Failed,
    Abandoned,
}

impl Counters {
    /// An attempt begins; it ends when the answer is dropped.
    pub(crate) fn attempt(&self) -> InFlight<'_> {
        rise(&self.in_flight, &self.in_flight_peak);
        InFlight(&self.in_flight)
    }

    /// An item stands at the gate while the answer lives.
    pub(crate) fn at_gate(&self) -> InFlight<'_> {
        self.at_gate.fetch_add(1, Relaxed);
        InFlight(&self.at_gate)
    }

    pub(crate) fn thread(&self) -> InFlight<'_> {
        rise(&self.threads, &self.threads_peak);
        InFlight(&self.threads)
    }

    pub(crate) fn attempted(&self, took: Duration, sent: bool) {
        if sent {
            self.attempts.fetch_add(1, Relaxed);
        }
        add(&self.wire, took);
    }

    /// An item waits for another attempt; `sent`: the one that failed was a request sent.
    pub(crate) fn backs_off(&self, sent: bool) {
        self.retries.fetch_add(u64::from(sent), Relaxed);
        self.backing_off.fetch_add(1, Relaxed);
    }

    pub(crate) fn backed_off(&self, waited: Duration) {
        self.backing_off.fetch_sub(1, Relaxed);
        add(&self.backoff, waited);
    }

    /// The other side is down, or no longer is. The answer is what was known before, to be dropped
    /// outside every lock.
    #[must_use]
    pub(crate) fn outage(&self, outage: Option<Down>) -> Option<Down> {
        std::mem::replace(&mut *self.down.lock(), outage)
    }

    pub(crate) fn throttled(&self) {
        self.throttled.fetch_add(1, Relaxed);
    }

    pub(crate) fn possibly_billed(&self) {
        self.possibly_billed.fetch_add(1, Relaxed);
    }

    pub(crate) fn used(&self, tokens: u64) {
        self.tokens.fetch_add(tokens, Relaxed);
    }

    pub(crate) fn gate(&self, waited: Waited) {
        add(&self.gate_requests, waited.requests);
        add(&self.gate_tokens, waited.tokens);
        add(&self.gate_pause, waited.pause);
        add(&self.gate_in_flight, waited.in_flight);
        add(&self.gate_queue, waited.queue);
    }

    pub(crate) fn ended(&self, how: Ending) {
        match how {
            Ending::Succeeded => &self.succeeded,
            Ending::Failed => &self.failed,
            Ending::Abandoned => &self.abandoned,
        }
        .fetch_add(1, Relaxed);
    }
}

/// One of so many at present; leaves when dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct InFlight<'a>(&'a AtomicU64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn rise(now: &AtomicU64, peak: &AtomicU64) {
    let risen = now.fetch_add(1, Relaxed) + 1;
    peak.fetch_max(risen, Relaxed);
}

fn add(total: &AtomicU64, time: Duration) {
    if !time.is_zero() {
        total.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}
