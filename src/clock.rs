//! Time: where it is read, and where a thread waits for it to pass.
//!
//! A [`Clock`] is the machine's or a virtual one. A thread that waits on a virtual clock sleeps
//! until a test calls [`VirtualClock::advance`], so that hours of waiting are tested without a real
//! wait.
//!
//! Every wait in this crate is a [`Parker`]: a flag with its own lock and condition variable, which
//! any thread may set to wake the one that parks on it. A flag that is set before its thread parks
//! is not lost. A thread may wake without a reason, so it checks what it waits for again.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::opaque::opaque;
use crate::sync::{Condvar, Mutex};

/// Where time is read and waited for: the machine's clock (the default) or a [`VirtualClock`].
///
/// Cloning is cheap and gives the same clock. Rates, backoff and deadlines go by the monotonic
/// clock, so setting the wall clock does not move them.
///
/// ```
/// use std::time::Duration;
/// use tollgate::{Clock, VirtualClock};
///
/// let time = VirtualClock::new();
/// let clock: Clock = time.clock();
/// let before = clock.now();
/// time.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now() - before, Duration::from_secs(3600));
/// ```
#[derive(Clone, Default)]
pub struct Clock(
    /// `None` is the machine's clock.
    Option<Arc<Virtual>>,
);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// The present instant of the monotonic clock.
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(time) => time.origin + time.state.lock().elapsed,
        }
    }

    /// The time of day, to compare with the dates that servers send.
    ///
    /// A virtual clock starts at 2026-01-01 00:00:00 UTC and moves only when it is advanced.
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(time) => SystemTime::UNIX_EPOCH + VIRTUAL_EPOCH + time.state.lock().elapsed,
        }
    }

    /// Waits until `parker` is unparked or `until` has come (never, if `None`), and clears the
    /// flag.
    ///
    /// May return without a reason.
    pub(crate) fn park(&self, parker: &Arc<Parker>, until: Option<Instant>) {
        match &self.0 {
            None => {
                parker.wait(until);
                parker.clear();
            }
            Some(time) => time.park(parker, until),
        }
    }
}

opaque!(Clock, "Clock", |it| is_virtual: it.0.is_some());

/// 2026-01-01 00:00:00 UTC, in seconds after the Unix epoch.
const VIRTUAL_EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// Where a virtual clock stops: after every real wait, and within what an `Instant` can hold.
const END: Duration = Duration::from_secs(500 * 365 * 86_400);

/// A clock for tests, which stands still until the test advances it.
///
/// Give [`VirtualClock::clock`] to a limiter, a pool or a client, and advance it from the test's
/// thread.
///
/// ```
/// use std::thread;
/// use std::time::Duration;
/// use tollgate::{Cost, Limiter, Rate, VirtualClock};
///
/// let time = VirtualClock::new();
/// let limiter = Limiter::builder().requests(Rate::per_second(1)).clock(time.clock()).build()?;
/// let _first = limiter.acquire(Cost::ONE)?; // the bucket starts full
/// thread::scope(|scope| {
///     let second = scope.spawn(|| limiter.acquire(Cost::ONE).map(drop));
///     time.wait_parked(1);                  // it waits for its permit ...
///     time.advance(Duration::from_secs(1)); // ... and has it a second later
///     second.join().unwrap()
/// })?;
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone)]
pub struct VirtualClock(Arc<Virtual>);

impl VirtualClock {
    /// A virtual clock at its origin.
    pub fn new() -> Self {
        Self(Arc::new(Virtual {
            origin: Instant::now(),
            state: Mutex::new(VirtualState::default()),
            parked: Condvar::default(),
        }))
    }

    /// The clock to hand to a limiter, a pool or a client.
    pub fn clock(&self) -> Clock {
        Clock(Some(Arc::clone(&self.0)))
    }

    /// How far the clock has been advanced since it was made.
    pub fn elapsed(&self) -> Duration {
        self.0.state.lock().elapsed
    }

    /// Advances the clock and wakes every thread whose instant has come. The clock stops 500 years
    /// after its start.
    pub fn advance(&self, by: Duration) {
        let due: Vec<_> = {
            let mut state = self.0.state.lock();
            state.elapsed = state.elapsed.saturating_add(by).min(END);
            let now = self.0.origin + state.elapsed;
            let is_due = |until: &Option<Instant>| until.is_some_and(|until| until <= now);
            let due = state.sleepers.iter().filter(|(_, until)| is_due(until));
            due.map(|(parker, _)| Arc::clone(parker)).collect()
        };
        for parker in due {
            parker.unpark();
        }
    }

    /// Advances the clock to the earliest instant that a parked thread waits for. The answer is by
    /// how much; `None` if no parked thread waits for an instant.
    pub fn advance_to_next(&self) -> Option<Duration> {
        let by = {
            let state = self.0.state.lock();
            let next = state.parked().filter_map(|(_, until)| *until).min()?;
            next.saturating_duration_since(self.0.origin + state.elapsed)
        };
        self.advance(by);
        Some(by)
    }

    /// How many threads are parked on this clock. A thread that has been woken, but has not run
    /// yet, is not counted.
    pub fn parked(&self) -> usize {
        self.0.state.lock().parked().count()
    }

    /// Waits, in real time, until at least `threads` threads are parked on this clock.
    ///
    /// A test waits for this before it advances the clock: whatever can happen at this instant has
    /// happened once all its threads are parked.
    pub fn wait_parked(&self, threads: usize) {
        let mut state = self.0.state.lock();
        while state.parked().count() < threads {
            state = self.0.parked.wait(state);
        }
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

opaque!(VirtualClock, "VirtualClock", |it| elapsed: it.elapsed(), parked: it.parked());

struct Virtual {
    origin: Instant,
    state: Mutex<VirtualState>,
    /// Notified when a thread parks, for [`VirtualClock::wait_parked`].
    parked: Condvar,
}

#[derive(Default)]
struct VirtualState {
    elapsed: Duration,
    sleepers: Vec<Sleeper>,
}

/// A thread that parks, and until when.
type Sleeper = (Arc<Parker>, Option<Instant>);

impl Virtual {
    fn park(&self, parker: &Arc<Parker>, until: Option<Instant>) {
        {
            let mut state = self.state.lock();
            // Checked under the lock that `advance` takes. An instant that has come just before
            // would otherwise be waited for until the next advance, if there is one.
            if until.is_some_and(|until| until <= self.origin + state.elapsed) {
                parker.clear();
                return;
            }
            state.sleepers.push((Arc::clone(parker), until));
            self.parked.notify_all();
        }
        parker.wait(None);
        let mut state = self.state.lock();
        let sleepers = &mut state.sleepers;
        sleepers.retain(|(sleeper, _)| !Arc::ptr_eq(sleeper, parker));
        // Cleared under the lock of the list. Before it, this thread would be counted as parked
        // while it runs, and a test would advance the clock too early.
        parker.clear();
    }
}

impl VirtualState {
    fn parked(&self) -> impl Iterator<Item = &Sleeper> {
        let sleepers = self.sleepers.iter();
        sleepers.filter(|(parker, _)| !parker.is_notified())
    }
}

/// Wakes a thread, if there is one to wake. Who it is, is found out under a lock; this is called
/// after it.
pub(crate) fn unpark(parker: Option<Arc<Parker>>) {
    if let Some(parker) = parker {
        parker.unpark();
    }
}

/// What one thread waits on, and others wake it by.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    notified: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Wakes the thread that is parked here, or makes its next park return at once.
    pub(crate) fn unpark(&self) {
        let mut notified = self.notified.lock();
        *notified = true;
        // Under the lock: parking_lot then moves the waiting thread to the queue of the mutex, and
        // it does not wake only to find the mutex locked.
        self.changed.notify_one();
    }

    fn is_notified(&self) -> bool {
        *self.notified.lock()
    }

    fn clear(&self) {
        *self.notified.lock() = false;
    }

    /// Returns once unparked, or at `until`. Leaves the flag as it is.
    fn wait(&self, until: Option<Instant>) {
        let mut notified = self.notified.lock();
        while !*notified {
            notified = match until {
                None => self.changed.wait(notified),
                Some(until) if Instant::now() < until => self.changed.wait_until(notified, until),
                Some(_) => break,
            };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn an_unpark_before_the_park_is_not_lost() {
        let parker = Parker::new();
        parker.unpark();
        Clock::system().park(&parker, None);
    }

    #[test]
    fn a_parked_thread_wakes_when_its_time_has_come_and_not_before() {
        let time = VirtualClock::new();
        let clock = time.clock();
        let until = clock.now() + Duration::from_secs(10);
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                clock.park(&Parker::new(), Some(until));
                clock.now()
            });
            time.wait_parked(1);
            time.advance(Duration::from_secs(9));
            assert_eq!(time.parked(), 1, "woken a second early");
            time.advance(Duration::from_secs(1));
            assert!(sleeper.join().unwrap() >= until);
        });
    }

    #[test]
    fn an_instant_that_has_passed_is_not_waited_for() {
        let time = VirtualClock::new();
        let clock = time.clock();
        let past = clock.now();
        time.advance(Duration::from_secs(1));
        clock.park(&Parker::new(), Some(past));
    }

    /// A thread that was woken and has not got round to saying so is not parked.
    #[test]
    fn a_woken_thread_is_never_counted_as_parked() {
        const TIMES: u64 = 2_000;
        let time = VirtualClock::new();
        let clock = time.clock();
        let start = clock.now();
        let steps: Vec<_> = thread::scope(|scope| {
            scope.spawn(|| {
                for second in 1..=TIMES {
                    clock.park(&Parker::new(), Some(start + Duration::from_secs(second)));
                }
            });
            let steps = (0..TIMES).map(|_| {
                time.wait_parked(1);
                time.advance_to_next()
            });
            let steps = steps.collect();
            // Whatever went wrong, the thread must end.
            time.advance(Duration::from_secs(TIMES));
            steps
        });
        let second = Some(Duration::from_secs(1));
        assert!(steps.iter().all(|&step| step == second), "{steps:?}");
    }

    #[test]
    fn the_end_of_time_is_reached_without_a_panic() {
        let time = VirtualClock::new();
        time.advance(Duration::MAX);
        time.advance(Duration::MAX);
        assert_eq!(time.elapsed(), END);
        assert!(time.clock().wall() > SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn the_next_instant_is_the_earliest_of_all_sleepers() {
        let time = VirtualClock::new();
        let clock = time.clock();
        let start = clock.now();
        thread::scope(|scope| {
            for seconds in [5, 2, 9] {
                let clock = &clock;
                scope.spawn(move || {
                    clock.park(&Parker::new(), Some(start + Duration::from_secs(seconds)));
                });
            }
            time.wait_parked(3);
            assert_eq!(time.advance_to_next(), Some(Duration::from_secs(2)));
            time.advance(Duration::from_secs(7));
        });
        assert_eq!(time.advance_to_next(), None);
    }
}
