//! A run against a model of a provider, event by event: how the limiter's learning is judged.
//!
//! One thread, no clock and no chance but the seed's: minutes of a run take milliseconds. The run
//! keeps its rows in flight, sends what was refused first, and obeys waits as `pool` does. The
//! provider is one of [`Provider`].

#![cfg(test)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use super::bucket::{Admission, Nanos};
use super::pace::Heard;
use super::rate::{Cost, Rate};
use super::state::{LimiterState, Start};
use crate::retry::Verdict;

pub(super) const SECOND: Nanos = 1_000_000_000;
const MILLI: Nanos = SECOND / 1_000;

/// What lets requests in.
#[derive(Clone, Debug, PartialEq)]
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
    /// Whether its refusals say that they are about places. Those take up to this long.
    pub(super) names_places: Option<Nanos>,
    pub(super) hint: Hint,
    /// What is refused counts against the limit.
    pub(super) counts_refused: bool,
    /// The share that is refused by chance.
    pub(super) strays: f64,
    pub(super) latency: Nanos,
    /// Its standard deviation ÷ its mean, log-normal; with none it is up to a tenth longer.
    pub(super) spread: f64,
    /// What a refusal takes.
    pub(super) round_trip: Nanos,
    /// How long after an answer its place is free again.
    pub(super) lag: Nanos,
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
            names_places: None,
            hint,
            counts_refused: false,
            strays: 0.0,
            latency: 100 * MILLI,
            spread: 0.0,
            round_trip: MILLI,
            lag: 0,
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
        let share = match self.cut {
            Some((from, to, share)) if (from..to).contains(&now) => share,
            _ => 1.0,
        };
        if self.in_flight as f64 >= self.places as f64 * share {
            return Some(self.latency);
        }
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

    fn answer_in(&self, chance: &mut fastrand::Rng) -> Nanos {
        if self.spread == 0.0 {
            return self.latency + chance.u64(..=self.latency / 10);
        }
        let variance = (1.0 + self.spread * self.spread).ln();
        let (radius, angle) = (
            (-2.0 * (1.0 - chance.f64()).ln()).sqrt(),
            std::f64::consts::TAU * chance.f64(),
        );
        let normal = radius * angle.cos();
        let factor = (variance.sqrt() * normal - variance / 2.0).exp();
        nanos(self.latency as f64 / SECOND as f64 * factor)
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

    /// Tells the limiter of a refusal.
    fn tell(
        &self,
        limits: &mut LimiterState,
        start: Start,
        hint: Option<Duration>,
        now: Nanos,
    ) -> Heard {
        match self.names_places {
            Some(_) => limits.full(start, now).0,
            None => limits.refused(start, hint, now).0,
        }
    }

    /// What a refusal says of the wait, and how long it takes.
    fn refusal(&self, wait: Nanos, chance: &mut fastrand::Rng) -> (Option<Duration>, Nanos) {
        match self.names_places {
            Some(longest) => (None, self.round_trip + chance.u64(..=longest)),
            None => (self.hint(wait), self.round_trip),
        }
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
    /// When the last answer came.
    pub(super) done: Nanos,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    index: usize,
    attempts: u32,
    /// When it was refused last.
    since: Nanos,
}

impl Row {
    fn new(index: usize) -> Self {
        Self {
            index,
            attempts: 0,
            since: 0,
        }
    }
}

/// The line of those that were refused, as `pool::schedule` keeps it.
#[derive(Debug, Default)]
struct Line {
    rows: BTreeMap<(u32, usize), Row>,
    last_refusal: Option<Nanos>,
    /// Whether any was let in since, and how many that were sent later.
    works: bool,
    let_in: u32,
    again: Option<usize>,
}

impl Line {
    fn refused(&mut self, row: &mut Row, now: Nanos) {
        row.since = now;
        self.last_refusal = Some(now);
        self.let_in = 0;
        self.works = false;
        self.again.take_if(|again| *again == row.index);
    }

    fn let_in(&mut self, row: Row, start: Start) {
        self.works = true;
        self.let_in += u32::from(self.last_refusal.is_none_or(|at| start.at > at));
        self.again.take_if(|again| *again == row.index);
    }

    fn add(&mut self, row: Row) {
        self.rows.insert((row.attempts - 1, row.index), row);
    }

    /// The one that goes now, if one does: any, if there are no new ones.
    fn first(&self, now: Nanos, is_all: bool) -> Option<(u32, usize)> {
        let (first, row) = self.rows.first_key_value()?;
        let needed = [0, 3, 30, 180][first.0.min(3) as usize];
        let may_go = first.0 == 0
            || self.let_in >= needed && self.again.is_none()
            || self.works && now >= row.since + 30 * SECOND;
        (is_all || may_go).then_some(*first)
    }

    fn take(&mut self, first: (u32, usize)) -> Row {
        if first.0 > 0 {
            self.again = Some(first.1);
        }
        self.rows.remove(&first).unwrap()
    }
}

/// What is to happen. The order of two at one time is the order in which they came about.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// An answer to what was sent then and in that place.
    Answer(Row, Start),
    /// A refusal of it, with the wait that it asks for.
    Refusal(Row, Start, Option<Duration>),
    Due(Row),
    /// A place is free again.
    Freed,
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
    let (mut new, mut look) = (0, 0);
    let mut line = Line::default();
    while let Some(Reverse((now, _, event))) = events.pop() {
        if now > until {
            break;
        }
        came.end = now;
        match event {
            Event::Look => {}
            Event::Freed => provider.in_flight -= 1,
            Event::Due(row) => line.add(row),
            Event::Answer(row, start) => {
                limits.let_in(start, now);
                match provider.lag {
                    0 => provider.in_flight -= 1,
                    lag => at(&mut events, now + lag, Event::Freed),
                }
                limits.end(cost, cost, (start, true), now);
                line.let_in(row, start);
                came.attempts = came.attempts.max(row.attempts);
                came.rows += 1;
                came.done = now;
            }
            Event::Refusal(mut row, start, hint) => {
                let heard = provider.tell(limits, start, hint, now);
                let verdict = hint.map_or(Verdict::Throttled, Verdict::PauseAll);
                let (verdict, pause) = verdict.heard(heard, row.attempts, Duration::MAX);
                if let Some(pause) = pause {
                    limits.pause(now + nanos(pause.as_secs_f64()), now);
                }
                line.refused(&mut row, now);
                if pause.is_some() && !matches!(verdict, Verdict::RetryAfter(_)) {
                    line.add(row);
                } else {
                    let wait = match verdict {
                        Verdict::RetryAfter(wait) => wait.as_secs_f64(),
                        // A backoff that doubles.
                        _ => 0.5 * f64::from(1 << row.attempts.min(6)) * chance.f64(),
                    };
                    let due = now + nanos(wait * (1.0 + 0.1 * chance.f64()));
                    at(&mut events, due, Event::Due(row));
                }
                limits.end(cost, cost, (start, true), now);
            }
        }
        loop {
            let next = line.first(now, new == rows);
            if next.is_none() && new == rows {
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
                Admission::When(_) => break,
            }
            let mut row = next.map_or_else(
                || {
                    new += 1;
                    Row::new(new)
                },
                |next| line.take(next),
            );
            row.attempts += 1;
            came.attempts = came.attempts.max(row.attempts);
            let start = limits.start();
            match provider.arrival(now, &mut chance) {
                None => {
                    came.admitted.push(now);
                    let answered = now + provider.answer_in(&mut chance);
                    at(&mut events, answered, Event::Answer(row, start));
                }
                Some(wait) => {
                    came.refused.push(now);
                    let (hint, takes) = provider.refusal(wait, &mut chance);
                    at(&mut events, now + takes, Event::Refusal(row, start, hint));
                }
            }
        }
    }
    came
}

/// As long as the table of `tests/learned` runs, so that the start weighs as much: from when it is
/// judged, and to when.
fn judged(rate: f64, allows: &Allows) -> (Nanos, Nanos) {
    match allows {
        Allows::FixedMinute(_) | Allows::SlidingMinute(_) => (60 * SECOND, 230 * SECOND),
        Allows::All if rate < 100.0 => (60 * SECOND, 230 * SECOND),
        Allows::All => (0, 32 * SECOND),
        _ if rate < 10.0 => (10 * SECOND, 100 * SECOND),
        _ if rate < 200.0 => (10 * SECOND, 40 * SECOND),
        Allows::Bucket { .. } => (10 * SECOND, 20 * SECOND),
    }
}

/// Rates, the providers that keep them, and whether twice the rate is set.
fn cases() -> Vec<(f64, Provider, bool)> {
    let mut cases = Vec::new();
    for rate in [2.0, 50.0, 500.0_f64] {
        let minute = nanos(60.0 * rate) / SECOND;
        let mut kinds = vec![Allows::FixedMinute(minute), Allows::SlidingMinute(minute)];
        for burst in [1.0, (rate / 5.0).max(1.0), rate] {
            kinds.push(Allows::Bucket { rate, burst });
        }
        kinds.dedup();
        for allows in kinds {
            for hint in [Hint::Exact, Hint::Seconds, Hint::None] {
                cases.push((rate, Provider::new(allows.clone(), hint), false));
                if rate < 10.0 {
                    cases.push((rate, Provider::new(allows.clone(), hint), true));
                }
            }
        }
    }
    // Hints much longer than what they are about.
    for (rate, burst, hint) in [(10.0, 3.0, 5 * SECOND), (20.0, 5.0, 10 * SECOND)] {
        let allows = Allows::Bucket { rate, burst };
        cases.push((rate, Provider::new(allows, Hint::Always(hint)), false));
    }
    for (rate, burst) in [(2.0, 1.0), (2.0, 2.0), (50.0, 10.0), (500.0, 100.0)] {
        for hint in [Hint::Exact, Hint::None] {
            let mut counts = Provider::new(Allows::Bucket { rate, burst }, hint);
            counts.counts_refused = true;
            cases.push((rate, counts, false));
            let mut chance = Provider::new(Allows::Bucket { rate, burst }, hint);
            chance.strays = 0.02;
            cases.push((rate, chance, false));
        }
    }
    // With a tenth of a second for an answer, 64 at once are 640 a second.
    for share in [0.01, 0.05] {
        let mut strays = Provider::new(Allows::All, Hint::Always(SECOND));
        strays.strays = share;
        cases.push((640.0, strays, false));
    }
    let mut places = Provider::new(Allows::All, Hint::Always(60 * SECOND));
    places.places = 3;
    cases.push((28.5, places, false));
    cases
}

/// `SEEDS=100 cargo test --lib limit::trial -- --ignored --nocapture`, optimised: the mean and the
/// worst of so many seeds, and how many of them miss what is asked. `TRIALS=` leaves only cases
/// with these words.
#[test]
#[ignore = "for figures"]
fn figures() {
    let setting = |name: &str| std::env::var(name).ok();
    let seeds = setting("SEEDS")
        .and_then(|it| it.parse().ok())
        .unwrap_or(40);
    let wanted = setting("TRIALS").unwrap_or_default();
    let mut all_missed = 0;
    for (rate, provider, is_twice) in cases() {
        let mut name = format!("{:?}, {:?}", provider.allows, provider.hint);
        if provider.strays > 0.0 {
            let _ = write!(name, ", strays {}", provider.strays);
        }
        if provider.places < 64 {
            let _ = write!(name, ", places {}", provider.places);
        }
        if provider.counts_refused {
            name += ", refused count";
        }
        if is_twice {
            name += ", twice set";
        }
        if !name.contains(&wanted) {
            continue;
        }
        let (from, mut to) = judged(rate, &provider.allows);
        if provider.counts_refused {
            // What a start of 64 at once owes is paid off in half a minute at two a second.
            to *= 3;
        }
        let (mut share, mut admitted, mut attempts, mut missed) = (vec![], vec![], 0, vec![]);
        for seed in 0..seeds {
            let mut provider = provider.clone();
            provider.spread = 0.3;
            provider.round_trip = [0, MILLI, 20 * MILLI][usize::try_from(seed % 3).unwrap()];
            let mut limits = LimiterState::new(64);
            if is_twice {
                let set = Rate::per_second(4);
                limits.set_requests(Some((set, 4)), 0);
            }
            let came = run(&mut limits, &mut provider, usize::MAX, to, seed);
            let (refused, let_in) = (
                came.refused_share(from, to),
                came.admitted_rate(from, to) / rate,
            );
            if refused >= 0.05 + provider.strays || let_in < 0.9 || came.attempts > 5 {
                missed.push(seed);
            }
            share.push(refused * 100.0);
            admitted.push(let_in);
            attempts = attempts.max(came.attempts);
        }
        let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
        let line = format!(
            "{name}: {:.1} % at most {:.1}, {:.2} at least {:.2}, attempts {attempts}; missed {} {:?}\n",
            mean(&share),
            share.iter().copied().fold(0.0, f64::max),
            mean(&admitted),
            admitted.iter().copied().fold(f64::MAX, f64::min),
            missed.len(),
            &missed[..missed.len().min(5)],
        );
        all_missed += missed.len();
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    }
    let line = format!("missed in all: {all_missed}\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
}

/// A provider that lets so many in at once, and nothing but its refusals tells it.
fn with_places(places: usize, latency: Nanos, hint: Hint, lag: Nanos) -> Provider {
    Provider {
        places,
        latency,
        lag,
        ..Provider::new(Allows::All, hint)
    }
}

#[test]
fn a_limit_at_once_is_found_and_kept() {
    let minute = Hint::Always(60 * SECOND);
    for (places, at_once, rows, latency, hint, lag) in [
        (3, 20, 60, SECOND, minute, 0),
        (3, 20, 60, SECOND, minute, 20 * MILLI),
        (4, 8, 16, 20 * SECOND, Hint::None, 0),
        (1, 20, 60, SECOND, Hint::None, 5 * MILLI),
        (10, 64, 600, SECOND, minute, 5 * MILLI),
        (50, 64, 1_500, SECOND, Hint::Always(SECOND), 5 * MILLI),
    ] {
        for seed in 0..3 {
            let mut provider = with_places(places, latency, hint, lag);
            let mut limits = LimiterState::new(at_once);
            let came = run(&mut limits, &mut provider, rows, 900 * SECOND, seed);
            let told = format!("{places} of {at_once}, {hint:?}, lag {lag}: {came:?}");
            let ideal = rows.div_ceil(places) as Nanos * latency;
            let first_pause = match hint {
                Hint::Always(hint) => hint,
                _ => 0,
            };
            assert_eq!(came.rows, rows, "{told}");
            assert!(came.done <= first_pause + ideal * 13 / 10, "{told}");
            assert!(came.attempts <= 5, "{told}");
            assert_eq!(limits.learned(came.done).at_once, Some(places), "{told}");
        }
    }
}

#[test]
fn refusals_that_name_places_tell_no_rate() {
    let minute = Hint::Always(60 * SECOND);
    for seed in 0..60 {
        let slowest = [50, 300, 900][usize::try_from(seed % 3).unwrap()] * MILLI;
        let mut provider = with_places(3, SECOND, minute, (seed % 4) * 10 * MILLI);
        provider.names_places = Some(slowest);
        provider.spread = 0.3;
        let mut limits = LimiterState::new(20);
        let came = run(&mut limits, &mut provider, 300, 900 * SECOND, seed);
        let told = format!(
            "seed {seed}, {slowest}: {:?}, {came:?}",
            limits.learned(came.done)
        );
        assert!(!limits.has_paced(), "{told}");
        assert_eq!(came.rows, 300, "{told}");
        assert!(came.done <= 115 * SECOND, "{told}");
        assert!(came.attempts <= 5, "{told}");
        assert!(
            limits
                .learned(came.done)
                .at_once
                .is_some_and(|it| (2..=4).contains(&it)),
            "{told}"
        );
    }
}

#[test]
fn places_that_others_hold_are_asked_for_seldom() {
    let mut provider = with_places(1, SECOND, Hint::None, 0);
    provider.names_places = Some(0);
    provider.cut = Some((0, 60 * SECOND, 0.0));
    let mut limits = LimiterState::new(20);
    let came = run(&mut limits, &mut provider, 30, 200 * SECOND, 1);
    assert_eq!(came.rows, 30, "{came:?}");
    assert!(came.refused.len() <= 50, "{came:?}");
    assert!(came.done <= 105 * SECOND, "{came:?}");
}

#[test]
fn a_limit_at_once_that_rises_is_followed() {
    let mut provider = with_places(12, SECOND, Hint::Always(SECOND), 0);
    provider.cut = Some((0, 60 * SECOND, 0.25));
    let mut limits = LimiterState::new(20);
    let came = run(&mut limits, &mut provider, 3_000, 300 * SECOND, 1);
    assert!(came.admitted_rate(30 * SECOND, 60 * SECOND) < 3.1);
    assert!(came.admitted_rate(120 * SECOND, 300 * SECOND) > 0.85 * 12.0);
    assert_eq!(limits.learned(came.done).at_once, Some(12));
}

#[test]
fn a_rate_is_not_taken_for_a_limit_at_once() {
    for (rate, burst, latency) in [
        (2.0, 1.0, 100 * MILLI),
        (50.0, 1.0, 100 * MILLI),
        (50.0, 10.0, 100 * MILLI),
        (50.0, 10.0, SECOND),
        (500.0, 1.0, 20 * MILLI),
    ] {
        for hint in [Hint::Exact, Hint::None] {
            for seed in 0..3 {
                let mut provider = Provider::new(Allows::Bucket { rate, burst }, hint);
                provider.latency = latency;
                let mut limits = LimiterState::new(64);
                let came = run(&mut limits, &mut provider, usize::MAX, 90 * SECOND, seed);
                let admitted = came.admitted_rate(60 * SECOND, 90 * SECOND);
                let refused = came.refused_share(60 * SECOND, 90 * SECOND);
                let told = format!("{rate} {burst} {latency} {hint:?} {seed}");
                assert!(admitted >= 0.75 * rate, "{told}: {admitted}");
                assert!(refused < 0.15, "{told}: {refused}");
            }
        }
    }
}
