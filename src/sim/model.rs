//! What the simulated provider decides: whether a request is let in, what happens to it, and when.
//!
//! Pure: told the time, it keeps the accounts and reads no clock. A ruling is a small value; the
//! server holds the lock around [`Model::rule`] only, and writes the answer without it.

use std::collections::HashMap;
use std::time::Duration;

use super::endpoints::Draft;
use super::gauge::{Gauge, Limit, Quota};
use super::generate::{Digest, Random, latency, mix};
use super::spec::SimSpec;
use super::stats::SimStats;

/// What becomes of one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ruling {
    /// The request's number, from 1, in order of arrival.
    pub(super) number: u64,
    /// How long after its arrival it is answered.
    pub(crate) delay: Duration,
    pub(crate) fate: Fate,
    /// It is worked on until it is answered.
    pub(super) takes_place: bool,
    /// The state of the limits after it; empty where there are none, or none applies.
    pub(crate) quotas: Vec<Quota>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    /// The draft is the answer.
    Answer,
    /// 429: fits after `wait`; never, if there is none, because a whole period allows less.
    Limited {
        by: Limit,
        asked: u64,
        wait: Option<Duration>,
    },
    /// Too many are worked on: 429, or 503 beyond the overload point and in an outage.
    TooMany { status: u16, wait: Option<Duration> },
    /// 500, 502 or 503.
    Error(u16),
    /// The connection is reset before the answer.
    Reset,
    /// The connection is closed in the middle of the answer.
    Cut,
}

impl Fate {
    /// It is not let in, and may come again.
    fn is_refusal(self) -> bool {
        matches!(self, Self::Limited { .. } | Self::TooMany { .. })
    }

    /// How long a refusal asks to wait.
    pub(super) fn wait(self) -> Option<Duration> {
        match self {
            Self::Limited { wait, .. } | Self::TooMany { wait, .. } => wait,
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Model {
    spec: SimSpec,
    gauges: Vec<Gauge>,
    /// How often each content has been let in, by its digest; kept only when chance needs it.
    seen: HashMap<u64, u32>,
    record_arrivals: bool,
    last: Duration,
    connections: usize,
    /// How many requests are worked on.
    places: usize,
    stats: SimStats,
}

impl Model {
    /// A provider that has seen nothing yet; `spec` has been checked.
    #[expect(
        clippy::large_types_passed_by_value,
        reason = "it is made once a server, and kept"
    )]
    pub(crate) fn new(spec: SimSpec, record_arrivals: bool) -> Self {
        let gauges = [
            (Limit::Requests, spec.requests, spec.burst),
            (Limit::Tokens, spec.tokens, None),
            (Limit::InputTokens, spec.input_tokens, None),
            (Limit::OutputTokens, spec.output_tokens, None),
        ];
        let gauges = gauges.into_iter();
        Self {
            spec,
            gauges: gauges
                .filter_map(|(limit, rate, burst)| Gauge::new(limit, rate, burst, spec.judged))
                .collect(),
            seen: HashMap::new(),
            record_arrivals,
            last: Duration::ZERO,
            connections: 0,
            places: 0,
            stats: SimStats::default(),
        }
    }

    /// Decides about the request that arrives at `at` (since the start) and asks for `draft`.
    ///
    /// Limits come first, and what they refuse is charged to neither of them. Chance comes next,
    /// then the draft's own refusal: a wrong request counts against the limits, as providers have
    /// it, and is answered at once.
    pub(crate) fn rule(&mut self, at: Duration, draft: &Draft) -> Ruling {
        // Threads read the clock before they take the lock, so arrivals may come slightly out of
        // order.
        let at = at.max(self.last);
        self.last = at;
        self.stats.requests += 1;
        self.stats.in_flight += 1;
        self.stats.in_flight_peak = self.stats.in_flight_peak.max(self.stats.in_flight);
        let mut ruling = Ruling {
            number: self.stats.requests,
            delay: Duration::ZERO,
            fate: Fate::Answer,
            takes_place: false,
            quotas: Vec::new(),
        };
        if !draft.metered {
            return ruling;
        }
        if self.record_arrivals {
            self.stats.arrivals.push(at);
        }
        ruling.fate = match self.admit(at, draft) {
            Some(limited) => limited,
            None => self.chance(draft.identity),
        };
        let is_refused = ruling.fate.is_refusal();
        if self.record_arrivals && is_refused {
            self.stats.refusals.push(at);
        }
        ruling.quotas = self.gauges.iter().map(|gauge| gauge.quota(at)).collect();
        let is_wrong = ruling.fate == Fate::Answer && draft.outcome.is_err();
        ruling.takes_place = !is_refused && !is_wrong;
        if ruling.takes_place {
            self.places += 1;
            self.stats.prompt_tokens += draft.prompt_tokens;
            self.stats.completion_tokens += draft.completion_tokens;
            // The seed is mixed first, or neighbouring seeds would draw alike in another order.
            let mut random = Random::new(mix(mix(self.spec.seed) ^ ruling.number));
            let delay = latency(self.spec.latency, self.spec.jitter, &mut random);
            let load = self.spec.load.map_or(1.0, |load| load.factor(self.places));
            ruling.delay = delay.mul_f64(load);
            self.stats.busy += ruling.delay;
        }
        ruling
    }

    /// Charges a request to all limits; or to none, and says what refuses it.
    fn admit(&mut self, at: Duration, draft: &Draft) -> Option<Fate> {
        let asked = |gauge: &Gauge| match gauge.limit {
            Limit::Requests => 1,
            Limit::Tokens => draft.prompt_tokens + draft.completion_tokens,
            Limit::InputTokens => draft.prompt_tokens,
            Limit::OutputTokens => draft.completion_tokens,
        };
        let share = self.spec.cuts.share(at);
        let is_outage = share == 0.0;
        let share = if is_outage { 1.0 } else { share };
        for gauge in &mut self.gauges {
            gauge.set_share(share, at);
            gauge.arrive(at, asked(gauge));
        }
        if is_outage {
            let (status, wait) = (503, None);
            return Some(Fate::TooMany { status, wait });
        }
        for (status, at_once) in [(503, self.spec.overload), (429, self.spec.places)] {
            if let Some(full) = at_once.filter(|at_once| self.places >= at_once.most) {
                let wait = full.wait;
                return Some(Fate::TooMany { status, wait });
            }
        }
        for gauge in &mut self.gauges {
            let (by, asked) = (gauge.limit, asked(gauge));
            let wait = gauge.wait(at, asked);
            if wait != Some(Duration::ZERO) {
                if self.spec.refused_count {
                    gauge.charge(at, asked);
                }
                return Some(Fate::Limited { by, asked, wait });
            }
        }
        for gauge in &mut self.gauges {
            gauge.charge(at, asked(gauge));
        }
        None
    }

    /// Draws from the seed, what was asked and how often, so that the order of arrival does not
    /// matter.
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
    pub(crate) fn answered(&mut self, ruling: &Ruling, status: u16) {
        self.stats.in_flight -= 1;
        self.places -= usize::from(ruling.takes_place);
        *self.counter(ruling.fate, status) += 1;
    }

    /// Takes that back: the answer could not be written after all.
    pub(super) fn unsent(&mut self, fate: Fate, status: u16) {
        *self.counter(fate, status) -= 1;
        self.stats.unsent += 1;
    }

    fn counter(&mut self, fate: Fate, status: u16) -> &mut u64 {
        match fate {
            Fate::Reset | Fate::Cut => &mut self.stats.faults,
            Fate::Limited { .. } | Fate::TooMany { .. } => &mut self.stats.limited,
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
            input_tokens_over: over(Limit::InputTokens),
            output_tokens_over: over(Limit::OutputTokens),
            ..self.stats.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rate;
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
    fn neighbouring_seeds_share_no_latencies() {
        let delays = |seed| {
            let mut model = Model::new(SimSpec::default().seed(seed), false);
            (0..64)
                .map(|_| model.rule(ms(0), &chat("a")).delay)
                .collect::<Vec<_>>()
        };
        let of_one = delays(1);
        for seed in [0, 2, 3, 1 << 32] {
            let shared = delays(seed)
                .iter()
                .filter(|delay| of_one.contains(delay))
                .count();
            assert_eq!(shared, 0, "seed {seed} and seed 1");
        }
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
    fn too_many_at_once_are_refused_until_one_is_answered() {
        let wait = Some(ms(60_000));
        for (spec, status) in [
            (SimSpec::default().places(2, wait), 429),
            (SimSpec::default().overload(2, wait).places(9, None), 503),
        ] {
            let mut model = Model::new(spec, true);
            let first = model.rule(ms(0), &chat("a"));
            assert_eq!(model.rule(ms(0), &chat("b")).fate, Fate::Answer);
            let third = model.rule(ms(0), &chat("c"));
            assert_eq!(third.fate, Fate::TooMany { status, wait });
            assert_eq!(third.delay, ms(0));
            model.answered(&third, status);
            assert!(model.rule(ms(1), &chat("c")).fate.is_refusal());
            model.answered(&first, 200);
            assert_eq!(model.rule(ms(2), &chat("c")).fate, Fate::Answer);
            assert_eq!(model.stats().refusals, [ms(0), ms(1)]);
        }
    }

    #[test]
    fn limits_are_cut_and_restored_as_often_as_the_schedule_says() {
        let spec = "rps=30,cut=10s-20s@0.33+20s-30s@0.5+40s-50s@0.1".parse();
        let mut model = Model::new(spec.unwrap(), false);
        let told = [9, 10, 19, 20, 29, 30, 40, 50]
            .map(|second| model.rule(ms(second * 1_000), &chat("a")).quotas[0].most);
        assert_eq!(told, [1800, 594, 594, 900, 900, 1800, 180, 1800]);
    }

    #[test]
    fn tokens_of_prompts_and_answers_are_counted_apart() {
        // Seven tokens of prompt and three of answer: bursts of 14 and of 9.
        for (spec, limit, asked, let_in) in [
            ("input-tpm=420", Limit::InputTokens, 7, 2),
            ("output-tpm=270", Limit::OutputTokens, 3, 3),
            ("input-tpm=420,output-tpm=60000", Limit::InputTokens, 7, 2),
            ("input-tpm=60000,output-tpm=270", Limit::OutputTokens, 3, 3),
        ] {
            let mut model = Model::new(spec.parse().unwrap(), false);
            for _ in 0..let_in {
                assert_eq!(model.rule(ms(0), &chat("a")).fate, Fate::Answer, "{spec}");
            }
            let refused = model.rule(ms(0), &chat("a"));
            let Fate::Limited {
                by,
                asked: cost,
                wait,
            } = refused.fate
            else {
                panic!("{spec}: {refused:?}");
            };
            assert_eq!((by, cost), (limit, asked), "{spec}");
            assert!(
                wait.is_some_and(|wait| wait <= ms(1_000)),
                "{spec}: {wait:?}"
            );
            let used = refused.quotas.iter().find(|quota| quota.limit == limit);
            assert_eq!(used.map(|quota| quota.used), Some(asked * let_in), "{spec}");
        }
    }

    #[test]
    fn a_cut_to_nothing_is_an_outage() {
        let outage = [(ms(10), ms(20), 0.0)];
        let mut model = Model::new(SimSpec::default().cuts(&outage), false);
        let outage = Fate::TooMany {
            status: 503,
            wait: None,
        };
        let fates = [9, 10, 19, 20].map(|at| model.rule(ms(at), &chat("a")).fate);
        assert_eq!(fates, [Fate::Answer, outage, outage, Fate::Answer]);
    }

    #[test]
    fn the_latency_rises_with_what_is_worked_on() {
        for (times, expected) in [
            (Some(2.0), [500, 500, 1000, 1000]),
            (None, [500, 500, 750, 1000]),
        ] {
            let spec = SimSpec::default().jitter(0.0).load(2, times);
            let mut model = Model::new(spec, false);
            let rulings = [0, 0, 0, 0].map(|at| model.rule(ms(at), &chat("a")));
            assert_eq!(rulings.each_ref().map(|it| it.delay), expected.map(ms));
            model.answered(&rulings[0], 200);
            assert_eq!(model.rule(ms(9), &chat("a")).delay, ms(expected[3]));
            let busy: u64 = expected.iter().sum();
            assert_eq!(model.stats().busy, ms(busy + expected[3]));
        }
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
