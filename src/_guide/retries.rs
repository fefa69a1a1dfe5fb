//! Retries: what each failure means, how long the wait is, and when a run stops.
//!
//! An *item* is one request of a run, or one input of a pool. Each time it is sent is an *attempt*.
//! A failed attempt gets a [`Verdict`], which says what to do. A [`Client`](crate::Client) takes it
//! from the tables below, and a [`Pool`](crate::Pool) asks a closure of yours. The [`Retry`] policy
//! then says whether there is another attempt, and when.
//!
//! The wait between two attempts is called *backoff*. While an item waits, it has no thread and is
//! not in flight. Its next attempt passes the [limiter](crate::_guide::limits) like its first.
//!
//! # Answers
//!
//! *Everyone waits* means that the limiter is paused, and all that use it wait: as long as the
//! server asks, or else 0.25 s at first, and longer if that is not enough. A 429 or an overload
//! among many other answers makes only its own item wait: see
//! [limits](super::limits#limits-that-refusals-tell).
//!
//! | Answer | [`ErrorKind`](crate::ErrorKind) | What is done |
//! |---|---|---|
//! | 2xx with what the endpoint promises, see below | | none: it is the [`Reply`](crate::Reply) |
//! | 2xx that is empty, cut short, or no JSON (a web page) | `Malformed` | tried again, at most twice: it may have been billed |
//! | 2xx that is an *answer in all but form*: the whole answer, but with `NaN` in it, a comma too many, in a string, or with something before or behind it | `Protocol` | tried again once at most: it was billed |
//! | 2xx that is a stream of events | `Invalid` | the item fails: streams are not read |
//! | 2xx with an error | as the status that it names, else `Server` | as for that status |
//! | 2xx with JSON that is neither an answer nor an error | as its words say (a limit, an overload, money, the key, the size, a content filter), else `Malformed` | as for that kind |
//! | 2xx with blank lines or comments and nothing behind them | `Overloaded` | as for 529 without a wait |
//! | 3xx | `Redirect` | the run stops: a redirect could take the key elsewhere |
//! | 401, and 400 that refuses the key (Gemini, `LiteLLM`) | `Auth` | the run stops |
//! | 402, and codes such as `insufficient_quota` under any status | `Quota` | the run stops |
//! | 4xx that speaks of balance, credits, billing, a budget, a spending or usage limit, and tells no wait; 5xx that says they are used up | `Quota` | as for its status; three items in a row with no success between stop the run (fewer, if fewer are left) |
//! | 402 with `retry-after` | `RateLimited` | everyone waits |
//! | 403, 404 | `Permission`, `NotFound` | the item fails; many alike in a row stop the run, see below |
//! | 407 | `Config` | the run stops: the proxy wants credentials |
//! | 408, 409, 425 | `Server` | backoff; if the server says how long to wait, the item alone waits as long |
//! | 413, and 429 if the request alone is above the limit | `TooLarge` | the item fails |
//! | 429 that says how long to wait | `RateLimited` | everyone waits |
//! | 429 that does not | `RateLimited` | everyone waits; the attempt [does not count](#which-attempts-count) |
//! | 429 `No deployments available` (`LiteLLM`) without such a header | `RateLimited` | as the row above |
//! | 429 if the key has no quota for the model at all | `Quota` | the run stops |
//! | any 4xx that names a content filter | `ContentFilter` | the item fails |
//! | 400 for a slip of the model (Groq's `json_validate_failed`) | `Malformed` | tried again, at most twice |
//! | any other 4xx | `Invalid` | the item fails |
//! | 501 | `NotFound` | the item fails |
//! | 529, and 5xx that says the server is overloaded or loads its model | `Overloaded` | as for 429 |
//! | 5xx with the code `model_not_found` | `Server` | the item fails; ten alike in a row before any success stop the run |
//! | any other 5xx | `Server` | backoff, from 0.5 s; everyone waits if the server says how long |
//! | a status that HTTP does not have | `Protocol` | the item fails |
//!
//! The header `x-should-retry` comes before the table. `false` makes the item fail where it would
//! be tried again. With `true` it is tried again where it would fail, unless the request is too
//! large. What stops the run stops it all the same.
//!
//! What a 2xx must have depends on the end of the path:
//!
//! | Path | An answer has | An error is |
//! |---|---|---|
//! | `…/completions` | `choices`, not empty | an `error` that says something, also that of a choice, or a choice whose `finish_reason` says that the server broke off (`error`) |
//! | `…/embeddings` | `data`, not empty (`embedding`, of Ollama) | an `error` that says something |
//! | `…/messages` | `content`, a list; an empty one needs a `stop_reason` | an `error` that says something |
//! | `…/responses` | `output`, not empty unless the `status` says that it is not completed | an `error` that says something, or the `status` `failed` |
//! | any other | an object or an array | an `error` that says something, without `choices` |
//!
//! An `error` says nothing if it is null, empty, or holds nothing but such. A byte-order mark, and
//! comments in the style of server-sent events, are taken away if they stand before the JSON.
//!
//! # No answer
//!
//! | What broke | [`ErrorKind`](crate::ErrorKind) | What is done |
//! |---|---|---|
//! | anything before a byte was sent: no address, refused, no route | `Unreachable` | tried again when the server is back, see below |
//! | a proxy refuses `CONNECT` for good: 407 or 401 (it wants a password, or another one), 403, and any other 4xx but those of the next row, 501, 511 | `Unreachable` | the run stops: another try would be another login, or hopeless |
//! | a proxy refuses `CONNECT` with any other status: 404, 408, 425, 429, 502, ... | `Unreachable` | tried again when the server is back, see below |
//! | the connection, after something was sent | `Network`, `Truncated` | backoff |
//! | the time of the attempt ended | `Timeout` | backoff |
//! | the certificate, or a server or an `https://` proxy that speaks no TLS, or none that is safe | `Tls` | the run stops |
//! | the answer is not valid HTTP | `Protocol` | tried again, at most twice |
//! | the request has a path or a header that cannot be sent | `Invalid` | the item fails |
//! | a 2xx compressed unasked, other than with gzip or deflate | `Protocol` | tried again once at most: it was billed |
//! | the answer is larger than the client accepts | `BodyTooLarge` | the item fails |
//!
//! A request whose answer was lost on the way, or by a gateway (502, 504, 520 to 524), may have
//! been billed. [`Error::possibly_billed`](crate::Error::possibly_billed) says so for an error. An
//! answer that came and is of no use is not lost.
//! [`Progress::possibly_billed`](crate::Progress::possibly_billed) counts the items that were sent
//! again after that, each once.
//!
//! # How long the wait is
//!
//! If the server says how long to wait, that is obeyed. These are read, and the first that is there
//! counts:
//!
//! 1. the header `retry-after-ms`;
//! 2. the header `retry-after`: seconds, a duration such as `2s`, or an HTTP date (RFC 9110,
//!    10.2.3);
//! 3. the same two with the prefix `llm_provider-`, by which a `LiteLLM` proxy passes on what it
//!    was told;
//! 4. a wait named in the body, in words or in a field such as `retry_after` or `estimated_time`;
//! 5. for a 429, the reset header of a limit of which nothing remains, or
//!    `x-ratelimit-reset-after`.
//!
//! If a header stands there more than once, or holds a list, the longest wait that can be read
//! counts.
//!
//! *Jitter* is a random part of a wait, so that not all come back at once. To a wait that the
//! server asked of one item it only adds: up to a tenth, 5 s at most. When everyone waits it is not
//! needed, because the limiter lets them go one after the other.
//!
//! After a wait for everyone, what the server refused once goes before anything new, the oldest
//! first. An item that was refused again waits until others have succeeded, so that it does not use
//! up its attempts: see [limits](crate::_guide::limits#limits-that-refusals-tell).
//!
//! If the server says nothing, the wait is drawn evenly between 0 and 0.5 s. The upper bound
//! doubles with each attempt, up to 60 s ("full jitter", Brooker, AWS Architecture Blog, 2015).
//! After a 429 or an overload that makes only its own item wait, it begins with 1 s.
//!
//! A success can pause the limiter, too: if its headers say that nothing remains of a window that
//! is longer than a minute, the next request would be refused. A shorter window may be one that
//! slides, whose reset is when all of it is free again. There requests go on at the announced rate,
//! and the first that is refused pauses the limiter for as long as the refusal says.
//!
//! # Which attempts count
//!
//! [`max_attempts`](crate::Retry::max_attempts) counts the first attempt. Not counted are:
//!
//! - attempts after which the server asked for a wait. An item obeys 50 of these
//!   ([`max_waits`](crate::Retry::max_waits)), and then fails;
//! - attempts that were refused without a word of how long to wait (429, overload). An item never
//!   fails for these;
//! - attempts in which nothing was sent;
//! - attempts that fail in an outage, see below.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use std::time::Duration;
//! use tollgate::{Pool, Retry, Verdict};
//!
//! let calls = AtomicU32::new(0);
//! let quick = Retry::new().max_attempts(2).initial_backoff(Duration::ZERO);
//! let results = Pool::new(1)?.with_retry(quick).try_map(
//!     &["the only item"],
//!     |_| match calls.fetch_add(1, Ordering::Relaxed) {
//!         0..3 => Err("busy"),
//!         3 => Err("broken"),
//!         _ => Ok(()),
//!     },
//!     |error| match *error {
//!         "busy" => Verdict::PauseAll(Duration::from_millis(1)), // asked for: not counted
//!         _ => Verdict::Retry,
//!     },
//! );
//! assert!(results[0].is_ok());
//! assert_eq!(calls.into_inner(), 5, "three waits, and two attempts that count");
//! # Ok::<(), tollgate::Error>(())
//! ```
//!
//! # When the server is down
//!
//! If nothing were done about it, each item in turn would use up its attempts while the server is
//! down for all. Instead the run has a *breaker*. It opens
//!
//! - at the first attempt in which nothing could be sent, or
//! - when at least ten different items in a row have failed for a reason that may pass, or were
//!   refused without a word of how long to wait, and that has gone on for two seconds or for a
//!   hundred items.
//!
//! If fewer than ten items are left, it opens when all of them have failed so. If only one is left,
//! it opens only when that one was refused: a failure may be the fault of the item. When for a
//! minute nothing has come but such refusals, it opens, however few items were refused.
//!
//! While it is open, the run is in an *outage* ([`Hold`](crate::Hold)). One request at a time is
//! sent as a *probe*, after 1 s, 2 s, 4 s, and so on up to every 60 s. Everything else waits.
//! Probes, and attempts that were on their way when it opened, do not count for their items. But an
//! item fails when more than `max_waits` of these have reached the server in vain. If ten
//! or more items fail at the same time, each keeps its last attempt until the two seconds are over.
//! So no item runs out of attempts before an outage can be told.
//!
//! The breaker closes at a success, and at any other answer that shows the server at work, such as
//! the refusal of one item.
//!
//! A run that has never had an answer gives up when the breaker has been open for two minutes. One
//! whose answers were all failures or refusals gives up after ten minutes. A run that has seen the
//! server work waits as long as it takes. If fewer than ten items are left, and they fail rather
//! than are refused, it holds them for two minutes at most. From then on their attempts count. At a
//! deadline every outage ends, and a last probe goes a second before it.
//!
//! # When everything fails alike
//!
//! A wrong model or base URL fails every item in the same way. So a run stops when twenty failed
//! answers in a row are alike (ten for 403 and 404), if nothing has succeeded since it began. Alike
//! are answers of the same kind, status, code and message, numbers aside; each attempt is an
//! answer. Once something has succeeded, it takes a hundred in a row with no success between, and
//! at least four times as many as are in flight. [`stop_alike`](crate::Retry::stop_alike) changes
//! the number, or switches it off.
//!
//! In a run over a file the rows that failed in this way are tried again when it is run again,
//! after all other rows: what made them fail may be put right. Their records have the mark `again`.
//! At most 1,024 of them are put off in this way; any others are sent in their turn. Only a row
//! with an answer in all but form stays failed, as it was paid for.
//!
//! These are not counted: refusals by a server that is asked too fast or overloaded, failures of
//! the server or the network, and refusals for the length or the content of one request.
//!
//! # When a run stops
//!
//! - At an answer for which the tables say so.
//! - When the server asks for a longer wait than
//!   [`max_server_delay`](crate::Retry::max_server_delay), 10 minutes unless it is set.
//! - When it gives up on a server that is down.
//! - When everything fails alike.
//! - At its [deadline](crate::Client::with_deadline), or when its [`Cancel`](crate::Cancel) is
//!   raised.
//!
//! Requests in flight are finished. Items that were not sent are errors of the kind
//! [`Cancelled`](crate::ErrorKind::Cancelled) or [`Deadline`](crate::ErrorKind::Deadline). A run
//! over a file writes no record for them, and sends them when it is run again.
//!
//! [`Retry`]: crate::Retry
//! [`Verdict`]: crate::Verdict
