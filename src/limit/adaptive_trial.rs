//! How the number in flight is found, judged against models of servers and beside the rules of
//! others.
//!
//! One thread, no clock and no chance but the seed's: minutes of a run take milliseconds. A closed
//! loop keeps as many rows in flight as the rule says until there are no more.

#![cfg(test)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

#[path = "../../benches/plots/chart.rs"]
mod chart;

use chart::{Line, Panel, Stroke};

use super::adaptive::Adaptive;
use super::bucket::Nanos;
use super::learned_rate::SECOND;

/// How the time of an answer grows with what is in flight.
#[derive(Clone, Copy, Debug)]
enum Load {
    Free,
    /// In proportion above this number: the throughput stays what it was there.
    Linear(f64),
    /// To a multiple above this number.
    Step(f64, f64),
    /// From the first on; at this number it has doubled.
    Smooth(f64),
    /// So many are worked on, and the others wait in line.
    Line(usize),
    /// With the square above this number: the throughput falls.
    Square(f64),
}

#[derive(Clone, Debug)]
struct Server {
    load: Load,
    /// The standard deviation of the logarithm of the time that a row takes alone. The median is a
    /// second.
    spread: f64,
    /// The same for all rows, from one time to another, in seconds.
    slow: Option<(f64, f64, f64)>,
    /// What the last rows take more than the first.
    longer: f64,
    /// What the limiter admits in a second.
    rate: Option<f64>,
    busy_until: BinaryHeap<Reverse<Nanos>>,
}

/// The 99th percentile is ten times the median.
const WIDE: f64 = 0.99;

impl Server {
    fn new(load: Load, spread: f64) -> Self {
        Self {
            load,
            spread,
            slow: None,
            longer: 1.0,
            rate: None,
            busy_until: BinaryHeap::new(),
        }
    }

    /// How long the answer takes, if it begins now and so many are in flight with it.
    fn latency(
        &mut self,
        in_flight: usize,
        now: Nanos,
        done: f64,
        chance: &mut fastrand::Rng,
    ) -> Nanos {
        let normal = (-2.0 * (1.0 - chance.f64()).ln()).sqrt()
            * (std::f64::consts::TAU * chance.f64()).cos();
        let mut alone = (self.spread * normal).exp() * self.longer.powf(done);
        if let Some((from, to, times)) = self.slow
            && (from..to).contains(&(now as f64 / SECOND as f64))
        {
            alone *= times;
        }
        let at_once = in_flight as f64;
        let times = match self.load {
            Load::Free => 1.0,
            Load::Linear(above) => (at_once / above).max(1.0),
            Load::Step(above, times) => {
                if at_once > above {
                    times
                } else {
                    1.0
                }
            }
            Load::Smooth(doubled) => 1.0 + at_once / doubled,
            Load::Square(above) => (at_once / above).max(1.0).powi(2),
            Load::Line(workers) => {
                let from = if self.busy_until.len() < workers {
                    now
                } else {
                    self.busy_until.pop().map_or(now, |it| it.0.max(now))
                };
                let end = from + nanos(alone);
                self.busy_until.push(Reverse(end));
                return end - now;
            }
        };
        nanos(alone * times)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within years"
)]
fn nanos(seconds: f64) -> Nanos {
    (seconds * SECOND as f64) as Nanos
}

/// Says how many may be in flight.
trait Rule {
    fn now(&mut self, time: Nanos) -> usize;
    /// When that may grow, if nothing is answered until then.
    fn grows_at(&self) -> Option<Nanos> {
        None
    }
    fn began(&mut self, _in_flight: usize, _time: Nanos) -> u32 {
        0
    }
    /// An answer, so long after a start; so many are left in flight.
    fn ended(&mut self, _began: u32, _latency: Nanos, _left: usize, _time: Nanos) {}
}

impl Rule for usize {
    fn now(&mut self, _: Nanos) -> usize {
        *self
    }
}

impl Rule for Adaptive {
    fn now(&mut self, time: Nanos) -> usize {
        self.grow(time);
        Adaptive::now(self)
    }
    fn grows_at(&self) -> Option<Nanos> {
        Adaptive::grows_at(self)
    }
    fn began(&mut self, in_flight: usize, time: Nanos) -> u32 {
        Adaptive::began(self, in_flight, time)
    }
    fn ended(&mut self, began: u32, latency: Nanos, _: usize, _: Nanos) {
        Adaptive::ended(self, began, Some(latency));
    }
}

const LOW: f64 = 4.0;
const HIGH: f64 = 200.0;

/// One more for each answer, and a tenth fewer for one that takes twice the mean of the last fifty:
/// Netflix's `AIMDLimit`, whose time-out nobody can know beforehand.
struct Aimd {
    number: f64,
    mean: f64,
}

impl Rule for Aimd {
    fn now(&mut self, _: Nanos) -> usize {
        whole(self.number)
    }
    fn ended(&mut self, _: u32, latency: Nanos, left: usize, _: Nanos) {
        let latency = latency as f64;
        self.mean = if self.mean == 0.0 {
            latency
        } else {
            0.98 * self.mean + 0.02 * latency
        };
        if latency > 2.0 * self.mean {
            self.number *= 0.9;
        } else if 2 * (left + 1) >= whole(self.number) {
            self.number += 1.0;
        }
        self.number = self.number.clamp(LOW, HIGH);
    }
}

/// The mean of ten answers and a second at least.
#[derive(Default)]
struct Window {
    sum: f64,
    answers: u32,
    since: Nanos,
}

impl Window {
    fn note(&mut self, latency: Nanos, time: Nanos) -> Option<f64> {
        self.sum += latency as f64;
        self.answers += 1;
        if self.answers < 10 || time - self.since < SECOND {
            return None;
        }
        let mean = self.sum / f64::from(self.answers);
        *self = Self {
            since: time,
            ..Self::default()
        };
        Some(mean)
    }
}

/// Netflix's `Gradient2Limit` with its defaults: the latency is held against its mean of 600
/// windows.
struct Gradient {
    number: f64,
    window: Window,
    windows: f64,
    long: f64,
    peak: usize,
}

impl Rule for Gradient {
    fn now(&mut self, _: Nanos) -> usize {
        whole(self.number)
    }
    fn began(&mut self, in_flight: usize, _: Nanos) -> u32 {
        self.peak = self.peak.max(in_flight);
        0
    }
    fn ended(&mut self, _: u32, latency: Nanos, _: usize, time: Nanos) {
        let Some(short) = self.window.note(latency, time) else {
            return;
        };
        self.windows += 1.0;
        let weight = if self.windows <= 10.0 {
            1.0 / self.windows
        } else {
            2.0 / 601.0
        };
        self.long += (short - self.long) * weight;
        if self.long / short > 2.0 {
            self.long *= 0.95;
        }
        if 2 * std::mem::take(&mut self.peak) < whole(self.number) {
            return;
        }
        let gradient = (1.5 * self.long / short).clamp(0.5, 1.0);
        self.number = (0.8 * self.number + 0.2 * (self.number * gradient + 4.0)).clamp(LOW, HIGH);
    }
}

/// As in TCP Vegas: the least latency is that of an empty server, and the rest is its queue.
struct Vegas {
    number: f64,
    window: Window,
    least: f64,
}

impl Rule for Vegas {
    fn now(&mut self, _: Nanos) -> usize {
        whole(self.number)
    }
    fn ended(&mut self, _: u32, latency: Nanos, _: usize, time: Nanos) {
        let Some(mean) = self.window.note(latency, time) else {
            return;
        };
        self.least = self.least.min(mean);
        let queue = self.number * (1.0 - self.least / mean);
        let unit = (self.number + 1.0).log10();
        self.number += match queue / unit {
            it if it <= 1.0 => 6.0 * unit,
            it if it < 3.0 => unit,
            it if it > 6.0 => -unit,
            _ => 0.0,
        };
        self.number = self.number.clamp(LOW, HIGH);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "up to 200"
)]
fn whole(number: f64) -> usize {
    number as usize
}

/// What came of a run: rows a second, and how many were in flight in the mean and at the end.
#[derive(Debug)]
struct Came {
    rate: f64,
    in_flight: f64,
    last: usize,
}

fn run(rule: &mut dyn Rule, server: &Server, rows: usize, seed: u64) -> Came {
    let (mut server, mut chance) = (server.clone(), fastrand::Rng::with_seed(seed));
    let mut events: BinaryHeap<Reverse<(Nanos, usize, Nanos, u32)>> = BinaryHeap::new();
    let (mut now, mut free_at, mut area): (Nanos, Nanos, f64) = (0, 0, 0.0);
    let (mut begun, mut done) = (0, 0);
    while done < rows {
        while begun < rows && begun - done < rule.now(now) && free_at <= now {
            if let Some(rate) = server.rate {
                free_at = free_at.max(now) + nanos(1.0 / rate);
            }
            begun += 1;
            let in_flight = begun - done;
            let share = done as f64 / rows as f64;
            let end = now + server.latency(in_flight, now, share, &mut chance);
            let round = rule.began(in_flight, now);
            events.push(Reverse((end, begun, now, round)));
        }
        let is_full = begun - done >= rule.now(now);
        let sooner = if is_full {
            rule.grows_at()
        } else {
            Some(free_at)
        };
        let sooner = sooner.filter(|at| *at > now && begun < rows);
        let first = events.peek().map(|it| it.0.0);
        let next = [sooner, first].into_iter().flatten().min().unwrap_or(now);
        area += (begun - done) as f64 * (next - now) as f64;
        now = next;
        if first == Some(now)
            && let Some(Reverse((_, _, since, round))) = events.pop()
        {
            done += 1;
            rule.ended(round, now - since, begun - done, now);
        }
    }
    Came {
        rate: rows as f64 * SECOND as f64 / now as f64,
        in_flight: area / now as f64,
        last: rule.now(now),
    }
}

fn adaptive() -> Adaptive {
    Adaptive::new((4..=200).into(), 4)
}

/// The throughput ÷ that of a fixed number, and how many were in flight: the means over some seeds.
fn beside(fixed: usize, server: &Server, rows: usize) -> (f64, f64) {
    const SEEDS: u64 = 6;
    let runs = (1..=SEEDS).map(|seed| {
        let best = run(&mut { fixed }, server, rows, seed).rate;
        let came = run(&mut adaptive(), server, rows, seed);
        (came.rate / best, came.in_flight)
    });
    let sum = runs.fold((0.0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    (sum.0 / SEEDS as f64, sum.1 / SEEDS as f64)
}

#[test]
fn it_is_as_fast_as_the_best_number_and_stays_near_it() {
    for (spread, least, most) in [(0.0, 0.95, 60.0), (0.3, 0.93, 60.0), (WIDE, 0.88, 100.0)] {
        let server = Server::new(Load::Linear(40.0), spread);
        let (rate, in_flight) = beside(40, &server, 12_000);
        assert!(rate >= least, "spread {spread}: {rate}");
        assert!(
            (30.0..most).contains(&in_flight),
            "spread {spread}: {in_flight}"
        );
    }
}

#[test]
fn it_reaches_the_top_of_a_server_with_room_whatever_the_latencies() {
    let slow_minute = Server {
        slow: Some((60.0, 120.0, 3.0)),
        ..Server::new(Load::Free, WIDE)
    };
    let longer_and_longer = Server {
        longer: 5.0,
        ..Server::new(Load::Free, WIDE)
    };
    for (server, least) in [
        (Server::new(Load::Free, 0.0), 0.8),
        (Server::new(Load::Free, WIDE), 0.85),
        (slow_minute, 0.8),
        (longer_and_longer, 0.85),
        (Server::new(Load::Step(40.0, 2.0), 0.0), 0.8),
    ] {
        let (rate, _) = beside(200, &server, 12_000);
        assert!(rate >= least, "{server:?}: {rate}");
    }
}

#[test]
fn a_latency_that_rises_once_stops_nobody_in_any_run() {
    for spread in [0.1, 0.3, WIDE] {
        let server = Server::new(Load::Step(40.0, 2.0), spread);
        for seed in 1..=60 {
            let best = run(&mut 200_usize, &server, 6_000, seed).rate;
            let share = run(&mut adaptive(), &server, 6_000, seed).rate / best;
            assert!(share >= 0.85, "spread {spread}, seed {seed}: {share}");
        }
    }
}

#[test]
fn a_number_that_loses_throughput_is_followed_by_no_higher_one() {
    for spread in [0.0, 0.1, 0.3] {
        let (rule, said) = (Box::new(adaptive()), Vec::new());
        let mut traced = Traced { rule, said };
        let server = Server::new(Load::Square(40.0), spread);
        run(&mut traced, &server, 2_000, 1);
        let highest = traced.said.iter().map(|said| said.1).fold(0.0, f64::max);
        assert!(highest <= 108.0, "spread {spread}: {highest}");
    }
}

#[test]
fn a_number_that_is_not_used_does_not_grow() {
    let server = Server {
        rate: Some(10.0),
        ..Server::new(Load::Free, 0.3)
    };
    let came = run(&mut adaptive(), &server, 5_000, 1);
    assert!(came.rate > 9.9, "{came:?}");
    assert!(came.last <= 40, "{came:?}");
}

#[test]
fn without_an_answer_it_grows_by_the_low_end_each_second() {
    let mut rule = adaptive();
    assert_eq!(rule.grows_at(), None, "nothing has begun");
    Rule::began(&mut rule, 1, SECOND);
    assert_eq!(rule.grows_at(), Some(2 * SECOND));
    assert_eq!(Rule::now(&mut rule, 2 * SECOND - 1), 4);
    assert_eq!(Rule::now(&mut rule, 2 * SECOND), 8);
    assert_eq!(Rule::now(&mut rule, 4 * SECOND), 16);
    Adaptive::ended(&mut rule, 0, Some(SECOND));
    assert_eq!((rule.grows_at(), Adaptive::now(&rule)), (None, 16));
}

#[test]
fn a_try_that_is_refused_is_taken_back() {
    let mut rule = adaptive();
    let mut in_flight = 0;
    while Adaptive::now(&rule) < 36 {
        let began = Rule::began(&mut rule, in_flight + 1, 0);
        in_flight = (in_flight + 1).min(Adaptive::now(&rule) - 1);
        Adaptive::ended(&mut rule, began, Some(SECOND));
    }
    rule.refused();
    assert_eq!(Adaptive::now(&rule), 12);
    rule.refused();
    assert_eq!(Adaptive::now(&rule), 12, "nothing higher is tried");
}

type Named = (&'static str, fn() -> Box<dyn Rule>);

const RULES: [Named; 4] = [
    ("AIMD", || {
        Box::new(Aimd {
            number: LOW,
            mean: 0.0,
        })
    }),
    ("Gradient2", || {
        Box::new(Gradient {
            number: LOW,
            window: Window::default(),
            windows: 0.0,
            long: 0.0,
            peak: 0,
        })
    }),
    ("Vegas", || {
        Box::new(Vegas {
            number: LOW,
            window: Window::default(),
            least: f64::MAX,
        })
    }),
    ("ours", || Box::new(adaptive())),
];

/// The guide's table: `cargo test --release --lib adaptive_trial -- --ignored --nocapture`.
#[test]
#[ignore = "for figures"]
fn figures() {
    const SEEDS: u64 = 8;
    let free = || Server::new(Load::Free, WIDE);
    let cases = [
        ("no limit, all alike", Server::new(Load::Free, 0.0), 8_000),
        ("no limit", free(), 12_000),
        (
            "no limit, a slow minute",
            Server {
                slow: Some((60.0, 120.0, 3.0)),
                ..free()
            },
            24_000,
        ),
        (
            "no limit, longer and longer",
            Server {
                longer: 5.0,
                ..free()
            },
            12_000,
        ),
        (
            "a rate of 30/s",
            Server {
                rate: Some(30.0),
                ..free()
            },
            6_000,
        ),
        (
            "linear above 40, all alike",
            Server::new(Load::Linear(40.0), 0.0),
            8_000,
        ),
        (
            "linear above 40",
            Server::new(Load::Linear(40.0), WIDE),
            12_000,
        ),
        (
            "40 workers and a queue",
            Server::new(Load::Line(40), WIDE),
            12_000,
        ),
        (
            "twice above 40",
            Server::new(Load::Step(40.0, 2.0), WIDE),
            12_000,
        ),
        (
            "rising from the first",
            Server::new(Load::Smooth(40.0), WIDE),
            12_000,
        ),
        (
            "square above 40",
            Server::new(Load::Square(40.0), WIDE),
            12_000,
        ),
        ("no limit, 400 rows", free(), 400),
        (
            "linear above 40, 400 rows",
            Server::new(Load::Linear(40.0), WIDE),
            400,
        ),
    ];
    let twenty: Named = ("20", || Box::new(20_usize));
    let rules: Vec<_> = RULES.into_iter().chain([twenty]).collect();
    for (name, server, rows) in cases {
        let mean = |make: &dyn Fn() -> Box<dyn Rule>| {
            let came = (1..=SEEDS).map(|seed| run(&mut *make(), &server, rows, seed));
            let (rate, at_once) = came.fold((0.0, 0.0), |sum, it| {
                (sum.0 + it.rate, sum.1 + it.in_flight)
            });
            (rate / SEEDS as f64, at_once / SEEDS as f64)
        };
        let numbers = [4, 8, 16, 20, 28, 40, 50, 64, 90, 128, 200_usize];
        let tried = numbers.map(|number| (mean(&|| Box::new(number)).0, number));
        let best = tried.into_iter().fold(
            (0.0, 0),
            |best, it| if it.0 > 1.01 * best.0 { it } else { best },
        );
        let mut line = format!("| {name} | {:.0}/s at {} |", best.0, best.1);
        for (_, make) in &rules {
            let (rate, at_once) = mean(make);
            let _ = write!(line, " {:.2}, {at_once:.0} |", rate / best.0);
        }
        line += "\n";
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    }
}

/// A rule and what it said, over time.
struct Traced {
    rule: Box<dyn Rule>,
    said: Vec<(f64, f64)>,
}

impl Rule for Traced {
    fn now(&mut self, time: Nanos) -> usize {
        let now = self.rule.now(time);
        self.said.push((time as f64 / SECOND as f64, now as f64));
        now
    }
    fn grows_at(&self) -> Option<Nanos> {
        self.rule.grows_at()
    }
    fn began(&mut self, in_flight: usize, time: Nanos) -> u32 {
        self.rule.began(in_flight, time)
    }
    fn ended(&mut self, began: u32, latency: Nanos, left: usize, time: Nanos) {
        self.rule.ended(began, latency, left, time);
    }
}

/// The guide's plot. The bench `plots` asks for it.
#[test]
#[ignore = "writes into the source tree"]
fn plot() {
    const END: f64 = 120.0;
    let panel = |title: &str, load: Load| {
        let line = |(name, make): Named, stroke| {
            let (rule, said) = (make(), Vec::new());
            let mut traced = Traced { rule, said };
            run(&mut traced, &Server::new(load, 0.3), 30_000, 1);
            // The last of each half second, and all that is drawn.
            let halves = |said: &(f64, f64)| nanos(2.0 * said.0) / SECOND;
            let said = traced
                .said
                .chunk_by(|one, next| halves(one) == halves(next));
            let points = said.filter_map(<[_]>::last).copied();
            let points = points.take_while(|(time, _)| *time <= END).collect();
            Line {
                name,
                stroke,
                points,
            }
        };
        let best = match load {
            Load::Free => HIGH,
            _ => 40.0,
        };
        let given = Line {
            name: "the best number",
            stroke: Stroke::Given,
            points: vec![(0.0, best), (END, best)],
        };
        let [aimd, gradient, _, ours] = RULES;
        let lines = [
            (aimd, Stroke::Red),
            (gradient, Stroke::Blue),
            (ours, Stroke::Green),
        ];
        let lines = lines.map(|(rule, stroke)| line(rule, stroke));
        Panel {
            title: title.to_owned(),
            lines: [given].into_iter().chain(lines).collect(),
        }
    };
    let panels = [
        panel("latency in proportion above 40", Load::Linear(40.0)),
        panel("no limit", Load::Free),
    ];
    let svg = chart::svg(
        "The number in flight, found by three rules within 4 to 200",
        "AIMD goes to 200 on both servers and Gradient2 is slow. The rule of this crate finds both numbers.",
        ("seconds", "in flight"),
        &panels,
    );
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/_guide/plots/range.svg");
    std::fs::write(file, svg).unwrap();
}
