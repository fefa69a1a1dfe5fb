//! [`Client`] sends many AI-API requests from blocking threads, as fast as the provider's limits
//! allow and never faster. There is no async runtime, in this crate or below it.
//!
//! A program without async hands it a slice of prompts and gets a `Vec` of results, in order, each
//! its own `Result`:
//!
//! ```
//! use tollgate::Client;
//!
//! # fn main() -> tollgate::Result<()> {
//! # let key = "a-key-from-somewhere-safe";
//! # let hi = tollgate::MemoryTransport::new(|_| Ok(tollgate::HttpResponse {
//! #     body: br#"{"choices":[{"message":{"content":"Hi!"}}]}"#.to_vec(),
//! #     ..Default::default()
//! # }));
//! let client = Client::builder()
//!     .base_url("https://api.example.com/v1")
//!     .api_key(key)
//!     .concurrency(20)
//!     .requests_per_second(10)
//!     .tokens_per_minute(200_000)
//! #   .transport(hi)
//!     .build()?;
//!
//! let prompts = ["Say hi", "Say hello", "Say good morning"];
//! for (prompt, reply) in prompts.iter().zip(client.chat_all("a-model", &prompts)) {
//!     match reply {
//!         Ok(reply) => println!("{prompt}: {}", reply.text().unwrap_or_default()),
//!         Err(error) => eprintln!("{prompt}: {error}"),
//!     }
//! }
//! # assert!(client.chat_all("a-model", &prompts).iter().all(Result::is_ok));
//! # Ok(())
//! # }
//! ```
//!
//! [`Client::from_env`] takes the key and the base URL from `OPENAI_API_KEY` and `OPENAI_BASE_URL`.
//! Any server that speaks `OpenAI`'s API will do, and [`Provider`] names the others whose keys are
//! sent in another way. [`Request::post`] and [`Request::json`] ask any other endpoint, such as
//! Anthropic's `/v1/messages`, and [`Reply::json`] reads its answer.
//!
//! # Ways in
//!
//! | For | Call | Answers | Threads |
//! |---|---|---|---|
//! | one request | [`Client::send`], [`Client::chat`] | a [`Reply`] | the calling one |
//! | a slice | [`Client::chat_all`], [`Client::send_all`] | a `Vec` in the input's order | scoped; borrows |
//! | texts to embed | [`Client::embed`] | a `Vec` of vectors in the texts' order | scoped; borrows |
//! | a lazy input | [`Client::for_each`] | a callback here, as they come | scoped; borrows |
//! | a lazy input | [`Client::as_completed`], [`Client::in_order`] | an iterator, as they come or in order | own; stops when dropped |
//! | a file of requests | [`Client::jsonl`] | a file of results, carried on by a rerun | scoped |
//! | any blocking closure | [`Pool::try_map`], [`Pool::task`] | the same shapes | the same |
//! | the limiter alone | [`Limiter::acquire`] | a [`Permit`] | the calling one |
//!
//! *Scoped* threads end before the call returns, so what the call is given may be borrowed. *Own*
//! threads outlive the call, so what it is given must be `'static`.
//!
//! A *lazy input* is any iterator of requests. It is pulled by a thread of its own and never
//! further ahead than max(1024, 4 × concurrency) items, so a consumer that stops taking stops the
//! input.
//!
//! ```
//! use tollgate::{Cost, Limiter, Pool, Rate, Verdict};
//!
//! // Any blocking closure, over borrowed data, with an error type of your own.
//! let words = ["12", "seven", "30"];
//! let numbers = Pool::new(4)?.try_map(&words, |word| word.parse::<u32>(), |_| Verdict::Fail);
//! assert_eq!(*numbers[2].as_ref().unwrap(), 30);
//! assert!(numbers[1].is_err(), "one failure is one failure");
//!
//! // The limiter alone, from any thread.
//! let limiter = Limiter::builder().requests(Rate::per_second(50)).concurrency(8).build()?;
//! let permit = limiter.acquire(Cost::ONE)?;
//! // ... send something ...
//! drop(permit);
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! # The parts
//!
//! An *item* is one request of a run, or one input of a pool. Each time it is sent is an *attempt*.
//!
//! - [`Limiter`] limits requests, model tokens and how many requests are in flight, and serves
//!   first who came first. It takes a [`Rate`] for each limit and a [`Cost`] for each request, and
//!   gives a [`Permit`], which is dropped when the request is over. Clones are the same limiter, so
//!   several clients may share one. See [limits](_guide::limits).
//! - [`Retry`] says how often an item is tried and how long the waits are. A [`Verdict`] says what
//!   one failure means. An item that waits for its next attempt has no thread and is not in flight.
//!   See [retries](_guide::retries).
//! - [`Pool`] calls a closure for each item, on threads that it starts as they are needed. A
//!   [`Client`] is a pool whose items are requests. See [architecture](_guide::architecture).
//! - [`Transport`] carries one request to the server and brings the answer back. [`HttpTransport`]
//!   is the real one, and [`MemoryTransport`] asks a closure.
//! - [`Price`] and [`Usd`] say exactly what a [`Usage`] costs; a run over a file stops at a
//!   [`max_cost`](FileRun::max_cost).
//! - [`Monitor`] watches runs while they go on: done, in flight, waiting, retries, tokens, and
//!   where the time went, as a [`Progress`] snapshot from any thread. An [`Observer`] is told of
//!   each [`Event`] as it happens.
//!
//! In this crate a *token* is a model token, never an API key. Every count says what it counts:
//! [`Retry::max_attempts`] includes the first attempt.
//!
//! # Errors
//!
//! There is one [`Error`], with an [`ErrorKind`] to branch on, the status, the provider's code and
//! request id, the number of attempts, and the cause behind [`source`](std::error::Error::source).
//! [`Error::is_timeout`], [`Error::is_rate_limited`] and [`Error::is_transient`] answer what is
//! asked most.
//! A failed request is the `Err` of its own item and takes nothing else down. What means that no
//! request can succeed (a wrong key, no money, a redirect, a certificate) stops the run: what is in
//! flight is finished, and the items not yet sent are `Err` of kind
//! [`Cancelled`](ErrorKind::Cancelled); [`Error::stopped_run`] marks the one that did it. A setting
//! that cannot work is an error of `build`, before anything is sent.
//!
//! A closure or an iterator that panics fails one item, provided the program is built with
//! `panic = "unwind"`, the default.
//!
//! # Stopping
//!
//! A [`Cancel`] is given to a client or a pool ([`Client::with_cancel`], [`Pool::with_cancel`]).
//! After [`Cancel::cancel`] nothing new is sent, every wait ends, and what is in flight is
//! finished. [`Cancel::abort`] also shuts down the sockets of what is in flight. Three settings
//! limit time: that of a run ([`Client::with_deadline`]), of an item ([`Retry::item_deadline`]) and
//! of an attempt ([`ClientBuilder::timeout`]).
//!
//! ```
//! use tollgate::{Cancel, ErrorKind, Failure, Pool, Verdict};
//!
//! let cancel = Cancel::new();
//! let pool = Pool::new(1)?.with_cancel(&cancel);
//! let results = pool.try_map(
//!     &[1, 2, 3],
//!     |&n| {
//!         cancel.cancel(); // from a signal handler's thread, as a rule
//!         Ok::<i32, std::io::Error>(n)
//!     },
//!     |_| Verdict::Fail,
//! );
//! assert!(results[0].is_ok(), "what is in flight is finished");
//! let Err(Failure::NotCompleted { reason, .. }) = &results[2] else { panic!() };
//! assert_eq!(reason.kind(), ErrorKind::Cancelled);
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! # Time in tests
//!
//! Everything that waits here waits on a [`Clock`], and a [`VirtualClock`] stands still until a
//! test moves it: hours of pacing and backing off take no time. With [`MemoryTransport`] in place
//! of the network, or a whole simulated provider on a real socket (`sim::SimServer`, feature
//! `sim`), a test needs no key and no connection. See [testing](_guide::testing).
//!
//! # Keys
//!
//! A key is never an argument of the tool, and never part of a log line, a `Debug`, an error or an
//! output file: [`ApiKey`] prints as `[redacted]`, and where a provider repeats the key in an error
//! it is taken out. Plain `http` to another machine is refused unless
//! [allowed](ClientBuilder::allow_insecure_http), and a redirect is never followed.
//!
//! # Crate features
//!
//! | Feature | Default | What it adds |
//! |---|---|---|
//! | `rustls` | yes | `https`, with the bundled Mozilla roots. Without it an `https` URL fails in `build` |
//! | `platform-verifier` | | the operating system's certificates as well |
//! | `parallel` | yes | checks large input files on all cores, with rayon |
//! | `bar` | | a progress bar on a terminal: `bar`, `Bar` |
//! | `rows` | | tables: `Client::rows` makes a request of each row, and an output that ends in `.csv` is one |
//! | `sim` | | the simulated provider; no further dependencies |
//! | `redis` | | a limit that is [`Shared`] through a Redis or Valkey server; implies `rustls` |
//! | `cli` | | what the command-line tool needs; implies `bar`, `rows` and `sim` |
//!
//! No feature needs a system library: a C compiler is enough to build all of them.
//!
//! # What it is not
//!
//! - Not async: nothing returns a future. From an async program, call it on a blocking thread.
//! - Not a client of everything a provider offers: no streaming, no agents, no tool loops. A body
//!   is sent as you made it, and an answer kept as it came.
//! - Not a translator: one provider's request is never rewritten into another's.
//! - Not a store or a queue: the results file is the only state there is.
//!
//! # Platforms
//!
//! Linux is tested. macOS and Windows are meant to build, and are untested. The oldest Rust that
//! builds it is the `rust-version` in `Cargo.toml`.
//!
//! # The guide
//!
//! - [Architecture](_guide::architecture): one request from here to the wire and back, file by
//!   file.
//! - [Limits](_guide::limits): what the limiter promises, and how it keeps it.
//! - [Retries](_guide::retries): what each failure means, how long is waited, when a run stops.
//! - [Sharing a limit](_guide::sharing_a_limit): several processes, or machines, under one limit.
//! - [Shards](_guide::shards): one input, several processes, and one file of all results.
//! - [Engines](_guide::engines): jobs for xargs, GNU parallel, Slurm, Kubernetes, Spark, Ray,
//!   Airflow.
//! - [Batch files](_guide::batch_files): lines in, lines out, and what a rerun does.
//! - [Planning](_guide::planning): how long, how much, how many processes, before anything is sent.
//! - [Testing](_guide::testing): virtual time, answers from memory, a simulated provider.
//! - [Build scripts](_guide::build_scripts): few dependencies, and no network on an ordinary build.
//! - [Why](_guide::why): the design, question by question.
//! - [Threads or async?](_guide::threads_or_async): what was measured, and where async is better.
//! - [Changelog](_guide::changelog).

#[cfg(any(doc, doctest))]
pub mod _guide;
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

mod api;
#[cfg(feature = "bar")]
mod bar;
mod binding;
mod cancel;
mod classes;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod clock;
mod error;
mod escape;
mod jsonl;
mod limit;
mod opaque;
#[cfg(feature = "cli")]
mod plan;
mod pool;
#[cfg(feature = "cli")]
mod report;
mod retry;
mod rows;
mod settings;
mod shared;
#[cfg(feature = "sim")]
pub mod sim;
mod sync;

pub use http;

pub use api::{
    ApiKey, Body, Chat, Client, ClientBuilder, HttpConfig, HttpRequest, HttpResponse,
    HttpTransport, MemoryTransport, Price, Provider, ProxyPolicy, Reply, Request, Transport,
    TransportError, TransportErrorKind, TransportStage, Usage, Usd,
};
#[cfg(feature = "bar")]
pub use bar::{Bar, bar};
pub use binding::{Binding, Times};
pub use cancel::Cancel;
pub use clock::{Clock, VirtualClock};
pub use error::{AnnouncedLimit, Error, ErrorKind, Result};
#[cfg(feature = "rows")]
pub use jsonl::Column;
pub use jsonl::{FailureGroup, FileProgress, FileRun, Fsync, ResumeInfo, Summary};
pub use limit::{Concurrency, Cost, Learned, Limiter, LimiterBuilder, Permit, Rate, Refusal};
pub use pool::{
    Attempt, Event, Failure, Hold, Monitor, Observer, Outcome, Outcomes, Panicked, Pool, Progress,
    Task,
};
pub use retry::{Backoff, Retry, Verdict};
#[cfg(feature = "rows")]
pub use rows::Template;
pub use shared::{Shared, SharedStatus};
