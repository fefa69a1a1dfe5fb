//! What a run will take, before anything is sent: a whole run in virtual time.
//!
//! A [`Scenario`] says what the requests are, which limits are set, and how the provider is
//! expected to answer, in distributions ([`dist`]). [`engine`] does the run, on one thread and
//! without a clock. It uses the parts of a real run: the schedule, the limiter's state, the decider
//! of failures and the estimates of model tokens. [`draws`] draws how each attempt ends.
//! [`predict`] makes a [`Prediction`] of many such runs, and [`capacity`] says what several
//! processes need. [`like`] reads the results of an earlier run, and [`mod@sample`] keeps a sample
//! of bounded size.
//!
//! The machine is not modelled: a run that needs more processor or network than there is takes
//! longer. Hedged attempts are left out, too, and so are limits that only the provider knows.

mod capacity;
mod dist;
mod draws;
mod engine;
mod like;
mod predict;
mod sample;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use capacity::{Capacity, Processes, at_least, concurrency_for};
pub(crate) use dist::Dist;
#[cfg(test)]
pub(crate) use engine::RunResult;
pub(crate) use like::Earlier;
pub(crate) use predict::{Prediction, Range, concurrencies_around, predict};
pub(crate) use sample::Sample;
#[cfg(test)]
pub(crate) use tests::scenario;

use crate::api::{Counting, Price, Size};
use crate::error::Result;
use crate::limit::{Announced, Concurrency, Counted, Limiter, LimiterBuilder, LimiterState, Rate};
use crate::retry::Retry;

const APART: [Counted; 2] = [Counted::InputTokens, Counted::OutputTokens];

/// A run to be planned.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) requests: Requests,
    /// How long an answer takes, in seconds.
    pub(crate) latency: Dist,
    /// How long an answer is, in model tokens; the request's own limit counts as well.
    pub(crate) output_tokens: Dist,
    /// The share of attempts that fail and are tried again, and that of those that fail for good.
    pub(crate) failing: f64,
    pub(crate) failing_for_good: f64,
    pub(crate) request_rate: Option<Rate>,
    pub(crate) burst: Option<u64>,
    pub(crate) token_rate: Option<Rate>,
    /// Of the model tokens of prompts and of answers, as the provider limits these apart.
    pub(crate) apart: [Option<Rate>; 2],
    /// Of each process.
    pub(crate) concurrency: Concurrency,
    /// Those that share the limits; otherwise there is one, with limits of its own.
    pub(crate) processes: Option<Processes>,
    pub(crate) warmup: u64,
    pub(crate) retry: Retry,
    /// Of an attempt.
    pub(crate) timeout: Duration,
    /// Of the run.
    pub(crate) deadline: Option<Duration>,
    pub(crate) counting: Counting,
    pub(crate) price: Option<Price>,
    /// The same seed gives the same prediction.
    pub(crate) seed: u64,
}

impl Scenario {
    fn process_count(&self) -> usize {
        let count = self.processes.map_or(1, |processes| processes.count);
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// The limits of all processes together, or those of one of `parts` equal parts of the run.
    fn limits(&self, concurrency: Concurrency, parts: u32) -> LimiterBuilder {
        let part = |one: usize| {
            let all = one.saturating_mul(self.process_count());
            all.div_ceil(parts as usize)
        };
        let slower = |rate: Rate| Rate::new(rate.units(), rate.period() * parts);
        let at_once = part(concurrency.low())..=part(concurrency.high());
        let mut limits = Limiter::builder().concurrency(at_once);
        if let Some(rate) = self.request_rate {
            limits = limits.requests(slower(rate));
        }
        if let Some(burst) = self.burst {
            limits = limits.burst(burst.div_ceil(parts.into()));
        }
        if let Some(rate) = self.token_rate {
            limits = limits.tokens(slower(rate));
        }
        limits
    }

    /// The limits at the start.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for limits that cannot be.
    fn state(&self, concurrency: Concurrency, parts: u32) -> Result<LimiterState> {
        let mut limits = self.limits(concurrency, parts).state()?;
        // As the first answer of a provider announces them.
        for (counted, rate) in APART.into_iter().zip(self.apart) {
            let Some(rate) = rate else { continue };
            let announced = Announced {
                counted,
                scope: 0,
                limit: rate.units(),
                remaining: None,
                reset: None,
                window: Some(rate.period() * parts),
            };
            limits.announced(&announced, 0, 0);
        }
        if self.processes.is_some() && self.request_rate.is_some() {
            // A shared limit begins without a burst, as after a pause.
            limits.pause(1, 0);
        }
        Ok(limits)
    }
}

/// The requests of a run.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    pub(crate) count: u64,
    pub(crate) sizes: Sizes,
}

#[derive(Clone, Debug)]
pub(crate) enum Sizes {
    /// In their order. If there are fewer than requests they are repeated.
    Listed(Vec<Planned>),
    /// Prompts of so many tokens, and the limit that requests set to their answers.
    Drawn {
        prompt_tokens: Dist,
        max_output: Option<u64>,
    },
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// What its body says of its model tokens.
    pub(crate) size: Size,
    /// How many the provider counts for its prompt.
    pub(crate) prompt_tokens: u64,
    /// Whether a model writes text at its endpoint.
    pub(crate) writes: bool,
}
