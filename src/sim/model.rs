//! What the simulated provider decides: whether a request is let in, what happens to it, and when.
//!
//! Pure: told the time, it keeps the accounts and reads no clock. A ruling is a small value; the
//! server holds the lock around [`Model::rule`] only, and writes the answer without it.

use std::collections::HashMap;
use std::time::Duration;

use super::endpoints::Draft;
use super::generate::{Digest, Random, latency, mix};
use super::manners::Judged;
use super::meter::{Meter, default_burst};
use super::spec::SimSpec;
use super::stats::SimStats;
use super::window::Window;
use crate::Rate;

/// What becomes of one request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ruling {
    /// The request's number, from 1, in order of arrival.
    pub(super) number: u64,
    /// How long after its arrival it is answered.
    pub(super) delay: Duration,
    pub(super) fate: Fate,
    /// The state of the limits after it; empty where there are none, or none applies.
    pub(super) quotas: Vec<Quota>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// The draft is the answer.
    Answer,
    /// 429: fits after `wait`; never, if there is none, because a whole period allows less.
    Limited {
        by: Limit,
        asked: u64,
        wait: Option<Duration>,
    },
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

impl Limit {
    /// What is counted, and the usual short name of its limit a minute.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Requests => ("requests", "RPM"),
            Self::Tokens => ("tokens", "TPM"),
        }
    }
}

/// A limit as its headers tell it: a bucket one minute deep, whatever the burst, or a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quota {
    pub(super) limit: Limit,
    pub(super) most: u64,
    pub(super) period: Duration,
    pub(super) used: u64,
    pub(super) full_in: Duration,
}

#[derive(Debug)]
pub(super) struct Model {
    spec: SimSpec,
    gauges: Vec<Gauge>,
    /// How often each content has been let in, by its digest; kept only when chance needs it.
    seen: HashMap<u64, u32>,
    record_arrivals: bool,
    last: Duration,
    connections: usize,
    stats: SimStats,
}

/// A limit: what has been let in, and what has arrived.
#[derive(Debug)]
struct Gauge {
    limit: Limit,
    a_minute: u64,
    burst: u64,
    dearest: u64,
    /// By how much the worst window so far was above the limit, counting every arrival.
    over: u64,
    let_in: Judge,
    arrived: Meter,
    /// The whole limit, and the share of it that holds now.
    rate: Rate,
    share: f64,
}

#[derive(Debug)]
enum Judge {
    Bucket(Meter),
    Window(Window),
}

impl Judge {
    fn wait(&self, at: Duration, cost: u64) -> Duration {
        match self {
            Self::Bucket(meter) => meter.wait(at, cost),
            Self::Window(window) => window.wait(at, cost),
        }
    }

    fn charge(&mut self, at: Duration, cost: u64) {
        match self {
            Self::Bucket(meter) => meter.charge(at, cost),
            Self::Window(window) => window.charge(at, cost),
        }
    }
}

impl Gauge {
    fn new(limit: Limit, rate: Option<Rate>, burst: Option<u64>, judged: Judged) -> Option<Self> {
        let rate = rate?;
        let burst = burst.unwrap_or_else(|| default_burst(rate));
        let nanos = rate.period().as_nanos().max(1);
        let a_minute = u128::from(rate.units()) * 60_000_000_000 / nanos;
        Some(Self {
            limit,
            a_minute: u64::try_from(a_minute).unwrap_or(u64::MAX).max(1),
            burst,
            dearest: 0,
            over: 0,
            let_in: match judged {
                Judged::Bucket => Judge::Bucket(Meter::new(rate, burst)),
                Judged::Fixed | Judged::Sliding => {
                    let is_sliding = judged == Judged::Sliding;
                    Judge::Window(Window::new(rate.period(), rate.units(), is_sliding))
                }
            },
            arrived: Meter::new(rate, burst),
            rate,
            share: 1.0,
        })
    }

    /// Goes on with a share of the limit.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn set_share(&mut self, share: f64, at: Duration) {
        if (share - self.share).abs() < f64::EPSILON {
            return;
        }
        self.share = share;
        match &mut self.let_in {
            Judge::Bucket(meter) => {
                // In thousandths, so that two a second can become one in a while.
                let units = (self.rate.units() as f64 * share * 1e3).max(1.0) as u64;
                let rate = Rate::new(units, self.rate.period() * 1_000);
                let used = meter.above(at, 0);
                *meter = Meter::new(rate, self.burst);
                meter.charge(at, used);
            }
            Judge::Window(window) => {
                window.set_limit((self.rate.units() as f64 * share).max(1.0) as u64);
            }
        }
    }

    fn arrive(&mut self, at: Duration, cost: u64) {
        self.dearest = self.dearest.max(cost);
        let allowed = self.burst.max(self.dearest);
        self.arrived.charge(at, cost);
        self.over = self.over.max(self.arrived.above(at, allowed));
    }

    fn quota(&self, at: Duration) -> Quota {
        let (whole, period, used, full_in) = match &self.let_in {
            Judge::Bucket(meter) => {
                let (used, full_in) = (meter.above(at, 0), meter.time_to_empty(at));
                (self.a_minute, MINUTE, used, full_in)
            }
            Judge::Window(window) => {
                let (used, full_in) = (window.used(at), window.time_to_empty(at));
                (self.rate.units(), self.rate.period(), used, full_in)
            }
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let most = (whole as f64 * self.share).max(1.0) as u64;
        Quota {
            limit: self.limit,
            most,
            period,
            used,
            full_in,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

impl Model {
    /// A provider that has seen nothing yet; `spec` has been checked.
    pub(super) fn new(spec: SimSpec, record_arrivals: bool) -> Self {
        let requests = Gauge::new(Limit::Requests, spec.requests, spec.burst, spec.judged);
        let tokens = Gauge::new(Limit::Tokens, spec.tokens, None, spec.judged);
        Self {
            spec,
            gauges: requests.into_iter().chain(tokens).collect(),
            seen: HashMap::new(),
            record_arrivals,
            last: Duration::ZERO,
            connections: 0,
            stats: SimStats::default(),
        }
    }

    /// Decides about the request that arrives at `at` (since the start) and asks for `draft`.
    ///
    /// Limits come first, and what they refuse is charged to neither of them. Chance comes next,
    /// then the draft's own refusal: a wrong request counts against the limits, as providers have
    /// it, and is answered at once.
    pub(super) fn rule(&mut self, at: Duration, draft: &Draft) -> Ruling {
        // Threads read the clock before they take the lock, so arrivals may come slightly out of order.
        let at = at.max(self.last);
        self.last = at;
        self.stats.requests += 1;
        self.stats.in_flight += 1;
        self.stats.in_flight_peak = self.stats.in_flight_peak.max(self.stats.in_flight);
        let mut ruling = Ruling {
            number: self.stats.requests,
            delay: Duration::ZERO,
            fate: Fate::Answer,
            quotas: Vec::new(),
        };
        if !draft.metered {
            return ruling;
        }
        if self.record_arrivals {
            self.stats.arrivals.push(at);
        }
        let tokens = draft.prompt_tokens + draft.completion_tokens;
        ruling.fate = match self.admit(at, tokens) {
            Some(limited) => limited,
            None => self.chance(draft.identity),
        };
        if self.record_arrivals && matches!(ruling.fate, Fate::Limited { .. }) {
            self.stats.refusals.push(at);
        }
        ruling.quotas = self.gauges.iter().map(|gauge| gauge.quota(at)).collect();
        let at_once = match ruling.fate {
            Fate::Limited { .. } => true,
            Fate::Answer => draft.outcome.is_err(),
            _ => false,
        };
        if !at_once {
            self.stats.prompt_tokens += draft.prompt_tokens;
            self.stats.completion_tokens += draft.completion_tokens;
            let mut random = Random::new(mix(self.spec.seed ^ ruling.number));
            ruling.delay = latency(self.spec.latency, self.spec.jitter, &mut random);
        }
        ruling
    }

    /// Charges a request to all limits; or to none, and says which one refuses it.
    fn admit(&mut self, at: Duration, tokens: u64) -> Option<Fate> {
        let asked = |gauge: &Gauge| match gauge.limit {
            Limit::Requests => 1,
            Limit::Tokens => tokens,
        };
        let cut = (self.spec.cut).filter(|cut| (cut.from..cut.to).contains(&at));
        for gauge in &mut self.gauges {
            gauge.set_share(cut.map_or(1.0, |cut| cut.share), at);
            gauge.arrive(at, asked(gauge));
        }
        for gauge in &mut self.gauges {
            let (by, asked) = (gauge.limit, asked(gauge));
            let wait = gauge.let_in.wait(at, asked);
            let wait = (asked <= gauge.rate.units()).then_some(wait);
            if wait != Some(Duration::ZERO) {
                if self.spec.refused_count {
                    gauge.let_in.charge(at, asked);
                }
                return Some(Fate::Limited { by, asked, wait });
            }
        }
        for gauge in &mut self.gauges {
            gauge.let_in.charge(at, asked(gauge));
        }
        None
    }

    /// Draws from the seed, what was asked and how often, so that the order of arrival does not matter.
    fn chance(&mut self, identity: u64) -> Fate {
        let (errors, faults) = (self.spec.errors, self.spec.faults);
        let strays = self.spec.strays;
        if errors == 0.0 && strays == 0.0 && faults == 0.0 {
            return Fate::Answer;
        }
        let times = self.seen.entry(identity).or_default();
        *times = times.saturating_add(1);
        let mut digest = Digest::new(self.spec.seed);
        digest.number(identity);
        digest.number(u64::from(*times));
        let mut random = Random::new(digest.finish());
        let share = random.next_f64();
        if share < errors {
            Fate::Error([500, 502, 503][random.below(3)])
        } else if share >= 1.0 - strays {
            Fate::Limited {
                by: Limit::Requests,
                asked: 1,
                wait: Some(Duration::from_secs(1)),
            }
        } else if share < errors + faults {
            [Fate::Reset, Fate::Cut][random.below(2)]
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

    /// Takes that back: the answer could not be written after all.
    pub(super) fn unsent(&mut self, fate: Fate, status: u16) {
        *self.counter(fate, status) -= 1;
        self.stats.unsent += 1;
    }

    fn counter(&mut self, fate: Fate, status: u16) -> &mut u64 {
        match fate {
            Fate::Reset | Fate::Cut => &mut self.stats.faults,
            Fate::Limited { .. } => &mut self.stats.limited,
            Fate::Error(_) => &mut self.stats.errors,
            Fate::Answer if status < 400 => &mut self.stats.answered,
            Fate::Answer => &mut self.stats.refused,
        }
    }

    pub(super) fn connected(&mut self) {
        self.connections += 1;
        self.stats.connections += 1;
        self.stats.connections_peak = self.stats.connections_peak.max(self.connections);
    }

    pub(super) fn disconnected(&mut self) {
        self.connections -= 1;
    }

    pub(super) fn stats(&self) -> SimStats {
        let over = |limit| {
            let gauge = self.gauges.iter().find(|gauge| gauge.limit == limit);
            gauge.map_or(0, |gauge| gauge.over)
        };
        SimStats {
            requests_over: over(Limit::Requests),
            tokens_over: over(Limit::Tokens),
            ..self.stats.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::endpoints::draft;
    use crate::sim::http::ReceivedRequest;

    fn chat(prompt: &str) -> Draft {
        let messages = serde_json::json!([{"role": "user", "content": prompt}]);
        let body = serde_json::json!({"model": "m", "messages": messages, "max_tokens": 3});
        let body = body.to_string();
        draft(7, &request("POST", "/v1/chat/completions", &body))
    }

    fn request(method: &str, target: &str, body: &str) -> ReceivedRequest {
        ReceivedRequest {
            method: method.to_owned(),
            target: target.to_owned(),
            body: body.as_bytes().to_vec(),
            ..ReceivedRequest::default()
        }
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
            (rulings, model.stats())
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
            wait: Some(ms(1000)),
        };
        assert_eq!(fates, [Fate::Answer, Fate::Answer, limited, limited]);
        let quotas = model.rule(ms(0), &asked).quotas;
        assert_eq!((quotas[0].limit, quotas[0].used), (Limit::Requests, 2));
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
        let models = request("GET", "/models", "");
        let wrong = request("POST", "/chat/completions", "{");
        let free = model.rule(ms(0), &draft(7, &models));
        assert_eq!((free.fate, free.quotas), (Fate::Answer, Vec::new()));
        let refused = model.rule(ms(0), &draft(7, &wrong));
        assert_eq!((refused.fate, refused.delay), (Fate::Answer, ms(0)));
        let limited = model.rule(ms(0), &draft(7, &wrong)).fate;
        assert!(matches!(limited, Fate::Limited { .. }));
    }
}
