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
//! Above [`MOST_IN_MAIN`] requests the main line is scaled as well. If more than [`MOST_AT_ONCE`]
//! may be in flight, a run is one of several equal parts, each with its part of the limits.

use std::time::Duration;

use rayon::prelude::*;

use super::Scenario;
use super::capacity::{Capacity, Load, capacity};
use super::draws::Variant;
use super::engine::{RunResult, run};
use crate::api::Price;
use crate::binding::{Binding, Times};
use crate::error::Result;
use crate::limit::Concurrency;

/// Up to so many requests all runs are over all of them, and the main line up to so many.
const MOST_IN_FULL: u64 = 1_000_000;
pub(super) const MOST_IN_MAIN: u64 = 10_000_000;
/// A scaled run has so many requests, or ten times as many as may be in flight.
const SCALED: u64 = 100_000;
const MOST_AT_ONCE: usize = 100_000;
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
    /// The main line.
    pub(crate) run: RunResult,
    pub(crate) in_flight_mean: f64,
    /// How many are in flight if only the rates hold the run back; `None` if there are none.
    pub(crate) concurrency_needed: Option<f64>,
    /// What several processes need, if they are planned.
    pub(crate) capacity: Option<Capacity>,
    /// How many requests the other runs have, if not all.
    pub(crate) scaled: Option<u64>,
    /// Whether the main line is scaled as well.
    pub(crate) is_main_scaled: bool,
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
        let tokens = (self.run.never_fit > 0).then_some(Binding::Tokens);
        self.run.bound.binding().or(tokens)
    }

    /// For which share of the time each limit holds the run back.
    pub(crate) fn shares(&self) -> Vec<(Binding, f64)> {
        let wall = self.run.end.as_secs_f64().max(f64::MIN_POSITIVE);
        let share = |(binding, time): (_, Duration)| (binding, time.as_secs_f64() / wall);
        self.run.bound.iter().map(share).collect()
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
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for limits that cannot be, and for a run of
/// centuries.
pub(crate) fn predict(scenario: &Scenario, concurrencies: &[usize]) -> Result<Prediction> {
    let all = scenario.requests.count;
    let main = variant(scenario, scenario.concurrency, true);
    let part = variant(scenario, scenario.concurrency, false);
    let scaled = (part.requests < all).then_some(part.requests);
    let seeds = (SEEDED_REQUESTS / part.requests.max(1)).clamp(SEEDS[0], SEEDS[1]);
    let seeded = (0..seeds).map(|more| Variant {
        seed: scenario.seed.wrapping_add(more),
        ..part
    });
    let at_other = concurrencies.iter().map(|it| Concurrency::fixed(*it));
    let at_other: Vec<_> = at_other.map(|it| variant(scenario, it, false)).collect();
    let variants: Vec<Variant> = [main]
        .into_iter()
        .chain(seeded)
        .chain(at_other.iter().copied())
        .collect();
    // On all cores. Each is long, and the first by far the longest.
    let variants = variants.into_par_iter().with_max_len(1);
    let results: Result<Vec<RunResult>> = variants.map(|it| run(scenario, it)).collect();
    let results = results?;
    let (seeded, others) = results[1..].split_at(results.len() - 1 - at_other.len());
    let found = whole(&results[0], main, scenario);
    // Chances of parts that run beside each other are levelled out between them.
    let longer = (all as f64 / part.requests.max(1) as f64).sqrt();
    let range = |parts: u32, of: &dyn Fn(&RunResult) -> f64| {
        let seeded = Range::of(seeded.iter().map(of).collect());
        let middle = scaled.map_or(seeded.p50, |_| of(&found));
        let away = |value: f64| {
            let more = (value - seeded.p50) * longer / f64::from(parts);
            (middle + more).max(0.0)
        };
        Range {
            p5: away(seeded.p5),
            p50: middle,
            p95: away(seeded.p95),
        }
    };
    let cost = |run: &RunResult, price: Price| price.of(run.prompt_tokens, run.completion_tokens);
    let load = Load::of(&found);
    Ok(Prediction {
        requests: all,
        duration_s: range(part.parts, &|result| result.end.as_secs_f64()),
        cost_usd: (scenario.price).map(|price| range(1, &|run| cost(run, price).as_f64())),
        by_concurrency: (at_other.iter().zip(others))
            .map(|(variant, result)| (variant.concurrency.high(), end(result, *variant, scenario)))
            .collect(),
        run: found,
        in_flight_mean: (found.wire.as_secs_f64() / found.end.as_secs_f64().max(f64::MIN_POSITIVE))
            .min(found.in_flight_peak as f64),
        concurrency_needed: load.needed(scenario),
        capacity: (scenario.processes).map(|processes| capacity(scenario, processes, &load)),
        scaled,
        is_main_scaled: main.requests < all,
    })
}

/// The run that stands for all requests at this concurrency: over all of them, or over a part.
fn variant(scenario: &Scenario, concurrency: Concurrency, in_full: bool) -> Variant {
    let all = scenario.requests.count;
    let at_once = concurrency.high().saturating_mul(scenario.process_count());
    let parts = u32::try_from(at_once.div_ceil(MOST_AT_ONCE)).unwrap_or(u32::MAX);
    let most = if in_full {
        MOST_IN_MAIN
    } else if parts == 1 && all <= MOST_IN_FULL {
        all
    } else {
        SCALED.max(10 * at_once as u64 / u64::from(parts))
    };
    Variant {
        requests: all.div_ceil(parts.into()).min(most),
        concurrency,
        parts,
        seed: scenario.seed,
    }
}

/// When the run ends that this is a part of, in seconds.
fn end(result: &RunResult, variant: Variant, scenario: &Scenario) -> f64 {
    let in_part = scenario.requests.count.div_ceil(variant.parts.into());
    let deadline = scenario.deadline.unwrap_or(Duration::MAX);
    lengthened(result, in_part).min(deadline.as_secs_f64().max(result.end.as_secs_f64()))
}

/// The run over all requests that this is a part of. What a deadline leaves undone is in
/// proportion.
pub(super) fn whole(result: &RunResult, variant: Variant, scenario: &Scenario) -> RunResult {
    let all = scenario.requests.count;
    if variant.requests == all {
        return *result;
    }
    let now = result.end.as_secs_f64();
    let end = end(result, variant, scenario);
    let to_the_end = lengthened(result, all.div_ceil(variant.parts.into()));
    let done = if end < to_the_end {
        end / to_the_end
    } else {
        1.0
    };
    let more = all as f64 / result.requests.max(1) as f64 * done;
    let longer = if now > 0.0 { end / now } else { 1.0 };
    let times = |count: u64| floor(count as f64 * more + 0.5) as u64;
    let seconds = |time: f64| Duration::try_from_secs_f64(time).unwrap_or(Duration::MAX);
    let mut bound = Times::default();
    for (binding, time) in result.bound.iter() {
        bound.add(binding, time.mul_f64(longer));
    }
    RunResult {
        requests: all,
        succeeded: times(result.succeeded),
        failed: times(result.failed),
        attempts: times(result.attempts),
        never_fit: times(result.never_fit),
        prompt_tokens: times(result.prompt_tokens),
        completion_tokens: times(result.completion_tokens),
        counted_tokens: times(result.counted_tokens),
        bound,
        wire: result.wire.mul_f64(more),
        in_flight_peak: result.in_flight_peak * variant.parts as usize,
        end: seconds(end),
        all_begun: seconds(end).saturating_sub(result.end.saturating_sub(result.all_begun)),
        ..*result
    }
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

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a list"
)]
fn floor(place: f64) -> usize {
    place as usize
}
