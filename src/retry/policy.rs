//! The retry policy, and its backoff: plain values and an iterator of durations.

use std::time::Duration;

use crate::error::{Result, config};
use crate::settings::settings;

settings! {
    /// How often a failed item is tried again, and how long the waits are.
    ///
    /// An *item* is one request of a run, or one input of a pool; each time it is sent is an
    /// *attempt*. The waits between attempts are random, which is called "full jitter" (Brooker,
    /// *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015): the n-th, counted from 0, is
    /// drawn evenly from `0 ..= min(max_backoff, initial_backoff · 2ⁿ)`. If the server says how
    /// long to wait, that is obeyed instead. Jitter only adds to the wait of one item: up to a
    /// tenth more, 5 s at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate::Retry;
    ///
    /// let patient = Retry::new().max_attempts(10).max_backoff(Duration::from_secs(120)).seed(7);
    /// let waits: Vec<Duration> = patient.backoff().collect();
    /// assert_eq!(waits.len(), 9, "ten attempts have nine waits between them");
    /// assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(120)));
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Retry (const)

    /// How many attempts an item has, the first included. Default: 6.
    ///
    /// Attempts that the server refused because it is asked too fast or overloaded, and those in
    /// which nothing was sent, do not count.
    max_attempts: u32 = 6;

    /// How often an item waits because the server asks for a wait. After one more it fails.
    /// Default: 50.
    max_waits: u32 = 50;

    /// The upper bound of the first wait. It doubles with each further wait. Default: 0.5 s.
    ///
    /// It is twice this after a refusal (429, an overload) that does not say how long to wait. That
    /// holds while the server still answers most requests; otherwise everyone waits.
    initial_backoff: Duration = Duration::from_millis(500);

    /// The upper bound of every wait that the server did not ask for. Default: 60 s.
    max_backoff: Duration = Duration::from_secs(60);

    /// The longest wait that the server may ask for. A longer one stops the run, which can be
    /// resumed later. `None` obeys any. Default: 10 minutes.
    max_server_delay: Option<Duration> = Some(Duration::from_secs(600));

    /// The longest an item may take, from when it is first taken up to its last answer, waits
    /// included. One that is not done by then fails with
    /// [`ErrorKind::Deadline`](crate::ErrorKind::Deadline). Default: no limit.
    item_deadline: Option<Duration> = None;

    /// After how many failed answers in a row that are alike a run stops, if nothing has succeeded
    /// since it began. `None` never stops it. Default: 20, but 10 for HTTP 403 and 404.
    ///
    /// Alike are answers of the same kind, status, code and message, numbers aside. Once something
    /// has succeeded, it takes at least 100 in a row, and at least four times as many as are in
    /// flight. Not counted are refusals of a server that is asked too fast or overloaded, failures
    /// of the server or the network, and refusals for the size or the content of one request.
    // The second number is for what is refused to everyone or is not there.
    stop_alike(answers: Option<u32>): [Option<u32>; 2] = [Some(20), Some(10)] => [answers, answers];

    /// Makes the random waits the same in every run. Default: different in every run.
    seed(seed: u64): Option<u64> = None => Some(seed);
}

impl Retry {
    /// The defaults: 6 attempts, backoff from 0.5 s (from 1 s if the server is asked too fast) up
    /// to 60 s, and waits of up to 10 minutes where the server asks for them.
    pub const fn new() -> Self {
        Self::DEFAULT
    }

    /// Every item is sent at most once.
    ///
    /// An answer that asks for a slower pace is a failure, too. A server that cannot be reached is
    /// still waited for, because an attempt in which nothing is sent does not count: for two
    /// minutes, if it has never answered. A deadline, such as
    /// [`item_deadline`](Retry::item_deadline), ends that sooner.
    pub const fn never() -> Self {
        Self::new().max_attempts(1).max_waits(0)
    }

    /// The waits of an item whose attempts all fail: one fewer than it has attempts.
    pub fn backoff(&self) -> Backoff {
        Backoff {
            policy: *self,
            jitter: self
                .seed
                .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            step: 0,
        }
    }

    /// As [`backoff`](Self::backoff), with a seed of its own for each item of a run.
    pub(crate) fn backoff_for(&self, item: u64) -> Backoff {
        match self.seed {
            // Fibonacci hashing: neighbouring items get unrelated random numbers.
            Some(seed) => self
                .seed(seed ^ item.wrapping_mul(0x9E37_79B9_7F4A_7C15))
                .backoff(),
            None => self.backoff(),
        }
    }

    pub(crate) fn checked(self) -> Result<Self> {
        let (why, setting): (_, &[_]) = if self.stop_alike[0] == Some(0) {
            let why = "0 would stop a run before anything has failed: give at least 1";
            (why, &["stop_alike"])
        } else if self.max_attempts == 0 {
            let why = "0 attempts would send nothing: the first one counts, so give at least 1";
            (why, &["max_attempts"])
        } else {
            return Ok(self);
        };
        Err(config(why).with_settings(setting))
    }

    /// Whether a wait that the server asks for is short enough.
    pub(crate) fn obeys(&self, hint: Duration) -> bool {
        self.max_server_delay.is_none_or(|longest| hint <= longest)
    }
}

/// The waits between the attempts of one item; from [`Retry::backoff`].
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: Retry,
    jitter: fastrand::Rng,
    step: u32,
}

impl Backoff {
    /// The next wait, however many there were.
    pub(super) fn wait(&mut self, throttled: bool) -> Duration {
        let doubled = self.step + u32::from(throttled);
        self.step += 1;
        let bound = (self.policy.initial_backoff)
            .saturating_mul(2_u32.saturating_pow(doubled))
            .min(self.policy.max_backoff);
        self.up_to(bound)
    }

    /// The wait that the server asked for and a little more, so that those who were told the same
    /// do not all come back in one instant.
    pub(super) fn after_hint(&mut self, hint: Duration) -> Duration {
        let more = (hint / 10).min(Duration::from_secs(5));
        hint.saturating_add(self.up_to(more))
    }

    fn up_to(&mut self, bound: Duration) -> Duration {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.jitter.u64(..=nanos))
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        (self.step + 1 < self.policy.max_attempts).then(|| self.wait(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_seed_gives_the_same_waits_and_items_differ() {
        let policy = Retry::new().seed(1);
        let waits = |item| policy.backoff_for(item).collect::<Vec<_>>();
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn the_mean_is_half_the_bound() {
        // Full jitter, not a constant and not "equal jitter", whose mean is three quarters.
        let sum: Duration = (0..10_000)
            .map(|seed| Retry::new().seed(seed).backoff().wait(true))
            .sum();
        let mean = sum / 10_000;
        assert!(
            mean > Duration::from_millis(480) && mean < Duration::from_millis(520),
            "{mean:?}"
        );
    }

    #[test]
    fn jitter_only_adds_to_a_hint() {
        for seed in 0..1_000 {
            let mut backoff = Retry::new().seed(seed).backoff();
            let wait = backoff.after_hint(Duration::from_secs(2));
            assert!(wait >= Duration::from_secs(2) && wait <= Duration::from_millis(2_200));
            let wait = backoff.after_hint(Duration::from_secs(600));
            assert!(wait <= Duration::from_secs(605));
            assert_eq!(backoff.after_hint(Duration::MAX), Duration::MAX);
        }
    }

    proptest! {
        #[test]
        fn no_wait_is_above_its_bound(
            seed: u64, base in 0..10_000_u64, cap in 0..100_000_u64, attempts in 1..40_u32,
        ) {
            let (base, cap) = (Duration::from_millis(base), Duration::from_millis(cap));
            let policy = Retry::new().seed(seed).initial_backoff(base).max_backoff(cap).max_attempts(attempts);
            let waits: Vec<_> = policy.backoff().collect();
            prop_assert_eq!(waits.len(), attempts as usize - 1);
            for (step, wait) in (0..).zip(&waits) {
                let bound = base.saturating_mul(2_u32.saturating_pow(step)).min(cap);
                prop_assert!(*wait <= bound);
            }
        }
    }
}
