//! Architecture: one request from the crate's front page to the wire and back, file by file.
//!
//! Read the files in this order and nothing on the way is a surprise. The call is
//! [`Client::chat_all`](crate::Client::chat_all); every other way in differs at its two ends only.
//!
//! # There
//!
//! 1. `lib.rs` has no logic: it names what is public, and where that is.
//! 2. `api/client.rs`, `chat_all`: pairs the prompts with a job (`api/job.rs`, `ApiJob`) that makes a
//!    [`Request`](crate::Request) (`api/request.rs`) of a prompt when its turn has come. The client
//!    itself is a [`Pool`](crate::Pool) with a base URL, headers and a transport, put together and
//!    checked in `api/builder.rs`.
//! 3. `pool/run.rs`, `collect`: puts a run together. Its input is a queue (`pool/input.rs`), its
//!    output a slot for each index (`pool/outcomes.rs`), its heart a `Schedule`. The calling thread
//!    becomes its first worker.
//! 4. `pool/worker.rs`, `work`: the loop, the only one there is. Under the run's one lock, `step`
//!    settles what this thread has finished and asks what comes next.
//! 5. `pool/schedule.rs`, `next`: a retry that is due, else the next of the input, unless the
//!    breaker (`retry/breaker.rs`) holds everything back. Pure: no thread, no lock, no clock.
//! 6. `pool/worker.rs`, `admit`: the cost of the item, estimated once (`api/cost.rs`), goes to the
//!    gate.
//! 7. `limit/limiter.rs`, `acquire_until`, and `limit/queue.rs`: the lock and the queue of tickets.
//!    `limit/state.rs` decides over requests, tokens, concurrency and the pause together, and
//!    `limit/bucket.rs` is the arithmetic of one bucket. `limit/NOTES.md` has the proofs. A thread
//!    that must wait parks on a `Parker` (`clock.rs`).
//! 8. `pool/worker.rs`, `pass_on`: with its permit the thread passes leadership (`pool/leader.rs`) on, to
//!    an idle thread or a new one, which waits for the next permit. Then it makes the attempt itself
//!    (`pool/attempt.rs`): the thread that was admitted is the thread that sends.
//! 9. `api/endpoint.rs`, `attempt`: joins path and base URL (`api/path.rs`), works out the attempt's
//!    deadline, and hands a [`HttpRequest`](crate::HttpRequest) to the transport. All of the API layer meets in
//!    this file.
//! 10. `api/transport/http.rs`, `send` (`config.rs` has what can be set): a connection that waits in
//!     `idle.rs`, or one made by `connect.rs`, through whom `proxy.rs` and `tunnel.rs` say and whereto
//!     `resolver.rs`. `request.rs` sends and `answer.rs` receives, both on ureq-proto, which is shown
//!     of a head (`head.rs`) only what framing is made of. A connection is a `link.rs`: `tls/` seals
//!     and opens on rustls (`deep.rs` has the stacks for the steps of handshakes), `tcp.rs` moves the
//!     bytes, with buffers borrowed for as long as they move (`buffers.rs`), until the deadline
//!     (`stream.rs`), on a socket that an abort can find (`sockets.rs`).
//!
//! # And back
//!
//! 1. `api/transport/http.rs`: an [`HttpResponse`](crate::HttpResponse) of any status, or a
//!    [`TransportError`](crate::TransportError) that says how far the exchange had got
//!    (`exchange.rs` has kept note of it, `fault.rs` puts it into words).
//! 2. `api/classify`: what that amounts to, by a table. Answers are in `rules.rs`, broken requests
//!    in `transport_error.rs`. The pieces are read by `api/usage.rs` (is it an answer, and what did it cost),
//!    `api/error_body.rs` (the error's body) and `api/rate_limit_headers.rs` (the waits that servers ask for).
//! 3. `api/endpoint.rs`: a [`Reply`](crate::Reply) (`api/reply.rs`) and the tokens it used, or an
//!    [`Error`](crate::Error) and a [`Verdict`](crate::Verdict).
//! 4. `pool/attempt.rs`, `finish_attempt`: a wait that was asked for pauses the gate; then the permit is
//!    settled and dropped, before anybody sees the result.
//! 5. A success is delivered. A failure goes to `retry/decide.rs`, which knows the policy
//!    (`retry/policy.rs`) and the item's history: again at such an instant, then the item lies in
//!    the schedule's heap and holds no thread; given up; or the end of the run.
//! 6. `pool/outcomes.rs`: the slot of its index. The loop begins anew with step 4 of the way there,
//!    and the thread tries the gate itself first.
//! 7. When nothing is left, the last worker wakes the idle ones; all of them end, `collect`
//!    returns, and `chat_all` makes a `Vec` of the slots.
//!
//! # Other ways in
//!
//! A lazy input is pulled by a feeder thread into a bounded queue (`InputQueue` in `pool/input.rs`),
//! and outcomes come through a bounded channel (`pool/outcomes.rs`). [`Pool`](crate::Pool) and
//! [`Task`](crate::Task) are in `pool/closures.rs`: a job made of closures. Outcomes in order go through
//! `pool/order.rs`. What an [`Observer`](crate::Observer) is told is in
//! `pool/events.rs`, and what a [`Monitor`](crate::Monitor) counts in `pool/monitor.rs`. Who leads, who
//! follows and who is woken is decided in `pool/leader.rs` and `pool/worker.rs`, the hardest files of the
//! engine.
//!
//! A file is a layer above the client, `jsonl`. `files.rs` says which files a run has, `journal`
//! opens the output and reads back what is done, and `scan.rs` looks for ids that stand in two lines
//! (with `parallel.rs`, on all cores, as `check/` does). Then each line goes through `lines.rs`
//! (bytes), `format.rs` (a request, its body untouched) and `rows.rs` (a job) into the same engine,
//! and comes back through `record.rs` (a line) and `writer.rs` to `journal` (one write for all that
//! is ready). `run.rs` is that, in order. The calling thread is the writer, and a thread of the engine
//! waits until its outcome is written (`AckGuard` in `pool/outcomes.rs`), so a kill costs at most
//! what was in flight.
//!
//! In `journal`, `records.rs` reads what the lines of a file say, `recover.rs` makes of it what a run
//! carries on with (`resume_index.rs`), and `compact.rs` brings the files to what they are to be at
//! the end.
//!
//! # Layers
//!
//! Imports point down only, and `tests/layering.rs` keeps it so.
//!
//! | Layer | Modules | Knows |
//! |---|---|---|
//! | tool | `main`, `cli` | arguments, terminals, signals, exit codes |
//! | files | `jsonl` | lines, ids, what is done |
//! | AI APIs | `api`, `sim` | HTTP, JSON, keys, model tokens |
//! | engine | `pool` | any blocking job; not what it does |
//! | policies | `limit`, `retry` | when, and whether again; no threads of their own |
//! | vocabulary | `sync`, `clock`, `error`, `cancel`, `escape` | locks, time, failure, the word to stop |
//!
//! `sync.rs` is the only file that names `parking_lot`, and `api/transport` the only folder that
//! names ureq-proto. `sim` has its own accounting and never uses the gate's, so that it can catch the
//! gate cheating.
//!
//! Whatever is hard is a pure core in a thin shell of threads: bucket and limiter, schedule and
//! worker, decider and worker, table and client, model and server.
//!
//! # Where new things go
//!
//! | A new | goes into | and needs |
//! |---|---|---|
//! | status or error code | `api/classify/rules.rs`, `api/error_body.rs` | a row in the tests of the table, and in [retries](super::retries) |
//! | header that announces a limit | `api/rate_limit_headers.rs` | its three names, and what its reset means |
//! | provider | `api/provider.rs` | how the key travels, and its variables |
//! | dimension to limit | `limit/state.rs` | a bucket beside the others |
//! | reason to stop or to wait | `retry/verdict.rs`, `retry/decide.rs` | a verdict that says nothing of HTTP |
//! | way in | `pool/run.rs` | a feed and a sink; the loop stays as it is |
//! | line format | `jsonl/format.rs`, `jsonl/record.rs` | to be told from the others line by line |
//! | flag of the tool | `cli/args.rs` | its sentence of help, which is the manual |
