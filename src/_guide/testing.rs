//! Testing: virtual time, answers from memory, a simulated provider.
//!
//! All of this is public. The crate's own tests use the same.
//!
//! # Virtual time
//!
//! Every wait in this crate is a thread that is parked by a [`Clock`](crate::Clock). A
//! [`VirtualClock`](crate::VirtualClock) stands still until the test moves it, and then wakes the
//! threads whose time has come. So a test never sleeps and never guesses how long is long enough.
//! [`wait_parked(n)`](crate::VirtualClock::wait_parked) returns when `n` threads are parked: then
//! all that can happen at this instant has happened.
//!
//! # Answers from memory
//!
//! A [`MemoryTransport`](crate::MemoryTransport) answers from a closure, which sees each request as
//! it would be sent. With a virtual clock it tests, in no time, what a program does when a provider
//! asks it to wait for half a minute:
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use std::thread;
//! use std::time::Duration;
//! use tollgate::http::{HeaderValue, StatusCode, header};
//! use tollgate::{HttpResponse, Client, MemoryTransport, VirtualClock};
//!
//! let calls = AtomicU32::new(0);
//! let provider = MemoryTransport::new(move |call| {
//!     assert_eq!(call.url, "http://127.0.0.1/v1/chat/completions");
//!     Ok(match calls.fetch_add(1, Ordering::Relaxed) {
//!         0 => HttpResponse {
//!             status: StatusCode::TOO_MANY_REQUESTS,
//!             headers: [(header::RETRY_AFTER, HeaderValue::from_static("30"))].into_iter().collect(),
//!             body: br#"{"error":{"message":"slow down"}}"#.to_vec(),
//!         },
//!         _ => HttpResponse {
//!             body: br#"{"choices":[{"message":{"content":"Hi!"}}]}"#.to_vec(),
//!             ..HttpResponse::default()
//!         },
//!     })
//! });
//!
//! let time = VirtualClock::new();
//! let client = Client::builder()
//!     .base_url("http://127.0.0.1/v1")
//!     .no_auth()
//!     .transport(provider)
//!     .clock(time.clock())
//!     .build()?;
//!
//! let reply = thread::scope(|scope| {
//!     let sending = scope.spawn(|| client.chat("m", "Say hi").send());
//!     time.wait_parked(1); // it waits as it was asked to ...
//!     assert!(time.advance_to_next().unwrap() >= Duration::from_secs(30)); // ... and not for less
//!     sending.join().unwrap()
//! })?;
//! assert_eq!(reply.text().as_deref(), Some("Hi!"));
//! assert_eq!(reply.attempts(), 2);
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! A transport of your own has one method ([`Transport::send`](crate::Transport::send)). It may
//! answer from a recording, or fail as [`TransportError`](crate::TransportError) describes.
//!
//! # Jitter
//!
//! Waits between attempts are random. [`Retry::seed`](crate::Retry::seed) makes them the same in
//! every run; each item still has its own. [`Retry::backoff`](crate::Retry::backoff) is an iterator
//! of durations, so a test can look at the waits without any clock.
//!
//! # The simulated provider
//!
//! With the feature `sim`, [`SimServer`] is a real HTTP server on 127.0.0.1 that speaks `OpenAI`'s
//! API (chat completions, completions, responses, embeddings, moderations, models) and Anthropic's
//! messages. It simulates latency that may rise with load, limits on requests, model tokens (of
//! prompts and answers together or apart) and requests at once, limits that change on a schedule,
//! headers and hints of several providers, refusals in Gemini's form, overload, errors and broken
//! connections. It obeys `response_format` and `tool_choice` in form: the JSON fits the schema, and
//! what it says is made up. All of it follows from a seed: the same request always has the same
//! answer. It needs no key and accepts any.
//!
//! It counts what it saw by its own code, not the limiter's, so a test can ask it whether a limit
//! was kept:
//!
#![cfg_attr(feature = "sim", doc = "```")]
#![cfg_attr(not(feature = "sim"), doc = "```ignore")]
//! use tollgate::{Client, Rate};
//! use tollgate::sim::{SimServer, SimSpec};
//!
//! let limit = Rate::per_second(100);
//! let spec = "latency=5ms,rps=100,seed=11".parse::<SimSpec>()?;
//! let server = SimServer::builder(spec).record_arrivals(true).start()?;
//! let client = Client::builder()
//!     .base_url(server.base_url())
//!     .no_auth()
//!     .requests_per_second(50)
//!     .build()?;
//!
//! let prompts: Vec<String> = (1..=60).map(|n| format!("What is {n} squared?")).collect();
//! let replies = client.chat_all("any-model", &prompts);
//! assert!(replies.iter().all(Result::is_ok));
//!
//! let stats = server.stats();
//! assert_eq!((stats.answered, stats.limited), (60, 0), "and never asked to slow down");
//! assert_eq!(stats.excess(limit, 100), 0, "in no window of any length");
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! [`SimSpec`] lists all fields of such a text. A field that has no effect beside the others is
//! refused, such as a `burst` with `window=fixed`. `tollgate simulate SPEC` runs the same server on
//! its own, for tests of other programs, and `tollgate run --simulate=SPEC` sends a file's requests
//! to it.
//!
#![cfg_attr(feature = "sim", doc = "[`SimServer`]: crate::sim::SimServer")]
#![cfg_attr(not(feature = "sim"), doc = "[`SimServer`]: #the-simulated-provider")]
#![cfg_attr(feature = "sim", doc = "[`SimSpec`]: crate::sim::SimSpec")]
#![cfg_attr(not(feature = "sim"), doc = "[`SimSpec`]: #the-simulated-provider")]
