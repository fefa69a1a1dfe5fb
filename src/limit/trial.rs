//! A run against a model of a provider, event by event: how the limiter's learning is judged.
//!
//! One thread, no clock and no chance but the seed's: minutes of a run take milliseconds. The run keeps
//! its rows in flight, sends what was refused first, and obeys waits as `pool` does. The provider is one
//! of [`Provider`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use super::bucket::Nanos;
use super::pace::Answer;
use super::rate::Cost;
use super::state::{Admission, LimiterState};
use crate::retry::Verdict;

pub(super) const SECOND: Nanos = 1_000_000_000;
const MILLI: Nanos = SECOND / 1_000;
/// What a refusal takes.
const ROUND_TRIP: Nanos = MILLI;

/// What lets requests in.
#[derive(Clone, Debug)]
pub(super) enum Allows {
    All,
    Bucket {
        rate: f64,
        burst: f64,
    },
    /// So many in each minute from the start.
    FixedMinute(u64),
    /// So many in any minute.
    SlidingMinute(u64),
}

/// The wait that a refusal asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hint {
    None,
    Exact,
    /// In whole seconds, at least one.
    Seconds,
    Always(Nanos),
}

#[derive(Clone, Debug)]
pub(super) struct Provider {
    pub(super) allows: Allows,
    /// So many at once.
    pub(super) places: usize,
    pub(super) hint: Hint,
    /// What is refused counts against the limit.
    pub(super) counts_refused: bool,
    /// The share that is refused by chance.
    pub(super) strays: f64,
    pub(super) latency: Nanos,
    /// From when to when the limit is this share of itself.
    pub(super) cut: Option<(Nanos, Nanos, f64)>,
    level: f64,
    at: Nanos,
    let_in: VecDeque<Nanos>,
    in_flight: usize,
}

impl Provider {
    pub(super) fn new(allows: Allows, hint: Hint) -> Self {
        let level = match allows {
            Allows::Bucket { burst, .. } => burst,
            _ => 0.0,
        };
        Self {
            allows,
            places: usize::MAX,
            hint,
            counts_refused: false,
            strays: 0.0,
            latency: 100 * MILLI,
            cut: None,
            level,
            at: 0,
            let_in: VecDeque::new(),
            in_flight: 0,
        }
    }

    /// How long until a request is let in; `None` if this one is.
    fn arrival(&mut self, now: Nanos, chance: &mut fastrand::Rng) -> Option<Nanos> {
        if chance.f64() < self.strays {
            return Some(SECOND);
        }
        if self.in_flight >= self.places {
            return Some(self.latency);
        }
        let share = match self.cut {
            Some((from, to, share)) if (from..to).contains(&now) => share,
            _ => 1.0,
        };
        let minute = 60 * SECOND;
        let wait = match self.allows {
            Allows::All => None,
            Allows::Bucket { rate, burst } => {
                let rate = rate * share;
                let earned = rate * (now - self.at) as f64 / SECOND as f64;
                self.level = (self.level + earned).min(burst);
                self.at = now;
                let missing = 1.0 - self.level;
                if missing <= 1e-9 || self.counts_refused {
                    self.level -= 1.0;
                }
                self.level = self.level.max(-burst);
                (missing > 1e-9).then(|| nanos(missing / rate))
            }
            Allows::FixedMinute(most) => {
                let began = now / minute * minute;
                if self.let_in.front().is_some_and(|at| *at < began) {
                    self.let_in.clear();
                }
                let is_full = self.let_in.len() as f64 >= most as f64 * share;
                if !is_full || self.counts_refused {
                    self.let_in.push_back(now);
                }
                is_full.then(|| began + minute - now)
            }
            Allows::SlidingMinute(most) => {
                while self.let_in.front().is_some_and(|at| at + minute <= now) {
                    self.let_in.pop_front();
                }
                let first = self.let_in.front().copied().unwrap_or(now);
                let is_full = self.let_in.len() as f64 >= most as f64 * share;
                if !is_full || self.counts_refused {
                    self.let_in.push_back(now);
                }
                is_full.then(|| first + minute - now)
            }
        };
        if wait.is_none() {
            self.in_flight += 1;
        }
        wait
    }

    fn hint(&self, wait: Nanos) -> Option<Duration> {
        let hint = match self.hint {
            Hint::None => return None,
            Hint::Exact => wait.div_ceil(MILLI).max(1) * MILLI,
            Hint::Seconds => wait.div_ceil(SECOND).max(1) * SECOND,
            Hint::Always(hint) => hint,
        };
        Some(Duration::from_nanos(hint))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within years"
)]
fn nanos(seconds: f64) -> Nanos {
    (seconds * SECOND as f64).ceil() as Nanos
}

/// What came of a run.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// When requests were let in, and when they were refused.
    pub(super) admitted: Vec<Nanos>,
    pub(super) refused: Vec<Nanos>,
    /// The most attempts at one row.
    pub(super) attempts: u32,
    pub(super) rows: usize,
    pub(super) end: Nanos,
}

impl Came {
    /// The share of requests that were refused between both times.
    pub(super) fn refused_share(&self, from: Nanos, to: Nanos) -> f64 {
        let (admitted, refused) = self.between(from, to);
        refused / (admitted + refused).max(1.0)
    }

    /// What was let in a second between both times.
    pub(super) fn admitted_rate(&self, from: Nanos, to: Nanos) -> f64 {
        let to = to.min(self.end);
        self.between(from, to).0 * SECOND as f64 / to.saturating_sub(from).max(1) as f64
    }

    fn between(&self, from: Nanos, to: Nanos) -> (f64, f64) {
        let count = |times: &[Nanos]| times.iter().filter(|at| (from..to).contains(*at)).count();
        (count(&self.admitted) as f64, count(&self.refused) as f64)
    }
}

/// A row that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    index: usize,
    attempts: u32,
}

/// What is to happen. The order of two at one time is the order in which they came about.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// An answer to what was sent then.
    Answer(Row, Nanos, Option<Option<Duration>>),
    Due(Row),
    Look,
}

/// Sends as many rows as go until `until`, or all of them.
pub(super) fn run(
    limits: &mut LimiterState,
    provider: &mut Provider,
    rows: usize,
    until: Nanos,
    seed: u64,
) -> Came {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut events = BinaryHeap::new();
    let mut number = 0_u64;
    let mut at = |events: &mut BinaryHeap<_>, time: Nanos, event| {
        number += 1;
        events.push(Reverse((time, number, event)));
    };
    at(&mut events, 0, Event::Look);
    let cost = Cost::ONE;
    let mut came = Came::default();
    let (mut new, mut admits, mut look) = (0, true, 0);
    let mut refused: BTreeMap<(u32, usize), Row> = BTreeMap::new();
    let mut due: VecDeque<Row> = VecDeque::new();
    while let Some(Reverse((now, _, event))) = events.pop() {
        if now > until {
            break;
        }
        came.end = now;
        match event {
            Event::Look => {}
            Event::Due(row) => due.push_back(row),
            Event::Answer(row, sent, None) => {
                limits.answered(sent, Answer::LetIn, now);
                provider.in_flight -= 1;
                limits.release();
                admits = true;
                came.attempts = came.attempts.max(row.attempts);
                came.rows += 1;
            }
            Event::Answer(row, sent, Some(hint)) => {
                let (heard, _) = limits.answered(sent, Answer::Refused(hint), now);
                let verdict = hint.map_or(Verdict::Throttled, Verdict::PauseAll);
                let (verdict, pause) = verdict.heard(heard, row.attempts, Duration::MAX);
                if let Some(pause) = pause {
                    limits.pause(now + nanos(pause.as_secs_f64()), now);
                    refused.insert((row.attempts / 2, row.index), row);
                    admits = false;
                } else {
                    let wait = match verdict {
                        Verdict::RetryAfter(wait) => wait.as_secs_f64(),
                        // A backoff that doubles.
                        _ => 0.5 * f64::from(1 << row.attempts.min(6)) * chance.f64(),
                    };
                    let wait = wait * (1.0 + 0.1 * chance.f64());
                    at(&mut events, now + nanos(wait), Event::Due(row));
                }
                limits.release();
            }
        }
        loop {
            let first = refused.keys().next().copied();
            let first =
                first.filter(|first| admits || first.0 == 0 || (new == rows && due.is_empty()));
            if first.is_none() && due.is_empty() && new == rows {
                break;
            }
            match limits.admit(cost, now) {
                Admission::Now => {}
                Admission::At(time, _) => {
                    if look <= now || time < look {
                        look = time;
                        at(&mut events, time, Event::Look);
                    }
                    break;
                }
                Admission::WhenReleased => break,
            }
            let next = first.and_then(|first| refused.remove(&first));
            let mut row = next.or_else(|| due.pop_front()).unwrap_or_else(|| {
                new += 1;
                Row {
                    index: new,
                    attempts: 0,
                }
            });
            row.attempts += 1;
            came.attempts = came.attempts.max(row.attempts);
            match provider.arrival(now, &mut chance) {
                None => {
                    came.admitted.push(now);
                    let latency = provider.latency + chance.u64(..=provider.latency / 10);
                    at(&mut events, now + latency, Event::Answer(row, now, None));
                }
                Some(wait) => {
                    came.refused.push(now);
                    let hint = provider.hint(wait);
                    at(
                        &mut events,
                        now + ROUND_TRIP,
                        Event::Answer(row, now, Some(hint)),
                    );
                }
            }
        }
    }
    came
}

/// `cargo test --lib limit::trial -- --ignored --nocapture`, with `--release` for all of it.
#[test]
#[ignore = "for figures"]
fn figures() {
    let mut cases = Vec::new();
    for rate in [2.0, 50.0, 500.0_f64] {
        let minute = nanos(60.0 * rate) / SECOND;
        let mut kinds = vec![Allows::FixedMinute(minute), Allows::SlidingMinute(minute)];
        for burst in [1.0, (rate / 5.0).max(1.0), rate] {
            kinds.push(Allows::Bucket { rate, burst });
        }
        for allows in kinds {
            for hint in [Hint::Exact, Hint::Seconds, Hint::None] {
                cases.push((rate, Provider::new(allows.clone(), hint)));
            }
        }
    }
    // With a tenth of a second for an answer, 64 at once are 610 a second.
    let mut strays = Provider::new(Allows::All, Hint::Always(SECOND));
    strays.strays = 0.05;
    cases.push((610.0, strays));
    let mut places = Provider::new(Allows::All, Hint::Always(60 * SECOND));
    places.places = 3;
    cases.push((28.5, places));
    for (rate, provider) in cases {
        let from = match provider.allows {
            Allows::FixedMinute(_) | Allows::SlidingMinute(_) => 60 * SECOND,
            _ => 10 * SECOND,
        };
        let to = from + 300 * SECOND;
        let (mut share, mut least, mut attempts) = (0.0_f64, f64::MAX, 0);
        for seed in 0..5 {
            let mut provider = provider.clone();
            let mut limits = LimiterState::new(64);
            let came = run(&mut limits, &mut provider, usize::MAX, to, seed);
            share = share.max(came.refused_share(from, to));
            least = least.min(came.admitted_rate(from, to) / rate);
            attempts = attempts.max(came.attempts);
        }
        let line = format!(
            "{:?}, hint {:?}, places {}, strays {}: refused {:.1} %, {least:.2} of the limit, attempts {attempts}\n",
            provider.allows,
            provider.hint,
            provider.places,
            provider.strays,
            share * 100.0
        );
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    }
}
