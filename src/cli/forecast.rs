//! A plan as people and programs read it.

use std::time::Duration;

use serde_json::{Value, json};

use super::args::Money;
use super::capacity;
use super::format::{aligned, count, counted, per_period, rate, rounded, time};
use crate::plan::{Prediction, Range, at_least, concurrency_for};
use crate::{Binding, Concurrency, Rate, Usd};

/// What a run will take, and what that is taken from.
#[derive(Debug)]
pub(super) struct Forecast {
    pub(super) prediction: Prediction,
    /// What the answers are expected to be like.
    pub(super) from: String,
    /// What is not known, or left out.
    pub(super) caveats: Vec<String>,
    /// Of an attempt, in seconds.
    pub(super) latency: f64,
    /// Of the run.
    pub(super) deadline: Option<Duration>,
    pub(super) concurrency: Concurrency,
    /// Of requests and of model tokens.
    pub(super) rates: [Option<Rate>; 2],
}

/// Less than this is no gain.
const GAIN: f64 = 0.95;

impl Forecast {
    /// The keys are documented in the guide, and stay.
    pub(super) fn to_json(&self) -> Value {
        let plan = &self.prediction;
        let range = |range: Range, digits: i32| {
            let [p5, p50, p95] = [range.p5, range.p50, range.p95].map(|it| rounded(it, digits));
            json!({ "p5": p5, "p50": p50, "p95": p95 })
        };
        let limits: Vec<Value> = by_share(plan)
            .into_iter()
            .map(|(name, share)| json!({ "name": name.as_str(), "share": rounded(share, 4) }))
            .collect();
        let by_concurrency: Vec<Value> = (self.table().into_iter())
            .map(|(at, s)| json!({ "concurrency": at, "duration_s": rounded(s, 3) }))
            .collect();
        let mut keys = json!({
            "requests": plan.requests,
            "duration_s": range(plan.duration_s, 3),
            "cost_usd": plan.cost_usd.map(|cost| range(cost, 6)),
            "prompt_tokens": plan.run.prompt_tokens,
            "completion_tokens": plan.run.completion_tokens,
            "binding": plan.binding().map(Binding::as_str),
            "limits": limits,
            "concurrency_needed": plan.concurrency_needed.map(at_least),
            "by_concurrency": by_concurrency,
        });
        if let (Some(keys), Some(capacity)) = (keys.as_object_mut(), &plan.capacity) {
            keys.extend(capacity::to_json(capacity));
        }
        keys
    }

    pub(super) fn to_text(&self) -> String {
        let plan = &self.prediction;
        let (prompts, answers) = (
            count(plan.run.prompt_tokens),
            count(plan.run.completion_tokens),
        );
        let requests = counted(plan.requests, "request", "requests");
        if plan.requests == 0 {
            return aligned(&[("planned", requests)]);
        }
        let rows: Vec<(String, String)> = (self.table().into_iter())
            .map(|(at, s)| (format!("{:>7}", count(at as u64)), time(seconds(s))))
            .collect();
        let mut facts = vec![
            ("planned", requests),
            (
                "tokens",
                format!("about {prompts} in prompts, {answers} in answers"),
            ),
            ("answers", self.answers()),
        ];
        let (failed, left) = self.not_done();
        if failed > 0 {
            let failed = counted(failed, "request fails", "requests fail");
            facts.push(("failed", failed));
        }
        if left > 0 {
            facts.push(("left", format!("{} for another run", count(left))));
        }
        facts.push(("time", told(plan.duration_s, |s| time(seconds(s)))));
        let dollars =
            |usd: f64| Usd::try_from(usd).map_or_else(|_| format!("${usd}"), Usd::rounded);
        facts.extend(plan.cost_usd.map(|cost| ("cost", told(cost, dollars))));
        facts.push(("bound by", self.bound()));
        facts.push(("in flight", self.in_flight()));
        facts.push(("at once", "time".to_owned()));
        facts.extend(rows.iter().map(|(at, time)| (at.as_str(), time.clone())));
        let capacity = plan.capacity.as_ref();
        let capacity = capacity.map(|capacity| capacity::to_facts(capacity, self.concurrency));
        let capacity = capacity.unwrap_or_default();
        facts.extend((capacity.iter()).map(|(label, fact)| (label.as_str(), fact.clone())));
        if let Some(scaled) = plan.scaled {
            let main = plan.main.map_or_else(
                || "of a run over all requests".to_owned(),
                |main| format!("scaled up, from a run over {} requests", count(main)),
            );
            let fact = format!(
                "time and cost are {main}; their 5 and 95 % and the times at other concurrencies are \
                 scaled up, from runs over {} requests",
                count(scaled)
            );
            facts.push(("scaled", fact));
        }
        facts.extend(self.caveats.iter().map(|caveat| ("beware", caveat.clone())));
        facts.push(("advice", self.advice()));
        aligned(&facts)
    }

    /// Seconds at other concurrencies. These are of one run each, with the same chances; so they
    /// are brought to the middle of runs with other chances, as that of this concurrency is.
    fn table(&self) -> Vec<(usize, f64)> {
        let plan = &self.prediction;
        let at_once = self.concurrency.high();
        let this = plan.by_concurrency.iter().find(|(at, _)| *at == at_once);
        let this = this.filter(|(_, s)| *s > 0.0 && !self.concurrency.is_range());
        let share = this.map_or(1.0, |(_, s)| plan.duration_s.p50 / s);
        let rows = plan.by_concurrency.iter();
        rows.map(|(at, s)| (*at, s * share)).collect()
    }

    fn answers(&self) -> String {
        let each = time(seconds(self.latency));
        let plan = &self.prediction;
        let failing = match plan.run.attempts - plan.run.succeeded - plan.run.cut_off {
            0 => String::new(),
            failed => {
                let percent = 100.0 * failed as f64 / plan.run.attempts as f64;
                format!(", {percent:.1} % of attempts fail")
            }
        };
        format!("{each} on average{failing}, by {}", self.from)
    }

    fn in_flight(&self) -> String {
        let plan = &self.prediction;
        let mean = rate(plan.in_flight_mean);
        let peak = count(plan.run.in_flight_peak as u64);
        let needed = plan.concurrency_needed.map(|needed| {
            format!(
                "; the rates can keep {} in flight (rate × latency)",
                count(at_least(needed))
            )
        });
        format!(
            "{mean} on average, {peak} at most{}",
            needed.unwrap_or_default()
        )
    }

    /// Requests that fail, and those that are left. What a deadline cuts off is left, too.
    fn not_done(&self) -> (u64, u64) {
        let plan = &self.prediction;
        let failed = if self.is_cut_off() {
            plan.run.never_fit
        } else {
            plan.run.failed
        };
        (failed, plan.requests - plan.run.succeeded - failed)
    }

    fn is_cut_off(&self) -> bool {
        let wall = self.prediction.run.end;
        self.deadline.is_some_and(|deadline| wall >= deadline)
    }

    /// What to change, in a sentence.
    fn advice(&self) -> String {
        let plan = &self.prediction;
        if plan.run.never_fit > 0 {
            let largest = count(plan.run.largest);
            let raise = self.too_low().map(|rate| {
                let now = count(rate.units());
                format!("raise --tpm from {now} to {largest} at least, or ")
            });
            return format!(
                "{}make the requests smaller: they count as up to {largest} tokens",
                raise.unwrap_or_default()
            );
        }
        if self.not_done().1 > 0 {
            let why = if self.is_cut_off() {
                "--deadline ends the run before all is done"
            } else {
                "so few attempts succeed that the run stops: --timeout may be too short"
            };
            return why.to_owned();
        }
        let at_once = self.concurrency.high();
        let now = plan.duration_s.p50;
        let faster = self.faster();
        let processes = plan
            .capacity
            .as_ref()
            .map_or(1, |capacity| capacity.processes);
        let enough = plan
            .concurrency_needed
            .map(|needed| concurrency_for(needed / processes as f64));
        let enough = enough.filter(|enough| *enough < at_once as u64);
        match (plan.binding(), faster) {
            (_, Some((more, then))) => {
                let (now, then) = (time(seconds(now)), time(seconds(then)));
                format!("-c {more} takes {then} instead of {now}, if the server can do it")
            }
            (Some(binding @ (Binding::Requests | Binding::Tokens)), None) => {
                let (flag, limit) = match binding {
                    Binding::Tokens => ("--tpm", self.rates[1].map(|it| per_period(it, " tokens"))),
                    _ => ("--rps or --rpm", self.rates[0].map(|it| per_period(it, ""))),
                };
                let limit = limit.unwrap_or_default();
                let enough = enough.map(|enough| format!(", and -c {} is enough", count(enough)));
                format!(
                    "only a higher {flag} than {limit} makes it faster{}",
                    enough.unwrap_or_default()
                )
            }
            (Some(Binding::Backoff | Binding::Pause | Binding::Outage), None) => {
                "failures and the waits after them take most of the time".to_owned()
            }
            (Some(Binding::InFlight), None) if plan.concurrency_needed.is_some() => {
                "the concurrency and the rates bind together: raise both to make it faster"
                    .to_owned()
            }
            (Some(Binding::InFlight), None) => "a higher -c is hardly faster".to_owned(),
            _ => "no limit holds it back: it takes as long as its slowest answers".to_owned(),
        }
    }

    fn bound(&self) -> String {
        let plan = &self.prediction;
        let never = (plan.run.never_fit > 0).then(|| {
            let requests = counted(
                plan.run.never_fit,
                "request never fits",
                "requests never fit",
            );
            let limit = self.too_low().map_or_else(
                || "the provider's limit on model tokens".to_owned(),
                |rate| format!("--tpm {}", count(rate.units())),
            );
            format!("{limit}: {requests}")
        });
        let shares = by_share(plan).into_iter().map(share);
        let all: Vec<String> = never.into_iter().chain(shares).collect();
        if all.is_empty() {
            return "nothing".to_owned();
        }
        all.join(", ")
    }

    /// `--tpm`, if it is that which does not let the largest request in, and not the provider.
    fn too_low(&self) -> Option<Rate> {
        let largest = self.prediction.run.largest;
        self.rates[1].filter(|rate| rate.units() < largest)
    }

    /// The lowest concurrency of the table that is nearly as fast as any, if it is faster than
    /// this.
    fn faster(&self) -> Option<(usize, f64)> {
        let plan = &self.prediction;
        let table = self.table();
        let best = table.iter().map(|(_, s)| *s).min_by(f64::total_cmp)?;
        let (more, then) = table.into_iter().find(|(_, s)| *s * GAIN <= best)?;
        let is_faster = more > self.concurrency.high() && then < plan.duration_s.p50 * GAIN;
        is_faster.then_some((more, then))
    }
}

/// What a budget leaves undone.
pub(super) fn spent(money: &Money, plan: &Prediction) -> Option<String> {
    let cost = plan.cost_usd.map_or(0.0, |cost| cost.p50);
    let tokens = plan.run.prompt_tokens as f64 + plan.run.completion_tokens as f64;
    let budgets = [
        (
            "--max-cost",
            money.max_cost.map(|most| most.as_f64() / cost),
        ),
        (
            "--token-budget",
            money.token_budget.map(|most| most as f64 / tokens),
        ),
    ];
    let shares = budgets
        .into_iter()
        .filter_map(|(flag, share)| Some((share?, flag)));
    let (share, flag) = shares.min_by(|one, other| one.0.total_cmp(&other.0))?;
    let percent = 100.0 * share;
    (share < 1.0).then(|| format!("{flag} stops the run when about {percent:.0} % of it is done"))
}

/// A middle, and what is less likely.
fn told(range: Range, show: impl Fn(f64) -> String) -> String {
    let [p5, p50, p95] = [range.p5, range.p50, range.p95].map(show);
    if p5 == p50 && p50 == p95 {
        return p50;
    }
    format!("{p50}; 5 % of runs stay below {p5}, 95 % below {p95}")
}

fn share((binding, share): (Binding, f64)) -> String {
    let what = match binding {
        Binding::Requests => "the limit on requests",
        Binding::Tokens => "the limit on model tokens",
        Binding::InFlight => "the concurrency",
        Binding::Backoff => "backoff",
        Binding::Pause => "pauses",
        Binding::Wire => "the last answers",
        other => other.as_str(),
    };
    format!("{what} for {:.0} % of the time", 100.0 * share)
}

/// Those that bind for more than half a percent of the time, the one that binds longest first.
fn by_share(plan: &Prediction) -> Vec<(Binding, f64)> {
    let mut shares = plan.shares();
    shares.retain(|(_, share)| *share >= 0.005);
    shares.sort_by(|one, other| other.1.total_cmp(&one.1));
    shares
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Times;
    use crate::plan::RunResult;

    /// A run of a minute that one limit holds back most of the time.
    fn forecast(binding: Binding, by_concurrency: &[(usize, f64)]) -> Forecast {
        let mut bound = Times::default();
        bound.add(binding, Duration::from_secs(54));
        bound.add(Binding::Wire, Duration::from_secs(6));
        let minute = Range {
            p5: 58.0,
            p50: 60.0,
            p95: 63.0,
        };
        Forecast {
            prediction: Prediction {
                requests: 1_000,
                duration_s: minute,
                cost_usd: Some(Range {
                    p5: 0.3,
                    p50: 0.3,
                    p95: 0.3,
                }),
                by_concurrency: by_concurrency.to_vec(),
                run: RunResult {
                    succeeded: 999,
                    failed: 1,
                    attempts: 1_010,
                    prompt_tokens: 12_345,
                    completion_tokens: 67_890,
                    bound,
                    end: Duration::from_secs(60),
                    in_flight_peak: 20,
                    ..RunResult::default()
                },
                in_flight_mean: 7.5,
                concurrency_needed: Some(7.2),
                capacity: None,
                seeds: 11,
                scaled: None,
                main: None,
            },
            from: "the flags".to_owned(),
            caveats: Vec::new(),
            latency: 0.45,
            deadline: None,
            concurrency: 20.into(),
            rates: [None, Some(Rate::per_minute(80_000))],
        }
    }

    #[test]
    fn a_plan_is_told_in_aligned_lines() {
        let mut plan = forecast(Binding::Tokens, &[(10, 90.0), (20, 60.0)]);
        plan.caveats.push("something is not known".to_owned());
        let expected = "\
planned    1,000 requests
tokens     about 12,345 in prompts, 67,890 in answers
answers    0.45 s on average, 1.1 % of attempts fail, by the flags
failed     1 request fails
time       1 min 00 s; 5 % of runs stay below 58.0 s, 95 % below 1 min 03 s
cost       $0.3000
bound by   the limit on model tokens for 90 % of the time, the last answers for 10 % of the time
in flight  7.5 on average, 20 at most; the rates can keep 8 in flight (rate × latency)
at once    time
     10    1 min 30 s
     20    1 min 00 s
beware     something is not known
advice     only a higher --tpm than 80,000 tokens/min makes it faster, and -c 13 is enough
";
        assert_eq!(plan.to_text(), expected);
        plan.prediction.scaled = Some(100_000);
        assert!(plan.to_text().contains("from runs over 100,000 requests"));
    }

    #[test]
    fn the_advice_is_what_would_help() {
        let at = |binding, at: &[_]| forecast(binding, at).advice();
        let more = at(
            Binding::InFlight,
            &[(20, 60.0), (50, 25.0), (100, 24.5), (200, 24.4)],
        );
        assert_eq!(
            more,
            "-c 50 takes 25.0 s instead of 1 min 00 s, if the server can do it"
        );
        let level = [(20, 60.0), (50, 59.0)];
        let both = at(Binding::InFlight, &level);
        assert!(both.starts_with("the concurrency and the rates"), "{both}");
        let mut alone = forecast(Binding::InFlight, &level);
        alone.prediction.concurrency_needed = None;
        assert_eq!(alone.advice(), "a higher -c is hardly faster");
        let none = at(Binding::Wire, &[(10, 60.0), (20, 60.0), (50, 59.0)]);
        assert!(none.starts_with("no limit"), "{none}");
        let failures = at(Binding::Backoff, &[(20, 60.0)]);
        assert!(failures.starts_with("failures"), "{failures}");
    }

    #[test]
    fn what_is_not_done_is_left_and_has_not_failed() {
        let mut plan = forecast(Binding::InFlight, &[(20, 60.0)]);
        plan.prediction.run.succeeded = 900;
        plan.prediction.run.failed = 20;
        assert!(plan.advice().contains("the run stops"));
        let told = plan.to_text();
        assert!(told.contains("failed     20 requests fail\nleft       80 for another run"));
        plan.deadline = Some(Duration::from_secs(60));
        assert!(plan.advice().contains("--deadline ends the run"));
        let told = plan.to_text();
        assert!(
            told.contains("left       100 for") && !told.contains("fail\n"),
            "{told}"
        );
        // What never fits has failed, whatever the deadline.
        (plan.prediction.run.never_fit, plan.prediction.run.largest) = (3, 90_000);
        let told = plan.to_text();
        for words in [
            "failed     3 requests fail\nleft       97 for",
            "bound by   --tpm 80,000: 3 requests never fit, the concurrency for 90 %",
            "raise --tpm from 80,000 to 90,000 at least, or make",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
        // The limit that is lower than this --tpm is the provider's.
        plan.rates[1] = Some(Rate::per_minute(90_000));
        let told = plan.to_text();
        assert!(
            told.contains("the provider's limit on model tokens: 3"),
            "{told}"
        );
        assert!(
            told.contains("advice     make the requests smaller"),
            "{told}"
        );
        plan.prediction.requests = 0;
        assert_eq!(plan.to_text(), "planned  0 requests\n");
    }
}
