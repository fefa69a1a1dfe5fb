//! Planning: how long a run will take, what it will cost, and how many processes it needs.
//!
//! # A run
//!
//! `tollgate plan INPUT` says how long a run will take, what it will cost, and which limit will
//! hold it back. It takes the limits, retries, prices, budgets and prompts of `run`, needs no key,
//! and sends nothing. It says at which share a budget stops the run, and plans the whole
//! run all the same. With `--requests N --tokens DIST` no file is needed; N may be 10,000,000,000.
//!
//! A plan is made by the parts that decide in a run: the limiter, the schedule and the retries.
//! They go through all requests in virtual time.
//!
//! A plan must be told what answers are like. `--like RESULTS` takes that from the results of an
//! earlier run, and from the errors file beside them: how long attempts took, how many tokens
//! answers have, and which share of attempts failed. Refusals for the speed are no failures, since
//! the plan has limits of its own. For rows that are also in INPUT, the provider has counted the
//! tokens of their prompts; the estimates for the other rows are corrected by that. A run over the
//! first hundred rows is enough.
//!
//! Results of other tools do not say how long an answer took. `--latency DIST` says it, and
//! `--output-tokens DIST` says how long answers are. Both win over `--like`. What nobody says is
//! assumed, and the plan says so: a latency of `2.5s~0.8`, and answers of 500 tokens, or fewer
//! where a request sets a lower limit.
//!
//! | DIST | Means |
//! |---|---|
//! | `2s`, `300` | always the same |
//! | `1s-4s`, `50-800` | anything from one to the other, evenly |
//! | `2s~0.5`, `300~0.5` | a mean, and the standard deviation ÷ mean; log-normal |
//! | `p50=2s,p99=10s`, `p50=200,p95=900` | quantiles, two or more; log-normal between them |
//!
//! The time and the cost are medians: half of all runs stay below them. Beside them stand the
//! values that 5 % and 95 % of runs stay below. The table says how long the run would take with
//! other concurrencies. Above 1,000,000 requests, the median time is that of a run over all of
//! them; the 5 and 95 % and the table come from runs over some of them, and the plan says so. Above
//! 10,000,000 everything does. If more than 100,000 may be in flight, a run is one of several equal
//! parts of the whole, each with its part of the limits. A plan leaves out limits that only the
//! provider knows, outages, the second attempts of `--hedge`, and the speed of this machine.
//!
//! `--json` prints one object. Its keys: `requests`; `duration_s` and, with a price, `cost_usd`
//! (else null), each with `p5`, `p50` and `p95`; `prompt_tokens`, `completion_tokens`; `binding`,
//! the limit that holds the run back longest ([`Binding`](crate::Binding) has their names), and
//! `limits`, for which `share` of the time each does, by `name`; `concurrency_needed`, the requests
//! that the given rates keep in flight (rate × latency, by Little's law; null without a rate);
//! `by_concurrency`, a list of `concurrency` and `duration_s`. A warning on standard error
//! says what is assumed.
//!
//! `tollgate run ... --dry-run` does both, with exactly the flags of the run: it says what `check`
//! says of the input, and what `plan` says of the rows that are left to send. If the output has
//! answers already, the plan takes what to expect from them; with `--simulate=SPEC`, it takes the
//! latency, the errors and the limits of SPEC, those on the tokens of prompts and answers apart
//! (`input-tpm`, `output-tpm`) as a provider announces them. It leaves out `load`, `cut`, `places`,
//! `overload` and `strays`, and says so. It writes nothing, and its exit code is that of `check`,
//! or 4 if standard output cannot be written.
//!
//! # Several processes
//!
//! `tollgate plan ... --processes N` plans N processes that share the limits of the command line,
//! each with its own `-c`. Time, cost, `concurrency_needed` and the requests in flight are those of
//! all processes together. The concurrencies in the table are those of each process. The run begins
//! without a burst, as a shared limit does.
//!
//! A *store* keeps the limits, and a process takes *leases* of them from it ([sharing a
//! limit](super::sharing_a_limit)). `--store-rtt T` is how long the store takes to answer: 1 ms by
//! default, and 1 s at most, as a store that takes longer counts as gone. The plan then also says
//! three things.
//!
//! **How many processes the rates need.** By Little's law (J. D. C. Little, "A Proof for the
//! Queuing Formula: L = λW", Operations Research 9 (3), 1961), the mean number of requests in
//! flight is the number that begin in a second, times the mean of the seconds that each takes. The
//! law holds for every distribution of latencies. Here each attempt counts as a request.
//! At a rate of λ and a latency of W, `λ·W` are in flight on average. It is nearly always less than
//! `λ·W + 2·√(λ·W)`, as the arrivals are no more uneven than a Poisson process. The number of
//! processes is that, divided by `-c`.
//!
//! **What the leases cost.** A process leases its part of the limits from the store, and asks for
//! the next a little before the lease is used up. All leases together are worth
//!
//! ```text
//! lease = max(100 ms, 2 × round trip), 1 s at most
//! ```
//!
//! of the limits, and each of N processes that want some has `lease ÷ N` of it: of 1,000 requests a
//! second, one of 8 processes gets `⌊1,000 × 0.1 s ÷ 8⌋` = 12 requests. It gets whole units, one at
//! least, and no more than it sends in that time. So with u requests in a lease:
//!
//! | | Is | With 8 processes, 1,000 a second, 1 ms |
//! |---|---|---|
//! | round trips a second | rate ÷ u | 83 |
//! | round trips a request | 1 ÷ u | 0.083 |
//! | share of its time that a process waits for the store, at most | round trips a second × round trip ÷ N | 1 % |
//!
//! Up to a round trip of half a second, the wait delays requests and does not lower the rate: the
//! leases together are worth twice the round trip, and each process gets one in a round trip.
//!
//! **Which limit comes next.** A list says at how many requests a second each limit holds the run
//! back, the lowest first. The first one binds. If you raise it, the second one binds. The limit of
//! the ports counts only if all processes are on one host.
//!
//! | Limit | Holds at | By |
//! |---|---|---|
//! | `requests` | `--rps` or `--rpm` | the command line |
//! | `tokens` | `--tpm` ÷ mean tokens of a request | the command line |
//! | `in_flight` | N × `-c` ÷ latency | Little's law, as for all that follow |
//! | `threads` | N × 16,000 ÷ latency | Linux gives a process 65,530 mappings, and a thread takes four |
//! | `memory` | N × 14,507 ÷ latency | 1 GiB for each process: 4 MiB, and 72 KiB for a request in flight |
//! | `ports` | 28,232 ÷ latency | the ports that Linux gives to connections of one host to one address, if all processes are on it |
//! | `store` | 1 s ÷ (80 µs + N × 1.4 µs), only if N ÷ lease is more | the processor time of a Redis server for a lease: it looks at all processes |
//!
//! The memory of a request in flight is what was [measured](super::threads_or_async):
//!
//! - 44 KiB, as `for_each` grows from 48 to 176 MiB between 1,000 and 4,000 in flight;
//! - 12 KiB for TLS, as it takes 12 MiB more at 1,000;
//! - 16 KiB for the thread's stack in the kernel.
//!
//! `--ordered`, long answers and large ids take memory beside it.
//!
//! A lease took 75 µs of a core of Redis 7.0.15 with 9 processes, 220 µs with 101 and 858 µs with
//! 637.
//!
//! `--json` has these keys beside the nine, and only with `--processes`: `processes`;
//! `processes_needed` (null without a rate); `hosts_needed`, so that the ports suffice; `leases`
//! (null without a rate), with `length_s`, `requests` (of one lease), `round_trips_per_s`,
//! `round_trips_per_request` and `waiting_share`; `ceilings`, a list of `name` and
//! `requests_per_s`.
