//! The limiter's promise over random traces: in no window is more admitted than was allowed, and what
//! it says about *when* is exact.
//!
//! One thread, a virtual clock, and only the public interface. The trace keeps books of its own, in
//! exact integers, and shares no arithmetic with the bucket.

// A time that underflows here is a test that fails.
#![expect(clippy::unchecked_time_subtraction)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tollgate::{Cancel, Cost, ErrorKind, Limiter, Permit, Rate, Refusal, VirtualClock};

/// All periods used here divide it, so that credit is a whole number of `1 / UNIT` units.
const UNIT: i128 = 3_600 * 1_000_000_000;

const NANO: Duration = Duration::from_nanos(1);

#[derive(Clone, Debug)]
enum Step {
    Idle(Duration),
    /// Ask, and if the answer is an instant, come back a nanosecond too early and then on time.
    Ask(Cost),
    /// Ask without patience: granted now or not at all, and nothing is left behind.
    AskInVain(Cost),
    /// A cancelled wait takes nothing.
    AskCancelled(Cost),
    /// The oldest permit ends with this percentage of its estimate used.
    Settle(u64),
    /// The oldest permit is dropped unsettled.
    Drop,
    Requests(Rate),
    Tokens(Rate),
    Concurrency(usize),
    Pause(Duration),
}

fn rate(most: u64) -> impl Strategy<Value = Rate> {
    (1..=most, prop_oneof![Just(1_u64), Just(60), Just(3_600)])
        .prop_map(|(units, seconds)| Rate::new(units, Duration::from_secs(seconds)))
}

fn cost() -> impl Strategy<Value = Cost> {
    let tokens = prop_oneof![3 => 0..20_u64, 1 => 0..400_u64];
    let requests = prop_oneof![8 => Just(1_u64), 1 => 0..4_u64];
    (tokens, requests).prop_map(|(tokens, requests)| Cost::tokens(tokens).with_requests(requests))
}

fn step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![0..3_000_000_000_u64, 0..100_u64].prop_map(Duration::from_nanos);
    prop_oneof![
        3 => time.clone().prop_map(Step::Idle),
        9 => cost().prop_map(Step::Ask),
        1 => cost().prop_map(Step::AskInVain),
        1 => cost().prop_map(Step::AskCancelled),
        4 => (0..250_u64).prop_map(Step::Settle),
        2 => Just(Step::Drop),
        1 => rate(50).prop_map(Step::Requests),
        1 => rate(900).prop_map(Step::Tokens),
        1 => (1..6_usize).prop_map(Step::Concurrency),
        1 => time.prop_map(Step::Pause),
    ]
}

/// What a rate earns by default in one go.
fn burst(rate: Rate) -> u64 {
    (rate.units() / rate.period().as_secs()).max(1)
}

/// One limit's books.
struct Ledger {
    capacity: u64,
    rate: Rate,
    rated_at: Duration,
    /// Earned since the start, by the rates in force, in `1 / UNIT` units; nothing in a pause.
    earned: i128,
    entries: Vec<Entry>,
}

/// A grant, or a refund.
struct Entry {
    earned: i128,
    capacity: i128,
    cost: i128,
}

impl Ledger {
    fn new(rate: Rate, capacity: u64) -> Self {
        Self {
            capacity,
            rate,
            rated_at: Duration::ZERO,
            earned: 0,
            entries: Vec::new(),
        }
    }

    fn largest(&self) -> u64 {
        self.rate.units().max(self.capacity)
    }

    fn earn(&mut self, now: Duration) {
        let nanos = i128::try_from((now - self.rated_at).as_nanos()).unwrap();
        let period = i128::try_from(self.rate.period().as_nanos()).unwrap();
        self.earned += nanos * i128::from(self.rate.units()) * (UNIT / period);
        self.rated_at = now;
    }

    fn change(&mut self, rate: Rate, now: Duration) {
        self.earn(now);
        (self.rate, self.capacity) = (rate, burst(rate));
    }

    fn grant(&mut self, cost: u64, now: Duration) {
        self.earn(now);
        self.entries.push(Entry {
            earned: self.earned,
            capacity: i128::from(self.capacity),
            cost: i128::from(cost),
        });
    }

    fn refund(&mut self, tokens: u64, now: Duration) {
        self.grant(0, now);
        if let Some(entry) = self.entries.last_mut() {
            entry.cost = -i128::from(tokens);
        }
    }

    /// In every window, from any grant to any later one: no more, net of refunds, than the capacity
    /// at its start, what was earned during it, and what its last grant was above the capacity. With
    /// a capacity that stays that is max(burst, largest cost) + rate · T, or less.
    fn check(&self, what: &str) -> Result<(), TestCaseError> {
        for (at, first) in self.entries.iter().enumerate() {
            let mut sum = 0;
            for last in &self.entries[at..] {
                sum += last.cost;
                let over = (last.cost - last.capacity).max(0);
                let allowed = (first.capacity + over) * UNIT + last.earned - first.earned;
                prop_assert!(
                    last.cost <= 0 || sum * UNIT <= allowed,
                    "{what}: {sum} in a window that allows {}",
                    allowed / UNIT
                );
            }
        }
        Ok(())
    }
}

struct Trace {
    time: VirtualClock,
    start: Instant,
    limiter: Limiter,
    requests: Ledger,
    tokens: Ledger,
    permits: usize,
    held: Vec<Permit>,
    paused_until: Duration,
    /// Where the requests' books stood at the end of the last pause.
    after_pause: Option<(usize, i128)>,
}

impl Trace {
    fn new(requests: (Rate, u64), tokens: (Rate, u64), permits: usize) -> Self {
        let time = VirtualClock::new();
        let limiter = Limiter::builder()
            .requests(requests.0)
            .burst(requests.1)
            .tokens(tokens.0)
            .token_burst(tokens.1)
            .concurrency(permits)
            .clock(time.clock())
            .build()
            .unwrap();
        Self {
            start: time.clock().now(),
            time,
            limiter,
            requests: Ledger::new(requests.0, requests.1),
            tokens: Ledger::new(tokens.0, tokens.1),
            permits,
            held: Vec::new(),
            paused_until: Duration::ZERO,
            after_pause: None,
        }
    }

    fn now(&self) -> Duration {
        self.time.elapsed()
    }

    fn never_fits(&self, cost: Cost) -> bool {
        cost.requests() > self.requests.largest() || cost.model_tokens() > self.tokens.largest()
    }

    fn granted(&mut self, permit: Permit) -> Result<(), TestCaseError> {
        let (cost, now) = (permit.cost(), self.now());
        prop_assert!(now >= self.paused_until, "granted in a pause");
        self.requests.grant(cost.requests(), now);
        self.tokens.grant(cost.model_tokens(), now);
        self.held.push(permit);
        prop_assert!(self.held.len() <= self.permits, "a permit too many");
        prop_assert_eq!(self.limiter.in_flight(), self.held.len());
        // From the end of a pause there is no burst: only what has been earned since. A grant above
        // the capacity needs a full bucket, and is over by its excess.
        if let Some((from, earned)) = self.after_pause
            && cost.requests() > 0
        {
            let since = &self.requests.entries[from..];
            let sum: i128 = since.iter().map(|entry| entry.cost).sum();
            let over = since.last().map_or(0, |last| last.cost - last.capacity);
            let allowed = over.max(0) * UNIT + self.requests.earned - earned;
            prop_assert!(sum * UNIT <= allowed, "a burst after a pause: {sum}");
        }
        Ok(())
    }

    fn ask(&mut self, cost: Cost) -> Result<(), TestCaseError> {
        match self.limiter.try_acquire(cost) {
            Ok(permit) => {
                prop_assert!(!self.never_fits(cost));
                self.granted(permit)?;
            }
            Err(Refusal::Busy) => prop_assert!(self.held.len() >= self.permits),
            Err(Refusal::NotUntil(at)) => {
                let wait = at - self.start - self.now();
                prop_assert!(wait > Duration::ZERO, "told to wait for what has come");
                self.time.advance(wait - NANO);
                match self.limiter.try_acquire(cost) {
                    Err(Refusal::NotUntil(again)) => prop_assert_eq!(again, at),
                    other => prop_assert!(false, "a nanosecond early: {other:?}"),
                }
                self.time.advance(NANO);
                match self.limiter.try_acquire(cost) {
                    Ok(permit) => self.granted(permit)?,
                    refused => prop_assert!(false, "refused when promised: {refused:?}"),
                }
            }
            Err(Refusal::Never(error)) => {
                prop_assert!(self.never_fits(cost), "{error}");
                prop_assert_eq!(error.kind(), ErrorKind::NeverFits);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
        Ok(())
    }

    fn settle(&mut self, percent: Option<u64>) {
        if self.held.is_empty() {
            return;
        }
        let permit = self.held.remove(0);
        let Some(percent) = percent else {
            return drop(permit);
        };
        let reserved = permit.cost().model_tokens();
        let used = reserved * percent / 100;
        permit.settle(used);
        let now = self.now();
        self.tokens.refund(reserved.saturating_sub(used), now);
    }

    fn pause(&mut self, length: Duration) {
        self.limiter.pause_for(length);
        let now = self.now();
        if now + length > self.paused_until && !length.is_zero() {
            self.paused_until = now + length;
            // What is earned up to the pause's end is lost; the books follow when it has come.
            let mut ahead = self.requests.earned;
            let period = i128::try_from(self.requests.rate.period().as_nanos()).unwrap();
            let nanos = (self.paused_until - self.requests.rated_at).as_nanos();
            ahead += i128::try_from(nanos).unwrap()
                * i128::from(self.requests.rate.units())
                * (UNIT / period);
            self.after_pause = Some((self.requests.entries.len(), ahead));
        }
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Idle(time) => self.time.advance(time),
            Step::Ask(cost) => self.ask(cost)?,
            Step::AskInVain(cost) => {
                let asked = self.limiter.acquire_timeout(cost, Duration::ZERO);
                match asked {
                    Ok(permit) => self.granted(permit)?,
                    Err(error) => prop_assert_eq!(
                        error.kind(),
                        if self.never_fits(cost) {
                            ErrorKind::NeverFits
                        } else {
                            ErrorKind::Deadline
                        }
                    ),
                }
            }
            Step::AskCancelled(cost) => {
                let cancel = Cancel::new();
                cancel.cancel();
                let asked = self.limiter.acquire_cancellable(cost, &cancel);
                prop_assert!(asked.is_err());
            }
            Step::Settle(percent) => self.settle(Some(percent)),
            Step::Drop => self.settle(None),
            Step::Requests(rate) => {
                self.limiter.set_requests(Some(rate)).unwrap();
                let now = self.now();
                self.requests.change(rate, now);
                // The books of a pause are kept at one rate.
                self.after_pause = None;
            }
            Step::Tokens(rate) => {
                self.limiter.set_tokens(Some(rate)).unwrap();
                let now = self.now();
                self.tokens.change(rate, now);
            }
            Step::Concurrency(permits) => {
                self.limiter.set_concurrency(permits).unwrap();
                self.permits = permits;
            }
            Step::Pause(length) => self.pause(length),
        }
        prop_assert_eq!(self.limiter.waiting(), 0);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_window_is_over_and_every_promise_is_kept(
        requests in (rate(50), 1..20_u64),
        tokens in (rate(900), 1..200_u64),
        permits in 1..6_usize,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut trace = Trace::new(requests, tokens, permits);
        for step in &steps {
            trace.run(step)?;
        }
        trace.requests.check("requests")?;
        trace.tokens.check("tokens")?;
    }
}
