//! A client over a provider made of a closure, with a virtual clock that the test's thread drives.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::abort;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate::http::{HeaderMap, HeaderName, StatusCode};
use tollgate::{
    Cancel, Client, ClientBuilder, HttpRequest, HttpResponse, MemoryTransport, Monitor, Progress,
    Retry, TransportError, TransportErrorKind, TransportStage, VirtualClock,
};

pub(crate) type Outcome = Result<HttpResponse, TransportError>;

/// One request, as the provider sees it.
pub(crate) struct Ask<'a> {
    /// Its number among all requests, from 0.
    pub(crate) index: usize,
    /// When it came, on the virtual clock, after the start.
    pub(crate) at: Duration,
    /// How much time it has.
    pub(crate) left: Duration,
    pub(crate) call: &'a HttpRequest<'a>,
}

impl Ask<'_> {
    pub(crate) fn body(&self) -> Value {
        serde_json::from_slice(self.call.body).expect("the client sends JSON")
    }

    /// The text of a chat's last message.
    pub(crate) fn prompt(&self) -> String {
        let body = self.body();
        let messages = body["messages"].as_array().expect("a chat");
        let content = &messages.last().expect("a message")["content"];
        content.as_str().expect("a text").to_owned()
    }
}

/// What is kept of a request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Duration,
    pub(crate) thread: ThreadId,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Bench {
    pub(crate) time: VirtualClock,
    pub(crate) client: Client,
    pub(crate) monitor: Monitor,
    pub(crate) cancel: Cancel,
    seen: Arc<Mutex<Vec<Seen>>>,
}

pub(crate) const KEY: &str = "sk-bench-0123456789abcdef";

/// A bench with the builder's defaults and repeatable jitter.
pub(crate) fn bench(answer: impl Fn(&Ask<'_>) -> Outcome + Send + Sync + 'static) -> Bench {
    bench_with(|builder| builder, answer)
}

pub(crate) fn bench_with(
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
    answer: impl Fn(&Ask<'_>) -> Outcome + Send + Sync + 'static,
) -> Bench {
    let time = VirtualClock::new();
    let (clock, start) = (time.clock(), time.clock().now());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let transport = MemoryTransport::new(move |call| {
        let at = clock.now() - start;
        let index = {
            let mut log = log.lock().unwrap();
            log.push(Seen {
                at,
                thread: thread::current().id(),
                body: call.body.to_vec(),
            });
            log.len() - 1
        };
        let left = call.deadline - clock.now();
        answer(&Ask {
            index,
            at,
            left,
            call,
        })
    });
    let builder = Client::builder()
        .base_url("http://127.0.0.1:9/v1")
        .api_key(KEY)
        .retry(Retry::new().seed(1))
        .clock(time.clock())
        .transport(transport);
    let (monitor, cancel) = (Monitor::new(), Cancel::new());
    let client = configure(builder)
        .build()
        .unwrap()
        .with_monitor(&monitor)
        .with_cancel(&cancel);
    Bench {
        time,
        client,
        monitor,
        cancel,
        seen,
    }
}

impl Bench {
    /// Does `work` on a thread of its own, and moves the clock whenever nothing else can happen.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce(&Client) -> T + Send) -> T {
        self.run_on(&self.client, work)
    }

    /// As [`run`](Self::run), for a client made of this bench's.
    pub(crate) fn run_on<T: Send>(
        &self,
        client: &Client,
        work: impl FnOnce(&Client) -> T + Send,
    ) -> T {
        drive(&self.time, &self.monitor, || work(client))
    }

    /// Every request so far, in the order they came.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// When the requests came, after the start.
    pub(crate) fn times(&self) -> Vec<Duration> {
        self.seen().iter().map(|seen| seen.at).collect()
    }

    pub(crate) fn threads(&self) -> BTreeSet<String> {
        let threads = self.seen();
        threads.iter().map(|s| format!("{:?}", s.thread)).collect()
    }

    pub(crate) fn progress(&self) -> Progress {
        self.monitor.snapshot()
    }
}

/// Does `work` on a thread of its own. The clock moves to the next instant that anybody waits for
/// when every thread that `monitor` counts is parked, which is when nothing else can happen.
///
/// A thread that has only just been started may be overlooked, and then reads a later time than it
/// was admitted at: tests may say that nothing is early, not how far apart two requests are.
pub(crate) fn drive<T: Send>(
    time: &VirtualClock,
    monitor: &Monitor,
    work: impl FnOnce() -> T + Send,
) -> T {
    drive_when(time, monitor, || true, work)
}

/// As [`drive`], and the clock moves only when `ready` as well.
pub(crate) fn drive_when<T: Send>(
    time: &VirtualClock,
    monitor: &Monitor,
    ready: impl Fn() -> bool,
    work: impl FnOnce() -> T + Send,
) -> T {
    let began = Instant::now();
    thread::scope(|scope| {
        let run = scope.spawn(work);
        while !run.is_finished() {
            // In this order: a thread that starts in between is then one too many, not one too few.
            let parked = time.parked() as u64;
            let now = monitor.snapshot();
            if now.threads > 0 && parked >= now.threads && now.in_flight == 0 && ready() {
                time.advance_to_next();
            }
            if began.elapsed() > Duration::from_secs(600) {
                // A panic here would wait for the stuck threads, and never be seen.
                let _ = writeln!(std::io::stderr(), "stuck: {time:?} {monitor:?}");
                abort();
            }
            thread::yield_now();
        }
        run.join()
    })
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A chat completion that says `text`, with a usage of 10 + 5 tokens.
#[expect(clippy::unnecessary_wraps, reason = "as a transport answers")]
pub(crate) fn says(text: &str) -> Outcome {
    Ok(answer(200, &chat(text, 15)))
}

pub(crate) fn chat(text: &str, tokens: u64) -> Value {
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": tokens - 5, "completion_tokens": 5, "total_tokens": tokens,
        },
    })
}

pub(crate) fn answer(status: u16, body: &Value) -> HttpResponse {
    HttpResponse {
        status: StatusCode::from_u16(status).unwrap(),
        headers: header_map(&[("content-type", "application/json")]),
        body: body.to_string().into_bytes(),
    }
}

/// An error in OpenAI's shape.
#[expect(clippy::unnecessary_wraps, reason = "as a transport answers")]
pub(crate) fn error(status: u16, code: &str, message: &str) -> Outcome {
    Ok(answer(
        status,
        &json!({"error": {"message": message, "type": code, "param": null, "code": code}}),
    ))
}

/// The same answer with these headers.
pub(crate) fn with(outcome: Outcome, headers: &[(&str, &str)]) -> Outcome {
    outcome.map(|answer| HttpResponse {
        headers: header_map(headers),
        ..answer
    })
}

/// A connect that was refused.
pub(crate) fn refused() -> Outcome {
    Err(TransportError::new(
        TransportErrorKind::Connect,
        TransportStage::NothingSent,
        "cannot connect (http://127.0.0.1:9)",
    ))
}

pub(crate) fn prompts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("prompt {n}")).collect()
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn header_map(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |&(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
    };
    pairs.iter().map(pair).collect()
}
