//! A plan as people and programs read it.

use std::time::Duration;

use serde_json::{Value, json};

use super::args::Money;
use super::format::{aligned, count, counted, rate, time};
use crate::jsonl::summary::rounded;
use crate::plan::{Capacity, Prediction, Range, Scenario, at_least};
use crate::{Binding, Usd};

/// What a run will take, and what that is taken from.
#[derive(Debug)]
pub(super) struct Forecast {
    pub(super) scenario: Scenario,
    pub(super) prediction: Prediction,
    /// Who sets the limit on model tokens, as far as there is one.
    pub(super) tokens_by: &'static str,
    /// What the answers are expected to be like.
    pub(super) from: String,
    /// What is not known, or left out.
    pub(super) caveats: Vec<String>,
}

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
        if let Some(capacity) = &plan.capacity {
            add_processes(&mut keys, capacity);
        }
        keys
    }

    pub(super) fn to_text(&self) -> String {
        let (plan, run) = (&self.prediction, &self.prediction.run);
        let mut facts = Vec::new();
        let mut fact = |label: &str, text: String| facts.push((label.to_owned(), text));
        fact("planned", counted(plan.requests, "request", "requests"));
        if plan.requests == 0 {
            return aligned(&facts);
        }
        let (prompts, answers) = (count(run.prompt_tokens), count(run.completion_tokens));
        fact(
            "tokens",
            format!("about {prompts} in prompts, {answers} in answers"),
        );
        fact("answers", self.answers());
        let is_cut_off = (self.scenario.deadline).is_some_and(|deadline| run.end >= deadline);
        // What a deadline cuts off is left.
        let failed = if is_cut_off {
            run.never_fit
        } else {
            run.failed
        };
        if failed > 0 {
            fact("failed", counted(failed, "request fails", "requests fail"));
        }
        // Of a run that was scaled up each count is rounded by itself.
        let left = plan.requests.saturating_sub(run.succeeded + failed);
        if left > 0 {
            let why = if is_cut_off {
                "--deadline ends this one"
            } else {
                "so few attempts succeed that this one stops"
            };
            fact("left", format!("{} for another run: {why}", count(left)));
        }
        fact("time", told(plan.duration_s, |s| time(seconds(s))));
        if let Some(cost) = plan.cost_usd {
            let dollars =
                |usd: f64| Usd::try_from(usd).map_or_else(|_| format!("${usd}"), Usd::rounded);
            fact("cost", told(cost, dollars));
        }
        fact("bound by", self.bound());
        fact("in flight", self.in_flight());
        fact("at once", "time".to_owned());
        for (at, s) in self.table() {
            fact(&format!("{:>7}", count(at as u64)), time(seconds(s)));
        }
        if let Some(capacity) = &plan.capacity {
            self.tell_processes(capacity, &mut fact);
        }
        if let Some(scaled) = plan.scaled {
            let what = if plan.is_main_scaled {
                "all figures"
            } else {
                "the 5 and 95 % and the times at other concurrencies"
            };
            let scaled = count(scaled);
            fact(
                "scaled up",
                format!("{what}, from runs over {scaled} requests"),
            );
        }
        for caveat in &self.caveats {
            fact("beware", caveat.clone());
        }
        aligned(&facts)
    }

    /// Seconds at other concurrencies. These are of one run each, with the same chances; so they
    /// are brought to the middle of runs with other chances, as that of this concurrency is.
    fn table(&self) -> Vec<(usize, f64)> {
        let plan = &self.prediction;
        let at_once = self.scenario.concurrency.high();
        let this = plan.by_concurrency.iter().find(|(at, _)| *at == at_once);
        let this = this.filter(|(_, s)| *s > 0.0 && !self.scenario.concurrency.is_range());
        let share = this.map_or(1.0, |(_, s)| plan.duration_s.p50 / s);
        let rows = plan.by_concurrency.iter();
        rows.map(|(at, s)| (*at, s * share)).collect()
    }

    fn answers(&self) -> String {
        let each = time(seconds(self.scenario.latency.mean()));
        let run = &self.prediction.run;
        let failing = match run.attempts.saturating_sub(run.succeeded + run.cut_off) {
            0 => String::new(),
            failed => {
                let percent = 100.0 * failed as f64 / run.attempts as f64;
                format!(", {percent:.1} % of attempts fail")
            }
        };
        format!("{each} on average{failing}, by {}", self.from)
    }

    fn in_flight(&self) -> String {
        let plan = &self.prediction;
        let mean = rate(plan.in_flight_mean);
        let peak = count(plan.run.in_flight_peak as u64);
        let needed = plan.concurrency_needed.map_or_else(String::new, |needed| {
            let needed = count(at_least(needed));
            format!("; the rates can keep {needed} in flight (rate × latency)")
        });
        format!("{mean} on average, {peak} at most{needed}")
    }

    fn bound(&self) -> String {
        let (plan, run) = (&self.prediction, &self.prediction.run);
        let limit = self.scenario.token_rate.filter(|_| run.never_fit > 0);
        let never = limit.map(|limit| {
            let requests = counted(run.never_fit, "request never fits", "requests never fit");
            let (limit, largest) = (count(limit.units()), count(run.largest));
            let by = self.tokens_by;
            format!("{by} {limit}: {requests}, counted as up to {largest} tokens")
        });
        let shares = by_share(plan).into_iter().map(share);
        let all: Vec<String> = never.into_iter().chain(shares).collect();
        if all.is_empty() {
            return "nothing".to_owned();
        }
        all.join(", ")
    }

    fn tell_processes(&self, capacity: &Capacity, mut fact: impl FnMut(&str, String)) {
        let needed = capacity.needed.map_or_else(String::new, |needed| {
            let (needed, hosts) = (
                count(needed),
                counted(capacity.hosts, "host has", "hosts have"),
            );
            format!("; the rates need {needed}, and {hosts} ports enough")
        });
        let (all, each) = (count(capacity.processes), self.scenario.concurrency);
        fact("processes", format!("{all} with -c {each} each{needed}"));
        let leases = match capacity.leases {
            None => "none, as there is no --rps, --rpm or --tpm to share".to_owned(),
            Some(leases) => format!(
                "{:.0} ms of the rates, {} requests for each process: {} round trips a second, {:.2} \
                 a request; a process waits for the store at most {:.1} % of the time",
                1_000.0 * leases.length,
                rate(leases.requests),
                rate(leases.round_trips),
                leases.per_request,
                100.0 * leases.waiting,
            ),
        };
        fact("leases", leases);
        fact("limits at", "requests a second".to_owned());
        for ceiling in &capacity.ceilings {
            let at = format!("{:>7}", rate(ceiling.rate));
            fact(&at, ceiling.words.to_owned());
        }
    }
}

/// Adds the keys of `--processes`. They are documented in the guide, and stay.
fn add_processes(keys: &mut Value, capacity: &Capacity) {
    let leases = capacity.leases.map(|leases| {
        json!({
            "length_s": rounded(leases.length, 3),
            "requests": rounded(leases.requests, 3),
            "round_trips_per_s": rounded(leases.round_trips, 3),
            "round_trips_per_request": rounded(leases.per_request, 6),
            "waiting_share": rounded(leases.waiting, 6),
        })
    });
    let ceilings = capacity.ceilings.iter();
    let ceilings =
        ceilings.map(|it| json!({ "name": it.name, "requests_per_s": rounded(it.rate, 3) }));
    keys["processes"] = capacity.processes.into();
    keys["processes_needed"] = capacity.needed.into();
    keys["hosts_needed"] = capacity.hosts.into();
    keys["leases"] = leases.into();
    keys["ceilings"] = ceilings.collect();
}

/// What budgets leave undone.
pub(super) fn spent(money: &Money, plan: &Prediction) -> Vec<String> {
    let tokens = plan.run.prompt_tokens as f64 + plan.run.completion_tokens as f64;
    let cost = plan.cost_usd.map_or(0.0, |cost| cost.p50);
    let most_cost = money.max_cost.map(Usd::as_f64);
    let most_tokens = money.token_budget.map(|most| most as f64);
    let budgets = [
        ("--max-cost", most_cost, cost),
        ("--token-budget", most_tokens, tokens),
    ];
    let told = budgets.into_iter().filter_map(|(flag, most, all)| {
        let percent = 100.0 * most.filter(|most| *most < all)? / all;
        Some(format!(
            "{flag} stops the run when about {percent:.0} % of it is done"
        ))
    });
    told.collect()
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
        Binding::InputTokens => "the limit on input tokens",
        Binding::OutputTokens => "the limit on output tokens",
        Binding::InFlight => "the concurrency",
        Binding::Backoff => "backoff",
        Binding::Pause => "pauses",
        Binding::Warmup => "the warm-up",
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
    use crate::plan::{Dist, RunResult, scenario};
    use crate::{Rate, Times};

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
                scaled: None,
                is_main_scaled: false,
            },
            tokens_by: "--tpm",
            from: "the flags".to_owned(),
            caveats: Vec::new(),
            scenario: Scenario {
                latency: Dist::constant(0.45),
                concurrency: 20.into(),
                token_rate: Some(Rate::per_minute(80_000)),
                ..scenario(1_000)
            },
        }
    }

    #[test]
    fn counts_that_were_rounded_one_by_one_leave_less_than_nothing() {
        let mut plan = forecast(Binding::Tokens, &[]);
        let run = &mut plan.prediction.run;
        (run.succeeded, run.attempts) = (1_000, 999);
        let told = plan.to_text();
        assert!(!told.contains("left ") && !told.contains("attempts fail"));
    }

    #[test]
    fn the_tokens_of_the_largest_plan_can_be_added() {
        let mut plan = forecast(Binding::Tokens, &[]).prediction;
        (plan.run.prompt_tokens, plan.run.completion_tokens) = (u64::MAX / 2, u64::MAX);
        let money = Money {
            price: None,
            max_cost: None,
            token_budget: Some(u64::MAX),
        };
        let told = ["--token-budget stops the run when about 67 % of it is done"];
        assert_eq!(spent(&money, &plan), told);
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
";
        assert_eq!(plan.to_text(), expected);
        plan.prediction.scaled = Some(100_000);
        assert!(plan.to_text().contains("from runs over 100,000 requests"));
    }

    #[test]
    fn what_is_not_done_is_left_and_has_not_failed() {
        let mut plan = forecast(Binding::InFlight, &[(20, 60.0)]);
        plan.prediction.run.succeeded = 900;
        plan.prediction.run.failed = 20;
        let told = plan.to_text();
        let words = "failed     20 requests fail\nleft       80 for another run: so few attempts";
        assert!(told.contains(words), "{told}");
        plan.scenario.deadline = Some(Duration::from_secs(60));
        let told = plan.to_text();
        let words = "left       100 for another run: --deadline";
        assert!(told.contains(words) && !told.contains("fail\n"), "{told}");
        // What never fits has failed, whatever the deadline.
        (plan.prediction.run.never_fit, plan.prediction.run.largest) = (3, 90_000);
        let told = plan.to_text();
        for words in [
            "failed     3 requests fail\nleft       97 for",
            "bound by   --tpm 80,000: 3 requests never fit, counted as up to 90,000 tokens, the concurrency for 90 %",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
        plan.prediction.requests = 0;
        assert_eq!(plan.to_text(), "planned  0 requests\n");
    }
}
