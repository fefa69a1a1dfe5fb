//! The settings of a limiter, and their checks.

use std::sync::Arc;

use super::limiter::Limiter;
use super::queue::Shared;
use super::rate::Rate;
use super::state::LimiterState;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// Settings of a [`Limiter`]; see [`Limiter::builder`].
#[derive(Clone, Debug, Default)]
pub struct LimiterBuilder {
    requests: Option<Rate>,
    burst: Option<u64>,
    tokens: Option<Rate>,
    token_burst: Option<u64>,
    concurrency: Option<usize>,
    clock: Clock,
}

impl LimiterBuilder {
    /// At most this many requests in a time. Default: no limit.
    pub fn requests(mut self, rate: Rate) -> Self {
        self.requests = Some(rate);
        self
    }

    /// How many requests may go at once after an idle spell. Default: one second's worth, at
    /// least 1, because providers judge windows of one to ten seconds, not whole minutes.
    pub fn burst(mut self, requests: u64) -> Self {
        self.burst = Some(requests);
        self
    }

    /// At most this many model tokens in a time. Default: no limit.
    pub fn tokens(mut self, rate: Rate) -> Self {
        self.tokens = Some(rate);
        self
    }

    /// How many model tokens may go at once after an idle spell. Default: one second's worth.
    pub fn token_burst(mut self, tokens: u64) -> Self {
        self.token_burst = Some(tokens);
        self
    }

    /// How many may be in flight at once. Default: no limit.
    pub fn concurrency(mut self, places: usize) -> Self {
        self.concurrency = Some(places);
        self
    }

    /// The clock to go by. Default: the machine's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the limiter; its buckets are full.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an unusable rate, a burst of zero, a burst without its rate, or a
    /// concurrency of zero.
    pub fn build(self) -> Result<Limiter> {
        let mut allowance =
            LimiterState::new(checked_concurrency(self.concurrency.unwrap_or(usize::MAX))?);
        allowance.set_requests(with_burst(self.requests, self.burst, "request")?, 0);
        allowance.set_tokens(with_burst(self.tokens, self.token_burst, "token")?, 0);
        Ok(Limiter(Arc::new(Shared::new(allowance, self.clock))))
    }
}

pub(super) fn with_burst(
    rate: Option<Rate>,
    burst: Option<u64>,
    what: &str,
) -> Result<Option<(Rate, u64)>> {
    match (rate, burst) {
        (_, Some(0)) => Err(Error::new(
            ErrorKind::Config,
            format!("a {what} burst of 0 would admit nothing: give at least 1"),
        )),
        (None, Some(_)) => Err(Error::new(
            ErrorKind::Config,
            format!("a {what} burst without a {what} rate limits nothing: give the rate too"),
        )),
        (None, None) => Ok(None),
        (Some(rate), burst) => {
            let rate = rate.checked(what)?;
            Ok(Some((rate, burst.unwrap_or(rate.second_worth()))))
        }
    }
}

pub(super) fn checked_concurrency(places: usize) -> Result<usize> {
    if places == 0 {
        return Err(Error::new(
            ErrorKind::Config,
            "a concurrency of 0 would admit nothing: give at least 1",
        ));
    }
    Ok(places)
}
