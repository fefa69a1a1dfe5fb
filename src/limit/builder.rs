//! The settings of a limiter.

use super::concurrency::Concurrency;
use super::limiter::Limiter;
use super::rate::{Rate, checked_limit};
use super::state::LimiterState;
use crate::clock::Clock;
use crate::error::Result;

/// Settings of a [`Limiter`]; see [`Limiter::builder`].
#[derive(Clone, Debug, Default)]
pub struct LimiterBuilder {
    requests: Option<Rate>,
    burst: Option<u64>,
    tokens: Option<Rate>,
    token_burst: Option<u64>,
    concurrency: Option<Concurrency>,
    clock: Clock,
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

    /// Makes the limiter. Its buckets are full.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a rate out of range, a burst of zero, a
    /// burst without its rate, or a concurrency of zero or an empty range.
    pub fn build(self) -> Result<Limiter> {
        let clock = self.clock.clone();
        Ok(Limiter::new(self.state()?, clock))
    }

    /// As [`build`](Self::build), without a clock, a lock or a queue.
    pub(crate) fn state(self) -> Result<LimiterState> {
        let concurrency = self.concurrency.unwrap_or(Concurrency::UNLIMITED);
        let concurrency = concurrency.checked()?;
        let mut limits = LimiterState::new(concurrency);
        limits.set_requests(checked_limit(self.requests, self.burst, "request")?, 0);
        limits.set_tokens(checked_limit(self.tokens, self.token_burst, "token")?, 0);
        Ok(limits)
    }
}
