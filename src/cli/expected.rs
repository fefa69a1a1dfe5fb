//! What a plan expects of answers: what flags and an earlier run say, and what is assumed.

use std::path::PathBuf;

use super::args::Answers;
use super::format::{count, counted};
use crate::plan::{Dist, Earlier, Failing};
use crate::sim::{NATURAL, SimSpec};
use crate::{Error, Result, Verdict};

/// What is assumed if nothing is known: about what chat models take for a few paragraphs, in
/// seconds, its standard deviation ÷ mean, and model tokens. The help names them.
const LATENCY: f64 = 2.5;
const SPREAD: f64 = 0.8;
const OUTPUT_TOKENS: f64 = 500.0;

/// The results of an earlier run, and the path of their file.
pub(super) type EarlierFile = (PathBuf, Earlier);

/// The output that `--like` names.
pub(super) fn like(answers: &Answers) -> Result<Option<EarlierFile>> {
    let read = |path: &PathBuf| {
        let earlier = Earlier::read(path).map_err(|error| error.behind("--like"))?;
        Ok((path.clone(), earlier))
    };
    answers.like.as_ref().map(read).transpose()
}

/// What is expected of answers, and how sure that is.
pub(super) struct Expected {
    pub(super) latency: Dist,
    pub(super) output_tokens: Dist,
    pub(super) failures: Vec<Failing>,
    pub(super) simulated: Option<SimSpec>,
    /// What it is taken from.
    pub(super) from: String,
    /// What is not known.
    pub(super) caveats: Vec<String>,
}

impl Expected {
    pub(super) fn of(answers: &Answers, earlier: Option<&EarlierFile>) -> Self {
        let latency = answers.latency.clone();
        let latency = latency.or_else(|| earlier?.1.latency());
        let output_tokens = answers.output_tokens.clone();
        let output_tokens = output_tokens.or_else(|| earlier?.1.output_tokens());
        let mut caveats = Vec::new();
        let unknown = [
            (
                latency.is_none(),
                format!("take {LATENCY}s~{SPREAD}"),
                "--latency",
            ),
            (
                output_tokens.is_none(),
                format!("have {OUTPUT_TOKENS} tokens, or fewer where a request sets a lower limit"),
                "--output-tokens",
            ),
        ];
        let unknown = unknown.into_iter().filter(|(is_unknown, ..)| *is_unknown);
        let (assumed, flags): (Vec<_>, Vec<_>) =
            unknown.map(|(_, what, flag)| (what, flag)).unzip();
        if !assumed.is_empty() {
            let (assumed, flags) = (assumed.join(" and "), flags.join(" and "));
            caveats.push(match earlier {
                None => format!(
                    "answers are assumed to {assumed}: give {flags}, or --like with the results of a run \
                     over some of the requests"
                ),
                Some((path, _)) => format!(
                    "answers are assumed to {assumed}, as {path:?} does not say it: give {flags}"
                ),
            });
        }
        let failing = |share, verdict| Failing {
            share,
            verdict,
            at_once: false,
        };
        let (mut failures, mut from) = (Vec::new(), "the flags and defaults".to_owned());
        if let Some((path, earlier)) = earlier {
            from = format!(
                "{} in {path:?}",
                counted(earlier.records, "result", "results")
            );
            if (1..earlier.records).contains(&earlier.with_times) {
                let some = count(earlier.with_times);
                from = format!("{from}, of which {some} say how long they took");
            }
            let for_good = earlier.failed_for_good as f64 / earlier.attempts as f64;
            let usual = 1.0 - earlier.overloaded();
            failures = vec![
                failing(usual * earlier.failing(), Verdict::Retry),
                failing((1.0 - usual) * earlier.failing(), Verdict::Throttled),
                failing(for_good, Verdict::Fail),
            ];
            failures.retain(|failing| failing.share > 0.0);
        }
        Self {
            latency: latency.unwrap_or_else(|| Dist::log_normal(LATENCY, SPREAD)),
            output_tokens: output_tokens.unwrap_or_else(|| Dist::constant(OUTPUT_TOKENS)),
            failures,
            simulated: None,
            from,
            caveats,
        }
    }

    /// The answers of the simulated provider.
    pub(super) fn simulated(spec: &str) -> Result<Self> {
        let spec: SimSpec = spec
            .parse()
            .map_err(|error: Error| error.behind("--simulate"))?;
        let (latency, jitter) = spec.latency_and_jitter();
        Ok(Self {
            latency: Dist::log_normal(latency.as_secs_f64(), jitter),
            output_tokens: Dist::Even(f64::from(NATURAL.start) - 0.5, f64::from(NATURAL.end) - 0.5),
            // Its model says which attempts fail.
            failures: Vec::new(),
            simulated: Some(spec),
            from: "--simulate".to_owned(),
            caveats: Vec::new(),
        })
    }
}
