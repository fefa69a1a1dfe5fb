//! The plots of the guide: what a client learns of a provider's limits, second by second.
//!
//! `cargo bench --features sim --bench plots` draws them anew, into `src/_guide/plots`. The runs are
//! those of `tests/learned`, on the virtual clock against the simulated provider, which does the
//! counting. Two runs differ a little, as threads do.

#[path = "../common/mod.rs"]
pub mod common;

mod chart;
#[path = "../../tests/learned/harness.rs"]
#[allow(dead_code, reason = "its other half is for tests")]
mod harness;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use chart::{Line, Panel, Stroke};
use harness::{Case, Run, count};
use tollgate::ClientBuilder;

const AXES: (&str, &str) = ("seconds", "requests a second");

/// A panel: its title, what the provider does besides, clients, and what is configured.
type Shown = (
    &'static str,
    &'static str,
    usize,
    fn(ClientBuilder) -> ClientBuilder,
);

fn main() {
    if !common::measuring() {
        // That it works, and nothing is written.
        let panel = panel(("short", "", 1, |it| it), 50, 2, |_| 50.0);
        assert!(chart::svg("short", "short", AXES, &[panel]).ends_with("</svg>\n"));
        return;
    }
    let constant = |_| 50.0;
    let panels: [Shown; 4] = [
        ("nothing set, headers", "", 1, |it| it),
        ("nothing set, 429s only", ",headers=none", 1, |it| it),
        ("twice the limit set, headers", "", 1, |it| {
            it.requests_per_second(100)
        }),
        ("twice the limit set, 429s only", ",headers=none", 1, |it| {
            it.requests_per_second(100)
        }),
    ];
    write(
        "limits",
        "A limit of 50 a second is found",
        "The rate admitted is close to 50 a second after a few seconds, with few refusals.",
        &panels.map(|shown| panel(shown, 50 * 60, 60, constant)),
    );
    let cut = |second| {
        if (20.0..40.0).contains(&second) {
            16.5
        } else {
            50.0
        }
    };
    let panels: [Shown; 2] = [
        ("headers", ",cut=20s-40s@0.33", 1, |it| it),
        ("429s only", ",headers=none,cut=20s-40s@0.33", 1, |it| it),
    ];
    write(
        "cut",
        "A limit that is cut to a third for 20 s is followed, down and up",
        "The rate admitted falls to a third at 20 s and comes back after 40 s.",
        &panels.map(|shown| panel(shown, 50 * 76, 90, cut)),
    );
    let panels: [Shown; 2] = [
        ("headers", "", 2, |it| it),
        ("429s only", ",headers=none", 2, |it| it),
    ];
    write(
        "two",
        "Two processes that share a limit and do not know of each other",
        "The sum of what is admitted is close to 50 a second.",
        &panels.map(|shown| panel(shown, 50 * 60, 60, constant)),
    );
    // The rule for the number in flight is no part of the public API: its own trial draws it.
    let mut trial = Command::new(env!("CARGO"));
    trial.args(["test", "--features", "sim", "--lib"]);
    trial.args(["adaptive_trial::plot", "--", "--ignored"]);
    assert!(trial.status().is_ok_and(|status| status.success()));
}

/// A run of `rows` rows, of which the first `seconds` are shown, under the limit that `limit` gives.
fn panel(
    (title, more, clients, configure): Shown,
    rows: usize,
    seconds: u32,
    limit: impl Fn(f64) -> f64,
) -> Panel {
    let run = Case {
        spec: &format!("latency=100ms,rps=50,burst=10{more}"),
        rows: rows / clients,
        clients,
        configure: &configure,
    }
    .run();
    // From there on a client less sends, or none.
    let end = f64::from(seconds).min(run.first_end.min(run.last()).as_secs_f64().floor());
    let line = |name, stroke, points: Vec<(f64, f64)>| Line {
        name,
        stroke,
        points: points.into_iter().filter(|(x, _)| *x <= end).collect(),
    };
    let tenths = (0..=seconds * 10).map(|tenth| f64::from(tenth) / 10.0);
    let refused = |second| count(&run.stats.refusals, second, second + SECOND) as f64;
    let admitted = |second| run.admitted(second, second + SECOND);
    let learned = if clients == 1 {
        "learned"
    } else {
        "learned by the first"
    };
    Panel {
        title: title.to_owned(),
        lines: vec![
            line(
                "limit",
                Stroke::Given,
                corners(tenths.map(|x| (x, limit(x)))),
            ),
            line("admitted", Stroke::Green, each_second(seconds, &admitted)),
            line("refused", Stroke::Red, each_second(seconds, &refused)),
            line(learned, Stroke::Blue, corners(steps(&run, end))),
        ],
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// What is counted in each second, drawn at its middle.
fn each_second(seconds: u32, count: &dyn Fn(Duration) -> f64) -> Vec<(f64, f64)> {
    let point = |second: u32| (f64::from(second) + 0.5, count(SECOND * second));
    (0..seconds).map(point).collect()
}

/// The learned limit, which holds until it changes. Before the first there is none to draw.
fn steps(run: &Run, end: f64) -> impl Iterator<Item = (f64, f64)> {
    let known = run.learned.iter().filter(|(_, rate)| *rate > 0.0);
    // A first guess may be ten times the limit, for milliseconds: it would dwarf all that follows.
    let point = |(at, rate): &(Duration, f64)| (at.as_secs_f64(), rate.min(100.0));
    let points: Vec<_> = known.map(point).collect();
    let mut steps = Vec::new();
    for (index, (at, rate)) in points.iter().enumerate() {
        let until = points.get(index + 1).map_or(end, |(next, _)| *next);
        steps.extend([(*at, *rate), (until, *rate)]);
    }
    steps.into_iter()
}

/// Leaves out what is on a straight line, or too near the last point to be seen.
fn corners(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (x, y) in points {
        if let [.., (_, before), (last, same)] = kept[..]
            && (same - y).abs() < 0.3
            && ((before - y).abs() < 0.3 || x - last < 0.1)
        {
            kept.pop();
            kept.push((x, same));
        } else {
            kept.push((x, y));
        }
    }
    kept
}

fn write(name: &str, title: &str, what: &str, panels: &[Panel]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/_guide/plots");
    let file = folder.join(name).with_extension("svg");
    let svg = chart::svg(title, what, AXES, panels);
    println!("{}: {} bytes", file.display(), svg.len());
    fs::write(file, svg).expect("the source tree is writable");
}
