//! The concurrency within a range, found by trying. *Number* is short for how many requests may be
//! in flight.
//!
//! A latency alone does not say that a server is full. It differs by row, by minute, and by what
//! else the server does. So two numbers are compared, one right after the other, by a *round* of
//! requests each. By Little's law the throughput is the number in flight ÷ the latency. Logarithms
//! are compared, because one long answer among many hardly changes their mean:
//!
//! ```text
//! gain = (ln in flight - ln in flight before) - (ln latency - ln latency before)
//! ```
//!
//! If the server has room, the gain is the whole first difference. If it is full, the gain is
//! nothing. The higher of both numbers *pays* if it gains [`WORTH`] of the first difference. The
//! better number is kept, and the next try begins there.
//!
//! At first the number grows by [`STEP_AT_START`], until that does not pay twice in a row. Once is
//! not enough: a server may become slower at some number, and have room beyond. So the second of
//! the two pays if it brings as much as it must bring for itself, and makes up for the first. Where
//! the first has lost throughput, there is no second.
//!
//! Then the number goes up or down by [`STEP`], or by less after tries in vain, and stays for some
//! rounds between tries. Only requests that begin when the number is nearly reached count. So a
//! number that is not reached, because a rate is the limit or rows are few, never grows.
//!
//! `adaptive_trial.rs` compares it with the rules of others.

use super::bucket::Nanos;
use super::concurrency::Concurrency;
use super::learned_rate::SECOND;

/// The share of the largest possible gain that a higher number must bring. Twice the number must
/// bring 1.3 times the throughput. Below that, more requests in flight mostly wait longer.
const WORTH: f64 = 0.4;
/// The factor by which the number grows at first.
const STEP_AT_START: f64 = 3.0;
/// The factor by which a try multiplies or divides the number, and the least that it becomes.
const STEP: f64 = 1.5;
const LEAST_STEP: f64 = 1.25;
/// A round ends when this share of its requests has ended, so that nobody waits for the longest.
const ENDED: f64 = 0.7;
const ENDED_AT_START: f64 = 0.5;
/// A round has as many requests as tell its mean to this precision, for steps of [`STEP`]. These
/// are at least eight and at most `LONGEST_ROUND`, and in any case three quarters of the number.
const PRECISION: f64 = 0.1;
const LONGEST_ROUND: f64 = 200.0;
/// How many rounds the number stays at most between tries in vain.
const LONGEST_REST: u32 = 8;
/// The variance of latencies' logarithms before any is known: their 99th percentile is ten times
/// the median.
const SPREAD_AT_START: f64 = 1.0;
/// A request counts if at least this share of the number is in flight.
const REACHED: f64 = 0.75;

#[derive(Debug)]
pub(super) struct Adaptive {
    range: Concurrency,
    now: usize,
    phase: Phase,
    round: Round,
    /// The id of the round. Requests carry it, to be told from those of earlier rounds.
    round_id: u32,
    /// The last round at the number that tries begin from, if there was one.
    base: Option<Round>,
    /// The round after `base` that did not pay, at the start. The next is compared with both.
    in_vain: Option<Round>,
    /// Whether the next try goes up.
    up: bool,
    step: f64,
    /// For how many rounds the number stays, now and after the next try in vain.
    rest: u32,
    rests: u32,
    /// The variance of the latencies' logarithms, of the latest rounds mostly.
    spread: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Idle,
    /// Nothing has been answered since this time. The number grows by the low end each second.
    Unanswered(Nanos),
    /// The number grows by [`STEP_AT_START`].
    Start,
    Steady,
}

/// Requests that began at one number.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    at_once: usize,
    /// A request counts if more than this are in flight.
    least: f64,
    wanted: u32,
    began: u32,
    ended: u32,
    succeeded: u32,
    /// Sums of logarithms.
    in_flight: f64,
    latency: f64,
    latency_squared: f64,
}

impl Round {
    fn mean_latency(&self) -> f64 {
        self.latency / f64::from(self.succeeded)
    }

    fn mean_in_flight(&self) -> f64 {
        self.in_flight / f64::from(self.began)
    }

    /// The logarithm of how many times as many are in flight.
    fn more_than(&self, base: &Self) -> f64 {
        self.mean_in_flight() - base.mean_in_flight()
    }

    /// The logarithm of how many times as much throughput there is.
    fn gain_over(&self, base: &Self) -> f64 {
        self.more_than(base) - (self.mean_latency() - base.mean_latency())
    }

    fn variance(&self) -> f64 {
        let mean = self.mean_latency();
        (self.latency_squared / f64::from(self.succeeded) - mean * mean).max(0.0)
    }
}

impl Adaptive {
    /// `None` if there is one number only.
    pub(super) fn of_range(range: Concurrency, now: usize) -> Option<Self> {
        range.is_range().then(|| Self::new(range, now))
    }

    pub(super) fn new(range: Concurrency, now: usize) -> Self {
        let mut new = Self {
            range,
            now: 0,
            phase: Phase::Idle,
            round: Round::default(),
            round_id: 0,
            base: None,
            in_vain: None,
            up: true,
            step: STEP,
            rest: 0,
            rests: 1,
            spread: SPREAD_AT_START,
        };
        new.go(now as f64);
        new
    }

    /// How many requests may be in flight now.
    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// When the number grows, if nothing is answered until then.
    pub(super) fn grows_at(&self) -> Option<Nanos> {
        let Phase::Unanswered(since) = self.phase else {
            return None;
        };
        let seconds = (self.now / self.range.low()) as u64;
        (self.now < self.range.high()).then(|| since + seconds.saturating_mul(SECOND))
    }

    /// Lets the number grow if it is time to.
    pub(super) fn grow(&mut self, now: Nanos) {
        while self.grows_at().is_some_and(|at| at <= now) {
            self.now = (self.now + self.range.low()).min(self.range.high());
        }
    }

    /// A request begins. `in_flight` counts it. It must carry the id of the round, which this
    /// returns.
    pub(super) fn began(&mut self, in_flight: usize, now: Nanos) -> u32 {
        if self.phase == Phase::Idle {
            self.phase = Phase::Unanswered(now);
        }
        let round = &mut self.round;
        if round.began >= round.wanted || in_flight as f64 <= round.least {
            return 0;
        }
        round.began += 1;
        round.in_flight += (in_flight as f64).ln();
        self.round_id
    }

    /// A request has ended. `latency` is `None` unless it succeeded.
    pub(super) fn ended(&mut self, round_id: u32, latency: Option<Nanos>) {
        if let Phase::Unanswered(_) = self.phase {
            self.phase = Phase::Start;
        }
        if round_id != self.round_id {
            return;
        }
        let round = &mut self.round;
        round.ended += 1;
        if let Some(latency) = latency {
            let latency = (latency.max(1) as f64).ln();
            round.succeeded += 1;
            round.latency += latency;
            round.latency_squared += latency * latency;
        }
        let share = match self.phase {
            Phase::Steady => ENDED,
            _ => ENDED_AT_START,
        };
        if round.began == round.wanted && f64::from(round.ended) >= share * f64::from(round.wanted)
        {
            self.judge();
        }
    }

    /// The server has refused a request, and not by chance. A try of a higher number is taken back.
    pub(super) fn refused(&mut self) {
        if self.phase != Phase::Steady || self.base.is_some_and(|base| base.at_once < self.now) {
            self.back();
        }
    }

    /// The round is over.
    fn judge(&mut self) {
        let round = self.round;
        if round.succeeded < 2 || 2 * round.succeeded < round.ended {
            return self.go(self.now as f64);
        }
        self.spread = f64::midpoint(self.spread, round.variance());
        match self.base.filter(|base| base.at_once != round.at_once) {
            None => {
                self.base = Some(round);
                self.go_on(round.at_once);
            }
            Some(base) if self.pays(&base, &round) => {
                self.base = Some(round);
                self.rests = 1;
                self.step = (self.step * self.step).min(STEP);
                self.go_on(round.at_once);
            }
            Some(base) if self.may_go_on_in_vain(&base, &round) => {
                self.in_vain = Some(round);
                self.go(STEP_AT_START * self.now as f64);
            }
            Some(_) => self.back(),
        }
    }

    /// Whether the try was better than what it began from.
    fn pays(&self, base: &Round, tried: &Round) -> bool {
        let more = tried.more_than(&self.in_vain.unwrap_or(*base));
        let bases = [Some(base), self.in_vain.as_ref()].into_iter().flatten();
        let gain = bases
            .map(|base| tried.gain_over(base))
            .fold(f64::MAX, f64::min);
        more.abs() >= self.step.ln() / 3.0 && gain + self.chance(base, tried) >= WORTH * more
    }

    /// Whether another number is tried at the start after one that does not pay.
    fn may_go_on_in_vain(&self, base: &Round, tried: &Round) -> bool {
        let gain = tried.gain_over(base) + self.chance(base, tried);
        self.phase == Phase::Start
            && self.in_vain.is_none()
            && self.now < self.range.high()
            && gain > -WORTH * tried.more_than(base)
    }

    /// How much of a gain may be chance. At the start, where rounds are small, a try has the
    /// benefit of the doubt.
    fn chance(&self, base: &Round, tried: &Round) -> f64 {
        if self.phase == Phase::Steady {
            return 0.0;
        }
        let parts = 1.0 / f64::from(tried.succeeded) + 1.0 / f64::from(base.succeeded);
        (self.spread * parts).sqrt()
    }

    /// Goes on from a number whose round is known.
    fn go_on(&mut self, known: usize) {
        let mut here = known as f64;
        if self.phase == Phase::Start {
            self.in_vain = None;
            if known < self.range.high() {
                return self.go((STEP_AT_START * here).max(self.now as f64));
            }
            self.phase = Phase::Steady;
            self.rests = LONGEST_REST;
        }
        let end = if self.up {
            self.range.high()
        } else {
            self.range.low()
        };
        if known == end {
            self.up = !self.up;
            self.rest = self.rests;
        }
        if self.rest > 0 {
            self.rest -= 1;
        } else {
            let step = self.step.max(1.0 + 1.0 / here);
            here = if self.up { here * step } else { here / step };
        }
        self.go(here);
    }

    /// Goes back to the number that the try began from. The next try goes the other way.
    fn back(&mut self) {
        if self.phase == Phase::Steady {
            self.up = !self.up;
            self.step = self.step.sqrt().max(LEAST_STEP);
            self.rests = (2 * self.rests).min(LONGEST_REST);
            self.rest = self.rests - 1;
        }
        self.phase = Phase::Steady;
        self.in_vain = None;
        let at_once = self.base.take().map_or(self.now, |base| base.at_once);
        self.go(at_once as f64);
    }

    /// Begins a round of this number.
    fn go(&mut self, at_once: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "above zero, and it saturates"
        )]
        let at_once = (at_once.round() as usize).clamp(self.range.low(), self.range.high());
        self.now = at_once;
        self.round_id = self.round_id.wrapping_add(1).max(1);
        let wanted = if self.phase == Phase::Steady {
            let precision = PRECISION * self.step.ln() / STEP.ln();
            let wanted = 2.0 * self.spread / (precision * precision);
            wanted.clamp(8.0, LONGEST_ROUND)
        } else {
            4.0
        };
        // A request of a higher number counts from midway to it, at the earliest.
        let midway = match self.in_vain.or(self.base) {
            Some(base) if base.at_once < at_once => (base.at_once as f64 * at_once as f64).sqrt(),
            _ => 0.0,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "above zero, and it saturates"
        )]
        let wanted = wanted.max(0.75 * at_once as f64) as u32;
        self.round = Round {
            at_once,
            least: midway.max(REACHED * at_once as f64),
            wanted,
            ..Round::default()
        };
    }
}
