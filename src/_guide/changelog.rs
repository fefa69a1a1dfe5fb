//! Changelog: one line a change that a user can notice, the newest release first.
//!
//! # 0.1.0 (not yet published)
//!
//! The first version.
//!
//! - [`Limiter`](crate::Limiter): requests, model tokens and concurrency, exact in every
//!   window, first come first served.
//! - [`Pool`](crate::Pool): any blocking closure on threads that are started as needed, with
//!   retries that hold neither a thread nor a permit.
//! - [`Client`](crate::Client): one request, a slice, a lazy input or a file of requests to any
//!   server that speaks `OpenAI`'s API, and to Anthropic and Azure with their own keys.
//! - [`VirtualClock`](crate::VirtualClock), [`MemoryTransport`](crate::MemoryTransport) and, with
//!   the feature `sim`, a simulated provider, for tests without time, key or network.
//! - [`FileRun`](crate::FileRun): a rerun carries on, in the input's order if asked to; `repair`,
//!   `force_resume`, `fsync`; prices and budgets; one run at a time an output.
//! - [`Task`](crate::Task): closures that state their cost, see their attempt and settle real
//!   usage. [`Observer`](crate::Observer): each attempt, retry, pause and outcome as it happens,
//!   what binds, what was learned and each change of the concurrency.
//! - `in_order` beside `as_completed`; [`Client::embed`](crate::Client::embed);
//!   [`Request::json`](crate::Request::json) and [`Reply::json`](crate::Reply::json) with types of
//!   your own. A request, and so a chat, may have a timeout and an
//!   [id](crate::Request::with_id) of its own.
//! - Limits that answers announce in their headers are followed;
//!   [`Limiter::learned`](crate::Limiter::learned) says which. Where there are none, refusals tell
//!   the rate, or how many requests are possible at once, or name a limit on model tokens. What a
//!   server refused goes before anything new, and a refusal among many answers makes only its own
//!   item wait.
//! - [`FailureGroup`](crate::FailureGroup): why rows failed, grouped, at the end of a run over a
//!   file. [`Hold`](crate::Hold): what a run that sends nothing waits for.
//! - [`FileRun::param`](crate::FileRun::param): fields of each prompt's request. An input without
//!   requests is refused in one sentence, and a JSON array is read as lines.
//! - [`ClientBuilder::client_cert`](crate::ClientBuilder::client_cert): certificates for servers
//!   that ask for one. What is wrong with a certificate or a proxy is said in words, and a proxy's
//!   refusal stops the run.
//! - [`Retry::stop_alike`](crate::Retry::stop_alike): a run of which all answers fail alike stops
//!   and says why. Refusals without a word of how long to wait cost no row.
//! - [`ClientBuilder::warmup`](crate::ClientBuilder::warmup), `--warmup`: the first requests of a
//!   run go alone, for providers' caches of prompts.
//!   [`ClientBuilder::hedge`](crate::ClientBuilder::hedge), `--hedge`: a second attempt beside one
//!   that takes too long.
//! - Attempts that may have been billed without an answer, such as those that hedging cuts off, are
//!   in the cost of a run as an [estimate](crate::FileProgress::estimated_cost).
//! - [`Concurrency`](crate::Concurrency): a range such as `4..=200`, or `-c 4-200`, in which the
//!   number of requests in flight is found.
//! - [`Shared`](crate::Shared), `--shared-limit`: several processes
//!   [share a limit](super::sharing_a_limit), which is kept in a file or in Redis.
//! - [`FileRun::shard`](crate::FileRun::shard), `--shard`: several processes send one input, each a
//!   [shard](super::shards) of it. `tollgate merge` makes one file of their results. The guide has
//!   jobs for [engines](super::engines): xargs, GNU parallel, Slurm, Kubernetes, Spark, Ray and
//!   Airflow.
//! - [`Times`](crate::Times) and [`Binding`](crate::Binding): where the time of a request and of a
//!   run went. The tool's report ends with advice on its speed.
//! - Estimates of model tokens learn from the usage in answers.
//! - `tollgate plan`, `run --dry-run`: how long a run will take, what it will cost and which limit
//!   will hold it back, before anything is sent. With `--processes N` also how many processes the
//!   rates need, what sharing the limits costs, and which limit comes next.
//! - `tollgate report`, `run --report`: an HTML page with plots of what became of a run. Records
//!   have a `timeline`, which says when each attempt began and ended.
//! - An output that ends in `.csv` or `.tsv` is a table: the columns of the input and the answers,
//!   written whenever a run ends; [`FileRun::columns`](crate::FileRun::columns),
//!   [`json_answer`](crate::FileRun::json_answer), `--with`, `--json-answer`. `tollgate extract`
//!   makes text or a table of any results.
//! - The tool: `run`, `check`, `simulate`, `demo`; `--header`, `--param`, `--prompts`,
//!   `--max-body`.
//! - [`bar`](fn@crate::bar), [`Bar`](crate::Bar): the tool's progress bar for programs, behind the
//!   feature `bar`. The time left follows from the limit that binds. `tollgate completions` and
//!   `tollgate man` print scripts for shells and the manual.
#![cfg_attr(
    not(all(feature = "bar", feature = "rows")),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "what a feature adds is linked where it is there"
    )
)]
