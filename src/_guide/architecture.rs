//! Architecture: one request from the crate's front page to the wire and back, file by file.
//!
//! Read the files in this order. The call is [`Client::chat_all`](crate::Client::chat_all); every
//! other way in differs at its two ends only.
//!
//! # A chat, from `chat_all` to the wire and back: eleven files
//!
//! 1. `api/client.rs`, `chat_all`: pairs the prompts with a job and gives both to the engine.
//! 2. `pool/run.rs`, `collect`: puts a run together. The input is a queue that holds the slice, the
//!    output a slot for each index. The calling thread becomes the first worker.
//! 3. `pool/worker.rs`, `work`: the loop, the only one there is. `step` settles what this thread
//!    has finished and asks for the next item, under the run's one lock. `admit` waits for a
//!    permit. Then `pass_on` hands leadership to an idle thread, or starts one: the thread that has
//!    the permit sends the request itself.
//! 4. `pool/schedule.rs`, `next`: first what the server refused, then a retry that is due, then the
//!    next item of the input. If there is a warm-up (`warmup.rs`), the first items must have ended
//!    before others begin. It knows no thread and no clock, and no lock but that of the queue.
//! 5. `limit/limiter.rs`: `try_acquire` gives a permit if one is free. Else `acquire_until` waits,
//!    in the order of arrival, until requests, model tokens and concurrency all allow the request.
//! 6. `pool/attempt.rs`, `run_attempt`: runs the job with the permit in hand.
//! 7. `api/job.rs`, `attempt`: makes the [`Request`](crate::Request) of the prompt, now that its
//!    turn has come.
//! 8. `api/endpoint.rs`, `attempt`: its first half, `send`, joins the base URL and the path, adds
//!    headers and a deadline, and hands an [`HttpRequest`](crate::HttpRequest) to the transport.
//!    Its second half, `read`, begins when that returns, with 11.
//! 9. `api/transport/http_transport.rs`, `send`: chooses the proxy and the agent, and ureq carries
//!    the request. A failure says how far the request got.
//! 10. `api/transport/tcp.rs`: moves the bytes, with buffers that it borrows for as long as they
//!     move. Here the thread waits for the answer.
//! 11. `api/classify/mod.rs`, called by `read`: says what the answer is, by a table. A success is a
//!     [`Reply`](crate::Reply); a failure is an [`Error`](crate::Error) and a
//!     [`Verdict`](crate::Verdict). `attempt.rs` then settles and drops the permit, before anybody
//!     sees the result, and asks `schedule.rs` whether a failure is tried again.
//!
//! Back in `pool/run.rs`, `collect` puts the result into the slot of its index. When nothing is
//! left, all threads end, and `chat_all` makes a `Vec` of the slots.
//!
//! # What the walk leaves out
//!
//! - **The client**: `builder.rs` checks the settings and makes the parts. `request.rs` and
//!   `reply.rs` are what goes through; `embed.rs` is embeddings; `cost.rs` counts the model tokens
//!   of a request, and `estimate.rs` corrects this count by what answers used. `key.rs` keeps
//!   secrets out of all that is shown, and `path.rs` joins a base URL and a path. `attempt_log.rs`
//!   writes a line of the log for each attempt.
//! - **The engine**: `settings.rs` is what a run is told. `input.rs` is the queue, and the thread
//!   that fills it from a lazy input. `item.rs` is what goes through a run. `leader.rs` is what the
//!   threads share; read it before you change `worker.rs`. `hedge.rs` decides when an item gets a
//!   second attempt beside the first and which of them counts, and `race.rs` carries it out.
//!   `order.rs` puts outcomes in order. `monitor.rs` counts, and `track.rs` adds up what holds the
//!   run back. `events.rs` tells observers, and `closures.rs` is [`Pool`](crate::Pool) and
//!   [`Task`](crate::Task). `job.rs` is the seam to what the engine is used for.
//! - **The limiter**: `queue.rs` is the lock and the tickets, `state.rs` decides over all limits
//!   together, `bucket.rs` is the arithmetic of one. `followed.rs` has the limits that answers
//!   announce, `announced.rs` what one answer says, and `window.rs` finds the time for which a
//!   limit counts. `pace.rs` learns a rate from refusals, with `recent.rs` and `learned_rate.rs`, and
//!   `places.rs`, with `known_places.rs`, learns from them how many requests the server takes at
//!   once. `concurrency.rs` is a number or a range, and `adaptive.rs` finds the number in the
//!   range. `slow_start.rs` is the end of a pause if there is no rate, and `learned.rs` what the
//!   limiter tells of all that it has learned. `rate.rs` and `permit.rs` are what a user holds, and
//!   `nested.rs` knows which permits a thread holds already. `set_rates.rs` has the rates that are
//!   set: buckets, or what is leased of a shared limit. `sharing.rs` decides when a process asks
//!   the store, and for what; `credit.rs`, `leased.rs` and `used.rs` are its parts. `keeper.rs` is
//!   the thread that asks. `limit/NOTES.md` has the proofs.
//! - **A shared limit**: `shared/exchange.rs` is what a process asks a store, and what the store
//!   answers. `ledger.rs` is the account that a store keeps, and is pure: a limit is a time axis,
//!   and a lease is a part of it that no other process gets. `file.rs` keeps the account in a file,
//!   with `record.rs` for its bytes. `redis.rs` asks a server, where `redis.lua` does what
//!   `ledger.rs` does, number for number. `home.rs` reads the URL that names a store, and
//!   `status.rs` is what a user is told of it.
//! - **Retries**: `decide.rs` knows the policy (`policy.rs`) and an item's history. `breaker.rs`
//!   holds everything back while nothing can be sent, and `alike.rs` counts failures that are
//!   alike.
//! - **The transport**: `connector.rs` makes connections: an address (`resolver.rs`), TCP, a tunnel
//!   through a proxy (`proxy.rs` chooses it, `login.rs` tries its password once), TLS (`tls/`).
//!   `connection.rs` is what ureq sees of one. `context.rs` is what all of them know of the call:
//!   its deadline, and how far it got. `request.rs` writes the head, `head.rs` passes over interim
//!   answers, `response.rs` reads the body, and `decode.rs` decompresses it.
//!   `buffers.rs` lends the buffers, `abort.rs` finds the sockets that an abort shuts down, and
//!   `error.rs` says how a call failed. `memory.rs` is a transport for tests, which answers from a
//!   closure.
//! - **Answers**: `headers.rs` keeps the headers in little memory. `json.rs` reads JSON in one
//!   pass, without a tree. `content.rs` (the text), `usage.rs` (model tokens) and `cost.rs` use it.
//!   `classify/answer.rs` says whether a 2xx is what its endpoint promises,
//!   `classify/transport_error.rs` judges a request without an answer, and `classify/record.rs` a
//!   record in a file. `error_body.rs` reads the body of a failure, `error_meaning.rs` says what
//!   its codes and words mean, and `likeness.rs` says what many failures have in common.
//!   `rate_limit_headers.rs` and `body_waits.rs` read the waits that servers ask for, and
//!   `limit_headers.rs` the limits that they announce, with the formats of `times.rs`.
//!   `announced_limit.rs` reads the limit that a refusal names. `money.rs` counts what answers
//!   cost.
//!
//! # A line, from file to file: thirteen files
//!
//! 1. `jsonl/run.rs`: opens the files and starts the run. The calling thread is the writer: it gets
//!    the outcomes from `for_each` in `pool/run.rs`.
//! 2. `jsonl/scan.rs`: reads the input once before anything is sent, on all cores (`parallel.rs`),
//!    for ids that are in two lines, rows that have changed, and rows that are done. A stream can
//!    be read only once, so 5 does this for it as the rows come.
//! 3. `jsonl/lines.rs`: cuts the input into lines, in bounded memory. `array.rs` has made lines of
//!    a JSON array, and `judge.rs` has refused an input that seems to hold no requests.
//! 4. `jsonl/format.rs`: reads a line as a request, its body untouched. `flaw.rs` finds what is
//!    JSON and would still be refused.
//! 5. `jsonl/rows.rs`: skips what is done and hands each row to the engine.
//! 6. `api/job.rs`: the engine's job for a row.
//! 7. `pool/worker.rs`: takes it through limiter, attempts and backoff, as above.
//! 8. `api/endpoint.rs`: sends an attempt and reads the answer.
//! 9. `pool/outcomes.rs`: brings the outcome to the writer. The thread waits until it is written
//!    (`AckGuard`), so a kill costs at most what was in flight.
//! 10. `jsonl/writer.rs`: makes a record of the outcome and decides when to write.
//! 11. `jsonl/record.rs`: writes the record as one line of bytes.
//! 12. `jsonl/journal/mod.rs`: chooses the output or the errors file.
//! 13. `jsonl/journal/record_file.rs`: appends all records that are ready in one write, and flushes
//!     them to the disk.
//!
//! Left out are these: `files.rs` says which files a run has, and `sidecars.rs` which it makes
//! beside them. `io.rs` replaces a file as a whole. `tally.rs` counts, `summary.rs` is what a run
//! says of itself, and `failures.rs` groups why rows failed. `ids.rs` keeps ids by their hashes and
//! gives ids to rows that have none, `hash.rs` tells whether a row has changed, and `check/` is
//! `tollgate check`. `table.rs` reads the header of a table and its rows, and `rows/format.rs`
//! makes requests of these: `rows/table.rs` reads CSV, `rows/row.rs` is a row, `rows/template.rs`
//! is the user's template, and `rows/render.rs` makes the body. `rows/absent.rs` stands for all of
//! them without the feature `rows`. For a table of answers, `table.rs` reads the user's own cells
//! again, `answers.rs` finds the records of the rows and `answer.rs` what they say,
//! `answer_table.rs` puts all together, and `rows/cells.rs` writes the cells. `merge.rs` makes one
//! file of several. `rows/object.rs` reads a JSON object as cells. `shard.rs` says which rows are
//! in the shard of a process. In `journal`, `recover.rs` reads what earlier runs left
//! (`readback.rs` reads a record, and `facts.rs` all that it says, for `report`) and moves damaged
//! lines away; `resume_index.rs` is what a run carries on with. `lock.rs` keeps a second run out,
//! and `compact.rs` brings the files to what they are to be at the end.
//!
//! No walk passes `sim`, `plan`, `bar`, `report` and `cli`: the `mod.rs` of each says which file
//! does what.
//!
//! # Layers
//!
//! Imports point down only, and no files import each other in a circle: `tests/layering.rs` refuses
//! both.
//!
//! | Layer | Modules | Knows |
//! |---|---|---|
//! | tool | `main`, `cli` | arguments, terminals, signals, exit codes |
//! | page | `report` | statistics of records, plots, HTML |
//! | bar | `bar` | progress and the time left, terminals |
//! | plans | `plan` | a run in virtual time, on the pure parts of a real one |
//! | files | `jsonl` | lines, ids, what is done |
//! | tables | `rows` | cells, templates, the request of a row; no files |
//! | AI APIs | `api`, `sim` | HTTP, JSON, keys, model tokens |
//! | engine | `pool` | any blocking job; not what it does |
//! | policies | `limit`, `retry`, `shared` | when, and whether again; of threads, only the one that talks to a store |
//! | vocabulary | `sync`, `clock`, `binding`, `error`, `cancel`, `escape`, `opaque`, `settings`, `classes` | locks, time, where it goes, failure, the word to stop |
//!
//! `sync.rs` is the only file that names `parking_lot`, and `api/transport` the only folder that
//! names ureq and rustls, but for `shared/redis.rs`, which says what the `redis` crate encrypts
//! with. `sim` counts for itself and never uses the limiter, so that it can catch the limiter
//! cheating.
//!
//! Whatever is hard is a pure core in a thin shell of threads: bucket and limiter, ledger and file,
//! schedule and worker, decider and worker, table and client, model and server.
//!
//! # What a change needs
//!
//! `.ci/run` passes. Each new test has been seen to fail, with the code that it guards broken. A
//! change that a user can notice adds a line to the [changelog](super::changelog). On a Linux
//! machine that is otherwise idle, `cargo bench` measures each part on its own, and `cargo run
//! --release --manifest-path benches/peers/Cargo.toml` measures it beside other clients.
//!
//! # Where new things go
//!
//! | A new | goes into | and needs |
//! |---|---|---|
//! | status | `api/classify/rules.rs` | a row above the range that it is in, as the first match counts; one in `api/classify/tests.rs`, and one in [retries](super::retries) |
//! | error code of a provider | `api/error_meaning.rs` | the same two rows, if it is no further name of what is there |
//! | endpoint whose answers are judged | `api/response.rs` | what it promises, in `api/classify/answer.rs`; its row in [retries](super::retries) |
//! | kind of error | `error.rs` | to be transient or not; `record_code` in `api/classify/record.rs`, and `cli/exit.rs` |
//! | header that announces a limit | `api/limit_headers.rs` | the words of its name, in `words`, and in `Limits::read` the name itself if `ratelimit` is no part of it; a form of time that is new, in `api/times.rs`; in `api/rate_limit_headers.rs`, what its reset means when nothing remains; to be logged, in `api/attempt_log.rs`; its row in [limits](super::limits#limits-that-are-learned); for the simulated provider, `sim/manners.rs` and `sim/answer.rs` |
//! | provider | `api/provider.rs` | how the key travels, and its variables; in `api/estimate.rs`, what it counts |
//! | store of a shared limit | `shared/`, beside `file.rs` | a trait, `Store`, with one method; its URL in `shared/home.rs`, and the numbers of `shared/ledger.rs` if it computes them itself |
//! | dimension to limit | `limit/state.rs` | a bucket beside the others |
//! | reason to stop or to wait | `retry/verdict.rs`, `retry/decide.rs` | a verdict that says nothing of HTTP |
//! | way in | `pool/run.rs` | a feed and a sink; the loop stays as it is |
//! | line format | `jsonl/format.rs`, `jsonl/record.rs` | to be told from the others line by line |
//! | setting of a client, of a run over a file | `api/builder.rs`, `jsonl/run.rs` | its default, said in its docs |
//! | command of the tool | `cli/`, a file of its own | a variant of `Command` in `cli/args/mod.rs` and its arguments in `cli/args/commands.rs`, whose docs are its manual; a line of `main` in `cli/mod.rs`; its work in `jsonl/` if it reads files, as `merge` and `check` do |
//! | flag of the tool | `cli/args/` | its sentence of help, which is the manual; a line in `cli/config.rs` for a setting of the client, in `cli/run.rs` for one of the run. An error names the setting, and `cli/console.rs` makes the flag of it |
