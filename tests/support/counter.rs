//! A server that counts what several processes send it together: when each request came, and from
//! which process. The figures about a shared limit are made of that, and of nothing that the
//! processes say of themselves.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::quick::{Quick, QuickServer};

/// One request, as the server saw it come.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Since the server was started.
    pub at: Duration,
    pub process: usize,
}

/// A server on 127.0.0.1 that remembers each request, running until dropped.
pub struct Counter {
    started: Instant,
    log: Arc<Mutex<Vec<Arrival>>>,
    server: QuickServer,
}

impl Counter {
    /// Answers each request as `answer` says, which also hears how many came before.
    pub fn start(answer: impl Fn(Arrival, usize) -> Quick + Send + Sync + 'static) -> Self {
        let started = Instant::now();
        let log: Arc<Mutex<Vec<Arrival>>> = Arc::default();
        let theirs = Arc::clone(&log);
        let server = QuickServer::start(move |body| {
            let (arrival, before) = {
                let mut log = lock(&theirs);
                let at = started.elapsed();
                let process = process_of(body);
                log.push(Arrival { at, process });
                (Arrival { at, process }, log.len() - 1)
            };
            answer(arrival, before)
        });
        Self {
            started,
            log,
            server,
        }
    }

    /// Answers each after `latency`, which has used so many tokens.
    pub fn answering(latency: Duration, tokens: u64) -> Self {
        let ok = ok(tokens, "").after(latency);
        Self::start(move |_, _| ok.clone())
    }

    pub fn base_url(&self) -> String {
        self.server.base_url()
    }

    /// The time by the server's clock.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn count(&self) -> usize {
        lock(&self.log).len()
    }

    /// All of them, in their order.
    pub fn arrivals(&self) -> Vec<Arrival> {
        lock(&self.log).clone()
    }
}

fn lock(log: &Mutex<Vec<Arrival>>) -> MutexGuard<'_, Vec<Arrival>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The requests of one process, as lines of a batch file.
pub fn requests(process: usize, rows: usize, max_tokens: u64) -> String {
    let mut text = String::new();
    for row in 0..rows {
        let _ = writeln!(
            text,
            r#"{{"custom_id":"p{process}-{row}","method":"POST","url":"/v1/chat/completions","body":{{"model":"m","user":"{process}","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"hi"}}]}}}}"#
        );
    }
    text
}

fn process_of(body: &[u8]) -> usize {
    const MARK: &[u8] = b"\"user\":\"";
    let at = body.windows(MARK.len()).position(|part| part == MARK);
    let digits = at.map_or(&[][..], |at| &body[at + MARK.len()..]);
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum, digit| 10 * sum + usize::from(digit - b'0'))
}

/// An answer that has used so many tokens in all, with more lines in its head, each of which ends
/// in `\r\n`.
pub fn ok(tokens: u64, headers: &str) -> Quick {
    let completion = tokens.saturating_sub(PROMPT_TOKENS);
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"hello"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{PROMPT_TOKENS},"completion_tokens":{completion},"total_tokens":{tokens}}}}}"#
    );
    with_headers(200, headers, &body)
}

/// What the tool counts for the prompts of [`requests`].
pub const PROMPT_TOKENS: u64 = 7;

/// A refusal that asks for a wait.
pub fn wait(seconds: u32) -> Quick {
    let body = r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#;
    with_headers(429, &format!("retry-after: {seconds}\r\n"), body)
}

fn with_headers(status: u16, headers: &str, body: &str) -> Quick {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} Quick\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    Quick {
        bytes: text.into_bytes().into(),
        after: Duration::ZERO,
    }
}

/// By how many units the worst of all windows, short or long, was over `burst` and what the rate
/// allows in it. Below zero, nothing ever was.
///
/// For the window that ends with an arrival, the worst beginning is where a bucket that leaks at
/// the rate was last empty: its level then is what came in the window beyond the rate.
pub fn worst_window(times: &[Duration], units: f64, per_second: f64, burst: f64) -> f64 {
    let (mut level, mut worst, mut last) = (0.0_f64, 0.0_f64, Duration::ZERO);
    for &at in times {
        let leaked = per_second * at.saturating_sub(last).as_secs_f64();
        level = (level - leaked).max(0.0) + units;
        worst = worst.max(level);
        last = at;
    }
    worst - burst
}

/// How many of them came in this stretch, from its start to before its end.
pub fn within(times: &[Duration], from: Duration, to: Duration) -> usize {
    times.iter().filter(|at| (from..to).contains(*at)).count()
}
