//! What the limiter admits, and what a grant costs.
//!
//! A harness of its own, because the questions are not "how long does this closure take": they are
//! how much was admitted in eight seconds, in which window, and for how much CPU over all threads.
//! Run with `cargo bench --bench admission`; the figures are medians of three rounds. What a grant costs
//! that is not waited for is `benches/costs/limiter.rs`.

#[path = "common/mod.rs"]
pub mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{cpu, measuring, median, sorted};
use tollgate::{Cost, Limiter, Rate};

const ROUNDS: usize = 3;
const LENGTH: Duration = Duration::from_secs(8);

struct Round {
    /// (admitted - burst) / (rate * time).
    share: f64,
    /// The most grants in any second, by readings taken right after each grant.
    worst_second: usize,
    cpu_per_grant: Duration,
    /// The fewest and the most grants that one thread got.
    fewest: usize,
    most: usize,
}

/// So many threads that want nothing but to be admitted, for so long.
fn busy(per_second: u32, threads: usize, length: Duration) -> Round {
    let limiter = Limiter::builder()
        .requests(Rate::per_second(u64::from(per_second)))
        .build()
        .expect("a plain rate");
    let burst = per_second as usize;
    let over = AtomicBool::new(false);
    let grants = Mutex::new(Vec::new());
    // Taken beforehand: else the first thread to start takes all of it, and the grants a thread would
    // say nothing about whose turn it was.
    let burst_taken: Vec<_> = (0..burst)
        .filter(|_| limiter.try_acquire(Cost::ONE).is_ok())
        .map(|_| Instant::now())
        .collect();
    let before = cpu();
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut mine = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    drop(limiter.acquire(Cost::ONE));
                    mine.push(Instant::now());
                }
                let mut grants = grants.lock().expect("no thread panics");
                grants.push(mine);
            });
        }
        thread::sleep(length);
        over.store(true, Ordering::Relaxed);
        // Those that still wait would be admitted one by one, at the rate.
        drop(limiter.set_requests(None));
    });
    let cpu = cpu().saturating_sub(before);
    let grants = grants.into_inner().expect("no thread panics");
    let counts = sorted(grants.iter().map(Vec::len).collect());
    let end = started + length;
    let in_time = grants.into_iter().flatten().filter(|at| *at < end);
    let times = sorted(burst_taken.into_iter().chain(in_time).collect());
    let waited_for = times.len().saturating_sub(burst);
    Round {
        share: waited_for as f64 / (f64::from(per_second) * length.as_secs_f64()),
        worst_second: worst_window(&times, Duration::from_secs(1)),
        cpu_per_grant: cpu / u32::try_from(waited_for.max(1)).unwrap_or(u32::MAX),
        fewest: counts[0],
        most: counts[counts.len() - 1],
    }
}

fn worst_window(times: &[Instant], window: Duration) -> usize {
    let mut first = 0;
    let mut worst = 0;
    for (last, at) in times.iter().enumerate() {
        while *at - times[first] > window {
            first += 1;
        }
        worst = worst.max(last + 1 - first);
    }
    worst
}

fn main() {
    println!(
        "| rate | threads | (admitted - burst) / (rate x time) | worst second | burst + rate | \
         CPU a grant | grants a thread |"
    );
    println!("|---|---|---|---|---|---|---|");
    let (rounds, length) = if measuring() {
        (ROUNDS, LENGTH)
    } else {
        (1, LENGTH / 100)
    };
    for (per_second, threads) in [(50, 8), (2_000, 1), (2_000, 8), (2_000, 64), (2_000, 1_000)] {
        let rounds: Vec<_> = (0..rounds)
            .map(|_| busy(per_second, threads, length))
            .collect();
        println!(
            "| {per_second}/s | {threads} | {:.4} | {} | {} | {:.1?} | {}-{} |",
            median(rounds.iter().map(|round| round.share).collect()),
            rounds
                .iter()
                .map(|round| round.worst_second)
                .max()
                .unwrap_or(0),
            2 * per_second,
            median(rounds.iter().map(|round| round.cpu_per_grant).collect()),
            rounds.iter().map(|round| round.fewest).min().unwrap_or(0),
            rounds.iter().map(|round| round.most).max().unwrap_or(0),
        );
    }
}
