//! What a client learns of how many model tokens its requests take, on the virtual clock and counted by
//! the provider.

#![cfg(feature = "sim")]

use std::io::Write as _;
use std::process::abort;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tollgate::sim::SimServer;
use tollgate::{Client, ClientBuilder, Monitor, Request, Retry, VirtualClock};

/// What became of a run, after the first `LEARNING`.
struct Run {
    /// Model tokens a second that the provider let in.
    tokens: f64,
    refused: f64,
    failed: usize,
}

/// So long a client may take to learn.
const LEARNING: Duration = Duration::from_secs(25);

fn chat(text: &str, max_tokens: u64) -> Request {
    let body = json!({
        "model": "m", "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": text}],
    });
    Request::post("/v1/chat/completions", body)
}

/// Sends `requests` to a provider that behaves as `spec` says.
fn run(
    spec: &str,
    requests: &[Request],
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Run {
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
    let began = Instant::now();
    let replies = thread::scope(|scope| {
        let run = scope.spawn(|| client.send_all(requests));
        while !run.is_finished() {
            // A thread that waits for an answer is blocked, and the provider's is parked for it.
            let threads = monitor.snapshot().threads;
            if threads > 0 && time.parked() as u64 >= threads {
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
    let stats = server.stats();
    let after = |times: &[Duration]| times.iter().filter(|at| **at >= LEARNING).count() as f64;
    let let_in = (stats.arrivals.len() - stats.refusals.len()) as f64;
    let each = (stats.prompt_tokens + stats.completion_tokens) as f64 / let_in;
    let last = stats.arrivals.last().copied().unwrap_or_default();
    let measured = last.saturating_sub(LEARNING).as_secs_f64();
    let (arrived, refused) = (after(&stats.arrivals), after(&stats.refusals));
    if std::env::var("SPECS").is_ok() {
        for at in (0..time.elapsed().as_secs()).step_by(5) {
            let within = |times: &[Duration]| {
                let at = Duration::from_secs(at);
                let five = at..at + Duration::from_secs(5);
                times.iter().filter(|it| five.contains(it)).count()
            };
            let (arrived, refused) = (within(&stats.arrivals), within(&stats.refusals));
            eprintln!("{at:>4} s: {arrived} arrived, {refused} refused");
        }
    }
    let run = Run {
        tokens: (arrived - refused - 1.0) * each / measured,
        refused: refused / arrived.max(1.0),
        failed: replies.iter().filter(|reply| reply.is_err()).count(),
    };
    eprintln!(
        "{spec}: {} rows of {each:.0} tokens in {:.0} s, {} refused; after {} s {:.0} tokens a second, {:.2} % refused, failed {}",
        requests.len(),
        time.elapsed().as_secs_f64(),
        stats.refusals.len(),
        LEARNING.as_secs(),
        run.tokens,
        run.refused * 100.0,
        run.failed,
    );
    run
}

/// Short answers to requests that allow long ones.
fn allowed_too_much(rows: usize) -> Vec<Request> {
    (0..rows)
        .map(|n| chat(&format!("prompt {n}"), 4_096))
        .collect()
}

/// Holds a run at a limit of a thousand tokens a second to what is promised.
fn is_used_up(run: &Run) {
    assert_eq!(run.failed, 0);
    assert!(run.refused < 0.02, "{}", run.refused);
    assert!((950.0..=1_010.0).contains(&run.tokens), "{}", run.tokens);
}

// Without learning: 140 tokens a second, since 4,096 are as good as all that a second has.
#[test]
fn a_limit_that_is_set_is_used_up_by_answers_much_shorter_than_allowed() {
    let spec = "latency=500ms,tpm=60000,headers=none";
    is_used_up(&run(spec, &allowed_too_much(800), |it| {
        it.tokens_per_minute(60_000)
    }));
}

/// Any figures: `SPECS='latency=2s,tpm=60000#800'`, several with semicolons between.
#[test]
#[ignore = "for figures"]
fn figures() {
    let specs = std::env::var("SPECS").unwrap_or_default();
    for spec in specs.split(';').filter(|spec| !spec.is_empty()) {
        let (spec, rows) = spec.split_once('#').unwrap_or((spec, "800"));
        run(spec, &allowed_too_much(rows.parse().unwrap()), |it| it);
    }
}
