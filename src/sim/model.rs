//! What the simulated provider decides: whether a request is let in, what happens to it, and when.
//!
//! Pure: told the time, it keeps the accounts and reads no clock. A ruling is a small value; the
//! shell holds the lock around [`Model::rule`] only, and writes the answer without it.

use std::collections::HashMap;
use std::time::Duration;

use super::chance::{self, Digest, Draws};
use super::endpoints::Draft;
use super::meter::{Meter, default_burst};
use super::spec::SimSpec;
use super::stats::SimStats;
use crate::Rate;

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ruling {
    /// The request's number, from 1, in order of arrival.
    pub(super) number: u64,
    /// How long after its arrival it is answered.
    pub(super) delay: Duration,
    pub(super) fate: Fate,
    /// The state of the limits after it; `None` where there is no limit, or none applies.
    pub(super) requests: Option<Quota>,
    pub(super) tokens: Option<Quota>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// The draft is the answer.
    Answer,
    /// 429, fits after a wait.
    Limited {
        by: Limit,
        asked: u64,
        wait: Duration,
    },
    /// 429, asks for more tokens than a whole period allows.
    NeverFits { asked: u64 },
    /// 500, 502 or 503.
    Error(u16),
    /// The connection is reset before the answer.
    Reset,
    /// The connection is closed in the middle of the answer.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Requests,
    Tokens,
}

/// A limit as its headers tell it: a bucket one minute deep, whatever the burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quota {
    pub(super) a_minute: u64,
    pub(super) used: u64,
    pub(super) full_in: Duration,
}

#[derive(Debug)]
pub(super) struct Model {
    spec: SimSpec,
    requests: Option<Gauge>,
    tokens: Option<Gauge>,
    /// How often each content has been let in, by its digest; kept only when chance needs it.
    asked: HashMap<u64, u32>,
    record_arrivals: bool,
    last: Duration,
    stats: SimStats,
}

/// A limit: one meter that rules and one that observes.
#[derive(Debug)]
struct Gauge {
    a_minute: u64,
    a_period: u64,
    burst: u64,
    dearest: u64,
    ruling: Meter,
    observing: Meter,
}

impl Gauge {
    fn new(rate: Rate, burst: u64) -> Self {
        let nanos = rate.period().as_nanos().max(1);
        let a_minute = u128::from(rate.units()) * 60_000_000_000 / nanos;
        Self {
            a_minute: u64::try_from(a_minute).unwrap_or(u64::MAX).max(1),
            a_period: rate.units(),
            burst,
            dearest: 0,
            ruling: Meter::new(rate, burst),
            observing: Meter::new(rate, burst),
        }
    }

    /// Counts an arrival; by how much the worst window up to it is over the limit.
    fn observe(&mut self, at: Duration, cost: u64) -> u64 {
        self.dearest = self.dearest.max(cost);
        let allowed = self.burst.max(self.dearest);
        self.observing.observe(at, cost, allowed)
    }

    fn quota(&self, at: Duration) -> Quota {
        Quota {
            a_minute: self.a_minute,
            used: self.ruling.level(at),
            full_in: self.ruling.time_to_empty(at),
        }
    }
}

impl Model {
    /// A provider that has seen nothing yet; `spec` has been checked.
    pub(super) fn new(spec: SimSpec, record_arrivals: bool) -> Self {
        let burst = |rate| spec.burst.unwrap_or_else(|| default_burst(rate));
        Self {
            spec,
            requests: spec.requests.map(|rate| Gauge::new(rate, burst(rate))),
            tokens: spec
                .tokens
                .map(|rate| Gauge::new(rate, default_burst(rate))),
            asked: HashMap::new(),
            record_arrivals,
            last: Duration::ZERO,
            stats: SimStats::default(),
        }
    }

    /// Decides about the request that arrives at `at` (since the start) and asks for `draft`.
    ///
    /// Limits come first, and what they refuse is charged to neither of them. Chance comes next,
    /// then the draft's own refusal: a wrong request counts against the limits, as providers have
    /// it, and is answered at once.
    pub(super) fn rule(&mut self, at: Duration, draft: &Draft) -> Ruling {
        // Threads read the clock before they get here, so arrivals may come out of order by a hair.
        let at = at.max(self.last);
        self.last = at;
        self.stats.requests += 1;
        self.stats.in_flight += 1;
        self.stats.in_flight_peak = self.stats.in_flight_peak.max(self.stats.in_flight);
        let number = self.stats.requests;
        let mut ruling = Ruling {
            number,
            delay: Duration::ZERO,
            fate: Fate::Answer,
            requests: None,
            tokens: None,
        };
        if !draft.metered {
            return ruling;
        }
        if self.record_arrivals {
            self.stats.arrivals.push(at);
        }
        let cost = draft.prompt_tokens + draft.completion_tokens;
        ruling.fate = match self.admit(at, cost) {
            Ok(()) => self.chance(draft.identity),
            Err(limited) => limited,
        };
        ruling.requests = self.requests.as_ref().map(|gauge| gauge.quota(at));
        ruling.tokens = self.tokens.as_ref().map(|gauge| gauge.quota(at));
        match ruling.fate {
            Fate::Limited { .. } | Fate::NeverFits { .. } => {}
            Fate::Answer if draft.outcome.is_err() => {}
            _ => {
                self.stats.prompt_tokens += draft.prompt_tokens;
                self.stats.completion_tokens += draft.completion_tokens;
                let mut draws = Draws::new(chance::mix(self.spec.seed ^ number));
                ruling.delay = chance::latency(self.spec.latency, self.spec.jitter, &mut draws);
            }
        }
        ruling
    }

    fn admit(&mut self, at: Duration, cost: u64) -> Result<(), Fate> {
        if let Some(gauge) = &mut self.requests {
            let over = gauge.observe(at, 1);
            self.stats.requests_over = self.stats.requests_over.max(over);
        }
        if let Some(gauge) = &mut self.tokens {
            let over = gauge.observe(at, cost);
            self.stats.tokens_over = self.stats.tokens_over.max(over);
            if cost > gauge.a_period {
                return Err(Fate::NeverFits { asked: cost });
            }
        }
        let limited = |by, asked| move |wait| Fate::Limited { by, asked, wait };
        // Tried on a copy first: a request that one limit refuses must not be charged to the other.
        let requests = match &self.requests {
            None => None,
            Some(gauge) => {
                let mut meter = gauge.ruling.clone();
                meter.admit(at, 1).map_err(limited(Limit::Requests, 1))?;
                Some(meter)
            }
        };
        if let Some(gauge) = &mut self.tokens {
            gauge
                .ruling
                .admit(at, cost)
                .map_err(limited(Limit::Tokens, cost))?;
        }
        if let (Some(gauge), Some(charged)) = (&mut self.requests, requests) {
            gauge.ruling = charged;
        }
        Ok(())
    }

    /// Draws from the seed, what was asked and how often, so that the order of arrival is nothing.
    fn chance(&mut self, identity: u64) -> Fate {
        let (errors, faults) = (self.spec.errors, self.spec.faults);
        if errors == 0.0 && faults == 0.0 {
            return Fate::Answer;
        }
        let times = self.asked.entry(identity).or_default();
        *times = times.saturating_add(1);
        let mut digest = Digest::new(self.spec.seed);
        digest.number(identity);
        digest.number(u64::from(*times));
        let mut draws = Draws::new(digest.finish());
        let share = draws.share();
        if share < errors {
            Fate::Error([500, 502, 503][draws.below(3)])
        } else if share < errors + faults {
            [Fate::Reset, Fate::Cut][draws.below(2)]
        } else {
            Fate::Answer
        }
    }

    /// Counts a request as over, its answer being on its way: before the last byte is written, or
    /// a client that has the answer could ask for the counts and not find itself in them.
    pub(super) fn answered(&mut self, fate: Fate, status: u16) {
        self.stats.in_flight -= 1;
        *self.counter(fate, status) += 1;
    }

    /// Takes it back: the last bytes could not be written after all.
    pub(super) fn recant(&mut self, fate: Fate, status: u16) {
        *self.counter(fate, status) -= 1;
        self.stats.unsent += 1;
    }

    /// Counts a request as over whose answer was never sent.
    pub(super) fn unsent(&mut self) {
        self.stats.in_flight -= 1;
        self.stats.unsent += 1;
    }

    fn counter(&mut self, fate: Fate, status: u16) -> &mut u64 {
        match (fate, status) {
            (Fate::Reset | Fate::Cut, _) => &mut self.stats.faults,
            (_, 429) => &mut self.stats.limited,
            (_, 500..) => &mut self.stats.errors,
            (_, 400..) => &mut self.stats.refused,
            _ => &mut self.stats.answered,
        }
    }

    /// Counts something that came in place of a request.
    pub(super) fn not_a_request(&mut self) {
        self.stats.requests += 1;
        self.stats.refused += 1;
    }

    pub(super) fn opened(&mut self, open: usize) {
        self.stats.connections += 1;
        self.stats.connections_peak = self.stats.connections_peak.max(open);
    }

    pub(super) fn stats(&self) -> &SimStats {
        &self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::endpoints::{Request, draft};

    fn chat(prompt: &str) -> Draft {
        let messages = serde_json::json!([{"role": "user", "content": prompt}]);
        let body = serde_json::json!({"model": "m", "messages": messages, "max_tokens": 3});
        let body = body.to_string();
        let request = Request {
            method: "POST",
            path: "/v1/chat/completions",
            body: body.as_bytes(),
        };
        draft(7, &request)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn equal_arrivals_get_equal_rulings() {
        let spec = SimSpec::default()
            .requests(Rate::per_second(5))
            .errors(0.2)
            .faults(0.2);
        let run = || {
            let mut model = Model::new(spec, true);
            let rulings: Vec<Ruling> = (0..200)
                .map(|k| model.rule(ms(k * 90), &chat(&format!("question {}", k % 50))))
                .collect();
            (rulings, model.stats().clone())
        };
        let (rulings, stats) = run();
        assert_eq!((rulings.clone(), stats), run());
        for kind in [
            |fate| matches!(fate, Fate::Answer),
            |fate| matches!(fate, Fate::Limited { .. }),
            |fate| matches!(fate, Fate::Error(_)),
            |fate| matches!(fate, Fate::Reset),
            |fate| matches!(fate, Fate::Cut),
        ] {
            assert!(rulings.iter().any(|ruling| kind(ruling.fate)));
        }
    }

    #[test]
    fn the_latency_goes_by_the_order_of_arrival() {
        let delays = |prompts: [&str; 3]| {
            let mut model = Model::new(SimSpec::default(), false);
            prompts.map(|prompt| model.rule(ms(0), &chat(prompt)).delay)
        };
        assert_eq!(delays(["a", "b", "c"]), delays(["c", "c", "a"]));
        let [first, second, _] = delays(["a", "b", "c"]);
        assert_ne!(first, second);
    }

    #[test]
    fn what_one_limit_refuses_is_not_charged_to_the_other() {
        // Ten tokens each: a burst of 20 holds two of them, and the requests are far from theirs.
        let spec = SimSpec::default()
            .requests(Rate::per_minute(600))
            .tokens(Rate::per_minute(600));
        let mut model = Model::new(spec, false);
        let asked = chat("a");
        assert_eq!(asked.prompt_tokens + asked.completion_tokens, 10);
        let fates: Vec<Fate> = (0..4).map(|_| model.rule(ms(0), &asked).fate).collect();
        let limited = Fate::Limited {
            by: Limit::Tokens,
            asked: 10,
            wait: ms(1000),
        };
        assert_eq!(fates, [Fate::Answer, Fate::Answer, limited, limited]);
        let quota = model.rule(ms(0), &asked).requests.map(|quota| quota.used);
        assert_eq!(quota, Some(2));
    }

    #[test]
    fn every_arrival_counts_towards_the_excess() {
        let spec = SimSpec::default().requests(Rate::per_second(10)).burst(4);
        let mut model = Model::new(spec, true);
        for millis in [0, 0, 0, 0, 0, 0, 200, 200, 5000] {
            model.rule(ms(millis), &chat("a"));
        }
        // Eight within 200 ms, where four and two more may come.
        assert_eq!(model.stats().requests_over, 2);
        assert_eq!(model.stats().excess(Rate::per_second(10), 4), 2);
    }

    #[test]
    fn what_is_free_is_not_limited_and_a_wrong_request_is_not_free() {
        let spec = SimSpec::default().requests(Rate::per_minute(1)).burst(1);
        let mut model = Model::new(spec, false);
        let models = Request {
            method: "GET",
            path: "/models",
            body: b"",
        };
        let wrong = Request {
            method: "POST",
            path: "/chat/completions",
            body: b"{",
        };
        let free = model.rule(ms(0), &draft(7, &models));
        assert_eq!((free.fate, free.requests), (Fate::Answer, None));
        let refused = model.rule(ms(0), &draft(7, &wrong));
        assert_eq!((refused.fate, refused.delay), (Fate::Answer, ms(0)));
        let limited = model.rule(ms(0), &draft(7, &wrong)).fate;
        assert!(matches!(limited, Fate::Limited { .. }));
    }
}
