//! The figures of the cases that are no plain limit: one that changes, or is shared, or is none of pace.

use std::time::Duration;

use crate::harness::{Case, Run, count, median_and_worst, run};
use crate::s;
use crate::table::{RATES, head, is_asked, seeds, wanted};

/// A limit that is cut to a third for 30 s, or 60 s, and restored.
pub(crate) fn cut() {
    if !wanted("cut") {
        return;
    }
    head(&[
        "cut to a third and restored",
        "limit",
        "followed down in",
        "and up in",
        "refused meanwhile",
        "attempts",
    ]);
    for more in ["headers=openai", "headers=none", "headers=none,hints=none"] {
        for rate in RATES {
            let (from, to, end) = if rate == 2 {
                (60, 150, 270)
            } else {
                (20, 50, 90)
            };
            let spec = format!(
                "latency=100ms,rps={rate},burst={},cut={from}s-{to}s@0.33,{more}",
                (rate / 5).max(1)
            );
            let rows = rate * (from + (to - from) / 3 + end - to);
            let run = run(&spec, usize::try_from(rows).unwrap(), |it| it);
            let refused = run.refused(s(from), s(to)) * 100.0;
            let per_second = rate as f64;
            // What is sent then is at most that much above the limit, and what is let in that near to it.
            let down = follows(&run, s(from), rate, |sent, _| {
                sent <= 1.15 * per_second / 3.0
            });
            let up = follows(&run, s(to), rate, |_, admitted| {
                admitted >= 0.9 * per_second
            });
            let attempts = run.attempts;
            println!("| {more} | {rate}/s | {down} | {up} | {refused:.1} % | {attempts} |");
        }
    }
}

/// How long after `from` a span of 2 s (at 2 a second, of 10 s) begins that is as it should be.
fn follows(
    run: &Run,
    from: Duration,
    rate: u64,
    is_as_it_should: impl Fn(f64, f64) -> bool,
) -> String {
    let span = if rate < 10 { s(10) } else { s(2) };
    let tenths = (0..).map(|tenth| from + Duration::from_millis(100 * tenth));
    let mut starts = tenths.take_while(|start| *start + span <= run.last());
    let fits = |start: &Duration| {
        let (start, end) = (*start, *start + span);
        let sent = count(&run.stats.arrivals, start, end) as f64 / span.as_secs_f64();
        is_as_it_should(sent, run.admitted(start, end))
    };
    match starts.find(fits) {
        Some(start) => format!("{:.1} s", start.saturating_sub(from).as_secs_f64()),
        None => "never".to_owned(),
    }
}

/// Two clients with one key.
pub(crate) fn two() {
    if !wanted("two") {
        return;
    }
    head(&[
        "two processes on one key",
        "limit",
        "sum ÷ limit",
        "refused",
        "the smaller share",
        "attempts",
        "new before a refused row",
    ]);
    for more in [
        "headers=openai",
        "headers=none",
        "headers=none,hints=none",
        "headers=none,refused=count",
    ] {
        for rate in RATES.into_iter().filter(|rate| is_asked(*rate)) {
            // Where refused requests count, both starts owe a minute of a limit of two a second.
            let (from, seconds) = match rate {
                2 if more.contains("refused=count") => (s(100), 400),
                2 => (s(10), 100),
                _ => (s(10), 40),
            };
            let burst = (rate / 5).max(1);
            let (mut least, mut refused, mut share) = (f64::INFINITY, 0.0_f64, 1.0_f64);
            let (mut attempts, mut passed) = (0, Vec::new());
            for seed in 1..=seeds() {
                let run = Case {
                    spec: &format!("latency=100ms,rps={rate},burst={burst},{more},seed={seed}"),
                    rows: usize::try_from(rate * seconds / 2).unwrap(),
                    clients: 2,
                    configure: &|it| it,
                }
                .run();
                let (lesser, all) = (run.done.iter().min().unwrap(), run.done.iter().sum::<u64>());
                least = least.min(run.admitted(from, run.first_end) / rate as f64);
                refused = refused.max(run.refused(from, run.first_end) * 100.0);
                share = share.min(*lesser as f64 / all as f64);
                attempts = attempts.max(run.attempts);
                passed.extend(run.passed);
            }
            passed.sort_unstable();
            let passed = median_and_worst(&passed);
            println!(
                "| {more} | {rate}/s | {least:.2} | {refused:.1} % | {share:.2} | {attempts} | {passed} |"
            );
        }
    }
}

pub(crate) fn outage() {
    if !wanted("outage") {
        return;
    }
    head(&[
        "10,000 rows through 5 minutes of 503",
        "lost",
        "sent meanwhile",
        "attempts",
        "going again after",
    ]);
    for more in ["", ",rps=50,burst=10", ",rps=50,burst=10,headers=none"] {
        let spec = format!("latency=100ms{more},cut=10s-310s@0");
        let run = run(&spec, 10_000, |it| it);
        let meanwhile = count(&run.stats.arrivals, s(10), s(310));
        let again = run.stats.arrivals.iter().find(|at| **at >= s(310));
        let again = again.map_or(0.0, |at| at.as_secs_f64() - 310.0);
        println!(
            "| `{spec}` | {} | {meanwhile} | {} | {again:.1} s |",
            run.failed, run.attempts
        );
    }
}

pub(crate) fn strays() {
    if !wanted("strays") {
        return;
    }
    head(&[
        "429s by chance, retry-after: 1",
        "throughput ÷ without them",
        "attempts",
    ]);
    let without = run("latency=100ms", 20_000, |it| it).took.as_secs_f64();
    for share in ["0.01", "0.05"] {
        let run = run(&format!("latency=100ms,strays={share}"), 20_000, |it| it);
        let ratio = without / run.took.as_secs_f64();
        println!("| {share} | {ratio:.2} | {} |", run.attempts);
    }
}

/// A limit of 3 at once, with refusals that ask for a minute, a second or nothing.
pub(crate) fn places() {
    if !wanted("places") {
        return;
    }
    head(&[
        "3 at once, started with 20",
        "wall",
        "with -c 3",
        "÷",
        "÷ after the first minute",
        "refused",
        "attempts",
    ]);
    for places in [
        "places=3@60s",
        "places=3@60s,hints=s",
        "places=3@1s,hints=s",
        "places=3",
    ] {
        let spec = format!("latency=1s,jitter=0.3,headers=none,{places}");
        let three = run(&spec, 600, |it| it.concurrency(3)).took.as_secs_f64();
        let run = run(&spec, 600, |it| it.concurrency(20));
        let wall = run.took.as_secs_f64();
        // What three at once need for the rows that are left after a minute.
        let left = (600.0 - run.admitted(s(0), s(60)) * 60.0) / 600.0;
        let after = (wall - 60.0) / (left * three);
        println!(
            "| {places} | {wall:.0} s | {three:.0} s | {:.2} | {after:.2} | {:.1} % | {} |",
            wall / three,
            run.refused(s(0), Duration::MAX) * 100.0,
            run.attempts,
        );
    }
}

/// A server whose latency rises above 40 at once.
pub(crate) fn load() {
    if !wanted("load") {
        return;
    }
    head(&[
        "latency rises above 40 at once",
        "concurrency",
        "a second",
        "÷ the best fixed",
        "at once",
    ]);
    for load in ["load=40", "load=40@2"] {
        let spec = format!("latency=500ms,{load}");
        let rate = |run: &Run| run.stats.answered as f64 / run.took.as_secs_f64();
        let fixed = [20, 40, 80, 200].map(|at_once| {
            let run = run(&spec, 6_000, |it| it.concurrency(at_once));
            (at_once.to_string(), rate(&run), run.at_once())
        });
        let best = fixed.iter().map(|(_, rate, _)| *rate).fold(0.0, f64::max);
        let run = run(&spec, 6_000, |it| it.concurrency(4..=200));
        let found = ("4-200".to_owned(), rate(&run), run.at_once());
        for (concurrency, rate, at_once) in fixed.into_iter().chain([found]) {
            let share = rate / best;
            println!("| {load} | {concurrency} | {rate:.1} | {share:.2} | {at_once:.1} |");
        }
    }
}

/// Answers of which one in a hundred takes ten times the median, with hedging and without. Each is the mean
/// of eight seeds.
pub(crate) fn stragglers() {
    if !wanted("stragglers") {
        return;
    }
    head(&[
        "rows",
        "at once",
        "wall",
        "with hedging",
        "÷",
        "requests more",
    ]);
    for (rows, at_once) in [
        (50, 50),
        (100, 100),
        (200, 20),
        (1_000, 20),
        (1_000, 100),
        (1_000, 500),
    ] {
        let mean = |hedge| {
            let runs = (1_u64..=8).map(|seed| {
                let spec = format!("latency=163ms,jitter=1.29,seed={seed}");
                let run = run(&spec, rows, |it| it.concurrency(at_once).hedge(hedge));
                (run.took.as_secs_f64() / 8.0, run.stats.arrivals.len())
            });
            runs.fold((0.0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1))
        };
        let ((wall, sent), (hedged, more)) = (mean(false), mean(true));
        println!(
            "| {rows} | {at_once} | {wall:.2} s | {hedged:.2} s | {:.2} | {:.1} % |",
            hedged / wall,
            (more as f64 / sent as f64 - 1.0) * 100.0,
        );
    }
}
