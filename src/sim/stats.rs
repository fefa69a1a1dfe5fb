//! What the simulated provider saw.

use std::time::Duration;

use super::meter::{Judge, Meter};
use crate::Rate;

/// Counts of what a simulated provider saw and did, from its start to the moment of asking.
///
/// `requests` is the sum of `answered`, `limited`, `refused`, `errors`, `faults`, `unsent` and
/// those still in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimStats {
    /// HTTP requests that arrived, of any kind.
    pub requests: u64,
    /// Answered 2xx.
    pub answered: u64,
    /// Answered 429, above a limit; or 503 or 529, above the overload point or in an outage.
    pub limited: u64,
    /// Answered another 4xx: a wrong path, method or body, or not HTTP.
    pub refused: u64,
    /// Answered 5xx, as [`SimSpec::errors`](super::SimSpec::errors) asks.
    pub errors: u64,
    /// Connections broken, as [`SimSpec::faults`](super::SimSpec::faults) asks.
    pub faults: u64,
    /// Answers that could not be sent, because the client had gone.
    pub unsent: u64,
    /// Model tokens of prompts let in.
    pub prompt_tokens: u64,
    /// Model tokens written for them.
    pub completion_tokens: u64,
    /// Requests that have arrived and are not answered yet.
    pub in_flight: usize,
    /// The most at once.
    pub in_flight_peak: usize,
    /// How long it worked on requests, summed over them: the mean at once, times the time.
    pub busy: Duration,
    /// Connections accepted.
    pub connections: u64,
    /// The most open at once.
    pub connections_peak: usize,
    /// By how many requests the worst window of any length exceeded burst + rate·T, counting every
    /// arrival, those answered 429 as well. 0 without a limit: see [`SimStats::excess`].
    pub requests_over: u64,
    /// The same for model tokens, where one request dearer than the burst widens it to itself.
    pub tokens_over: u64,
    /// The same for the model tokens of prompts.
    pub input_tokens_over: u64,
    /// The same for the model tokens of answers.
    pub output_tokens_over: u64,
    /// When each request for a model arrived, after the server's start. Empty unless
    /// [`SimServerBuilder::record_arrivals`](super::SimServerBuilder::record_arrivals) is on.
    pub arrivals: Vec<Duration>,
    /// Of the [`arrivals`](SimStats::arrivals), those counted as [`limited`](SimStats::limited).
    pub refusals: Vec<Duration>,
}

impl SimStats {
    /// By how many the recorded [`arrivals`](SimStats::arrivals) exceed `burst` + `rate`·T in the
    /// worst window of any length T, rounded up.
    ///
    /// Exact, in one pass: what a leaky bucket that drains at `rate` holds above `burst`, at its
    /// fullest.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate::Rate;
    /// use tollgate::sim::SimStats;
    ///
    /// let mut stats = SimStats::default();
    /// stats.arrivals = [0, 0, 50, 100].map(Duration::from_millis).to_vec();
    /// assert_eq!(stats.excess(Rate::per_second(10), 2), 1); // 4 in 100 ms, where 2 + 1 may come
    /// ```
    pub fn excess(&self, rate: Rate, burst: u64) -> u64 {
        let mut meter = Meter::new(rate, burst);
        let over = |at: &Duration| {
            meter.charge(*at, 1);
            meter.above(*at, burst)
        };
        self.arrivals.iter().map(over).max().unwrap_or(0)
    }
}
