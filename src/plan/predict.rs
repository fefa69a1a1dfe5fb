//! A prediction: many runs in virtual time, and what they say together.
//!
//! The *main line* is one run over all requests. Runs over the same requests with other seeds tell
//! how much of its result is chance, and runs with other concurrencies what those would bring.
//! Above a million requests these others are scaled runs, over [`SCALED`] of the requests, spread
//! evenly over all of them:
//!
//! - What chance adds up to grows with the square root of the number of requests. So the distances
//!   from the middle grow by it.
//! - After the first half of a scaled run, which has the burst and what is learned, the requests
//!   begin at the pace of the whole. So the run is made longer at the pace of its second half.
//!
//! The concurrency that is needed is by Little's law: as many are in flight as begin in a second,
//! times the seconds that each takes. A run that has this many at once is held back by its rates
//! alone.

use std::time::Duration;

#[cfg(feature = "parallel")]
use rayon::prelude::*;

use super::Scenario;
use super::draws::Variant;
use super::engine::{RunResult, run};
use crate::binding::{Binding, Times};
use crate::error::Result;
use crate::limit::{Concurrency, Rate};

/// Up to so many requests all runs are over all of them.
const MOST_IN_FULL: u64 = 1_000_000;
const SCALED: u64 = 100_000;
/// Runs that differ in their seeds alone: as many as make so many requests, within these bounds.
const SEEDED_REQUESTS: u64 = 5_000_000;
const SEEDS: [u64; 2] = [11, 101];

/// How long a run will take, what it will cost and what holds it back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prediction {
    pub(crate) requests: u64,
    /// Seconds from the first request to the last answer.
    pub(crate) duration_s: Range,
    /// In US dollars, if there is a price.
    pub(crate) cost_usd: Option<Range>,
    /// Seconds at other concurrencies.
    pub(crate) by_concurrency: Vec<(usize, f64)>,
    /// This and what follows is of the main line.
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) attempts: u64,
    /// Attempts that the deadline of the run ends.
    pub(crate) cut_off: u64,
    /// Requests that no limit on model tokens ever lets in, and as how many tokens the largest of
    /// them counts.
    pub(crate) never_fit: u64,
    pub(crate) largest: u64,
    pub(crate) throttled: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    /// What holds the run back, and how long.
    pub(crate) bound: Times,
    pub(crate) wall: Duration,
    pub(crate) in_flight_mean: f64,
    pub(crate) in_flight_peak: usize,
    /// How many are in flight if only the rates hold the run back; `None` if there are none.
    pub(crate) concurrency_needed: Option<f64>,
    /// How many runs the ranges are of.
    pub(crate) seeds: u64,
    /// How many requests the other runs have, if not all.
    pub(crate) scaled: Option<u64>,
}

/// What 5, 50 and 95 % of runs stay below.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Range {
    pub(crate) p5: f64,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
}

impl Range {
    /// Between the values on both sides, in proportion.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (low, high) = (values[floor(place)], values[floor(place.ceil())]);
            low + (high - low) * place.fract()
        };
        Self {
            p5: at(0.05),
            p50: at(0.5),
            p95: at(0.95),
        }
    }
}

impl Prediction {
    /// The limit that binds. One that lets nothing in takes no time, and binds all the same.
    pub(crate) fn binding(&self) -> Option<Binding> {
        let tokens = (self.never_fit > 0).then_some(Binding::Tokens);
        self.bound.binding().or(tokens)
    }

    /// For which share of the time each limit holds the run back.
    pub(crate) fn shares(&self) -> Vec<(Binding, f64)> {
        let wall = self.wall.as_secs_f64().max(f64::MIN_POSITIVE);
        let share = |(binding, time): (_, Duration)| (binding, time.as_secs_f64() / wall);
        self.bound.iter().map(share).collect()
    }
}

/// Concurrencies to compare with this one: 1, 2, 5, 10, 20, .. from a tenth of it to ten times.
pub(crate) fn concurrencies_around(concurrency: usize) -> Vec<usize> {
    const MOST: usize = 10_000;
    let steps = [1, 2, 5].map(|step| (0..5).map(move |zeros| step * 10_usize.pow(zeros)));
    let near = concurrency / 10..=concurrency.saturating_mul(10).min(MOST);
    let steps = steps
        .into_iter()
        .flatten()
        .filter(|step| near.contains(step));
    let mut all: Vec<usize> = steps.chain([concurrency]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Runs it in virtual time, with this seed and with others, and at each of `concurrencies`.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for limits that cannot be.
pub(crate) fn predict(scenario: &Scenario, concurrencies: &[usize]) -> Result<Prediction> {
    let all = scenario.requests.count;
    let scaled = (all > MOST_IN_FULL).then_some(SCALED);
    let requests = scaled.unwrap_or(all);
    let seeds = (SEEDED_REQUESTS / requests.max(1)).clamp(SEEDS[0], SEEDS[1]);
    let main = Variant {
        requests: all,
        concurrency: scenario.concurrency,
        seed: scenario.seed,
    };
    let seeded = (0..seeds).map(|more| Variant {
        requests,
        seed: scenario.seed.wrapping_add(more),
        ..main
    });
    let others = concurrencies.iter().map(|&concurrency| Variant {
        requests,
        concurrency: Concurrency::fixed(concurrency),
        ..main
    });
    // The main line is the first of those with seeds, unless they are scaled.
    let seeded = seeded.skip(usize::from(scaled.is_none()));
    let variants: Vec<Variant> = [main].into_iter().chain(seeded).chain(others).collect();
    let mut result = each(variants, |variant| run(scenario, variant))?;
    let others = result.split_off(result.len() - concurrencies.len());
    let main = result[0];
    if scaled.is_some() {
        result.remove(0);
    }
    let longer = (all as f64 / requests.max(1) as f64).sqrt();
    let range = |of: &dyn Fn(&RunResult) -> f64| {
        let found = Range::of(result.iter().map(of).collect());
        let away = |value: f64| (of(&main) + (value - found.p50) * longer).max(0.0);
        match scaled {
            None => found,
            Some(_) => Range {
                p5: away(found.p5),
                p50: of(&main),
                p95: away(found.p95),
            },
        }
    };
    let cost = scenario.price.map(|price| {
        range(&|result| {
            let cost = price.of(result.prompt_tokens, result.completion_tokens);
            cost.as_f64()
        })
    });
    let at_other = concurrencies.iter().copied().zip(&others);
    Ok(Prediction {
        requests: all,
        duration_s: range(&|result| result.end.as_secs_f64()),
        cost_usd: cost,
        by_concurrency: at_other
            .map(|(at, result)| (at, lengthened(result, all)))
            .collect(),
        succeeded: main.succeeded,
        failed: main.failed,
        attempts: main.attempts,
        cut_off: main.cut_off,
        never_fit: main.never_fit,
        largest: main.largest,
        throttled: main.throttled,
        prompt_tokens: main.prompt_tokens,
        completion_tokens: main.completion_tokens,
        bound: main.bound,
        wall: main.end,
        in_flight_mean: main.wire.as_secs_f64() / main.end.as_secs_f64().max(f64::MIN_POSITIVE),
        in_flight_peak: main.in_flight_peak,
        concurrency_needed: needed(scenario, &main),
        seeds,
        scaled,
    })
}

/// How long a run over `all` requests takes, in seconds, by one over some of them.
pub(super) fn lengthened(result: &RunResult, all: u64) -> f64 {
    let second_half = result.requests / 2;
    let more = all.saturating_sub(result.requests) as f64 / second_half.max(1) as f64;
    let took = result
        .all_begun
        .saturating_sub(result.half_begun)
        .as_secs_f64();
    result.end.as_secs_f64() + more * took
}

/// The concurrency by Little's law: the attempts that the rates allow in a second, times the
/// seconds that each takes.
fn needed(scenario: &Scenario, result: &RunResult) -> Option<f64> {
    let attempts = result.attempts.max(1) as f64;
    let tokens = result.counted_tokens as f64 / attempts;
    let requests = scenario.request_rate.map(Rate::units_per_second);
    let tokens = scenario
        .token_rate
        .map(|rate| rate.units_per_second() / tokens.max(1.0));
    let rate = [requests, tokens]
        .into_iter()
        .flatten()
        .min_by(f64::total_cmp)?;
    Some(rate * result.wire.as_secs_f64() / attempts)
}

/// All of them, on all cores, in their order.
#[cfg(feature = "parallel")]
fn each(
    variants: Vec<Variant>,
    run: impl Fn(Variant) -> Result<RunResult> + Send + Sync,
) -> Result<Vec<RunResult>> {
    // Each is long, and the first by far the longest.
    variants.into_par_iter().with_max_len(1).map(run).collect()
}

#[cfg(not(feature = "parallel"))]
fn each(
    variants: Vec<Variant>,
    run: impl Fn(Variant) -> Result<RunResult>,
) -> Result<Vec<RunResult>> {
    variants.into_iter().map(run).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a list"
)]
fn floor(place: f64) -> usize {
    place as usize
}
