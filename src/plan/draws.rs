//! The requests of a planned run, and how each attempt ends, drawn at random.
//!
//! Each random number follows from the seed, the request and the attempt alone. So two runs that
//! differ in a limit meet the same requests, answers and failures.

use std::time::Duration;

use super::{Planned, Scenario, Sizes};
use crate::api::Size;
use crate::limit::{Concurrency, Rate};
use crate::retry::Verdict;

/// Nanoseconds, of a duration or since the start of the run.
pub(super) type Nanos = u64;

/// The tokens of an attempt's answer, or what to do about its failure.
pub(super) type End = Result<u64, Verdict>;

/// One run of a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    /// How many of the requests it has, spread evenly over all.
    pub(super) requests: u64,
    /// Of each process.
    pub(super) concurrency: Concurrency,
    /// It is one of so many equal parts of the run, each with its part of the limits.
    pub(super) parts: u32,
    pub(super) seed: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Draws<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) variant: Variant,
}

impl Draws<'_> {
    pub(super) fn request(&self, index: u64) -> Planned {
        match &self.scenario.requests.sizes {
            Sizes::Listed(sizes) => self.listed(sizes, index),
            Sizes::Drawn {
                prompt_tokens,
                max_output,
            } => {
                let prompt_tokens = whole(prompt_tokens.at(self.random(index, 0).f64()));
                Planned {
                    size: Size::of_tokens(prompt_tokens, *max_output),
                    prompt_tokens,
                    writes: true,
                }
            }
        }
    }

    fn listed(&self, sizes: &[Planned], index: u64) -> Planned {
        let (all, some) = (self.scenario.requests.count, self.variant.requests);
        let place = if some == all {
            index
        } else {
            // In the middle of its share of all.
            whole((index as f64 + 0.5) * all as f64 / some as f64 - 0.5)
        };
        let place = usize::try_from(place % sizes.len().max(1) as u64);
        let found = place.ok().and_then(|place| sizes.get(place));
        found.copied().unwrap_or(Planned {
            size: Size::of_tokens(0, None),
            prompt_tokens: 0,
            writes: true,
        })
    }

    /// How long an attempt takes, and how it ends. The first has number 1. What is larger than a
    /// whole period of a limit of the provider's own is refused at once, for good.
    pub(super) fn attempt(&self, request: &Planned, index: u64, attempt: u32) -> (Nanos, End) {
        let scenario = self.scenario;
        let mut random = self.random(index, attempt);
        let took = whole(scenario.latency.at(random.f64()) * 1e9);
        let fate = random.f64();
        if fate < scenario.failing {
            return (took, Err(Verdict::Retry));
        }
        if fate < scenario.failing + scenario.failing_for_good {
            return (took, Err(Verdict::Fail));
        }
        let [most_prompt, most_answer] = scenario.apart.map(|rate| rate.map(Rate::units));
        let is_beyond = |tokens: u64, most: Option<u64>| most.is_some_and(|most| tokens > most);
        if is_beyond(request.prompt_tokens, most_prompt) {
            return (0, Err(Verdict::Fail));
        }
        if !request.writes {
            return (took, Ok(0));
        }
        let most = request.size.max_output.unwrap_or(u64::MAX);
        let each = whole(scenario.output_tokens.at(random.f64()))
            .max(1)
            .min(most);
        let answer = each.saturating_mul(request.size.replies);
        if is_beyond(answer, most_answer) {
            return (0, Err(Verdict::Fail));
        }
        (took, Ok(answer))
    }

    /// The chance of an attempt; that of number 0 is the request's own.
    fn random(&self, index: u64, attempt: u32) -> fastrand::Rng {
        // Fibonacci hashing: neighbours get unrelated random numbers.
        let key = (index ^ u64::from(attempt) << 48).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        fastrand::Rng::with_seed(self.variant.seed.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ key)
    }
}

pub(super) fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// The nearest whole number. `round` would be a call.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates"
)]
fn whole(number: f64) -> u64 {
    (number + 0.5) as u64
}
