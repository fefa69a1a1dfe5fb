//! What a client learns of a provider's limits, on the virtual clock and counted by the provider.

#![cfg(feature = "sim")]

use std::io::Write as _;
use std::process::abort;
use std::thread;
use std::time::{Duration, Instant};

use tollgate::sim::{SimServer, SimStats};
use tollgate::{Client, ClientBuilder, Monitor, Retry, VirtualClock};

/// What became of a run.
struct Run {
    stats: SimStats,
    took: Duration,
    /// The most attempts at one row.
    attempts: u32,
    failed: usize,
}

impl Run {
    /// The share of requests that were refused after `from`.
    fn refused(&self, from: Duration) -> f64 {
        let after = |times: &[Duration]| times.iter().filter(|at| **at >= from).count() as f64;
        after(&self.stats.refusals) / after(&self.stats.arrivals).max(1.0)
    }

    /// The most requests that came in any tenth of a second after `from`.
    fn most_in_a_tenth(&self, from: Duration) -> usize {
        let times: Vec<_> = self
            .stats
            .arrivals
            .iter()
            .filter(|at| **at >= from)
            .collect();
        let within = |(first, at): (usize, &&Duration)| {
            let end = **at + Duration::from_millis(100);
            times[first..]
                .iter()
                .take_while(|later| ***later < end)
                .count()
        };
        times.iter().enumerate().map(within).max().unwrap_or(0)
    }

    /// Requests let in a second from `from` until nothing new was left to send.
    fn admitted(&self, from: Duration) -> f64 {
        let after = |times: &[Duration]| times.iter().filter(|at| **at >= from).count() as f64;
        let admitted = after(&self.stats.arrivals) - after(&self.stats.refusals);
        let last = self.stats.arrivals.last().copied().unwrap_or_default();
        (admitted - 1.0) / (last.saturating_sub(from)).as_secs_f64()
    }
}

/// Sends `rows` chats to a provider that behaves as `spec` says.
fn run(spec: &str, rows: usize, configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Run {
    let time = VirtualClock::new();
    let server = SimServer::builder(spec.parse().unwrap())
        .clock(time.clock())
        .record_arrivals(true)
        .start()
        .unwrap();
    let monitor = Monitor::new();
    let builder = Client::builder()
        .base_url(server.base_url())
        .no_auth()
        .concurrency(64)
        .clock(time.clock())
        .retry(Retry::new().seed(1));
    let client = configure(builder).build().unwrap().with_monitor(&monitor);
    let prompts: Vec<String> = (0..rows).map(|n| format!("prompt {n}")).collect();
    let began = Instant::now();
    let replies = thread::scope(|scope| {
        let run = scope.spawn(|| client.chat_all("m", &prompts));
        while !run.is_finished() {
            // A thread that waits for an answer is blocked, and the provider's is parked for it.
            let parked = time.parked() as u64;
            let threads = monitor.snapshot().threads;
            if threads > 0 && parked >= threads {
                time.advance_to_next();
            }
            if began.elapsed() > Duration::from_secs(120) {
                let _ = writeln!(std::io::stderr(), "stuck: {time:?} {monitor:?}");
                abort();
            }
            thread::yield_now();
        }
        run.join().unwrap()
    });
    let took = time.elapsed();
    let attempts = replies.iter().map(|reply| match reply {
        Ok(reply) => reply.attempts(),
        Err(error) => error.attempts(),
    });
    let run = Run {
        stats: server.stats(),
        took,
        attempts: attempts.max().unwrap_or(0),
        failed: replies.iter().filter(|reply| reply.is_err()).count(),
    };
    let after = |seconds| {
        let from = Duration::from_secs(seconds);
        let (refused, admitted) = (run.refused(from) * 100.0, run.admitted(from));
        format!("after {seconds} s {refused:.2} % refused and {admitted:.2} a second")
    };
    eprintln!(
        "{spec}: {rows} rows in {:.1} s; {:.1} % refused, {}, {}; in 100 ms {}; attempts {}, failed {}",
        run.took.as_secs_f64(),
        run.refused(Duration::ZERO) * 100.0,
        after(10),
        after(60),
        run.most_in_a_tenth(Duration::from_secs(10)),
        run.attempts,
        run.failed,
    );
    run
}

/// Holds a run to what is promised where answers announce the limit, which is `rate` a second.
fn announced(spec: &str, rate: f64, rows: usize, configure: fn(ClientBuilder) -> ClientBuilder) {
    let run = run(spec, rows, configure);
    let start = Duration::from_secs(10);
    let (refused, admitted) = (run.refused(start), run.admitted(start));
    assert_eq!(run.failed, 0, "{spec}");
    assert!(refused < 0.02, "{spec}: {refused}");
    assert!(admitted >= 0.95 * rate, "{spec}: {admitted}");
    assert!(run.attempts <= 5, "{spec}: {}", run.attempts);
}

#[test]
fn announced_limits_are_kept_with_nothing_configured() {
    announced("latency=100ms,rps=2,burst=1", 2.0, 60, |builder| builder);
    announced("latency=100ms,rps=50,burst=10", 50.0, 800, |builder| {
        builder
    });
}

#[test]
fn the_lower_of_configured_and_announced_counts() {
    announced("latency=100ms,rps=2,burst=1", 2.0, 60, |it| {
        it.requests_per_second(4)
    });
    announced("latency=100ms,rps=50,burst=10", 50.0, 800, |it| {
        it.requests_per_second(100)
    });
    announced("latency=100ms,rps=50,burst=10", 20.0, 320, |it| {
        it.requests_per_second(20)
    });
}

#[test]
fn every_dialect_and_every_way_to_judge_is_followed() {
    for more in [
        "headers=anthropic",
        "headers=openrouter",
        "headers=ietf,hints=s",
        "refused=count",
        "window=fixed",
    ] {
        let spec = format!("latency=100ms,rps=50,burst=10,{more}");
        announced(&spec, 50.0, 700, |builder| builder);
    }
    for window in ["fixed", "sliding"] {
        let spec = format!("latency=100ms,rpm=3000,window={window}");
        announced(&spec, 50.0, 700, |builder| builder);
    }
}

#[test]
fn a_limit_that_falls_and_comes_back_is_followed_at_once() {
    let run = run(
        "latency=100ms,rps=50,burst=10,cut=10s-20s@0.33",
        900,
        |it| it,
    );
    let late = run
        .stats
        .refusals
        .iter()
        .filter(|at| **at >= Duration::from_secs(10));
    assert!(late.count() <= 2, "{:?}", run.stats.refusals);
    let in_the_cut = |at: &&Duration| (10..20).contains(&at.as_secs());
    let in_the_cut = run.stats.arrivals.iter().filter(in_the_cut).count();
    assert!((155..=175).contains(&in_the_cut), "{in_the_cut}");
    assert!(run.admitted(Duration::from_secs(21)) >= 0.95 * 50.0);
}

/// The figures for more rates: `cargo test --release --features sim --test learned -- --ignored --nocapture`.
#[test]
#[ignore = "takes a minute"]
fn announced_limits_at_every_rate() {
    for (rate, rows) in [(2, 100), (50, 1_500), (500, 12_000)] {
        for burst in [1, (rate / 5).max(1), rate] {
            let spec = format!("latency=100ms,rps={rate},burst={burst}");
            announced(&spec, f64::from(rate), rows, |builder| builder);
        }
    }
}

/// Holds a run to what is promised where nothing but refusals tells the limit, which is `rate` a second.
/// A window tells it at its first end.
fn refused(spec: &str, rate: f64, rows: usize, from: u64) {
    let spec = format!("latency=100ms,headers=none,{spec}");
    let run = run(&spec, rows, |builder| builder);
    let start = Duration::from_secs(from);
    let (refused, admitted) = (run.refused(start), run.admitted(start));
    assert_eq!(run.failed, 0, "{spec}");
    assert!(refused < 0.1, "{spec}: {refused}");
    assert!(admitted >= 0.85 * rate, "{spec}: {admitted}");
    assert!(run.attempts <= 15, "{spec}: {}", run.attempts);
}

// Runs on the virtual clock differ, and a test must not: it allows more than is seen. Seen are 0.3 to 5.8 %
// refused, 0.9 to 1 of the limit, and 2 to 4 attempts a row; up to 9 in the first seconds at 2 a second.
#[test]
fn a_limit_that_only_refusals_tell_is_kept() {
    refused("rps=50,burst=10", 50.0, 1_500, 10);
    refused("rps=50,burst=10,hints=none", 50.0, 1_500, 10);
    refused("rps=50,burst=50,hints=s", 50.0, 1_500, 10);
    refused("rps=2,burst=1", 2.0, 150, 20);
}

#[test]
fn a_window_that_only_refusals_tell_is_kept() {
    refused("rpm=120,window=fixed,hints=none", 2.0, 300, 60);
    refused("rpm=120,window=sliding", 2.0, 300, 60);
}

#[test]
fn after_a_pause_no_tenth_of_a_second_holds_more_than_burst_and_rate() {
    for (spec, configured) in [
        (
            "latency=100ms,rps=50,burst=10,hints=s,cut=12s-14s@0.1",
            None,
        ),
        (
            "latency=100ms,rps=50,burst=10,hints=s,headers=none,cut=12s-14s@0.1",
            None,
        ),
        (
            "latency=100ms,rps=50,burst=10,hints=s,headers=none,cut=12s-14s@0.1",
            Some(40),
        ),
    ] {
        let configure = |builder: ClientBuilder| match configured {
            Some(rate) => builder.requests_per_second(rate).burst(10),
            None => builder,
        };
        let run = run(spec, 900, configure);
        let most = run.most_in_a_tenth(Duration::from_secs(5));
        assert!(most <= 10 + 5, "{spec}: {most}");
        assert!(run.attempts <= 15, "{spec}: {}", run.attempts);
    }
}

#[test]
fn refusals_that_count_starve_nobody() {
    let spec = "latency=100ms,headers=none,rps=50,burst=10,refused=count";
    let run = run(spec, 1_000, |builder| builder);
    assert_eq!(run.failed, 0);
    assert!(run.took <= Duration::from_secs(60), "{:?}", run.took);
}

#[test]
fn refusals_by_chance_slow_nobody_down() {
    let run = run("latency=100ms,strays=0.05", 6_000, |builder| builder);
    assert_eq!(run.failed, 0);
    // Without them it takes 9 s. The last rows wait for a second or more.
    assert!(run.took <= Duration::from_secs(18), "{:?}", run.took);
}

/// Any figures: `SPECS='latency=100ms,rps=50,headers=none#3000'`, several with semicolons between.
#[test]
#[ignore = "for figures"]
fn figures() {
    let specs = std::env::var("SPECS").unwrap_or_default();
    for spec in specs.split(';').filter(|spec| !spec.is_empty()) {
        let (spec, rows) = spec.split_once('#').unwrap_or((spec, "1500"));
        run(spec, rows.parse().unwrap(), |builder| builder);
    }
}
