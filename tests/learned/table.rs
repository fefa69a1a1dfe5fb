//! The figures of every case, as lines of Markdown:
//!
//! `cargo test --release --features sim --test learned -- --ignored --nocapture table 2>/dev/null`
//!
//! `CASES='outage;two'` leaves only cases with these words in their name, `RATES=2` only the rates
//! of limits that it names, and `SEEDS=5` tries each limit with so many seeds.

use std::fmt::Write as _;
use std::time::Duration;

use tollgate::ClientBuilder;

use crate::cases;
use crate::harness::{median_and_worst, run};
use crate::s;

type Configure = fn(ClientBuilder, u64) -> ClientBuilder;

/// Requests a second. Windows take minutes, and so many rows that the highest rate is a lower one.
pub(crate) const RATES: [u64; 3] = [2, 50, 500];
const WINDOW_RATES: [u64; 3] = [2, 50, 200];

const HEADERS: &[&str] = &[
    "headers=openai",
    "headers=azure",
    "headers=anthropic",
    "headers=openrouter",
    "headers=ietf,hints=s",
];
const HINTS: &[&str] = &[
    "headers=none",
    "headers=none,hints=s",
    "headers=none,hints=words",
    "headers=groq,hints=s",
];
const NO_HINTS: &[&str] = &["headers=none,hints=none"];
const NO_HEADERS: &[&str] = &[
    "headers=none",
    "headers=none,hints=s",
    "headers=none,hints=none",
];

/// Any figures: `SPECS='latency=100ms,rps=50,headers=none#3000'`, several with semicolons between.
#[test]
#[ignore = "for figures"]
fn figures() {
    let specs = setting("SPECS");
    for spec in specs.split(';').filter(|spec| !spec.is_empty()) {
        let (spec, rows) = spec.split_once('#').unwrap_or((spec, "1500"));
        run(spec, rows.parse().unwrap(), |builder| builder);
    }
}

#[test]
#[ignore = "takes minutes"]
fn table() {
    limits();
    cases::cut();
    cases::two();
    cases::outage();
    cases::strays();
    cases::places();
    cases::load();
    cases::stragglers();
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

pub(crate) fn is_asked(rate: u64) -> bool {
    let rates = setting("RATES");
    rates.is_empty() || rates.split(',').any(|it| it == rate.to_string())
}

pub(crate) fn seeds() -> u64 {
    setting("SEEDS").parse().unwrap_or(1)
}

/// Whether the case is asked for.
pub(crate) fn wanted(name: &str) -> bool {
    let cases = setting("CASES");
    cases.split(';').any(|words| name.contains(words))
}

pub(crate) fn head(columns: &[&str]) {
    println!(
        "\n| {} |\n|{}",
        columns.join(" | "),
        "---|".repeat(columns.len())
    );
}

/// Whose limits are known from where, and how they are judged.
fn limits() {
    let twice: Configure = |builder, rate| builder.requests_per_second(2 * rate);
    let nothing: Configure = |builder, _| builder;
    let cases: [(&str, &[&str], Configure); 6] = [
        ("twice the limit configured, headers", HEADERS, twice),
        ("twice the limit configured, no headers", NO_HEADERS, twice),
        ("nothing configured, headers", HEADERS, nothing),
        ("nothing configured, 429s with hints", HINTS, nothing),
        ("nothing configured, 429s without", NO_HINTS, nothing),
        (
            "refused requests count, no headers",
            &[
                "headers=none,refused=count",
                "headers=none,hints=none,refused=count",
            ],
            nothing,
        ),
    ];
    let is_wanted = |name: &str, judged: &str| wanted(&format!("limits: {name}, {judged}"));
    let all = cases.map(|(name, ..)| JUDGED.map(|judged| is_wanted(name, judged)));
    if all.as_flattened().contains(&true) {
        head(&["case", "judged", "2/s", "50/s", "500/s (windows: 200/s)"]);
    }
    for (name, manners, configure) in cases {
        for judged in JUDGED {
            if !is_wanted(name, judged) {
                continue;
            }
            let is_window = judged != "bucket";
            let mut line = format!("| {name} | {judged} |");
            let rates = if is_window { WINDOW_RATES } else { RATES };
            for rate in rates.into_iter().filter(|rate| is_asked(*rate)) {
                // What takes long is tried with the first two ways to tell of a limit, or with one.
                let most = match (is_window, rate) {
                    (_, 2) | (false, 50) => manners.len(),
                    (true, 50) => 2,
                    _ => 1,
                };
                let mut worst = Worst::default();
                for more in manners.iter().take(most) {
                    for spec in specs(rate, judged) {
                        for seed in 1..=seeds() {
                            let more = format!("{more},seed={seed}");
                            worst.add(&spec, &more, rate, configure);
                        }
                    }
                }
                let _ = write!(line, " {worst} |");
            }
            println!("{line}");
        }
    }
}

const JUDGED: [&str; 3] = ["bucket", "fixed minute", "sliding minute"];

fn specs(rate: u64, judged: &str) -> Vec<String> {
    if let Some((window, _)) = judged.split_once(' ') {
        return vec![format!("latency=100ms,rpm={},window={window}", rate * 60)];
    }
    let mut bursts = vec![1, (rate / 5).max(1), rate];
    bursts.dedup();
    let spec = |burst: u64| format!("latency=100ms,rps={rate},burst={burst}");
    bursts.into_iter().map(spec).collect()
}

/// The worst of several runs.
struct Worst {
    refused: f64,
    admitted: f64,
    attempts: u32,
    /// How many new rows went before each that was refused, and before those refused again.
    passed: [Vec<u64>; 2],
    failed: usize,
}

impl Default for Worst {
    fn default() -> Self {
        Self {
            refused: 0.0,
            admitted: f64::INFINITY,
            attempts: 0,
            passed: Default::default(),
            failed: 0,
        }
    }
}

impl Worst {
    fn add(&mut self, spec: &str, more: &str, rate: u64, configure: Configure) {
        let is_window = spec.contains("window");
        // One whole window after the first or three, or 20 to 100 s. Where refused requests count, the
        // 64 that start at once owe half a minute of a limit of two a second.
        let seconds = match (is_window, rate) {
            (false, 2) if more.contains("refused=count") => 400,
            (true, 200) => 140,
            (true, _) => 230,
            (_, 2) => 100,
            (_, 500) => 20,
            _ => 40,
        };
        let rows = usize::try_from(rate * seconds).unwrap();
        let run = run(&format!("{spec},{more}"), rows, |it| configure(it, rate));
        let from = if is_window { s(60) } else { s(10) };
        let to = if is_window {
            s(run.last().as_secs() / 60 * 60)
        } else {
            run.last()
        };
        self.refused = self.refused.max(run.refused(from, Duration::MAX));
        self.admitted = self.admitted.min(run.admitted(from, to) / rate as f64);
        self.attempts = self.attempts.max(run.attempts);
        self.failed += run.failed;
        for (all, passed) in self.passed.iter_mut().zip([run.passed, run.passed_again]) {
            all.extend(passed);
            all.sort_unstable();
        }
    }
}

impl std::fmt::Display for Worst {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let refused = self.refused * 100.0;
        write!(
            f,
            "{refused:.1} %, {:.2}, {} attempts, {} new before a refused row, {} before one \
             refused again",
            self.admitted,
            self.attempts,
            median_and_worst(&self.passed[0]),
            median_and_worst(&self.passed[1]),
        )?;
        match self.failed {
            0 => Ok(()),
            failed => write!(f, ", {failed} FAILED"),
        }
    }
}
