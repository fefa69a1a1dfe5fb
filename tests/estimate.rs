//! What a client learns of how many model tokens its requests take, on the virtual clock and counted by
//! the provider.

#![cfg(feature = "sim")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unchecked_time_subtraction,
    reason = "what is counted is small, and time goes on"
)]

use std::io::Write as _;
use std::process::abort;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Value, json};
use tollgate::sim::SimServer;
use tollgate::{
    Client, ClientBuilder, Clock, Cost, HttpResponse, Limiter, MemoryTransport, Monitor, Provider,
    Request, Retry, TransportError, TransportErrorKind, TransportStage, VirtualClock,
};

/// What became of a run, after the time in which it learned.
struct Run {
    /// Model tokens a second that the provider let in.
    tokens: f64,
    refused: f64,
    /// How many were, from the start.
    refused_in_all: usize,
    failed: usize,
}

impl Run {
    /// Holds a run at a limit of a thousand tokens a second to what is promised.
    fn uses_the_limit_up(&self) {
        assert_eq!(self.failed, 0);
        assert!(self.refused < 0.02, "{}", self.refused);
        assert!(self.tokens >= 950.0, "{}", self.tokens);
    }
}

/// What a provider has let in and refused, by time.
#[derive(Default)]
struct Seen {
    let_in: Vec<(Duration, u64)>,
    refused: Vec<Duration>,
}

impl Seen {
    fn after(&self, from: Duration, failed: usize, what: &str) -> Run {
        let late = |at: &Duration| *at >= from;
        let let_in: Vec<_> = self.let_in.iter().filter(|(at, _)| late(at)).collect();
        let refused = self.refused.iter().filter(|at| late(at)).count();
        let tokens: u64 = let_in.iter().skip(1).map(|(_, tokens)| tokens).sum();
        let last = let_in.last().map_or(from, |(at, _)| *at);
        let run = Run {
            tokens: tokens as f64 / (last - from).as_secs_f64(),
            refused: refused as f64 / (refused + let_in.len()) as f64,
            refused_in_all: self.refused.len(),
            failed,
        };
        eprintln!(
            "{what}: {} let in within {:.0} s, {} refused; after {} s {:.0} tokens a second and {:.2} % refused; {failed} failed",
            self.let_in.len(),
            last.as_secs_f64(),
            self.refused.len(),
            from.as_secs(),
            run.tokens,
            run.refused * 100.0,
        );
        run
    }
}

/// Sends `requests`, and says how many failed.
fn send(time: &VirtualClock, builder: ClientBuilder, requests: &[Request]) -> usize {
    let monitor = Monitor::new();
    let builder = builder.no_auth().concurrency(64).clock(time.clock());
    let client = builder.retry(Retry::new().seed(1)).build().unwrap();
    let client = client.with_monitor(&monitor);
    let began = Instant::now();
    let replies = thread::scope(|scope| {
        let run = scope.spawn(|| client.send_all(requests));
        while !run.is_finished() {
            // A thread that waits for an answer is blocked, and the provider's is parked for it. One that
            // starts in between is one too many in this order, not one too few.
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
    replies.iter().filter(|reply| reply.is_err()).count()
}

/// Chats that may have 4,096 tokens as their answers.
fn chats(path: &'static str, rows: usize) -> Vec<Request> {
    let chat = |n| {
        let text = format!("{n:0400}");
        let body = json!({
            "model": "m", "max_tokens": 4_096, "messages": [{"role": "user", "content": text}],
        });
        Request::post(path, body)
    };
    (0..rows).map(chat).collect()
}

const CHAT: &str = "/v1/chat/completions";

/// Sends `rows` chats with short answers to the simulated provider.
fn simulated(
    spec: &str,
    rows: usize,
    from: u64,
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Run {
    let time = VirtualClock::new();
    let server = SimServer::builder(spec.parse().unwrap())
        .clock(time.clock())
        .record_arrivals(true)
        .start()
        .unwrap();
    let builder = configure(Client::builder().base_url(server.base_url()));
    let failed = send(&time, builder, &chats(CHAT, rows));
    let stats = server.stats();
    let each = (stats.prompt_tokens + stats.completion_tokens) / rows as u64;
    let mut refused = stats.refusals.clone();
    let mut seen = Seen::default();
    for at in stats.arrivals {
        match refused.iter().position(|it| *it == at) {
            Some(found) => seen.refused.push(refused.swap_remove(found)),
            None => seen.let_in.push((at, each)),
        }
    }
    seen.after(Duration::from_secs(from), failed, spec)
}

// Without learning, 4,096 tokens are reserved for each answer of 50: more than four seconds have.
#[test]
fn a_limit_that_is_set_is_used_up_by_answers_much_shorter_than_allowed() {
    let spec = "latency=500ms,tpm=60000,headers=none";
    let run = simulated(spec, 800, 25, |it| it.tokens_per_minute(60_000));
    run.uses_the_limit_up();
}

/// A provider that allows a thousand tokens a second, and all that a minute has at once.
#[derive(Clone, Copy)]
struct Tokens {
    provider: Provider,
    base_url: &'static str,
    /// It counts all that a request allows, until the answer is there.
    counts_allowed: bool,
    bytes_per_token: f64,
    output: u64,
    announces: bool,
    latency: Duration,
    /// One answer in so many does not come in time.
    lost: Option<u64>,
}

const RATE: f64 = 1_000.0;
const MINUTE: f64 = 60.0 * RATE;

/// What is used of a limit, and when that was so.
#[derive(Clone, Copy, Default)]
struct Level {
    used: f64,
    at: Duration,
}

impl Level {
    fn drained(&mut self, at: Duration) -> &mut f64 {
        self.used = (self.used - RATE * (at - self.at).as_secs_f64()).max(0.0);
        self.at = at;
        &mut self.used
    }
}

fn headers(level: Level, of: Tokens) -> HeaderMap {
    let names = match of.provider {
        _ if !of.announces => return HeaderMap::new(),
        Provider::Anthropic => [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
        ],
        _ => ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens"],
    };
    let values = [MINUTE, (MINUTE - level.used).max(0.0).floor()];
    let pair = |(name, value): (&'static str, f64)| {
        let value = format!("{value:.0}").parse().unwrap();
        (HeaderName::from_static(name), value)
    };
    names.into_iter().zip(values).map(pair).collect()
}

fn respond(status: u16, headers: HeaderMap, body: &Value) -> HttpResponse {
    HttpResponse {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: body.to_string().into_bytes(),
    }
}

/// Waits on the virtual clock.
fn wait(clock: &Clock, time: Duration) {
    let limiter = Limiter::builder().clock(clock.clone()).build().unwrap();
    limiter.pause_for(time);
    drop(limiter.acquire(Cost::ONE));
}

impl Tokens {
    fn run(
        self,
        rows: usize,
        from: u64,
        configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Run {
        let time = VirtualClock::new();
        let (clock, start) = (time.clock(), time.clock().now());
        let shared = Arc::new(Mutex::new((Level::default(), Seen::default())));
        let seen = Arc::clone(&shared);
        let asked = AtomicU64::new(0);
        let transport = MemoryTransport::new(move |call| {
            let bytes = 400.0_f64.min(call.body.len() as f64);
            let prompt = (bytes / self.bytes_per_token).ceil();
            let real = prompt + self.output as f64;
            let counted = if self.counts_allowed {
                prompt + 4_096.0
            } else {
                real
            };
            {
                let (level, seen) = &mut *shared.lock().unwrap();
                let at = clock.now() - start;
                let used = *level.drained(at);
                let missing = used + counted - MINUTE;
                if missing > 0.0 {
                    seen.refused.push(at);
                    let words = format!(
                        "Rate limit reached on tokens per min (TPM): Limit 60000, Used {used:.0}, \
                         Requested {counted:.0}. Please try again in {:.3}s.",
                        missing / RATE
                    );
                    let body = json!({"error": {"message": words, "code": "rate_limit_exceeded"}});
                    return Ok(respond(429, headers(*level, self), &body));
                }
                *level.drained(at) += counted;
                seen.let_in.push((at, counted as u64));
            }
            wait(&clock, self.latency);
            let (level, seen) = &mut *shared.lock().unwrap();
            let used = level.drained(clock.now() - start);
            *used = (*used - (counted - real)).max(0.0);
            if counted > real {
                let last = seen.let_in.iter_mut().rev();
                let mut last = last.filter(|(_, tokens)| *tokens == counted as u64);
                last.next().unwrap().1 = real as u64;
            }
            let number = asked.fetch_add(1, Ordering::Relaxed);
            if self
                .lost
                .is_some_and(|one_in| number.is_multiple_of(one_in))
            {
                let (kind, stage) = (TransportErrorKind::Timeout, TransportStage::Sent);
                return Err(TransportError::new(kind, stage, "no answer"));
            }
            let body = match self.provider {
                Provider::Anthropic => json!({
                    "type": "message", "role": "assistant", "stop_reason": "end_turn",
                    "content": [{"type": "text", "text": "ok"}],
                    "usage": {"input_tokens": prompt as u64, "output_tokens": self.output},
                }),
                _ => json!({
                    "choices": [{"message": {"role": "assistant", "content": "ok"}}],
                    "usage": {"prompt_tokens": prompt as u64, "completion_tokens": self.output},
                }),
            };
            Ok(respond(200, headers(*level, self), &body))
        });
        let builder = Client::builder()
            .base_url(self.base_url)
            .provider(self.provider)
            .transport(transport);
        let path = match self.provider {
            Provider::Anthropic => "/v1/messages",
            _ => CHAT,
        };
        let failed = send(&time, configure(builder), &chats(path, rows));
        let what = format!(
            "{}, {:?}, allowed {}, {} bytes a token, announced {}",
            self.base_url, self.provider, self.counts_allowed, self.bytes_per_token, self.announces
        );
        let (_, seen) = &*seen.lock().unwrap();
        seen.after(Duration::from_secs(from), failed, &what)
    }
}

const OTHER: Tokens = Tokens {
    provider: Provider::OpenAi,
    base_url: "http://127.0.0.1:9/v1",
    counts_allowed: false,
    bytes_per_token: 4.0,
    output: 50,
    announces: false,
    latency: Duration::from_secs(2),
    lost: None,
};

fn set(builder: ClientBuilder) -> ClientBuilder {
    builder.tokens_per_minute(60_000)
}

#[test]
fn so_it_is_at_a_provider_that_has_a_minutes_worth_at_once() {
    OTHER.run(600, 60, set).uses_the_limit_up();
}

#[test]
fn an_announced_limit_is_used_up_as_well() {
    for provider in [Provider::OpenAi, Provider::Anthropic] {
        let announcing = Tokens {
            provider,
            announces: true,
            ..OTHER
        };
        announcing.run(1_000, 30, |it| it).uses_the_limit_up();
    }
}

// All that is allowed for 14 requests is all that the limit has, whatever they use of it.
#[test]
fn a_provider_that_counts_what_is_allowed_refuses_nothing_where_it_is_known() {
    let known = Tokens {
        base_url: "https://api.openai.com/v1",
        counts_allowed: true,
        announces: true,
        latency: Duration::from_secs(1),
        ..OTHER
    };
    let run = known.run(800, 45, set);
    run.uses_the_limit_up();
    assert_eq!(run.refused_in_all, 0);
    // With nothing set, the first requests are sent before anything is announced.
    let run = known.run(800, 45, |it| it);
    assert_eq!(run.failed, 0);
    assert!(run.refused < 0.02 && run.tokens > 500.0);
    // Elsewhere its refusals tell. How soon the rate then comes back varies.
    for configure in [set as fn(ClientBuilder) -> ClientBuilder, |it| it] {
        let run = Tokens {
            base_url: OTHER.base_url,
            ..known
        }
        .run(800, 45, configure);
        assert_eq!(run.failed, 0);
        assert!(run.refused < 0.02, "{}", run.refused);
    }
}

// What a request holds beyond what it takes is free when it has ended, also where no answer says so.
// Otherwise each that is lost costs 4,096 tokens: some 270 a second are left.
#[test]
fn what_is_allowed_is_held_no_longer_than_an_attempt_that_is_lost() {
    let run = Tokens {
        base_url: "https://api.openai.com/v1",
        counts_allowed: true,
        latency: Duration::from_secs(1),
        lost: Some(10),
        ..OTHER
    }
    .run(600, 45, |it| it);
    assert_eq!(run.failed, 0);
    assert!(run.refused < 0.02 && run.tokens > 500.0);
}

// Without learning 267 tokens are taken for 100, and owed again and again.
#[test]
fn text_of_few_bytes_a_token_is_learned() {
    for (announces, configure) in [
        (false, set as fn(ClientBuilder) -> ClientBuilder),
        (true, |it| it),
    ] {
        let dense = Tokens {
            bytes_per_token: 1.5,
            announces,
            ..OTHER
        };
        dense.run(500, 60, configure).uses_the_limit_up();
    }
}
