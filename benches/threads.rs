//! Leader and followers against every worker waiting at the limiter.
//!
//! The alternative is the obvious pool: as many threads as are allowed in flight, each of which
//! waits for a permit, makes its request, and comes back. It is written out here over the public
//! [`Limiter`]. It has no retries, results, progress or panics to keep apart, which the pool has at
//! every request; how much of the difference is that, `benches/costs/pool.rs` tells, whose jobs do
//! nothing. A request here is a sleep: what matters is what the threads cost beside the network. Run
//! with `cargo bench --bench threads`; a harness of its own, for it counts threads and CPU; the
//! figures are medians of three rounds.

#[path = "common/mod.rs"]
pub mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use common::{cpu, measuring, median};
use tollgate::{Cost, Limiter, Monitor, Pool, Rate};

const ROUNDS: usize = 3;

struct Load {
    name: &'static str,
    concurrency: usize,
    per_second: Option<u64>,
    latency: Duration,
    requests: usize,
}

impl Load {
    /// As it is when it is measured; a tenth of it, or less, when it is only to be seen to work.
    fn sized(self) -> Self {
        if measuring() {
            return self;
        }
        Self {
            requests: self.requests.min(2_000) / 10,
            latency: self.latency / 10,
            ..self
        }
    }

    fn limiter(&self) -> Limiter {
        let mut limiter = Limiter::builder().concurrency(self.concurrency);
        if let Some(rate) = self.per_second {
            limiter = limiter.requests(Rate::per_second(rate));
        }
        limiter.build().expect("plain settings")
    }

    /// One request; `peak` is the most threads this process was seen with, its own among them.
    fn request(&self, peak: &AtomicUsize) {
        // At full speed the look would cost more than the request.
        if self.per_second.is_some() {
            peak.fetch_max(threads(), Ordering::Relaxed);
        }
        thread::sleep(self.latency);
    }
}

struct Round {
    wall: Duration,
    cpu: Duration,
    threads: u64,
    /// Of the whole process; 0 where it was not looked at.
    in_process: usize,
}

fn measure(run: impl FnOnce(&AtomicUsize) -> u64) -> Round {
    let peak = AtomicUsize::new(0);
    let before = cpu();
    let started = Instant::now();
    let threads = run(&peak);
    Round {
        wall: started.elapsed(),
        cpu: cpu().saturating_sub(before),
        threads,
        in_process: peak.into_inner(),
    }
}

/// Threads of this process now, all of them.
fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|count| count.trim().parse().ok())
        .expect("a count")
}

fn leader_and_followers(load: &Load) -> Round {
    measure(|peak| {
        let monitor = Monitor::new();
        let pool = Pool::from_limiter(load.limiter()).expect("a concurrency is set");
        let results = pool
            .with_monitor(&monitor)
            .map(&vec![(); load.requests], |()| load.request(peak));
        assert!(results.iter().all(Result::is_ok));
        monitor.snapshot().threads_peak
    })
}

/// The same with an input that is pulled lazily, by a thread of its own.
fn lazily(load: &Load) -> Round {
    measure(|peak| {
        let monitor = Monitor::new();
        let pool = Pool::from_limiter(load.limiter()).expect("a concurrency is set");
        pool.with_monitor(&monitor)
            .task(|_: &usize, _| {
                load.request(peak);
                Ok::<(), ()>(())
            })
            .for_each(0..load.requests, |done| assert!(done.result.is_ok()))
            .expect("not nested, and threads to be had");
        monitor.snapshot().threads_peak
    })
}

fn everyone_at_the_limiter(load: &Load) -> Round {
    measure(|peak| {
        let limiter = load.limiter();
        let next = AtomicUsize::new(0);
        let mut started = 0;
        thread::scope(|scope| {
            for _ in 0..load.concurrency {
                Builder::new()
                    .stack_size(512 << 10)
                    .spawn_scoped(scope, || {
                        while next.fetch_add(1, Ordering::Relaxed) < load.requests {
                            let permit = limiter.acquire(Cost::ONE);
                            load.request(peak);
                            drop(permit);
                        }
                    })
                    .expect("a thread");
                started += 1;
            }
        });
        started
    })
}

fn main() {
    println!("| load | mechanism | wall | CPU | CPU a request | workers | in the process |");
    println!("|---|---|---|---|---|---|---|");
    let loads = [
        Load {
            name: "1,000 allowed, 10/s, 500 ms",
            concurrency: 1_000,
            per_second: Some(10),
            latency: Duration::from_millis(500),
            requests: 100,
        },
        Load {
            name: "1,000 at once, 100 ms",
            concurrency: 1_000,
            per_second: None,
            latency: Duration::from_millis(100),
            requests: 100_000,
        },
    ];
    let rounds = if measuring() { ROUNDS } else { 1 };
    for load in loads.map(Load::sized) {
        for (name, mechanism) in [
            (
                "leader and followers",
                leader_and_followers as fn(&Load) -> Round,
            ),
            ("the same, lazy input", lazily),
            ("everyone at the limiter", everyone_at_the_limiter),
        ] {
            let rounds: Vec<_> = (0..rounds).map(|_| mechanism(&load)).collect();
            let cpu = median(rounds.iter().map(|round| round.cpu).collect());
            println!(
                "| {}, {} requests | {name} | {:.3?} | {cpu:.2?} | {:.1?} | {} | {} |",
                load.name,
                load.requests,
                median(rounds.iter().map(|round| round.wall).collect()),
                cpu / u32::try_from(load.requests).unwrap_or(u32::MAX),
                rounds.iter().map(|round| round.threads).max().unwrap_or(0),
                rounds
                    .iter()
                    .map(|round| round.in_process)
                    .max()
                    .unwrap_or(0),
            );
        }
    }
}
