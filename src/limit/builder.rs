//! The settings of a limiter.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::concurrency::Concurrency;
use super::limiter::Limiter;
use super::rate::{REQUESTS, Rate, TOKENS, checked_limit};
use super::sharing::Sharing;
use super::state::LimiterState;
use crate::clock::Clock;
use crate::error::Result;
use crate::shared::Shared;

/// Settings of a [`Limiter`]; see [`Limiter::builder`].
#[derive(Clone, Debug, Default)]
pub struct LimiterBuilder {
    requests: Option<Rate>,
    burst: Option<u64>,
    tokens: Option<Rate>,
    token_burst: Option<u64>,
    concurrency: Option<Concurrency>,
    clock: Clock,
    shared: Option<Shared>,
}

impl Limiter {
    /// Starts with a limiter that limits nothing. Each setting adds a limit.
    pub fn builder() -> LimiterBuilder {
        LimiterBuilder::default()
    }
}

impl LimiterBuilder {
    /// The rate of requests. Default: no limit.
    pub fn requests(mut self, rate: Rate) -> Self {
        self.requests = Some(rate);
        self
    }

    /// How many requests may start at once after an idle time. Default: one second's worth of the
    /// rate, at least 1, because providers judge windows of one to ten seconds and not whole
    /// minutes.
    pub fn burst(mut self, requests: u64) -> Self {
        self.burst = Some(requests);
        self
    }

    /// The rate of model tokens. Default: no limit.
    pub fn tokens(mut self, rate: Rate) -> Self {
        self.tokens = Some(rate);
        self
    }

    /// How many model tokens may be taken at once after an idle time. Default: one second's worth
    /// of the rate, at least 1.
    pub fn token_burst(mut self, tokens: u64) -> Self {
        self.token_burst = Some(tokens);
        self
    }

    /// How many requests may be in flight at once: a number, or a range such as `4..=200` in which
    /// the limiter finds the number. Default: no limit.
    pub fn concurrency(mut self, permits: impl Into<Concurrency>) -> Self {
        self.concurrency = Some(permits.into());
        self
    }

    /// The clock that the rates and waits go by. Default: the machine's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Shares the rates with other processes. The rates and bursts are then those of all these
    /// processes together. Where they differ, the lowest holds, and a process with a higher one
    /// warns in its log. What one process does not use goes to those that can use it. A pause of
    /// one process holds for all, and so does a limit that the provider announces to one. The
    /// concurrency stays the limiter's own. Default: the rates are not shared.
    ///
    /// A thread of the limiter leases small parts of the shared limit from the store, worth a tenth
    /// of a second or a few requests. The limiter begins with nothing, so the first request waits
    /// for the store. While the store cannot be reached, nothing is sent beyond what was leased
    /// before, unless there is a [fallback](Shared::fallback_share).
    /// [`shared_status`](Limiter::shared_status) says how it is. The guide has
    /// [more](crate::_guide::sharing_a_limit).
    ///
    /// ```
    /// use tollgate::{Cost, Limiter, Rate, Shared};
    ///
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("limit");
    /// let shared = Shared::open(&format!("file:{}", path.display()))?;
    /// let limiter = Limiter::builder()
    ///     .requests(Rate::per_minute(500))
    ///     .shared(shared)
    ///     .build()?;
    /// let _permit = limiter.acquire(Cost::ONE)?;
    /// # Ok::<(), tollgate::Error>(())
    /// ```
    pub fn shared(mut self, shared: Shared) -> Self {
        self.shared = Some(shared);
        self
    }

    /// Makes the limiter. Its buckets begin full; a shared limit begins empty, and its store is
    /// asked once whether it can be used. That may take a second or two if it cannot be reached,
    /// which is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a rate out of range, a burst of zero, a
    /// burst without its rate, or a concurrency of zero or an empty range; and for a shared
    /// limit whose store says that it cannot be used (a wrong password, a key of another type).
    /// [`Error::settings`](crate::Error::settings) names the setting.
    pub fn build(self) -> Result<Limiter> {
        let (clock, shared) = (self.clock.clone(), self.shared.clone());
        let limits = self.state()?;
        let Some(shared) = shared else {
            return Ok(Limiter::new(limits, clock));
        };
        Limiter::sharing(limits, clock, shared.connect()?, shared.to_string().into())
    }

    /// As [`build`](Self::build), without a clock, a lock or a queue.
    pub(crate) fn state(self) -> Result<LimiterState> {
        let shared = self.shared.as_ref();
        let sharing = shared.map(|it| Sharing::new(holder(), it.fallback().map(u64::from)));
        self.state_of(sharing)
    }

    /// With what is said to a store, if the rates are shared.
    pub(super) fn state_of(self, sharing: Option<Sharing>) -> Result<LimiterState> {
        let concurrency = self.concurrency.unwrap_or(Concurrency::UNLIMITED);
        let concurrency = concurrency.checked()?;
        let mut limits = LimiterState::new(concurrency);
        limits.set.shared = sharing.map(Box::new);
        limits.set_requests(checked_limit(self.requests, self.burst, &REQUESTS)?, 0);
        limits.set_tokens(checked_limit(self.tokens, self.token_burst, &TOKENS)?, 0);
        Ok(limits)
    }
}

/// A number that no other limiter has, in any process. It is below 2⁵³, as all that a store is
/// told.
pub(super) fn holder() -> u64 {
    // The keys of a hash map are random numbers of the system.
    (RandomState::new().build_hasher().finish() >> 11).max(1)
}
